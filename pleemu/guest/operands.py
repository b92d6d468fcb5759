"""One iced instruction → one record of the instruction table, or the reason why not."""

from __future__ import annotations

from typing import Any

import attrs
from iced_x86 import Code, Instruction, MemorySizeExt, Mnemonic, OpKind, Register

from pleemu.guest.subset import BY_OPERANDS, CR8_READ, CR8_WRITE, INDIRECT, SUBSET, Form
from pleemu.hardware import isa

# Operand kind, size in bytes, iced's first register of that size, and how many follow in encoding order.
_FILES = (
    (isa.REGISTER, 8, Register.RAX, 16),
    (isa.REGISTER, 4, Register.EAX, 16),
    (isa.REGISTER, 2, Register.AX, 16),
    (isa.REGISTER, 1, Register.AL, 4),
    (isa.REGISTER, 1, Register.SPL, 12),
    (isa.HIGH, 1, Register.AH, 4),
)


def _registers() -> dict[int, tuple[int, int, int]]:
    table = {}
    for kind, size, first, count in _FILES:
        encoding = 4 if first == Register.SPL else 0
        for number in range(count):
            table[first + number] = (kind, encoding + number, size)
    return table


REGISTERS = _registers()  # iced register -> (operand kind, number, size in bytes)
REGISTERS_BY_NAME = {
    name.lower(): REGISTERS[number] for name, number in vars(Register).items() if name.isupper() and number in REGISTERS
} | {f"r{number}b": (isa.REGISTER, number, 1) for number in range(8, 16)}  # as AT&T syntax has r8l

# In an address: RIP-relative displacements are absolute by the time iced gives them.
_ADDRESS_REGISTERS = {Register.NONE: isa.ZERO, Register.RIP: isa.ZERO} | {
    register: number for register, (_, number, size) in REGISTERS.items() if size == 8
}

_NEAR_BRANCHES = (OpKind.NEAR_BRANCH16, OpKind.NEAR_BRANCH32, OpKind.NEAR_BRANCH64)
_IMMEDIATES = frozenset(
    getattr(OpKind, name) for name in dir(OpKind) if name.startswith("IMMEDIATE") and name != "IMMEDIATE8_2ND"
)
_COUNTS = frozenset(
    (
        *(isa.OP_SHL, isa.OP_SHR, isa.OP_SAR, isa.OP_ROL, isa.OP_ROR, isa.OP_RCL, isa.OP_RCR),
        *(isa.OP_SHLD, isa.OP_SHRD, isa.OP_BT, isa.OP_BTS, isa.OP_BTR, isa.OP_BTC),
    )
)
_SOURCE_HAS_ITS_OWN_SIZE = (isa.OP_MOVZX, isa.OP_MOVSX)
_LOOPS_BY_ECX = (Code.LOOP_REL8_64_ECX, Code.LOOPE_REL8_64_ECX, Code.LOOPNE_REL8_64_ECX)

# Operands of string instructions: memory at RSI and at RDI, 64-bit addresses.
_STRING_ADDRESSES = (OpKind.MEMORY_SEG_RSI, OpKind.MEMORY_ESRDI)
_FS_GS = "fs and gs are not supported; use a register"
_ADDRESS_SIZE = "its address is not 64 bits wide"

Record = dict[str, int]


class UnsupportedError(Exception):
    """An instruction that the table cannot express, and why."""


@attrs.frozen
class Operand:
    """One operand: its kind, its size and the fields of the record that it decides."""

    kind: int
    size: int
    register: int = 0
    fields: Record = attrs.field(factory=dict)


def form_of(instruction: Instruction) -> Form:
    """Return the row of the subset for ``instruction``."""
    mnemonic = instruction.mnemonic
    form = BY_OPERANDS.get((mnemonic, instruction.op_count)) or SUBSET.get(mnemonic)
    if form is None:
        raise UnsupportedError("it is outside the instruction subset")
    if form.roles == ("branch",) and instruction.op0_kind not in _NEAR_BRANCHES:
        if mnemonic not in INDIRECT or instruction.is_call_far_indirect or instruction.is_jmp_far_indirect:
            raise UnsupportedError("it is outside the instruction subset")
        form = INDIRECT[mnemonic]
    elif mnemonic == Mnemonic.MOV and Register.CR8 in (instruction.op0_register, instruction.op1_register):
        form = CR8_WRITE if instruction.op0_register == Register.CR8 else CR8_READ
    return form


def record_of(instruction: Instruction) -> Record:
    """Return the fields of ``instruction``'s record that differ from an empty record's."""
    form = form_of(instruction)
    record: Record = {
        "op": form.op,
        "length": instruction.len,
        "address": signed(instruction.ip, 8),
        "condition": form.condition,
        "cost_class": form.cost_class,
    }
    record |= form.implicit
    if form.op == isa.OP_RET:
        record["immediate"] = instruction.immediate(0) if instruction.op_count else 0
        _require(instruction.stack_pointer_increment == 8 + record["immediate"], "its operand size is not 64 bits")
    elif form.op == isa.OP_LEAVE:
        _require(instruction.code == Code.LEAVEQ, "its operand size is not 64 bits")
    elif form.op == isa.OP_LOOP:
        _require(instruction.code not in _LOOPS_BY_ECX, "its counter is not 64 bits wide")
    elif form.is_string:
        _add_string(record, instruction)
    elif form.roles and form.roles != ("branch",):
        _add_operands(record, instruction, form)
    in_memory = isa.MEMORY in (record.get("dst_kind"), record.get("src_kind"))
    if instruction.has_lock_prefix or form.locked or (form.op == isa.OP_XCHG and in_memory):
        record |= {"locked": 1, "cost_class": isa.COST_LOCKED}
    return record


def _add_operands(record: Record, instruction: Instruction, form: Form) -> None:
    _require(instruction.op_count == len(form.roles), f"its form with {instruction.op_count} operands is not supported")
    operands = [_operand(instruction, position, form.op) for position in range(len(form.roles))]
    size = operands[0].size
    if form.sizes:
        size = abs(instruction.stack_pointer_increment) or size
        supported = " and ".join(f"{8 * each}" for each in form.sizes)
        _require(size in form.sizes, f"it is supported with operands of {supported} bits only")
    if form.op == isa.OP_CMPXCHG_PAIR:
        size //= 2
    record["width"] = record["src_width"] = size
    for role, operand in zip(form.roles, operands, strict=True):
        if role in ("dst", "src"):
            record[f"{role}_kind"] = operand.kind
            record[role] = operand.register
        elif operand.kind == isa.REGISTER:
            record["count_in_cl"] = 1
        record |= operand.fields
    if form.op in _SOURCE_HAS_ITS_OWN_SIZE:
        record["src_width"] = operands[1].size
    if "immediate" in record:
        record["immediate"] = signed(record["immediate"], 1 if form.op in _COUNTS else size)
        if form.op in _COUNTS:
            record["immediate"] &= 0xFF


def _add_string(record: Record, instruction: Instruction) -> None:
    """Fields of a string instruction: its addresses are always in RSI and RDI."""
    for position in range(2):
        kind = instruction.op_kind(position)
        _require(kind == OpKind.REGISTER or kind in _STRING_ADDRESSES, _ADDRESS_SIZE)
    _require(instruction.segment_prefix not in (Register.FS, Register.GS), _FS_GS)
    record["width"] = record["src_width"] = MemorySizeExt.size(instruction.memory_size)
    if instruction.has_repne_prefix:
        record["condition"] = isa.REPNE
    elif instruction.has_rep_prefix:
        record["condition"] = isa.REP


def _operand(instruction: Instruction, position: int, op: int) -> Operand:
    kind = instruction.op_kind(position)
    if kind == OpKind.REGISTER:
        register = instruction.op_register(position)
        if op in (isa.OP_CR8_READ, isa.OP_CR8_WRITE) and register not in REGISTERS:
            return Operand(isa.NONE, 8)  # CR8 itself
        _require(register in REGISTERS, "it uses a register that guests do not have")
        register_kind, number, size = REGISTERS[register]
        return Operand(register_kind, size, number)
    if kind in _IMMEDIATES:
        return Operand(isa.IMMEDIATE, 0, fields={"immediate": instruction.immediate(position)})
    _require(kind == OpKind.MEMORY, "it has an operand of a kind that is not supported")
    size = MemorySizeExt.size(instruction.memory_size)
    return Operand(isa.MEMORY, size, fields=_address(instruction))


def _address(instruction: Instruction) -> Record:
    """Return the fields of a memory operand's address; RIP-relative ones become absolute."""
    _require(instruction.memory_segment not in (Register.FS, Register.GS), _FS_GS)
    base = _ADDRESS_REGISTERS.get(instruction.memory_base)
    index = _ADDRESS_REGISTERS.get(instruction.memory_index)
    if base is None or index is None or instruction.memory_displ_size == 4:
        raise UnsupportedError(_ADDRESS_SIZE)
    return {
        "base_register": base,
        "index_register": index,
        "scale": instruction.memory_index_scale,
        "displacement": signed(instruction.memory_displacement, 8),
    }


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise UnsupportedError(otherwise)


def signed(value: int, size: int) -> int:
    """Return the low ``size`` bytes of ``value`` as a signed number."""
    half = 1 << (8 * size - 1)
    return (value + half) % (2 * half) - half


def empty_record() -> dict[str, Any]:
    """Return the record of an instruction without operands."""
    return dict.fromkeys(isa.INSTRUCTION.names or (), 0) | {
        "base_register": isa.ZERO,
        "index_register": isa.ZERO,
        "scale": 1,
        "target": -1,
        "probe": -1,
    }
