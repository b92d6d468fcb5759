"""What the linker hands on: memory, names, lines, and what the guest says about itself."""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np
import numpy.typing as npt

from pleemu.guest.elf import Section
from pleemu.guest.lines import LineTable
from pleemu.guest.symbols import SymbolTable


@attrs.frozen(eq=False)
class Notes:
    """The probe notes of one object, and the values that the names in its operands have."""

    data: bytes
    values: dict[str, int]  # every named value that the object sees, .set constants too


@attrs.frozen(eq=False)
class Linked:
    """A linked guest before it is decoded."""

    source: Path
    base: int
    memory: npt.NDArray[np.uint8]
    readonly_size: int
    code_size: int
    symbols: SymbolTable
    lines: LineTable
    code_pointers: frozenset[int]  # addresses of code that data holds: jump tables, function pointers
    code_fields: dict[int, int]  # field in an instruction -> address of code that it holds
    notes: list[Notes]
    vectors: list[Section]
    producers: tuple[str, ...] = ()  # the compilers, as they name themselves in .comment
    code_start: int = 0  # bytes from base to where code begins, behind the exit stub
    entry: int | None = None  # of an executable; an object begins at its symbol guest_main

    @property
    def is_executable(self) -> bool:
        """Whether another linker made it: then its relocations are gone."""
        return self.entry is not None

    def is_code(self, address: int) -> bool:
        """Whether ``address`` is inside the executable part."""
        offset = address - self.base
        return self.code_start <= offset < self.code_size or offset == 0

    def name_of(self, address: int) -> str:
        """Return ``address`` as ``acquire+0x12``, or in hexadecimal where nothing names it."""
        if 0 <= address - self.base <= len(self.memory):
            return self.symbols.name_of(address, is_code=self.is_code(address))
        return f"{address:#x}"

    def place(self, address: int) -> str:
        """Return the file and, where it is known, the line of ``address``, for a message."""
        return place(self.lines, self.source, address)


def place(lines: LineTable, source: Path, address: int) -> str:
    """Return ``source``, or where in it or in what it includes ``address`` comes from."""
    line = lines.source_at(address)
    return str(source.parent / line) if line else str(source)
