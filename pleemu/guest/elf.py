"""One ELF64 file, object or executable, read by pyelftools into plain records (ELF gABI chapters 4 and 5).

Objects are untrusted: whatever pyelftools raises on a broken one is the user's error here.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import attrs
from elftools.elf.constants import P_FLAGS, SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import Symbol, SymbolTableSection

from pleemu.errors import GuestError


@attrs.define(eq=False)
class Section:
    """A section; the linker gives it its address and relocates its data in place."""

    name: str
    type: str
    flags: int
    alignment: int
    size: int
    data: bytearray  # empty for SHT_NOBITS
    file_offset: int
    address: int = 0
    relocations: list[Relocation] = attrs.field(factory=list)

    @property
    def is_loaded(self) -> bool:
        """Whether it occupies memory (SHF_ALLOC)."""
        return bool(self.flags & SH_FLAGS.SHF_ALLOC)

    @property
    def is_code(self) -> bool:
        """Whether it is executable (SHF_EXECINSTR)."""
        return bool(self.flags & SH_FLAGS.SHF_EXECINSTR)

    @property
    def is_writable(self) -> bool:
        """Whether it is writable (SHF_WRITE)."""
        return bool(self.flags & SH_FLAGS.SHF_WRITE)

    @property
    def is_zeros(self) -> bool:
        """Whether the file holds none of it: .bss."""
        return self.type == "SHT_NOBITS"


@attrs.frozen(eq=False)
class ObjectSymbol:
    """A symbol as its object states it: `value` is relative to `section`."""

    name: str
    value: int
    size: int
    binding: str  # STB_LOCAL, STB_GLOBAL, STB_WEAK
    type: str  # STT_NOTYPE, STT_FUNC, STT_OBJECT, STT_SECTION, ...
    place: str  # SECTION, SHN_ABS, SHN_UNDEF, SHN_COMMON
    section: Section | None

    @property
    def is_global(self) -> bool:
        """Whether other objects see it."""
        return self.binding != "STB_LOCAL"


@attrs.frozen(eq=False)
class Relocation:
    """A RELA entry (x86-64 psABI 4.4)."""

    offset: int
    type: int
    symbol: ObjectSymbol
    addend: int


@attrs.frozen
class Segment:
    """A part of an executable that is loaded: a PT_LOAD program header (gABI chapter 5)."""

    address: int
    size: int  # in memory; zeros where the data ends before
    data: bytes
    is_code: bool
    is_writable: bool


@attrs.frozen(eq=False)
class ObjectFile:
    """What the linker needs of an object, and the loader of an executable."""

    source: Path
    content: bytes
    sections: list[Section]
    symbols: list[ObjectSymbol]
    is_executable: bool = False
    entry: int = 0  # e_entry
    segments: tuple[Segment, ...] = ()  # of an executable, by address


MAGIC = b"\x7fELF"


def read_object(content: bytes, source: Path) -> ObjectFile:
    """Read an x86-64 relocatable object or static executable."""
    try:
        elf = ELFFile(io.BytesIO(content))
        _check_header(elf, source)
        return _read(elf, content, source)
    except GuestError:
        raise
    except Exception as error:  # pyelftools raises whatever its parser trips over
        raise GuestError(f"{source}: is not a readable ELF object: {error or type(error).__name__}") from error


def _check_header(elf: ELFFile, source: Path) -> None:
    if elf.elfclass != 64 or not elf.little_endian or elf["e_machine"] != "EM_X86_64":
        raise GuestError(f"{source}: is not an x86-64 object but {elf.get_machine_arch()}")
    if elf["e_type"] == "ET_DYN":
        raise GuestError(
            f"{source}: is a shared library or a position-independent executable; compile with -fno-pie and link with "
            "-static -no-pie, or give the object that `cc -c` makes"
        )
    if elf["e_type"] not in ("ET_REL", "ET_EXEC"):
        raise GuestError(f"{source}: is neither an object nor an executable ({elf['e_type']})")
    if any(segment["p_type"] in ("PT_INTERP", "PT_DYNAMIC") for segment in elf.iter_segments()):
        raise GuestError(f"{source}: is a dynamic executable, and a guest has no libraries; link it with -static")


def _segments(elf: ELFFile, content: bytes) -> Iterator[Segment]:
    for raw in elf.iter_segments():
        if raw["p_type"] != "PT_LOAD" or not raw["p_memsz"]:
            continue
        data = content[raw["p_offset"] :][: raw["p_filesz"]]
        if len(data) != raw["p_filesz"] or raw["p_filesz"] > raw["p_memsz"]:
            raise ValueError(f"the segment at {raw['p_vaddr']:#x} ends after the file")
        flags = raw["p_flags"]
        yield Segment(
            int(raw["p_vaddr"]),
            int(raw["p_memsz"]),
            data,
            is_code=bool(flags & P_FLAGS.PF_X),
            is_writable=bool(flags & P_FLAGS.PF_W),
        )


def _read(elf: ELFFile, content: bytes, source: Path) -> ObjectFile:
    is_executable = elf["e_type"] == "ET_EXEC"
    sections: list[Section] = []
    for raw in elf.iter_sections():
        flags, size = int(raw["sh_flags"]), int(raw["sh_size"])
        if flags & SH_FLAGS.SHF_COMPRESSED:
            raise ValueError(f"section {raw.name} is compressed; compile without -gz")
        data = b"" if raw["sh_type"] in ("SHT_NOBITS", "SHT_NULL") else content[raw["sh_offset"] :][:size]
        if len(data) != size and raw["sh_type"] not in ("SHT_NOBITS", "SHT_NULL"):
            raise ValueError(f"section {raw.name} ends after the file")
        section = Section(raw.name, str(raw["sh_type"]), flags, int(raw["sh_addralign"]) or 1, size,
                          bytearray(data), int(raw["sh_offset"]), int(raw["sh_addr"]))  # fmt: skip
        sections.append(section)
    symbols: list[ObjectSymbol] = []
    table = elf.get_section_by_name(".symtab")
    if isinstance(table, SymbolTableSection):
        symbols = [_symbol(raw, sections) for raw in table.iter_symbols()]
    for raw in elf.iter_sections():
        if raw["sh_type"] == "SHT_REL":
            raise ValueError(f"section {raw.name} has relocations without addends")
        if not isinstance(raw, RelocationSection) or is_executable:  # whose relocations are applied already
            continue
        patched = sections[raw["sh_info"]]
        for entry in raw.iter_relocations():
            symbol = symbols[entry["r_info_sym"]]
            patched.relocations.append(
                Relocation(int(entry["r_offset"]), int(entry["r_info_type"]), symbol, int(entry["r_addend"]))
            )
    return ObjectFile(
        source,
        content,
        sections,
        symbols,
        is_executable=is_executable,
        entry=int(elf["e_entry"]),
        segments=tuple(sorted(_segments(elf, content), key=lambda segment: segment.address)),
    )


def _symbol(raw: Symbol, sections: list[Section]) -> ObjectSymbol:
    entry = raw.entry
    index = entry["st_shndx"]
    place, section = ("SECTION", sections[index]) if isinstance(index, int) else (str(index), None)
    return ObjectSymbol(
        name=raw.name,
        value=int(entry["st_value"]),
        size=int(entry["st_size"]),
        binding=str(entry["st_info"]["bind"]),
        type=str(entry["st_info"]["type"]),
        place=place,
        section=section,
    )
