"""Looking at the bits of one operand: bsf, bsr, tzcnt, lzcnt, popcnt, bswap (SDM 2).

Flags that the manual leaves open are those of the source or of the result.
"""

from pleemu.hardware import flags
from pleemu.hardware.isa import OP_BSF, OP_BSWAP, OP_LZCNT, OP_POPCNT, OP_TZCNT
from pleemu.hardware.memory import mask_of
from pleemu.jit import compiled


@compiled
def look(cpu, op, a, b, size):
    """The result for source ``b``; with a source of 0, bsf and bsr leave ``a`` as it is (AMD 3; SDM 2)."""
    if op == OP_BSWAP:
        return swap_bytes(a) if size == 8 else swap_four(a)
    bits = size * 8
    source = b & mask_of(size)
    if op == OP_POPCNT:
        flags.set_all_but_zero_clear(cpu, source == 0)
        return count_ones(source)
    if op == OP_TZCNT or op == OP_LZCNT:
        result = leading_zeros(source) - (64 - bits) if op == OP_LZCNT else min(trailing_zeros(source), bits)
        flags.set_shift(cpu, result, 1 if source == 0 else 0, 0, size)
        return result
    flags.set_logic(cpu, source, size)
    if source == 0:
        return a
    return trailing_zeros(source) if op == OP_BSF else 63 - leading_zeros(source)


@compiled
def count_ones(value):
    """Ones among the 64 bits, added up in pairs, nibbles and bytes."""
    value -= (value >> 1) & 0x5555555555555555
    value = (value & 0x3333333333333333) + ((value >> 2) & 0x3333333333333333)
    value = (value + (value >> 4)) & 0x0F0F0F0F0F0F0F0F
    return ((value * 0x0101010101010101) >> 56) & 0xFF


@compiled
def trailing_zeros(value):
    """Zeros below the lowest one, 64 if there is none."""
    return count_ones((value & -value) - 1)


@compiled
def leading_zeros(value):
    """Zeros above the highest one, 64 if there is none."""
    if value < 0:
        return value - value
    for shift in (1, 2, 4, 8, 16, 32):
        value |= value >> shift
    return count_ones(~value)


@compiled
def swap_four(value):
    """The low four bytes in reverse."""
    return ((value & 0xFF) << 24) | ((value & 0xFF00) << 8) | ((value >> 8) & 0xFF00) | ((value >> 24) & 0xFF)


@compiled
def swap_bytes(value):
    """All eight bytes in reverse."""
    return (swap_four(value) << 32) | swap_four(value >> 32)
