"""The ground truth of who waits for whom, against plain sets."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from reference.waits import Vcpu, Vm

from pleemu.hardware import isa
from pleemu.hardware.records import CPU, PCPU, SPACE
from pleemu.hypervisor.records import VCPU
from pleemu.hypervisor.records import VM as VM_RECORD
from pleemu.jit import callable_alone
from pleemu.machine import frontier
from pleemu.observe import waits
from pleemu.observe.records import JOURNAL, JUDGED, LOCK, TALE, WAIT_DEPTH, WAITING, WAYS
from pleemu.scheduler.records import RQ, TASK, TASK_INTERRUPTIBLE, TASK_RUNNING

follow_alone = callable_alone(waits.follow_probe)
end_alone = callable_alone(waits.end_of_thread)
closure_alone = callable_alone(frontier.mark_closure)
mark_alone = callable_alone(frontier.mark_of)
awaited_alone = callable_alone(frontier.is_awaited)

Pieces = namedtuple(
    "Pieces",
    "pcpu cpu space task rq vcpu vm journal waiting lock holding sharing awaited answered todo judged tale",
)
BASE, WORDS = 0x1000, 64
LOCKS = {f"lock{k}": BASE + 8 * k for k in range(5)}
BARRIERS = {"lock0": "barrier0", "lock1": "barrier1"}  # where a step that names a lock goes
PLACES = LOCKS | {"barrier0": BASE + 80, "barrier1": BASE + 88}


def records(count, dtype):
    return np.zeros(count, dtype).view(np.recarray)


def machine(vcpus, first, locks=4 * WAYS):
    """A VM of some vCPUs, behind `first` of another one; every vCPU on a pCPU of its own."""
    total = first + vcpus
    sets = -(-total // 64)
    m = Pieces(
        pcpu=records(total, PCPU),
        cpu=records(total, CPU),
        space=records(2, SPACE),
        task=records(total, TASK),
        rq=records(total, RQ),
        vcpu=records(total, VCPU),
        vm=records(2, VM_RECORD),
        journal=records(1, JOURNAL),
        waiting=records(total, WAITING),
        lock=records(locks, LOCK),
        holding=np.zeros((locks, sets), np.int64),
        sharing=np.zeros((locks, sets), np.int64),
        awaited=np.zeros((total, sets), np.int64),
        answered=np.zeros((total, sets), np.int64),
        todo=np.zeros(total, np.int64),
        judged=records(2, JUDGED),
        tale=records(1, TALE),
    )
    m.space.start, m.space.bytes, m.space.stacks = BASE, WORDS * 8, WORDS * 8
    m.space.first_word[1] = WORDS
    m.vm.first_vcpu[1], m.vm.vcpus[1], m.vm.vcpus[0] = first, vcpus, first
    m.vcpu.vm[first:], m.vcpu.id[first:], m.vcpu.id[:first] = 1, np.arange(vcpus), np.arange(first)
    m.cpu.space[first:] = 1
    m.task.cpu, m.task.on_rq, m.task.state = np.arange(total), 1, TASK_RUNNING
    m.rq.curr = -1
    return m


def probe(m, v, number, value, now, manner=0):
    instruction = records(1, isa.INSTRUCTION)
    instruction.probe, instruction.manner = number, manner
    follow_alone(m, v, instruction[0], value, now)


class Twins:
    """The records and the reference, told the same."""

    def __init__(self, vcpus, first):
        self.m, self.first = machine(vcpus, first), first
        self.vm = Vm([Vcpu() for _ in range(vcpus)])
        self.now = 0

    def lock_wait(self, v, lock, other):
        if len(self.vm.vcpus[v].waits) < WAIT_DEPTH and lock not in [one.lock for one in self.vm.vcpus[v].waits]:
            # Whether a lock serves in order is the same at each lock_wait for it.
            in_order = lock in ("lock0", "lock1")
            shared = other % 2 == 1
            self.vm.lock_wait(v, lock, in_order=in_order, shared=shared)
            manner = in_order * isa.LOCK_IN_ORDER + shared * isa.LOCK_SHARED
            probe(self.m, self.first + v, isa.PROBE_LOCK_WAIT, LOCKS[lock], self.now, manner)

    def locked_operation(self, v, lock, _):
        self.vm.locked_operation(v, lock, self.now)
        cpu = self.m.cpu[self.first + v]
        if WORDS + (LOCKS[lock] - BASE) // 8 + 1 == cpu.watched:  # as `execute` does
            cpu.place = self.now + 1

    def lock_acquired(self, v, lock, other):
        shared = other % 2 == 1
        self.vm.lock_acquired(v, lock, shared=shared)
        probe(self.m, self.first + v, isa.PROBE_LOCK_ACQUIRED, LOCKS[lock], self.now, shared * isa.LOCK_SHARED)

    def lock_wait_over(self, v, lock, _):
        self.vm.lock_wait_over(v, lock)
        probe(self.m, self.first + v, isa.PROBE_LOCK_WAIT_OVER, LOCKS[lock], self.now)

    def barrier_wait(self, v, lock, _):
        barrier = BARRIERS.get(lock)
        waits = self.vm.vcpus[v].waits
        if barrier and len(waits) < WAIT_DEPTH and barrier not in [one.lock for one in waits]:
            self.vm.barrier_wait(v, barrier)
            probe(self.m, self.first + v, isa.PROBE_BARRIER_WAIT, PLACES[barrier], self.now)

    def barrier_passed(self, v, lock, _):
        if barrier := BARRIERS.get(lock):
            self.vm.barrier_passed(v, barrier)
            probe(self.m, self.first + v, isa.PROBE_BARRIER_PASSED, PLACES[barrier], self.now)

    def end(self, v, *_):
        self.vm.end(v)
        end_alone(self.m, self.first + v, self.now)

    def lock_released(self, v, lock, _):
        self.vm.lock_released(v, lock)
        probe(self.m, self.first + v, isa.PROBE_LOCK_RELEASED, LOCKS[lock], self.now)

    def ipi_wait(self, v, _, other):
        self.vm.ipi_wait(v, other)
        probe(self.m, self.first + v, isa.PROBE_IPI_WAIT, other, self.now)

    def ipi_acked(self, v, _, other):
        self.vm.ipi_acked(v, other)
        probe(self.m, self.first + v, isa.PROBE_IPI_ACKED, other, self.now)

    def operation_done(self, v, *_):
        self.vm.operation_done(v)
        probe(self.m, self.first + v, isa.PROBE_OPERATION_DONE, 0, self.now)

    def take_interrupts(self, v, _, other):
        self.vm.vcpus[v].takes_interrupts = other % 2 == 1
        self.m.cpu[self.first + v].interrupt_flag = other % 2

    def handle(self, v, _, other):
        self.vm.vcpus[v].handling = other % 2 == 1
        self.m.cpu.isr[self.first + v, 3] = other % 2

    def schedule(self, v, _, other):
        self.vm.vcpus[v].runnable, self.vm.vcpus[v].on_pcpu = other % 3 != 0, other % 3 == 1
        self.m.task.state[self.first + v] = TASK_INTERRUPTIBLE if other % 3 == 0 else TASK_RUNNING
        self.m.rq.curr[self.first + v] = self.first + v if other % 3 == 1 else -1

    def closures(self, me):
        closure_alone(self.m, self.first + me)
        vcpus = range(len(self.vm.vcpus))
        marks = [mark_alone(self.m, self.first + v) for v in vcpus]
        assert all(mark_alone(self.m, v) == 0 for v in range(self.first))
        return (
            {v for v in vcpus if marks[v] & frontier.IN_CLOSURE},
            {v for v in vcpus if marks[v] & frontier.CAN_ACT},
            {v for v in vcpus if awaited_alone(self.m, self.first + v)},
        )


STEPS = [name for name in vars(Twins) if not name.startswith("_") and name != "closures"]


@st.composite
def histories(draw):
    """A VM, and what its vCPUs do in turn."""
    vcpus = draw(st.integers(2, 6) | st.just(67))
    who = st.integers(0, vcpus - 1)
    often = st.sampled_from(["lock_wait", "locked_operation", "lock_acquired", "ipi_wait", "barrier_wait"])
    step = st.tuples(often | st.sampled_from(STEPS), who, st.sampled_from(sorted(LOCKS)), who)
    return vcpus, draw(st.integers(0, 3)), draw(st.lists(step, max_size=40))


@settings(max_examples=150)
@given(histories())
def test_closure_and_frontier_are_those_of_the_sets(history):
    """After any history of probes, and for every vCPU: the same C, the same who can act, the same frontier."""
    vcpus, first, steps = history
    twins = Twins(vcpus, first)
    for number, (name, v, lock, other) in enumerate(steps):
        twins.now = 10 + number
        getattr(twins, name)(v, lock, other)
    for me in {0, vcpus - 1} | {v for _, v, _, _ in steps}:
        note(f"vCPU {me}")
        assert twins.closures(me) == (*twins.vm.closure(me), twins.vm.frontier(me))


def test_reference_knows_the_chains_of_the_literature():
    """Holder, granted next in line, an answer while waiting: who can act is who the literature says."""
    twins = Twins(4, 1)
    twins.lock_acquired(0, "lock0", 0)
    for v in (1, 2, 3):
        twins.now = v
        twins.lock_wait(v, "lock0", 0)
        assert twins.closures(v)[0] == set(range(v))  # no place yet: behind all
        twins.locked_operation(v, "lock0", 0)
    assert twins.closures(3) == ({0, 1, 2}, {0}, {0})
    twins.lock_released(0, "lock0", 0)
    assert twins.closures(3) == ({1, 2}, {1}, {1})  # granted to 1, which may be off its pCPU
    assert twins.closures(1) == (set(), set(), set())
    twins.ipi_wait(0, "", 3)
    assert twins.closures(0) == ({1, 2, 3}, {1}, {1})  # with interrupts off, 3 must have the lock first
    twins.take_interrupts(3, "", 1)
    assert twins.closures(0) == ({3}, {3}, {3})


def test_table_of_locks_never_loses_a_lock_in_use():
    """However many locks are taken and freed: those that are held stay known, and the table does not grow."""
    m = machine(2, 0, locks=WAYS)
    held = [BASE + 8 * k for k in range(WAYS - 1)]
    for now, address in enumerate(held):
        probe(m, 0, isa.PROBE_LOCK_ACQUIRED, address, now)
    for k in range(1000):
        probe(m, 0, isa.PROBE_LOCK_ACQUIRED, 0x100000 + 8 * k, k)
        probe(m, 0, isa.PROBE_LOCK_RELEASED, 0x100000 + 8 * k, k)
    for address in held:
        probe(m, 1, isa.PROBE_LOCK_WAIT, address, 0)
        closure_alone(m, 1)
        assert mark_alone(m, 0) != 0
        probe(m, 1, isa.PROBE_OPERATION_DONE, 0, 0)
    assert m.lock.used.sum() >= len(held)


def test_lock_that_finds_no_room_is_left_out():
    """With all ways in use by locks that are held, one more is unknown: nothing is guessed."""
    m = machine(2, 0, locks=WAYS)
    for k in range(WAYS):
        probe(m, 0, isa.PROBE_LOCK_ACQUIRED, BASE + 8 * k, k)
    probe(m, 0, isa.PROBE_LOCK_ACQUIRED, BASE + 8 * WAYS, 0)
    probe(m, 1, isa.PROBE_LOCK_WAIT, BASE + 8 * WAYS, 0)
    assert m.waiting.depth[1] == 0
    probe(m, 0, isa.PROBE_LOCK_RELEASED, BASE, 0)
    probe(m, 1, isa.PROBE_LOCK_WAIT, BASE + 8 * WAYS, 0)
    assert m.waiting.depth[1] == 1


@pytest.mark.parametrize("value", [-1, 2, 2**62])
def test_answers_of_nobody_are_ignored(value):
    """An operand that is no vCPU of the VM changes nothing."""
    m = machine(2, 1)
    for number in (isa.PROBE_IPI_WAIT, isa.PROBE_IPI_ACKED):
        probe(m, 1, number, value, 0)
    assert not m.awaited.any()
    assert not m.answered.any()
    assert m.waiting.answers.sum() == 0
