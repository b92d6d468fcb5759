"""State of the Linux scheduler: tasks (`struct sched_entity` and what of `task_struct` counts) and run queues.

Times are in nanoseconds. A task of the fair class competes with its `weight`; the running
task is not in the tree but counts as queued.
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
        # life cycle
        ("on_rq", "i8"),
        ("state", "i8"),
        ("cpu", "i8"),                    # run queue it is on, or was on last
        # constant
        ("weight", "i8"),                 # 1024 for nice 0
        ("inverse_weight", "i8"),         # 2^32 / weight, from the kernel's table
    ],
    align=True,
)

# -1 stands for NULL in every task index of a run queue.
RQ = np.dtype(
    [
        ("curr", "i8"),          # running task, -1: idle
        ("nr_running", "i8"),    # tasks on_rq, the current one included
        ("load", "i8"),          # sum of their weights
        ("min_vruntime", "i8"),  # never moves back
        ("queued", "i8"),        # tasks in the tree: tree[cpu, 0..queued-1], leftmost first
        ("next", "i8"),          # buddies
        ("last", "i8"),
        ("skip", "i8"),
        ("need_resched", "i8"),  # of the current (or idle) task
        ("forced", "i8"),        # policy `ideal`: 1 + the task to be picked next, 0 none
    ],
    align=True,
)

# Tunables of the fair class and switches of the directed yield.
TUNABLES = np.dtype(
    [
        ("model", "i8"),      # CFS, EEVDF or CHAOS
        ("latency", "i8"),
        ("min_granularity", "i8"),
        ("wakeup_granularity", "i8"),
        ("nr_latency", "i8"),
        ("debooster", "i8"),  # 1: yield_to_task_fair deboosts the yielder
    ],
    align=True,
)

# tunables.model: which kind of scheduler the host has.
CFS, EEVDF, CHAOS = range(3)

MIN_VRUNTIME_AT_BOOT = -(1 << 20)
