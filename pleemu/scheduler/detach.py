"""Which tasks are taken off a run queue (v5.6 kernel/sched/fair.c, can_migrate_task, detach_tasks).

The queue's tasks are looked at from the one that has run longest ago on; one that is refused goes to
the other end of the list.

DEVIATION: each task is queued at its destination when it is taken; the kernel first takes all and
then queues them, the last one first. And LBF_DST_PINNED is left out: a task that may not run on
the destination, but on another CPU of its group, is not moved there instead.
"""

from pleemu.hardware.interrupts import send_host_interrupt
from pleemu.hardware.records import POLLING
from pleemu.jit import compiled
from pleemu.observe.statistics import count_migration
from pleemu.scheduler import core
from pleemu.scheduler.busiest import CPU_NEWLY_IDLE, CPU_NOT_IDLE, MIGRATE_LOAD, MIGRATE_UTIL
from pleemu.scheduler.domains import CAPACITY, SYSCTL_SCHED_MIGRATION_COST, is_allowed
from pleemu.scheduler.mru import list_move
from pleemu.scheduler.records import TASK_RUNNING

SCHED_NR_MIGRATE = 32


@compiled
def can_migrate_task(m, task):
    """May it move: allowed there, not running, and not with its data in the cache, unless that failed too often.

    DEVIATION: a task that sleeps but has stayed queued (DELAY_DEQUEUE) never moves: it is not runnable, and
    it would have to be dequeued for good. The kernel does move it.
    """
    env, se = m.lb_env[0], m.task[task]
    if not is_allowed(m, task, env.dst_cpu):
        return False
    env.all_pinned = 0
    if m.rq[env.src_cpu].curr == task or se.state != TASK_RUNNING:
        return False
    domain = m.sd[env.dst_cpu, env.level]
    return domain.nr_balance_failed > domain.cache_nice_tries or not task_hot(m, task)


@compiled
def task_hot(m, task):
    """It ran a moment ago, or it is a buddy and the destination has others to run."""
    env = m.lb_env[0]
    src = m.rq[env.src_cpu]
    buddy = m.tunables[0].cache_hot_buddy == 1 and (src.next == task or src.last == task)
    if buddy and m.rq[env.dst_cpu].nr_running > 0:
        return True
    return env.now - m.task[task].exec_start < SYSCTL_SCHED_MIGRATION_COST


@compiled
def detach_tasks(m):
    """Move tasks from src_cpu to dst_cpu until the imbalance is gone; returns their number."""
    env = m.lb_env[0]
    rq = m.rq[env.src_cpu]
    moved = 0
    util = CAPACITY // rq.nr_running  # of each task: those of a queue share its CPU
    for _ in range(min(SCHED_NR_MIGRATE, rq.nr_running)):
        if env.idle != CPU_NOT_IDLE and rq.nr_running <= 1:
            break
        task = rq.mru_tail
        if can_migrate_task(m, task) and fits(m, task, util):
            move(m, task)
            moved += 1
            # A kernel with CONFIG_PREEMPTION is content with one; so is this one.
            if env.idle == CPU_NEWLY_IDLE or env.imbalance <= 0:
                break
        else:
            list_move(m, env.src_cpu, task)
    return moved


@compiled
def fits(m, task, util):
    """Is the task not too much for the imbalance? Then that gets smaller by it."""
    env = m.lb_env[0]
    domain = m.sd[env.dst_cpu, env.level]
    if env.migration_type == MIGRATE_LOAD:
        weight = m.task[task].weight
        if weight // 2 > env.imbalance and domain.nr_balance_failed <= domain.cache_nice_tries:
            return False
        env.imbalance -= weight
    elif env.migration_type == MIGRATE_UTIL:
        if util > env.imbalance:
            return False
        env.imbalance -= util
    else:
        env.imbalance -= 1
    return True


@compiled
def move(m, task):
    """Take a task that does not run to dst_cpu, and make that reschedule if it shall preempt there."""
    env = m.lb_env[0]
    core.migrate_task(m, env.dst_cpu, task, env.now)
    migrated(m, task)
    # Who polls there for an interrupt sees that it is not alone any more.
    sees = m.rq[env.dst_cpu].need_resched == 1 or m.pcpu[env.dst_cpu].phase == POLLING
    if sees and env.dst_cpu != env.this_cpu:
        send_host_interrupt(m, env.dst_cpu, env.cycle + m.balancer[0].ipi)


@compiled
def migrated(m, task):
    """Tell that a task has moved from src_cpu to dst_cpu."""
    env = m.lb_env[0]
    count_migration(m, env.this_cpu, task, env.src_cpu, env.dst_cpu, env.cause, env.cycle)
