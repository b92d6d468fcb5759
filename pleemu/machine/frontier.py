"""Ground truth: whom a spinning vCPU waits for, at last (the graph itself: `observe.waits`).

    C(me)           everyone that ``me`` waits for, directly or through others
    can act         a member that waits for nobody itself: what it does next brings ``me`` nearer to its goal
    frontier(me)    those of C(me) that can act, are runnable and are not on a pCPU: whom to boost

Who waits for whom:
* for a lock: for all of its holders, but who shares it, only for those that do not; if it serves in order, also for
  those who took their places earlier;
* at a barrier: for all who have yet to arrive;
* for an answer: for who is to give it. Who waits for something itself can answer all the same if it takes
  interrupts, or is in the handler already.

A lock that nobody holds and nobody is before you in is no wait: you only have to run. A granted lock whose next owner
is preempted has that owner in the frontier of all others.
"""

from pleemu.jit import compiled
from pleemu.observe.records import WAIT_DEPTH
from pleemu.observe.waits import is_handling
from pleemu.scheduler.records import TASK_RUNNING

# waiting.mark
IN_CLOSURE, CAN_ACT, FOLLOWED, BY_ANSWER = 1, 2, 4, 8  # BY_ANSWER: it can act because it owes an answer


@compiled
def mark_closure(m, me):
    """Mark the members of C(me) with a new stamp; returns how many ``me`` waits for directly."""
    m.journal[0].stamp += 1
    todo, direct = follow(m, me, me, 0)
    done = 0
    is_kept_out, first_place = look_along_line(m, me)
    while done < todo:
        v = m.todo[done]
        done += 1
        if first_place > 0 and is_ahead_in_line(m, me, v):
            # All that it waits for ``me`` waits for, too.
            acts = not is_kept_out and m.cpu[v].place == first_place
        else:
            todo, edges = follow(m, me, v, todo)
            acts = edges == 0
        if acts:
            m.waiting[v].mark |= CAN_ACT
    return direct


@compiled
def look_along_line(m, me):
    """Of the lock in order that ``me`` waits for: does a holder keep the line out, and the first place, 0 if none."""
    waiting, vm = m.waiting[me], m.vm[m.vcpu[me].vm]
    if waiting.depth == 0 or waiting.depth > WAIT_DEPTH:
        return False, 0
    lock = waiting.lock[waiting.depth - 1]
    if m.lock[lock].in_order == 0:
        return False, 0
    first_place = 0
    for v in range(vm.first_vcpu, vm.first_vcpu + vm.vcpus):
        place = place_in(m, v, lock)
        if place > 0 and (first_place == 0 or place < first_place):
            first_place = place
    is_kept_out = False
    for word in range(m.holding.shape[1]):
        in_the_way = m.holding[lock, word]
        if waiting.shared[waiting.depth - 1] == 1:
            in_the_way &= ~m.sharing[lock, word]
        is_kept_out = is_kept_out or in_the_way != 0
    return is_kept_out, first_place


@compiled
def is_ahead_in_line(m, me, v):
    """Does ``v`` wait for the lock that ``me`` waits for, in the same way, before it, and for nothing else?"""
    mine, its = m.waiting[me], m.waiting[v]
    if its.answers > 0 or its.depth == 0 or its.depth > WAIT_DEPTH:
        return False
    lock = mine.lock[mine.depth - 1]
    place, own = m.cpu[me].place, m.cpu[v].place
    return (
        its.lock[its.depth - 1] == lock
        and its.shared[its.depth - 1] == mine.shared[mine.depth - 1]
        and own > 0
        and (place == 0 or own < place)
        and not holds(m, v, lock)
        and not holds(m, me, lock)
    )


@compiled
def holds(m, v, lock):
    """Does the vCPU hold the lock?"""
    number = m.vcpu[v].id
    return (m.holding[lock, number >> 6] >> (number & 63)) & 1 == 1


@compiled
def follow(m, me, v, todo):
    """Add whom ``v`` waits for to the closure of ``me``; returns the length of the list of work, and how many."""
    waiting = m.waiting[v]
    vm = m.vm[m.vcpu[v].vm]
    edges = 0
    if waiting.answers > 0:
        for number in range(vm.vcpus):
            if (m.awaited[v, number >> 6] >> (number & 63)) & 1 == 1:
                edges += 1
                todo = add(m, me, vm.first_vcpu + number, can_answer(m, vm.first_vcpu + number), todo)
    if waiting.depth == 0 or waiting.depth > WAIT_DEPTH:
        return todo, edges
    lock = waiting.lock[waiting.depth - 1]
    if m.lock[lock].holders > 0:
        for number in range(vm.vcpus):
            in_the_way = m.holding[lock, number >> 6]
            if waiting.shared[waiting.depth - 1] == 1:
                in_the_way &= ~m.sharing[lock, number >> 6]
            if (in_the_way >> (number & 63)) & 1 == 1 and vm.first_vcpu + number != v:
                edges += 1
                todo = add(m, me, vm.first_vcpu + number, False, todo)
    place = m.cpu[v].place
    if m.lock[lock].in_order == 1:
        for other in range(vm.first_vcpu, vm.first_vcpu + vm.vcpus):
            if other != v and is_before(m, other, lock, place):
                edges += 1
                todo = add(m, me, other, False, todo)
    return todo, edges


@compiled
def add(m, me, v, acts, todo):
    """Make ``v`` a member, unless it is ``me``; if it cannot act at once, what it waits for is to be followed."""
    if v == me:
        return todo
    waiting = m.waiting[v]
    if waiting.stamp != m.journal[0].stamp:
        waiting.stamp = m.journal[0].stamp
        waiting.mark = IN_CLOSURE
    if acts:
        waiting.mark |= CAN_ACT | BY_ANSWER
    elif waiting.mark & FOLLOWED == 0:
        waiting.mark |= FOLLOWED
        m.todo[todo] = v
        todo += 1
    return todo


@compiled
def is_before(m, v, lock, place):
    """Does ``v`` wait for the lock, too, in an earlier place? Without one, 0, all places are earlier."""
    own = place_in(m, v, lock)
    return own > 0 and (place == 0 or own < place)


@compiled
def place_in(m, v, lock):
    """The place in which ``v`` waits for the lock, 0 if it does not, or has none yet."""
    waiting = m.waiting[v]
    for level in range(min(waiting.depth, WAIT_DEPTH)):
        if waiting.lock[level] == lock:
            return m.cpu[v].place if level == waiting.depth - 1 else waiting.place[level]
    return 0


@compiled
def can_answer(m, v):
    """Can ``v`` acknowledge an interrupt as soon as it runs, even if it waits for a lock itself?"""
    waiting, cpu = m.waiting[v], m.cpu[v]
    if cpu.interrupt_flag == 1:
        return True
    if not is_handling(cpu):
        return False
    return not 0 < waiting.depth <= WAIT_DEPTH or waiting.handling[waiting.depth - 1] == 0


@compiled
def mark_of(m, v):
    """IN_CLOSURE, CAN_ACT and BY_ANSWER of a vCPU, in the latest closure; 0 outside."""
    return m.waiting[v].mark & (IN_CLOSURE | CAN_ACT | BY_ANSWER) if m.waiting[v].stamp == m.journal[0].stamp else 0


@compiled
def is_awaited(m, v):
    """Is the vCPU in the frontier of the latest closure?

    Whom the policy `ideal` has forced already is on its way to a pCPU.
    """
    task = m.task[v]
    rq = m.rq[task.cpu]
    if mark_of(m, v) & CAN_ACT == 0 or task.state != TASK_RUNNING or task.on_rq == 0:
        return False
    return rq.curr != v and rq.forced != v + 1
