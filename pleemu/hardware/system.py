"""The instructions that are more than arithmetic: stack, IRETQ, and the probe `work`."""

from pleemu.hardware import flags
from pleemu.hardware.interrupts import set_fault
from pleemu.hardware.isa import RSP
from pleemu.hardware.memory import load, readable, store
from pleemu.hardware.records import (
    FAULT_JUMP,
    FAULT_READ,
    FAULT_READONLY,
    FAULT_SELECTOR,
    FAULT_WRITE,
    WORK_DEPTH,
)
from pleemu.jit import compiled


@compiled
def push(m, v, pc, value, now):
    """Push 8 bytes; False: fault."""
    cpu = m.cpu[v]
    space = m.space[cpu.space]
    address = cpu.registers[RSP] - 8
    offset = readable(space, address, 8)
    if offset < space.readonly_size:
        set_fault(m.fault[0], FAULT_WRITE if offset < 0 else FAULT_READONLY, v, pc, address, 8, now)
        return False
    store(m.memory, space.first_word, offset, 8, value)
    cpu.registers[RSP] = address
    return True


@compiled
def pop(m, v, pc, now):
    """Pop 8 bytes into ``popped``; False: fault."""
    cpu = m.cpu[v]
    space = m.space[cpu.space]
    address = cpu.registers[RSP]
    offset = readable(space, address, 8)
    if offset < 0:
        set_fault(m.fault[0], FAULT_READ, v, pc, address, 8, now)
        return False
    cpu.popped = load(m.memory, space.first_word, offset, 8)
    cpu.registers[RSP] = address + 8
    return True


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
