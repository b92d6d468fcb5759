"""KVM's answer to a spinning vCPU, year by year, and what has been proposed to cure it: rules over one search.

A generation is the list of rules by which its kernel passes over candidates, in its order, and the few switches in
which its loop, its answer to -ESRCH or its wait queue differ; and the defaults of its modules' parameters.
A cure changes some of these in any generation that has what it changes. What the rules mean is in
`hypervisor/rules.py`; the search itself, which is the same for all, in `hypervisor/on_spin.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from attrs import frozen

from pleemu.errors import ScenarioError

U16_MAX = 2**16 - 1
U32_MAX = 2**32 - 1

Rules = tuple[str, ...]


@frozen(kw_only=True)
class Search:
    """kvm_vcpu_on_spin: whom it passes over, and how it goes round."""

    rules: Rules = ()  # in the order in which they are asked
    relaxed_rules: Rules = ()  # of a second round, if the first boosts nobody; without any there is none
    one_loop: bool = False  # v6.13: one loop; before, two passes, between which -ESRCH can end it
    from_zero: bool = False  # v2.6.39: if vCPU 0 was boosted last, or nobody yet, it begins with vCPU 0
    stores_count: bool = False  # v6.13: keeps how many it has looked at in place of whom it boosted
    esrch: str = "tries"  # what -ESRCH means: `tries`, three end it; `unknown`; `success`, by a bool
    sleeps: bool = False  # v2.6.33: no search, 100 us of sleep
    rcuwait: bool = False  # v5.7: a woken vCPU still is blocking until its thread runs
    pending_irq: bool = False  # v5.13: who has a posted interrupt passes in user mode
    ipi_bool: bool = False  # who has had an IPI since its latest entry passes in user mode
    forced: bool = False  # not of this world: the scheduler runs whom KVM nominates
    strict_boost: str = ""  # `v5.6`, `rfc` or `ideal`
    ipi_aware: str = ""  # `v1`, `v2` or `v3`


@frozen(kw_only=True)
class Generation:
    """A kernel's search, and the defaults of its kvm_intel and kvm_amd."""

    name: str
    kernel: str  # the first that has it, or the one that it was read in
    what: str
    search: Search
    parameters: Mapping[str, Any]
    clamps_first: bool = False  # v4.14: the window is brought below its maximum before it grows, not behind

    def window_ceiling(self, base: int, grow: int, most: int) -> int:
        """Return what the growing window really ends at: the same rule for all, if the maximum is a multiple."""
        return most // grow * grow if self.clamps_first and 1 <= grow < base else most


# Defaults of the parameters, as they came to be. A factor of 0 keeps the window at its base: it is fixed.
_V2_6_33 = {
    "ple_gap": 41, "ple_window": 4096,
    "ple_window_grow": 0, "ple_window_shrink": 0, "ple_window_max": U32_MAX,
    "pause_filter_thresh": 0, "pause_filter_count": 3000,
    "pause_filter_count_grow": 0, "pause_filter_count_shrink": 0, "pause_filter_count_max": U16_MAX,
    "skip_pause": False,
}  # fmt: skip
_V2_6_39 = {**_V2_6_33, "ple_gap": 128}
_V3_18 = {**_V2_6_39, "ple_window_grow": 2, "ple_window_max": 2**30 - 1}  # INT_MAX / 2
_V4_17 = {**_V3_18, "ple_window_max": U32_MAX, "pause_filter_thresh": 128, "pause_filter_count_grow": 2}
_V5_14 = {**_V4_17, "skip_pause": True}

VANILLA = "vanilla"
ALIASES = {"kvm-5.6": VANILLA, "ready-2019": VANILLA}

_GENERATIONS = (
    Generation(
        name="sleep-2009", kernel="v2.6.33", what="no search: the spinner sleeps for 100 us",
        parameters=_V2_6_33,
        search=Search(sleeps=True),
    ),
    Generation(
        name="directed-yield-2011", kernel="v2.6.39", what="directed yield, round robin over who is not halted",
        parameters=_V2_6_39,
        search=Search(rules=("itself", "halted", "in-guest"), esrch="unknown", from_zero=True),
    ),
    Generation(
        name="relax-filter-2012", kernel="v3.7", what="passes over who spins itself, every other time",
        parameters=_V2_6_39,
        search=Search(rules=("itself", "halted", "spins", "in-guest"), esrch="unknown"),
    ),
    Generation(
        name="esrch-2013", kernel="v3.9", what="-ESRCH of yield_to shall end it, but a bool makes success of it",
        parameters=_V2_6_39,
        search=Search(rules=("itself", "halted", "spins", "in-guest"), esrch="success"),
    ),
    Generation(
        name="preempted-2013", kernel="v3.10", what="only who was preempted",
        parameters=_V2_6_39,
        search=Search(rules=("not-preempted", "itself", "halted", "spins", "in-guest"), esrch="success"),
    ),
    Generation(
        name="in-kernel-2017", kernel="v4.14", what="and was at CPL 0 then; the window moves since v3.18",
        parameters=_V3_18, clamps_first=True,
        search=Search(rules=("not-preempted", "itself", "cannot-run", "user-mode", "spins")),
    ),
    Generation(
        name=VANILLA, kernel="v5.6", what="also who was woken and has not run yet (2019): kvm-5.6, ready-2019",
        parameters=_V4_17,
        search=Search(rules=("not-ready", "itself", "no-interrupt", "user-mode", "spins")),
    ),
    Generation(
        name="pending-irq-2021", kernel="v5.14", what="also in user mode if an interrupt is posted; rcuwait",
        parameters=_V5_14,
        search=Search(
            rules=("not-ready", "itself", "no-interrupt", "user-mode", "spins"), rcuwait=True, pending_irq=True
        ),
    ),
    Generation(
        name="kvm-6.13", kernel="v6.13", what="one loop, which keeps its count in place of whom it boosted",
        parameters=_V5_14,
        search=Search(
            rules=("itself", "not-ready", "no-interrupt", "user-mode", "spins"), rcuwait=True, pending_irq=True,
            one_loop=True, stores_count=True,
        ),
    ),
    Generation(
        name="kvm-6.19", kernel="v6.19", what="the same, and keeps whom it boosted",
        parameters=_V5_14,
        search=Search(
            rules=("itself", "not-ready", "no-interrupt", "user-mode", "spins"), rcuwait=True, pending_irq=True,
            one_loop=True,
        ),
    ),
    Generation(
        name="ideal-nominee", kernel="no kernel", what="nominates by ground truth: who can act, and what depends on it",
        parameters=_V4_17,
        search=Search(rules=("not-useful",), one_loop=True),
    ),
    Generation(
        name="ideal", kernel="no kernel", what="the same, and the scheduler obeys: the bound for any policy",
        parameters=_V4_17,
        search=Search(rules=("not-useful",), one_loop=True, forced=True),
    ),
)  # fmt: skip
GENERATIONS = {one.name: one for one in _GENERATIONS}


class Meaningless(ScenarioError):
    """A cure for what a generation does not have."""


def _replaced(search: Search, new: Mapping[str, str]) -> Rules:
    """Return the rules with others in place of some of them, of which there must be one."""
    if not set(new) & set(search.rules):
        wanted = " or ".join(repr(one) for one in new)
        raise Meaningless(f"lacks the rule {wanted} that it changes")
    return tuple(new.get(rule, rule) for rule in search.rules)


def _strict_boost(version: str) -> Callable[[Search], Search]:
    def apply(search: Search) -> Search:
        rules = _replaced(search, {"not-ready": "no-ipi", "not-preempted": "no-ipi"})
        rules = tuple("user-mode-no-ipi" if rule == "user-mode" else rule for rule in rules)
        return attrs.evolve(search, rules=rules, strict_boost=version)

    return apply


def _strict_boost_rfc(search: Search) -> Search:
    rules = list(_replaced(search, {"not-ready": "not-ready"}))
    rules.insert(rules.index("no-interrupt"), "no-ipi")
    changed = tuple("user-mode-no-ipi" if rule == "user-mode" else rule for rule in rules)
    return attrs.evolve(search, rules=changed, strict_boost="rfc")


def _ipi_bool(search: Search) -> Search:
    return attrs.evolve(search, rules=_replaced(search, {"user-mode": "user-mode"}), ipi_bool=True)


def _pending_irq(search: Search) -> Search:
    if search.pending_irq or search.ipi_aware:
        raise Meaningless("has it already")
    return attrs.evolve(search, rules=_replaced(search, {"user-mode": "user-mode"}), pending_irq=True)


def _ipi_aware(version: str) -> Callable[[Search], Search]:
    def apply(search: Search) -> Search:
        rules = _replaced(search, {"user-mode": "not-good"})
        relaxed = tuple("not-preempted" if rule == "not-good" else rule for rule in rules)
        return attrs.evolve(search, rules=rules, relaxed_rules=relaxed, ipi_aware=version, pending_irq=False)

    return apply


@frozen(kw_only=True)
class Cure:
    """A change of the search."""

    what: str
    apply: Callable[[Search], Search]
    tracks_ipis: bool = True  # at most one of a policy does


CURES = {
    "strict-boost": Cure(
        what="nominate only preempted vCPUs and those that the spinner sent an IPI (v5.6)",
        apply=_strict_boost("v5.6"),
    ),
    "strict-boost-rfc": Cure(
        what="the same, as posted for review in 2021: marks also who is refused for user mode",
        apply=_strict_boost_rfc,
    ),
    "strict-boost-ideal": Cure(
        what="the same, as the talk describes it: a refusal leaves no mark, and any number of vCPUs",
        apply=_strict_boost("ideal"),
    ),
    "ipi-bool": Cure(
        what="the reviewers' variant: nominate in user mode who has had any IPI since its latest entry",
        apply=_ipi_bool,
    ),
    "ipi-aware-v1": Cure(
        what="2025: nominate who the spinner's latest IPI went to, has an interrupt or was preempted at CPL 0",
        apply=_ipi_aware("v1"),
    ),
    "ipi-aware-v2": Cure(
        what="the same again: in its second version the rules of KVM did not change",
        apply=_ipi_aware("v2"),
    ),
    "ipi-aware-v3": Cure(
        what="2026: the same, but only an EOI of the IPI's own vector ends the wait; the rest of v3 is unverified",
        apply=_ipi_aware("v3"),
    ),
    "pending-irq": Cure(
        what="nominate in user mode who has a posted interrupt: pending-irq-2021 for older kernels; needs APICv",
        apply=_pending_irq, tracks_ipis=False,
    ),
}  # fmt: skip


def search_of(generation: str, cures: tuple[str, ...]) -> Search:
    """Return the search of a generation with cures, or say why they do not fit."""
    trackers = [name for name in cures if CURES[name].tracks_ipis]
    if len(trackers) > 1:
        raise ScenarioError(f"{' and '.join(trackers)} change the same rule; use one of them")
    search = GENERATIONS[generation].search
    if search.sleeps and cures:
        raise ScenarioError(f"{cures[0]} needs candidates, but in {generation} the spinner sleeps and nominates nobody")
    done: list[str] = []
    for name in sorted(cures, key=list(CURES).index):
        try:
            search = CURES[name].apply(search)
        except Meaningless as error:
            ground = "+".join([generation, *done])
            raise ScenarioError(f"{name} makes no sense with {ground}, which {error}") from None
        done.append(name)
    return search
