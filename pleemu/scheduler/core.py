"""The class-independent part of the scheduler (v5.6 kernel/sched/core.c): fork, wake-up, pick, yield_to.

Functions here decide; who is really switched to, and when, is the machine's business.
"""

from pleemu.jit import compiled
from pleemu.scheduler import cfs
from pleemu.scheduler.records import TASK_RUNNING

ESRCH = 3


@compiled
def wake_up_new_task(m, q, task, now):
    """A task is born on run queue ``q``, as a child of the task that runs there."""
    se = m.task[task]
    parent = m.rq[q].curr
    if parent >= 0:
        cfs.update_curr(m, q, now)
        se.vruntime = m.task[parent].vruntime
    cfs.place_entity(m, q, task, True)
    se.vruntime -= m.rq[q].min_vruntime
    se.state = TASK_RUNNING
    cfs.enqueue_entity(m, q, task, False, False, now)
    cfs.check_preempt_wakeup(m, q, task, now)


@compiled
def try_to_wake_up(m, q, task, now):
    """Wake a sleeping task on run queue ``q``; False if it is not asleep."""
    se = m.task[task]
    if se.state == TASK_RUNNING:
        return False
    migrated = se.cpu != q
    if migrated:
        se.vruntime -= m.rq[se.cpu].min_vruntime
        se.exec_start = 0
    se.state = TASK_RUNNING
    cfs.enqueue_entity(m, q, task, True, migrated, now)
    cfs.check_preempt_wakeup(m, q, task, now)
    return True


@compiled
def wake_up_process(m, p, task, now):
    """CPU ``p`` wakes a sleeping task; returns the run queue that it has been put on."""
    q = select_task_rq(m, p, task, now)
    try_to_wake_up(m, q, task, now)
    return q


@compiled
def select_task_rq(m, p, task, now):
    """Where a task that CPU ``p`` wakes shall run: where it slept."""
    return m.task[task].cpu


@compiled
def migrate_task(m, q, task, now):
    """Move a queued task that does not run to run queue ``q`` (load balancer)."""
    se = m.task[task]
    cfs.dequeue_entity(m, se.cpu, task, False, now)
    se.exec_start = 0
    cfs.enqueue_entity(m, q, task, False, False, now)
    cfs.check_preempt_wakeup(m, q, task, now)


@compiled
def pick_next_task(m, q, now):
    """__schedule(): the task that ``q`` runs from now on, -1 for idle; a sleeper leaves the queue."""
    rq = m.rq[q]
    prev = rq.curr
    if prev >= 0 and m.task[prev].state != TASK_RUNNING:
        cfs.dequeue_entity(m, q, prev, True, now)
    if rq.nr_running == 0:
        if prev >= 0:
            cfs.put_prev_entity(m, q, prev, now)
        rq.need_resched = 0
        return -1
    curr = -1
    if prev >= 0 and m.task[prev].on_rq == 1:
        cfs.update_curr(m, q, now)
        curr = prev
    chosen = forced_next(m, q)
    if chosen < 0:
        chosen = cfs.pick_next_entity(m, q, curr)
    if chosen != prev:
        if prev >= 0:
            cfs.put_prev_entity(m, q, prev, now)
        cfs.set_next_entity(m, q, chosen, now)
    # If the running task is picked again nothing is set anew: its slice goes on.
    rq.need_resched = 0
    return chosen


@compiled
def forced_next(m, q):
    """Whom the policy `ideal` has named, once, whatever the scheduler thinks of it; -1 nobody. No kernel does this."""
    task = m.rq[q].forced - 1
    m.rq[q].forced = 0
    if task < 0 or m.task[task].on_rq == 0 or m.task[task].cpu != q or m.task[task].state != TASK_RUNNING:
        return -1
    cfs.clear_buddies(m, q, task)
    return task


@compiled
def scheduler_tick(m, q, now):
    """The tick of a CPU; nothing for the idle task."""
    if m.rq[q].curr >= 0:
        cfs.task_tick_fair(m, q, now)


@compiled
def yield_to(m, q, task, now):
    """The running task of ``q`` asks that ``task`` run: 1 asked, 0 not possible, -ESRCH nobody else on either queue.

    1 means that the caller must call schedule() now; if the task is queued elsewhere the
    caller must also make that CPU reschedule. It does not mean that ``task`` will run.
    """
    se = m.task[task]
    other = m.rq[se.cpu]
    if m.rq[q].nr_running == 1 and other.nr_running == 1:
        return -ESRCH
    if other.curr == task or se.state != TASK_RUNNING:
        return 0
    if not cfs.yield_to_task_fair(m, q, task, now):
        return 0
    if se.cpu != q:
        other.need_resched = 1
    return 1
