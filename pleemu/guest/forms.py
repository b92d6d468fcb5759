"""Every form of every instruction that a guest may use: the subset, spelled out.

A form is a mnemonic with the kinds of its operands, as in ``lock add m32, imm8``. All encodings
that iced knows are tried; a form is one that `operands.record_of` accepts.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Any

import attrs
from iced_x86 import (
    Code,
    Decoder,
    Encoder,
    EncodingKind,
    Instruction,
    MemorySizeExt,
    Mnemonic,
    OpCodeInfo,
    OpCodeOperandKind,
    OpKind,
    Register,
)

from pleemu.guest.operands import REGISTERS, UnsupportedError, record_of
from pleemu.guest.subset import SUBSET
from pleemu.hardware import isa

REPETITIONS = ("rep", "repe", "repne")
_COMPARING = (isa.OP_SCAS, isa.OP_CMPS)
_NAMES = {number: name.lower() for name, number in vars(Mnemonic).items() if isinstance(number, int)}
_KINDS = {number: name for name, number in vars(OpCodeOperandKind).items() if isinstance(number, int)}
_IMMEDIATES = {
    "IMM8": (OpKind.IMMEDIATE8, "imm8"),
    "IMM8_CONST_1": (OpKind.IMMEDIATE8, "1"),
    "IMM8SEX16": (OpKind.IMMEDIATE8TO16, "imm8"),
    "IMM8SEX32": (OpKind.IMMEDIATE8TO32, "imm8"),
    "IMM8SEX64": (OpKind.IMMEDIATE8TO64, "imm8"),
    "IMM16": (OpKind.IMMEDIATE16, "imm16"),
    "IMM32": (OpKind.IMMEDIATE32, "imm32"),
    "IMM32SEX64": (OpKind.IMMEDIATE32TO64, "imm32"),
    "IMM64": (OpKind.IMMEDIATE64, "imm64"),
}
_FIXED = {
    "AL": (Register.AL, "al"), "CL": (Register.CL, "cl"), "AX": (Register.AX, "ax"),
    "EAX": (Register.EAX, "eax"), "RAX": (Register.RAX, "rax"), "CR_REG": (Register.CR8, "cr8"),
}  # fmt: skip
_BRANCHES = {"BR64_1": "rel8", "BR64_4": "rel32"}
_STRINGS = {"SEG_RSI": (OpKind.MEMORY_SEG_RSI, "[rsi]"), "ES_RDI": (OpKind.MEMORY_ESRDI, "[rdi]")}
_FILES = {"r8": Register.DL, "r8h": Register.DH, "r16": Register.DX, "r32": Register.EDX, "r64": Register.RDX}


@attrs.frozen
class InstructionForm:
    """One encoding with the kinds of its operands."""

    code: Any  # a Code of iced
    operands: tuple[
        str, ...
    ]  # r8 r8h r16 r32 r64, cl al ax eax rax cr8, m8 ... m128 m, imm8 ..., 1, rel8 rel32, [rsi] [rdi]
    prefix: str  # '', lock, rep, repe, repne

    @property
    def mnemonic(self) -> int:
        """As a Mnemonic of iced."""
        return OpCodeInfo(self.code).mnemonic

    def __str__(self) -> str:
        return _spelled(self.prefix, self.mnemonic, self.operands)


def form_text(instruction: Instruction) -> str:
    """Return the form of a decoded instruction, as the table of forms spells it."""
    info = OpCodeInfo(instruction.code)
    operands = tuple(
        _kind_text(_KINDS[info.op_kind(number)], instruction, number) for number in range(instruction.op_count)
    )
    prefix = "lock" if instruction.has_lock_prefix else ""
    if instruction.is_string_instruction:
        comparing = SUBSET[instruction.mnemonic].op in _COMPARING if instruction.mnemonic in SUBSET else False
        prefix = "repne" if instruction.has_repne_prefix else "rep" if instruction.has_rep_prefix else ""
        prefix = "repe" if prefix == "rep" and comparing else prefix
    return _spelled(prefix, instruction.mnemonic, operands)


@cache
def forms() -> tuple[InstructionForm, ...]:
    """Return every form that guests may use, in the order of iced's table."""
    return tuple(form for form in _candidates() if _is_supported(form))


def example(form: InstructionForm) -> Instruction:
    """Return an instruction of that form; operands are RDX, [RBX] and 1."""
    instruction = Instruction()
    instruction.code = form.code
    info = OpCodeInfo(form.code)
    for number, operand in enumerate(form.operands):
        name = _KINDS[info.op_kind(number)]
        if name in _FIXED or operand in _FILES:
            instruction.set_op_kind(number, OpKind.REGISTER)
            instruction.set_op_register(number, _FIXED[name][0] if name in _FIXED else _FILES[operand])
        elif name in _IMMEDIATES:
            instruction.set_op_kind(number, _IMMEDIATES[name][0])
            instruction.set_immediate_i32(number, 1)
        elif name in _BRANCHES:
            instruction.set_op_kind(number, OpKind.NEAR_BRANCH64)
        elif name in _STRINGS:
            instruction.set_op_kind(number, _STRINGS[name][0])
        else:
            instruction.set_op_kind(number, OpKind.MEMORY)
            is_offset = name == "MEM_OFFS"
            instruction.memory_base = Register.NONE if is_offset else Register.RBX
            instruction.memory_displ_size = 8 if is_offset else 0
    instruction.has_lock_prefix = form.prefix == "lock"
    instruction.has_rep_prefix = form.prefix in ("rep", "repe")
    instruction.has_repne_prefix = form.prefix == "repne"
    return instruction


def _candidates() -> Iterator[InstructionForm]:
    codes: list[Any] = [number for name, number in vars(Code).items() if name.isupper() and isinstance(number, int)]
    for code in codes:
        info = OpCodeInfo(code)
        usable = info.is_instruction and info.mode64 and info.encoding == EncodingKind.LEGACY
        if not usable or info.mnemonic not in SUBSET:
            continue
        choices = [_choices(_KINDS[info.op_kind(number)], info) for number in range(info.op_count)]
        prefixes = [""]
        if info.can_use_lock_prefix:
            prefixes.append("lock")
        if SUBSET[info.mnemonic].is_string:
            prefixes += ["repe", "repne"] if SUBSET[info.mnemonic].op in _COMPARING else ["rep"]
        for operands, prefix in product(product(*choices), prefixes):
            yield InstructionForm(code, operands, prefix)


def _choices(kind: str, info: OpCodeInfo) -> list[str]:
    """Return the kinds that an operand may have; none for what guests do not have."""
    if kind in _FIXED:
        return [_FIXED[kind][1]]
    if kind in _IMMEDIATES:
        return [_IMMEDIATES[kind][1]]
    if kind in _BRANCHES:
        return [_BRANCHES[kind]]
    if kind in _STRINGS:
        return [_STRINGS[kind][1]]
    size = MemorySizeExt.size(info.memory_size) * 8
    memory = f"m{size}" if size else "m"
    if kind in ("MEM", "MEM_OFFS"):
        return [memory]
    for name in ("r8", "r16", "r32", "r64"):
        if kind.startswith(f"{name.upper()}_"):
            registers = ["r8", "r8h"] if name == "r8" else [name]
            return [*registers, memory] if kind.endswith("_OR_MEM") else registers
    return []


def _is_supported(form: InstructionForm) -> bool:
    """Whether a guest may use it: it can be encoded, reads back as the same, and has a record."""
    instruction = example(form)
    encoder = Encoder(64)
    try:
        encoder.encode(instruction, 0)
        decoded = Decoder(64, encoder.take_buffer()).decode()
        record_of(decoded)
    except (ValueError, UnsupportedError):
        return False
    return not decoded.is_invalid and decoded.code == form.code and form_text(decoded) == str(form)


def _kind_text(kind: str, instruction: Instruction, number: int) -> str:
    op_kind = instruction.op_kind(number)
    if kind in _FIXED:
        return _FIXED[kind][1]
    if kind in _IMMEDIATES:
        return _IMMEDIATES[kind][1]
    if kind in _BRANCHES:
        return _BRANCHES[kind]
    if kind in _STRINGS:
        return _STRINGS[kind][1]
    if op_kind == OpKind.MEMORY:
        size = MemorySizeExt.size(instruction.memory_size) * 8
        return f"m{size}" if size else "m"
    register_kind, _, size = REGISTERS.get(instruction.op_register(number), (isa.NONE, 0, 0))
    return "r8h" if register_kind == isa.HIGH else f"r{size * 8}"


def _spelled(prefix: str, mnemonic: int, operands: tuple[str, ...]) -> str:
    return f"{prefix} {_NAMES[mnemonic]} {', '.join(operands)}".strip()
