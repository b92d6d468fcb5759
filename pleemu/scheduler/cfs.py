"""The Completely Fair Scheduler of Linux v5.6 (kernel/sched/fair.c), one flat queue a CPU.

Every function bears the kernel's name. ``q`` is the number of a run queue, tasks are
numbers too, -1 is NULL, and ``now`` is rq->clock_task in nanoseconds.
"""

from pleemu.jit import compiled
from pleemu.scheduler.account import (
    DEQUEUE_SLEEP,
    ENQUEUE_MIGRATED,
    ENQUEUE_WAKEUP,
    account_entity_dequeue,
    account_entity_enqueue,
    clear_buddies,
)
from pleemu.scheduler.records import TASK_RUNNING
from pleemu.scheduler.tree import insert, remove, successor
from pleemu.scheduler.weights import calc_delta_fair, inverse_of, scale


@compiled
def update_curr(m, q, now):
    """Charge the running task for the time since it was last charged."""
    curr = m.rq[q].curr
    if curr < 0:
        return
    se = m.task[curr]
    delta = now - se.exec_start
    if delta <= 0:
        return
    se.exec_start = now
    se.sum_exec_runtime += delta
    se.vruntime += calc_delta_fair(delta, se)
    update_min_vruntime(m, q)


@compiled
def update_min_vruntime(m, q):
    """Follow the smallest vruntime of the queue, never back."""
    rq = m.rq[q]
    left = m.rq[q].leftmost
    has_curr = rq.curr >= 0 and m.task[rq.curr].on_rq == 1
    if has_curr:
        smallest = m.task[rq.curr].vruntime
        if left >= 0:
            smallest = min(smallest, m.task[left].vruntime)
    elif left >= 0:
        smallest = m.task[left].vruntime
    else:
        return
    rq.min_vruntime = max(rq.min_vruntime, smallest)


@compiled
def sched_slice(m, q, task):
    """Share of the period that a task may run, by weight."""
    rq, se, tunables = m.rq[q], m.task[task], m.tunables[0]
    absent = 1 - se.on_rq
    running = rq.nr_running + absent
    period = tunables.latency
    if running > tunables.nr_latency:
        period = running * tunables.min_granularity
    return scale(period, se.weight, inverse_of(rq.load + absent * se.weight))


@compiled
def place_entity(m, q, task, initial):
    """START_DEBIT: a new task owes a slice. A sleeper gets a latency of credit, or half (GENTLE_FAIR_SLEEPERS)."""
    se, tunables = m.task[task], m.tunables[0]
    vruntime = m.rq[q].min_vruntime
    if initial:
        if tunables.start_debit == 1:
            vruntime += calc_delta_fair(sched_slice(m, q, task), se)
    else:
        vruntime -= tunables.latency >> tunables.gentle_fair_sleepers
    se.vruntime = max(se.vruntime, vruntime)


@compiled
def task_fork_fair(m, q, task, now):
    """A new task joins the queue, as a child of the task that runs there."""
    se = m.task[task]
    parent = m.rq[q].curr
    if parent >= 0:
        update_curr(m, q, now)
        se.vruntime = m.task[parent].vruntime
    place_entity(m, q, task, True)
    se.vruntime -= m.rq[q].min_vruntime
    enqueue_entity(m, q, task, 0, now)


@compiled
def migrate_task_rq_fair(m, task):
    """A task leaves its run queue for another; that of a sleeper is still absolute."""
    se = m.task[task]
    if se.state != TASK_RUNNING:
        se.vruntime -= m.rq[se.cpu].min_vruntime
    se.exec_start = 0


@compiled
def enqueue_entity(m, q, task, flags, now):
    """Queue a task; its vruntime is relative to min_vruntime unless it wakes where it slept."""
    update_curr(m, q, now)
    if flags & (ENQUEUE_WAKEUP | ENQUEUE_MIGRATED) != ENQUEUE_WAKEUP:
        m.task[task].vruntime += m.rq[q].min_vruntime
    if flags & ENQUEUE_WAKEUP != 0:
        place_entity(m, q, task, False)
    account_entity_enqueue(m, q, task)
    insert(m, q, task)


@compiled
def dequeue_entity(m, q, task, flags, now):
    """Take a task off the queue; a sleeper keeps an absolute vruntime."""
    rq, se = m.rq[q], m.task[task]
    update_curr(m, q, now)
    clear_buddies(m, q, task)
    if task != rq.curr:
        remove(m, q, task)
    account_entity_dequeue(m, q, task)
    if flags & DEQUEUE_SLEEP == 0:
        se.vruntime -= rq.min_vruntime
    update_min_vruntime(m, q)


@compiled
def wakeup_gran(m, task):
    """Wake-up granularity in the virtual time of ``task``."""
    return calc_delta_fair(m.tunables[0].wakeup_granularity, m.task[task])


@compiled
def wakeup_preempt_entity(m, curr, task):
    """Should ``task`` preempt ``curr``: -1 it is not behind, 0 it is, but within granularity, 1 yes."""
    behind = m.task[curr].vruntime - m.task[task].vruntime
    if behind <= 0:
        return -1
    return 1 if behind > wakeup_gran(m, task) else 0


@compiled
def pick_task_fair(m, q, now):
    """Choose who runs, -1 nobody."""
    rq = m.rq[q]
    if rq.nr_running == 0:
        return -1
    curr = rq.curr
    if curr >= 0:
        if m.task[curr].on_rq == 1:
            update_curr(m, q, now)
        else:
            curr = -1
    return pick_next_entity(m, q, curr)


@compiled
def pick_next_entity(m, q, curr):
    """Choose who runs: leftmost, unless it is to be skipped, then last, then next, if not too unfair to it."""
    rq = m.rq[q]
    left = m.rq[q].leftmost
    if left < 0 or (curr >= 0 and m.task[curr].vruntime < m.task[left].vruntime):
        left = curr
    chosen = left
    if rq.skip >= 0 and rq.skip == chosen:
        if chosen == curr:
            second = m.rq[q].leftmost
        else:
            second = successor(m, chosen)
            if second < 0 or (curr >= 0 and m.task[curr].vruntime < m.task[second].vruntime):
                second = curr
        if second >= 0 and wakeup_preempt_entity(m, second, left) < 1:
            chosen = second
    if rq.last >= 0 and wakeup_preempt_entity(m, rq.last, left) < 1:
        chosen = rq.last
    if rq.next >= 0 and wakeup_preempt_entity(m, rq.next, left) < 1:
        chosen = rq.next  # the only place where a directed yield's hint is honoured
    clear_buddies(m, q, chosen)
    return chosen


@compiled
def set_next_entity(m, q, task, now):
    """Make a task the running one."""
    se = m.task[task]
    if se.on_rq == 1:
        remove(m, q, task)
    se.exec_start = now
    m.rq[q].curr = task
    se.prev_sum_exec_runtime = se.sum_exec_runtime


@compiled
def put_prev_entity(m, q, task, now):
    """The running task runs no more; back into the tree if it is runnable."""
    if m.task[task].on_rq == 1:
        update_curr(m, q, now)
        insert(m, q, task)
    m.rq[q].curr = -1


@compiled
def task_tick_fair(m, q, now):
    """The tick: end a slice that was used up, or one far ahead of the leftmost task (check_preempt_tick)."""
    rq = m.rq[q]
    update_curr(m, q, now)
    if rq.nr_running <= 1:
        return
    curr = m.task[rq.curr]
    ideal = sched_slice(m, q, rq.curr)
    ran = curr.sum_exec_runtime - curr.prev_sum_exec_runtime
    if ran > ideal:
        rq.need_resched = 1
        clear_buddies(m, q, rq.curr)
        return
    if ran < m.tunables[0].min_granularity:
        return
    # Virtual time against wall time, as the kernel has it.
    if curr.vruntime - m.task[m.rq[q].leftmost].vruntime > ideal:
        rq.need_resched = 1


@compiled
def check_preempt_wakeup(m, q, task, fork, now):
    """A task has become runnable: does it preempt the running one? Then it is the next buddy, too."""
    rq, tunables = m.rq[q], m.tunables[0]
    curr = rq.curr
    many = rq.nr_running >= tunables.nr_latency
    if tunables.next_buddy == 1 and many and not fork:
        rq.next = task
    if rq.need_resched == 1 or tunables.wakeup_preemption == 0:
        return
    update_curr(m, q, now)
    if wakeup_preempt_entity(m, curr, task) == 1:
        rq.next = task
        rq.need_resched = 1
        if many and tunables.last_buddy == 1 and m.task[curr].on_rq == 1:
            rq.last = curr


@compiled
def yield_task_fair(m, q, now):
    """The running task gives way: it becomes the skip buddy, unless it is alone."""
    rq = m.rq[q]
    if rq.nr_running == 1:
        return
    clear_buddies(m, q, rq.curr)
    update_curr(m, q, now)
    rq.skip = rq.curr


@compiled
def yield_to_task_fair(m, q, task, now):
    """The running task of ``q`` gives way to ``task``, wherever that is queued; False if it is not."""
    se = m.task[task]
    if se.on_rq == 0:
        return False
    m.rq[se.cpu].next = task
    if m.tunables[0].debooster == 1:
        deboost(m, q, task)
    yield_task_fair(m, q, now)
    return True


@compiled
def deboost(m, q, task):
    """Debooster: push the yielder to where ``task`` is no longer too unfair to it.

    As the authors' patch for v5.6 does it: both on the same queue, judged on the vruntime
    before update_curr charges what the yielder has run since; it only ever rises.
    Source: sslab-keio/ple-kvm, patch 1; RFC 20210421150831.60133-2.
    """
    if m.task[task].cpu != q:
        return
    yielder = m.rq[q].curr
    if wakeup_preempt_entity(m, task, yielder) >= 1:
        m.task[yielder].vruntime = m.task[task].vruntime - wakeup_gran(m, task)
