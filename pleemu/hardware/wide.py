"""Products and quotients of twice the operand's size: mul, imul, div, idiv (SDM 2).

A 128-bit number is two 64-bit ones, ``high`` and ``low``. There are no unsigned numbers here:
what counts is their bits.
"""

from pleemu.hardware import flags
from pleemu.hardware.alu import write_register
from pleemu.hardware.isa import OP_IDIV, OP_IMUL_WIDE, RAX, RDX, REGISTER
from pleemu.hardware.memory import mask_of, sign_extend
from pleemu.jit import compiled, inlined

LOW = 0xFFFFFFFF


@inlined
def below(a, b):
    """A < b as unsigned numbers."""
    return (a ^ flags.TOP) < (b ^ flags.TOP)


@compiled
def write_pair(registers, size, low, high):
    """Write AX, DX:AX, EDX:EAX or RDX:RAX."""
    if size == 1:
        write_register(registers, REGISTER, RAX, 2, (low & 0xFF) | ((high & 0xFF) << 8))
    else:
        write_register(registers, REGISTER, RAX, size, low)
        write_register(registers, REGISTER, RDX, size, high)


@compiled
def multiply_wide(cpu, op, b, size):
    """Mul and imul of RAX by ``b`` into RDX:RAX; CF = OF = the upper half says more than the lower."""
    registers = cpu.registers
    a = registers[RAX]
    if op == OP_IMUL_WIDE:
        a, b = sign_extend(a, size), sign_extend(b, size)
    else:
        a, b = a & mask_of(size), b & mask_of(size)
    low = a * b
    if size < 8:
        high = low >> (size * 8)
    else:
        high = upper_product(a, b)
        if op == OP_IMUL_WIDE:
            high -= (b if a < 0 else 0) + (a if b < 0 else 0)
    if op == OP_IMUL_WIDE:
        lost = sign_extend(high, size) != sign_extend(low, size) >> 63
    else:
        lost = high & mask_of(size) != 0
    flags.set_shift(cpu, low, 1 if lost else 0, 1 if lost else 0, size)
    write_pair(registers, size, low, high)


@compiled
def upper_product(a, b):
    """Bits 127..64 of the unsigned product."""
    a_low, a_high = a & LOW, (a >> 32) & LOW
    b_low, b_high = b & LOW, (b >> 32) & LOW
    carried = ((a_low * b_low) >> 32) & LOW
    first = a_high * b_low + carried
    second = a_low * b_high + (first & LOW)
    return a_high * b_high + ((first >> 32) & LOW) + ((second >> 32) & LOW)


@compiled
def divide(cpu, op, b, size):
    """Div and idiv by ``b``; False: #DE, since b is 0 or the quotient does not fit. The flags stay."""
    registers = cpu.registers
    bits = size * 8
    mask = mask_of(size)
    if size == 8:
        low, high = registers[RAX], registers[RDX]
    else:
        if size == 1:
            low = registers[RAX] & 0xFFFF
        else:
            low = (registers[RAX] & mask) | ((registers[RDX] & mask) << bits)
        if op == OP_IDIV:
            low = sign_extend(low, size * 2)
            high = low >> 63
        else:
            high = low - low
    b = sign_extend(b, size) if op == OP_IDIV else b & mask
    if b == 0:
        return False
    if op == OP_IDIV:
        negative = high < 0
        if negative:
            low = -low
            high = ~high + (1 if low == 0 else 0)
        opposite = negative != (b < 0)
        if b < 0:
            b = -b
        if not below(high, b):
            return False
        quotient, remainder = divide_unsigned(high, low, b)
        if opposite:
            quotient = -quotient
        if negative:
            remainder = -remainder
        if quotient != sign_extend(quotient, size) or (quotient != 0 and (quotient < 0) != opposite):
            return False
    else:
        if not below(high, b):
            return False
        quotient, remainder = divide_unsigned(high, low, b)
        if quotient & mask != quotient:
            return False
    write_pair(registers, size, quotient, remainder)
    return True


@compiled
def divide_unsigned(high, low, divisor):
    """Quotient and remainder of unsigned numbers, with ``high`` below the divisor."""
    if high == 0 and low >= 0 and divisor > 0:
        quotient = low // divisor
        return quotient, low - quotient * divisor
    for _ in range(64):  # one bit of the quotient after the other takes the place of one of `low`
        overflows = high < 0
        high = (high << 1) | ((low >> 63) & 1)
        low = low << 1
        if overflows or not below(high, divisor):
            high -= divisor
            low |= 1
    return low, high
