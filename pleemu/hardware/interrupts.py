"""Interrupts: of the host between pCPUs, and of a guest through its local APIC.

A guest interrupt goes PIR -> IRR -> ISR (SDM 3 29.6 and 10.8.3-5): posted by the sender,
taken over when the notification arrives or at VM entry, delivered at an instruction
boundary with RFLAGS.IF = 1 if its priority class is above PPR's, which is that of everything
in service and of TPR, and out of service at EOI.
"""

from pleemu.hardware import flags
from pleemu.hardware.agenda import reschedule
from pleemu.hardware.isa import RSP
from pleemu.hardware.memory import readable, store
from pleemu.hardware.protection import is_protected
from pleemu.hardware.records import COMPUTING, FAULT_READONLY, FAULT_VECTOR, FAULT_WRITE, IDLE, NEVER, NO_FAULT, POLLING
from pleemu.hardware.spin import hasten, is_spun_on, wake_spinners
from pleemu.jit import compiled, inlined

# Selectors as Linux lays out its GDT: what an interrupt frame shows.
KERNEL_CS, KERNEL_SS = 0x10, 0x18
USER_CS, USER_SS = 0x33, 0x2B


@compiled
def send_host_interrupt(m, pcpu_index, arrival):
    """An IPI of the host (reschedule, kick) reaches a pCPU at ``arrival``."""
    pcpu = m.pcpu[pcpu_index]
    if arrival < pcpu.interrupt_at:
        pcpu.interrupt_at = arrival
        if pcpu.phase in (IDLE, POLLING, COMPUTING):
            pcpu.cycle = min(pcpu.cycle, arrival)
            reschedule(m, pcpu_index)
        hasten(m, pcpu_index, arrival)


@compiled
def highest(bits):
    """Highest vector in a 256-bit register, -1 if it is empty."""
    for word in range(3, -1, -1):
        if bits[word] != 0:
            value = bits[word]
            for bit in range(63, -1, -1):
                if (value >> bit) & 1:
                    return word * 64 + bit
    return -1


@compiled
def bit_of(vector):
    """The bit of ``vector`` in its word of a 256-bit register."""
    return flags.TOP if vector & 63 == 63 else 1 << (vector & 63)


@compiled
def set_vector(bits, vector):
    """Set the bit of ``vector``."""
    bits[vector >> 6] |= bit_of(vector)


@compiled
def clear_vector(bits, vector):
    """Clear the bit of ``vector``."""
    bits[vector >> 6] &= ~bit_of(vector)


@compiled
def any_posted(cpu):
    """Is any interrupt posted that the APIC has not taken over?"""
    return (cpu.pir[0] | cpu.pir[1] | cpu.pir[2] | cpu.pir[3]) != 0


@compiled
def take_over_posted(cpu):
    """PIR -> IRR; the next posted interrupt needs a notification of its own."""
    for word in range(4):
        cpu.irr[word] |= cpu.pir[word]
        cpu.pir[word] = 0
    cpu.pir_at = NEVER


@compiled
def processor_priority(cpu):
    """PPR (SDM 3 29.1.3, PPR virtualization): TPR, or the class of what is in service if that is higher."""
    in_service = highest(cpu.isr)
    return cpu.tpr if cpu.tpr >> 4 >= in_service >> 4 else in_service & 0xF0


@compiled
def deliverable(cpu):
    """Vector that would be delivered if IF allows, -1 if none: its class must exceed the processor's priority."""
    vector = highest(cpu.irr)
    if vector >= 0 and vector >> 4 > processor_priority(cpu) >> 4:
        return vector
    return -1


@compiled
def begin_service(cpu, vector):
    """The processor takes ``vector``: IRR -> ISR."""
    clear_vector(cpu.irr, vector)
    set_vector(cpu.isr, vector)


@compiled
def end_of_interrupt(cpu):
    """A write to the EOI register: the highest vector leaves service."""
    vector = highest(cpu.isr)
    if vector >= 0:
        clear_vector(cpu.isr, vector)


@inlined
def frame_top(cpu):
    """Where the frame of an interrupt ends (SDM 3 6.14.2, 6.14.4)."""
    return (cpu.rsp0 if cpu.cpl == 3 else cpu.registers[RSP]) & -16


@compiled
def make_way_for_frame(m, v, now):
    """Unpark who reads the lines that the frame of an interrupt would be written to; False if there is nobody."""
    cpu = m.cpu[v]
    space = m.space[cpu.space]
    offset = readable(space, frame_top(cpu) - 40, 40)
    byte = space.first_word * 8 + offset
    if offset < 0 or not is_spun_on(m, byte, 40):
        return False
    wake_spinners(m, byte, 40, now)
    return True


@compiled
def deliver(m, v, vector, now):
    """Deliver ``vector`` through the VM's table (SDM 3 6.14): five quads on the stack; returns a fault or NO_FAULT."""
    cpu = m.cpu[v]
    space = m.space[cpu.space]
    handler = m.vectors[cpu.space, vector]
    fault = m.fault[0]
    if handler < 0:
        return set_fault(fault, FAULT_VECTOR, v, cpu.pc, vector, 0, now)
    top = frame_top(cpu)
    offset = readable(space, top - 40, 40)
    if offset < 0:
        return set_fault(fault, FAULT_WRITE, v, cpu.pc, top - 40, 40, now)
    if offset < space.readonly_size and is_protected(m, space, offset, 40):
        return set_fault(fault, FAULT_READONLY, v, cpu.pc, top - 40, 40, now)
    frame_cs, frame_ss = KERNEL_CS, KERNEL_SS
    if cpu.cpl == 3:
        frame_cs, frame_ss = USER_CS, USER_SS
    store(m.memory, space.first_word, offset + 32, 8, frame_ss)
    store(m.memory, space.first_word, offset + 24, 8, cpu.registers[RSP])
    store(m.memory, space.first_word, offset + 16, 8, flags.rflags(cpu))
    store(m.memory, space.first_word, offset + 8, 8, frame_cs)
    store(m.memory, space.first_word, offset, 8, m.code[cpu.pc].address)
    cpu.registers[RSP] = top - 40
    cpu.interrupt_flag = 0
    cpu.cpl = 0
    cpu.pc = handler
    begin_service(cpu, vector)
    return NO_FAULT


@compiled
def set_fault(fault, kind, v, pc, address, width, now):
    fault.kind = kind
    fault.vcpu = v
    fault.pc = pc
    fault.address = address
    fault.width = width
    fault.cycle = now
    return kind
