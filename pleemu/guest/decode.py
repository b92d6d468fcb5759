"""Machine code → the instruction table, by following what can be reached.

Code is found as a disassembler with recursive traversal finds it: from the guest's labels and
from every address of code that is stored or computed, along fall-through and direct branches.
So constants among the code are not mistaken for it. iced decodes one instruction.
"""

from __future__ import annotations

from itertools import pairwise

import attrs
import numpy as np
import numpy.typing as npt
from iced_x86 import ConstantOffsets, Decoder, DecoderOptions, Instruction, Mnemonic

from pleemu.errors import GuestError
from pleemu.guest.link import EXIT_STUB, PROBLEMS_SHOWN
from pleemu.guest.linked import Linked
from pleemu.guest.operands import Record, UnsupportedError, empty_record, form_of, record_of
from pleemu.guest.text import text_of
from pleemu.hardware import isa

LONGEST = 15  # bytes of an instruction (SDM 2 section 2.3.11)


@attrs.frozen(eq=False)
class Decoded:
    """The table and the way into it."""

    instructions: np.recarray
    index_of: npt.NDArray[np.int32]  # by offset from base: index into the table, or -1


def tabulate(traversal: Traversal) -> Decoded:
    """Return what was found as a table, or raise what is wrong with it."""
    linked = traversal.linked
    addresses = sorted(traversal.found)
    traversal.check_overlaps(addresses)
    traversal.raise_problems()

    index_of = np.full(linked.code_size, -1, np.int32)
    index_of[np.array(addresses, np.uint64) - np.uint64(linked.base)] = np.arange(len(addresses), dtype=np.int32)
    records = [traversal.found[address] for address in addresses]
    for record in records:
        branch = record.pop("branch", None)
        if branch is not None:
            record["target"] = int(index_of[branch - linked.base])
    empty = empty_record()
    rows = [tuple((empty | record).values()) for record in records]
    table = np.array(rows, isa.INSTRUCTION).view(np.recarray)
    return Decoded(table, index_of)


class Traversal:
    """Reachable instructions by address, and what is wrong with them."""

    def __init__(self, linked: Linked) -> None:
        self.linked = linked
        self.found: dict[int, Record] = {}
        self.problems: dict[int, str] = {}
        self.code = linked.memory[: linked.code_size].tobytes()
        self.objects = {symbol.address for symbol in linked.symbols.symbols if symbol.is_object}
        self.work = sorted(self._roots(), reverse=True)

    def _roots(self) -> set[int]:
        symbols = self.linked.symbols.symbols
        labels = {s.address for s in symbols if s.is_code and not s.is_object and self.linked.is_code(s.address)}
        return (labels | self.linked.code_pointers) - self.objects - {self.linked.base}

    def run(self) -> None:
        self.found[self.linked.base] = {
            "op": isa.OP_END,
            "length": 1,
            "address": self.linked.base - (1 << 64 if self.linked.base >> 63 else 0),
        }
        self.follow()

    def follow(self) -> None:
        """Visit what waits to be visited, and where it leads."""
        while self.work:
            address = self.work.pop()
            while address not in self.found and address not in self.problems:
                following = self._visit(address)
                if following is None:
                    break
                address = following

    def _visit(self, address: int) -> int | None:
        """Decode one instruction; return the address that it falls through to, if any."""
        linked = self.linked
        offset = address - linked.base
        if not len(EXIT_STUB) <= offset < linked.code_size:
            return None
        decoder = Decoder(64, self.code[offset : offset + LONGEST], ip=address)
        instruction = decoder.decode()
        if instruction.is_invalid:
            self._not_an_instruction(address, offset)
            return None
        try:
            record = record_of(instruction)
            form = form_of(instruction)
        except UnsupportedError as reason:
            self._problem(address, text_of(instruction, linked.name_of), str(reason))
            return instruction.next_ip
        if form.roles == ("branch",):
            record["branch"] = target = instruction.near_branch_target
            if not len(EXIT_STUB) <= target - linked.base < linked.code_size and target != linked.base:
                self._problem(address, text_of(instruction, linked.name_of), "its target is outside of the code")
                return instruction.next_ip if form.falls_through else None
            self.work.append(target)
        self.found[address] = record
        self.work.extend(self._held(instruction, decoder.get_constant_offsets(instruction)))
        return instruction.next_ip if form.falls_through else None

    def _not_an_instruction(self, address: int, offset: int) -> None:
        """Say what is wrong with the bytes at ``offset``: a LOCK prefix that makes it #UD, or everything."""
        code = self.code[offset : offset + LONGEST]
        lenient = Decoder(64, code, DecoderOptions.NO_INVALID_CHECK, ip=address).decode()
        if lenient.has_lock_prefix and not lenient.is_invalid:
            why = "LOCK is not allowed on it, only on a read-modify-write whose destination is memory"
            self._problem(address, text_of(lenient, self.linked.name_of), why)
        else:
            self._problem(address, _bytes(code[:4]), "it is not an instruction; is it data?")

    def _held(self, instruction: Instruction, fields: ConstantOffsets) -> list[int]:
        """Return the addresses of code that the instruction computes or holds as an immediate."""
        linked = self.linked
        held = []
        if instruction.mnemonic == Mnemonic.LEA and instruction.is_ip_rel_memory_operand:
            held.append(instruction.memory_displacement)
        if fields.has_immediate:
            held.append(linked.code_fields.get(instruction.ip + fields.immediate_offset, 0))
        if fields.has_displacement and instruction.mnemonic == Mnemonic.LEA:
            held.append(linked.code_fields.get(instruction.ip + fields.displacement_offset, 0))
        return [address for address in held if linked.is_code(address) and address not in self.objects]

    def check_overlaps(self, addresses: list[int]) -> None:
        """Refuse an instruction that begins inside another: such code was never meant to run."""
        for address, following in pairwise(addresses):
            if address + self.found[address]["length"] > following:
                name = self.linked.name_of(following)
                self._problem(
                    address, _bytes(self.code[address - self.linked.base :][:4]), f"it overlaps {name}; is it data?"
                )

    def _problem(self, address: int, what: str, why: str) -> None:
        self.problems[address] = f"{what!r} at {self.linked.name_of(address)} ({address:#x}): {why}"

    def raise_problems(self) -> None:
        if not self.problems:
            return
        lines = [f"{self.linked.place(address)}: {self.problems[address]}" for address in sorted(self.problems)]
        if len(lines) > PROBLEMS_SHOWN:
            lines = [*lines[:PROBLEMS_SHOWN], f"... and {len(lines) - PROBLEMS_SHOWN} more"]
        raise GuestError("\n".join(lines))


def _bytes(code: bytes) -> str:
    return "bytes " + code.hex(" ")
