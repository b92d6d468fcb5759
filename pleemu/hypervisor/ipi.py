"""Interrupts for a vCPU, from another or from itself, and the kick that makes it see them.

v5.6 arch/x86/kvm/lapic.c: __apic_accept_irq; virt/kvm/kvm_main.c: kvm_vcpu_wake_up, kvm_vcpu_kick.
"""

from pleemu.hardware.apic import SVR_ENABLED
from pleemu.hardware.interrupts import any_posted, deliverable, send_host_interrupt, set_vector, take_over_posted
from pleemu.hardware.records import EXITING, GUEST, NEVER
from pleemu.hardware.spin import hasten
from pleemu.hypervisor.halt_poll import poll_sees
from pleemu.hypervisor.wake_up import wake_thread
from pleemu.jit import compiled
from pleemu.scheduler.records import TASK_DEAD


@compiled
def accept_irq(m, p, target, vector, now, delay):
    """Make ``vector`` pending in the target, and make it notice after ``delay``; returns the cycles of a wake-up."""
    cpu, cost = m.cpu[target], m.cost[0]
    if not is_accepting(m, target):
        return 0
    set_vector(cpu.pir, vector)
    if cpu.apicv == 1 and is_in_guest(m, p, m.task[target].cpu, target, now):
        # A notification on its way serves all that is posted, unless this one is there sooner.
        cpu.pir_at = min(cpu.pir_at, now + delay + cost.ipi + cost.posted)  # no exit
        hasten(m, m.task[target].cpu, cpu.pir_at)
        return 0
    return kvm_vcpu_kick(m, p, target, now, delay)


@compiled
def kvm_vcpu_kick(m, p, target, now, delay):
    """Wake it if it sleeps; make it exit after ``delay`` if it is in the guest; a poll sees it. Returns the cycles."""
    if m.vcpu[target].on_wait_queue == 1:
        return kvm_vcpu_wake_up(m, p, target, now)
    home = m.task[target].cpu
    if is_in_guest(m, p, home, target, now):
        send_host_interrupt(m, home, now + delay + m.cost[0].ipi)
    elif m.pcpu[home].vcpu == target:
        poll_sees(m, home, now + 1)
    return 0


@compiled
def is_accepting(m, target):
    """Does the APIC of ``target`` accept interrupts?"""
    return m.task[target].state != TASK_DEAD and m.cpu[target].svr & SVR_ENABLED != 0


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
    """A halted vCPU is woken, perhaps on another pCPU than it slept on; that may have to reschedule."""
    vcpu = m.vcpu[target]
    vcpu.on_wait_queue = 0
    vcpu.wakes_at = NEVER
    if m.kvm[0].rcuwait == 0:
        vcpu.blocking = 0  # swait: the waker takes it off the queue
    vcpu.ready = 1
    wake_thread(m, p, target, now)
    return m.cost[0].wakeup


@compiled
def sync_at_entry(m, v):
    """VM entry: what was posted is in the APIC from now on; without APICv the entry may inject one."""
    cpu = m.cpu[v]
    if any_posted(cpu):
        take_over_posted(cpu)
    cpu.pir_at = NEVER
    cpu.injected = 1 if cpu.interrupt_flag == 1 and cpu.shadow == 0 and deliverable(cpu) >= 0 else 0
