"""A vCPU in HLT polls before it sleeps, as kvm_vcpu_block of v5.6 does."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given, settings, target
from hypothesis import strategies as st
from made_machines import GUESTS, HALTING, Command, observe, programs_of
from reference.halt_poll import HaltPoll
from test_machine_properties import check_counts, check_halts, check_times

from pleemu.checks.threads import check_threads
from pleemu.checks.windows import check_windows
from pleemu.hardware.isa import PROBE_IPI_WAIT, PROBE_OPERATION_DONE
from pleemu.hardware.records import CLOCK, NEVER, POLLING
from pleemu.hypervisor import halt_poll, wake_up
from pleemu.hypervisor.records import KVM, VCPU
from pleemu.jit import callable_alone
from pleemu.machine.build import build, seed_of
from pleemu.observe.events import (
    APIC_IPI,
    EVENT,
    HALT_POLL,
    HLT,
    KVM_ENTRY,
    KVM_EXIT,
    PROBE,
    SCHED_SWITCH,
    SCHED_WAKEUP,
)
from pleemu.observe.records import JOURNAL
from pleemu.policy import policy
from pleemu.scheduler import core

end_block_alone = callable_alone(halt_poll.end_block)
wake_thread_alone = callable_alone(wake_up.wake_thread)
wake_up_new_task_alone = callable_alone(core.wake_up_new_task)
pick_next_task_alone = callable_alone(core.pick_next_task)

Pieces = namedtuple("Pieces", "clock vcpu kvm journal event")
HALTING_SEED = next(seed for seed in range(99) if seed_of(seed, 0, 1) % 2)  # vCPU 1 of ping.S idles in HLT
CYCLES_PER_US = 2100
MODES = {"none": {"kvm.apicv": "false"}, "apicv": {}, "ipiv": {"kvm.ipiv": "true"}}

u32 = st.integers(0, 2**32 - 1)
factors = st.sampled_from((0, 1, 2, 3, 10, 2**31, 2**32 - 1)) | u32
near = st.sampled_from((0, 1, 9_999, 10_000, 10_001, 20_000, 199_999, 200_000, 200_001, 10**9)) | st.integers(0, 2**33)


@given(near.map(lambda ns: min(ns, 2**32 - 1)), factors, near, factors, u32, st.lists(near, max_size=30))
def test_poll_time_follows_the_length_of_halts(most, grow, start, shrink, first, halts):
    """Any parameters, any halts: the poll time is the kernel's after each, and only a change is an event."""
    records = [np.zeros(count, dtype).view(np.recarray) for count, dtype in
               ((1, CLOCK), (1, VCPU), (1, KVM), (1, JOURNAL), (40, EVENT))]  # fmt: skip
    m = Pieces(*records)
    m.clock.core_khz, m.journal.recording = 1_000_000, 1
    start = min(start, 2**32 - 1)
    m.kvm.halt_poll_ns, m.kvm.halt_poll_ns_grow = most, grow
    m.kvm.halt_poll_ns_grow_start, m.kvm.halt_poll_ns_shrink = start, shrink
    reference = HaltPoll(most, grow, start, shrink, min(first, most))
    m.vcpu.halt_poll_ns = reference.value
    changes = []
    now = 12_345
    for block_ns in halts:
        m.vcpu.blocked_from = now
        now += block_ns
        before = reference.value
        reference.blocked(block_ns)
        end_block_alone(m, 0, 0, now)
        assert m.vcpu.halt_poll_ns[0] == reference.value
        assert 0 <= reference.value <= most
        assert m.vcpu.blocked_from[0] == -1
        if before != reference.value:
            changes.append((HALT_POLL, before, reference.value))
    assert m.event[["kind", "a", "b"]][: int(m.journal.recorded[0])].tolist() == changes


def ping(poll, mode=None, duration="3ms", **fields):
    """Two vCPUs on pCPUs of their own: one interrupts the other, which idles in HLT, every 14 us and more."""
    fields = {"kvm.halt_poll_ns": str(poll)} | {path.replace("__", "."): str(value) for path, value in fields.items()}
    changes = {"vcpus": 2, "pcpus": 2, "duration": duration, "policy": "no-ple", "seed": HALTING_SEED}
    return observe(Command(str(GUESTS / "ping.S"), changes, fields | (mode or {})))


@pytest.mark.parametrize("mode", MODES)
def test_vcpu_that_is_soon_interrupted_learns_to_poll(mode):
    """0, 10, 20, ... us: after a few halts the poll outlasts the pause, and nobody sleeps or is woken any more."""
    found = ping(200_000, MODES[mode])
    changes = found.of_kind(HALT_POLL)
    assert changes["a"].tolist() == [0, 10_000, 20_000, 40_000][: len(changes)]
    assert changes["b"].tolist() == [10_000, 20_000, 40_000, 80_000][: len(changes)]
    assert 2 <= len(changes) <= 4
    learnt = changes["cycle"][-1]
    assert set(changes["vcpu"].tolist()) == {1}
    later = found.events[found.events["cycle"] > learnt]
    assert not np.isin(later["kind"], (SCHED_SWITCH, SCHED_WAKEUP)).any()
    (vm,) = found.run.vms
    assert vm.polled > 0.9 * vm.halts > 50
    assert vm.polls >= vm.polled
    assert vm.halts - found.run.exits_by_reason()["HLT"] in (0, -1)


@pytest.mark.parametrize("mode", MODES)
def test_polling_answers_sooner_than_sleeping(mode):
    """From ipi_wait to the answer a poll saves the wake-up, the way out of idle and two context switches."""
    took = {}
    for poll in (0, 200_000):
        probes = ping(poll, MODES[mode]).of_kind(PROBE)
        asked, done = (probes["cycle"][probes["a"] == probe] for probe in (PROBE_IPI_WAIT, PROBE_OPERATION_DONE))
        took[poll] = int(np.median(done - asked[: len(done)]))
    assert took[0] - took[200_000] >= (1500 + 5000) * CYCLES_PER_US // 1000


@settings(max_examples=40)
@given(
    st.sampled_from(HALTING),
    st.integers(4, 6),
    st.integers(3, 6),
    st.sampled_from(("vanilla", "strict-boost+debooster")),
    st.sampled_from(tuple(MODES.values())),
    st.fixed_dictionaries(
        {
            "kvm.halt_poll_ns": st.sampled_from(("200000", "2000000", "50000000")),
            "kvm.halt_poll_ns_grow": st.sampled_from(("2", "50")),
            "kvm.halt_poll_ns_shrink": st.sampled_from(("0", "2")),
            "cost.poll_turn_ns": st.sampled_from(("1", "50", "20000")),
        }
    ),
    st.sampled_from(({}, {"thread.0.name": "kw", "thread.0.busy_us": "200", "thread.0.period_us": "3000"})),
)
def test_machines_that_poll_keep_their_rules(subject, vcpus, pcpus, named, mode, kvm, thread):
    """Slow machines whose vCPUs halt and poll much: the rules of every machine, and any end of a poll."""
    fields = {"hardware.tsc_khz": "100000", "host.hz": "1000", "vm.pinning": "vcpu-to-pcpu"} | mode | kvm | thread
    changes = {"vcpus": vcpus, "pcpus": pcpus, "policy": named, "duration": "40ms", "seed": HALTING_SEED}
    observed = observe(Command(subject, changes, fields))
    order = observed.events[["cycle", "pcpu"]].tolist()
    assert order == sorted(order)
    check_windows(observed)
    check_threads(observed)
    check_counts(observed)
    check_times(observed)
    check_halts(observed)
    target(float(sum(vm.polled for vm in observed.run.vms)))


def turns(found, turn):
    """How far the entries behind polled HLTs are from a turn of the loop, and their delays behind the IPI."""
    events = found.events[found.events["cycle"] > found.of_kind(HALT_POLL)["cycle"][-1]]
    exits = events[(events["kind"] == KVM_EXIT) & (events["a"] == HLT)]["cycle"]
    entries = events[(events["kind"] == KVM_ENTRY) & (events["vcpu"] == 1)]["cycle"]
    entered = [int(entries[entries > one][0]) for one in exits if (entries > one).any()]
    polled_from = [int(one) + 1000 * CYCLES_PER_US // 1000 for one in exits[: len(entered)]]  # cost.hlt_handler
    ipis = found.of_kind(APIC_IPI)["cycle"]
    return [
        ((entry - begin) % turn, entry - int(ipis[ipis <= entry][-1]))
        for begin, entry in zip(polled_from, entered, strict=True)
    ]


@pytest.mark.parametrize("turn_ns", [1, 50, 1000])
def test_poll_sees_an_interrupt_at_its_next_turn(turn_ns):
    """The vCPU is entered at the first turn of its loop after the sender made the interrupt pending."""
    turn = -(-turn_ns * CYCLES_PER_US // 1000)
    seen = turns(ping(200_000, cost__poll_turn_ns=turn_ns, host__hz=100), turn)
    assert len(seen) > 50
    assert {off for off, _ in seen} == {0}
    assert all(0 < delay <= turn for _, delay in seen)


def test_thread_that_waits_ends_the_poll():
    """With a hog on its pCPU a vCPU never polls beyond the first look: single_task_running is false."""
    hog = {"thread__0__name": "hog", "thread__0__pinning": "1", "host__hz": 1000}
    found = ping(200_000, duration="60ms", **hog)
    (vm,) = found.run.vms
    assert vm.halts > 10
    assert vm.polled == 0
    assert found.run.threads[0].cpu_share > 0.05


def test_thread_that_wakes_ends_the_poll_at_once():
    """A periodic thread takes the pCPU from a polling vCPU as soon as its timer's interrupt is served."""
    fields = {"thread__0__name": "kw", "thread__0__pinning": "1", "thread__0__busy_us": 20, "thread__0__period_us": 100}
    found = ping(200_000, **fields)
    wakeups = found.of_kind(SCHED_WAKEUP)
    woken = wakeups[(wakeups["a"] == 2) & (wakeups["vcpu"] == 1)]["cycle"]  # while the vCPU's thread is current
    switches = found.of_kind(SCHED_SWITCH)
    starts = switches[switches["b"] == 2]["cycle"]
    delays = [int(starts[starts >= one][0] - one) for one in woken if (starts >= one).any()]
    assert len(delays) > 10
    assert max(delays) < 10 * CYCLES_PER_US
    assert found.run.vms[0].polled > 10


@pytest.mark.parametrize(("now", "seen"), [(1000, 1050), (1049, 1050), (1050, 1100), (900, 1000)])
def test_wake_up_by_another_pcpu_ends_the_poll_at_its_next_turn(now, seen):
    """Also where the woken thread does not preempt: no IPI is sent, but the loop sees nr_running."""
    scenario = Command(str(GUESTS / "ping_pong.S"), {"vcpus": 4, "pcpus": 2}).scenario()
    m, _ = build(scenario, policy("vanilla"), programs_of(scenario), recording=False)
    wake_up_new_task_alone(m, 1, 1, 0)
    assert pick_next_task_alone(m, 1, 0) == 1
    m.task.vruntime[3] = 10**12
    m.pcpu.phase[1], m.pcpu.vcpu[1], m.pcpu.cycle[1] = POLLING, 1, 10**6
    m.vcpu.poll_from[1], m.cost.poll_turn = 1000, 50
    wake_thread_alone(m, 0, 3, now)
    assert m.rq.nr_running[1] == 2
    assert (m.pcpu.interrupt_at[1], m.pcpu.cycle[1]) == (NEVER, seen)


def test_tick_does_not_end_a_poll():
    """Ticks interrupt the loop and it goes on: at 1000 Hz the poll of 200 us sees some and still succeeds."""
    found = ping(200_000, host__hz=1000, cost__tick_ns=3000)
    assert found.run.vms[0].polled > 50


def test_polling_burns_the_cpu_that_sleeping_leaves_idle():
    """The price: with polling the pCPU is never idle."""
    slept, polled = ping(0).run, ping(200_000).run
    assert slept.idle_share > 0.1
    assert polled.idle_share < 0.02
    assert polled.vms[0].cpu_share > slept.vms[0].cpu_share


def test_halts_too_long_for_the_module_stop_polling():
    """Halts of 14 us and more under halt_poll_ns = 12 us: the poll time grows to 10 us, is too short, shrinks to 0."""
    found = ping(12_000)
    changes = found.of_kind(HALT_POLL)[["a", "b"]].tolist()
    assert all(change in ((0, 10_000), (10_000, 0), (10_000, 12_000), (12_000, 0)) for change in changes)
    assert found.run.vms[0].polled <= 2
