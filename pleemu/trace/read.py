"""Lines of `perf script` and `trace-cmd report` as happenings, whoever wrote them.

Tolerant of what differs between kernels, tools and options: lists of fields, latency flags, times since the event
before, a period before the event, exits without a vCPU, payloads re-formatted by trace-cmd's plugins, fields added at a
payload's end.
"""

from __future__ import annotations

import io
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from attrs import define, field, frozen

from pleemu.errors import PleemuError
from pleemu.trace import tracepoints
from pleemu.trace.tracepoints import Symbol

SHOWN_LINES = 5
WANTED = "give what `perf script -F comm,tid,cpu,time,event,trace` or `trace-cmd report` prints"
_BITS = 64  # that a number of a tracepoint has at most
_TIME = r"(?P<seconds>\d+)\.(?P<fraction>\d+):?\s+"
_CPU = r"\[(?P<cpu>\d+)\]\s+(?:(?!\d+\s)[^\s\[\]:/]{4,8}\s+)?"  # and flags
_LATENCY = r"(?P<latency_cpu>\d+)[.dDbBX]\S{3,7}\s+"  # trace-cmd report -l: the flags without a space
_SINCE = r"(?:\([-+]\d+\)\s+)?"  # trace-cmd report --ts-diff: the time since the event before
_TID = r"(?:-?\d+/\s*)?(?P<pid>-?\d+)\s+"  # behind the process, if that is printed too
_PERF_EVENT = (
    rf"(?:{_CPU})?(?:[KUHGgMESp]{{1,4}}\s+)?{_TIME}(?:\d+\s+)?(?P<system>[\w-]+):(?P<event>\w+):\s*(?P<payload>.*)"
)
_FTRACE = re.compile(
    rf"\s*(?P<comm>\S.*|)-(?P<pid>\d+)\s+(?:\(\s*[-\d]+\)\s+)?(?:{_CPU}|{_LATENCY}){_TIME}{_SINCE}"
    r"(?P<event>\w+):(?!\w)\s*(?P<payload>.*)"
)
_BARE = re.compile(rf"\s*(?:{_CPU})?{_TIME}(?:(?P<system>[\w-]+):)?(?P<event>\w+):\s*(?P<payload>.*)")
_LINES = (
    re.compile(rf"\s*(?P<comm>\S.*?)\s+{_TID}{_PERF_EVENT}"),
    _FTRACE,
    re.compile(rf"\s*{_TID}{_PERF_EVENT}"),
    _BARE,
    re.compile(rf"\s*(?P<comm>\S.*?)\s+{_PERF_EVENT}"),
)
# Of the kernel's own text, trace-cmd, perf trace and perf script --show-lost-events.
_LOST = re.compile(
    r".*(?:\[LOST (?:(\d+) )?EVENTS\]|\[(?:(\d+) )?EVENTS DROPPED\]|LOST (\d+) events|"
    r"PERF_RECORD_LOST(?:_SAMPLES)? lost (\d+))"
)
_RAW = re.compile(r".*:\s+(?:kvm_exit:.*\sexit_reason=|sched_switch:.*\sprev_state=\S+ next_comm=)")
_HEADING = re.compile(r"\s*(#.*|cpus\s*=\s*\d+|version = .*|CPU \d+ is empty|)\s*")


@frozen
class Seen:
    """One event of a trace; -1 and an empty comm: the line does not say."""

    time_ns: int
    cpu: int
    comm: str
    pid: int
    system: str
    event: str
    values: dict[str, Any]


_WINDOW: dict[str, type] = {"old": int, "new": int}
COUNTED: dict[str, dict[str, type]] = {  # what analysis takes of an event, and of which type it must be
    "kvm_exit": {"exit_reason": str, "guest_rip": int},
    "sched_switch": {"prev_pid": int, "next_comm": str, "next_pid": int},
    "kvm_ple_window_update": _WINDOW,
    "kvm_ple_window": _WINDOW,
}


def wrong_field(values: dict[str, Any], types: dict[str, type]) -> str | None:
    """Return the first field that a binary file lacks, or has of another type; None if all are as they should be."""
    return next((name for name, kind in types.items() if not isinstance(values.get(name), kind)), None)


@define
class Unread:
    """What a trace has not told: lines that could not be read, how many and the first few, and events that it lost."""

    count: int = 0
    first: list[tuple[str, int, str]] = field(factory=list)  # file, line number, text
    lost_events: int = 0  # that the tracer says it has lost
    losses: int = 0  # places where it does not say how many

    def add(self, name: str, number: int, line: str) -> None:
        """Count a line."""
        self.count += 1
        if len(self.first) < SHOWN_LINES:
            self.first.append((name, number, line.rstrip("\n")[:200]))

    def lose(self, events: int | None) -> None:
        """Count a loss, of so many events if that is known."""
        if events is None:
            self.losses += 1
        else:
            self.lost_events += events

    def include(self, other: Unread) -> None:
        """Add what another trace has not told."""
        self.count += other.count
        self.first = (self.first + other.first)[:SHOWN_LINES]
        self.lost_events += other.lost_events
        self.losses += other.losses


def read_lines(lines: Iterable[str], name: str, unread: Unread) -> Iterator[Seen]:
    """Yield the events of a text; what cannot be read goes to ``unread``. Raises `PleemuError` for raw fields."""
    fields: dict[str, int] = {}  # how many an event's latest line has had
    for number, line in enumerate(lines, 1):
        if _HEADING.fullmatch(line):
            continue
        seen = read_line(line)
        if seen is not None and (line.endswith("\n") or len(seen.values) >= fields.get(seen.event, 0)):
            fields[seen.event] = len(seen.values)
            yield seen
        elif seen is not None or not _is_loss(line, unread):
            if _RAW.match(line):
                raise PleemuError(f"{name}:{number}: these are an event's raw fields; leave out -R of trace-cmd report")
            unread.add(name, number, line)


def read_line(line: str) -> Seen | None:
    """Return the event of a line, or None if it cannot be read."""
    line = line.rstrip("\r\n")
    found = next(filter(None, (form.fullmatch(line) for form in _LINES)), None)
    if found is None:
        return None
    parts = found.groupdict()
    try:
        values = read_payload(parts["event"], parts["payload"])
        if values is None:
            return None
        return Seen(
            _time_ns(parts["seconds"], parts["fraction"]),
            _whole(parts.get("cpu") or parts.get("latency_cpu") or "-1"),
            parts.get("comm") or "",
            _whole(parts.get("pid") or "-1"),
            parts.get("system") or "",
            parts["event"],
            values,
        )
    except _TooLarge:
        return None


class _TooLarge(Exception):
    """A number that no tracepoint can have."""


def _whole(text: str, base: int = 10) -> int:
    if len(text) > _BITS or (number := int(text, base)).bit_length() > _BITS:
        raise _TooLarge
    return number


def _time_ns(seconds: str, fraction: str) -> int:
    time_ns = _whole(seconds) * 1_000_000_000 + int((fraction + "0" * 9)[:9])
    if time_ns.bit_length() >= _BITS:
        raise _TooLarge
    return time_ns


def _is_loss(line: str, unread: Unread) -> bool:
    """Say whether a line tells of lost events, and count them."""
    found = _LOST.match(line)
    if found is None:
        return False
    try:
        unread.lose(next((_whole(number) for number in found.groups() if number), None))
    except _TooLarge:
        return False
    return True


def read_payload(event: str, payload: str) -> dict[str, Any] | None:
    """Return the values of an event's fields; {} for an event unknown here, None for a known one in no known form."""
    forms = _PAYLOADS.get(event)
    if forms is None:
        return {}
    for form, make in forms:
        found = form.match(payload)
        if found:
            return make({key: value for key, value in found.groupdict().items() if value is not None})
    return None


def open_trace(path: Path, unread: Unread) -> Iterator[Seen]:
    """Yield the events of a file or pipe, which is read once: text, or a trace.dat or Parquet file of pleemu's."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
            if not head:
                raise PleemuError(f"{path}: it is empty; {WANTED}")
            if head.startswith(b"\x17\x08\x44tracing"):
                from pleemu.trace.read_dat import read_dat

                with _with_places(file, head) as whole:
                    yield from read_dat(whole, str(path), unread)
            elif head.startswith(b"PAR1"):
                from pleemu.trace.parquet import read_parquet

                with _with_places(file, head) as whole:
                    yield from read_parquet(whole, str(path))
            elif b"\0" in head or _is_perfetto(path, head):
                raise PleemuError(f"{path}: this is no text, trace.dat or Parquet; {WANTED}")
            else:
                lines = chain(io.BytesIO(head + file.readline()), file)
                yield from read_lines((line.decode("utf-8", "replace") for line in lines), str(path), unread)
    except OSError as error:
        raise PleemuError(f"{path}: cannot be read: {error.strerror or error}") from None


@contextmanager
def _with_places(file: BinaryIO, head: bytes) -> Iterator[BinaryIO]:
    """Yield a file that can be read at any place: itself, or a copy of what a pipe gives behind its ``head``."""
    if file.seekable():
        file.seek(0)
        yield file
        return
    with tempfile.TemporaryFile() as copy:
        copy.write(head)
        shutil.copyfileobj(file, copy)
        copy.seek(0)
        yield copy


def _is_perfetto(path: Path, head: bytes) -> bool:
    return head[:1] == b"\n" and path.suffix in (".pftrace", ".perfetto-trace", ".perfetto")


def _numbers(found: dict[str, str]) -> dict[str, Any]:
    return {name: _number(name, text) for name, text in found.items()}


_WORDS = ("exit_reason", "prev_comm", "next_comm", "comm", "prev_state", "grow", "need_flush_tlb", "icr_low", "polled")
_HEX = (
    "guest_rip",
    "rip",
    "dest_id",
    "info1",
    "info2",
    "intr_info",
    "error_code",
    "requests",
    "__probe_ip",
    "nr",
    "a0",
    "a1",
    "a2",
    "a3",
)


def _number(name: str, text: str) -> Any:
    if name in _WORDS:
        return text
    return _whole(text, 16 if name in _HEX else 10)


_PLUGIN = "EXIT_"  # before the reasons of SVM, in capitals, where libtraceevent's plugin prints them
_PLUGIN_REASONS = {"intr": "interrupt", "ioio": "io"}  # those that KVM calls otherwise


def _exited(found: dict[str, str]) -> dict[str, Any]:
    values = _numbers(found)
    if values["exit_reason"].startswith(_PLUGIN):
        reason = values["exit_reason"].removeprefix(_PLUGIN).lower()
        values["exit_reason"] = _PLUGIN_REASONS.get(reason, reason)
    return values


def _grown(found: dict[str, str]) -> dict[str, Any]:
    values = _numbers(found)
    values["grow"] = int(values["grow"].startswith("grow"))
    return values


def _flushed(found: dict[str, str]) -> dict[str, Any]:
    return {**_numbers(found), "need_flush_tlb": int(found["need_flush_tlb"] == "true")}


def _ipi(found: dict[str, str]) -> dict[str, Any]:
    symbols = [one for one in tracepoints.APIC_IPI.shown if isinstance(one, Symbol)]
    icr = 0
    for symbol, word in zip(symbols, found["icr_low"].split("|"), strict=False):
        icr |= next((number for number, known in symbol.words.items() if known == word), 0) << symbol.shift
    return {**_numbers(found), "icr_low": icr}


_Make = Callable[[dict[str, str]], dict[str, Any]]


def _forms(make: _Make, *patterns: str) -> tuple[tuple[re.Pattern[str], _Make], ...]:
    return tuple((re.compile(pattern), make) for pattern in patterns)


_VCPU = r"(?:vcpu(?:_id)? (?P<vcpu_id>\d+),? )?"
_PAYLOADS = {
    "kvm_exit": _forms(
        _exited,
        _VCPU + r"(?:reason )?(?P<exit_reason>[A-Za-z]\S*|\d+|0x[0-9a-f]+)(?: .*?)? rip (?:0x)?(?P<guest_rip>[0-9a-f]+)"
        r"(?: info1? (?:0x)?(?P<info1>[0-9a-f]+)(?: info2)? (?:0x)?(?P<info2>[0-9a-f]+))?"
        r"(?: intr_info 0x(?P<intr_info>[0-9a-f]+) error_code 0x(?P<error_code>[0-9a-f]+))?"
        r"(?: requests 0x(?P<requests>[0-9a-f]+))?",
    ),
    "kvm_entry": _forms(
        _numbers,
        r"(?:vcpu (?P<vcpu_id>\d+))?(?:,? rip (?:0x)?(?P<rip>[0-9a-f]+))?"
        r"(?: intr_info 0x(?P<intr_info>[0-9a-f]+) error_code 0x(?P<error_code>[0-9a-f]+))?",
    ),
    "kvm_ple_window_update": _forms(
        _grown, r"vcpu (?P<vcpu_id>\d+) old (?P<old>\d+) new (?P<new>\d+) \((?P<grow>\w+)\)"
    ),
    "kvm_ple_window": _forms(_grown, r"vcpu (?P<vcpu_id>\d+): ple_window (?P<new>\d+) \((?P<grow>\w+) (?P<old>\d+)\)"),
    "kvm_halt_poll_ns": _forms(
        _grown, r"vcpu (?P<vcpu_id>\d+): halt_poll_ns (?P<new>\d+) \((?P<grow>\w+) (?P<old>\d+)\)"
    ),
    "kvm_apic_ipi": _forms(_ipi, r"dst (?P<dest_id>[0-9a-f]+) vec (?P<vector>\d+) \((?P<icr_low>[^)]*)\)"),
    "kvm_hypercall": _forms(
        _numbers, r"nr 0x(?P<nr>[0-9a-f]+)" + "".join(rf" a{one} 0x(?P<a{one}>[0-9a-f]+)" for one in range(4))
    ),
    "kvm_pv_tlb_flush": _forms(_flushed, r"vcpu (?P<vcpu_id>\d+) need_flush_tlb (?P<need_flush_tlb>true|false)"),
    "sched_switch": _forms(
        _numbers,
        r"prev_comm=(?P<prev_comm>.*) prev_pid=(?P<prev_pid>\d+) prev_prio=(?P<prev_prio>-?\d+) "
        r"prev_state=(?P<prev_state>\S+) ==> "
        r"next_comm=(?P<next_comm>.*) next_pid=(?P<next_pid>\d+) next_prio=(?P<next_prio>-?\d+)",
        r"(?P<prev_comm>.*):(?P<prev_pid>\d+) \[(?P<prev_prio>-?\d+)\] (?P<prev_state>\S+) ==> "
        r"(?P<next_comm>.*):(?P<next_pid>\d+) \[(?P<next_prio>-?\d+)\]",
    ),
    "sched_wakeup": _forms(
        _numbers,
        r"comm=(?P<comm>.*) pid=(?P<pid>\d+) prio=(?P<prio>-?\d+)(?: success=\d+)? target_cpu=(?P<target_cpu>\d+)",
        r"(?P<comm>.*):(?P<pid>\d+) \[(?P<prio>-?\d+)\](?: success=\d+)? CPU:(?P<target_cpu>\d+)",
    ),
    "sched_migrate_task": _forms(
        _numbers,
        r"comm=(?P<comm>.*) pid=(?P<pid>\d+) prio=(?P<prio>-?\d+) "
        r"orig_cpu=(?P<orig_cpu>\d+) dest_cpu=(?P<dest_cpu>\d+)",
    ),
    "sched_stat_runtime": _forms(
        _numbers,
        r"comm=(?P<comm>.*) pid=(?P<pid>\d+) runtime=(?P<runtime>\d+) \[ns\](?: vruntime=(?P<vruntime>\d+) \[ns\])?",
    ),
} | {
    point.name: _forms(_numbers, r"\((?P<__probe_ip>[0-9a-f]+)\)(?: arg1=(?P<arg1>\d+))?")
    for point in tracepoints.GUEST_PROBES
}
