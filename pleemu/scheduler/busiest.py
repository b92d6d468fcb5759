"""Whom to take load from, and how much (v5.6 kernel/sched/fair.c, find_busiest_group, find_busiest_queue).

    group_has_spare     fewer tasks than CPUs, or utilisation well below its capacity
    group_fully_busy    neither that nor the next
    group_overloaded    more tasks than CPUs, and utilisation near its capacity

The local group is the one of the CPU that shall get something. Nothing is taken from a group of a
better type, nor between two overloaded ones whose average loads are near each other.

DEVIATION: no group_imbalanced, which helps out where pinned tasks hide an imbalance from the level above.
"""

from pleemu.jit import compiled
from pleemu.scheduler.domains import BUSIEST, CAPACITY, LOCAL, LOOKED_AT, end_of_group, first_of_group, is_idle

GROUP_HAS_SPARE, GROUP_FULLY_BUSY, GROUP_OVERLOADED = range(3)
CPU_IDLE, CPU_NOT_IDLE, CPU_NEWLY_IDLE = range(3)
MIGRATE_LOAD, MIGRATE_UTIL, MIGRATE_TASK = range(3)

_NO_LIMIT = 1 << 62


@compiled
def find_busiest_queue(m):
    """The run queue to take from, with the amount in lb_env; -1 if the CPUs are balanced."""
    env = m.lb_env[0]
    if not update_sd_lb_stats(m) or is_balanced(m):
        return -1
    calculate_imbalance(m)
    if env.imbalance <= 0:
        return -1
    chosen = -1
    most = 0
    for cpu in range(m.sg[BUSIEST].first, m.sg[BUSIEST].end):
        rq = m.rq[cpu]
        if m.balance[cpu].considered == 0 or is_small(env, rq):
            continue
        # All or nothing is no measure: where utilisation counts, the number of tasks says who is short of CPU.
        measure = rq.load if env.migration_type == MIGRATE_LOAD else rq.nr_running
        if measure > most:
            most, chosen = measure, cpu
    return chosen


@compiled
def is_small(env, rq):
    """A lone task that weighs more than is to be moved."""
    return env.migration_type == MIGRATE_LOAD and rq.nr_running == 1 and rq.load > env.imbalance


@compiled
def update_sd_lb_stats(m):
    """Add up the groups of the domain, from the local one on; True if there is a busiest among the others."""
    env = m.lb_env[0]
    domain = m.sd[env.dst_cpu, env.level]
    local = first_of_group(domain, env.dst_cpu)
    update_sg_lb_stats(m, local)
    m.sg[LOCAL] = m.sg[LOOKED_AT]
    found = False
    first = end_of_group(domain, local)
    while True:
        if first >= domain.end:
            first = domain.first
        if first == local:
            return found
        update_sg_lb_stats(m, first)
        if m.sg[LOOKED_AT].sum_nr_running > 0 and (not found or is_busier(m.sg[LOOKED_AT], m.sg[BUSIEST])):
            m.sg[BUSIEST] = m.sg[LOOKED_AT]
            found = True
        first = end_of_group(domain, first)


@compiled
def update_sg_lb_stats(m, first):
    """Add up the group that begins at CPU ``first``."""
    env, group = m.lb_env[0], m.sg[LOOKED_AT]
    domain = m.sd[env.dst_cpu, env.level]
    group.first = first
    group.end = end_of_group(domain, first)
    group.group_weight = group.end - first
    group.group_capacity = group.group_weight * CAPACITY
    group.group_load = 0
    group.group_util = 0
    group.sum_nr_running = 0
    group.idle_cpus = 0
    for cpu in range(first, group.end):
        if m.balance[cpu].considered == 0:
            continue
        group.group_load += m.rq[cpu].load
        group.group_util += CAPACITY if m.rq[cpu].nr_running > 0 else 0
        group.sum_nr_running += m.rq[cpu].nr_running
        if m.rq[cpu].nr_running == 0 and is_idle(m, cpu):
            group.idle_cpus += 1
    group.avg_load = group.group_load * CAPACITY // group.group_capacity
    group.group_type = group_classify(group, domain.imbalance_pct)


@compiled
def group_classify(group, imbalance_pct):
    """Type of a group."""
    spare = group.group_capacity * 100 - group.group_util * imbalance_pct
    if group.sum_nr_running > group.group_weight and spare < 0:
        return GROUP_OVERLOADED
    if group.sum_nr_running < group.group_weight or spare > 0:
        return GROUP_HAS_SPARE
    return GROUP_FULLY_BUSY


@compiled
def is_busier(group, busiest):
    """update_sd_pick_busiest; among equals the first stays.

    v5.6 has computed the average load of overloaded groups only: of fully busy ones the first stays.
    """
    if group.group_type != busiest.group_type:
        return group.group_type > busiest.group_type
    if group.group_type == GROUP_OVERLOADED:
        return group.avg_load > busiest.avg_load
    if group.group_type == GROUP_FULLY_BUSY:
        return False
    if group.idle_cpus != busiest.idle_cpus:
        return group.idle_cpus < busiest.idle_cpus
    return group.sum_nr_running > busiest.sum_nr_running


@compiled
def is_balanced(m):
    """Is there no reason to take from the busiest group?"""
    env, local, busiest = m.lb_env[0], m.sg[LOCAL], m.sg[BUSIEST]
    domain = m.sd[env.dst_cpu, env.level]
    if local.group_type > busiest.group_type:
        return True
    if local.group_type == GROUP_OVERLOADED and (
        local.avg_load >= busiest.avg_load
        or local.avg_load >= average_of(m)
        or 100 * busiest.avg_load <= domain.imbalance_pct * local.avg_load
    ):
        return True
    if (
        domain.prefer_sibling == 1
        and local.group_type == GROUP_HAS_SPARE
        and busiest.sum_nr_running > local.sum_nr_running + 1
    ):
        return False
    if busiest.group_type == GROUP_OVERLOADED:
        return False
    return (
        env.idle == CPU_NOT_IDLE
        or (busiest.group_weight > 1 and local.idle_cpus <= busiest.idle_cpus + 1)
        or busiest.sum_nr_running == 1
    )


@compiled
def average_of(m):
    """Load of the whole domain for each CPU's capacity."""
    env = m.lb_env[0]
    domain = m.sd[env.dst_cpu, env.level]
    total = 0
    for cpu in range(domain.first, domain.end):
        if m.balance[cpu].considered == 1:
            total += m.rq[cpu].load
    return total // (domain.end - domain.first)


@compiled
def calculate_imbalance(m):
    """How much of what is to be moved; an amount of 0: nothing."""
    env, local, busiest = m.lb_env[0], m.sg[LOCAL], m.sg[BUSIEST]
    domain = m.sd[env.dst_cpu, env.level]
    env.migration_type = MIGRATE_TASK
    if local.group_type == GROUP_HAS_SPARE:
        if busiest.group_type == GROUP_OVERLOADED:
            env.migration_type = MIGRATE_UTIL
            env.imbalance = max(local.group_capacity, local.group_util) - local.group_util
            if env.imbalance == 0 and env.idle != CPU_NOT_IDLE:
                env.migration_type = MIGRATE_TASK
                env.imbalance = 1
        elif busiest.group_weight == 1 or domain.prefer_sibling == 1:
            env.imbalance = max(busiest.sum_nr_running - local.sum_nr_running, 0) >> 1
        else:
            env.imbalance = max(local.idle_cpus - busiest.idle_cpus, 0) >> 1
        return
    average = average_of(m)
    env.migration_type = MIGRATE_LOAD
    if local.group_type < GROUP_OVERLOADED and local.avg_load >= busiest.avg_load:
        env.imbalance = 0
        return
    above, below = busiest.avg_load - average, average - local.avg_load
    # These are unsigned in the kernel: the wrong side of the average is no limit.
    above = _NO_LIMIT if above < 0 else above * busiest.group_capacity
    below = _NO_LIMIT if below < 0 else below * local.group_capacity
    env.imbalance = min(above, below) // CAPACITY
