"""Which CPUs balance with which: scheduling domains, and what else placement and balancing remember.

    level 0   the CPUs that share a last-level cache; groups of one CPU           (imbalance_pct 117)
    level 1   all CPUs, where there are several such caches; one group per cache  (imbalance_pct 125)

A CPU alone in its cache has no level 0 of its own (v5.6 kernel/sched/topology.c drops a domain of one);
if all are, level 1 is the only one. Spans are ranges of CPU numbers, since caches are shared by neighbours.

Reduced from v5.6: the load of a CPU is the sum of its runnable weights, its utilisation is all
or nothing, all CPUs have the same capacity; no SMT, no NUMA, no energy model.

DEVIATION: placement and balancing are those of v5.6 with every scheduler.
UNVERIFIED: they follow the source as read; no recording of a kernel covers them.
"""

import numpy as np

from pleemu.jit import compiled

CAPACITY = 1024
SYSCTL_SCHED_MIGRATION_COST = 500_000  # ns

SCHED_DOMAIN = np.dtype(
    [
        # constant
        ("first", "i8"),  # span: CPUs first .. end-1
        ("end", "i8"),
        ("group_size", "i8"),  # CPUs in a group, fewer in the last one
        ("imbalance_pct", "i8"),
        ("cache_nice_tries", "i8"),
        ("prefer_sibling", "i8"),  # SD_PREFER_SIBLING of the level below
        ("min_interval", "i8"),  # ms
        ("max_interval", "i8"),  # ms
        # balancing
        ("balance_interval", "i8"),  # ms
        ("last_balance", "i8"),  # jiffies
        ("nr_balance_failed", "i8"),
    ],
    align=True,
)

# What load balancing keeps of a run queue.
BALANCE = np.dtype(
    [
        # constant: the CPUs with the same last-level cache are llc_first .. llc_end-1
        ("llc_first", "i8"),
        ("llc_end", "i8"),
        # balancing
        ("next_balance", "i8"),  # jiffies
        ("idle_stamp", "i8"),  # ns at which it became idle, -1: it did not, or the average has it already
        ("avg_idle", "i8"),  # ns
        ("nohz_kick", "i8"),  # 1: it shall balance for all idle CPUs
        ("active_balance", "i8"),  # 1: the running task is to be pushed to push_cpu
        ("push_cpu", "i8"),
        ("considered", "i8"),  # 1: in lb_env.cpus of the pass in progress
    ],
    align=True,
)

# One for the machine.
BALANCER = np.dtype(
    [
        # constant
        ("hz", "i8"),
        ("max_interval", "i8"),  # max_load_balance_interval, jiffies
        ("floating", "i8"),  # tasks that may run on several CPUs; 0: there is nothing to balance
        ("ipi", "i8"),  # flight of a reschedule IPI, core cycles
        # nohz
        ("next_balance", "i8"),  # jiffies
    ],
    align=True,
)

# struct lb_env: one pass of load_balance.
LB_ENV = np.dtype(
    [
        ("cycle", "i8"),  # when it happens
        ("now", "i8"),  # the same in ns
        ("this_cpu", "i8"),  # that executes it
        ("dst_cpu", "i8"),  # for which it does
        ("src_cpu", "i8"),
        ("level", "i8"),
        ("idle", "i8"),  # CPU_IDLE, CPU_NOT_IDLE or CPU_NEWLY_IDLE
        ("migration_type", "i8"),
        ("imbalance", "i8"),  # what is still to be moved, in the unit of migration_type
        ("all_pinned", "i8"),  # LBF_ALL_PINNED: no task seen so far may run on dst_cpu
        ("cause", "i8"),  # of the migrations, for the journal
    ],
    align=True,
)

# struct sg_lb_stats; one for the local group, the busiest so far, and the one looked at.
SG_LB_STATS = np.dtype(
    [
        ("first", "i8"),
        ("end", "i8"),
        ("group_type", "i8"),
        ("group_load", "i8"),
        ("group_capacity", "i8"),
        ("group_util", "i8"),
        ("group_weight", "i8"),  # CPUs
        ("sum_nr_running", "i8"),
        ("idle_cpus", "i8"),
        ("avg_load", "i8"),
    ],
    align=True,
)
LOCAL, BUSIEST, LOOKED_AT = range(3)

# What wake-ups remember of a task; behind the tasks those of the idle tasks, by CPU.
PLACEMENT = np.dtype(
    [
        ("nr_cpus_allowed", "i8"),
        ("recent_used_cpu", "i8"),
        ("last_wakee", "i8"),  # -1 none
        ("wakee_flips", "i8"),  # how often it woke another than the time before; halved each second
        ("wakee_flip_decay_ts", "i8"),  # ns
    ],
    align=True,
)


@compiled
def is_allowed(m, task, cpu):
    """May the task run there?"""
    pcpu = m.pcpu[cpu]
    return m.allowed[task, pcpu.word] & pcpu.bit != 0


@compiled
def is_idle(m, cpu):
    """idle_cpu: it runs its idle task and nobody is queued."""
    return m.rq[cpu].curr < 0 and m.rq[cpu].nr_running == 0


@compiled
def cpus_share_cache(m, cpu, other):
    """Whether two CPUs have the same last-level cache."""
    return m.balance[cpu].llc_first == m.balance[other].llc_first


@compiled
def jiffies_of(m, cycle):
    """Ticks that have come by ``cycle``; tick k does in the cycle in which k/HZ seconds are over."""
    hertz = m.clock[0].core_khz * 1000
    return ((cycle + 1) * m.balancer[0].hz - 1) // hertz


@compiled
def first_of_group(domain, cpu):
    """First CPU of the group that ``cpu`` belongs to."""
    return cpu - (cpu - domain.first) % domain.group_size


@compiled
def end_of_group(domain, first):
    """CPU behind the last of the group that begins at ``first``."""
    return min(first + domain.group_size, domain.end)
