"""SDT probes of a guest: the notes in .note.stapsdt that its `pleemu` probes left.

The format is SystemTap's (sourceware.org/systemtap/wiki/UserSpaceProbeImplementation): an ELF
note of owner ``stapsdt`` and type 3 with three addresses (of the probe's nop, of a base, of a
semaphore) and three strings (provider, name, arguments). An argument is ``N@OPERAND``: N bytes,
negative if signed, and an operand in AT&T syntax.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

import attrs

from pleemu.errors import GuestError, nearest
from pleemu.guest.decode import Decoded
from pleemu.guest.link import NOTES_SECTION
from pleemu.guest.linked import Linked, Notes
from pleemu.guest.operands import REGISTERS_BY_NAME, Record, signed
from pleemu.hardware import isa

PROVIDER = "pleemu"
_NT_STAPSDT = 3
_WITHOUT_ARGUMENT = ("operation_done",)  # may have none; every other probe has exactly one,
# but for these, which may have a second, N@$SET: how the lock serves. What each may say:
_MANNERS = {"lock_wait": isa.LOCK_IN_ORDER | isa.LOCK_SHARED, "lock_acquired": isa.LOCK_SHARED}

_ARGUMENT = re.compile(r"(-?[1248])f?@(\S+)")
_MEMORY = re.compile(r"(.*?)\(\s*(?:%(\w+))?\s*(?:,\s*%(\w+)\s*(?:,\s*([1248]))?\s*)?\)")
_TERM = re.compile(r"([+-]?)(0[xX][0-9a-fA-F]+|\d+|[A-Za-z_.$][\w.$]*)")


@attrs.frozen
class Note:
    """One stapsdt note."""

    address: int
    provider: str
    name: str
    arguments: str
    values: dict[str, int] = attrs.field(factory=dict)  # of the names in the arguments


def apply_probes(linked: Linked, decoded: Decoded) -> None:
    """Turn the nop of each of the guest's probes into an OP_PROBE."""
    problems = []
    for note in read_notes(linked):
        if note.provider != PROVIDER:
            continue
        try:
            _apply(note, linked, decoded)
        except ValueError as reason:
            problems.append(f"{linked.place(note.address)}: probe {note.name!r}: {reason}")
    if problems:
        raise GuestError("\n".join(dict.fromkeys(problems)))


def read_notes(linked: Linked) -> Iterator[Note]:
    """Yield the stapsdt notes of a linked guest."""
    for notes in linked.notes:
        try:
            yield from _parse(notes)
        except (struct.error, ValueError) as error:
            raise GuestError(f"{linked.source}: section {NOTES_SECTION} is broken: {error}") from error


def _parse(notes: Notes) -> Iterator[Note]:
    data, offset = notes.data, 0
    while offset < len(data):
        name_size, size, kind = struct.unpack_from("<III", data, offset)
        start = offset + 12 + (name_size + 3) // 4 * 4
        owner, description = data[offset + 12 : offset + 12 + name_size], data[start : start + size]
        offset = start + (size + 3) // 4 * 4
        if owner != b"stapsdt\0" or kind != _NT_STAPSDT:
            continue
        address, _, _ = struct.unpack_from("<QQQ", description)
        provider, name, arguments, *_ = description[24:].decode().split("\0")
        yield Note(address, provider, name, arguments, notes.values)


def _apply(note: Note, linked: Linked, decoded: Decoded) -> None:
    if note.name not in isa.PROBES:
        raise ValueError(f"no such probe{nearest(note.name, isa.PROBES)}")
    offset = note.address - linked.base
    index = int(decoded.index_of[offset]) if 0 <= offset < len(decoded.index_of) else -1
    if index < 0:
        raise ValueError(f"its address {note.address:#x} is not an instruction that can be reached")
    record = decoded.instructions[index]
    if record["op"] == isa.OP_PROBE:
        raise ValueError("two probes share one nop")
    if record["op"] != isa.OP_NOP:
        raise ValueError(f"the instruction at {linked.name_of(note.address)} is not a nop")
    record["op"] = isa.OP_PROBE
    record["probe"] = isa.PROBES.index(note.name)
    for field, value in _operand(note).items():
        record[field] = value


def _operand(note: Note) -> Record:
    """Return the fields of the probe's operand; `condition` is 1 where it is signed."""
    # Spaces occur inside a memory operand too, so arguments are split where one begins.
    arguments = re.split(r"\s+(?=-?[1248]f?@)", note.arguments.strip()) if note.arguments.strip() else []
    least = 0 if note.name in _WITHOUT_ARGUMENT else 1
    most = 2 if note.name in _MANNERS else 1
    if not least <= len(arguments) <= most:
        expected = "at most 1 argument" if least == 0 else "1 or 2 arguments" if most == 2 else "exactly 1 argument"
        raise ValueError(f"takes {expected}, has {len(arguments)}")
    if not arguments:
        return {}
    fields = _argument(arguments[0], note.values)
    if len(arguments) == 2:
        manner, known = _argument(arguments[1], note.values), _MANNERS[note.name]
        if manner["src_kind"] != isa.IMMEDIATE or manner["immediate"] & ~known:
            raise ValueError(
                f"its second argument says how the lock serves, 8@$0 to 8@${known} "
                f"({isa.LOCK_IN_ORDER}: in order, {isa.LOCK_SHARED}: shared), not {arguments[1]}"
            )
        fields["manner"] = manner["immediate"]
    return fields


def _argument(text: str, values: dict[str, int]) -> Record:
    match = _ARGUMENT.fullmatch(re.sub(r"\s", "", text))
    if match is None:
        raise ValueError(f"cannot read argument {text!r}; expected SIZE@OPERAND such as 8@%rdi or 8@$100")
    size = int(match[1])
    fields = {"width": abs(size), "src_width": abs(size), "condition": int(size < 0)}
    return fields | parse_operand(match[2], abs(size), values)


def parse_operand(text: str, size: int, values: dict[str, int]) -> Record:
    """Read an AT&T operand: ``%rdi``, ``$100``, ``-8(%rbp)``, ``lock(%rip)``, ``(%rax,%rbx,8)``."""
    if text.startswith("%"):
        kind, number, width = _register(text[1:])
        if width < size:
            raise ValueError(f"{text} has fewer than {size} bytes")
        return {"src_kind": kind, "src": number}
    if text.startswith("$"):
        return {"src_kind": isa.IMMEDIATE, "immediate": signed(_evaluate(text[1:], values), 8)}
    match = _MEMORY.fullmatch(text)
    displacement, base, index, scale = match.groups() if match else (text, None, None, None)
    if base == "rip" and index is None:
        base = None
    return {
        "src_kind": isa.MEMORY,
        "base_register": _address_register(base),
        "index_register": _address_register(index),
        "scale": int(scale or 1),
        "displacement": signed(_evaluate(displacement, values) if displacement else 0, 8),
    }


def _address_register(name: str | None) -> int:
    if name is None:
        return isa.ZERO
    kind, number, width = _register(name)
    if kind != isa.REGISTER or width != 8:
        raise ValueError(f"%{name} cannot be part of an address")
    return number


def _register(name: str) -> tuple[int, int, int]:
    if name not in REGISTERS_BY_NAME:
        raise ValueError(f"unknown register %{name}")
    return REGISTERS_BY_NAME[name]


def _evaluate(text: str, values: dict[str, int]) -> int:
    """Return the value of a sum of numbers and symbols."""
    total, position = 0, 0
    while position < len(text):
        match = _TERM.match(text, position)
        if match is None or (position and not match[1]):
            raise ValueError(f"cannot read operand {text!r}")
        sign, term = match.groups()
        if term[0].isdigit():
            value = int(term, 16) if term[:2] in ("0x", "0X") else int(term)
        elif term in values:
            value = values[term]
        else:
            raise ValueError(f"unknown symbol {term!r}{nearest(term, values)}")
        total += -value if sign == "-" else value
        position = match.end()
    if not text:
        raise ValueError("an operand is empty")
    return total
