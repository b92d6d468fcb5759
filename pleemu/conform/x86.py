"""`pleemu-x86-1`: registers, flags and memory after instruction sequences, recorded from a processor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from attrs import frozen

from pleemu.conform.vectors import ConformError, Difference, Format, HexBytes, HexNumber, Results, structure
from pleemu.testing import REGISTERS, Case, ExecuteError, Execution, Processor

_BATCH = 200  # cases prepared in one go
_SHOWN = 16  # bytes of memory that differ, in a difference
_DIVIDE_ERROR = "divide-error"
_FLAGS = {"CF": 0, "PF": 2, "AF": 4, "ZF": 6, "SF": 7, "DF": 10, "OF": 11}
STATUS_FLAGS = sum(1 << bit for bit in _FLAGS.values())


@frozen
class Header:
    """What holds for all cases of a file."""

    code_base: int
    memory_base: int
    memory_size: int


@frozen(kw_only=True)
class Recorded:
    """One sequence, before and after; `end` is `end` or `divide-error`."""

    id: int
    asm: str
    code: HexBytes
    regs: list[HexNumber]
    rflags: int
    memory_seed: int
    regs_after: list[HexNumber]
    rflags_after: int | None = None
    rflags_mask: int | None = None
    memory_after: list[tuple[int, HexBytes]]
    end: str
    rip_offset: int | None = None


def replay(data: Mapping[str, Any]) -> Results:
    """Execute every case."""
    shape = {key: data[key] for key in ("code_base", "memory_base", "memory_size") if key in data}
    header = structure(Header, shape, "the file")
    _require(0 < header.memory_size <= 1 << 20, "memory_size", f"{header.memory_size} is not from 1 to 1048576")
    processor = Processor()
    cases = data["cases"]
    for start in range(0, len(cases), _BATCH):
        numbers = range(start, min(start + _BATCH, len(cases)))
        recorded = [_recorded(cases[number], header, f"cases[{number}]") for number in numbers]
        to_run = [_case(one, header, f"cases[{number}]") for number, one in zip(numbers, recorded, strict=True)]
        yield from _compared(header, recorded, to_run, processor)


def _compared(
    header: Header, recorded: Sequence[Recorded], cases: Sequence[Case], processor: Processor
) -> Iterator[Difference | None]:
    for one, case, found in zip(recorded, cases, processor.execute_all(cases), strict=True):
        rows = list(_differing(header, one, case, found))
        yield Difference(f"case {one.id}", _text(one, case, rows)) if rows else None


def _differing(header: Header, one: Recorded, case: Case, found: Execution) -> Iterator[tuple[str, str, str]]:
    """Give what differs: its name, what was recorded, what came out."""
    expected_end, got_end = _ends(header, one, found)
    if expected_end != got_end:
        yield "end", expected_end, got_end
    for name, value in zip(REGISTERS, one.regs_after, strict=True):
        if found.registers[name] != value:
            yield name, f"{value:#x}", f"{found.registers[name]:#x}"
    if one.end != _DIVIDE_ERROR:
        recorded, mask = one.rflags_after or 0, one.rflags_mask or 0
        for name, bit in _FLAGS.items():
            if (recorded ^ found.rflags) & mask & 1 << bit:
                yield name, str(recorded >> bit & 1), str(found.rflags >> bit & 1)
    expected = bytearray(case.memory[header.memory_base])
    for offset, written in one.memory_after:
        expected[offset : offset + len(written)] = written
    got = found.read(header.memory_base, header.memory_size)
    for offset in range(header.memory_size):
        if expected[offset] != got[offset]:
            yield f"memory+{offset:#x}", f"{expected[offset]:#04x}", f"{got[offset]:#04x}"


def _ends(header: Header, one: Recorded, found: Execution) -> tuple[str, str]:
    expected = one.end if one.rip_offset is None else f"{one.end} at {header.code_base + one.rip_offset:#x}"
    if found.fault is None:
        return expected, found.ended
    if found.fault.kind == "divide":
        return expected, f"{_DIVIDE_ERROR} at {found.fault.rip:#x}"
    return expected, found.fault.message


def _text(one: Recorded, case: Case, rows: Sequence[tuple[str, str, str]]) -> str:
    before = [f"{name:>3} {value:016x}" for name, value in zip(REGISTERS, one.regs, strict=True)]
    lines = [f"asm   {one.asm}", f"code  {case.code.hex()}", "before"]
    lines += ["      " + "  ".join(before[start : start + 4]) for start in range(0, 16, 4)]
    lines += [f"      rflags {one.rflags:#x}, memory from seed {one.memory_seed}"]
    bytes_differing = [row for row in rows if row[0].startswith("memory")]
    shown = [row for row in rows if not row[0].startswith("memory")] + bytes_differing[:_SHOWN]
    widths = [max(len(row[column]) for row in (*shown, ("", "recorded", ""))) for column in range(2)]
    lines += [f"      {'':{widths[0]}}  {'recorded':{widths[1]}}  here"]
    lines += [f"      {name:{widths[0]}}  {recorded:{widths[1]}}  {got}" for name, recorded, got in shown]
    if len(bytes_differing) > _SHOWN:
        lines.append(f"      ... and {len(bytes_differing) - _SHOWN} more bytes")
    return "\n".join(lines)


def _recorded(given: Any, header: Header, place: str) -> Recorded:
    one = structure(Recorded, given, place)
    _require(one.end in ("end", _DIVIDE_ERROR), f"{place}.end", f"{one.end!r} is not 'end' or '{_DIVIDE_ERROR}'")
    needed = ("rip_offset",) if one.end == _DIVIDE_ERROR else ("rflags_after", "rflags_mask")
    for key in needed:
        _require(getattr(one, key) is not None, place, f"the key {key!r} is missing")
    for key in ("regs", "regs_after"):
        count = len(getattr(one, key))
        _require(count == 16, f"{place}.{key}", f"has {count} registers; 16 are right")
    for number, (offset, written) in enumerate(one.memory_after):
        inside = 0 <= offset <= header.memory_size - len(written)
        _require(inside, f"{place}.memory_after[{number}]", f"lies outside of the {header.memory_size} bytes of memory")
    return one


def _case(one: Recorded, header: Header, place: str) -> Case:
    registers = dict(zip(REGISTERS, one.regs, strict=True)) | {"rflags": one.rflags}
    memory = {header.memory_base: memory_of(one.memory_seed, header.memory_size)}
    try:
        return Case(one.code, registers=registers, memory=memory, code_base=header.code_base)
    except ExecuteError as error:
        raise ConformError(f"{error} @ {place}") from None


def memory_of(seed: int, size: int) -> bytes:
    """Return the memory that a seed stands for: the high bytes of a linear congruential generator."""
    content = np.empty(size, np.uint8)
    for offset in range(size):
        seed = (1664525 * seed + 1013904223) % 2**32
        content[offset] = seed >> 24
    return content.tobytes()


def _require(holds: bool, place: str, otherwise: str) -> None:
    if not holds:
        raise ConformError(f"{otherwise} @ {place}")


FORMATS = (Format("pleemu-x86-1", "instructions of a processor", "cases", replay),)
