"""A guest ready to run: its memory, its instructions and the names of its addresses."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import attrs
import numpy as np
import numpy.typing as npt

from pleemu.guest.linked import Linked


@attrs.frozen(eq=False)
class Image:
    """A linked and decoded guest. One image serves all VMs that run it: copy what a run changes."""

    name: str
    path: Path
    base: int  # address of memory[0]; the exit stub, where guest_main returns to
    memory: npt.NDArray[np.uint8]  # as loaded, zeros of .bss included
    readonly_size: int  # bytes from base that a guest may not write
    code_size: int  # bytes from base that may be executed: the length of index_of
    instructions: np.recarray  # of isa.INSTRUCTION, by address; 0 is OP_END
    index_of: npt.NDArray[np.int32]  # by offset from base: index into instructions, or -1
    entry: int  # index of guest_main
    vectors: npt.NDArray[np.int32]  # 256 indexes of handlers, -1 where there is none
    linked: Linked = attrs.field(repr=False)

    @property
    def digest(self) -> str:
        """What tells this guest from any other: a digest of where it lies, what it holds and where it begins."""
        place = struct.pack("<QQQQ", self.base, self.readonly_size, self.code_size, self.entry)
        return hashlib.sha256(place + self.memory.tobytes()).hexdigest()[:16]

    @property
    def symbols(self) -> list[tuple[str, int]]:
        """Names and addresses, by address."""
        return [(symbol.name, symbol.address) for symbol in self.linked.symbols.symbols]

    def address_of(self, name: str) -> int | None:
        """Return the address of a symbol, or None."""
        symbol = self.linked.symbols.find(name)
        return symbol.address if symbol else None

    @property
    def most_vcpus(self) -> int | None:
        """How many vCPUs its tables have room for, by `most_vcpus` of pleemu.inc; None if it does not say."""
        offset = (self.address_of("pleemu_most_vcpus") or 0) - self.base
        if not 0 <= offset <= len(self.memory) - 8:
            return None
        return int.from_bytes(self.memory[offset : offset + 8].tobytes(), "little")

    def symbol_at(self, address: int) -> str:
        """Return ``address`` as ``acquire+0x12``, or in hexadecimal where nothing names it."""
        return self.linked.name_of(_unsigned(address))

    def function_at(self, address: int) -> str:
        """Return the label that ``address`` stands under, or the address in hexadecimal."""
        address = _unsigned(address)
        symbol = self.linked.symbols.nearest(address, is_code=True) if self.linked.is_code(address) else None
        return symbol.name if symbol else f"{address:#x}"

    def enclosing_function(self, address: int) -> str:
        """Return the function that ``address`` is in, by its symbol's type and size, or nothing."""
        symbol = self.linked.symbols.function_around(_unsigned(address))
        return symbol.name if symbol else ""

    def source_at(self, address: int) -> str | None:
        """Return the source line of ``address`` as ``ticket_lock.S:23``, if the object tells."""
        return self.linked.lines.source_at(_unsigned(address))

    def text_of(self, index: int) -> str:
        """Return instruction ``index`` of the table in Intel syntax."""
        from iced_x86 import Decoder

        from pleemu.guest.text import text_of

        record = self.instructions[index]
        address = _unsigned(int(record["address"]))
        offset = address - self.base
        code = self.memory[offset : offset + max(int(record["length"]), 1)].tobytes()
        return text_of(Decoder(64, code, ip=address).decode(), self.linked.name_of)


def _unsigned(address: int) -> int:
    """Accept addresses as the machine holds them, signed, and as people write them."""
    return int(address) % (1 << 64)
