"""String instructions: movs, stos, lods, scas, cmps (SDM 2).

One call does one element. A repeated instruction stays where it is until it is through, so
that interrupts and other pCPUs come in between as on a processor. It counts as one
instruction; each element costs as much as a simple one (proposed).
"""

from pleemu.hardware.alu import compare, write_register
from pleemu.hardware.interrupts import set_fault
from pleemu.hardware.isa import (
    ONCE,
    OP_CMPS,
    OP_LODS,
    OP_MOVS,
    OP_SCAS,
    OP_STOS,
    RAX,
    RCX,
    RDI,
    REGISTER,
    REP,
    RSI,
)
from pleemu.hardware.memory import readable
from pleemu.hardware.protection import is_protected
from pleemu.hardware.records import FAULT_READ, FAULT_READONLY, FAULT_WRITE
from pleemu.hardware.store_buffer import fetch, fetch_two, put
from pleemu.jit import compiled

# What became of an element.
MORE, DONE, FAULTY = range(3)


@compiled
def string_element(m, p, v, pc, now):
    """Do one element of the string instruction at ``pc``.

    Returns (MORE to come, DONE or FAULTY; ``now``, or the cycle at which to try again).
    """
    cpu = m.cpu[v]
    space = m.space[cpu.space]
    registers = cpu.registers
    i = m.code[pc]
    op = i.op
    size = i.width
    if i.condition != ONCE and registers[RCX] == 0:
        return DONE, now

    # Both addresses are checked and all is read before anything changes.
    source = registers[RSI]
    destination = registers[RDI]
    from_offset = 0
    to_offset = 0
    if op != OP_STOS and op != OP_SCAS:
        from_offset = readable(space, source, size)
        if from_offset < 0:
            set_fault(m.fault[0], FAULT_READ, v, pc, source, size, now)
            return FAULTY, now
    if op != OP_LODS:
        to_offset = readable(space, destination, size)
        writes = op == OP_MOVS or op == OP_STOS
        forbidden = writes and to_offset < space.readonly_size
        if to_offset < 0 or (forbidden and is_protected(m, space, to_offset, size)):
            kind = FAULT_READ if not writes else FAULT_WRITE if to_offset < 0 else FAULT_READONLY
            set_fault(m.fault[0], kind, v, pc, destination, size, now)
            return FAULTY, now
    value = registers[RAX]
    other = value
    first_byte = space.first_word * 8
    when = now
    if op == OP_CMPS:
        value, other, when = fetch_two(m, p, first_byte + from_offset, first_byte + to_offset, size, now)
    elif op == OP_SCAS:
        other, when = fetch(m, p, first_byte + to_offset, size, now)
    elif op != OP_STOS:
        value, when = fetch(m, p, first_byte + from_offset, size, now)
    if when > now:
        return MORE, when

    if op == OP_MOVS or op == OP_STOS:
        put(m, p, first_byte + to_offset, size, value, now)
    elif op == OP_LODS:
        write_register(registers, REGISTER, RAX, size, value)
    else:
        compare(cpu, value, other, size)
    step = -size if cpu.direction == 1 else size
    if op != OP_STOS and op != OP_SCAS:
        registers[RSI] = source + step
    if op != OP_LODS:
        registers[RDI] = destination + step
    if i.condition == ONCE:
        return DONE, now
    registers[RCX] -= 1
    if registers[RCX] == 0:
        return DONE, now
    if (op == OP_SCAS or op == OP_CMPS) and (cpu.flag_result == 0) != (i.condition == REP):
        return DONE, now
    return MORE, now
