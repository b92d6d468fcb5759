"""Source lines of addresses, from .debug_line (DWARF 5, 6.2).

The sections are relocated by our linker; pyelftools runs the line number programs.
"""

from __future__ import annotations

import bisect
import contextlib
import io
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
from elftools.dwarf.structs import DWARFStructs
from elftools.elf.elffile import ELFFile

from pleemu.guest.elf import ObjectFile


@attrs.frozen
class LineTable:
    """Rows by address: from `starts[i]` up to `ends[i]` the code is of `places[i]`."""

    starts: list[int]
    ends: list[int]
    places: list[str]

    def source_at(self, address: int) -> str | None:
        """Return ``'file:line'`` of the code or data at ``address``."""
        position = bisect.bisect_right(self.starts, address) - 1
        if position < 0 or address >= self.ends[position]:
            return None
        return self.places[position]


def read_lines_of(objects: list[ObjectFile]) -> LineTable:
    """Read the line tables of relocated objects; a broken one has no lines."""
    rows: list[tuple[int, int, str]] = []
    for linked in objects:
        # pyelftools raises whatever it trips over, and lines are only a comfort.
        with contextlib.suppress(Exception):
            way = os.path.relpath(linked.source.parent, objects[0].source.parent)
            rows.extend(_rows(linked, "" if way == "." else f"{way}/"))
    rows.sort(key=lambda row: row[0])
    return LineTable([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])


def _rows(linked: ObjectFile, way: str) -> list[tuple[int, int, str]]:
    lines = next((section for section in linked.sections if section.name == ".debug_line"), None)
    if lines is None:
        return []
    content = bytearray(linked.content)
    content[lines.file_offset : lines.file_offset + lines.size] = lines.data
    dwarf = ELFFile(io.BytesIO(bytes(content))).get_dwarf_info(relocate_dwarf_sections=False)
    structs = DWARFStructs(little_endian=True, dwarf_format=32, address_size=8)
    rows: list[tuple[int, int, str]] = []
    offset = 0
    while offset < lines.size:
        # An assembler writes no .debug_info: this stands in for the unit that would point here.
        die = SimpleNamespace(attributes={"DW_AT_stmt_list": SimpleNamespace(value=offset)})
        unit: Any = SimpleNamespace(structs=structs, get_top_DIE=lambda die=die: die)
        program = dwarf.line_program_for_CU(unit)
        if program is None:
            break
        rows.extend(_rows_of_program(program, linked.source.parent, way))
        offset += int(program["unit_length"]) + 4
    return rows


def _rows_of_program(program: Any, folder: Path, way: str) -> list[tuple[int, int, str]]:
    """Turn the state machine's rows into ranges of addresses; line 0 stands for no line."""
    names = _file_names(program, folder, way)
    first_file = 0 if program["version"] >= 5 else 1
    rows: list[tuple[int, int, str]] = []
    previous: Any = None
    for entry in program.get_entries():
        state = entry.state
        if state is None:
            continue
        if previous is not None and state.address > previous.address and previous.line:
            index = previous.file - first_file
            name = names[index] if 0 <= index < len(names) else "?"
            rows.append((previous.address, state.address, f"{name}:{previous.line}"))
        previous = None if state.end_sequence else state
    return rows


def _file_names(program: Any, folder: Path, way: str) -> list[str]:
    """Return the files as messages name them: relative to the guest's folder, or without a folder."""
    folders = [os.fsdecode(one) for one in program["include_directory"]]
    if program["version"] < 5:
        folders = ["", *folders]  # the folder that the compiler ran in has no entry
    names = []
    for entry in program["file_entry"]:
        name = os.fsdecode(entry.name)
        known = folders[entry.dir_index] if 0 <= entry.dir_index < len(folders) else ""
        if known and known != folders[0]:
            name = os.path.join(known, name)
        if os.path.isabs(name):
            inside = Path(name).is_relative_to(folder.resolve())
            name = way + os.path.relpath(name, folder.resolve()) if inside else os.path.basename(name)
        else:
            name = os.path.normpath(way + name)
        names.append(name)
    return names
