"""RDMSR and WRMSR: which MSRs there are, and which of them the processor does without a VM exit.

    MSR                   with virtual-interrupt delivery  without
    TPR, also as CR8      no exit                          exits
    EOI, SELF IPI         no exit                          exits
    ICR                   exits; not if the IPI virtualization finds it simple enough
    SVR                   exits                            exits
    any x2APIC register   no exit to read                  exits
    STAR, LSTAR, FMASK    exits                            exits
    KVM's steal time      exits                            exits

as v5.6 arch/x86/kvm/vmx/vmx.c, vmx_update_msr_bitmap_x2apic, sets up the MSR bitmap, and v5.19 for the ICR.

DEVIATION: without virtual-interrupt delivery that kernel still virtualises TPR, where the
processor can: no exit until TPR falls below the class of a pending interrupt.
"""

from pleemu.hardware.apic import (
    MSR_EOI,
    MSR_ICR,
    MSR_SELF_IPI,
    MSR_TPR,
    is_readable,
    is_writable,
    read_apic,
    reserved_in,
    write_apic,
)
from pleemu.hardware.cpuid import KVM_FEATURE_STEAL_TIME
from pleemu.hardware.interrupts import KERNEL_CS, USER_CS, set_fault, set_vector
from pleemu.hardware.isa import OP_CR8_READ, RAX, RCX, RDX
from pleemu.hardware.memory import readable
from pleemu.hardware.protection import is_protected
from pleemu.hardware.records import FAULT_CR8, FAULT_DELIVERY, FAULT_MSR, FAULT_MSR_VALUE
from pleemu.hardware.why import FAULTED, ICR_WRITTEN, RDMSR_EXIT, STOPPED, WINDOW, WRMSR_EXIT
from pleemu.jit import compiled

MSR_STAR, MSR_LSTAR, MSR_FMASK = 0xC0000081, 0xC0000082, 0xC0000084

# CS of SYSCALL in bits 47:32, CS - 16 of SYSRET in 63:48 (SDM 3 5.8.8); RPL aside, as Linux lays out its GDT.
STAR_SELECTORS = (USER_CS & ~3) - 16 << 16 | KERNEL_CS
STAR_RPL = 3 << 16 | 3

# KVM's own: bit 0 enables, bits 63:6 are the address of 64 bytes (v5.6 arch/x86/include/uapi/asm/kvm_para.h).
MSR_KVM_STEAL_TIME = 0x4B564D03
KVM_MSR_ENABLED = 1
STEAL_TIME_SIZE = 64
STEAL_TIME_RESERVED = STEAL_TIME_SIZE - 1 & ~KVM_MSR_ENABLED


@compiled
def msr_number(cpu):
    """ECX."""
    return cpu.registers[RCX] & 0xFFFFFFFF


@compiled
def msr_operand(cpu):
    """EDX:EAX."""
    return (cpu.registers[RDX] & 0xFFFFFFFF) << 32 | cpu.registers[RAX] & 0xFFFFFFFF


@compiled
def write_msr(m, v, pc, now):
    """WRMSR: WINDOW if it is done, WRMSR_EXIT or ICR_WRITTEN if the rest is others' work, FAULTED."""
    cpu = m.cpu[v]
    number = msr_number(cpu)
    value = msr_operand(cpu)
    if is_kvm_msr(cpu, number):
        if not is_steal_time(m, m.space[cpu.space], value):
            set_fault(m.fault[0], FAULT_MSR_VALUE, v, pc, number, value, now)
            return FAULTED
        return WRMSR_EXIT
    if not is_writable(number) and not is_syscall_msr(number):
        set_fault(m.fault[0], FAULT_MSR, v, pc, number, 1, now)
        return FAULTED
    if refuses(number, value):
        set_fault(m.fault[0], FAULT_MSR_VALUE, v, pc, number, value, now)
        return FAULTED
    if number == MSR_SELF_IPI and value < 16:
        set_fault(m.fault[0], FAULT_DELIVERY, v, pc, number, value, now)
        return FAULTED
    if number == MSR_ICR and cpu.ipiv == 1:
        cpu.icr = value
        return ICR_WRITTEN
    if cpu.apicv == 1 and number == MSR_SELF_IPI:
        set_vector(cpu.irr, value)  # self-IPI virtualization (SDM 3 29.1.5)
        return WINDOW
    if cpu.apicv == 1 and (number == MSR_TPR or number == MSR_EOI):
        write_apic(cpu, number, value)
        return WINDOW
    return WRMSR_EXIT


@compiled
def read_msr(m, v, pc, now):
    """RDMSR: STOPPED if it is done, RDMSR_EXIT, FAULTED."""
    cpu = m.cpu[v]
    number = msr_number(cpu)
    if is_syscall_msr(number) or is_kvm_msr(cpu, number):
        return RDMSR_EXIT
    if not is_readable(number):
        set_fault(m.fault[0], FAULT_MSR, v, pc, number, 0, now)
        return FAULTED
    if cpu.apicv == 0:
        return RDMSR_EXIT
    finish_rdmsr(cpu, read_apic(cpu, number))
    return STOPPED


@compiled
def finish_rdmsr(cpu, value):
    """EDX:EAX = value."""
    cpu.registers[RAX] = value & 0xFFFFFFFF
    cpu.registers[RDX] = (value >> 32) & 0xFFFFFFFF


@compiled
def move_cr8(m, v, pc, now):
    """MOV to or from CR8, which is bits 7:4 of TPR (SDM 3 10.8.6); False: fault."""
    cpu = m.cpu[v]
    i = m.code[pc]
    if i.op == OP_CR8_READ:
        cpu.registers[i.dst] = cpu.tpr >> 4
        return True
    value = cpu.registers[i.src]
    if value & ~15 != 0:
        set_fault(m.fault[0], FAULT_CR8, v, pc, value, 0, now)
        return False
    cpu.tpr = value << 4
    return True


@compiled
def is_syscall_msr(number):
    """STAR, LSTAR or FMASK?"""
    return number == MSR_STAR or number == MSR_LSTAR or number == MSR_FMASK


@compiled
def is_kvm_msr(cpu, number):
    """An MSR of KVM's that the host offers?"""
    return number == MSR_KVM_STEAL_TIME and (cpu.kvm_features >> KVM_FEATURE_STEAL_TIME) & 1 == 1


@compiled
def is_steal_time(m, space, value):
    """Does KVM take this value: nothing, or 64 bytes that the guest may write?

    DEVIATION: v5.6 takes an address outside of the guest's memory and then does nothing with it; until v5.5
    it was #GP, as here.
    """
    if value & STEAL_TIME_RESERVED != 0:
        return False
    if value & KVM_MSR_ENABLED == 0:
        return True
    offset = readable(space, value & -STEAL_TIME_SIZE, STEAL_TIME_SIZE)
    if offset < 0:
        return False
    return offset >= space.readonly_size or not is_protected(m, space, offset, STEAL_TIME_SIZE)


@compiled
def refuses(number, value):
    """Would the processor raise #GP, or are the selectors others than those of the built-in GDT?"""
    if number == MSR_STAR:
        return (value >> 32) & 0xFFFFFFFF & ~STAR_RPL != STAR_SELECTORS
    if number == MSR_LSTAR:
        return value >> 47 != 0 and value >> 47 != -1  # not canonical
    if number == MSR_FMASK:
        return value >> 32 != 0
    return value & reserved_in(number) != 0


@compiled
def read_syscall_msr(cpu, number):
    """Value of STAR, LSTAR or FMASK."""
    return cpu.star if number == MSR_STAR else cpu.lstar if number == MSR_LSTAR else cpu.fmask


@compiled
def write_syscall_msr(cpu, number, value):
    """Set STAR, LSTAR or FMASK."""
    if number == MSR_STAR:
        cpu.star = value
    elif number == MSR_LSTAR:
        cpu.lstar = value
    else:
        cpu.fmask = value
