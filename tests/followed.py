"""What is known at each point of a random instruction sequence, without running it.

Which registers have known values, so that memory operands stay inside the memory, and which
flags the manual leaves undefined, so that nothing reads them.
"""

from __future__ import annotations

import functools

import attrs
from iced_x86 import (
    Instruction,
    InstructionInfoFactory,
    MemorySizeExt,
    Mnemonic,
    OpAccess,
    OpKind,
    Register,
    RegisterExt,
    RflagsBits,
)

from pleemu.guest.operands import REGISTERS
from pleemu.hardware import isa

MASK = 2**64 - 1
MEMORY, SIZE = 0x10000, 1024
RCX, RSP, RBP, RSI, RDI = isa.RCX, isa.RSP, isa.RBP, isa.RSI, isa.RDI
CF, PF, AF, ZF, SF, DF, OF = 1, 1 << 2, 1 << 4, 1 << 6, 1 << 7, 1 << 10, 1 << 11
STATUS = CF | PF | AF | ZF | SF | OF

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
