"""Status flags, kept as what they derive from: the last result and its carries.

    flag_result   the result, sign-extended to 64 bits: ZF, SF, PF
    flag_carry    bit 63  CF: carry or borrow out of the top bit
                  bit 62  carry into the top bit: OF = bit 63 xor bit 62
                  bit  3  AF
                  bit  1  PF is inverted  | only after flags were loaded from memory,
                  bit  0  SF is inverted  | where no result could have made them

So an addition costs a few operations, and the branch after it reads only what it needs.
"""

from pleemu.hardware.isa import OP_CLC, OP_CLD, OP_CMC, OP_LAHF, OP_SAHF, OP_STC, RAX
from pleemu.hardware.memory import sign_extend
from pleemu.jit import compiled, inlined

CF, PF, AF, ZF, SF, IF, DF, OF = 1 << 0, 1 << 2, 1 << 4, 1 << 6, 1 << 7, 1 << 9, 1 << 10, 1 << 11
RFLAGS_FIXED = 1 << 1

TOP = -(1 << 63)
SECOND = 1 << 62
TOP_TWO = TOP | SECOND


@inlined
def set_result(cpu, result, carries, size):
    """Flags of an addition or subtraction: ``carries`` has the carry out of each bit."""
    cpu.flag_result = sign_extend(result, size)
    cpu.flag_carry = ((carries << (64 - size * 8)) & TOP_TWO) | (carries & 8)


@inlined
def set_logic(cpu, result, size):
    """Flags of and, or, xor, test: CF = OF = 0 (AF is undefined: 0)."""
    cpu.flag_result = sign_extend(result, size)
    cpu.flag_carry = 0


@compiled
def set_shift(cpu, result, carry, overflow, size):
    """Flags of a shift, with CF and OF given as 0 or 1."""
    cpu.flag_result = sign_extend(result, size)
    cpu.flag_carry = carry_bits(carry, overflow)


@inlined
def carry_bits(carry, overflow):
    """`flag_carry` with CF and OF given as 0 or 1."""
    return (TOP if carry else 0) | (SECOND if carry != overflow else 0)


@inlined
def carry(cpu):
    """CF as 0 or 1."""
    return 1 if cpu.flag_carry < 0 else 0


@inlined
def overflow(cpu):
    """OF as 0 or 1."""
    return ((cpu.flag_carry >> 63) ^ (cpu.flag_carry >> 62)) & 1


@inlined
def sign(cpu):
    """SF as 0 or 1."""
    return ((cpu.flag_result >> 63) ^ cpu.flag_carry) & 1


@inlined
def parity(cpu):
    """PF as 0 or 1: 1 if the low byte of the result has an even number of ones."""
    low = cpu.flag_result ^ (cpu.flag_result >> 4)
    return ((0x9669 >> (low & 15)) ^ (cpu.flag_carry >> 1)) & 1


@inlined
def set_carry(cpu, value):
    """Change CF alone (bt and kin; inc and dec put the old one back)."""
    if carry(cpu) != value:
        cpu.flag_carry ^= TOP_TWO


@inlined
def set_carry_overflow(cpu, carry, overflow):
    """Change CF and OF alone: rotations."""
    cpu.flag_carry = (cpu.flag_carry & ~TOP_TWO) | carry_bits(carry, overflow)


@compiled
def set_zero(cpu, is_zero):
    """Change ZF alone: cmpxchg8b and cmpxchg16b."""
    set_rflags(cpu, (rflags(cpu) & ~ZF) | (ZF if is_zero else 0))


@compiled
def set_all_but_zero_clear(cpu, is_zero):
    """ZF as given, the other status flags 0: popcnt."""
    cpu.flag_result = 0 if is_zero else 1
    cpu.flag_carry = 2 if is_zero else 0


@inlined
def condition(cpu, code):
    """Evaluate a condition code (SDM 1 appendix B)."""
    kind = code >> 1
    if kind == 2:
        holds = cpu.flag_result == 0
    elif kind == 1:
        holds = cpu.flag_carry < 0
    elif kind == 3:
        holds = cpu.flag_carry < 0 or cpu.flag_result == 0
    elif kind == 4:
        holds = sign(cpu) == 1
    elif kind == 6:
        holds = sign(cpu) != overflow(cpu)
    elif kind == 7:
        holds = cpu.flag_result == 0 or sign(cpu) != overflow(cpu)
    elif kind == 0:
        holds = overflow(cpu) == 1
    else:
        holds = parity(cpu) == 1
    return holds != (code & 1 == 1)


@compiled
def rflags(cpu):
    """RFLAGS as an interrupt pushes it."""
    flags = RFLAGS_FIXED | (carry(cpu) * CF) | (parity(cpu) * PF) | (sign(cpu) * SF) | (overflow(cpu) * OF)
    if cpu.flag_carry & 8:
        flags |= AF
    if cpu.flag_result == 0:
        flags |= ZF
    if cpu.interrupt_flag == 1:
        flags |= IF
    if cpu.direction == 1:
        flags |= DF
    return flags


@compiled
def set_rflags(cpu, flags):
    """Load the status flags and DF (not IF) from an RFLAGS image: IRETQ, POPF."""
    cpu.direction = 1 if flags & DF else 0
    cpu.flag_result = 0 if flags & ZF else 1  # 1: SF 0, PF 0;  0: SF 0, PF 1
    cpu.flag_carry = carry_bits(1 if flags & CF else 0, 1 if flags & OF else 0)
    if flags & AF:
        cpu.flag_carry |= 8
    if flags & SF:
        cpu.flag_carry |= 1
    if (flags & PF != 0) != (flags & ZF != 0):
        cpu.flag_carry |= 2


@compiled
def change(cpu, op):
    """clc, stc, cmc, cld, std, lahf, sahf (SDM 2)."""
    if op == OP_CLC:
        set_carry(cpu, 0)
    elif op == OP_STC:
        set_carry(cpu, 1)
    elif op == OP_CMC:
        set_carry(cpu, 1 - carry(cpu))
    elif op == OP_LAHF:
        cpu.registers[RAX] = (cpu.registers[RAX] & ~0xFF00) | ((rflags(cpu) & 0xFF) << 8)
    elif op == OP_SAHF:
        set_rflags(cpu, (rflags(cpu) & ~0xFF) | ((cpu.registers[RAX] >> 8) & 0xFF))
    else:
        cpu.direction = 0 if op == OP_CLD else 1


@compiled
def load_flags(cpu, image):
    """The status flags, DF and IF from an RFLAGS image: IRETQ, SYSCALL, SYSRET."""
    set_rflags(cpu, image)
    cpu.interrupt_flag = 1 if image & IF else 0
