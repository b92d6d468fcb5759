"""vCPUs that no pinning holds: where the scheduler has them run, as the events of whole machines tell it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import pytest
from attrs import define, field
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_machines import GUESTS, Command, Observed, observe, programs_of

from pleemu.kernel import SCHEDULERS
from pleemu.machine.run import simulate
from pleemu.observe.events import (
    CAUSE_SHIFT,
    PCPU_MASK,
    SCHED_MIGRATE,
    SCHED_SWITCH,
    SCHED_WAKEUP,
    STATE_DEAD,
    STATE_SLEEPING,
)
from pleemu.observe.records import MIGRATIONS
from pleemu.scenario import Scenario

BURSTS, PING_PONG = str(GUESTS / "bursts.S"), str(GUESTS / "ping_pong.S")


@define
class Queues:
    """Which threads are on the run queue of each pCPU, as events tell it."""

    pcpus: int
    on: dict[int, int] = field(factory=dict)  # thread -> pCPU, if it is runnable
    current: dict[int, int] = field(factory=lambda: defaultdict(lambda: -1))

    def lengths(self) -> list[int]:
        """How many threads are runnable, by pCPU; 2 stands for more, too."""
        found = [0] * self.pcpus
        for place in self.on.values():
            found[place] = min(found[place] + 1, 2)
        return found

    def apply(self, kind: int, pcpu: int, a: int, b: int, c: int) -> None:
        """Follow an event; it must be possible."""
        if kind == SCHED_SWITCH:
            assert self.current[pcpu] == a
            if c in (STATE_SLEEPING, STATE_DEAD):
                assert self.on.pop(a) == pcpu
            if b >= 0:
                assert self.on[b] == pcpu
            assert b < 0 or b not in self.current.values(), f"vCPU {b} is on two pCPUs"
            self.current[pcpu] = b
        elif kind == SCHED_WAKEUP:
            assert a not in self.on
            self.on[a] = b
        elif kind == SCHED_MIGRATE and a in self.on:
            assert self.on[a] == b
            assert a not in self.current.values(), f"vCPU {a} is moved while it runs"
            self.on[a] = c & PCPU_MASK


def followed(observed: Observed) -> Iterator[tuple[int, Queues, str]]:
    """The queues from cycle 0 on, and after each event that changes them; with the cause, if it is a migration."""
    scenario = observed.run.scenario
    events = observed.of_kind(SCHED_SWITCH, SCHED_WAKEUP, SCHED_MIGRATE).tolist()
    queues = Queues(scenario.hardware.pcpus)
    for _, kind, pcpu, _, a, b, _ in events:  # where each thread began: at cycle 0, and no event tells it
        if kind == SCHED_SWITCH and b >= 0:
            queues.on.setdefault(b, pcpu)
        elif kind == SCHED_MIGRATE:
            queues.on.setdefault(a, b)
    yield 0, queues, ""
    for cycle, kind, pcpu, _, a, b, c in events:
        queues.apply(kind, pcpu, a, b, c)
        yield cycle, queues, MIGRATIONS[c >> CAUSE_SHIFT] if kind == SCHED_MIGRATE else ""


def longest_ns(observed: Observed) -> Counter[tuple[str, int, int]]:
    """For each pair of an idle pCPU and one with a waiting thread: the longest time without a break, in ns.

    Within a last-level cache that is all. From one cache to the next the idle one must be the first of
    its cache, who balances for it, and nobody may be idle who is nearer to the waiting thread.

    What comes within `deaf_ns` of a migration to an idle pCPU does not count.
    """
    scenario = observed.run.scenario
    pcpus = scenario.hardware.pcpus
    size = min(scenario.hardware.costs().llc_pcpus or pcpus, pcpus)
    since: dict[tuple[str, int, int], int] = {}
    longest: Counter[tuple[str, int, int]] = Counter()

    deaf_cycles = deaf_ns(scenario) * scenario.hardware.core_rate_khz // 10**6
    heard_from = 0
    before: list[int] = []

    def until(cycle: int, pairs: set[tuple[str, int, int]]) -> None:
        for pair in since.keys() - pairs:
            longest[pair] = max(longest[pair], cycle - since.pop(pair))
        for pair in pairs - since.keys():
            since[pair] = max(cycle, heard_from)

    for cycle, queues, cause in followed(observed):
        if cause == "idle":
            until(cycle, set())
            heard_from = cycle + deaf_cycles
        lengths = queues.lengths()
        if lengths == before and not cause:
            continue
        before = lengths
        idle = [pcpu for pcpu, length in enumerate(lengths) if length == 0]
        first = {pcpu // size: pcpu for pcpu in reversed(idle)}
        pairs = set()
        for crowded, length in enumerate(lengths):
            if length < 2:
                continue
            near = crowded // size
            pairs |= {("near", pcpu, crowded) for pcpu in idle if pcpu // size == near}
            if near not in first:
                pairs |= {("far", pcpu, crowded) for pcpu in first.values()}
        until(cycle, pairs)
    until(observed.run.cycles, set())
    khz = scenario.hardware.core_rate_khz
    return Counter({pair: cycles * 10**6 // khz for pair, cycles in longest.items()})


def deaf_ns(scenario: Scenario) -> int:
    """For how long nobody may be kicked after an idle pCPU got a thread.

    v5.6 takes the next time at which such a pCPU is due into nohz.next_balance, although it is busy by then
    and due at a busy pCPU's interval, 32 times as long.
    """
    pcpus, hz = scenario.hardware.pcpus, scenario.host.hz
    size = min(scenario.hardware.costs().llc_pcpus or pcpus, pcpus)
    weight = size if size > 1 else pcpus
    ticks = min(-(-64 * weight * hz // 1000), hz * pcpus // 10) + 1
    return ticks * 10**9 // hz


def bound_ns(observed: Observed, kind: str) -> int:
    """How long an idle pCPU may leave a thread waiting.

    A domain of w pCPUs is balanced for an idle one after 2w ms at most. The tick of the crowded pCPU has
    that done when the earliest of the idle pCPUs is due, and may find this one not yet due: twice the
    time, and a tick each. Of three passes two can fail, since the waiting threads are hot.
    """
    scenario = observed.run.scenario
    pcpus, hz = scenario.hardware.pcpus, scenario.host.hz
    size = min(scenario.hardware.costs().llc_pcpus or pcpus, pcpus)
    weight = size if kind == "near" else pcpus
    ticks = min(max(1, -(-2 * weight * hz // 1000)), max(1, hz * pcpus // 10))
    host_code_ns = 200_000
    return 3 * (2 * ticks + 2) * 10**9 // hz + host_code_ns


@st.composite
def floating(draw: st.DrawFn) -> Command:
    """Slow machines with vCPUs that may run anywhere, busy or bursty: many time slices in few instructions."""
    pcpus = draw(st.integers(2, 4))
    vms = draw(st.integers(1, 3))
    vcpus = draw(st.integers(1, 5))
    ms = draw(st.sampled_from((50, 200)))
    changes = {"seed": draw(st.integers(0, 2**32)), "duration": f"{ms}ms", "vms": vms, "vcpus": vcpus, "pcpus": pcpus}
    fields = {
        "vm.pinning": "none",
        "host.hz": draw(st.sampled_from(("250", "1000", "1000", "1000"))),
        "host.online_cpus": draw(st.sampled_from(("1", "8"))),
        "hardware.tsc_khz": str(draw(st.sampled_from((20_000, 50_000)))),
        "hardware.llc_pcpus": draw(st.sampled_from(("0", "1", "1", "2"))),
        "host.scheduler": draw(st.sampled_from(tuple(SCHEDULERS))),
        "kvm.ipiv": draw(st.sampled_from(("true", "false"))),
    }
    return Command(draw(st.sampled_from((BURSTS, BURSTS, PING_PONG))), changes, fields)


def hard(seed: int) -> Command:
    """A machine where only the tick of the crowded pCPU can end it: sleepers, no cache shared, so no idle sibling."""
    fields = {"vm.pinning": "none", "host.hz": "1000", "hardware.tsc_khz": "20000", "hardware.llc_pcpus": "1"}
    return Command(PING_PONG, {"seed": seed, "vms": 1, "vcpus": 3, "pcpus": 2, "duration": "200ms"}, fields)


@settings(max_examples=40)
@given(floating())
@example(hard(0))
@example(hard(1))
@example(hard(2))
@example(hard(3))
def test_nobody_waits_long_beside_an_idle_pcpu(command: Command) -> None:
    """No pCPU stays idle beside one with two runnable threads for longer than the balancing rules allow."""
    observed = observe(command)
    for pair, ns in longest_ns(observed).items():
        assert ns <= bound_ns(observed, pair[0]), pair


@settings(max_examples=30)
@given(floating(), st.data())
def test_a_vcpu_never_leaves_its_set(command: Command, data: st.DataObject) -> None:
    """With any sets of pCPUs a thread runs and queues inside its own; and it repeats to the event."""
    pcpus, vcpus = command.changes["pcpus"], command.changes["vcpus"]
    one = st.integers(0, pcpus - 1)
    ranges = st.tuples(one, one).map(lambda pair: f'"{min(pair)}-{max(pair)}"')
    for vm in range(command.changes["vms"]):
        places = data.draw(st.lists(one.map(str) | ranges | ranges, min_size=vcpus, max_size=vcpus))
        command.fields[f"vm.{vm}.pinning"] = f"[{','.join(places)}]"
    observed = observe(command)
    scenario = observed.run.scenario
    allowed = scenario.allowed_pcpus()
    for _, queues, _ in followed(observed):
        assert all(pcpu in allowed[thread] for thread, pcpu in queues.on.items())
    again = simulate(scenario, programs=programs_of(scenario))
    assert (again.digest, again.migrations) == (observed.run.digest, observed.run.migrations)


def running_ns(observed: Observed) -> list[float]:
    """How long each vCPU's thread was on a pCPU."""
    timeline = observed.run.timeline
    return [sum(row) * timeline.column_ns for row in timeline.running]


FAST = {"vm.pinning": "none", "hardware.tsc_khz": "100000", "host.start_spread_ms": "0"}


@pytest.mark.parametrize("llc", [0, 4, 1])
def test_busy_vms_share_the_host_evenly(llc: int) -> None:
    """Two VMs of 8 busy vCPUs on 8 pCPUs: no pCPU is idle, and each vCPU gets half of one."""
    fields = FAST | {"hardware.llc_pcpus": str(llc)}
    observed = observe(Command("ticket_lock", {"vms": 2, "vcpus": 8, "pcpus": 8, "duration": "300ms"}, fields))
    times = running_ns(observed)
    assert sum(times) > 0.995 * 8 * 300e6
    assert max(times) - min(times) < 0.15 * 150e6
    assert sum(vm.cpu_share for vm in observed.run.vms) == pytest.approx(sum(times) / (8 * 300e6), abs=0.001)


def test_threads_move_for_every_cause() -> None:
    """Among a few bursty machines there is every kind of migration, and the pCPUs are nearly all busy."""
    seen: Counter[str] = Counter()
    for seed in range(4):
        for vcpus, pcpus in ((6, 6), (3, 8)):
            changes = {"seed": seed, "vms": 2, "vcpus": vcpus, "pcpus": pcpus, "duration": "200ms"}
            observed = observe(Command(BURSTS, changes, FAST | {"hardware.llc_pcpus": "2"}))
            for row in observed.run.migrations:
                seen[row.cause] += row.count
            if vcpus == pcpus:
                assert sum(vm.cpu_share for vm in observed.run.vms) > 0.97
    assert all(seen[cause] > 1 for cause in MIGRATIONS), seen


def test_a_pushed_thread_is_not_taken_back_at_once() -> None:
    """Active balance leaves a pCPU without work beside crowded ones: what it pushed is gone when others may pull."""
    fields = FAST | {
        "hardware.tsc_khz": "5000",
        "hardware.llc_pcpus": "2",
        "host.scheduler": "eevdf-6.12",
        "host.hz": "1000",
        "host.online_cpus": "1",
        "cost.tick_ns": "20000",
        "cost.wakeup_ns": "0",
        "vm.1.pinning": '[0,"2-2","0-2",2]',
        "vm.1.nice": "5",
    }
    fields |= {"thread.0.name": "a", "thread.0.count": "3", "thread.0.busy_us": "300", "thread.0.period_us": "3000"}
    fields |= {"thread.0.nice": "-5", "thread.0.pinning": "[0,0,0]"}
    fields |= {
        "thread.1.name": "b",
        "thread.1.busy_us": "300",
        "thread.1.period_us": "300",
        "thread.1.pinning": "spread",
    }
    fields |= {"thread.2.name": "c", "thread.2.period_us": "2000"}
    changes = {"policy": "no-ple", "seed": 2840618605, "vms": 2, "vcpus": 4, "pcpus": 4, "duration": "400ms"}
    observed = observe(Command(BURSTS, changes, fields))
    causes = Counter(cause for _, _, cause in followed(observed))  # refuses to move what runs
    assert causes["active"] > 0
