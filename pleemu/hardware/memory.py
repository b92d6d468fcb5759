"""Guest memory: an array of 64-bit words, little-endian, read and written in 1, 2, 4 or 8 bytes.

A guest address becomes an offset into its space, and every offset is checked before it
indexes the array: addresses wrap around at 2^64 as the processor's do, and what does not
lie wholly inside the space has no offset.
"""

from pleemu.jit import inlined

# The stacks of a vCPU, in bytes, from below: a guard, that of guest_main, that for interrupts at CPL 3.
STACK_GUARD, KERNEL_STACK, INTERRUPT_STACK = 2048, 4096, 2048
STACK_SLOT = STACK_GUARD + KERNEL_STACK + INTERRUPT_STACK  # a power of two


@inlined
def mask_of(size):
    """Bits of an operand of ``size`` bytes."""
    return -1 if size == 8 else (1 << (size * 8)) - 1


@inlined
def sign_extend(value, size):
    """The low ``size`` bytes of ``value`` as a signed number."""
    if size == 8:
        return value
    sign = 1 << (size * 8 - 1)
    return ((value & mask_of(size)) ^ sign) - sign


@inlined
def readable(space, address, size):
    """Offset of ``size`` bytes at ``address``, or -1."""
    offset = address - space.start
    if 0 <= offset <= space.stacks - size:
        return offset
    # Among the stacks; what lies below each belongs to nobody, so that one that overflows is noticed.
    above = offset - space.stacks
    if 0 <= above <= space.bytes - space.stacks - size:
        if above & (STACK_SLOT - 1) >= STACK_GUARD and (above + size - 1) & (STACK_SLOT - 1) >= STACK_GUARD:
            return offset
    return -1


@inlined
def load(memory, first_word, offset, size):
    """Read ``size`` bytes at ``offset``, zero-extended (8 bytes: as they are)."""
    word = first_word + (offset >> 3)
    shift = (offset & 7) << 3
    if shift == 0:
        return memory[word] & mask_of(size)
    if shift + size * 8 <= 64:
        return (memory[word] >> shift) & mask_of(size)
    low = (memory[word] >> shift) & ((1 << (64 - shift)) - 1)
    return (low | (memory[word + 1] << (64 - shift))) & mask_of(size)


@inlined
def store(memory, first_word, offset, size, value):
    """Write the low ``size`` bytes of ``value`` at ``offset``."""
    word = first_word + (offset >> 3)
    shift = (offset & 7) << 3
    mask = mask_of(size)
    memory[word] = (memory[word] & ~(mask << shift)) | ((value & mask) << shift)
    if shift + size * 8 > 64:
        spill = 64 - shift
        high_mask = (1 << (size * 8 - spill)) - 1
        high = (value >> spill) & high_mask
        memory[word + 1] = (memory[word + 1] & ~high_mask) | high
