"""The registers of a local APIC in x2APIC mode: MSRs 0x800 to 0x83F (SDM 3 table 10-6).

The APIC ID is the vCPU's number, and the logical ID follows from it (SDM 3 10.12.10.2): its
cluster in bits 31:16, its place in the cluster as one bit of 15:0. Timer, LVT and error
registers are not there, and interrupts are edge-triggered: TMR is 0.
"""

from pleemu.hardware.interrupts import end_of_interrupt, processor_priority
from pleemu.jit import compiled

MSR_ID, MSR_VERSION, MSR_TPR, MSR_PPR, MSR_EOI = 0x802, 0x803, 0x808, 0x80A, 0x80B
MSR_LDR, MSR_SVR, MSR_ISR, MSR_TMR, MSR_IRR = 0x80D, 0x80F, 0x810, 0x818, 0x820
MSR_ICR, MSR_SELF_IPI, MSR_APIC_END = 0x830, 0x83F, 0x840

# As KVM has it: version 0x14, six LVT entries (v5.6 arch/x86/kvm/lapic.c, APIC_VERSION).
VERSION = 0x50014

SVR_ENABLED = 1 << 8  # APIC software enable

# ICR (SDM 3 10.12.9).
ICR_VECTOR = 0xFF
ICR_MODE = 0b111 << 8
ICR_LOGICAL = 1 << 11
ICR_LEVEL = 1 << 15
ICR_RESERVED = 0b11 << 12 | 0b11 << 16 | 0xFFF << 20
FIXED, LOWEST_PRIORITY = 0 << 8, 1 << 8
DESTINATION, TO_SELF, TO_ALL, TO_ALL_BUT_SELF = range(4)  # shorthand, bits 19:18
BROADCAST = 0xFFFFFFFF


@compiled
def logical_id(apic_id):
    """LDR of the APIC with this ID."""
    return (apic_id >> 4) << 16 | 1 << (apic_id & 15)


@compiled
def shorthand(icr):
    """Destination shorthand of an ICR value."""
    return (icr >> 18) & 3


@compiled
def destination_of(icr):
    """Destination field of an ICR value."""
    return (icr >> 32) & 0xFFFFFFFF


@compiled
def is_destination(apic_id, sender_id, icr):
    """Does the ICR value that ``sender_id`` writes name the APIC ``apic_id``?"""
    short = shorthand(icr)
    if short != DESTINATION:
        return short == TO_ALL or (short == TO_SELF) == (apic_id == sender_id)
    destination = destination_of(icr)
    if destination == BROADCAST:
        return True
    if icr & ICR_LOGICAL == 0:
        return destination == apic_id
    mine = logical_id(apic_id)
    return mine >> 16 == destination >> 16 and mine & destination & 0xFFFF != 0


@compiled
def is_readable(number):
    """May RDMSR read this x2APIC register? EOI and SELF IPI are for writing only."""
    if MSR_ISR <= number < MSR_IRR + 8:
        return True
    return (
        number == MSR_ID
        or number == MSR_VERSION
        or number == MSR_TPR
        or number == MSR_PPR
        or number == MSR_LDR
        or number == MSR_SVR
        or number == MSR_ICR
    )


@compiled
def reserved_in(number):
    """Bits that WRMSR must leave 0 in an x2APIC register, as a mask."""
    if number == MSR_TPR or number == MSR_SELF_IPI:
        return ~0xFF
    if number == MSR_EOI:
        return ~0
    if number == MSR_SVR:
        return ~(SVR_ENABLED | 0xFF)
    if number == MSR_ICR:
        return ICR_RESERVED
    return 0


@compiled
def is_writable(number):
    """May WRMSR write this x2APIC register?"""
    return number == MSR_TPR or number == MSR_EOI or number == MSR_SVR or number == MSR_ICR or number == MSR_SELF_IPI


@compiled
def read_apic(cpu, number):
    """Value of a readable x2APIC register."""
    if number == MSR_ID:
        return cpu.apic_id
    if number == MSR_VERSION:
        return VERSION
    if number == MSR_TPR:
        return cpu.tpr
    if number == MSR_PPR:
        return processor_priority(cpu)
    if number == MSR_LDR:
        return logical_id(cpu.apic_id)
    if number == MSR_SVR:
        return cpu.svr
    if number == MSR_ICR:
        return cpu.icr
    place = number & 7  # 32 vectors each
    if MSR_ISR <= number < MSR_ISR + 8:
        return (cpu.isr[place >> 1] >> ((place & 1) * 32)) & 0xFFFFFFFF
    if MSR_IRR <= number < MSR_IRR + 8:
        return (cpu.irr[place >> 1] >> ((place & 1) * 32)) & 0xFFFFFFFF
    return 0


@compiled
def write_apic(cpu, number, value):
    """Write a register that acts on its own APIC alone: TPR, EOI, SVR; and ICR, which its caller sends."""
    if number == MSR_TPR:
        cpu.tpr = value
    elif number == MSR_EOI:
        end_of_interrupt(cpu)
    elif number == MSR_SVR:
        cpu.svr = value
    elif number == MSR_ICR:
        cpu.icr = value
