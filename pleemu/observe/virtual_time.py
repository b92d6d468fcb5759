"""Where each thread stands in virtual time: told whenever the machine has asked the scheduler something.

The kernel's tracepoint sched_stat_runtime is in update_curr: it tells what a running thread has just been charged. So
does STAT_RUNTIME, with the same sums, and it also tells what else moves a vruntime, which no kernel traces: placement
at wake-up, and at fork (told when the thread first runs or is named in a directed yield), the way to another queue,
Debooster, and what a yield forfeits. Its `c` is 0 then.

DEVIATION: a thread that is charged by a balancing pass is told at what comes next of it, with what it has run in
between; and what Debooster adds or a yield forfeits is in the same event as the time charged by the yield.
"""

from pleemu.jit import compiled
from pleemu.observe.events import QUEUE_SHIFT, STAT_RUNTIME
from pleemu.observe.journal import record


@compiled
def tell_virtual_time(m, p, task, now):
    """On pCPU ``p`` it has been seen to that the vruntime of ``task`` is up to date; nothing if it has not moved.

    The idle task, -1, has none.
    """
    if task < 0:
        return
    se, told = m.task[task], m.told_time[task]
    charged = se.sum_exec_runtime - told.sum_exec_runtime
    if charged == 0 and se.vruntime == told.vruntime:
        return
    told.sum_exec_runtime = se.sum_exec_runtime
    told.vruntime = se.vruntime
    record(m, now, STAT_RUNTIME, p, m.pcpu[p].vcpu, task | se.cpu << QUEUE_SHIFT, se.vruntime, charged)


@compiled
def tell_arrival(m, p, q, task, now):
    """On pCPU ``p``, ``task`` has become runnable on pCPU ``q``, whose own thread has been charged for it."""
    tell_virtual_time(m, p, m.pcpu[q].vcpu, now)
    tell_virtual_time(m, p, task, now)
