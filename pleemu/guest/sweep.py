"""What is code in a guest, where no direct branch tells: jump tables, computed gotos, static executables.

*Certain* is what can be reached by direct branches: in objects from their labels and from what relocations
say is an address of code; in an executable, whose relocations are gone, from its entry and from the
handlers of its vectors. There, what the table cannot express is refused. *Possible* is what begins

    at a probe, and at each instruction of a function whose size the symbol table gives;
    in an executable also at a symbol, at an address of code that an instruction holds, and at one that
    stands in an aligned quad of data.

Of what is possible nothing is refused: what cannot be expressed faults when it is reached, and what would
overlap instructions found before is left out. So a jump to code that none of these rules find (a table of
relative offsets, in a program without symbols) is a fault, never another instruction than the
processor would see.
"""

from __future__ import annotations

import numpy as np
from iced_x86 import ConstantOffsets, Decoder, Instruction

from pleemu.guest.decode import LONGEST, Decoded, Traversal, tabulate
from pleemu.guest.linked import Linked
from pleemu.guest.operands import signed
from pleemu.guest.probes import read_notes
from pleemu.hardware import isa


def decode_all(linked: Linked) -> Decoded:
    """Decode what is certain and what is possible."""
    sweep = Sweep(linked)
    sweep.run()
    return tabulate(sweep)


class Sweep(Traversal):
    """A traversal that goes on where it can only guess."""

    def __init__(self, linked: Linked) -> None:
        self.held: list[int] = []  # addresses of code that certain instructions hold
        self.taken: bytearray | None = None  # by offset from base: bytes of instructions, once guessing begins
        super().__init__(linked)

    def _roots(self) -> set[int]:
        if self.linked.entry is None:
            return super()._roots()
        return {self.linked.entry} | self.linked.code_pointers

    def run(self) -> None:
        """Find what is certain, then what is possible, the more trustworthy first."""
        super().run()
        self.check_overlaps(sorted(self.found))
        self.raise_problems()
        self.taken = bytearray(self.linked.code_size)
        for address, record in self.found.items():
            self._take(address, record["length"])
        self.work.extend(note.address for note in read_notes(self.linked))
        self.follow()
        labels = [s for s in self.linked.symbols.symbols if s.is_code and not s.is_object]
        for symbol in labels:
            if symbol.size and symbol.address != self.linked.base:
                self._sweep(symbol.address, symbol.address + symbol.size)
        if not self.linked.is_executable:
            return
        self.work.extend(symbol.address for symbol in labels)
        self.follow()
        self.work.extend((*self.held, *self._words()))
        self.follow()

    def _sweep(self, address: int, end: int) -> None:
        """Take the instructions of a function one behind the other, jump tables' targets among them."""
        while address < end:
            self.work.append(address)
            self.follow()
            if address not in self.found:
                return
            address += self.found[address]["length"]

    def _visit(self, address: int) -> int | None:
        if self.taken is None:
            return super()._visit(address)
        offset = address - self.linked.base
        if not self.linked.is_code(address) or offset < self.linked.code_start:
            return None
        instruction = Decoder(64, self.code[offset : offset + LONGEST], ip=address).decode()
        if instruction.is_invalid or any(self.taken[offset : offset + instruction.len]):
            return None
        following = super()._visit(address)
        if self.problems.pop(address, None) is not None:
            self.found[address] = {"op": isa.OP_UNSUPPORTED, "length": instruction.len, "address": signed(address, 8)}
        self._take(address, instruction.len)
        return following

    def _take(self, address: int, length: int) -> None:
        assert self.taken is not None
        offset = address - self.linked.base
        self.taken[offset : offset + length] = b"\1" * length

    def _held(self, instruction: Instruction, fields: ConstantOffsets) -> list[int]:
        """Return what is surely an address of code; remember what may be one."""
        certain = super()._held(instruction, fields)
        numbers = [instruction.immediate(n) for n in range(instruction.op_count) if _is_immediate(instruction, n)]
        if fields.has_displacement:
            numbers.append(instruction.memory_displacement)
        self.held.extend(n % (1 << 64) for n in numbers if self.linked.is_code(n % (1 << 64)))
        return certain

    def _words(self) -> list[int]:
        """Return the aligned quads of data that could be addresses of code."""
        linked = self.linked
        whole = linked.memory[: len(linked.memory) // 8 * 8].view("<u8")
        first, end = linked.base + linked.code_start, linked.base + linked.code_size
        places = np.flatnonzero((whole >= np.uint64(first)) & (whole < np.uint64(end)))
        outside = [int(n) for n in places if not linked.code_start <= 8 * int(n) < linked.code_size]
        return sorted({int(whole[n]) for n in outside})


def _is_immediate(instruction: Instruction, position: int) -> bool:
    try:
        instruction.immediate(position)
    except ValueError:
        return False
    return True
