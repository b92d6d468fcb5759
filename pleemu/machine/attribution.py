"""What each PAUSE exit waited for, and why that did not come: counted by place, by wait and by cause.

    wait     from the probes: an exclusive lock, a shared one, an answer, a barrier; or none is known
    cause    where they stand at last, for whom the spinner waits, directly or through others:

    running            somebody who can act is on a pCPU: wait a little
    holder preempted   it has a lock, and no pCPU (lock-holder preemption, LHP)
    waiter preempted   it is the next to have a lock that nobody has, and has no pCPU (lock-waiter preemption, LWP)
    target preempted   it owes an answer, and has no pCPU
    absent             it has yet to arrive at a barrier, and has no pCPU
    halted             it sleeps, until an interrupt or a kick
    own turn           the spinner waits for nobody any more, but may not have noticed
    nobody can act     all of them wait for each other
    unknown            no probe says what it waits for

Of a preempted waiter it is counted, too, at which instruction it stands: of the queued spinlock's three loops
(pending bit, node, head of the queue) each is a lock-waiter preemption of its own.
"""

from pleemu.jit import compiled
from pleemu.machine.frontier import BY_ANSWER, CAN_ACT, mark_of
from pleemu.observe.records import (
    ABSENT,
    HALTED,
    HOLDER_PREEMPTED,
    NOBODY_CAN_ACT,
    OWN_TURN,
    PLACES,
    PLACES_TRIED,
    RUNS,
    TARGET_PREEMPTED,
    UNKNOWN_CAUSE,
    WAIT_DEPTH,
    WAITER_PREEMPTED,
    WAITS_AT_BARRIER,
    WAITS_FOR_ANSWER,
    WAITS_FOR_LOCK,
    WAITS_TO_SHARE,
    WAITS_UNKNOWN,
)
from pleemu.observe.waits import is_waiting
from pleemu.scheduler.records import TASK_RUNNING


@compiled
def attribute_exit(m, me):
    """Count a PAUSE exit of ``me``, whose closure and whose useful ones are marked."""
    cause, preempted = cause_of(m, me)
    row = m.attributed[place_of(m, me)]
    row.exits += 1
    row.cause[cause] += 1
    if cause == WAITER_PREEMPTED:
        m.waiter_at[m.vcpu[me].vm, m.cpu[preempted].pc] += 1


@compiled
def wait_of(m, me):
    """What kind of wait it is, and for what object: an address, 0 where there is none."""
    waiting = m.waiting[me]
    if waiting.answers > 0:
        return WAITS_FOR_ANSWER, 0
    if waiting.depth == 0 or waiting.depth > WAIT_DEPTH:
        return waiting.over, waiting.over_at if waiting.over == WAITS_AT_BARRIER else 0
    row = m.lock[waiting.lock[waiting.depth - 1]]
    if row.barrier == 1:
        return WAITS_AT_BARRIER, row.address
    return WAITS_TO_SHARE if waiting.shared[waiting.depth - 1] == 1 else WAITS_FOR_LOCK, row.address


@compiled
def place_of(m, me):
    """Index of the row for this place and this wait; the last one takes what finds no room."""
    vm, pc = m.vcpu[me].vm, m.cpu[me].pc
    wait, address = wait_of(m, me)
    first = ((address >> 2) * 0x9E3779B1 + pc * 0x85EBCA6B + vm * 0x27D4EB2F + wait * 0x165667B1) & 0x7FFFFFFF
    for k in range(PLACES_TRIED):
        place = (first + k) % PLACES
        row = m.attributed[place]
        if row.exits == 0:
            row.vm, row.pc, row.wait, row.address = vm, pc, wait, address
            return place
        if row.pc == pc and row.address == address and row.wait == wait and row.vm == vm:
            return place
    return PLACES


@compiled
def cause_of(m, me):
    """Why what ``me`` waits for does not come, and the preempted vCPU that is the cause, -1 none."""
    if not is_waiting(m, me):
        return UNKNOWN_CAUSE if m.waiting[me].over == WAITS_UNKNOWN else OWN_TURN, -1
    vm = m.vm[m.vcpu[me].vm]
    cause, preempted = NOBODY_CAN_ACT, -1
    awaits_anybody = False
    for v in range(vm.first_vcpu, vm.first_vcpu + vm.vcpus):
        mark = mark_of(m, v)
        if mark == 0:
            continue
        awaits_anybody = True
        if mark & CAN_ACT == 0:
            continue
        found = cause_at(m, me, v, mark)
        if found < cause:
            cause, preempted = found, v
    return (cause, preempted) if awaits_anybody else (OWN_TURN, -1)


@compiled
def cause_at(m, me, v, mark):
    """Why ``v``, who can act, has not done so yet. Causes are in the order in which they count."""
    number = m.vcpu[v].id
    if m.vcpu[v].useful == 0:
        return RUNS if m.task[v].state == TASK_RUNNING else HALTED
    if mark & BY_ANSWER != 0 or (m.awaited[me, number >> 6] >> (number & 63)) & 1 == 1:
        return TARGET_PREEMPTED
    if m.waiting[v].holds > 0:
        return HOLDER_PREEMPTED
    return WAITER_PREEMPTED if m.waiting[v].depth > 0 else ABSENT
