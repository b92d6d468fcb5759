"""What holds in every machine: any guest, placement, policy, cost and seed."""

from __future__ import annotations

from bisect import bisect
from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from made_machines import GUESTS, HALTING, Command, Observed, commands, observe, programs_of
from reference.window import grow, shrink

from pleemu.generations import GENERATIONS
from pleemu.hardware.isa import OP_PROBE, PROBE_LOCK_ACQUIRED, PROBE_LOCK_RELEASED
from pleemu.machine.result import Run
from pleemu.machine.run import simulate
from pleemu.observe.events import (
    APIC_IPI,
    CAUSE_SHIFT,
    HALT_POLL,
    HYPERCALL,
    KVM_ENTRY,
    KVM_EXIT,
    PAUSE_INSTRUCTION,
    PCPU_MASK,
    PLE_WINDOW,
    PROBE,
    SCHED_MIGRATE,
    SCHED_SWITCH,
    SCHED_WAKEUP,
    STATE_DEAD,
    STATE_SLEEPING,
    YIELD_TO,
    exit_reasons,
)
from pleemu.observe.records import MIGRATIONS
from pleemu.policy import policy

PING_PONG = str(GUESTS / "ping_pong.S")
ASLEEP, READY, ON_PCPU, DEAD = "asleep", "ready", "on a pCPU", "dead"


def rows(observed: Observed):
    """Events as tuples (cycle, kind, pcpu, vcpu, a, b, c)."""
    return observed.events.tolist()


def vm_of(run: Run) -> list[int]:
    """The VM of each vCPU."""
    return [number for number, vm in enumerate(run.scenario.vm) for _ in range(vm.vcpus)]


def check_mutual_exclusion(observed: Observed) -> int:
    """No lock ever has two holders; returns how often one was taken.

    A lock is free from the store that frees it, which stands directly before its probe. So a vCPU holds
    it no more if it was taken out of the guest between the two: its exit is at the probe, and may
    still be on its way (a kvm_exit comes later than the guest's last instruction) or have been cut off.
    """
    run = observed.run
    vm = vm_of(run)
    programs = programs_of(run.scenario)
    tables = [programs[run.scenario.program_of(one)].instructions for one in run.scenario.vm]
    after_store = [
        set(table.address[(table.op == OP_PROBE) & (table.probe == PROBE_LOCK_RELEASED)].tolist()) for table in tables
    ]
    told = [event for event in rows(observed) if event[1] in (KVM_EXIT, PROBE)]
    places: dict[int, list[int]] = {}  # of each vCPU's events in `told`
    for place, event in enumerate(told):
        places.setdefault(event[3], []).append(place)
    holders: dict[tuple[int, int], int] = {}
    taken = 0
    for place, (cycle, kind, _, vcpu, a, b, _) in enumerate(told):
        if (kind, a) == (PROBE, PROBE_LOCK_ACQUIRED):
            holder = holders.get((vm[vcpu], b))
            if holder is not None:
                later = bisect(places[holder], place)
                around = [told[near] for near in places[holder][later - 1 : later + 1]]
                stopped = any(event[1] == KVM_EXIT and event[5] in after_store[vm[holder]] for event in around)
                assert stopped or later == len(places[holder]), (
                    f"cycle {cycle}: vCPU {vcpu} takes lock {b:#x}, which vCPU {holder} holds"
                )
            holders[vm[vcpu], b] = vcpu
            taken += 1
        elif (kind, a) == (PROBE, PROBE_LOCK_RELEASED) and holders.get((vm[vcpu], b)) == vcpu:
            del holders[vm[vcpu], b]
    return taken


def window_parameters(run: Run) -> tuple[int, int, int, int, bool]:
    """KVM's base, growth, shrinking and maximum of the window or count, and whether it changes at all."""
    chosen = policy(run.policy)
    kvm = run.scenario.kvm_under(chosen)
    controlled = run.policy != "no-ple" and not kvm.pause_exiting
    if run.scenario.hardware.is_amd:
        numbers = (kvm.pause_filter_count, kvm.pause_filter_count_grow, kvm.pause_filter_count_shrink)
        adapts = kvm.pause_filter_thresh > 0 and kvm.pause_filter_count > 0
        return *numbers, kvm.pause_filter_count_max, controlled and adapts
    numbers = (kvm.ple_window, kvm.ple_window_grow, kvm.ple_window_shrink)
    most = GENERATIONS[chosen.generation].window_ceiling(kvm.ple_window, kvm.ple_window_grow, kvm.ple_window_max)
    return *numbers, most, controlled and kvm.ple_gap > 0


def check_windows(observed: Observed) -> None:
    """The window grows at each PAUSE exit and shrinks at each switch back in, and no other time."""
    base, grow_by, shrink_by, most, controlled = window_parameters(observed.run)
    window = dict.fromkeys(range(len(vm_of(observed.run))), base)
    expected: dict[int, int] = {}  # vCPU -> the window that its next event must announce
    switched_in: set[int] = set()
    for _, kind, _, vcpu, a, b, _ in rows(observed):
        if kind in (SCHED_WAKEUP, SCHED_MIGRATE):
            continue  # what an interrupt of the host does may come in between
        if vcpu in switched_in:
            switched_in.remove(vcpu)
            shrunk = shrink(window[vcpu], base, shrink_by, base)
            if controlled and shrunk != window[vcpu]:
                expected[vcpu] = shrunk
        if kind == PLE_WINDOW:
            assert (a, b) == (window[vcpu], expected.pop(vcpu))
            assert base <= b <= most
            window[vcpu] = b
        assert vcpu not in expected
        if kind == KVM_EXIT and a == PAUSE_INSTRUCTION:
            grown = grow(window[vcpu], base, grow_by, most)
            if controlled and grown != window[vcpu]:
                expected[vcpu] = grown
        elif kind == SCHED_SWITCH and 0 <= b < len(window):
            switched_in.add(b)


def check_threads(observed: Observed) -> None:
    """One thread a pCPU, where it may run; guests run between entry and exit; only ready threads are boosted."""
    scenario = observed.run.scenario
    vm = vm_of(observed.run)
    allowed = scenario.allowed_pcpus()
    home: dict[int, int] = {}  # the pCPU on whose queue a thread is or was
    current = dict.fromkeys(range(scenario.hardware.pcpus), -1)
    life = dict.fromkeys(range(len(allowed)), None)
    in_guest: dict[int, bool] = {}
    for _, kind, pcpu, vcpu, a, b, c in rows(observed):
        assert vcpu == current[pcpu]
        if kind == SCHED_SWITCH:
            assert a == vcpu
            assert a != b
            if a >= 0:
                life[a] = ASLEEP if c == STATE_SLEEPING else DEAD if c == STATE_DEAD else READY
                assert in_guest.get(a) is not True or c == STATE_DEAD
            if b >= 0:
                assert home.setdefault(b, pcpu) == pcpu
                assert pcpu in allowed[b]
                assert life[b] in (READY, None)  # None: it has never run
                life[b] = ON_PCPU
            current[pcpu] = b
        elif kind == SCHED_WAKEUP:
            assert life[a] == ASLEEP
            assert b == home[a]
            life[a] = READY
        elif kind == SCHED_MIGRATE:
            target, cause = c & PCPU_MASK, MIGRATIONS[c >> CAUSE_SHIFT]
            assert home.setdefault(a, b) == b
            assert b != target
            assert target in allowed[a]
            assert life[a] == ASLEEP if cause == "wake-up" else life[a] in (READY, None)
            home[a] = target
        elif kind == YIELD_TO:
            assert a != vcpu
            assert vm[a] == vm[vcpu]
            assert b != 1 or life[a] in (READY, None)  # before 2013 also who has never run
            assert b in (1, 0, -3)
        elif kind == KVM_ENTRY:
            assert not in_guest.get(vcpu)
            in_guest[vcpu] = True
        elif kind == KVM_EXIT:
            assert in_guest[vcpu]
            in_guest[vcpu] = False
        elif kind == PROBE:
            assert in_guest[vcpu]


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
    owners = vm_of(run)
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


def check_halts(observed: Observed) -> None:
    """A vCPU's poll time begins at 0, changes as its events say, and stays within the module's bounds."""
    kvm = observed.run.scenario.kvm
    poll_ns = dict.fromkeys(range(len(vm_of(observed.run))), 0)
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
    check_mutual_exclusion(observed)
    check_windows(observed)
    check_threads(observed)
    check_counts(observed)
    check_times(observed)
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
            seen["polls"] += sum(vm.polls for vm in observed.run.vms)
            seen["polled"] += sum(vm.polled for vm in observed.run.vms)
            seen["bursts"] += sum(one.bursts for one in observed.run.threads)
            seen["taken"] += check_mutual_exclusion(observed)
            yields = observed.of_kind(YIELD_TO)
            seen["yielded"] += int(np.sum(yields["b"] == 1))
            seen["wakeups"] += len(observed.of_kind(SCHED_WAKEUP))
            seen["interrupts"] += len(observed.of_kind(APIC_IPI))
            seen["continuous"] += observed.run.ple.continuous
    assert min(seen[what] for what in ("taken", "yielded", "wakeups", "interrupts", "continuous", "bursts")) > 20, seen
    assert min(seen[what] for what in ("polls", "polled")) > 5, seen
