"""Bytes alone → the instruction table: no symbols, no sections, and nothing in them is an error.

Code is followed from its first byte; what that does not reach (the target of a jump through a
register) is decoded from the first byte that is left over. What is no instruction, lies outside
of the subset or begins inside another instruction is a fault when it is reached, not before.
"""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np
import numpy.typing as npt
from iced_x86 import Decoder

from pleemu.guest.image import Image
from pleemu.guest.lines import LineTable
from pleemu.guest.linked import Linked
from pleemu.guest.operands import Record, UnsupportedError, empty_record, form_of, record_of, signed
from pleemu.guest.symbols import SymbolTable
from pleemu.hardware import isa

NAME = "code"
_EMPTY = empty_record()
_NO_VECTORS = np.full(256, -1, np.int32)


@attrs.frozen(eq=False)
class RawCode:
    """A sequence of instructions that ends at the byte behind its last."""

    base: int
    code: bytes
    rows: list[tuple[int, ...]]  # of isa.INSTRUCTION
    index_of: npt.NDArray[np.int32]  # by offset from base, the byte behind the last included
    unsupported: dict[int, str]  # address -> why it faults when it is reached

    @property
    def end(self) -> int:
        """Index of the OP_END behind the last byte."""
        return int(self.index_of[len(self.code)])


def decode_raw(code: bytes, base: int) -> RawCode:
    """Decode ``code``, which begins at address ``base``."""
    found, unsupported = _Traversal(code, base).run()
    inside = _inside(found)
    addresses = [*sorted(found.keys() - inside), *sorted(inside)]  # the next record is where one falls through to
    index_of = np.full(len(code) + 1, -1, np.int32)
    for number, address in enumerate(addresses):
        index_of[address - base] = number
    rows = []
    for address in addresses:
        record = found[address]
        branch = record.pop("branch", None)
        if branch is not None and 0 <= branch - base <= len(code):
            record["target"] = int(index_of[branch - base])
        rows.append(tuple((_EMPTY | record).values()))
    return RawCode(base, code, rows, index_of, unsupported)


def table_of(rows: list[tuple[int, ...]]) -> np.recarray:
    """Return rows as an instruction table."""
    return np.array(rows, isa.INSTRUCTION).view(np.recarray)


def image_of(raw: RawCode, instructions: np.recarray) -> Image:
    """Return ``raw`` as a guest, which has no other memory and may not write this."""
    size = len(raw.code) + 1
    path = Path(NAME)
    memory = np.frombuffer(raw.code, np.uint8)
    linked = Linked(
        source=path, base=raw.base, memory=memory, readonly_size=size, code_size=size, symbols=SymbolTable(()),
        lines=LineTable([], [], []), code_pointers=frozenset(), code_fields={}, notes=[], vectors=[],
    )  # fmt: skip
    return Image(
        name=NAME,
        path=path,
        base=raw.base,
        memory=memory,
        readonly_size=size,
        code_size=size,
        instructions=instructions,
        index_of=raw.index_of,
        entry=int(raw.index_of[0]),
        vectors=_NO_VECTORS,
        linked=linked,
    )


class _Traversal:
    def __init__(self, code: bytes, base: int) -> None:
        self.code, self.base = code, base
        self.found: dict[int, Record] = {base + len(code): _mark(isa.OP_END, base + len(code))}
        self.unsupported: dict[int, str] = {}
        self.used = bytearray(len(code))  # 1: the byte belongs to an instruction
        self.decoder = Decoder(64, code, ip=base)

    def run(self) -> tuple[dict[int, Record], dict[int, str]]:
        start = 0
        while start >= 0:
            work = [self.base + start]
            while work:
                address: int | None = work.pop()
                while address is not None and address not in self.found:
                    address = self._visit(address, work)
            start = self.used.find(0, start)
        return self.found, self.unsupported

    def _visit(self, address: int, work: list[int]) -> int | None:
        """Take one instruction into the table; return what it falls through to, if anything."""
        offset = address - self.base
        if not 0 <= offset < len(self.code):
            return None
        self.decoder.position, self.decoder.ip = offset, address
        instruction = self.decoder.decode()
        if instruction.is_invalid:
            self._refuse(address, 1, "it is no instruction")
            return None
        if 1 in self.used[offset : offset + instruction.len]:
            self._refuse(address, 1, "it overlaps another instruction")
            return None
        try:
            record, form = record_of(instruction), form_of(instruction)
        except UnsupportedError as reason:
            self._refuse(address, instruction.len, str(reason))
            return None
        if form.roles == ("branch",):
            record["branch"] = instruction.near_branch_target
            work.append(instruction.near_branch_target)
        self._take(address, instruction.len, record)
        return instruction.next_ip if form.falls_through else None

    def _refuse(self, address: int, length: int, why: str) -> None:
        self.unsupported[address] = why
        self._take(address, length, _mark(isa.OP_UNSUPPORTED, address))

    def _take(self, address: int, length: int, record: Record) -> None:
        offset = address - self.base
        self.found[address] = record
        for used in range(offset, min(offset + length, len(self.code))):
            self.used[used] = 1


def _mark(op: int, address: int) -> Record:
    return {"op": op, "address": signed(address, 8), "length": 1}


def _inside(found: dict[int, Record]) -> set[int]:
    """Return the addresses that lie inside an instruction; records that only fault stand there."""
    inside = set()
    end = 0
    for address in sorted(found):
        if address < end:
            inside.add(address)
        elif found[address]["op"] != isa.OP_UNSUPPORTED:
            end = address + found[address]["length"]
    return inside
