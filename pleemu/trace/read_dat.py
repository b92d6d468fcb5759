"""A reader of trace.dat, version 6, as pleemu and trace-cmd before 3.0 write it: the events that analysis needs."""

from __future__ import annotations

import heapq
import mmap
import re
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

from attrs import frozen

from pleemu.errors import PleemuError
from pleemu.observe.events import EXIT_REASONS, SVM_EXIT_REASONS
from pleemu.trace.read import COUNTED, Seen, Unread, wrong_field
from pleemu.trace.tracepoints import STATES, SVM, SVM_NUMBERS

_FIELD = re.compile(
    r"field:(?P<type>[^;]*?)\s*(?P<name>\w+)(?P<array>\[[^\]]*\])?;\s*offset:(\d{1,9});\s*size:(\d{1,9});\s*signed:(\d)"
)
_PID = re.compile(r"[0-9]{1,10}")
_PADDING, _EXTEND, _STAMP = 29, 30, 31
_MISSED, _MISSED_STORED, _COMMIT = 1 << 31, 1 << 30, (1 << 27) - 1  # of the second word of a page
_PAGE_HEAD = 16  # bytes: the time, and how much is used
_CUT_OFF = "it is cut off"
_SVM_NAMES = {SVM_NUMBERS[number]: name for number, name in SVM_EXIT_REASONS.items()}


class _Damaged(Exception):
    """Says what is wrong with a file."""


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
        if any(one.offset + one.size > len(data) for one in self.members):
            raise _Damaged(f"an event {self.name} is shorter than its fields")
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
            raise _Damaged(_CUT_OFF)
        self.place += size
        return part

    @property
    def size(self) -> int:
        """Bytes in the whole file."""
        return len(self._data)

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def word(self) -> str:
        end = self._data.find(b"\0", self.place, self.place + 256)
        if end < 0:
            raise _Damaged("a name does not end" if self.place + 256 <= self.size else _CUT_OFF)
        return self.take(end - self.place + 1)[:-1].decode("ascii", "replace")


def read_dat(file: BinaryIO, name: str, unread: Unread) -> Iterator[Seen]:
    """Yield the events of a file in the order of their times. Raises `PleemuError` for what is no such file."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            formats, comms, page, places = _head(_Cursor(data))
            cpus = (_events(data, cpu, *place, page, unread) for cpu, place in enumerate(places))
            for time_ns, cpu, record in heapq.merge(*cpus, key=lambda one: one[:2]):
                seen = _seen(formats, comms, time_ns, cpu, record)
                if seen is not None:
                    yield seen
        except (_Damaged, struct.error) as error:
            what = error if isinstance(error, _Damaged) else _CUT_OFF
            raise PleemuError(
                f"{name}: this trace.dat cannot be read: {what}; give the text that `trace-cmd report` makes of it"
            ) from None


def _seen(formats: dict[int, _Format], comms: dict[int, str], time_ns: int, cpu: int, record: bytes) -> Seen | None:
    number, _, _, pid = struct.unpack_from("<HBBi", record)
    known = formats.get(number)
    if known is None:
        return None
    values = known.values(record)
    _name(values, "exit_reason", _SVM_NAMES if values.get("isa") == SVM else EXIT_REASONS)
    _name(values, "prev_state", STATES)
    missing = wrong_field(values, COUNTED.get(known.name, {}))
    if missing is not None:
        raise _Damaged(f"its {known.name} has no {missing}")
    return Seen(time_ns, cpu, "<idle>" if pid == 0 else comms.get(pid, ""), pid, known.system, known.name, values)


def _name(values: dict[str, Any], field: str, names: dict[int, str]) -> None:
    """Put the name of a number in its place; one that has none is printed in hexadecimal."""
    number = values.get(field)
    if isinstance(number, int):
        values[field] = names.get(number, f"{number:#x}")


def _head(cursor: _Cursor) -> tuple[dict[int, _Format], dict[int, str], int, list[tuple[int, int]]]:
    cursor.take(10)
    version = cursor.word()
    if version != "6":
        raise _Damaged(f"it has version {version}, not 6")
    if cursor.take(2) != b"\0\x08":
        raise _Damaged("it is of a big-endian or 32-bit machine")
    page = cursor.number(4)
    if page < _PAGE_HEAD:
        raise _Damaged(f"its pages have {page} bytes")
    for name in ("header_page", "header_event"):
        if cursor.word() != name:
            raise _Damaged(f"it has no {name}")
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
    comms = {int(pid): comm for pid, _, comm in (line.partition(" ") for line in lines) if _PID.fullmatch(pid)}
    cpus = cursor.number(4)
    kind = cursor.take(10)
    if kind == b"options  \0":
        while cursor.number(2) != 0:
            cursor.take(cursor.number(4))
        kind = cursor.take(10)
    if kind != b"flyrecord\0":
        raise _Damaged("it is no recording of pCPUs")
    places = [(cursor.number(8), cursor.number(8)) for _ in range(cpus)]
    if any(place + size > cursor.size for place, size in places):
        raise _Damaged(_CUT_OFF)
    return formats, comms, page, places


def _take_formats(cursor: _Cursor, formats: dict[int, _Format], system: str, count: int) -> None:
    for _ in range(count):
        text = cursor.take(cursor.number(8)).decode("utf-8", "replace")
        name, number = re.search(r"name: (\S+)", text), re.search(r"ID: (\d{1,9})", text)
        if name is None or number is None:
            raise _Damaged("an event has no name")
        members = tuple(
            _Member(one["name"], int(one[4]), int(one[5]), one[6] == "1", bool(one["array"]) and "char" in one["type"])
            for one in _FIELD.finditer(text)
            if not one["name"].startswith("common_") and int(one[5]) <= 16
        )
        formats[int(number[1])] = _Format(system, name[1], members)


def _events(
    data: mmap.mmap, cpu: int, place: int, size: int, page: int, unread: Unread
) -> Iterator[tuple[int, int, bytes]]:
    for begin in range(place, place + size, page):
        time_ns, commit = struct.unpack_from("<QQ", data, begin)
        at, end = begin + _PAGE_HEAD, begin + _PAGE_HEAD + (commit & _COMMIT)
        if end > min(begin + page, place + size):
            raise _Damaged(f"a page of pCPU {cpu} claims more than it holds")
        if commit & _MISSED:
            unread.lose(struct.unpack_from("<Q", data, end)[0] if commit & _MISSED_STORED else None)
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
                    raise _Damaged(f"an event of pCPU {cpu} does not end")
                yield time_ns, cpu, data[at : at + length]
                at += length
