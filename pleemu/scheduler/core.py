"""The class-independent part of the scheduler (kernel/sched/core.c): fork, wake-up, pick, tick, yields.

Functions here decide; who is really switched to, and when, is the machine's business. What the
class of the host's tasks does is behind the functions at the end of the file, one for each
operation of `struct sched_class`: that is where a kind of scheduler is chosen, and nowhere else.
"""

from pleemu.jit import compiled
from pleemu.scheduler import cfs, chaos, eevdf
from pleemu.scheduler.account import (
    DEQUEUE_SLEEP,
    DEQUEUE_SPECIAL,
    ENQUEUE_MIGRATED,
    ENQUEUE_WAKEUP,
    clear_buddies,
)
from pleemu.scheduler.debooster import deboost
from pleemu.scheduler.mru import list_move
from pleemu.scheduler.placement import end_idle, select_task_rq
from pleemu.scheduler.records import CFS, CHAOS, TASK_DEAD, TASK_INTERRUPTIBLE, TASK_RUNNING

ESRCH = 3


@compiled
def wake_up_new_task(m, q, task, now):
    """A task is born on run queue ``q``, as a child of the task that runs there."""
    if m.tunables[0].model == CHAOS:
        chaos.activate(m, q, task)
        return
    m.task[task].cpu = q
    m.task[task].state = TASK_RUNNING
    task_fork(m, q, task, now)
    wakeup_preempt(m, q, task, True, now)


@compiled
def try_to_wake_up(m, q, task, now):
    """Wake a sleeping task on run queue ``q``; False if it is not asleep.

    One whose dequeue is delayed is still on its own queue, and stays there.
    """
    se = m.task[task]
    if se.state != TASK_INTERRUPTIBLE:
        return False
    if m.tunables[0].model == CHAOS:
        chaos.activate(m, q, task)
        return True
    if se.on_rq == 1:
        q = se.cpu
        if se.sched_delayed == 1:
            eevdf.requeue_delayed_entity(m, q, task)
        se.state = TASK_RUNNING
    else:
        migrated = se.cpu != q
        set_task_cpu(m, q, task)
        se.state = TASK_RUNNING
        enqueue_task(m, q, task, ENQUEUE_WAKEUP | (ENQUEUE_MIGRATED if migrated else 0), now)
    wakeup_preempt(m, q, task, False, now)
    return True


@compiled
def wake_up_process(m, p, task, now):
    """CPU ``p`` wakes a sleeping task; returns the run queue that it is on then."""
    q = m.task[task].cpu
    if m.task[task].on_rq == 0:
        q = select_task_rq(m, p, task, now)
    try_to_wake_up(m, q, task, now)
    end_idle(m, q, now)
    return q


@compiled
def migrate_task(m, q, task, now):
    """Move a queued task that does not run to run queue ``q`` (load balancer)."""
    if m.tunables[0].model == CHAOS:
        chaos.migrate(m, q, task)
        return
    dequeue_task(m, m.task[task].cpu, task, 0, now)
    set_task_cpu(m, q, task)
    enqueue_task(m, q, task, ENQUEUE_MIGRATED, now)
    wakeup_preempt(m, q, task, False, now)


@compiled
def set_task_cpu(m, q, task):
    """A task that is on no queue goes to ``q``."""
    if m.task[task].cpu != q:
        migrate_task_rq(m, task)
        m.task[task].cpu = q


@compiled
def wakeup_preempt(m, q, task, fork, now):
    """``task`` has become runnable: must the running task reschedule (before v6.6: check_preempt_curr)?"""
    rq = m.rq[q]
    if rq.curr < 0:
        rq.need_resched = 1
    elif rq.curr != task:
        check_preempt(m, q, task, fork, now)


@compiled
def pick_next_task(m, q, now):
    """__schedule(): the task that ``q`` runs from now on, -1 for idle; a sleeper leaves the queue."""
    if m.tunables[0].model == CHAOS:
        m.rq[q].forced = 0  # it obeys anyway, if no preemption point comes first
        return chaos.pick(m, q)
    rq = m.rq[q]
    prev = rq.curr
    if prev >= 0 and m.task[prev].state != TASK_RUNNING:
        special = DEQUEUE_SPECIAL if m.task[prev].state == TASK_DEAD else 0
        dequeue_task(m, q, prev, DEQUEUE_SLEEP | special, now)
    chosen = forced_next(m, q)
    if chosen < 0:
        chosen = pick_task(m, q, now)
    if chosen != prev:
        if prev >= 0:
            put_prev_task(m, q, prev, now)
        if chosen >= 0:
            set_next_task(m, q, chosen, now)
    # If the running task is picked again nothing is set anew: its slice goes on.
    if chosen >= 0 and (chosen != prev or m.tunables[0].repick_moves == 1):
        list_move(m, q, chosen)
    rq.need_resched = 0
    return chosen


@compiled
def forced_next(m, q):
    """Whom the policy `ideal` has named, once, whatever the scheduler thinks of it; -1 nobody. No kernel does this.

    Who sleeps by now, even if its dequeue is delayed, or has been moved to another queue is not forced.
    """
    task = m.rq[q].forced - 1
    m.rq[q].forced = 0
    if task < 0 or m.task[task].on_rq == 0 or m.task[task].cpu != q or m.task[task].state != TASK_RUNNING:
        return -1
    clear_buddies(m, q, task)
    return task


@compiled
def scheduler_tick(m, q, now):
    """The tick of a CPU; nothing for the idle task."""
    if m.tunables[0].model == CHAOS:
        chaos.tick(m, q)
    elif m.rq[q].curr >= 0:
        task_tick(m, q, now)


@compiled
def sched_yield(m, q, now):
    """The running task of ``q`` gives way; the caller must call schedule() now."""
    yield_task(m, q, now)


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
    if m.tunables[0].model == CHAOS:
        taken = chaos.yield_to_task(m, task)
    else:
        taken = yield_to_task(m, q, task, now)
    if not taken:
        return 0
    if se.cpu != q:
        other.need_resched = 1
    return 1


# The operations of the class.


@compiled
def task_fork(m, q, task, now):
    """A new task joins the queue."""
    if m.tunables[0].model == CFS:
        cfs.task_fork_fair(m, q, task, now)
    else:
        eevdf.task_fork_fair(m, q, task, now)


@compiled
def migrate_task_rq(m, task):
    """A task is about to leave its CPU for another."""
    if m.tunables[0].model == CFS:
        cfs.migrate_task_rq_fair(m, task)


@compiled
def enqueue_task(m, q, task, flags, now):
    """A task joins the queue; flags ENQUEUE_*."""
    if m.tunables[0].model == CFS:
        cfs.enqueue_entity(m, q, task, flags, now)
    else:
        eevdf.enqueue_entity(m, q, task, flags, now)


@compiled
def dequeue_task(m, q, task, flags, now):
    """A task leaves the queue, or (EEVDF) is to leave it soon; flags DEQUEUE_*."""
    if m.tunables[0].model == CFS:
        cfs.dequeue_entity(m, q, task, flags, now)
    else:
        eevdf.dequeue_entity(m, q, task, flags, now)


@compiled
def check_preempt(m, q, task, fork, now):
    """Does a task that has become runnable, here by a fork or not, preempt the running one?"""
    if m.tunables[0].model == CFS:
        cfs.check_preempt_wakeup(m, q, task, fork, now)
    else:
        eevdf.check_preempt_wakeup_fair(m, q, task, fork, now)


@compiled
def pick_task(m, q, now):
    """Who shall run, -1 nobody; the running task may be chosen again."""
    if m.tunables[0].model == CFS:
        return cfs.pick_task_fair(m, q, now)
    return eevdf.pick_task_fair(m, q, now)


@compiled
def put_prev_task(m, q, task, now):
    """The running task stops running."""
    if m.tunables[0].model == CFS:
        cfs.put_prev_entity(m, q, task, now)
    else:
        eevdf.put_prev_entity(m, q, task, now)


@compiled
def set_next_task(m, q, task, now):
    """A task begins to run."""
    if m.tunables[0].model == CFS:
        cfs.set_next_entity(m, q, task, now)
    else:
        eevdf.set_next_entity(m, q, task, now)


@compiled
def task_tick(m, q, now):
    """The timer interrupts the running task."""
    if m.tunables[0].model == CFS:
        cfs.task_tick_fair(m, q, now)
    else:
        eevdf.update_curr(m, q, now)


@compiled
def yield_task(m, q, now):
    """The running task gives way."""
    if m.tunables[0].model == CFS:
        cfs.yield_task_fair(m, q, now)
    else:
        eevdf.yield_task_fair(m, q, now)


@compiled
def yield_to_task(m, q, task, now):
    """The running task gives way to ``task``, wherever that is queued; False if it is not (yield_to_task_fair)."""
    if m.task[task].on_rq == 0:
        return False
    m.rq[m.task[task].cpu].next = task
    deboost(m, q, task, now)
    yield_task(m, q, now)
    return True
