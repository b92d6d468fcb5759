"""IPIs between the vCPUs of a VM, and the kick that makes the target see them.

v5.6 arch/x86/kvm/lapic.c: apic_send_ipi, __apic_accept_irq; virt/kvm/kvm_main.c: kvm_vcpu_wake_up,
kvm_vcpu_kick. Physical destination, fixed delivery mode, no shorthand.
"""

from pleemu.hardware.clock import cycles_to_ns
from pleemu.hardware.interrupts import any_posted, send_host_interrupt, set_fault, set_vector, take_over_posted
from pleemu.hardware.isa import RAX, RDX
from pleemu.hardware.records import EXITING, FAULT_DESTINATION, GUEST, NEVER
from pleemu.hypervisor.strict_boost import mark_ipi_receiver
from pleemu.jit import compiled
from pleemu.observe.events import APIC_IPI, SCHED_WAKEUP
from pleemu.observe.journal import record
from pleemu.scheduler.core import try_to_wake_up
from pleemu.scheduler.records import TASK_DEAD

# ICR bits: delivery mode 10:8, logical destination 11, shorthand 19:18 (SDM 3 10.12.9). All must be 0.
ICR_UNSUPPORTED = 0b111 << 8 | 1 << 11 | 0b11 << 18


@compiled
def apic_send_ipi(m, p, sender, now):
    """The guest's write to the ICR: send; returns the extra host cycles of a wake-up, -1 with a fault."""
    cpu = m.cpu[sender]
    vm = m.vm[m.vcpu[sender].vm]
    low = cpu.registers[RAX] & 0xFFFFFFFF
    destination = cpu.registers[RDX] & 0xFFFFFFFF
    vector = low & 0xFF
    if low & ICR_UNSUPPORTED != 0 or destination >= vm.vcpus or vector < 16:
        set_fault(m.fault[0], FAULT_DESTINATION, sender, cpu.pc, destination, low, now)
        return -1
    target = vm.first_vcpu + destination
    record(m, now, APIC_IPI, p, sender, destination, vector, 0)
    mark_ipi_receiver(m, sender, target)
    return accept_irq(m, p, target, vector, now)


@compiled
def accept_irq(m, p, target, vector, now):
    """Make ``vector`` pending in the target and make it notice; returns the host cycles of a wake-up."""
    cpu, vcpu, cost = m.cpu[target], m.vcpu[target], m.cost[0]
    if m.task[target].state == TASK_DEAD:
        return 0
    notified = any_posted(cpu)
    set_vector(cpu.pir, vector)
    if vcpu.on_wait_queue == 1:
        return kvm_vcpu_wake_up(m, p, target, now)
    home = m.task[target].cpu
    if is_in_guest(m, p, home, target, now) and not notified:
        if cpu.apicv == 1:
            cpu.pir_at = now + cost.ipi  # posted-interrupt notification: no exit
        else:
            send_host_interrupt(m, home, now + cost.ipi)
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
    home = m.task[target].cpu
    vcpu.on_wait_queue = 0  # swait: the waker takes it off the queue
    try_to_wake_up(m, home, target, cycles_to_ns(m.clock[0], now))
    vcpu.ready = 1
    record(m, now, SCHED_WAKEUP, p, m.pcpu[p].vcpu, target, home, 0)
    if home != p and m.rq[home].need_resched == 1:
        send_host_interrupt(m, home, now + m.cost[0].ipi)
    return m.cost[0].wakeup


@compiled
def sync_at_entry(m, v):
    """VM entry: what was posted is in the APIC from now on."""
    cpu = m.cpu[v]
    if any_posted(cpu):
        take_over_posted(cpu)
    cpu.pir_at = NEVER
