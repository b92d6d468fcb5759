"""IPI virtualization (SDM 3 29.1.6): the processor posts an IPI to another vCPU by itself, without an exit.

It does so for a fixed, edge-triggered IPI with a physical destination and no shorthand, if it finds the
destination's posted-interrupt descriptor in the table that KVM has set up (v5.19 arch/x86/kvm/vmx).
Any other IPI exits behind the WRMSR, with APIC_WRITE.

    the destination's thread is   descriptor            so the processor
    in the guest                  ON clear              notifies its pCPU: no exit
    switched out, preempted       SN set                posts, and tells nobody
    polling in HLT                ON clear              notifies its pCPU, where the poll loop sees what is posted
    halted                        NV = wake-up vector   interrupts the pCPU that it slept on: pi_wakeup_handler

KVM sees none of it: no trace event, and no mark for Strict Boost.
"""

from pleemu.hardware.apic import ICR_LEVEL, ICR_LOGICAL, ICR_MODE, ICR_VECTOR, destination_of
from pleemu.hardware.interrupts import any_posted, send_host_interrupt, set_vector
from pleemu.hardware.spin import hasten
from pleemu.hypervisor.halt_poll import poll_sees
from pleemu.hypervisor.ipi import is_in_guest, kvm_vcpu_wake_up
from pleemu.jit import compiled
from pleemu.scheduler.records import TASK_DEAD

NOT_VIRTUALISED = ICR_MODE | ICR_LOGICAL | ICR_LEVEL | 0b11 << 18


@compiled
def virtualise_ipi(m, p, sender, now):
    """Post the IPI that the ICR names; False: the processor cannot, and exits."""
    icr = m.cpu[sender].icr
    vm, cost = m.vm[m.vcpu[sender].vm], m.cost[0]
    destination = destination_of(icr)
    vector = icr & ICR_VECTOR
    if icr & NOT_VIRTUALISED != 0 or vector < 16 or destination >= vm.vcpus:
        return False
    target = vm.first_vcpu + destination
    if m.task[target].state == TASK_DEAD:
        return True
    cpu = m.cpu[target]
    set_vector(cpu.pir, vector)
    home = m.task[target].cpu
    if m.vcpu[target].on_wait_queue == 1:
        send_host_interrupt(m, home, now + cost.ipi)
    elif is_in_guest(m, p, home, target, now):
        cpu.pir_at = min(cpu.pir_at, now + cost.ipi + cost.posted)
        hasten(m, home, cpu.pir_at)
    elif m.pcpu[home].vcpu == target:
        poll_sees(m, home, now + 1)
    return True


@compiled
def pi_wakeup_handler(m, p, now):
    """A host interrupt on pCPU ``p``: wake those that sleep here and have been posted to; returns their number."""
    woken = 0
    for v in range(m.vcpu.shape[0]):
        if m.task[v].cpu == p and m.vcpu[v].on_wait_queue == 1 and any_posted(m.cpu[v]):
            kvm_vcpu_wake_up(m, p, v, now)
            woken += 1
    return woken
