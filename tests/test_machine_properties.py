"""What holds in every machine: any guest, placement, policy, cost and seed."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from made_machines import GUESTS, HALTING, Command, Observed, commands, observe, programs_of

from pleemu.checks.locks import check_mutual_exclusion
from pleemu.checks.properties import EVERYWHERE
from pleemu.kernel import HOST_SCHEDULERS
from pleemu.machine.run import simulate
from pleemu.observe.events import (
    APIC_IPI,
    CAUSE_SHIFT,
    HALT_POLL,
    HYPERCALL,
    KVM_EXIT,
    PAUSE_INSTRUCTION,
    PLE_WINDOW,
    SCHED_MIGRATE,
    SCHED_SWITCH,
    SCHED_WAKEUP,
    STAT_RUNTIME,
    THREAD_MASK,
    YIELD_TO,
    exit_reasons,
)
from pleemu.observe.records import MIGRATIONS

PING_PONG = str(GUESTS / "ping_pong.S")


def rows(observed: Observed):
    """Events as tuples (cycle, kind, pcpu, vcpu, a, b, c)."""
    return observed.rows


def check_counts(observed: Observed) -> None:
    """Every number that is reported is the one that the events give."""
    run = observed.run
    reasons = exit_reasons(run.scenario.hardware.is_amd)
    exits = Counter(reasons[a] for _, kind, _, _, a, _, _ in rows(observed) if kind == KVM_EXIT)
    assert run.exits_by_reason() == exits
    assert run.ple.exits == exits[reasons[PAUSE_INSTRUCTION]] == sum(run.ple.by_symbol.values())
    lengths = run_lengths(observed)
    assert run.ple.longest_run == max(lengths, default=0)
    assert run.ple.continuous == sum(length for length in lengths if length > 1)
    assert sum(run.ple.run_lengths.values()) == len(lengths)
    assert [one.length for one in run.ple.runs] == sorted(lengths, reverse=True)[: len(run.ple.runs)]
    yields = Counter(b for _, kind, _, _, _, b, c in rows(observed) if kind == YIELD_TO and c == 0)  # no hypercall's
    assert sum(row.attempts for row in run.boosts) == yields.total()
    assert sum(row.accepted for row in run.boosts) == yields[1]
    assert all(row.honoured <= row.accepted for row in run.boosts)
    owners = observed.vm_of
    called = Counter(run.vms[owners[vcpu]].name for _, kind, _, vcpu, _, _, _ in rows(observed) if kind == HYPERCALL)
    assert Counter({row.vm: row.hypercalls for row in run.paravirtual}) == called
    moved = Counter(
        (owners[a] if a < len(owners) else "host", c >> CAUSE_SHIFT)
        for _, kind, _, _, a, _, c in rows(observed)
        if kind == SCHED_MIGRATE
    )
    names = [vm.name for vm in run.vms]
    counted = {
        (names.index(row.vm) if row.vm in names else row.vm, MIGRATIONS.index(row.cause)): row.count
        for row in run.migrations
    }
    assert counted == moved
    assert all(0 <= vm.guest_share <= vm.cpu_share + 1e-9 for vm in run.vms)


def check_times(observed: Observed) -> None:
    """Each cycle of each pCPU belongs to the vCPU's thread or the host's that is current, or to idle: to the cycle."""
    run = observed.run
    owners = [vm.name for vm in run.scenario.vm for _ in range(vm.vcpus)]
    owners += [("thread", one.name) for one in run.scenario.thread for _ in range(one.count)]
    owners.append("idle")  # -1
    cycles: Counter[object] = Counter()
    since = dict.fromkeys(range(run.scenario.hardware.pcpus), (0, -1))
    for cycle, kind, pcpu, _, _, b, _ in rows(observed):
        if kind == SCHED_SWITCH:
            begin, task = since[pcpu]
            cycles[owners[task]] += cycle - begin
            since[pcpu] = (cycle, b)
    for begin, task in since.values():
        cycles[owners[task]] += run.cycles - begin
    total = run.cycles * run.scenario.hardware.pcpus
    shares = {vm.name: vm.cpu_share for vm in run.vms} | {("thread", one.name): one.cpu_share for one in run.threads}
    shares["idle"] = run.idle_share
    assert {owner: round(share * total) for owner, share in shares.items()} == {one: cycles[one] for one in shares}
    assert sum(round(share * total) for share in shares.values()) == total


def check_virtual_time(observed: Observed) -> int:
    """A thread is charged what it has run, and its vruntime moves by as much; returns how often that was told.

    Else it moves by fork, wake-up, migration, Debooster, in 6.12.117 a yield. Only nice 0 is looked at in this.
    """
    scenario = observed.scenario
    nice = [vm.nice for vm in scenario.vm for _ in range(vm.vcpus)]
    nice += [one.nice for one in scenario.thread for _ in range(one.count)]
    khz = scenario.hardware.core_rate_khz
    forfeits = "yield_forfeits" in HOST_SCHEDULERS[scenario.host.scheduler].switches
    charged, ran, placed = Counter(), Counter(), Counter()
    since: dict[int, int] = {}
    told = 0
    moved = {(cycle, a) for cycle, kind, _, _, a, _, _ in rows(observed) if kind == SCHED_MIGRATE}
    yielded = {(cycle, vcpu) for cycle, kind, _, vcpu, *_ in rows(observed) if kind == YIELD_TO}
    for cycle, kind, _, _, a, b, c in rows(observed):
        now = cycle * 1_000_000 // khz
        if kind == STAT_RUNTIME:
            a &= THREAD_MASK
            charged[a] += c
            fell_back = (observed.policy.debooster or forfeits) and (cycle, a) in yielded
            if c > 0 and nice[a] == 0 and (cycle, a) not in moved and not fell_back:
                assert b == placed[a] + c
                told += 1
            placed[a] = b
        elif kind == SCHED_SWITCH and scenario.host.scheduler != "chaos":
            if a >= 0:
                ran[a] += now - since.pop(a)
                assert charged[a] == ran[a]
            if b >= 0:
                since[b] = now
    assert charged or scenario.host.scheduler == "chaos" or not ran
    return told


def check_halts(observed: Observed) -> None:
    """A vCPU's poll time begins at 0, changes as its events say, and stays within the module's bounds."""
    kvm = observed.run.scenario.kvm
    poll_ns = dict.fromkeys(range(len(observed.vm_of)), 0)
    for _, kind, _, vcpu, a, b, _ in rows(observed):
        if kind == HALT_POLL:
            assert a == poll_ns[vcpu] != b
            assert 0 <= b <= kvm.halt_poll_ns
            poll_ns[vcpu] = b
    assert all(vm.polled <= vm.polls <= vm.halts for vm in observed.run.vms)
    assert kvm.halt_poll_ns > 0 or not any(vm.polls for vm in observed.run.vms)


def run_lengths(observed: Observed) -> list[int]:
    """Lengths of the runs of PAUSE exits: same vCPU, same RIP, at most 1 ms apart."""
    millisecond = observed.run.scenario.hardware.core_rate_khz
    lengths: list[int] = []
    latest: dict[int, tuple[int, int, int]] = {}  # vCPU -> RIP, cycle, place in `lengths`
    for cycle, kind, _, vcpu, a, b, _ in rows(observed):
        if kind == KVM_EXIT and a == PAUSE_INSTRUCTION:
            rip, previous, place = latest.get(vcpu, (None, 0, 0))
            if rip != b or cycle - previous > millisecond:
                place = len(lengths)
                lengths.append(0)
            lengths[place] += 1
            latest[vcpu] = (b, cycle, place)
    return lengths


@settings(max_examples=150)
@given(commands() | commands(subjects=HALTING))
def test_every_machine_keeps_its_rules(command: Command) -> None:
    """Mutual exclusion, window bounds, one thread a pCPU, boosts of ready vCPUs alone, true counts, one order."""
    observed = observe(command)
    order = observed.events[["cycle", "pcpu"]].tolist()
    assert order == sorted(order)
    assert all(0 <= cycle < observed.run.cycles for cycle, _ in order)
    for one in EVERYWHERE:
        if one.number != "P10" and not one.about(observed):
            one.check(observed)
    check_counts(observed)
    check_times(observed)
    check_virtual_time(observed)
    check_halts(observed)


@settings(max_examples=20)
@given(commands(), st.booleans())
def test_same_scenario_gives_same_run(command: Command, shown: bool) -> None:
    """A run repeats to the event, watched or not, shown or not."""
    observed = observe(command)
    scenario = command.scenario()
    seen: list[tuple[int, int]] = []
    progress = (lambda done, total: seen.append((done, total))) if shown else None
    again = simulate(scenario, progress=progress, programs=programs_of(scenario))
    assert again.digest == observed.run.digest
    assert (again.instructions, again.ple, again.vms) == (observed.run.instructions, observed.run.ple, observed.run.vms)
    assert seen == sorted(seen)


@settings(max_examples=20)
@given(commands(policies=("no-ple",)))
def test_without_ple_nobody_notices(command: Command) -> None:
    """Under no-ple there is no PAUSE exit, no directed yield and no change of a window."""
    observed = observe(command)
    assert observed.run.ple.exits == 0
    assert not observed.run.boosts
    assert not len(observed.of_kind(PLE_WINDOW))
    assert np.all(observed.of_kind(YIELD_TO)["c"] != 0)  # hypercalls alone


def test_the_machines_of_these_properties_do_something() -> None:
    """Among a few fixed machines locks are contended, vCPUs are boosted, woken and preempted."""
    seen: Counter[str] = Counter()
    thread = {"thread.0.name": "kw", "thread.0.busy_us": "500", "thread.0.period_us": "5000"}
    subjects = (("ticket_lock", 4, 2), ("overboost", 5, 2), (PING_PONG, 3, 2), (PING_PONG, 2, 4))
    for subject, vcpus, pcpus in subjects:
        for named in ("vanilla", "strict-boost+debooster"):
            fields = {"host.hz": "1000", "host.online_cpus": "1", "hardware.tsc_khz": "100000"}
            fields |= {"vm.pinning": "vcpu-to-pcpu", "thread.0.pinning": "vcpu-to-pcpu", "vm.memory_kib": "256"}
            changes = {"policy": named, "duration": "100ms", "vms": 2, "vcpus": vcpus, "pcpus": pcpus}
            if pcpus == 4:
                changes["vms"] = 1
                fields["kvm.halt_poll_ns"] = "5000000"
            observed = observe(Command(subject, changes, fields | thread))
            check_times(observed)
            seen["told"] += check_virtual_time(observed)
            seen["polls"] += sum(vm.polls for vm in observed.run.vms)
            seen["polled"] += sum(vm.polled for vm in observed.run.vms)
            seen["bursts"] += sum(one.bursts for one in observed.run.threads)
            seen["taken"] += check_mutual_exclusion(observed)
            yields = observed.of_kind(YIELD_TO)
            seen["yielded"] += int(np.sum(yields["b"] == 1))
            seen["wakeups"] += len(observed.of_kind(SCHED_WAKEUP))
            seen["interrupts"] += len(observed.of_kind(APIC_IPI))
            seen["continuous"] += observed.run.ple.continuous
    assert (
        min(seen[what] for what in ("taken", "told", "yielded", "wakeups", "interrupts", "continuous", "bursts")) > 20
    ), seen
    assert min(seen[what] for what in ("polls", "polled")) > 5, seen
