"""A static executable as another linker made it: its segments where it wants them (gABI chapter 5).

    exit stub    a page of its own, below the lowest segment: where guest_main returns to
    read-only    segments that cannot be written, code among them, in one stretch each
    writable     the segments above

It begins at its symbol guest_main, or else at its entry point. Its relocations are applied and gone,
so what is code must be found in other ways: see `sweep`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from pleemu.errors import GuestError
from pleemu.guest.elf import ObjectFile, Section, Segment
from pleemu.guest.lines import read_lines_of
from pleemu.guest.link import (
    EXIT_STUB,
    EXIT_SYMBOL,
    IMAGE_LIMIT,
    INT3,
    NOTES_SECTION,
    PAGE,
    VECTORS_SECTION,
    producers_of,
)
from pleemu.guest.linked import Linked, Notes
from pleemu.guest.symbols import Symbol, SymbolTable

ENTRY = "guest_main"


def load_executable(executable: ObjectFile) -> Linked:
    """Lay out an executable's memory, and read what it says about itself."""
    source, segments = executable.source, executable.segments
    _check(executable)
    code = [segment for segment in segments if segment.is_code]
    readonly = [segment for segment in segments if not segment.is_writable]
    base = (segments[0].address & -PAGE) - PAGE
    code_start, code_end = code[0].address - base, _end(code[-1]) - base
    last = _end(readonly[-1]) - base
    readonly_size = min([-(-last // PAGE) * PAGE, *(s.address - base for s in segments if s.is_writable)])
    memory = np.zeros(max(_end(segment) for segment in segments) - base, np.uint8)
    memory[: len(EXIT_STUB)] = np.frombuffer(EXIT_STUB, np.uint8)
    memory[len(EXIT_STUB) : PAGE] = INT3
    for segment in segments:
        offset = segment.address - base
        memory[offset : offset + len(segment.data)] = np.frombuffer(segment.data, np.uint8)
    symbols = SymbolTable.of(_symbols(executable, base, base + code_start, base + code_end))
    entry = symbols.find(ENTRY)
    vectors = [section for section in executable.sections if section.name == VECTORS_SECTION]
    linked = Linked(
        source=source,
        base=base,
        memory=memory,
        readonly_size=min(readonly_size, len(memory)),
        code_size=code_end,
        code_start=code_start,
        symbols=symbols,
        lines=read_lines_of([executable]),
        code_pointers=frozenset(_handlers(vectors)),
        code_fields={},
        notes=list(_notes(executable)),
        vectors=vectors,
        producers=producers_of([executable]),
        entry=entry.address if entry else executable.entry,
    )
    assert linked.entry is not None
    if not linked.is_code(linked.entry):
        what = f"symbol {ENTRY}" if entry else "entry point"
        raise GuestError(f"{source}: its {what} {linked.entry:#x} is not code")
    return linked


def _check(executable: ObjectFile) -> None:
    """Refuse what guest memory, read-only below and writable above, cannot be."""
    source, segments = executable.source, executable.segments
    if not any(segment.is_code for segment in segments):
        raise GuestError(f"{source}: has no executable segment")
    for segment in segments:
        where = f"{source}: its segment at {segment.address:#x}"
        if segment.is_code and segment.is_writable:
            raise GuestError(
                f"{where} is both writable and executable; a guest cannot modify its code (link without -N)"
            )
        if segment.address < 2 * PAGE:
            raise GuestError(f"{where} is too low; link it at {2 * PAGE:#x} or above, as with -Ttext-segment=0x400000")
        if _end(segment) >= 1 << 64:
            raise GuestError(f"{where} goes beyond the end of the address space")
        if _end(segment) - segments[0].address > IMAGE_LIMIT - 2 * PAGE:
            raise GuestError(
                f"{where} ends more than {IMAGE_LIMIT:,} bytes after the lowest; link them nearer together"
            )
    kinds = [(segment.is_writable, segment.is_code) for segment in segments]
    last_code = max(number for number, (_, is_code) in enumerate(kinds) if is_code)
    first_code = kinds.index((False, True))
    for number, segment in enumerate(segments):
        if segment.is_writable and any(not writable for writable, _ in kinds[number:]):
            raise GuestError(
                f"{source}: its writable segment at {segment.address:#x} lies below read-only ones; "
                "link data behind code and constants, as ld does without -Tdata"
            )
        if not segment.is_code and first_code < number < last_code:
            raise GuestError(f"{source}: its segment at {segment.address:#x} lies between executable ones")
        if number and _end(segments[number - 1]) > segment.address:
            raise GuestError(f"{source}: its segments overlap at {segment.address:#x}")


def _end(segment: Segment) -> int:
    return segment.address + segment.size


def _symbols(executable: ObjectFile, base: int, code_start: int, code_end: int) -> Iterator[Symbol]:
    yield Symbol(EXIT_SYMBOL, base, 1, is_global=True, is_code=True)
    if not any(code_start <= symbol.value < code_end for symbol in executable.symbols):
        yield Symbol(executable.source.stem, code_start, is_code=True)  # a stripped one has this name at least
    for symbol in executable.symbols:
        section = symbol.section
        if not symbol.name or section is None or not section.is_loaded or symbol.type in ("STT_SECTION", "STT_FILE"):
            continue
        if symbol.type == "STT_TLS":  # whose value is not an address
            continue
        yield Symbol(
            name=symbol.name,
            address=symbol.value,
            size=symbol.size,
            is_global=symbol.is_global,
            is_code=code_start <= symbol.value < code_end,
            is_object=symbol.type == "STT_OBJECT",
            is_function=symbol.type == "STT_FUNC",
        )


def _notes(executable: ObjectFile) -> Iterator[Notes]:
    """Yield the notes. A local name that several objects had is left out: nobody knows which is meant."""
    values: dict[str, int] = {}
    ambiguous: set[str] = set()
    for symbol in sorted(executable.symbols, key=lambda symbol: not symbol.is_global):
        if not symbol.name or symbol.place == "SHN_UNDEF" or symbol.type in ("STT_SECTION", "STT_FILE"):
            continue
        if values.setdefault(symbol.name, symbol.value) != symbol.value and not symbol.is_global:
            ambiguous.add(symbol.name)
    known = {name: value for name, value in values.items() if name not in ambiguous}
    for section in executable.sections:
        if section.name == NOTES_SECTION:
            yield Notes(bytes(section.data), known)


def _handlers(vectors: list[Section]) -> Iterator[int]:
    for section in vectors:
        whole = len(section.data) // 16 * 16
        yield from (handler for _, handler in struct.iter_unpack("<QQ", section.data[:whole]))
