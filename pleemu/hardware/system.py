"""The instructions that are more than arithmetic: stack, IRETQ, MSRs, and the probe `work`."""

from pleemu.hardware import flags
from pleemu.hardware.interrupts import end_of_interrupt, set_fault
from pleemu.hardware.isa import RAX, RCX, RDX, RSP
from pleemu.hardware.memory import load, readable
from pleemu.hardware.records import (
    FAULT_JUMP,
    FAULT_MSR,
    FAULT_READ,
    FAULT_READONLY,
    FAULT_SELECTOR,
    FAULT_WRITE,
    WORK_DEPTH,
)
from pleemu.hardware.store_buffer import fetch, put
from pleemu.hardware.why import FAULTED, WINDOW, WRMSR_EXIT
from pleemu.jit import compiled

# x2APIC registers (SDM 3 table 10-6).
MSR_APIC_ID, MSR_EOI, MSR_ICR = 0x802, 0x80B, 0x830


@compiled
def push(m, p, v, pc, value, now):
    """Push 8 bytes into the store buffer, which has room; False: fault."""
    cpu = m.cpu[v]
    space = m.space[cpu.space]
    address = cpu.registers[RSP] - 8
    offset = readable(space, address, 8)
    if offset < space.readonly_size:
        set_fault(m.fault[0], FAULT_WRITE if offset < 0 else FAULT_READONLY, v, pc, address, 8, now)
        return False
    put(m, p, space.first_word * 8 + offset, 8, value, now)
    cpu.registers[RSP] = address
    return True


@compiled
def pop(m, p, v, pc, now):
    """Pop 8 bytes into ``popped``: ``now``, the cycle at which to try again, or -1 with a fault."""
    cpu = m.cpu[v]
    space = m.space[cpu.space]
    address = cpu.registers[RSP]
    offset = readable(space, address, 8)
    if offset < 0:
        set_fault(m.fault[0], FAULT_READ, v, pc, address, 8, now)
        return -1
    value, when = fetch(m, p, space.first_word * 8 + offset, 8, now)
    if when == now:
        cpu.popped = value
        cpu.registers[RSP] = address + 8
    return when


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
