"""Random instructions: for the reference in plain Python, and the same as machine code."""

from __future__ import annotations

from hypothesis import strategies as st
from iced_x86 import Code, Encoder, MemoryOperand, Register
from iced_x86 import Instruction as Iced
from made_processors import CODE, MASK, MEMORY
from reference.x86 import Instruction, signed

WIDTHS = (8, 16, 32, 64)
FILES = {
    8: [Register.AL, Register.CL, Register.DL, Register.BL, Register.SPL, Register.BPL, Register.SIL, Register.DIL]
    + [Register.R8L + k for k in range(8)],
    16: [Register.AX + k for k in range(16)],
    32: [Register.EAX + k for k in range(16)],
    64: [Register.RAX + k for k in range(16)],
}
HIGH = [Register.AH, Register.CH, Register.DH, Register.BH]
RBX, RSP = 3, 4
BASE_OFFSET = 256  # rbx points here, and nobody writes it

TWO = ("add", "adc", "sub", "sbb", "cmp", "and", "or", "xor", "mov")
ONE = ("inc", "dec", "neg", "not")
SHIFTS = ("shl", "shr", "sar", "rol", "ror", "rcl", "rcr")
BITS = ("bt", "bts", "btr", "btc")
SCANS = ("bsf", "bsr", "tzcnt", "lzcnt", "popcnt")
JUMPS = {"jrcxz": 0xE3, "loop": 0xE2, "loope": 0xE1, "loopne": 0xE0}
LOCKABLE = {*TWO, *ONE, *BITS, "xadd", "cmpxchg", "cmpxchg_pair"} - {"cmp", "mov", "bt"}
CC = ("O", "NO", "B", "AE", "E", "NE", "BE", "A", "S", "NS", "P", "NP", "L", "GE", "LE", "G")

numbers = st.integers(0, 15).filter(lambda number: number not in (RBX, RSP))
memory = st.tuples(st.just("mem"), st.integers(200, 300))


def register_of(operand, width):
    return HIGH[operand[1]] if operand[0] == "high" else FILES[width][operand[1]]


def address(operand):
    return MemoryOperand(Register.RBX, displ=operand[1] - BASE_OFFSET)


def code(name):
    return getattr(Code, name)


@st.composite
def registers_of(draw, width, *, count=1):
    """Register operands that one instruction can name: with ah, ch, dh or bh it has no REX prefix."""
    if width == 8 and draw(st.integers(0, 3)) == 0:
        low = st.tuples(st.just("reg"), st.integers(0, 2))
        return tuple(draw(st.tuples(st.just("high"), st.integers(0, 2)) | low) for _ in range(count))
    return tuple(("reg", draw(numbers)) for _ in range(count))


@st.composite
def instructions(draw):
    """An instruction for the reference and the same for the encoder, behind what makes its operands interesting."""
    kind = draw(
        st.sampled_from(
            ("two",) * 6
            + ("one", "shift", "shift", "bit", "imul", "exchange", "extend", "lea", "cc", "cc")
            + ("double", "wide", "wide", "imul3", "scan", "scan", "bswap", "plain", "plain", "string", "string")
            + ("pair", "stack", "stack", "counter")
        )
    )
    made = draw(KINDS[kind]())
    return made if isinstance(made, list) else [made]


@st.composite
def two(draw):
    name, width = draw(st.sampled_from((*TWO, "test"))), draw(st.sampled_from(WIDTHS))
    upper = name.upper()
    form = draw(st.sampled_from(("rr", "mr", "ri", "mi") if name == "test" else ("rr", "mr", "rm", "ri", "mi")))
    if form[1] == "i":
        size = min(width, 32)
        immediate = draw(st.integers(0, 2**size - 1) | st.sampled_from((0, 1, 2 ** (size - 1))))
        where = draw(memory) if form[0] == "m" else draw(registers_of(width))[0]
        named = code(f"{upper}_RM{width}_IMM{size}")
        value = signed(immediate, size)
        encoded = Iced.create_mem_i32 if form[0] == "m" else Iced.create_reg_i32
        iced = encoded(named, address(where) if form[0] == "m" else register_of(where, width), value)
        return Instruction(name, width, (where, ("imm", value))), iced
    if form == "rr":
        a, b = draw(registers_of(width, count=2))
        iced = Iced.create_reg_reg(code(f"{upper}_RM{width}_R{width}"), register_of(a, width), register_of(b, width))
        return Instruction(name, width, (a, b)), iced
    (register,) = draw(registers_of(width))
    where = draw(memory)
    if form == "mr":
        iced = Iced.create_mem_reg(code(f"{upper}_RM{width}_R{width}"), address(where), register_of(register, width))
        return Instruction(name, width, (where, register)), iced
    iced = Iced.create_reg_mem(code(f"{upper}_R{width}_RM{width}"), register_of(register, width), address(where))
    return Instruction(name, width, (register, where)), iced


@st.composite
def one(draw):
    name, width = draw(st.sampled_from(ONE)), draw(st.sampled_from(WIDTHS))
    named = code(f"{name.upper()}_RM{width}")
    if draw(st.booleans()):
        where = draw(memory)
        return Instruction(name, width, (where,)), Iced.create_mem(named, address(where))
    (register,) = draw(registers_of(width))
    return Instruction(name, width, (register,)), Iced.create_reg(named, register_of(register, width))


@st.composite
def shift(draw):
    name, width = draw(st.sampled_from(SHIFTS)), draw(st.sampled_from(WIDTHS))
    count = draw(
        st.just(("cl",)) | st.tuples(st.just("imm"), st.sampled_from((0, 1, 1, 7, 31, 32, 63)) | st.integers(0, 255))
    )
    in_memory = draw(st.booleans())
    where = draw(memory) if in_memory else draw(registers_of(width))[0]
    place = address(where) if in_memory else register_of(where, width)
    if count == ("cl",):
        named = code(f"{name.upper()}_RM{width}_CL")
        iced = (Iced.create_mem_reg if in_memory else Iced.create_reg_reg)(named, place, Register.CL)
    else:
        named = code(f"{name.upper()}_RM{width}_IMM8")
        iced = (Iced.create_mem_u32 if in_memory else Iced.create_reg_u32)(named, place, count[1])
    return Instruction(name, width, (where, count)), iced


@st.composite
def bit(draw):
    name, width = draw(st.sampled_from(BITS)), draw(st.sampled_from(WIDTHS[1:]))
    in_memory, by_register = draw(st.booleans()), draw(st.booleans())
    where = draw(memory) if in_memory else ("reg", draw(numbers))
    place = address(where) if in_memory else register_of(where, width)
    if by_register:
        offset = ("reg", draw(numbers))
        named = code(f"{name.upper()}_RM{width}_R{width}")
        iced = (Iced.create_mem_reg if in_memory else Iced.create_reg_reg)(named, place, register_of(offset, width))
    else:
        offset = ("imm", draw(st.integers(0, 255)))
        named = code(f"{name.upper()}_RM{width}_IMM8")
        iced = (Iced.create_mem_u32 if in_memory else Iced.create_reg_u32)(named, place, offset[1])
    return Instruction(name, width, (where, offset)), iced


@st.composite
def imul(draw):
    width = draw(st.sampled_from(WIDTHS[1:]))
    a = ("reg", draw(numbers))
    named = code(f"IMUL_R{width}_RM{width}")
    if draw(st.booleans()):
        b = draw(memory)
        return Instruction("imul", width, (a, b)), Iced.create_reg_mem(named, register_of(a, width), address(b))
    b = ("reg", draw(numbers))
    return Instruction("imul", width, (a, b)), Iced.create_reg_reg(named, register_of(a, width), register_of(b, width))


@st.composite
def exchange(draw):
    name, width = draw(st.sampled_from(("xchg", "xadd", "cmpxchg"))), draw(st.sampled_from(WIDTHS))
    named = code(f"{name.upper()}_RM{width}_R{width}")
    a, b = draw(registers_of(width, count=2))
    if draw(st.booleans()):
        a = draw(memory)
        return Instruction(name, width, (a, b)), Iced.create_mem_reg(named, address(a), register_of(b, width))
    return Instruction(name, width, (a, b)), Iced.create_reg_reg(named, register_of(a, width), register_of(b, width))


@st.composite
def extend(draw):
    name = draw(st.sampled_from(("movzx", "movsx")))
    width, source = draw(st.sampled_from(((16, 8), (32, 8), (64, 8), (32, 16), (64, 16), (64, 32))))
    if source == 32:
        name = "movsx"
    named = code(f"{'MOVSXD' if source == 32 else name.upper()}_R{width}_RM{source}")
    if draw(st.booleans()):
        a, b = ("reg", draw(numbers)), draw(memory)
        iced = Iced.create_reg_mem(named, register_of(a, width), address(b))
        return Instruction(name, width, (a, b), source_width=source), iced
    a, b = ("reg", draw(numbers)), ("reg", draw(numbers))
    if source == 8 and width != 64 and draw(st.booleans()):
        a, b = ("reg", draw(st.integers(0, 2))), ("high", draw(st.integers(0, 3)))
    iced = Iced.create_reg_reg(named, register_of(a, width), register_of(b, source))
    return Instruction(name, width, (a, b), source_width=source), iced


@st.composite
def lea(draw):
    width, scale = draw(st.sampled_from(WIDTHS[1:])), draw(st.sampled_from((1, 2, 4, 8)))
    a, base, index = ("reg", draw(numbers)), draw(numbers), draw(numbers)
    displacement = draw(st.integers(-(2**31), 2**31 - 1))
    operand = MemoryOperand(FILES[64][base], FILES[64][index], scale, displacement, 8)
    iced = Iced.create_reg_mem(code(f"LEA_R{width}_M"), register_of(a, width), operand)
    return Instruction("lea", width, (a, base, index, scale, displacement)), iced


@st.composite
def cc(draw):
    condition = draw(st.integers(0, 15))
    name = draw(st.sampled_from(("set", "cmov", "j")))
    if name == "j":
        return Instruction("j", condition=condition), None
    if name == "set":
        if draw(st.booleans()):
            a = draw(memory)
            return Instruction("set", 8, (a,), condition=condition), Iced.create_mem(
                code(f"SET{CC[condition]}_RM8"), address(a)
            )
        (a,) = draw(registers_of(8))
        iced = Iced.create_reg(code(f"SET{CC[condition]}_RM8"), register_of(a, 8))
        return Instruction("set", 8, (a,), condition=condition), iced
    width = draw(st.sampled_from(WIDTHS[1:]))
    a, b = ("reg", draw(numbers)), draw(memory | st.tuples(st.just("reg"), numbers))
    named = code(f"CMOV{CC[condition]}_R{width}_RM{width}")
    if b[0] == "mem":
        iced = Iced.create_reg_mem(named, register_of(a, width), address(b))
    else:
        iced = Iced.create_reg_reg(named, register_of(a, width), register_of(b, width))
    return Instruction("cmov", width, (a, b), condition=condition), iced


def constant(register, value):
    """Mov of a 64-bit constant."""
    iced = Iced.create_reg_u64(Code.MOV_R64_IMM64, FILES[64][register], value % 2**64)
    return Instruction("mov", 64, (("reg", register), ("imm", value))), iced


@st.composite
def double(draw):
    name, width = draw(st.sampled_from(("shld", "shrd"))), draw(st.sampled_from(WIDTHS[1:]))
    a, b = draw(memory | st.tuples(st.just("reg"), numbers)), ("reg", draw(numbers))
    place, source = address(a) if a[0] == "mem" else register_of(a, width), register_of(b, width)
    kind = "mem" if a[0] == "mem" else "reg"
    if width > 16 and draw(st.booleans()):
        encoded = getattr(Iced, f"create_{kind}_reg_reg")
        iced = encoded(code(f"{name.upper()}_RM{width}_R{width}_CL"), place, source, Register.CL)
        return Instruction(name, width, (a, b, ("cl",))), iced
    count = draw(st.integers(0, 16) if width == 16 else st.integers(0, 255))  # above 16 the result is undefined
    encoded = getattr(Iced, f"create_{kind}_reg_u32")
    iced = encoded(code(f"{name.upper()}_RM{width}_R{width}_IMM8"), place, source, count)
    return Instruction(name, width, (a, b, ("imm", count))), iced


@st.composite
def wide(draw):
    """mul, imul, div, idiv; before half of the divisions RDX is such that the quotient may fit."""
    name, width = draw(st.sampled_from(("mul", "imul1", "div", "idiv"))), draw(st.sampled_from(WIDTHS))
    (a,) = (draw(memory),) if draw(st.booleans()) else draw(registers_of(width))
    named = code(f"{name.upper().rstrip('1')}_RM{width}")
    iced = Iced.create_mem(named, address(a)) if a[0] == "mem" else Iced.create_reg(named, register_of(a, width))
    made = [(Instruction(name, width, (a,)), iced)]
    if name in ("div", "idiv") and draw(st.booleans()):
        made.insert(0, constant(2, draw(st.integers(-2, 2))))
        if width == 8:
            made.insert(0, constant(0, draw(st.integers(-300, 300))))
    return made


@st.composite
def imul3(draw):
    width, byte = draw(st.sampled_from(WIDTHS[1:])), draw(st.booleans())
    a, b = ("reg", draw(numbers)), draw(memory | st.tuples(st.just("reg"), numbers))
    size = 8 if byte else min(width, 32)
    factor = draw(st.integers(-(2 ** (size - 1)), 2 ** (size - 1) - 1))
    named = code(f"IMUL_R{width}_RM{width}_IMM{size}")
    if b[0] == "mem":
        iced = Iced.create_reg_mem_i32(named, register_of(a, width), address(b), factor)
    else:
        iced = Iced.create_reg_reg_i32(named, register_of(a, width), register_of(b, width), factor)
    return Instruction("imul3", width, (a, b, ("imm", factor))), iced


@st.composite
def scan(draw):
    name, width = draw(st.sampled_from(SCANS)), draw(st.sampled_from(WIDTHS[1:]))
    a, b = ("reg", draw(numbers)), draw(memory | st.tuples(st.just("reg"), numbers))
    named = code(f"{name.upper()}_R{width}_RM{width}")
    if b[0] == "mem":
        iced = Iced.create_reg_mem(named, register_of(a, width), address(b))
    else:
        iced = Iced.create_reg_reg(named, register_of(a, width), register_of(b, width))
    return Instruction(name, width, (a, b)), iced


@st.composite
def bswap(draw):
    width, a = draw(st.sampled_from((32, 64))), ("reg", draw(numbers))
    return Instruction("bswap", width, (a,)), Iced.create_reg(code(f"BSWAP_R{width}"), register_of(a, width))


RAX = ("reg", 0)
PLAIN = (
    (Instruction("movsx", 16, (RAX, RAX), source_width=8), "6698"),  # cbw, cwde, cdqe
    (Instruction("movsx", 32, (RAX, RAX), source_width=16), "98"),
    (Instruction("movsx", 64, (RAX, RAX), source_width=32), "4898"),
    (Instruction("sign", 16), "6699"),  # cwd, cdq, cqo
    (Instruction("sign", 32), "99"),
    (Instruction("sign", 64), "4899"),
    (Instruction("clc"), "f8"),
    (Instruction("stc"), "f9"),
    (Instruction("cmc"), "f5"),
    (Instruction("cld"), "fc"),
    (Instruction("std"), "fd"),
    (Instruction("lahf"), "9f"),
    (Instruction("sahf"), "9e"),
)


@st.composite
def plain(draw):
    instruction, encoded = draw(st.sampled_from(PLAIN))
    return instruction, bytes.fromhex(encoded)


OPCODES = {"movs": 0xA4, "cmps": 0xA6, "stos": 0xAA, "lods": 0xAC, "scas": 0xAE}
SIZES = {8: b"", 16: b"\x66", 32: b"", 64: b"\x48"}


@st.composite
def string(draw):
    """A string instruction, mostly with registers that keep it in memory."""
    name, width = draw(st.sampled_from(tuple(OPCODES))), draw(st.sampled_from(WIDTHS))
    repeat = draw(st.sampled_from(("", "rep", "repne")))
    opcode = bytes([OPCODES[name] + (width > 8)])
    prefix = {"": b"", "rep": b"\xf3", "repne": b"\xf2"}[repeat]
    mandatory, rex = (SIZES[width], b"") if width == 16 else (b"", SIZES[width])
    places = [constant(number, MEMORY + draw(st.integers(200, 300))) for number in (6, 7)]
    count = [constant(1, draw(st.integers(0, 12)))] if repeat else []
    return [*places, *count, (Instruction(name, width, repeat=repeat), mandatory + prefix + rex + opcode)]


@st.composite
def pair(draw):
    """cmpxchg8b and cmpxchg16b; before half of them the registers hold what is there."""
    width = draw(st.sampled_from((64, 128)))
    place = draw(st.integers(13, 18)) * 16
    iced = Iced.create_mem(Code.CMPXCHG8B_M64 if width == 64 else Code.CMPXCHG16B_M128, address(("mem", place)))
    made = [(Instruction("cmpxchg_pair", width, (("mem", place),)), iced)]
    if draw(st.booleans()):
        half = width // 2
        for number, offset in ((0, 0), (2, half // 8)):
            where = ("mem", place + offset)
            named = code(f"MOV_R{half}_RM{half}")
            loaded = Iced.create_reg_mem(named, FILES[half][number], address(where))
            made.insert(0, (Instruction("mov", half, (("reg", number), where)), loaded))
    return made


@st.composite
def stack(draw):
    name, width = draw(st.sampled_from(("push", "pop", "pushf", "popf", "leave"))), draw(st.sampled_from((16, 64)))
    if name == "leave":
        return [constant(5, MEMORY + draw(st.integers(350, 450))), (Instruction("leave", 64), b"\xc9")]
    if name in ("pushf", "popf"):
        return Instruction(name, 64), bytes([0x9C if name == "pushf" else 0x9D])
    a = draw(memory | st.tuples(st.just("reg"), numbers))
    if a[0] == "mem":
        return Instruction(name, width, (a,)), Iced.create_mem(code(f"{name.upper()}_RM{width}"), address(a))
    return Instruction(name, width, (a,)), Iced.create_reg(code(f"{name.upper()}_R{width}"), register_of(a, width))


@st.composite
def counter(draw):
    """jrcxz, jecxz, loop, loope, loopne, mostly with a small RCX."""
    name = draw(st.sampled_from(tuple(JUMPS)))
    width = draw(st.sampled_from((32, 64))) if name == "jrcxz" else 64
    jump = (Instruction(name, width), None)
    return [constant(1, draw(st.integers(0, 2))), jump] if draw(st.booleans()) else jump


KINDS = {f.__name__: f for f in (two, one, shift, bit, imul, exchange, extend, lea, cc)} | {
    f.__name__: f for f in (double, wide, imul3, scan, bswap, plain, string, pair, stack, counter)
}

interesting = st.sampled_from(
    (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63, MASK)
)
values = interesting | st.integers(0, MASK) | st.integers(0, 255)


def assembled(sequence):
    """Machine code; a conditional jump goes over the instruction that follows it."""
    encoded, following = bytearray(), b""
    for instruction, iced in reversed(sequence):
        if iced is None:
            opcode = JUMPS.get(instruction.name, 0x70 + instruction.condition)
            prefix = b"\x67" if instruction.width == 32 else b""
            following = prefix + bytes((opcode, len(following)))
        elif isinstance(iced, bytes):
            following = iced
        else:
            encoder = Encoder(64)
            encoder.encode(iced, CODE)
            following = encoder.take_buffer()
        encoded[:0] = following
    return bytes(encoded)
