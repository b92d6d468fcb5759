"""RDMSR and WRMSR that exit: KVM does what the processor would (v5.6 arch/x86/kvm/x86.c, lapic.c)."""

from pleemu.hardware.apic import MSR_EOI, MSR_ICR, MSR_SELF_IPI, TO_SELF, read_apic, write_apic
from pleemu.hardware.interrupts import highest
from pleemu.hardware.msr import (
    MSR_KVM_STEAL_TIME,
    finish_rdmsr,
    is_syscall_msr,
    msr_number,
    msr_operand,
    read_syscall_msr,
    write_syscall_msr,
)
from pleemu.hypervisor.icr import apic_send_ipi
from pleemu.hypervisor.ipi_aware import clear_ipi_on_eoi
from pleemu.hypervisor.own import ON_EOI, tell
from pleemu.jit import compiled


@compiled
def kvm_set_msr(m, p, v, now):
    """WRMSR; returns the host cycles beyond those of any MSR."""
    cpu = m.cpu[v]
    number = msr_number(cpu)
    value = msr_operand(cpu)
    if is_syscall_msr(number):
        write_syscall_msr(cpu, number, value)
        return 0
    if number == MSR_KVM_STEAL_TIME:
        m.pv[v].steal_msr = value
        m.pv[v].steal_update = 1
        return 0
    if number == MSR_SELF_IPI:  # KVM makes an ICR write of it; the destination stays
        number = MSR_ICR
        value |= TO_SELF << 18 | cpu.icr & ~0xFFFFFFFF
    if number == MSR_EOI:
        clear_ipi_on_eoi(m, v, now)
        tell(m, ON_EOI, v, -1, highest(cpu.isr), now)
    write_apic(cpu, number, value)
    return apic_send_ipi(m, p, v, cpu.pc, now) if number == MSR_ICR else 0


@compiled
def kvm_get_msr(m, v):
    """RDMSR."""
    cpu = m.cpu[v]
    number = msr_number(cpu)
    if number == MSR_KVM_STEAL_TIME:
        finish_rdmsr(cpu, m.pv[v].steal_msr)
        return
    finish_rdmsr(cpu, read_syscall_msr(cpu, number) if is_syscall_msr(number) else read_apic(cpu, number))
