"""What a directed yield may cost others: who waits how long, and what the neighbour VM gets."""

from __future__ import annotations

import functools

from pleemu.checks.finding import PropertyError
from pleemu.checks.observed import Observed, observe_scenario
from pleemu.checks.threads import READY, UNBORN
from pleemu.checks.yields import Lives
from pleemu.kernel import CFS, CHAOS, HOST_SCHEDULERS
from pleemu.observe.events import SCHED_SWITCH, SCHED_WAKEUP
from pleemu.policy import policy as policy_named
from pleemu.scenario import Scenario

MARGIN = 3  # of the bound on waiting, over what the argument for it gives


def turn_ns(scenario: Scenario) -> int:
    """How far one thread gets ahead of another of the same weight before the scheduler passes on.

    CFS: who runs is preempted at a tick behind its slice (at most sched_latency, at least sched_min_granularity);
    a buddy may be preferred until it is sched_wakeup_granularity ahead. EEVDF: base_slice, and a tick until it
    is noticed. Chaos: a tick.
    """
    scheduler = HOST_SCHEDULERS[scenario.host.scheduler]
    tick_ns = 1_000_000_000 // scenario.host.hz
    if scheduler.model == CHAOS:
        return tick_ns
    given = scheduler.tunables(cpus=scenario.online_cpus, hz=scenario.host.hz, features=scenario.host.features)
    parts = ("latency", "wakeup_granularity") if scheduler.model == CFS else ("base_slice",)
    return sum(given[part] for part in parts) + tick_ns


def longest_waits(observed: Observed) -> dict[int, tuple[int, int]]:
    """Return for each thread its longest wait for a pCPU while it could run: cycles, and where it began."""
    lives = Lives(observed)
    since = dict.fromkeys(lives.of, 0)
    longest = dict.fromkeys(lives.of, (0, 0))
    for row in observed.rows:
        cycle, kind, _, _, a, b, _ = row
        if kind == SCHED_SWITCH and b >= 0:
            longest[b] = max(longest[b], (cycle - since[b], since[b]))
        if kind in (SCHED_SWITCH, SCHED_WAKEUP) and a >= 0:
            since[a] = cycle
        lives.follow(row)
    for thread, state in lives.of.items():
        if state in (READY, UNBORN):
            longest[thread] = max(longest[thread], (observed.run.cycles - since[thread], since[thread]))
    return longest


def check_nobody_starves(observed: Observed) -> float:
    """Every thread that can run does so before long; returns the longest wait as a part of the bound.

    Who waits beside n - 1 others on its pCPU sees each of them run for at most one turn (`turn_ns`) before it is behind
    all of them in virtual time, and first in the queue of any fair scheduler. A directed yield changes who of
    the others runs, and not what they have had. The bound is MARGIN times that, for threads of one weight.
    """
    scenario = observed.scenario
    pcpus = scenario.hardware.pcpus
    beside = max(sum(pcpu in one for one in scenario.allowed_pcpus()) for pcpu in range(pcpus))
    bound = MARGIN * beside * turn_ns(scenario) * scenario.hardware.core_rate_khz // 1_000_000
    worst = 0
    for thread, (cycles, since) in longest_waits(observed).items():
        worst = max(worst, cycles)
        if cycles > bound:
            raise PropertyError(
                f"can run, but waits for {cycles} cycles; {bound} are fair with {beside} threads on a pCPU",
                cycle=since,
                vcpus=(thread,),
            )
    return worst / bound


@functools.lru_cache(maxsize=32)
def _shares_under_vanilla(scenario: Scenario) -> tuple[float, ...]:
    run = observe_scenario(scenario, policy_named("vanilla")).run
    return tuple(vm.cpu_share for vm in run.vms)


def share_bound(scenario: Scenario) -> float:
    """Return by how much the shares of two runs may differ without anybody's doing.

    At any moment a thread is at most a turn ahead or behind on its pCPU, in each of the two runs.
    """
    return 2 * turn_ns(scenario) / scenario.duration_ns


def check_shares(observed: Observed) -> float:
    """The last VM, which spins for nobody, loses less than `share_bound` against vanilla; returns what it loses (P7).

    A policy may well give it more: spinners that sleep or are penalised leave their time to it.
    """
    bound = share_bound(observed.scenario)
    before = _shares_under_vanilla(observed.scenario)[-1]
    now = observed.run.vms[-1].cpu_share
    if before - now > bound:
        name = observed.run.vms[-1].name
        first = observed.first_vcpu[-1]
        raise PropertyError(
            f"VM {name!r} gets {now:.1%} of the pCPUs, {before:.1%} under vanilla; {bound:.1%} could be chance",
            vcpus=range(first, len(observed.vm_of)),
        )
    return before - now
