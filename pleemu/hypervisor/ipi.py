"""Interrupts for a vCPU, from another or from itself, and the kick that makes it see them.

v5.6 arch/x86/kvm/lapic.c: __apic_accept_irq; virt/kvm/kvm_main.c: kvm_vcpu_wake_up, kvm_vcpu_kick.
"""

from pleemu.hardware.apic import SVR_ENABLED
from pleemu.hardware.clock import cycles_to_ns
from pleemu.hardware.interrupts import any_posted, deliverable, send_host_interrupt, set_vector, take_over_posted
from pleemu.hardware.records import EXITING, GUEST, NEVER
from pleemu.jit import compiled
from pleemu.observe.events import SCHED_WAKEUP
from pleemu.observe.journal import record
from pleemu.scheduler.core import wake_up_process
from pleemu.scheduler.records import TASK_DEAD


@compiled
def accept_irq(m, p, target, vector, now, delay):
    """Make ``vector`` pending in the target, and make it notice after ``delay``; returns the cycles of a wake-up."""
    cpu, vcpu, cost = m.cpu[target], m.vcpu[target], m.cost[0]
    if m.task[target].state == TASK_DEAD or cpu.svr & SVR_ENABLED == 0:
        return 0
    set_vector(cpu.pir, vector)
    if vcpu.on_wait_queue == 1:
        return kvm_vcpu_wake_up(m, p, target, now)
    home = m.task[target].cpu
    # A notification on its way serves all that is posted, unless this one is there sooner.
    if is_in_guest(m, p, home, target, now):
        if cpu.apicv == 1:
            cpu.pir_at = min(cpu.pir_at, now + delay + cost.ipi + cost.posted)  # no exit
        else:
            send_host_interrupt(m, home, now + delay + cost.ipi)
    return 0


@compiled
def is_in_guest(m, p, home, target, now):
    """Does ``target`` execute guest code on its pCPU ``home``, seen from pCPU ``p`` at cycle ``now``?

    The loop lets a pCPU run ahead of others: an exit may be recorded that has yet to begin.
    """
    pcpu = m.pcpu[home]
    if pcpu.vcpu != target:
        return False
    if pcpu.phase == EXITING:
        return pcpu.exit_from > now or (pcpu.exit_from == now and home > p)
    return pcpu.phase == GUEST


@compiled
def kvm_vcpu_wake_up(m, p, target, now):
    """A halted vCPU is woken; its pCPU may have to reschedule."""
    vcpu = m.vcpu[target]
    vcpu.on_wait_queue = 0  # swait: the waker takes it off the queue
    home = wake_up_process(m, p, target, cycles_to_ns(m.clock[0], now))
    m.pv[target].queued_at = now
    vcpu.ready = 1
    record(m, now, SCHED_WAKEUP, p, m.pcpu[p].vcpu, target, home, 0)
    if home != p and m.rq[home].need_resched == 1:
        send_host_interrupt(m, home, now + m.cost[0].ipi)
    return m.cost[0].wakeup


@compiled
def sync_at_entry(m, v):
    """VM entry: what was posted is in the APIC from now on; without APICv the entry may inject one."""
    cpu = m.cpu[v]
    if any_posted(cpu):
        take_over_posted(cpu)
    cpu.pir_at = NEVER
    cpu.injected = 1 if cpu.interrupt_flag == 1 and cpu.shadow == 0 and deliverable(cpu) >= 0 else 0
