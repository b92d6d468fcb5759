"""Why a scheduler follows a directed yield's hint, or does not: one number against its limit.

    CFS      how far the nominated task is ahead of the one with the smallest vruntime, against the wake-up granularity
             in the latter's virtual time: wakeup_preempt_entity(next, left) < 1 (v5.6 kernel/sched/fair.c)
    EEVDF    how far it is ahead of V, the average vruntime, against 0: up to that it is eligible, entity_eligible()
             (v6.6, v6.12); where no buddy counts, nobody asks
    chaos    nothing: the hint is obeyed

In virtual nanoseconds. It changes nothing. For the report alone.
"""

from pleemu.jit import compiled
from pleemu.scheduler.cfs import wakeup_gran
from pleemu.scheduler.eevdf import sums
from pleemu.scheduler.records import CFS, EEVDF

# What the nominated task must be, for the hint to count.
HINT_CLOSE, HINT_ELIGIBLE, HINT_IGNORED, HINT_OBEYED = range(4)


@compiled
def hint_test(m):
    """HINT_*, by what the scheduler decides about a hint."""
    model = m.tunables[0].model
    if model == CFS:
        return HINT_CLOSE
    if model == EEVDF:
        return HINT_ELIGIBLE if m.tunables[0].pick_buddy == 1 else HINT_IGNORED
    return HINT_OBEYED


@compiled
def hint_distance(m, q, task):
    """(distance, limit) of a task on run queue ``q``, right behind a pick; the hint is followed up to the limit."""
    model = m.tunables[0].model
    if model == CFS:
        return distance_from_first(m, q, task)
    if model == EEVDF:
        return distance_from_average(m, q, task), 0
    return 0, 0


@compiled
def distance_from_first(m, q, task):
    """CFS: ahead of the smallest vruntime, and the wake-up granularity."""
    rq = m.rq[q]
    left = rq.leftmost
    if left < 0 or (rq.curr >= 0 and m.task[rq.curr].vruntime < m.task[left].vruntime):
        left = rq.curr
    if left < 0:
        return 0, 0
    return m.task[task].vruntime - m.task[left].vruntime, wakeup_gran(m, left)


@compiled
def distance_from_average(m, q, task):
    """EEVDF: ahead of V, rounded down: above 0 exactly if the task is not eligible.

    `eevdf.avg_vruntime` would do, but with zero_vruntime it moves what the sums count from.
    """
    total, load = sums(m, q)
    average = total // load if load > 0 else 0
    return m.task[task].vruntime - m.rq[q].min_vruntime - average
