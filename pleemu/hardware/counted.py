"""Loops that count down to zero, or up to it: `dec; jnz` and kin, with anything steady around it.

Of a turn that differs from the one before in one register alone, the register is a counter if a single
instruction of the loop touches it, which adds a constant, and if what reads the flags of that only asks whether
they say zero. Then all turns are alike until it is zero, and the counter is known in each.
"""

from pleemu.hardware import isa as OP
from pleemu.hardware.alu import arithmetic
from pleemu.hardware.isa import CC_E, CC_NE, HIGH, IMMEDIATE, NONE, ONCE, RCX, REGISTER, REGISTERS
from pleemu.hardware.memory import mask_of, sign_extend
from pleemu.jit import compiled, inlined

NO_COUNTER = -1


@compiled
def find_counter(m, spin, cpu, last):
    """Does the loop from `spin.head` to the branch at ``last``, straight on, only count? Remember how."""
    register = changed_register(spin, cpu)
    if register == NO_COUNTER:
        return False
    counting = counting_instruction(m, spin.head, last, register)
    if counting < 0:
        return False
    writer = last_writer(m, spin.head, last)
    if not asks_for_zero(m, spin.head, last, counting, writer):
        return False
    if writer != counting and (cpu.flag_result != spin.flag_result or cpu.flag_carry != spin.flag_carry):
        return False
    i = m.code[counting]
    spin.counter = register
    spin.counting = counting
    spin.sets_flags = 1 if writer == counting else 0
    spin.step = sign_extend(cpu.registers[register] - spin.registers[register], 8 if i.op == OP.OP_LOOP else i.width)
    return True


@compiled
def changed_register(spin, cpu):
    """The only register that is not as it was, or NO_COUNTER."""
    found = NO_COUNTER
    for number in range(REGISTERS):
        if cpu.registers[number] != spin.registers[number]:
            if found != NO_COUNTER:
                return NO_COUNTER
            found = number
    return found


@compiled
def counting_instruction(m, head, last, register):
    """The one instruction that touches the register, if it only adds a constant to it; -1 otherwise."""
    found = -1
    for pc in range(head, last + 1):
        i = m.code[pc]
        if not is_plain(i):
            return -1
        if touches(i, register):
            if found >= 0 or not adds_constant(i, register):
                return -1
            found = pc
    return found


@inlined
def is_plain(i):
    """Does the instruction say all that it reads and writes in its operands? ADC and SBB read a flag."""
    return (
        (OP.OP_NOP <= i.op and i.op <= OP.OP_NEG and i.op != OP.OP_ADC and i.op != OP.OP_SBB)
        or i.op == OP.OP_JCC
        or i.op == OP.OP_JMP
        or i.op == OP.OP_PAUSE
        or i.op == OP.OP_FENCE
        or (i.op == OP.OP_LOOP and i.condition == ONCE)
    )


@compiled
def touches(i, register):
    """Does the instruction read or write the register?"""
    return (
        ((i.dst_kind == REGISTER or i.dst_kind == HIGH) and i.dst == register)
        or ((i.src_kind == REGISTER or i.src_kind == HIGH) and i.src == register)
        or ((i.access_size != 0 or i.op == OP.OP_LEA) and (i.base_register == register or i.index_register == register))
        or (i.op == OP.OP_LOOP and register == RCX)
    )


@inlined
def adds_constant(i, register):
    """Is it INC, DEC, ADD or SUB of a constant, 4 or 8 bytes wide, or LOOP?"""
    if i.op == OP.OP_LOOP:
        return True
    if i.dst_kind != REGISTER or i.dst != register or i.width < 4:
        return False
    if i.op == OP.OP_INC or i.op == OP.OP_DEC:
        return i.src_kind == NONE
    return (i.op == OP.OP_ADD or i.op == OP.OP_SUB) and i.src_kind == IMMEDIATE


@inlined
def writes_flags(i):
    """Of plain instructions: is it arithmetic?"""
    return OP.OP_ADD <= i.op and i.op <= OP.OP_NEG


@compiled
def last_writer(m, head, last):
    """The last instruction of the loop that writes flags, -1 if none does."""
    found = -1
    for pc in range(head, last + 1):
        if writes_flags(m.code[pc]):
            found = pc
    return found


@compiled
def asks_for_zero(m, head, last, counting, writer):
    """Do all branches that see the flags of the ``counting`` instruction go the same way until it makes zero?

    Those within the loop leave it at zero, the one at its end goes back unless zero.
    """
    source = writer
    for pc in range(head, last + 1):
        i = m.code[pc]
        if i.op == OP.OP_JCC and source == counting and i.condition != (CC_NE if pc == last else CC_E):
            return False
        if writes_flags(i):
            source = pc
    return True


@compiled
def turns_until_zero(m, spin, cpu):
    """How many turns surely end with another number than zero in the counter."""
    width = width_of(m, spin)
    value, step = sign_extend(cpu.registers[spin.counter], width), spin.step
    if step > 0:
        room = -value - 1 if value < 0 else (1 << (width * 8 - 2)) - value
        return max(0, room) // step
    if value < 0:
        value += 1 << 32 if width == 4 else 0
    return max(0, value - 1) // -step


@inlined
def width_of(m, spin):
    """Bytes of the counter."""
    i = m.code[spin.counting]
    return 8 if i.op == OP.OP_LOOP else i.width


@compiled
def count(m, spin, cpu, turns):
    """So many turns later, one at least: the counter, and its flags."""
    width = width_of(m, spin)
    i = m.code[spin.counting]
    before = cpu.registers[spin.counter] + (turns - 1) * spin.step
    after = before + spin.step
    cpu.registers[spin.counter] = after if width == 8 else after & 0xFFFFFFFF
    if spin.sets_flags == 1:
        arithmetic(cpu, i.op, before & mask_of(width), i.immediate, width)
