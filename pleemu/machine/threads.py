"""Threads of the host beside the vCPUs': they compute in bursts, and sleep in between or never.

Thread t is task t behind those of all vCPUs. A periodic one begins a burst at every multiple of its period
after its birth, woken by a timer on the pCPU where it went to sleep. A burst that is preempted goes on later
where it stopped; what of the host interrupts it does not count. Multiples that pass during a burst are left
out (as hrtimer_forward does), so a thread that gets too little of a pCPU does not save up work.
"""

from pleemu.hardware.clock import cycles_to_ns, ns_to_cycles
from pleemu.hardware.records import COMPUTING
from pleemu.jit import compiled
from pleemu.machine.switch import go, schedule
from pleemu.machine.timers import interrupt_host_code, next_host_interrupt
from pleemu.observe.events import STATE_PREEMPTED, STATE_SLEEPING
from pleemu.scheduler.preemption import strike
from pleemu.scheduler.records import TASK_INTERRUPTIBLE


@compiled
def compute(m, p, now):
    """The burst has come to its end, or to an interrupt."""
    pcpu = m.pcpu[p]
    task = pcpu.vcpu
    thread = m.thread[task - m.vcpu.shape[0]]
    thread.left -= now - thread.computing_from
    thread.computing_from = now
    spent = interrupt_host_code(m, p, now)
    if spent > 0:
        thread.computing_from = now + spent
        go(m, p, COMPUTING, now + spent)
    elif thread.left <= 0:
        thread.bursts += 1
        set_timer(m, p, thread, now)
        m.task[task].state = TASK_INTERRUPTIBLE
        schedule(m, p, STATE_SLEEPING, now)
    elif m.rq[p].need_resched == 1 or (m.preemption[p].strike_at <= now and strike(m, p, now)):
        schedule(m, p, STATE_PREEMPTED, now)
    else:
        go(m, p, COMPUTING, min(now + thread.left, next_host_interrupt(pcpu), m.preemption[p].strike_at))


@compiled
def set_timer(m, p, thread, now):
    """The next burst begins at the next multiple of the period."""
    clock = m.clock[0]
    passed = cycles_to_ns(clock, now - thread.born) // thread.period_ns
    thread.timer_at = thread.born + ns_to_cycles(clock, (passed + 1) * thread.period_ns)
    thread.timer_cpu = p
    m.pcpu[p].timer_at = min(m.pcpu[p].timer_at, thread.timer_at)
