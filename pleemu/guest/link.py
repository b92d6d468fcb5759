"""A static linker for one small guest (ELF gABI chapter 4, x86-64 psABI 4.4).

The image, from `base` up, like a kernel's (`arch/x86/kernel/vmlinux.lds.S`):

    exit stub    16 bytes: where guest_main returns to
    code         every executable section
    read-only    up to `readonly_size`, a whole number of pages
    data         writable sections, from a page boundary
    bss          zeros, and COMMON symbols

Notes (.note.stapsdt), interrupt vectors (.pleemu.vectors) and debug lines are relocated but
not loaded: they describe the guest and the guest cannot see them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from elftools.elf.constants import SH_FLAGS

from pleemu.errors import GuestError, nearest
from pleemu.guest.elf import ObjectFile, ObjectSymbol, Relocation, Section
from pleemu.guest.lines import LineTable, read_lines_of
from pleemu.guest.linked import Linked, Notes, place
from pleemu.guest.relocate import ABSOLUTE, RELATIVE, apply
from pleemu.guest.symbols import Symbol, SymbolTable

BASE = 0xFFFFFFFF81000000  # __START_KERNEL_map + 16 MiB, where Linux links its text
PAGE = 4096
IMAGE_LIMIT = 64 << 20  # bytes of guest memory
ALIGNMENT_LIMIT = 2 << 20
PROBLEMS_SHOWN = 10

EXIT_SYMBOL = "pleemu_exit"
EXIT_STUB = b"\xf4" + b"\xcc" * 15  # hlt, then int3 up to the first section
INT3 = 0xCC  # between sections: running off the end of one is a fault

NOTES_SECTION = ".note.stapsdt"
VECTORS_SECTION = ".pleemu.vectors"
# Sections that are not loaded get addresses here, apart from each other, for the line table.
_SIDE_BASE = 0x1000

_REFUSED = {
    "SHT_INIT_ARRAY": "a guest has no start-up code that would run constructors",
    "SHT_FINI_ARRAY": "a guest has no exit code that would run destructors",
    "SHT_PREINIT_ARRAY": "a guest has no start-up code that would run constructors",
}


def link(objects: Sequence[ObjectFile], *, source: Path, base: int = BASE) -> Linked:
    """Link relocatable objects, the first with its sections first."""
    return _Linker(list(objects), source, base).link()


class _Linker:
    """One link: layout, resolution, relocation, in this order."""

    def __init__(self, objects: list[ObjectFile], source: Path, base: int) -> None:
        self.objects = objects
        self.source = source
        self.base = base
        self.globals: dict[str, ObjectSymbol] = {}
        self.common: dict[str, int] = {}  # name -> address
        self.lines = LineTable([], [], [])  # until .debug_line is relocated
        self.code_pointers: set[int] = set()
        self.code_fields: dict[int, int] = {}

    def link(self) -> Linked:
        self._resolve()
        self._layout()
        self._relocate(lambda section: section.name == ".debug_line")
        self.lines = read_lines_of(self.objects)
        self._relocate(lambda section: section.is_loaded or section.name in (NOTES_SECTION, VECTORS_SECTION))
        return Linked(
            source=self.source,
            base=self.base,
            memory=self._memory(),
            readonly_size=self.readonly_size,
            code_size=self.code_size,
            symbols=SymbolTable.of(self._named()),
            lines=self.lines,
            code_pointers=frozenset(self.code_pointers),
            code_fields=self.code_fields,
            notes=list(self._notes()),
            vectors=[section for section in self._sections() if section.name == VECTORS_SECTION],
            producers=producers_of(self.objects),
        )

    def _sections(self) -> Iterator[Section]:
        for linked in self.objects:
            yield from linked.sections

    # Resolution.

    def _resolve(self) -> None:
        """Bind each global name to one definition: strong before weak before COMMON."""
        rank = {"STB_GLOBAL": 2, "STB_WEAK": 1}
        for linked in self.objects:
            for symbol in linked.symbols:
                if not symbol.is_global or symbol.place == "SHN_UNDEF":
                    continue
                known = self.globals.get(symbol.name)
                if known is None:
                    self.globals[symbol.name] = symbol
                    continue
                new, old = (0 if s.place == "SHN_COMMON" else rank.get(s.binding, 2) for s in (symbol, known))
                if new == old == 2:
                    raise GuestError(f"{linked.source}: symbol {symbol.name!r} is defined twice")
                if new > old or (new == old == 0 and symbol.size > known.size):
                    self.globals[symbol.name] = symbol
        if any(
            symbol.name == EXIT_SYMBOL and symbol.place != "SHN_UNDEF" for o in self.objects for symbol in o.symbols
        ):
            raise GuestError(f"{self.source}: symbol {EXIT_SYMBOL!r} is pleemu's own; choose another name")
        self._check_undefined()

    def _check_undefined(self) -> None:
        used = {r.symbol for section in self._sections() for r in section.relocations}
        missing = sorted({
            symbol.name for symbol in used
            if symbol.place == "SHN_UNDEF" and symbol.name and symbol.name not in self.globals
            and symbol.name != EXIT_SYMBOL and symbol.binding != "STB_WEAK"
        })  # fmt: skip
        if not missing:
            return
        known = {s.name for o in self.objects for s in o.symbols if s.name and s.place != "SHN_UNDEF"}
        known -= {s.name for o in self.objects for s in o.symbols if s.type in ("STT_FILE", "STT_SECTION")}
        known = {name for name in known if not name.startswith(("_", "."))}  # what tools make, not users
        lines = [f"{self._user_of(name)}: undefined symbol {name!r}{nearest(name, known)}" for name in missing]
        raise GuestError("\n".join(lines[:PROBLEMS_SHOWN]))

    def _user_of(self, name: str) -> Path:
        """Return the source of the first object that needs a symbol."""
        for linked in self.objects:
            if any(r.symbol.name == name for section in linked.sections for r in section.relocations):
                return linked.source
        return self.source

    def _address(self, symbol: ObjectSymbol) -> int:
        """Return S of a relocation's symbol."""
        if symbol.is_global:
            if symbol.name == EXIT_SYMBOL:
                return self.base
            if symbol.name in self.globals:
                symbol = self.globals[symbol.name]
        if symbol.place == "SHN_COMMON":
            return self.common[symbol.name]
        return symbol.value + (symbol.section.address if symbol.section else 0)

    # Layout.

    def _layout(self) -> None:
        for linked in self.objects:
            for section in linked.sections:
                self._check(section, linked.source)
        loaded = [section for section in self._sections() if section.is_loaded]
        code = [s for s in loaded if s.is_code]
        readonly = [s for s in loaded if not s.is_code and not s.is_writable]
        data = [s for s in loaded if s.is_writable and not s.is_zeros]
        self.bss = [s for s in loaded if s.is_writable and s.is_zeros]
        self.placed = code + readonly + data

        end = self._place(code, self.base + len(EXIT_STUB))
        end += 1  # one int3 after the last section
        self.code_size = end - self.base
        end = _align(self._place(readonly, end), PAGE)
        self.readonly_size = end - self.base
        end = self._place(self.bss, self._place(data, end))
        for name, symbol in self.globals.items():
            if symbol.place == "SHN_COMMON":
                # gABI: st_value of a COMMON symbol is its alignment.
                self.common[name] = _align(end, min(max(symbol.value, 1), ALIGNMENT_LIMIT))
                end = self.common[name] + symbol.size
                self._check_size(end)
        self.size = end - self.base
        side = _SIDE_BASE
        for section in self._sections():
            if section.name in (NOTES_SECTION, VECTORS_SECTION):
                section.address, side = side, side + section.size

    def _check(self, section: Section, source: Path) -> None:
        name = f"{source}: section {section.name}"
        if section.name in (NOTES_SECTION, VECTORS_SECTION, ".eh_frame") or section.type == "SHT_NOTE":
            section.flags &= ~SH_FLAGS.SHF_ALLOC
        if not section.is_loaded:
            return
        if section.flags & SH_FLAGS.SHF_TLS:
            raise GuestError(f"{name} is thread-local; a guest has no threads, index an array by the vCPU")
        if section.type in _REFUSED:
            raise GuestError(f"{name}: {_REFUSED[section.type]}")
        if section.is_code and section.is_writable:
            raise GuestError(f"{name} is both writable and executable; a guest cannot modify its code")
        if section.is_code and section.is_zeros:
            raise GuestError(f"{name} is executable but has no contents")
        if section.alignment & (section.alignment - 1) or section.alignment > ALIGNMENT_LIMIT:
            raise GuestError(f"{name}: alignment {section.alignment} is not a power of two up to 2 MiB")

    def _place(self, sections: list[Section], address: int) -> int:
        for section in sections:
            section.address = _align(address, section.alignment)
            address = section.address + section.size
            self._check_size(address)
        return address

    def _check_size(self, end: int) -> None:
        if end - self.base > IMAGE_LIMIT:
            raise GuestError(
                f"{self.source}: needs {end - self.base:,} bytes of memory, more than the {IMAGE_LIMIT:,} of a guest"
            )

    def _memory(self) -> npt.NDArray[np.uint8]:
        memory = np.zeros(max(self.size, self.readonly_size), np.uint8)
        memory[: self.code_size] = INT3
        memory[: len(EXIT_STUB)] = np.frombuffer(EXIT_STUB, np.uint8)
        for section in self.placed:
            offset = section.address - self.base
            memory[offset : offset + len(section.data)] = np.frombuffer(bytes(section.data), np.uint8)
        return memory

    # Relocation.

    def _relocate(self, wanted: Callable[[Section], bool]) -> None:
        problems = []
        for section in self._sections():
            if not wanted(section):
                continue
            for relocation in section.relocations:
                problem = apply(section, relocation, self._address(relocation.symbol))
                if problem:
                    where = place(self.lines, self.source, section.address + relocation.offset)
                    target = self._target_name(relocation)
                    problems.append(f"{where}: {section.name}+{relocation.offset:#x}: {target!r} {problem}")
                elif section.is_loaded or section.name == VECTORS_SECTION:
                    self._note_code_pointer(section, relocation)
        if problems:
            raise GuestError("\n".join(problems[:PROBLEMS_SHOWN]))

    def _target_name(self, relocation: Relocation) -> str:
        """Return the symbol that the source names, which the object may give as section + addend."""
        symbol = relocation.symbol
        if symbol.section is None or symbol.type != "STT_SECTION":
            return symbol.name
        address = self._address(symbol) + relocation.addend + (4 if relocation.type in RELATIVE else 0)
        return SymbolTable.of(self._named()).name_of(address, is_code=symbol.section.is_code)

    def _note_code_pointer(self, section: Section, relocation: Relocation) -> None:
        """Remember an address of code that is stored: it may be jumped to."""
        if relocation.type not in ABSOLUTE:
            return
        target = self._address(relocation.symbol) + relocation.addend
        if not 0 <= target - self.base < self.code_size:
            return
        if section.is_code:
            self.code_fields[section.address + relocation.offset] = target
        else:
            self.code_pointers.add(target)

    # Names.

    def _named(self) -> Iterator[Symbol]:
        """Yield every symbol of the guest's memory."""
        yield Symbol(EXIT_SYMBOL, self.base, 1, is_global=True, is_code=True)
        for linked in self.objects:
            for symbol in linked.symbols:
                section = symbol.section
                if not symbol.name or symbol.type in ("STT_SECTION", "STT_FILE"):
                    continue
                if symbol.place == "SHN_COMMON" and self.globals[symbol.name] is symbol:
                    yield Symbol(symbol.name, self.common[symbol.name], symbol.size, is_global=True, is_object=True)
                elif section is not None and section.is_loaded:
                    yield Symbol(
                        name=symbol.name,
                        address=section.address + symbol.value,
                        size=symbol.size,
                        is_global=symbol.is_global,
                        is_code=section.is_code,
                        is_object=symbol.type == "STT_OBJECT",
                        is_function=symbol.type == "STT_FUNC",
                    )

    def _notes(self) -> Iterator[Notes]:
        """Yield each object's notes: a local name means the object's own symbol."""
        for linked in self.objects:
            found = [bytes(section.data) for section in linked.sections if section.name == NOTES_SECTION]
            if found:
                symbols = [*self.globals.values(), *linked.symbols]
                values = {
                    symbol.name: self._address(symbol)
                    for symbol in symbols
                    if symbol.name and symbol.place != "SHN_UNDEF" and symbol.type not in ("STT_SECTION", "STT_FILE")
                }
                yield from (Notes(data, values) for data in found)


def producers_of(objects: Sequence[ObjectFile]) -> tuple[str, ...]:
    """Return the compilers that made the objects, as they name themselves in .comment."""
    comments = (bytes(section.data) for o in objects for section in o.sections if section.name == ".comment")
    names = (name.decode(errors="replace").strip() for comment in comments for name in comment.split(b"\0"))
    return tuple(dict.fromkeys("".join(letter for letter in name if letter.isprintable()) for name in names if name))


def _align(address: int, alignment: int) -> int:
    return (address + alignment - 1) & -alignment
