"""The instructions that are more than arithmetic: stack, LOOP, cmpxchg16b, IRETQ, MSRs, and the probe `work`."""

from pleemu.hardware import flags
from pleemu.hardware.alu import write_register
from pleemu.hardware.interrupts import end_of_interrupt, set_fault
from pleemu.hardware.isa import ONCE, OP_LOOP, RAX, RCX, RDX, REGISTER, REP, RSP
from pleemu.hardware.memory import load, mask_of, readable, store
from pleemu.hardware.records import (
    FAULT_JUMP,
    FAULT_MSR,
    FAULT_READ,
    FAULT_READONLY,
    FAULT_SELECTOR,
    FAULT_WRITE,
    WORK_DEPTH,
)
from pleemu.hardware.why import FAULTED, WINDOW, WRMSR_EXIT
from pleemu.jit import compiled

# x2APIC registers (SDM 3 table 10-6).
MSR_APIC_ID, MSR_EOI, MSR_ICR = 0x802, 0x80B, 0x830


@compiled
def push(m, v, pc, value, size, now):
    """Push 8 or 2 bytes; False: fault."""
    cpu = m.cpu[v]
    space = m.space[cpu.space]
    address = cpu.registers[RSP] - size
    offset = readable(space, address, size)
    if offset < space.readonly_size:
        set_fault(m.fault[0], FAULT_WRITE if offset < 0 else FAULT_READONLY, v, pc, address, size, now)
        return False
    store(m.memory, space.first_word, offset, size, value)
    cpu.registers[RSP] = address
    return True


@compiled
def pop(m, v, pc, address, size, now):
    """Pop 8 or 2 bytes at ``address`` into ``popped``; False: fault. It is RSP, but for LEAVE."""
    cpu = m.cpu[v]
    space = m.space[cpu.space]
    offset = readable(space, address, size)
    if offset < 0:
        set_fault(m.fault[0], FAULT_READ, v, pc, address, size, now)
        return False
    cpu.popped = load(m.memory, space.first_word, offset, size)
    cpu.registers[RSP] = address + size
    return True


@compiled
def pop_flags(m, v, pc, now):
    """POPFQ: the status flags and DF, and IF at CPL 0 (IOPL is 0); the others do not exist. False: fault."""
    cpu = m.cpu[v]
    if not pop(m, v, pc, cpu.registers[RSP], 8, now):
        return False
    flags.set_rflags(cpu, cpu.popped)
    if cpu.cpl == 0:
        cpu.interrupt_flag = 1 if cpu.popped & flags.IF else 0
    return True


@compiled
def counter_branches(cpu, op, size, kind):
    """Does JRCXZ branch; does LOOP, loope or loopne, which counts RCX down, but changes no flag?"""
    registers = cpu.registers
    if op != OP_LOOP:
        return registers[RCX] & mask_of(size) == 0
    registers[RCX] -= 1
    return registers[RCX] != 0 and (kind == ONCE or (cpu.flag_result == 0) == (kind == REP))


@compiled
def exchange_pair(cpu, low, high, size):
    """cmpxchg8b and cmpxchg16b: does RDX:RAX equal ``high:low``? If not it becomes that. Only ZF changes."""
    registers = cpu.registers
    mask = mask_of(size)
    equal = (registers[RAX] ^ low) & mask == 0 and (registers[RDX] ^ high) & mask == 0
    if not equal:
        write_register(registers, REGISTER, RAX, size, low)
        write_register(registers, REGISTER, RDX, size, high)
    flags.set_zero(cpu, equal)
    return equal


@compiled
def table_index(m, v, pc, address, now):
    """Table index of the instruction at ``address``, -1 with a fault if there is none."""
    space = m.space[m.cpu[v].space]
    offset = address - space.start
    if 0 <= offset < space.code_size:
        index = m.index_of[space.first_index + offset]
        if index >= 0:
            return index
    set_fault(m.fault[0], FAULT_JUMP, v, pc, address, 0, now)
    return -1


@compiled
def iretq(m, v, pc, now):
    """Pop RIP, CS, RFLAGS, RSP, SS (SDM 2 IRET, 64-bit mode): the next table index, -1 with a fault."""
    cpu = m.cpu[v]
    space = m.space[cpu.space]
    stack = cpu.registers[RSP]
    offset = readable(space, stack, 40)
    if offset < 0:
        set_fault(m.fault[0], FAULT_READ, v, pc, stack, 40, now)
        return -1
    level = load(m.memory, space.first_word, offset + 8, 8) & 3
    if level != 0 and level != 3:
        set_fault(m.fault[0], FAULT_SELECTOR, v, pc, level, 0, now)
        return -1
    following = table_index(m, v, pc, load(m.memory, space.first_word, offset, 8), now)
    if following >= 0:
        image = load(m.memory, space.first_word, offset + 16, 8)
        flags.set_rflags(cpu, image)
        cpu.interrupt_flag = 1 if image & flags.IF else 0
        cpu.registers[RSP] = load(m.memory, space.first_word, offset + 24, 8)
        cpu.cpl = level
    return following


@compiled
def write_msr(m, v, pc, now):
    """WRMSR: WINDOW if it is done, WRMSR_EXIT if the hypervisor must do it, FAULTED."""
    cpu = m.cpu[v]
    number = cpu.registers[RCX] & 0xFFFFFFFF
    if number == MSR_EOI and cpu.apicv == 1:
        end_of_interrupt(cpu)
        return WINDOW
    if number == MSR_EOI or number == MSR_ICR:
        return WRMSR_EXIT
    set_fault(m.fault[0], FAULT_MSR, v, pc, number, 0, now)
    return FAULTED


@compiled
def read_msr(m, v, pc, now):
    """RDMSR of the APIC ID; False: fault."""
    cpu = m.cpu[v]
    number = cpu.registers[RCX] & 0xFFFFFFFF
    if number != MSR_APIC_ID:
        set_fault(m.fault[0], FAULT_MSR, v, pc, number, 0, now)
        return False
    cpu.registers[RAX] = cpu.apic_id
    cpu.registers[RDX] = 0
    return True


@compiled
def step_work(cpu, pc, amount, now, until):
    """Spend cycles of a `work` probe before ``until``; return (the cycle reached, is it finished).

    An interrupt may strike in the middle, and its handler may work too. So unfinished work is
    kept on a small stack, found again by pc and RSP; what a handler never came back to is
    forgotten from the bottom.
    """
    depth = cpu.work_depth
    if depth == 0 or cpu.work_pc[depth - 1] != pc or cpu.work_rsp[depth - 1] != cpu.registers[RSP]:
        if amount <= 0:
            return now, True
        if depth == WORK_DEPTH:
            for level in range(1, WORK_DEPTH):
                cpu.work_pc[level - 1] = cpu.work_pc[level]
                cpu.work_rsp[level - 1] = cpu.work_rsp[level]
                cpu.work_left[level - 1] = cpu.work_left[level]
            depth -= 1
        cpu.work_pc[depth] = pc
        cpu.work_rsp[depth] = cpu.registers[RSP]
        cpu.work_left[depth] = amount
        depth += 1
        cpu.work_depth = depth
    step = min(cpu.work_left[depth - 1], until - now)
    cpu.work_left[depth - 1] -= step
    if cpu.work_left[depth - 1] > 0:
        return now + step, False
    cpu.work_depth = depth - 1
    return now + step, True
