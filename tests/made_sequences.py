"""Random instruction sequences whose outcome the manual defines, over every form that guests may use.

A sequence is a list of units, each a few instructions that belong together (a count and the
shift by CL, an address and the string instruction). `State` follows a sequence without running
it: which registers have known values, so that memory operands stay inside the memory, and which
flags the manual leaves undefined, so that nothing reads them. A unit that it does not accept is
not generated; a sequence stays valid when units are dropped as long as it accepts the rest.
"""

from __future__ import annotations

import functools
import random

import attrs
from iced_x86 import (
    Code,
    Encoder,
    FlowControl,
    Instruction,
    InstructionInfoFactory,
    MemoryOperand,
    MemorySizeExt,
    Mnemonic,
    OpAccess,
    OpKind,
    Register,
    RegisterExt,
    RflagsBits,
)

from pleemu.guest.checked import reason_not_compared
from pleemu.guest.forms import InstructionForm, example, forms
from pleemu.guest.operands import REGISTERS
from pleemu.guest.text import text_of
from pleemu.hardware import isa
from pleemu.testing import CODE_BASE

MASK = 2**64 - 1
MEMORY, SIZE = 0x10000, 1024
RCX, RSP, RBP, RSI, RDI = isa.RCX, isa.RSP, isa.RBP, isa.RSI, isa.RDI
LONGEST = 12  # units
CF, PF, AF, ZF, SF, DF, OF = 1, 1 << 2, 1 << 4, 1 << 6, 1 << 7, 1 << 10, 1 << 11
STATUS = CF | PF | AF | ZF | SF | OF

# Encodings of the same that Unicorn refuses: TEST by /1 of group 3, which only AMD's manual has.
NOT_ENCODED = {Code.TEST_RM8_IMM8_F6R1, Code.TEST_RM16_IMM16_F7R1, Code.TEST_RM32_IMM32_F7R1, Code.TEST_RM64_IMM32_F7R1}

SHIFTS = {Mnemonic.SHL, Mnemonic.SAL, Mnemonic.SHR, Mnemonic.SAR}
ROTATES = {Mnemonic.ROL, Mnemonic.ROR, Mnemonic.RCL, Mnemonic.RCR}
DOUBLE = {Mnemonic.SHLD, Mnemonic.SHRD}
COUNTED = SHIFTS | ROTATES | DOUBLE
BITS = {Mnemonic.BT, Mnemonic.BTS, Mnemonic.BTR, Mnemonic.BTC}
DIVISIONS = {Mnemonic.DIV, Mnemonic.IDIV}
SCANS = {Mnemonic.BSF, Mnemonic.BSR}
PAIRS = {Mnemonic.CMPXCHG8B, Mnemonic.CMPXCHG16B}
NO_ACCESS = (OpAccess.NONE, OpAccess.NO_MEM_ACCESS)
WRITES = (OpAccess.WRITE, OpAccess.COND_WRITE, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE)
_RFLAGS = {
    RflagsBits.CF: CF, RflagsBits.PF: PF, RflagsBits.AF: AF, RflagsBits.ZF: ZF,
    RflagsBits.SF: SF, RflagsBits.OF: OF, RflagsBits.DF: DF,
}  # fmt: skip
FULL = {register: number for register, (_, number, _) in REGISTERS.items()}
BY_SIZE = {(kind, size): [] for kind, _, size in REGISTERS.values()}
for _register, (_kind, _, _size) in REGISTERS.items():
    BY_SIZE[_kind, _size].append(_register)
FILES = {
    "r8": BY_SIZE[isa.REGISTER, 1], "r8h": BY_SIZE[isa.HIGH, 1], "r16": BY_SIZE[isa.REGISTER, 2],
    "r32": BY_SIZE[isa.REGISTER, 4], "r64": BY_SIZE[isa.REGISTER, 8],
}  # fmt: skip
LEGACY = {"r8": FILES["r8"][:4], "r16": FILES["r16"][:8], "r32": FILES["r32"][:8]}  # beside ah: no REX prefix
EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63, MASK, MASK >> 1)

_factory = InstructionInfoFactory()


def flag_mask(bits):
    return sum(flag for bit, flag in _RFLAGS.items() if bits & bit)


@functools.cache
def flags_of(code):
    """(read, defined, undefined) of an instruction, where they depend on nothing but its code."""
    instruction = Instruction()
    instruction.code = code
    defined = instruction.rflags_written | instruction.rflags_cleared | instruction.rflags_set
    return flag_mask(instruction.rflags_read), flag_mask(defined), flag_mask(instruction.rflags_undefined)


class Refused(Exception):
    """The manual does not define what this does here, or it leaves the memory."""


@attrs.define
class Unit:
    """A few instructions; `targets` names the instruction of the unit that one refers to, its length is the end.

    A conditional jump out of the unit skips that many `skips` units behind it.
    """

    instructions: list[Instruction]
    path: list[int]  # the order in which they run
    targets: dict[int, int] = attrs.Factory(dict)
    skips: int = 0
    vouched: bool = False  # its operands are made so that div, bsf or popfq are defined
    form: str = ""


@attrs.define
class State:
    """What is known at one point of a sequence."""

    values: list[int | None]  # by register, None unknown
    cl: int | None
    df: int | None
    undefined: int = 0

    def copy(self):
        return State(list(self.values), self.cl, self.df, self.undefined)

    def merge(self, other):
        """Two ways lead here."""
        self.values = [a if a == b else None for a, b in zip(self.values, other.values, strict=True)]
        self.cl = self.cl if self.cl == other.cl else None
        self.df = self.df if self.df == other.df else None
        self.undefined |= other.undefined

    def step(self, unit):
        """Follow a unit, or refuse it."""
        for number in unit.path:
            self._instruction(unit.instructions[number], unit)

    def _instruction(self, instruction, unit):
        mnemonic = instruction.mnemonic
        info = _factory.info(instruction)
        repeated = instruction.has_rep_prefix or instruction.has_repne_prefix
        count = self._count(instruction, repeated)
        self._flags(instruction, mnemonic, count, repeated, unit)
        self._memory(instruction, info, mnemonic, count if repeated else 1)
        constant = self._constant(instruction, mnemonic)
        rsp, rbp = self.values[RSP], self.values[RBP]
        for used in info.used_registers():
            number = FULL.get(used.register)
            if number is not None and used.access in WRITES:
                self.values[number] = None
                if number == RCX and used.register != Register.CH:
                    self.cl = None
        delta = instruction.stack_pointer_increment
        if mnemonic == Mnemonic.LEAVE:
            self.values[RSP] = (rbp + 8) & MASK
        elif delta and rsp is not None and not (mnemonic == Mnemonic.POP and self._pops_rsp(instruction)):
            self.values[RSP] = (rsp + delta) & MASK
        if constant is not None:
            number, value, low = constant
            self.values[number] = value
            if number == RCX:
                self.cl = low

    @staticmethod
    def _pops_rsp(instruction):
        return instruction.op0_kind == OpKind.REGISTER and FULL[instruction.op0_register] == RSP

    def _count(self, instruction, repeated):
        if repeated:
            if self.values[RCX] is None or self.values[RCX] > 16:
                raise Refused
            return self.values[RCX]
        if instruction.mnemonic not in COUNTED:
            return None
        last = instruction.op_count - 1
        if instruction.op_kind(last) != OpKind.REGISTER:
            return instruction.immediate(last) & 0xFF
        if self.cl is None:
            raise Refused
        return self.cl

    def _flags(self, instruction, mnemonic, count, repeated, unit):
        read, defined, undefined = flags_of(instruction.code)
        if mnemonic in COUNTED:
            read, defined, undefined = self._counted(instruction, mnemonic, count)
        if repeated and count == 0:
            read, defined, undefined = DF, 0, 0
        if mnemonic in DIVISIONS | SCANS | {Mnemonic.POPFQ} and not unit.vouched:
            raise Refused
        if read & self.undefined:
            raise Refused
        if mnemonic == Mnemonic.NEG and instruction.has_lock_prefix:  # Unicorn: see KNOWN_FAULTS
            defined, undefined = 0, STATUS
        if mnemonic in PAIRS:
            defined, undefined = ZF, STATUS & ~ZF
        self.undefined = (self.undefined & ~defined) | undefined
        if mnemonic == Mnemonic.STD:
            self.df = 1
        elif mnemonic == Mnemonic.CLD:
            self.df = 0
        elif mnemonic == Mnemonic.POPFQ:
            self.df, self.undefined = None, 0

    def _counted(self, instruction, mnemonic, count):
        """SDM 2: flags of shifts and rotations by their count."""
        size = operand_size(instruction)
        masked = count & (63 if size == 64 else 31)
        carry = CF if mnemonic in (Mnemonic.RCL, Mnemonic.RCR) else 0
        if masked == 0:
            return carry, 0, 0
        overflow = (OF, 0) if masked == 1 else (0, OF)
        if mnemonic in ROTATES:
            turns = masked % (size + 1) if carry else masked
            return carry, overflow[0] | (CF if turns else 0), overflow[1]
        if mnemonic in DOUBLE and masked >= size:
            raise Refused  # the result is undefined
        beyond = CF if masked >= size and mnemonic != Mnemonic.SAR else 0
        return 0, (SF | ZF | PF | CF | overflow[0]) & ~beyond, AF | overflow[1] | beyond

    def _memory(self, instruction, info, mnemonic, count):
        if mnemonic == Mnemonic.LEAVE:
            self._inside(self.values[RBP], 8)
            return
        for used in info.used_memory():
            if used.access in NO_ACCESS:
                continue
            string = instruction.is_string_instruction
            size = MemorySizeExt.size(instruction.memory_size if string else used.memory_size)
            address = used.displacement
            if used.base == Register.RIP:
                address = instruction.memory_displacement
            elif used.base != Register.NONE:
                address += self._value(used.base)
            if used.index != Register.NONE:
                address += self._value(used.index) * used.scale
            if mnemonic in BITS and instruction.op1_kind == OpKind.REGISTER:
                offset = self._value(instruction.op1_register)
                half = 1 << (size * 8 - 1)
                offset = (offset + half) % (2 * half) - half
                address += offset // (size * 8) * size
            if string:
                if self.df is None:
                    raise Refused
                self._inside(address & MASK, size)
                if count:
                    address += (count - 1) * size * (-1 if self.df else 1)
            if mnemonic == Mnemonic.CMPXCHG16B and address % 16:
                raise Refused
            self._inside(address & MASK, size)

    def _value(self, register):
        value = self.values[FULL[register]]
        if value is None:
            raise Refused
        return value

    @staticmethod
    def _inside(address, size):
        if address is None or not MEMORY <= address <= MEMORY + SIZE - size:
            raise Refused

    def _constant(self, instruction, mnemonic):
        """(register, its new value, CL) where an instruction loads a constant."""
        if mnemonic == Mnemonic.LEA and instruction.is_ip_rel_memory_operand:
            return None
        if mnemonic != Mnemonic.MOV or instruction.op0_kind != OpKind.REGISTER:
            return None
        if instruction.op1_kind in (OpKind.REGISTER, OpKind.MEMORY):
            return None
        _, number, size = REGISTERS[instruction.op0_register]
        value = instruction.immediate(1)
        if size >= 4:
            return number, value & (MASK if size == 8 else 0xFFFFFFFF), value & 0xFF
        return (number, None, value & 0xFF) if instruction.op0_register != Register.CH else None


def operand_size(instruction):
    """Bits of the first operand."""
    if instruction.op0_kind == OpKind.REGISTER:
        return RegisterExt.size(instruction.op0_register) * 8
    return MemorySizeExt.size(instruction.memory_size) * 8


@attrs.define
class Sequence:
    """A whole case: units, registers, flags, and the seed of the memory."""

    units: list[Unit]
    registers: list[int]
    rflags: int
    memory_seed: int
    undefined: int = 0  # flags at the end

    def state(self):
        """What is known before the first unit."""
        return State(list(self.registers), self.registers[RCX] & 0xFF, self.rflags // DF & 1)

    def is_defined(self):
        """Whether the manual defines all of it; sets which flags it leaves undefined at the end."""
        state, pending = self.state(), []
        try:
            for number, unit in enumerate(self.units):
                state = arrive(state, pending, number)
                state.step(unit)
                leave(state, pending, number, unit)
        except Refused:
            return False
        self.undefined = arrive(state, pending, None).undefined
        return True

    def memory(self):
        """The memory before."""
        return image(self.memory_seed)

    def assembled(self):
        """Return the machine code and the text of each instruction."""
        return assemble(self.units)


def arrive(state, pending, number):
    """The state at unit ``number`` (None: behind the last), with the jumps that lead there."""
    for target, other in pending:
        if target == number or number is None:
            state.merge(other)
    pending[:] = [(target, other) for target, other in pending if target != number and number is not None]
    return state


def leave(state, pending, number, unit):
    if unit.skips:
        pending.append((number + 1 + unit.skips, state.copy()))


@functools.lru_cache(maxsize=64)
def image(seed):
    """Memory of edges and noise."""
    rng = random.Random(f"memory {seed}")
    words = [rng.choice(EDGES) if rng.random() < 0.4 else rng.getrandbits(64) for _ in range(SIZE // 8)]
    return b"".join(word.to_bytes(8, "little") for word in words)


def assemble(units):
    """Encode all units from CODE_BASE on."""
    encoder = Encoder(64)
    lengths = []
    for unit in units:
        for number, instruction in enumerate(unit.instructions):
            _aim(instruction, CODE_BASE if number in unit.targets or _jumps(instruction) else None)
            lengths.append(encoder.encode(instruction, CODE_BASE))
            encoder.take_buffer()
    starts, address = [], CODE_BASE
    position = 0
    for unit in units:
        here = []
        for _ in unit.instructions:
            here.append(address)
            address += lengths[position]
            position += 1
        starts.append([*here, address])
    end = address
    texts = []
    code = bytearray()
    for index, unit in enumerate(units):
        for number, instruction in enumerate(unit.instructions):
            if number in unit.targets:
                _aim(instruction, starts[index][unit.targets[number]])
            elif _jumps(instruction):
                beyond = index + 1 + unit.skips
                _aim(instruction, starts[beyond][0] if beyond < len(units) else end)
            encoder.encode(instruction, starts[index][number])
            code += encoder.take_buffer()
            texts.append(text_of(instruction, hex))
    return bytes(code), texts


def _jumps(instruction):
    return instruction.op_count and instruction.op0_kind == OpKind.NEAR_BRANCH64


def _aim(instruction, address):
    if address is None:
        return
    if _jumps(instruction):
        instruction.near_branch64 = address
    elif instruction.mnemonic == Mnemonic.LEA:
        instruction.memory_displacement = address


FORMS = tuple(form for form in forms() if reason_not_compared(form) is None and form.code not in NOT_ENCODED)


class Generator:
    """Sequences from a seed."""

    def __init__(self, seed):
        self.rng = random.Random(f"sequence {seed}")
        self.rflags = self.rng.getrandbits(12) & STATUS | self.rng.choice((0, 0, DF)) | 2

    def sequence(self, first: InstructionForm):
        """A sequence that contains ``first``."""
        rng = self.rng
        registers = [self._initial(number) for number in range(16)]
        made = Sequence([], registers, self.rflags, rng.randrange(16))
        state, pending = made.state(), []
        length = rng.randint(1, LONGEST)
        place = rng.choice((0, 0, rng.randrange(length)))
        while len(made.units) < length:
            number = len(made.units)
            state = arrive(state, pending, number)
            wanted = number >= place and not any(unit.form == str(first) for unit in made.units)
            unit = self._unit(first if wanted else rng.choice(FORMS), state, patient=wanted)
            if unit is None:
                if wanted:
                    place = 0
                    made.units.clear()
                    pending.clear()
                    state = made.state()
                continue
            state.step(unit)
            leave(state, pending, number, unit)
            made.units.append(unit)
        made.undefined = arrive(state, pending, None).undefined
        return made

    def _initial(self, number):
        rng = self.rng
        if number == RSP:
            return MEMORY + rng.randrange(SIZE // 4, SIZE * 3 // 4, rng.choice((1, 8, 8, 8)))
        kind = rng.random()
        if kind < 0.35:
            return MEMORY + rng.randrange(SIZE)
        if kind < 0.45:
            return rng.randrange(64)
        if kind < 0.5:
            return -rng.randrange(64) & MASK
        return rng.choice(EDGES) if kind < 0.8 else rng.getrandbits(64)

    def _unit(self, form, state, patient):
        for _ in range(60 if patient else 6):
            unit = self._made(form, state)
            if unit is None:
                continue
            unit.form = str(form)
            try:
                state.copy().step(unit)
            except Refused:
                continue
            return unit
        return None

    def _made(self, form, state):
        mnemonic = form.mnemonic
        flow = example(form).flow_control
        if mnemonic == Mnemonic.CALL and flow == FlowControl.CALL:
            return self._call(form, state)
        if mnemonic == Mnemonic.RET:
            return self._ret(form, state)
        if flow in (FlowControl.INDIRECT_CALL, FlowControl.INDIRECT_BRANCH):
            return self._indirect(form, state)
        if mnemonic == Mnemonic.LEAVE:
            return self._leave(form)
        if mnemonic == Mnemonic.POPFQ:
            return self._popfq(form, state)
        instruction = self._filled(form, state)
        if instruction is None:
            return None
        unit = Unit([instruction], [0])
        if _jumps(instruction):
            unit.skips = self.rng.randint(1, 3)
        if mnemonic in COUNTED and form.operands[-1] == "cl":
            if state.cl is None or self.rng.random() < 0.7:
                unit = Unit([self._mov8(Register.CL, self._shift_count()), instruction], [0, 1])
        elif form.prefix in ("rep", "repe", "repne") or instruction.is_string_instruction:
            return self._string(form, instruction, state)
        elif mnemonic in SCANS:
            unit = Unit([self._or(instruction, 1), instruction], [0, 1], vouched=True)
        elif mnemonic in DIVISIONS:
            unit = self._division(form, instruction)
        elif mnemonic == Mnemonic.CMPXCHG and form.operands[1] == "r32":  # Unicorn: see KNOWN_FAULTS
            written = [Register.EAX] + ([instruction.op0_register] if form.operands[0] == "r32" else [])
            after = [self._mov_to_itself(register) for register in written]
            unit = Unit([instruction, *after], list(range(len(after) + 1)))
        return unit

    # ---- operands ----

    def _filled(self, form, state):
        """An instruction of that form with random operands."""
        rng = self.rng
        instruction = example(form)
        high = "r8h" in form.operands
        for number, operand in enumerate(form.operands):
            if operand in FILES:
                chosen = FILES[operand] if not high else LEGACY.get(operand, FILES[operand])
                instruction.set_op_register(number, rng.choice(chosen))
            elif operand.startswith("imm"):
                self._immediate(instruction, number, operand)
        if any(instruction.op_kind(number) == OpKind.MEMORY for number in range(instruction.op_count)):
            self._address(instruction, state, high)
        return instruction

    def _immediate(self, instruction, number, operand):
        rng = self.rng
        size = int(operand[3:])
        value = rng.choice((*EDGES, rng.getrandbits(size), rng.getrandbits(4))) & ((1 << size) - 1)
        if instruction.mnemonic in COUNTED:
            value = self._shift_count()
        signed = value - (1 << size) if value >> (size - 1) else value
        kind = instruction.op_kind(number)
        if kind in (OpKind.IMMEDIATE8TO16, OpKind.IMMEDIATE8TO32, OpKind.IMMEDIATE8TO64, OpKind.IMMEDIATE32TO64):
            instruction.set_immediate_i64(number, signed)
        elif kind == OpKind.IMMEDIATE64:
            instruction.set_immediate_u64(number, value)
        else:
            instruction.set_immediate_u32(number, value)

    def _shift_count(self):
        rng = self.rng
        return rng.choice((0, 1, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, rng.randrange(32), rng.randrange(256)))

    def _address(self, instruction, state, no_rex):
        """A memory operand inside the memory, in any addressing mode that reaches it."""
        rng = self.rng
        size = max(MemorySizeExt.size(instruction.memory_size), 1)
        if instruction.memory_displ_size == 8 and instruction.memory_base == Register.NONE:  # moffs
            instruction.memory_displacement = MEMORY + rng.randrange(SIZE - size)
            return
        if instruction.mnemonic == Mnemonic.LEA and rng.random() < 0.7:
            self._any_address(instruction)
            return
        target = MEMORY + rng.randrange(0, SIZE - size, 16 if instruction.mnemonic == Mnemonic.CMPXCHG16B else 1)
        if instruction.mnemonic in BITS and instruction.op1_kind == OpKind.REGISTER:
            target = self._bit_target(instruction, state, size)
        files = FILES["r64"][:8] if no_rex else FILES["r64"]
        known = [register for register in files if state.values[FULL[register]] is not None]
        for _ in range(4):  # then RIP-relative
            base = rng.choice([*known, Register.NONE]) if known else Register.NONE
            index = rng.choice([*known, Register.NONE]) if known and rng.random() < 0.5 else Register.NONE
            scale = rng.choice((1, 2, 4, 8)) if index != Register.NONE else 1
            if index == Register.RSP:
                continue
            address = (state.values[FULL[base]] if base != Register.NONE else 0) + (
                state.values[FULL[index]] * scale if index != Register.NONE else 0
            )
            displacement = (target - address + 2**63) % 2**64 - 2**63
            if -(2**31) <= displacement < 2**31:
                self._set_address(instruction, base, index, scale, displacement)
                return
        instruction.memory_base, instruction.memory_index = Register.RIP, Register.NONE
        if instruction.mnemonic in DOUBLE:  # Unicorn: see KNOWN_FAULTS
            self._set_address(instruction, Register.NONE, Register.NONE, 1, target)
            return
        near = target if 0 <= target < 1 << 31 else MEMORY  # of another one the state will say what it thinks
        instruction.memory_displacement, instruction.memory_displ_size = near, 8

    def _bit_target(self, instruction, state, size):
        """An operand so that the bit that a register names is inside the memory."""
        rng = self.rng
        register = instruction.op1_register
        value = state.values[FULL[register]]
        if value is None:
            return MEMORY
        width = size * 8
        offset = (value + (1 << (width - 1))) % (1 << width) - (1 << (width - 1))
        reached = MEMORY + rng.randrange(SIZE - size)
        return reached - offset // width * size

    def _any_address(self, instruction):
        rng = self.rng
        index = rng.choice([*FILES["r64"], Register.NONE])
        index = Register.NONE if index == Register.RSP else index
        displacement = rng.choice((0, 1, -1, 127, -128, 2**31 - 1, -(2**31), rng.getrandbits(31)))
        scale = rng.choice((1, 2, 4, 8)) if index != Register.NONE else 1
        self._set_address(instruction, rng.choice(FILES["r64"]), index, scale, displacement)

    def _set_address(self, instruction, base, index, scale, displacement):
        instruction.memory_base, instruction.memory_index, instruction.memory_index_scale = base, index, scale
        instruction.memory_displacement = displacement & MASK
        small = -128 <= displacement < 128 and self.rng.random() < 0.8
        bare = base == Register.NONE
        instruction.memory_displ_size = 8 if bare or not small else 1 if displacement else self.rng.choice((0, 1))

    # ---- units of several instructions ----

    def _mov8(self, register, value):
        return Instruction.create_reg_u32(Code.MOV_R8_IMM8, register, value)

    def _mov64(self, register, value):
        return Instruction.create_reg_u64(Code.MOV_R64_IMM64, register, value)

    def _mov_to_itself(self, register):
        return Instruction.create_reg_reg(Code.MOV_R32_RM32, register, register)

    def _or(self, instruction, operand):
        """`or` of the source with what is not 0, so that it is not 0."""
        value = self.rng.choice((1, 2, 64, -128))
        if instruction.op_kind(operand) == OpKind.REGISTER:
            register = instruction.op_register(operand)
            code = {1: Code.OR_RM8_IMM8, 2: Code.OR_RM16_IMM8, 4: Code.OR_RM32_IMM8, 8: Code.OR_RM64_IMM8}
            return Instruction.create_reg_i32(code[RegisterExt.size(register)], register, value)
        size = MemorySizeExt.size(instruction.memory_size)
        code = {1: Code.OR_RM8_IMM8, 2: Code.OR_RM16_IMM8, 4: Code.OR_RM32_IMM8, 8: Code.OR_RM64_IMM8}[size]
        made = instruction.copy()
        made.code = code
        made.set_op_kind(0, OpKind.MEMORY)
        small = {1: OpKind.IMMEDIATE8, 2: OpKind.IMMEDIATE8TO16, 4: OpKind.IMMEDIATE8TO32, 8: OpKind.IMMEDIATE8TO64}
        made.set_op_kind(1, small[size])
        made.set_immediate_i64(1, value) if size > 1 else made.set_immediate_u32(1, value & 0xFF)
        return made

    def _division(self, form, instruction):
        """A division by what is not 0 whose quotient mostly fits, or one that may be a divide error."""
        if self.rng.random() < 0.15:
            return Unit([instruction], [0], vouched=True)
        size = operand_size(instruction)
        signed = instruction.mnemonic == Mnemonic.IDIV
        if instruction.op0_kind == OpKind.REGISTER and FULL[instruction.op0_register] in (isa.RAX, isa.RDX):
            return None
        if instruction.op0_kind == OpKind.MEMORY and {instruction.memory_base, instruction.memory_index} & {
            Register.RAX,
            Register.RDX,
        }:
            return None
        extend = {8: Code.CBW, 16: Code.CWD, 32: Code.CDQ, 64: Code.CQO}[size]
        if signed:
            before = Instruction.create(extend)
        elif size == 8:
            before = self._mov8(Register.AH, 0)
        else:
            before = Instruction.create_reg_u32(Code.MOV_R32_IMM32, Register.EDX, 0)
        return Unit([self._or(instruction, 0), before, instruction], [0, 1, 2], vouched=True)

    def _string(self, form, instruction, state):
        rng = self.rng
        size = MemorySizeExt.size(instruction.memory_size)
        before = []
        count = rng.choice((0, 1, 2, 3, 8, 16)) if form.prefix else 1
        low, high = count * size, SIZE - (count + 1) * size
        for register, operand in ((Register.RSI, "[rsi]"), (Register.RDI, "[rdi]")):
            if operand in form.operands and rng.random() < 0.95:
                before.append(self._mov64(register, MEMORY + rng.randrange(low, high)))
        if form.prefix:
            before.append(Instruction.create_reg_u32(Code.MOV_R32_IMM32, Register.ECX, count))
        if state.df is None:
            before.append(Instruction.create(rng.choice((Code.CLD, Code.STD))))
        rng.shuffle(before)
        return Unit([*before, instruction], list(range(len(before) + 1)))

    def _inner(self, state):
        """One simple instruction for the inside of a function."""
        register = self.rng.choice([one for one in FILES["r64"] if one != Register.RSP])
        return Instruction.create_reg(self.rng.choice((Code.INC_RM64, Code.NOT_RM64, Code.BSWAP_R64)), register)

    def _jump(self):
        return Instruction.create_branch(Code.JMP_REL8_64, CODE_BASE)

    def _call(self, form, state):
        """A function and a call of it: call L; jmp end; L: something; ret; end."""
        ret = Instruction.create(Code.RETNQ)
        return Unit([example(form), self._jump(), self._inner(state), ret], [0, 2, 3, 1], {0: 2, 1: 4})

    def _ret(self, form, state):
        ret = example(form)
        if form.operands:
            ret.set_immediate_u32(0, self.rng.choice((0, 8, 16, 24)))
        call = Instruction.create_branch(Code.CALL_REL32_64, CODE_BASE)
        return Unit([call, self._jump(), self._inner(state), ret], [0, 2, 3, 1], {0: 2, 1: 4})

    def _indirect(self, form, state):
        """A jump or call by an address that `lea` gives, in a register or stored in memory."""
        rng = self.rng
        is_call = form.mnemonic == Mnemonic.CALL
        register = rng.choice([one for one in FILES["r64"] if one != Register.RSP])
        lea = Instruction.create_reg_mem(Code.LEA_R64_M, register, _rip())
        instruction = self._filled(form, state)
        before = [lea]
        if form.operands[0] == "r64":
            instruction.op0_register = register
        else:
            if register in (instruction.memory_base, instruction.memory_index):
                return None
            stored = instruction.copy()
            stored.code = Code.MOV_RM64_R64
            stored.set_op_kind(1, OpKind.REGISTER)
            stored.set_op_register(1, register)
            before.append(stored)
        count = len(before)
        if is_call:
            ret = Instruction.create(Code.RETNQ)
            units = [*before, instruction, self._jump(), self._inner(state), ret]
            path = [*range(count + 1), count + 2, count + 3, count + 1]
            return Unit(units, path, {0: count + 2, count + 1: count + 4})
        units = [*before, instruction, Instruction.create(Code.UD2)]
        return Unit(units, list(range(count + 1)), {0: count + 2})

    def _leave(self, form):
        address = MEMORY + self.rng.randrange(SIZE // 4, SIZE * 3 // 4)
        return Unit([self._mov64(Register.RBP, address), example(form)], [0, 1])

    def _popfq(self, form, state):
        """Flags from a constant: never the trap flag."""
        wanted = self.rng.getrandbits(12) & (STATUS | DF)
        push = Instruction.create_i32(Code.PUSHQ_IMM32, wanted)
        return Unit([push, example(form)], [0, 1], vouched=True)


def _rip():
    return MemoryOperand(Register.RIP, displ=CODE_BASE, displ_size=8)


def sequence(seed: int) -> Sequence:
    """Sequence number ``seed``: it contains form number ``seed`` modulo their number."""
    return Generator(seed).sequence(FORMS[seed % len(FORMS)])
