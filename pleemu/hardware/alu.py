"""Integer arithmetic on operands of 1, 2, 4 and 8 bytes, with its flags (SDM 2).

Operands come as 64-bit numbers of which the low ``size`` bytes count; results likewise.
"""

from pleemu.hardware import flags
from pleemu.hardware.isa import (
    HIGH,
    OP_ADC,
    OP_ADD,
    OP_BT,
    OP_BTC,
    OP_BTS,
    OP_CMP,
    OP_DEC,
    OP_INC,
    OP_NEG,
    OP_OR,
    OP_SAR,
    OP_SBB,
    OP_SHL,
    OP_SUB,
    OP_XOR,
)
from pleemu.hardware.memory import mask_of, sign_extend
from pleemu.jit import compiled, inlined


@inlined
def read_register(registers, kind, number):
    """Value of a register operand; only its low bytes count."""
    return registers[number] >> 8 if kind == HIGH else registers[number]


@inlined
def write_register(registers, kind, number, size, value):
    """Write a register operand: 4 bytes clear the upper half, 1 and 2 leave the rest (SDM 1 3.4.1.1)."""
    if size == 8:
        registers[number] = value
    elif size == 4:
        registers[number] = value & 0xFFFFFFFF
    elif kind == HIGH:
        registers[number] = (registers[number] & ~0xFF00) | ((value & 0xFF) << 8)
    else:
        mask = mask_of(size)
        registers[number] = (registers[number] & ~mask) | (value & mask)


@compiled
def add(cpu, a, b, size):
    """A + b, with flags set."""
    result = a + b
    flags.set_result(cpu, result, (a & b) | ((a | b) & ~result), size)
    return result


@compiled
def compare(cpu, a, b, size):
    """Set the flags of a - b."""
    result = a - b
    flags.set_result(cpu, result, (~a & b) | (~(a ^ b) & result), size)


@inlined
def arithmetic(cpu, op, a, b, size):
    """add, adc, sub, sbb, cmp, and, or, xor, test, inc, dec, neg: the result, with flags set."""
    if op == OP_CMP or op == OP_SUB or op == OP_SBB:
        result = a - b
        if op == OP_SBB:
            result -= flags.carry(cpu)
        flags.set_result(cpu, result, (~a & b) | (~(a ^ b) & result), size)
    elif op == OP_ADD or op == OP_ADC:
        result = a + b
        if op == OP_ADC:
            result += flags.carry(cpu)
        flags.set_result(cpu, result, (a & b) | ((a | b) & ~result), size)
    elif op == OP_INC:
        kept = flags.carry(cpu)
        result = a + 1
        flags.set_result(cpu, result, a & ~result, size)
        flags.set_carry(cpu, kept)
    elif op == OP_DEC:
        kept = flags.carry(cpu)
        result = a - 1
        flags.set_result(cpu, result, ~a & result, size)
        flags.set_carry(cpu, kept)
    elif op == OP_NEG:
        result = -a
        flags.set_result(cpu, result, a | result, size)
    else:
        if op == OP_OR:
            result = a | b
        elif op == OP_XOR:
            result = a ^ b
        else:
            result = a & b
        flags.set_logic(cpu, result, size)
    return result


@compiled
def multiply(cpu, a, b, size):
    """Imul of two sign-extended operands: CF = OF = the product does not fit (the others are undefined)."""
    result = a * b
    if size < 8:
        lost = result != sign_extend(result, size)
    elif a == 0 or a == -1:
        lost = a == -1 and b == flags.TOP
    else:
        lost = result // a != b or result % a != 0
    flags.set_shift(cpu, result, 1 if lost else 0, 1 if lost else 0, size)
    return result


@compiled
def shift(cpu, op, a, count, size):
    """shl, shr, sar by ``count`` modulo 32 (64 for 8 bytes); a count of 0 leaves the flags alone.

    OF is defined for a count of 1 only; for others it is what the 1-bit rule gives on the result.
    """
    bits = size * 8
    count &= 63 if size == 8 else 31
    if count == 0:
        return a
    if op == OP_SHL:
        carry = (a >> (bits - count)) & 1 if count <= bits else 0
        result = a << count
        top = (result >> (bits - 1)) & 1
        flags.set_shift(cpu, result, carry, carry ^ top, size)
    elif op == OP_SAR:
        value = sign_extend(a, size)
        carry = (value >> (count - 1)) & 1
        result = value >> count
        flags.set_shift(cpu, result, carry, 0, size)
    else:
        carry = (logical_right(a & mask_of(size), count - 1)) & 1
        result = logical_right(a & mask_of(size), count)
        flags.set_shift(cpu, result, carry, (a >> (bits - 1)) & 1, size)
    return result


@compiled
def logical_right(value, count):
    """Shift right by 0..63, filling with zeros."""
    return value if count == 0 else (value >> count) & ((1 << (64 - count)) - 1)


@compiled
def bit_operation(cpu, op, a, bit, size):
    """bt, bts, btr, btc: CF = the bit; the other flags stay (SDM: undefined, but ZF)."""
    bit &= size * 8 - 1
    flags.set_carry(cpu, (a >> bit) & 1)
    chosen = 1 << bit
    if op == OP_BTS:
        return a | chosen
    if op == OP_BTC:
        return a ^ chosen
    return a if op == OP_BT else a & ~chosen
