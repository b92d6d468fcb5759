"""What a directed yield may cost others: who waits how long, and what the neighbour VM gets."""

from __future__ import annotations

import functools

from pleemu.checks.finding import PropertyError
from pleemu.checks.observed import Observed, observe_scenario
from pleemu.checks.threads import ON_PCPU, READY, UNBORN
from pleemu.checks.yields import Lives
from pleemu.kernel import CFS, CHAOS, HOST_SCHEDULERS
from pleemu.observe.events import SCHED_MIGRATE, SCHED_SWITCH, SCHED_WAKEUP
from pleemu.policy import policy as policy_named
from pleemu.scenario import Scenario

MARGIN = 3  # of the bound on waiting, over what the argument for it gives


def turn_ns(scenario: Scenario) -> int:
    """How far one thread gets ahead of another of the same weight before the scheduler passes on.

    CFS: who runs is preempted at a tick behind its slice (at most sched_latency, at least sched_min_granularity);
    a buddy may be preferred until it is sched_wakeup_granularity ahead. EEVDF: base_slice, and a tick until it
    is noticed. Chaos: two ticks, because who was chosen by a point shortly before one gets another turn (proposed).
    """
    scheduler = HOST_SCHEDULERS[scenario.host.scheduler]
    tick_ns = 1_000_000_000 // scenario.host.hz
    if scheduler.model == CHAOS:
        return 2 * tick_ns
    given = scheduler.tunables(cpus=scenario.online_cpus, hz=scenario.host.hz, features=scenario.host.features)
    parts = ("latency", "wakeup_granularity") if scheduler.model == CFS else ("base_slice",)
    return sum(given[part] for part in parts) + tick_ns


def longest_waits(observed: Observed) -> dict[tuple[int, int], tuple[int, int]]:
    """Return for each VM and pCPU the longest time for which it wanted that pCPU in vain: cycles, and since when.

    It wants it while one of its vCPUs could run there. Whole VMs, because who spins may well lose time: a yielder
    is passed over, or its deadline postponed.
    """
    lives, vm_of = Lives(observed), observed.vm_of
    for thread, allowed in enumerate(observed.scenario.allowed_pcpus()):
        if len(allowed) == 1:
            lives.home[thread] = allowed[0]
    members = [[one for one, vm in enumerate(vm_of) if vm == number] for number in range(len(observed.scenario.vm))]
    pcpus = range(observed.scenario.hardware.pcpus)
    since: dict[tuple[int, int], int] = {}
    longest = {(vm, pcpu): (0, 0) for vm in range(len(members)) for pcpu in pcpus}

    def wants(vm: int, pcpu: int) -> bool:
        states = [lives.of[one] for one in members[vm] if lives.home.get(one) == pcpu]
        return ON_PCPU not in states and (READY in states or UNBORN in states)

    def close(place: tuple[int, int], end: int) -> None:
        if place in since:
            longest[place] = max(longest[place], (end - since[place], since[place]))

    for place in longest:
        if wants(*place):
            since[place] = 0
    for row in observed.rows:
        cycle, kind = row[:2]
        if kind not in (SCHED_SWITCH, SCHED_WAKEUP, SCHED_MIGRATE):
            continue
        lives.follow(row)
        for place in longest:
            if wants(*place):
                since.setdefault(place, cycle)
            elif place in since:
                close(place, cycle)
                del since[place]
    for place in since:
        close(place, observed.run.cycles)
    return longest


def check_nobody_starves(observed: Observed) -> float:
    """Every VM that can run on a pCPU does so before long; returns the longest wait as a part of the bound.

    Who waits beside n - 1 others on its pCPU sees each of them run for at most one turn (`turn_ns`) before it is behind
    all of them in virtual time, and first in the queue of any fair scheduler. A directed yield changes who of
    the others runs, and not what they have had. The bound is MARGIN times that, for threads of one weight.
    """
    scenario = observed.scenario
    pcpus = scenario.hardware.pcpus
    beside = max(sum(pcpu in one for one in scenario.allowed_pcpus()) for pcpu in range(pcpus))
    bound = MARGIN * beside * turn_ns(scenario) * scenario.hardware.core_rate_khz // 1_000_000
    worst = 0
    for (vm, pcpu), (cycles, since) in longest_waits(observed).items():
        worst = max(worst, cycles)
        if cycles > bound:
            raise PropertyError(
                f"from here on VM {scenario.vm[vm].name!r} waits for {cycles} cycles to run on this pCPU; "
                f"{bound} are fair with {beside} threads there",
                cycle=since,
                pcpu=pcpu,
                vcpus=[one for one, owner in enumerate(observed.vm_of) if owner == vm],
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


def fair_share(scenario: Scenario) -> float:
    """Return the part of all pCPUs that the last VM is entitled to: all threads pinned, of one weight, and busy."""
    allowed = [place[0] for place in scenario.allowed_pcpus()]
    mine = allowed[-scenario.vm[-1].vcpus :]
    return sum(1 / allowed.count(pcpu) for pcpu in mine) / scenario.hardware.pcpus


def check_shares(observed: Observed) -> float:
    """The last VM, which spins for nobody, loses less than `share_bound` against vanilla; returns what it loses (P7).

    Only what it is entitled to counts: spinners that sleep, are penalised or (EEVDF 6.12) forfeit their slices leave it
    more than that, under vanilla too, and a policy with fewer yields takes no one's share by not doing so.
    """
    bound = share_bound(observed.scenario)
    before = min(_shares_under_vanilla(observed.scenario)[-1], fair_share(observed.scenario))
    now = observed.run.vms[-1].cpu_share
    if before - now > bound:
        name = observed.run.vms[-1].name
        first = observed.first_vcpu[-1]
        raise PropertyError(
            f"VM {name!r} gets {now:.1%} of the pCPUs, {before:.1%} are its own; {bound:.1%} could be chance",
            vcpus=range(first, len(observed.vm_of)),
        )
    return before - now


def is_fair(observed: Observed) -> str:
    """Say why `check_shares` is not about this run; empty: it is."""
    model = HOST_SCHEDULERS[observed.scenario.host.scheduler].model
    return "its turns are random, and so are shares of a short run" if model == CHAOS else ""


def is_bounded(observed: Observed) -> str:
    """Say why `check_nobody_starves` is not about this run; empty: it is."""
    postpones = HOST_SCHEDULERS[observed.scenario.host.scheduler].yields == "later deadline"
    return "each yield postpones the yielder's deadline, without bound" if postpones else ""
