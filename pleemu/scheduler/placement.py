"""Where a task shall run that wakes or is born (v5.6 kernel/sched/fair.c, select_task_rq_fair).

    a wake-up     near the waker or where it slept (wake_affine), but not if the waker wakes too
                  many (wake_wide); from there the nearest idle CPU with the same last-level cache
    a new task    the idlest CPU of all that it may use

Reduced: all CPUs of the cache are looked at, where the kernel stops after a number that depends on how
long it has been idle (SIS_PROP); no wake-up is synchronous (KVM's are not).

DEVIATION: a task is queued at once by its waker. The kernel leaves that to an IPI if the chosen
CPU has another last-level cache (TTWU_QUEUE).
"""

from pleemu.jit import compiled
from pleemu.scheduler.domains import (
    SYSCTL_SCHED_MIGRATION_COST,
    cpus_share_cache,
    is_allowed,
    is_idle,
)

NSEC_PER_SEC = 1_000_000_000


@compiled
def select_task_rq(m, p, task, now):
    """Where a task that CPU ``p`` wakes shall run; a pinned one where it slept."""
    prev = m.task[task].cpu
    if m.placement[task].nr_cpus_allowed == 1:
        return prev
    waker = current_of(m, p)
    record_wakee(m, waker, task, now)
    want_affine = not wake_wide(m, p, waker, task) and is_allowed(m, task, p)
    target = prev
    if want_affine and p != prev and wake_affine(m, p, prev, task):
        target = p
    chosen = select_idle_sibling(m, task, prev, target)
    if want_affine:
        m.placement[waker].recent_used_cpu = p
    return chosen


@compiled
def current_of(m, p):
    """Index in `placement` of the task that runs on ``p``; the idle tasks are behind all others."""
    curr = m.rq[p].curr
    return curr if curr >= 0 else m.task.shape[0] + p


@compiled
def record_wakee(m, waker, task, now):
    """Count how often the waker turns to another wakee."""
    memory = m.placement[waker]
    if now - memory.wakee_flip_decay_ts > NSEC_PER_SEC:
        memory.wakee_flips >>= 1
        memory.wakee_flip_decay_ts = now
    if memory.last_wakee != task:
        memory.last_wakee = task
        memory.wakee_flips += 1


@compiled
def wake_wide(m, p, waker, task):
    """One waker with many wakees: more than fit into a cache, so they are not to gather at the waker's."""
    most, least = m.placement[waker].wakee_flips, m.placement[task].wakee_flips
    if most < least:
        most, least = least, most
    llc_size = m.balance[p].llc_end - m.balance[p].llc_first
    return least >= llc_size and most >= least * llc_size


@compiled
def wake_affine(m, p, prev, task):
    """Rather the waker's CPU ``p`` than ``prev``: if it is idle and near (WA_IDLE), or less loaded (WA_WEIGHT).

    The kernel's load averages count sleepers, so it takes the task's own out of that of ``prev``. Here
    only who is runnable counts: it is not in there.
    """
    if is_idle(m, p) and cpus_share_cache(m, p, prev):
        return not is_idle(m, prev)
    here = (m.rq[p].load + m.task[task].weight) * 100
    there = m.rq[prev].load * (100 + (imbalance_pct_of(m, p, prev) - 100) // 2)
    return here < there


@compiled
def imbalance_pct_of(m, p, other):
    """That of the lowest domain with both CPUs."""
    for level in range(m.sd.shape[1]):
        domain = m.sd[p, level]
        if domain.first <= other < domain.end:
            return domain.imbalance_pct
    return 100  # there is always one


@compiled
def select_idle_sibling(m, task, prev, target):
    """An idle CPU near ``target``, which is taken itself if there is none."""
    if is_idle(m, target):
        return target
    if prev != target and cpus_share_cache(m, prev, target) and is_idle(m, prev):
        return prev
    recent = m.placement[task].recent_used_cpu
    if (
        recent != prev
        and recent != target
        and cpus_share_cache(m, recent, target)
        and is_idle(m, recent)
        and is_allowed(m, task, recent)
    ):
        m.placement[task].recent_used_cpu = prev
        return recent
    first, end = m.balance[target].llc_first, m.balance[target].llc_end
    for step in range(end - first):
        cpu = first + (target - first + step) % (end - first)
        if is_idle(m, cpu) and is_allowed(m, task, cpu):
            return cpu
    return target


@compiled
def end_idle(m, cpu, now):
    """A wake-up ends the idle time of a CPU: take it into the average (ttwu_do_wakeup)."""
    balance = m.balance[cpu]
    if balance.idle_stamp < 0:
        return
    balance.avg_idle += (now - balance.idle_stamp - balance.avg_idle) >> 3
    balance.avg_idle = min(balance.avg_idle, 2 * SYSCTL_SCHED_MIGRATION_COST)
    balance.idle_stamp = -1


@compiled
def select_idlest_rq(m, task):
    """Where a new task begins: the least loaded of its CPUs; of these one whose cache has the least load.

    Reduced from find_idlest_cpu, which goes down the domains and compares averages on the way.
    """
    memory = m.placement[task]
    if memory.nr_cpus_allowed == 1:
        return m.task[task].cpu
    idlest = -1
    least = 0
    least_near = 0
    for cpu in range(m.rq.shape[0]):
        if not is_allowed(m, task, cpu):
            continue
        load = m.rq[cpu].load
        near = load_near(m, cpu)
        if idlest < 0 or load < least or (load == least and near < least_near):
            idlest, least, least_near = cpu, load, near
    memory.recent_used_cpu = idlest
    return idlest


@compiled
def load_near(m, cpu):
    """Load of all CPUs that share a cache with ``cpu``."""
    load = 0
    for other in range(m.balance[cpu].llc_first, m.balance[cpu].llc_end):
        load += m.rq[other].load
    return load
