"""Why a scheduler follows a directed yield's hint, or does not: one number against its limit.

    CFS      how far the nominated task is ahead of the one with the smallest vruntime, against the wake-up granularity
             in the latter's virtual time: wakeup_preempt_entity(next, left) < 1 (v5.6 kernel/sched/fair.c)

In virtual nanoseconds. It changes nothing. For the report alone.
"""

from pleemu.jit import compiled
from pleemu.scheduler.cfs import wakeup_gran


@compiled
def hint_distance(m, q, task):
    """(distance, limit) of a task on run queue ``q``, right behind a pick; the hint is followed up to the limit."""
    rq = m.rq[q]
    left = rq.curr
    if rq.queued > 0 and (left < 0 or m.task[m.tree[q, 0]].vruntime < m.task[left].vruntime):
        left = m.tree[q, 0]
    if left < 0:
        return 0, 0
    return m.task[task].vruntime - m.task[left].vruntime, wakeup_gran(m, left)
