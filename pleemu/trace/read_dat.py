"""A reader of trace.dat, version 6, as pleemu and trace-cmd before 3.0 write it: the events that analysis needs."""

from __future__ import annotations

import heapq
import mmap
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import frozen

from pleemu.errors import PleemuError
from pleemu.observe.events import EXIT_REASONS, SVM_EXIT_REASONS
from pleemu.trace.read import Seen
from pleemu.trace.tracepoints import STATES, SVM, SVM_NUMBERS

_FIELD = re.compile(
    r"field:(?P<type>[^;]*?)\s*(?P<name>\w+)(?P<array>\[[^\]]*\])?;\s*offset:(\d+);\s*size:(\d+);\s*signed:(\d)"
)
_PADDING, _EXTEND, _STAMP = 29, 30, 31
_SVM_NAMES = {SVM_NUMBERS[number]: name for number, name in SVM_EXIT_REASONS.items()}


@frozen
class _Member:
    name: str
    offset: int
    size: int
    signed: bool
    text: bool


@frozen
class _Format:
    system: str
    name: str
    members: tuple[_Member, ...]

    def values(self, data: bytes) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for one in self.members:
            part = data[one.offset : one.offset + one.size]
            found[one.name] = (
                part.split(b"\0")[0].decode("utf-8", "replace")
                if one.text
                else int.from_bytes(part, "little", signed=one.signed)
            )
        return found


class _Cursor:
    """Reads the head of a file, and notices when it ends too early."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self.place = 0

    def take(self, size: int) -> bytes:
        part = self._data[self.place : self.place + size]
        if size < 0 or len(part) < size:
            raise ValueError("it ends too early")
        self.place += size
        return part

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def word(self) -> str:
        end = self._data.find(b"\0", self.place, self.place + 256)
        if end < 0:
            raise ValueError("a name does not end")
        return self.take(end - self.place + 1)[:-1].decode("ascii", "replace")


def read_dat(path: Path) -> Iterator[Seen]:
    """Yield the events of a file in the order of their times. Raises `PleemuError` for what is no such file."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            formats, comms, page, places = _head(_Cursor(data))
            cpus = (_events(data, cpu, place, size, page) for cpu, (place, size) in enumerate(places))
            for time_ns, cpu, record in heapq.merge(*cpus, key=lambda one: one[:2]):
                seen = _seen(formats, comms, time_ns, cpu, record)
                if seen is not None:
                    yield seen
        except (ValueError, struct.error) as error:
            raise PleemuError(
                f"{path}: this trace.dat cannot be read: {error}; give the text that `trace-cmd report` makes of it"
            ) from None


def _seen(formats: dict[int, _Format], comms: dict[int, str], time_ns: int, cpu: int, record: bytes) -> Seen | None:
    number, _, _, pid = struct.unpack_from("<HBBi", record)
    known = formats.get(number)
    if known is None:
        return None
    values = known.values(record)
    if known.name == "kvm_exit":
        names = _SVM_NAMES if values.get("isa") == SVM else EXIT_REASONS
        reason = values.get("exit_reason", 0)
        values["exit_reason"] = names.get(reason, f"{reason:#x}")
    if "prev_state" in values:
        values["prev_state"] = STATES.get(values["prev_state"], f"{values['prev_state']:#x}")
    return Seen(time_ns, cpu, "<idle>" if pid == 0 else comms.get(pid, ""), pid, known.system, known.name, values)


def _head(cursor: _Cursor) -> tuple[dict[int, _Format], dict[int, str], int, list[tuple[int, int]]]:
    cursor.take(10)
    version = cursor.word()
    if version != "6":
        raise ValueError(f"it has version {version}, not 6")
    if cursor.take(2) != b"\0\x08":
        raise ValueError("it is of a big-endian or 32-bit machine")
    page = cursor.number(4)
    for name in ("header_page", "header_event"):
        if cursor.word() != name:
            raise ValueError(f"it has no {name}")
        cursor.take(cursor.number(8))
    formats: dict[int, _Format] = {}
    groups = [("ftrace", cursor.number(4))]
    for turn in range(2):
        if turn:
            groups = []
            for _ in range(cursor.number(4)):
                system, count = cursor.word(), cursor.number(4)
                groups.append((system, count))
                _take_formats(cursor, formats, system, count)
        else:
            _take_formats(cursor, formats, *groups[0])
    cursor.take(cursor.number(4))
    cursor.take(cursor.number(4))
    lines = cursor.take(cursor.number(8)).decode("utf-8", "replace").splitlines()
    comms = {int(pid): comm for pid, _, comm in (line.partition(" ") for line in lines) if pid.isdecimal()}
    cpus = cursor.number(4)
    kind = cursor.take(10)
    if kind == b"options  \0":
        while cursor.number(2) != 0:
            cursor.take(cursor.number(4))
        kind = cursor.take(10)
    if kind != b"flyrecord\0":
        raise ValueError("it is no recording of pCPUs")
    return formats, comms, page, [(cursor.number(8), cursor.number(8)) for _ in range(cpus)]


def _take_formats(cursor: _Cursor, formats: dict[int, _Format], system: str, count: int) -> None:
    for _ in range(count):
        text = cursor.take(cursor.number(8)).decode("utf-8", "replace")
        name, number = re.search(r"name: (\S+)", text), re.search(r"ID: (\d+)", text)
        if name is None or number is None:
            raise ValueError("an event has no name")
        members = tuple(
            _Member(one["name"], int(one[4]), int(one[5]), one[6] == "1", bool(one["array"]) and "char" in one["type"])
            for one in _FIELD.finditer(text)
            if not one["name"].startswith("common_") and int(one[5]) <= 16
        )
        formats[int(number[1])] = _Format(system, name[1], members)


def _events(data: mmap.mmap, cpu: int, place: int, size: int, page: int) -> Iterator[tuple[int, int, bytes]]:
    for begin in range(place, place + size, page):
        time_ns, commit = struct.unpack_from("<QQ", data, begin)
        at, end = begin + 16, begin + 16 + (commit & 0xFFFFF)
        if end > begin + page:
            raise ValueError(f"a page of pCPU {cpu} claims more than it holds")
        while at + 4 <= end:
            (head,) = struct.unpack_from("<I", data, at)
            kind, delta = head & 31, head >> 5
            at += 4
            if kind == _PADDING:
                if delta == 0:
                    break
                at += struct.unpack_from("<I", data, at)[0]
                time_ns += delta
            elif kind in (_EXTEND, _STAMP):
                more = delta | struct.unpack_from("<I", data, at)[0] << 27
                time_ns = more if kind == _STAMP else time_ns + more
                at += 4
            else:
                length = 4 * kind if kind else struct.unpack_from("<I", data, at)[0] - 4
                at += 0 if kind else 4
                time_ns += delta
                if length < 8 or at + length > end:
                    raise ValueError(f"an event of pCPU {cpu} does not end")
                yield time_ns, cpu, data[at : at + length]
                at += length
