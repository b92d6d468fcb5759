"""All properties of a policy, in a table: P1 to P10 of the workloads that a policy is judged by, and what KVM demands.

A check takes what was observed and raises a `PropertyError`; some return how much they have seen. ``about``
says why a check is not about a run; empty: it is. Those of ``SHARES`` are asked of runs that are long enough.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import field, frozen

from pleemu.checks import fairness, locks, repeat, threads, windows, yields
from pleemu.checks.observed import Observed


def always(_: Observed) -> str:
    """The property is one of every policy."""
    return ""


@frozen
class Property:
    """One of them."""

    number: str
    name: str
    what: str  # in few words, for the table
    check: Callable[[Observed], Any] = field(repr=False)
    about: Callable[[Observed], str] = field(default=always, repr=False)


EVERYWHERE = (
    Property("P1", "exclusion", "no lock has two holders", locks.check_mutual_exclusion),
    Property("P2", "window", "the window moves by KVM's rule, in its bounds", windows.check_windows),
    Property("P2", "exits", "PLE at CPL 0 only, beyond the window", windows.check_pause_exits),
    Property("P3", "ideal", "who can act is named at once", yields.check_ideal, yields.is_ideal),
    Property("P4", "user-mode", "nobody preempted in user mode is boosted", yields.check_user_mode,
             yields.passes_over_user_mode),
    Property("P5", "strict-boost", "woken ones only after an IPI, or at the second look", yields.check_strict_boost,
             yields.is_strict_boost),
    Property("P6", "obeyed", "an accepted hint is obeyed", yields.check_obeyed, yields.is_always_obeyed),
    Property("", "own-vm", "boosts stay within the VM", yields.check_own_vm),
    Property("", "only-ready", "only who waits for a pCPU is boosted", yields.check_only_ready),
    Property("", "after-exit", "boosts follow PAUSE exits, each vCPU once a round", yields.check_yields_follow_exits),
    Property("", "spin-flag", "in_spin_loop is released", yields.check_spin_flag),
    Property("", "threads", "one thread a pCPU, where it may run", threads.check_threads),
    Property("P8", "fifo", "ticket and queued locks keep their order", locks.check_fifo),
    Property("P9", "kicks", "every HLT with a later kick ends", threads.check_kicks),
    Property("P10", "repeats", "same seed, same events", repeat.check_repeats),
    Property("P10", "idle", "without PAUSE exits the same events as vanilla", repeat.check_idle_policy),
)  # fmt: skip

SHARES = (
    Property(
        "", "starvation", "a VM that can run does so before long", fairness.check_nobody_starves, fairness.is_bounded
    ),
    Property("P7", "shares", "the neighbour VM keeps its share", fairness.check_shares, fairness.is_fair),
)

PROPERTIES = (*EVERYWHERE, *SHARES)
