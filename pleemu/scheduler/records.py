"""State of the Linux scheduler: tasks (`struct sched_entity` and what of `task_struct` counts) and run queues.

Times are in nanoseconds. A task of the fair class competes with its `weight`; the running
task is not in the tree but counts as queued. -1 stands for NULL wherever a task is named.
"""

import numpy as np

# task.state
TASK_RUNNING, TASK_INTERRUPTIBLE, TASK_DEAD = range(3)

TASK = np.dtype(
    [
        # accounting, written by update_curr and by placement
        ("vruntime", "i8"),
        ("sum_exec_runtime", "i8"),
        ("prev_sum_exec_runtime", "i8"),  # sum_exec_runtime when it was last set as next
        ("exec_start", "i8"),             # up to when it has been charged
        # the request of EEVDF, written by placement and when it is used up
        ("deadline", "i8"),               # vruntime at which the request is used up
        ("slice", "i8"),                  # its length
        ("vlag", "i8"),                   # off the queue: what it is owed; once picked: a copy of its deadline
        ("rel_deadline", "i8"),           # 1: the deadline counts from the vruntime (on its way to another queue)
        # life cycle
        ("on_rq", "i8"),
        ("state", "i8"),
        ("cpu", "i8"),                    # run queue it is on, or was on last
        ("sched_delayed", "i8"),          # 1: asleep, and on the queue until it is picked
        # place in the tree of the run queue, written by `tree`
        ("child", "i8", 2),               # left, right
        ("parent", "i8"),
        ("red", "i8"),
        ("smallest", "i8"),               # least deadline or vruntime (what the tree is not ordered by) from here down
        # place in rq->cfs_tasks, written by `mru`
        ("mru_next", "i8"),
        ("mru_prev", "i8"),
        # constant
        ("weight", "i8"),                 # 1024 for nice 0
        ("inverse_weight", "i8"),         # 2^32 / weight, from the kernel's table
    ],
    align=True,
)

RQ = np.dtype(
    [
        ("curr", "i8"),          # running task, -1: idle
        ("nr_running", "i8"),    # tasks on_rq: with the current one, and with sleepers whose dequeue is delayed
        ("load", "i8"),          # sum of their weights
        ("min_vruntime", "i8"),  # reference point of vruntimes; never moves back (but eevdf-6.12's zero_vruntime does)
        ("avg_vruntime", "i8"),  # EEVDF: sum of (vruntime - min_vruntime) * weight over the tree
        ("avg_load", "i8"),      # EEVDF: sum of weight over the tree
        ("root", "i8"),          # of the tree
        ("leftmost", "i8"),
        ("mru_head", "i8"),      # of rq->cfs_tasks: ran or came most recently
        ("mru_tail", "i8"),
        ("next", "i8"),          # buddies; EEVDF has `next` alone
        ("last", "i8"),
        ("skip", "i8"),
        ("need_resched", "i8"),  # of the current (or idle) task
        # the debooster of 2025; times of 0 stand for never, as in the patch
        ("deboosted_at", "i8"),     # yield_deboost_last_time_ns
        ("deboost_yielder", "i8"),  # the last pair, and when
        ("deboost_target", "i8"),
        ("deboost_pair_at", "i8"),
        # policy `ideal`
        ("forced", "i8"),        # 1 + the task to be picked next, 0 none
        # chaos
        ("chosen", "i8"),        # by a preemption point, until the next pick
    ],
    align=True,
)

# A preemption point: from `cycle` on pCPU `pcpu` shall run `thread` instead of what it runs.
POINT = np.dtype([("cycle", "i8"), ("pcpu", "i8"), ("thread", "i8")], align=True)

# What each pCPU knows of its preemption points.
PREEMPTION = np.dtype(
    [
        ("strike_at", "i8"),  # the next one is due at this cycle, NEVER if there is none or it is yet to be drawn
        ("stream", "i8"),     # state of its random numbers, never 0
        ("given", "i8"),      # index of the next one among those given
        ("given_end", "i8"),  # and behind its last one
    ],
    align=True,
)

# How points are drawn, and how many have been made since Python took them away.
DRAW = np.dtype(
    [
        ("active", "i8"),  # 1: points are drawn, 0: they are given, or there are none
        ("least", "i8"),   # shortest and longest slice, in cycles
        ("most", "i8"),
        ("made", "i8"),
    ],
    align=True,
)

# Which scheduler it is. `pleemu.kernel` says what each version has; what it lacks is 0.
TUNABLES = np.dtype(
    [
        ("model", "i8"),               # CFS, EEVDF or CHAOS
        # CFS: sysctl_sched_*, in ns
        ("latency", "i8"),
        ("min_granularity", "i8"),
        ("wakeup_granularity", "i8"),
        ("nr_latency", "i8"),          # tasks
        # EEVDF: sysctl_sched_base_slice, and what a tick takes
        ("base_slice", "i8"),
        ("tick_nsec", "i8"),
        # features (kernel/sched/features.h), in both
        ("next_buddy", "i8"),          # a woken task is the next buddy; EEVDF: and the next buddy counts
        ("cache_hot_buddy", "i8"),     # a buddy is not moved away
        ("wakeup_preemption", "i8"),
        # features of CFS
        ("gentle_fair_sleepers", "i8"),
        ("start_debit", "i8"),
        ("last_buddy", "i8"),
        # features of EEVDF
        ("place_lag", "i8"),
        ("place_deadline_initial", "i8"),
        ("place_rel_deadline", "i8"),
        ("run_to_parity", "i8"),
        ("preempt_short", "i8"),
        ("pick_buddy", "i8"),          # the next buddy counts, whether NEXT_BUDDY is on or off
        ("delay_dequeue", "i8"),
        ("delay_zero", "i8"),
        # what differs by version, and no feature names
        ("deadline_order", "i8"),      # the tree is ordered by deadline, not by vruntime
        ("zero_vruntime", "i8"),       # the reference point is the average whenever that is computed
        ("yield_forfeits", "i8"),      # a yield gives up the rest of the request
        ("fork_places_twice", "i8"),   # the second time as if it were not new
        ("repick_moves", "i8"),        # a task that is picked again moves to the head of rq->cfs_tasks
        # the directed yield
        ("debooster", "i8"),           # how yield_to_task_fair deboosts the yielder, see `debooster`
    ],
    align=True,
)  # fmt: skip

# tunables.model: which kind of scheduler the host has.
CFS, EEVDF, CHAOS = range(3)

MIN_VRUNTIME_AT_BOOT = -(1 << 20)


# Fields of RQ that name a task.
_TASKS = (
    "curr", "root", "leftmost", "mru_head", "mru_tail", "next", "last", "skip", "deboost_yielder", "deboost_target",
    "chosen",
)  # fmt: skip


def sched_init(rq: np.recarray) -> None:
    """Give run queues their state at boot: empty, their CPUs idle."""
    rq[:] = np.zeros((), RQ)
    for name in _TASKS:
        rq[name] = -1
    rq["min_vruntime"] = MIN_VRUNTIME_AT_BOOT
