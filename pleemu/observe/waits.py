"""Ground truth: who waits for what, kept outside the guest from what its probes say.

    lock_wait L       a wait for L begins; a lock that serves in order is watched for the place that is taken
    lock_acquired L   the wait for L is over; one more holder
    lock_released L   one holder less
    lock_wait_over L  the wait for L is over, and the vCPU does not hold it: it has seen or got what it wanted
    ipi_wait T        one more acknowledgement that is awaited, unless T has just given it
    ipi_acked S       T has answered: one less for S
    barrier_wait B    the vCPU has arrived at B and waits for those that have not
    barrier_passed B  all have arrived: nobody waits at B any more, and for the next time nobody has arrived
    operation_done    whatever it was, the vCPU does not wait for it any more

A vCPU takes its **place** in a lock that serves in order by its latest LOCKed instruction that changed the
lock's word (8 bytes at its address, aligned) since `lock_wait`: the XADD of a ticket lock, the XCHG
of a queue's tail, the LOCK BTS of a pending bit. Until it has one, it is behind all who have.

A lock may be **shared**: who waits for it so, or has it so, keeps out only those that want it for themselves.

A **barrier** is held by all that have yet to arrive at it: those that came the last time, or, the first time, all
vCPUs that have not ended. It stands in the table of locks.

Nobody reads this but the policies that nominate by ground truth, and the reports. What is not known is left
out, never guessed: of a lock that no probe names nothing is known.
"""

from pleemu.hardware.isa import (
    LOCK_IN_ORDER,
    LOCK_SHARED,
    PROBE_BARRIER_PASSED,
    PROBE_BARRIER_WAIT,
    PROBE_IPI_ACKED,
    PROBE_IPI_WAIT,
    PROBE_LOCK_ACQUIRED,
    PROBE_LOCK_RELEASED,
    PROBE_LOCK_WAIT,
    PROBE_LOCK_WAIT_OVER,
    PROBE_OPERATION_DONE,
)
from pleemu.hardware.memory import readable
from pleemu.hardware.records import GUEST
from pleemu.jit import compiled
from pleemu.observe.records import (
    TOLD_MOVED,
    TOLD_OVER,
    WAIT_DEPTH,
    WAITS_AT_BARRIER,
    WAITS_FOR_ANSWER,
    WAITS_UNKNOWN,
    WAYS,
)
from pleemu.observe.tale import tell


@compiled
def follow_probe(m, v, instruction, value, now):
    """The vCPU passes a probe with an operand of ``value``."""
    probe = instruction.probe
    m.waiting[v].probes += 1
    m.waiting[v].over = WAITS_UNKNOWN
    if probe == PROBE_LOCK_WAIT:
        begin_wait(m, v, value, instruction.manner, now)
    elif probe == PROBE_LOCK_ACQUIRED:
        acquire(m, v, value, instruction.manner, now)
    elif probe == PROBE_LOCK_RELEASED:
        release(m, v, value, now)
    elif probe == PROBE_LOCK_WAIT_OVER:
        give_up(m, v, value, now)
    elif probe == PROBE_BARRIER_WAIT:
        arrive(m, v, value, now)
    elif probe == PROBE_BARRIER_PASSED:
        pass_barrier(m, v, value, now)
    elif probe == PROBE_IPI_WAIT:
        await_answer(m, v, value, now)
    elif probe == PROBE_IPI_ACKED:
        answer(m, v, value, now)
    elif probe == PROBE_OPERATION_DONE:
        forget_waits(m, v, now)


@compiled
def is_waiting(m, v):
    """Does the vCPU wait for a lock or an answer?"""
    return m.waiting[v].depth > 0 or m.waiting[v].answers > 0


# ---- Locks -------------------------------------------------------------------------------


@compiled
def begin_wait(m, v, address, manner, now):
    """lock_wait: from here on the vCPU wants the lock."""
    lock = find_lock(m, v, address, True)
    if lock >= 0:
        begin_wait_for(m, v, lock, manner, now)


@compiled
def begin_wait_for(m, v, lock, manner, now):
    """One more wait, inside those that there are."""
    begin_spin(m, v, now)
    waiting, cpu = m.waiting[v], m.cpu[v]
    level = waiting.depth
    waiting.depth += 1
    if level >= WAIT_DEPTH:
        return
    if level > 0:
        waiting.place[level - 1] = cpu.place
    row = m.lock[lock]
    row.in_order |= manner & LOCK_IN_ORDER
    row.waiters += 1
    waiting.lock[level] = lock
    waiting.shared[level] = 1 if manner & LOCK_SHARED != 0 else 0
    waiting.handling[level] = 1 if is_handling(cpu) else 0
    watch(m, v, 0)


@compiled
def watch(m, v, place):
    """From here on LOCKed changes of the innermost lock's word give the vCPU a place in it."""
    waiting, cpu = m.waiting[v], m.cpu[v]
    cpu.watched = 0
    cpu.place = place
    if 0 < waiting.depth <= WAIT_DEPTH:
        row = m.lock[waiting.lock[waiting.depth - 1]]
        space = m.space[cpu.space]
        offset = readable(space, row.address, 1)
        if row.in_order == 1 and offset >= 0:
            cpu.watched = space.first_word + (offset >> 3) + 1


@compiled
def acquire(m, v, address, manner, now):
    """lock_acquired: the wait for this lock is over, if there was one, and the waits inside it."""
    lock = find_lock(m, v, address, True)
    if lock < 0:
        return
    end_wait_for(m, v, lock, now)
    word, bit = m.vcpu[v].id >> 6, 1 << (m.vcpu[v].id & 63)
    if not holds(m, v, lock):
        m.holding[lock, word] |= bit
        m.lock[lock].holders += 1
        m.waiting[v].holds += 1
    m.sharing[lock, word] &= ~bit
    if manner & LOCK_SHARED != 0:
        m.sharing[lock, word] |= bit
    lock_moved(m, v, lock, PROBE_LOCK_ACQUIRED, now)


@compiled
def end_wait_for(m, v, lock, now):
    """If the vCPU waits for this lock, it does not any more, nor for what it wanted meanwhile."""
    waiting = m.waiting[v]
    for level in range(min(waiting.depth, WAIT_DEPTH)):
        if waiting.lock[level] == lock:
            end_waits(m, v, level, now)
            break


@compiled
def give_up(m, v, address, now):
    """lock_wait_over: the wait has ended without the lock."""
    lock = find_lock(m, v, address, False)
    if lock < 0:
        return
    end_wait_for(m, v, lock, now)
    free_if_unused(m, lock)


@compiled
def release(m, v, address, now):
    """lock_released: by who holds it; or by another vCPU, if only one does."""
    lock = find_lock(m, v, address, False)
    if lock < 0:
        return
    row = m.lock[lock]
    if holds(m, v, lock):
        let_go(m, v, lock)
    elif row.holders == 1:
        vm = m.vm[row.vm]
        for other in range(vm.first_vcpu, vm.first_vcpu + vm.vcpus):
            if holds(m, other, lock):
                let_go(m, other, lock)
    lock_moved(m, v, lock, PROBE_LOCK_RELEASED, now)
    free_if_unused(m, lock)


@compiled
def let_go(m, v, lock):
    """The vCPU is no holder of the lock any more."""
    m.holding[lock, m.vcpu[v].id >> 6] &= ~(1 << (m.vcpu[v].id & 63))
    m.lock[lock].holders -= 1
    m.waiting[v].holds -= 1


@compiled
def free_if_unused(m, lock):
    """Nothing is known of a lock that nobody holds or waits for."""
    if m.lock[lock].holders == 0 and m.lock[lock].waiters == 0:
        m.lock[lock].used = 0


@compiled
def end_waits(m, v, level, now):
    """The waits for locks from ``level`` on are over."""
    waiting = m.waiting[v]
    for inner in range(level, min(waiting.depth, WAIT_DEPTH)):
        m.lock[waiting.lock[inner]].waiters -= 1
        if waiting.unmoved_lock == waiting.lock[inner]:
            unwatch(m, v)
    waiting.depth = level
    watch(m, v, waiting.place[level - 1] if level > 0 else 0)
    end_spin_if_over(m, v, now)


@compiled
def holds(m, v, lock):
    """Does the vCPU hold the lock?"""
    number = m.vcpu[v].id
    return (m.holding[lock, number >> 6] >> (number & 63)) & 1 == 1


@compiled
def find_lock(m, v, address, make):
    """Index of a lock of the vCPU's VM; ``make`` one if it is new. -1: there is none, or its ways are all in use.

    A lock that nobody holds or waits for may lose its row to another: nothing is known of it that matters.
    """
    vm = m.vcpu[v].vm
    rows = m.lock.shape[0]
    first = (((address >> 2) * 0x9E3779B1 + vm * 0x85EBCA6B) & 0x7FFFFFFF) % (rows // WAYS) * WAYS
    free = -1
    for lock in range(first, first + WAYS):
        row = m.lock[lock]
        if row.used == 1 and row.address == address and row.vm == vm:
            return lock
        if free < 0 and (row.used == 0 or (row.holders == 0 and row.waiters == 0)):
            free = lock
    if not make or free < 0:
        return -1
    row = m.lock[free]
    row.used = 1
    row.vm = vm
    row.address = address
    row.holders = row.waiters = row.in_order = row.watched = row.barrier = 0
    m.holding[free, :] = 0
    m.sharing[free, :] = 0
    return free


# ---- Barriers --------------------------------------------------------------------------------


@compiled
def arrive(m, v, address, now):
    """barrier_wait: one less that the others wait for, and one more that waits."""
    barrier = find_lock(m, v, address, True)
    if barrier < 0:
        return
    row = m.lock[barrier]
    if row.barrier == 0:
        row.barrier = 1
        vm = m.vm[row.vm]
        for other in range(vm.first_vcpu, vm.first_vcpu + vm.vcpus):
            if m.waiting[other].ended == 0:
                has_yet_to_arrive(m, other, barrier)
    if holds(m, v, barrier):
        m.holding[barrier, m.vcpu[v].id >> 6] &= ~(1 << (m.vcpu[v].id & 63))
        row.holders -= 1
    lock_moved(m, v, barrier, PROBE_BARRIER_WAIT, now)
    begin_wait_for(m, v, barrier, 0, now)


@compiled
def has_yet_to_arrive(m, v, barrier):
    """The others will wait for this vCPU."""
    if not holds(m, v, barrier):
        m.holding[barrier, m.vcpu[v].id >> 6] |= 1 << (m.vcpu[v].id & 63)
        m.lock[barrier].holders += 1


@compiled
def pass_barrier(m, v, address, now):
    """barrier_passed: who waited here goes on, and the next time they are those that the others wait for."""
    barrier = find_lock(m, v, address, False)
    if barrier < 0 or m.lock[barrier].barrier == 0:
        return
    lock_moved(m, v, barrier, PROBE_BARRIER_PASSED, now)
    m.holding[barrier, :] = 0
    m.lock[barrier].holders = 0
    vm = m.vm[m.lock[barrier].vm]
    for other in range(vm.first_vcpu, vm.first_vcpu + vm.vcpus):
        waiting = m.waiting[other]
        for level in range(min(waiting.depth, WAIT_DEPTH)):
            if waiting.lock[level] == barrier:
                has_yet_to_arrive(m, other, barrier)
                waiting.over = WAITS_AT_BARRIER
                waiting.over_at = address
        end_wait_for(m, other, barrier, now)


# ---- Acknowledgements ----------------------------------------------------------------------


@compiled
def await_answer(m, v, target, now):
    """ipi_wait: unless the target has answered since the last such wait ended."""
    vm = m.vm[m.vcpu[v].vm]
    if target < 0 or target >= vm.vcpus:
        return
    word, bit = target >> 6, 1 << (m.vcpu[vm.first_vcpu + target].id & 63)
    if m.answered[v, word] & bit != 0:
        m.answered[v, word] &= ~bit
    elif m.awaited[v, word] & bit == 0:
        begin_spin(m, v, now)
        m.awaited[v, word] |= bit
        m.waiting[v].answers += 1


@compiled
def answer(m, v, sender, now):
    """ipi_acked: the request of ``sender`` is done; it may be told before it says that it waits."""
    vm = m.vm[m.vcpu[v].vm]
    if sender < 0 or sender >= vm.vcpus:
        return
    spinner = vm.first_vcpu + sender
    word, bit = m.vcpu[v].id >> 6, 1 << (m.vcpu[v].id & 63)
    if m.awaited[spinner, word] & bit == 0:
        m.answered[spinner, word] |= bit
        return
    m.awaited[spinner, word] &= ~bit
    waiting = m.waiting[spinner]
    waiting.answers -= 1
    if waiting.answers == 0:
        waiting.over = WAITS_FOR_ANSWER
    if waiting.unmoved_from >= 0 and waiting.unmoved_lock < 0:
        moved(m, spinner, v, PROBE_IPI_ACKED, now)
    end_spin_if_over(m, spinner, now)


# ---- A wait as a whole -----------------------------------------------------------------------


@compiled
def begin_spin(m, v, now):
    """The vCPU waits from here on, if it did not already."""
    waiting = m.waiting[v]
    if is_waiting(m, v):
        return
    waiting.spin_from = now
    waiting.exit = 0
    waiting.first_exit = waiting.unmoved_from = waiting.useful_from = -1


@compiled
def end_spin_if_over(m, v, now):
    """The vCPU may not wait for anything any more."""
    if is_waiting(m, v):
        return
    waiting = m.waiting[v]
    count_spin(m, v, now)
    unwatch(m, v)
    waiting.useful_from = -1
    if waiting.exit > 0:
        tell(m, waiting.exit, TOLD_OVER, now, v, 0, 0, 0)


@compiled
def forget_waits(m, v, now):
    """Whatever the vCPU waited for, it does not any more; and answers that it did not wait for are old."""
    m.answered[v, :] = 0
    if is_waiting(m, v):
        m.waiting[v].answers = 0
        m.awaited[v, :] = 0
        end_waits(m, v, 0, now)


@compiled
def end_of_thread(m, v, now):
    """guest_main has returned: the vCPU waits for nothing, and will do nothing more."""
    forget_waits(m, v, now)
    m.waiting[v].ended = 1


@compiled
def count_spin(m, v, now):
    """The vCPU stops executing instructions, or to wait, at ``now``: count its time in the guest since it waits.

    An answer can come while it is off its pCPU; its time in the guest ended before.
    """
    waiting, pcpu = m.waiting[v], m.pcpu[m.task[v].cpu]
    began = max(waiting.spin_from, m.vcpu[v].guest_from)
    if pcpu.vcpu == v and pcpu.phase == GUEST and began < now:
        waiting.spin_cycles += now - began
    waiting.spin_from = now


# ---- What a spinner waits for has moved ------------------------------------------------------------


@compiled
def lock_moved(m, v, lock, probe, now):
    """The lock was released or has been acquired: for everyone who waits for it with a PAUSE exit, it has moved."""
    if m.lock[lock].watched == 0:
        return
    vm = m.vm[m.lock[lock].vm]
    for other in range(vm.first_vcpu, vm.first_vcpu + vm.vcpus):
        waiting = m.waiting[other]
        if waiting.unmoved_from >= 0 and waiting.unmoved_lock == lock and other != v:
            moved(m, other, v, probe, now)


@compiled
def moved(m, spinner, by, probe, now):
    """What the spinner waits for has moved; ``by`` did it."""
    waiting = m.waiting[spinner]
    row = m.judged[m.vcpu[spinner].vm]
    after = now - waiting.unmoved_from
    row.releases += 1
    row.released_after += after
    row.released_most = max(row.released_most, after)
    unwatch(m, spinner)
    tell(m, waiting.exit, TOLD_MOVED, now, spinner, by, probe, 0)


@compiled
def watch_for_move(m, v, now):
    """A PAUSE exit of a waiting vCPU: from the first one on, how long until what it waits for moves?"""
    waiting = m.waiting[v]
    if waiting.first_exit < 0:
        waiting.first_exit = now
    if waiting.unmoved_from >= 0 or not is_waiting(m, v):
        return
    waiting.unmoved_from = now
    waiting.unmoved_lock = -1
    if waiting.answers == 0 and waiting.depth <= WAIT_DEPTH:
        waiting.unmoved_lock = waiting.lock[waiting.depth - 1]
        m.lock[waiting.unmoved_lock].watched += 1


@compiled
def unwatch(m, v):
    """Nobody asks any more when it moves."""
    waiting = m.waiting[v]
    if waiting.unmoved_from >= 0 and waiting.unmoved_lock >= 0:
        m.lock[waiting.unmoved_lock].watched -= 1
    waiting.unmoved_from = -1


@compiled
def is_handling(cpu):
    """Is an interrupt in service: taken, and not yet ended by EOI?"""
    return (cpu.isr[0] | cpu.isr[1] | cpu.isr[2] | cpu.isr[3]) != 0
