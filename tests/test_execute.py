"""Instructions: against the manual in plain Python, and against what a real processor did."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from iced_x86 import Code, Encoder, MemoryOperand, Register
from iced_x86 import Instruction as Iced
from made_processors import CODE, MASK, MEMORY, MEMORY_SIZE, STATUS_FLAGS, State, execute
from reference.x86 import Instruction, Processor, signed

from pleemu.conform.x86 import memory_of, replay

VECTORS = Path(__file__).parent / "vectors" / "x86.json.gz"
DATA = json.loads(gzip.decompress(VECTORS.read_bytes()))
CASES = DATA["cases"]
CHUNK = 99


def test_all_ends_are_recorded():
    """There are sequences that run to their end and such that a divide error stops."""
    assert Counter(case["end"] for case in CASES) == {"end": 1570, "divide-error": 14}


@pytest.mark.parametrize("start", range(0, len(CASES), CHUNK))
def test_execution_is_what_a_processor_did(start):
    """Registers, defined flags and memory after each recorded sequence are those of an AMD Zen 4."""
    replayed = replay({**DATA, "cases": CASES[start : start + CHUNK]})
    assert [one.text for one in replayed if one is not None] == []


# ---- random sequences against the reference ----

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
SHIFTS = ("shl", "shr", "sar")
BITS = ("bt", "bts", "btr", "btc")
LOCKABLE = {*TWO, *ONE, *BITS, "xadd", "cmpxchg"} - {"cmp", "mov", "bt"}
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
    """An instruction for the reference and the same for the encoder."""
    kind = draw(
        st.sampled_from(
            ("two",) * 5 + ("one", "shift", "shift", "bit", "imul", "exchange", "extend", "lea", "cc", "cc")
        )
    )
    return draw(KINDS[kind]())


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


KINDS = {f.__name__: f for f in (two, one, shift, bit, imul, exchange, extend, lea, cc)}

interesting = st.sampled_from(
    (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63, MASK)
)
values = interesting | st.integers(0, MASK) | st.integers(0, 255)


def leaves_memory(processor, instruction):
    """Would a bit string reach beyond the memory that is compared?"""
    if instruction.name not in BITS or instruction.operands[0][0] != "mem" or instruction.operands[1][0] != "reg":
        return False
    offset = signed(processor.read(instruction.operands[1], instruction.width), instruction.width)
    return (
        not 0 <= instruction.operands[0][1] + offset // instruction.width * (instruction.width // 8) <= MEMORY_SIZE - 8
    )


@settings(max_examples=400)
@given(
    st.lists(st.tuples(instructions(), st.booleans()), min_size=1, max_size=12),
    st.lists(values, min_size=16, max_size=16),
    st.integers(0, 0xFFF).map(lambda flags: flags & STATUS_FLAGS),
    st.integers(0, 2**32 - 1),
)
def test_execution_is_what_the_manual_says(sequence, registers, flags, seed):
    """Any sequence of instructions of the subset leaves the registers, flags and memory of the reference."""
    registers[RBX], registers[RSP] = MEMORY + BASE_OFFSET, MEMORY + 400
    before = State(registers, flags, bytearray(memory_of(seed, MEMORY_SIZE)))
    processor = Processor(list(registers), flags, bytearray(before.memory))
    taken = []
    for (instruction, iced), locked in sequence:
        if not processor.skip and (processor.reads_undefined(instruction) or leaves_memory(processor, instruction)):
            break
        if locked and instruction.name in LOCKABLE and instruction.operands[0][0] == "mem":
            iced.has_lock_prefix = True
        taken.append((instruction, iced))
        processor.step(instruction)
    machine_code = assembled(taken)
    note(f"code: {machine_code.hex(' ')}")
    for instruction, _ in taken:
        note(str(instruction))
    after = execute(machine_code, before)
    assert [hex(value) for value in after.registers] == [hex(value) for value in processor.registers]
    assert (after.flags ^ processor.flags) & ~processor.undefined == 0
    assert after.memory == processor.memory


def assembled(sequence):
    """Machine code; a conditional jump goes over the instruction that follows it."""
    encoded, following = bytearray(), b""
    for instruction, iced in reversed(sequence):
        if iced is None:
            length = len(following)
            following = bytes((0x70 + instruction.condition, length))
        else:
            encoder = Encoder(64)
            encoder.encode(iced, CODE)
            following = encoder.take_buffer()
        encoded[:0] = following
    return bytes(encoded)
