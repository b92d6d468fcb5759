"""A scheduler for finding bugs: first in, first out, and nothing else decides, but preemption points.

    a thread becomes runnable     to the tail of its queue; it preempts nobody, an idle CPU takes it
    the running one blocks        the first of the queue is next
    the tick                      the running one goes to the tail: round robin, so nobody waits for ever
    yield_to                      the target is next on its queue, the yielder goes to the tail of its own
    a preemption point            the thread that it names is next, the preempted one goes to the tail

Except for the points (`preemption`) all of it follows from what the guests do, so a run is
its scenario and its points. No model of any kernel: it is fair enough that whatever does not
come to its end here has a bug, and free enough to show it.

The queue is rq->cfs_tasks (`mru`): who comes stands at its head, the first one in line at its tail. The running
task is not in it but counts in `nr_running`.
"""

from pleemu.jit import compiled
from pleemu.scheduler.mru import list_add, list_del
from pleemu.scheduler.records import TASK_RUNNING


@compiled
def is_queued(m, q, task):
    """Does ``task`` wait on queue ``q``?"""
    return task >= 0 and m.task[task].on_rq == 1 and m.task[task].cpu == q and m.rq[q].curr != task


@compiled
def activate(m, q, task):
    """A task is runnable from now on, on CPU ``q``."""
    rq, se = m.rq[q], m.task[task]
    se.state = TASK_RUNNING
    se.on_rq = 1
    se.cpu = q
    rq.nr_running += 1
    list_add(m, q, task)
    if rq.curr < 0:
        rq.need_resched = 1


@compiled
def migrate(m, q, task):
    """Move a task that waits to queue ``q``."""
    old = m.rq[m.task[task].cpu]
    list_del(m, m.task[task].cpu, task)
    old.nr_running -= 1
    if old.next == task:
        old.next = -1
    if old.chosen == task:
        old.chosen = -1
    activate(m, q, task)


@compiled
def pick(m, q):
    """The task that ``q`` runs from now on, -1 for idle: who was chosen by a point, then by a yield, then the first."""
    rq = m.rq[q]
    prev = rq.curr
    rq.curr = -1
    if prev >= 0:
        if m.task[prev].state == TASK_RUNNING:
            list_add(m, q, prev)
        else:
            m.task[prev].on_rq = 0
            rq.nr_running -= 1
    task = rq.mru_tail
    if is_queued(m, q, rq.chosen):
        task = rq.chosen
    elif is_queued(m, q, rq.next):
        task = rq.next
    rq.chosen = -1
    if rq.next == task:
        rq.next = -1
    if task >= 0:
        list_del(m, q, task)
    rq.curr = task
    rq.need_resched = 0
    return task


@compiled
def tick(m, q):
    """Round robin, if somebody waits."""
    if m.rq[q].nr_running > 1:
        m.rq[q].need_resched = 1


@compiled
def yield_to_task(m, task):
    """The target of a directed yield is the next one of its queue: a hint that is always obeyed."""
    if m.task[task].on_rq == 0:
        return False
    m.rq[m.task[task].cpu].next = task
    return True
