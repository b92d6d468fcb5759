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
from followed import (
    BITS,
    COUNTED,
    DF,
    DIVISIONS,
    DOUBLE,
    FILES,
    FULL,
    MASK,
    MEMORY,
    RCX,
    RSP,
    SCANS,
    SIZE,
    STATUS,
    Refused,
    State,
    Unit,
    operand_size,
)
from iced_x86 import (
    Code,
    Encoder,
    FlowControl,
    Instruction,
    MemoryOperand,
    MemorySizeExt,
    Mnemonic,
    OpKind,
    Register,
    RegisterExt,
)

from pleemu.guest.checked import reason_not_compared
from pleemu.guest.forms import InstructionForm, example, forms
from pleemu.guest.text import text_of
from pleemu.hardware import isa
from pleemu.testing import CODE_BASE

LONGEST = 12  # units
# Encodings of the same that Unicorn refuses: TEST by /1 of group 3, which only AMD's manual has.
NOT_ENCODED = {Code.TEST_RM8_IMM8_F6R1, Code.TEST_RM16_IMM16_F7R1, Code.TEST_RM32_IMM32_F7R1, Code.TEST_RM64_IMM32_F7R1}
LEGACY = {"r8": FILES["r8"][:4], "r16": FILES["r16"][:8], "r32": FILES["r32"][:8]}  # beside ah: no REX prefix
EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63, MASK, MASK >> 1)


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
