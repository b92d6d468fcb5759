"""Rotations and double shifts: rol, ror, rcl, rcr, shld, shrd (SDM 2).

Counts are taken modulo 32 (64 for 8 bytes); a count of 0 changes no flag. OF is defined for
a count of 1 only; for others it is what the 1-bit rule gives on the result.
"""

from pleemu.hardware import flags
from pleemu.hardware.alu import logical_right
from pleemu.hardware.isa import OP_RCL, OP_ROL, OP_ROR, OP_SHLD
from pleemu.hardware.memory import mask_of
from pleemu.jit import compiled


@compiled
def rotate(cpu, op, a, count, size):
    """rol, ror, rcl, rcr: the result; of the flags only CF and OF change."""
    bits = size * 8
    mask = mask_of(size)
    a &= mask
    count &= 63 if size == 8 else 31
    if count == 0:
        return a
    if op == OP_ROL or op == OP_ROR:
        left = (count if op == OP_ROL else bits - count) & (bits - 1)
        result = a if left == 0 else ((a << left) | logical_right(a, bits - left)) & mask
        top = (result >> (bits - 1)) & 1
        if op == OP_ROL:
            flags.set_carry_overflow(cpu, result & 1, (result & 1) ^ top)
        else:
            flags.set_carry_overflow(cpu, top, top ^ ((result >> (bits - 2)) & 1))
        return result
    return rotate_through_carry(cpu, a, count if size >= 4 else count % (bits + 1), bits, mask, op == OP_RCL)


@compiled
def rotate_through_carry(cpu, a, count, bits, mask, is_left):
    """Rotate the ``bits`` of ``a`` and CF, as one number with CF on top, by a count below bits + 1."""
    if count == 0:
        return a
    carry = flags.carry(cpu)
    if is_left:
        left = count
    else:
        left = bits + 1 - count  # in 1..bits, as is the number of places that the others go right
    right = bits + 1 - left
    # What goes left out of `a` comes in below CF; shifts by 64 do not exist here.
    kept = a << left if left < 64 else a - a
    wrapped = logical_right(a, right) if right < 64 else a - a
    result = (kept | (carry << (left - 1)) | wrapped) & mask
    new_carry = (a >> (bits - left)) & 1
    top = (result >> (bits - 1)) & 1
    flags.set_carry_overflow(cpu, new_carry, new_carry ^ top if is_left else top ^ ((result >> (bits - 2)) & 1))
    return result


@compiled
def double_shift(cpu, op, a, b, count, size):
    """Shld and shrd: ``a`` shifted, filled with bits of ``b``.

    For 2 bytes and a count above 16 the manual leaves all open; here the bits of ``a`` follow those of ``b``.
    """
    bits = size * 8
    mask = mask_of(size)
    a &= mask
    b &= mask
    count &= 63 if size == 8 else 31
    if count == 0:
        return a
    if count > bits:
        a, b, count = b, a, count - bits
    if op == OP_SHLD:
        result = ((a << count) | logical_right(b, bits - count)) & mask if count < bits else b
        carry = (a >> (bits - count)) & 1
    else:
        result = (logical_right(a, count) | (b << (bits - count))) & mask if count < bits else b
        carry = (a >> (count - 1)) & 1
    flags.set_shift(cpu, result, carry, ((a ^ result) >> (bits - 1)) & 1, size)
    return result
