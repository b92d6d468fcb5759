"""How long the thread of a vCPU is runnable and does not run (v5.6 kernel/sched/stats.h, sched_info.run_delay).

A wait begins when the thread becomes runnable, or is switched out while it is, and ends when it is switched in.
It goes on when the thread is moved to another run queue.
"""

from pleemu.jit import compiled


@compiled
def begin_run_delay(m, task, now):
    """A thread is runnable and does not run (sched_info_queued); nobody asks for those of the host."""
    if task < m.pv.shape[0]:
        m.pv[task].queued_at = now


@compiled
def end_run_delay(m, v, now):
    """The thread of a vCPU runs (sched_info_arrive)."""
    m.pv[v].run_delay += now - m.pv[v].queued_at
