"""A vCPU in HLT: kvm_vcpu_block of v5.6, which polls and then sleeps (see `hypervisor.halt_poll`).

DEVIATION: vcpu_run calls cond_resched() before it blocks; here a thread that must give way goes to sleep at once.
DEVIATION: of the poll loop only those turns are executed that can see something; a turn takes `cost.poll_turn_ns`
(proposed), and what a sender has made pending is seen without the transfer of a cache line.
"""

from pleemu.hardware.clock import ns_to_cycles
from pleemu.hardware.interrupts import deliverable, take_over_posted
from pleemu.hardware.records import ENTERING, POLLING
from pleemu.hypervisor.halt_poll import end_block, next_turn
from pleemu.hypervisor.records import RESUME_HALT
from pleemu.jit import compiled
from pleemu.machine.switch import go, schedule
from pleemu.machine.timers import interrupt_host_code, next_host_interrupt
from pleemu.observe.events import STATE_SLEEPING
from pleemu.scheduler.records import TASK_INTERRUPTIBLE


@compiled
def halt(m, p, now):
    """kvm_vcpu_block begins, or goes on after a wake-up, which may bring nothing that ends the HLT."""
    v = m.pcpu[p].vcpu
    vcpu = m.vcpu[v]
    if is_over(m, v):
        if vcpu.blocked_from >= 0:
            end_block(m, p, v, now)
        leave(m, p, v, now)
    elif vcpu.blocked_from >= 0:
        block(m, p, v, now)
    else:
        vcpu.halts += 1
        vcpu.blocked_from = now
        vcpu.poll_from = now
        vcpu.poll_until = now + ns_to_cycles(m.clock[0], vcpu.halt_poll_ns)
        if vcpu.halt_poll_ns > 0:
            vcpu.polls += 1
        look(m, p, v, now)


@compiled
def poll(m, p, now):
    """A turn of the poll loop that sees something, or an interrupt of the host in the middle of it."""
    v = m.pcpu[p].vcpu
    vcpu = m.vcpu[v]
    if next_host_interrupt(m.pcpu[p]) <= now:
        vcpu.poll_from = now + interrupt_host_code(m, p, now)
        if vcpu.poll_from > now:
            go(m, p, POLLING, vcpu.poll_from)
            return
    if is_over(m, v):
        vcpu.polled += 1
        vcpu.blocked_from = -1  # the poll time was long enough: it stays
        leave(m, p, v, now)
    else:
        look(m, p, v, now)


@compiled
def look(m, p, v, now):
    """The HLT is not over: another turn, unless the time is or another thread waits (single_task_running)."""
    vcpu = m.vcpu[v]
    if now < vcpu.poll_until and m.rq[p].nr_running == 1:
        go(m, p, POLLING, min(next_turn(m, v, vcpu.poll_until), next_host_interrupt(m.pcpu[p])))
    else:
        block(m, p, v, now)


@compiled
def block(m, p, v, now):
    """Sleep until an interrupt or a kick wakes the vCPU."""
    m.vcpu[v].on_wait_queue = m.vcpu[v].blocking = 1
    m.vcpu[v].resume = RESUME_HALT
    m.task[v].state = TASK_INTERRUPTIBLE
    schedule(m, p, STATE_SLEEPING, now)


@compiled
def leave(m, p, v, now):
    """The HLT is over; a kick counts no longer, whatever ended it."""
    m.vcpu[v].pv_unhalted = 0
    go(m, p, ENTERING, now)


@compiled
def is_over(m, v):
    """kvm_arch_vcpu_runnable: it has been kicked, or an interrupt is pending and RFLAGS.IF lets it in."""
    cpu = m.cpu[v]
    take_over_posted(cpu)
    if m.vcpu[v].pv_unhalted == 1:
        return True
    return cpu.interrupt_flag == 1 and deliverable(cpu) >= 0
