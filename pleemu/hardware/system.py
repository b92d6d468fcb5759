"""The instructions that are more than arithmetic: stack, LOOP, cmpxchg16b, IRETQ, and the probe `work`."""

from pleemu.hardware import flags
from pleemu.hardware.alu import write_register
from pleemu.hardware.interrupts import KERNEL_CS, USER_CS, set_fault
from pleemu.hardware.isa import ONCE, OP_LOOP, RAX, RCX, RDX, REGISTER, REP, RSP
from pleemu.hardware.memory import load, mask_of, readable
from pleemu.hardware.protection import is_protected
from pleemu.hardware.records import (
    FAULT_JUMP,
    FAULT_READ,
    FAULT_READONLY,
    FAULT_SELECTOR,
    FAULT_WRITE,
    WORK_DEPTH,
)
from pleemu.hardware.store_buffer import fetch, put
from pleemu.jit import compiled, inlined


@compiled
def push(m, p, v, pc, value, size, now):
    """Push 8 or 2 bytes into the store buffer, which has room; False: fault."""
    cpu = m.cpu[v]
    space = m.space[cpu.space]
    address = cpu.registers[RSP] - size
    offset = readable(space, address, size)
    if offset < 0 or (offset < space.readonly_size and is_protected(m, space, offset, size)):
        set_fault(m.fault[0], FAULT_WRITE if offset < 0 else FAULT_READONLY, v, pc, address, size, now)
        return False
    put(m, p, space.first_word * 8 + offset, size, value, now)
    cpu.registers[RSP] = address
    return True


@compiled
def pop(m, p, v, pc, address, size, now):
    """Pop 8 or 2 bytes at ``address``, which is RSP but for LEAVE, into ``popped``.

    Returns ``now``, the cycle at which to try again, or -1 with a fault.
    """
    cpu = m.cpu[v]
    space = m.space[cpu.space]
    offset = readable(space, address, size)
    if offset < 0:
        set_fault(m.fault[0], FAULT_READ, v, pc, address, size, now)
        return -1
    value, when = fetch(m, p, space.first_word * 8 + offset, size, now)
    if when == now:
        cpu.popped = value
        cpu.registers[RSP] = address + size
    return when


@compiled
def pop_flags(m, p, v, pc, now):
    """POPFQ: the status flags and DF, and IF at CPL 0 (IOPL is 0); the others do not exist. Returns as `pop`."""
    cpu = m.cpu[v]
    when = pop(m, p, v, pc, cpu.registers[RSP], 8, now)
    if when == now:
        flags.set_rflags(cpu, cpu.popped)
        if cpu.cpl == 0:
            cpu.interrupt_flag = 1 if cpu.popped & flags.IF else 0
    return when


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
    index = index_at(m, m.space[m.cpu[v].space], address)
    if index >= 0:
        return index
    set_fault(m.fault[0], FAULT_JUMP, v, pc, address, 0, now)
    return -1


@inlined
def index_at(m, space, address):
    """Table index of the instruction at ``address``, negative if there is none."""
    offset = address - space.start
    return m.index_of[space.first_index + offset] if 0 <= offset < space.code_size else -1


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
    selector = load(m.memory, space.first_word, offset + 8, 8) & 0xFFFF
    if selector != KERNEL_CS and selector != USER_CS:
        set_fault(m.fault[0], FAULT_SELECTOR, v, pc, selector, 0, now)
        return -1
    following = table_index(m, v, pc, load(m.memory, space.first_word, offset, 8), now)
    if following >= 0:
        flags.load_flags(cpu, load(m.memory, space.first_word, offset + 16, 8))
        cpu.registers[RSP] = load(m.memory, space.first_word, offset + 24, 8)
        cpu.cpl = selector & 3
    return following


@compiled
def is_at_work(cpu, pc):
    """Has the `work` at ``pc`` begun, and is it not finished?"""
    depth = cpu.work_depth
    return depth > 0 and cpu.work_pc[depth - 1] == pc and cpu.work_rsp[depth - 1] == cpu.registers[RSP]


@compiled
def step_work(cpu, pc, amount, now, until):
    """Spend cycles of a `work` probe before ``until``; return (the cycle reached, is it finished).

    An interrupt may strike in the middle, and its handler may work too. So unfinished work is
    kept on a small stack, found again by pc and RSP; what a handler never came back to is
    forgotten from the bottom.
    """
    depth = cpu.work_depth
    if not is_at_work(cpu, pc):
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
