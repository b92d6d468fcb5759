"""Lines of `perf script` and `trace-cmd report` as happenings, whoever wrote them.

Tolerant of what differs between kernels, tools and options: latency flags, tids, a period before the event, exits
without a vCPU, payloads re-formatted by trace-cmd's plugins, fields added at a payload's end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from pleemu.errors import PleemuError
from pleemu.trace import tracepoints
from pleemu.trace.tracepoints import Symbol

SHOWN_LINES = 5
_TIME = r"(?P<seconds>\d+)\.(?P<fraction>\d+):?\s+"
_CPU = r"\[(?P<cpu>\d+)\]\s+"
_FLAGS = r"(?:[^\s\[\]:]{4,8}\s+)?"
_FTRACE = re.compile(
    rf"\s*(?P<comm>\S.*|)-(?P<pid>\d+)\s+(?:\(\s*[-\d]+\)\s+)?{_CPU}{_FLAGS}{_TIME}(?P<event>\w+):\s*(?P<payload>.*)"
)
_PERF = re.compile(
    rf"\s*(?P<comm>\S.*?)\s+(?P<pid>-?\d+)(?:/\s*-?\d+)?\s+(?:{_CPU})?{_FLAGS}{_TIME}(?:\d+\s+)?"
    r"(?P<system>[\w-]+):(?P<event>\w+):\s*(?P<payload>.*)"
)
_BARE = re.compile(rf"\s*{_TIME}(?:(?P<system>[\w-]+):)?(?P<event>\w+):\s*(?P<payload>.*)")
_LOST = re.compile(r".*\[(?:LOST )?(?P<lost>\d+) EVENTS(?: DROPPED)?\]|.*LOST (?P<perf>\d+) events", re.IGNORECASE)
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


@define
class Unread:
    """Lines that could not be read: how many, and the first few."""

    count: int = 0
    first: list[tuple[str, int, str]] = field(factory=list)  # file, line number, text
    lost_events: int = 0  # that the tracer says it has lost

    def add(self, name: str, number: int, line: str) -> None:
        """Count a line."""
        self.count += 1
        if len(self.first) < SHOWN_LINES:
            self.first.append((name, number, line.rstrip("\n")[:200]))


def read_lines(lines: Iterable[str], name: str, unread: Unread) -> Iterator[Seen]:
    """Yield the events of a text; what cannot be read goes to ``unread``."""
    for number, line in enumerate(lines, 1):
        if _HEADING.fullmatch(line):
            continue
        seen = read_line(line)
        if seen is not None:
            yield seen
        elif lost := _LOST.match(line):
            unread.lost_events += int(lost["lost"] or lost["perf"])
        else:
            unread.add(name, number, line)


def read_line(line: str) -> Seen | None:
    """Return the event of a line, or None if it cannot be read."""
    line = line.rstrip("\r\n")
    found = _PERF.fullmatch(line) or _FTRACE.fullmatch(line) or _BARE.fullmatch(line)
    if found is None:
        return None
    parts = found.groupdict()
    values = read_payload(parts["event"], parts["payload"])
    if values is None:
        return None
    fraction = (parts["fraction"] + "0" * 9)[:9]
    return Seen(
        int(parts["seconds"]) * 1_000_000_000 + int(fraction),
        int(parts.get("cpu") or -1),
        parts.get("comm") or "",
        int(parts.get("pid") or -1),
        parts.get("system") or "",
        parts["event"],
        values,
    )


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
    """Yield the events of a file: text, or a trace.dat or Parquet file of pleemu's."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
        if head.startswith(b"\x17\x08\x44tracing"):
            from pleemu.trace.read_dat import read_dat

            yield from read_dat(path)
        elif head.startswith(b"PAR1"):
            from pleemu.trace.parquet import read_parquet

            yield from read_parquet(path)
        elif b"\0" in head or _is_perfetto(path, head):
            raise PleemuError(
                f"{path}: this is no text, trace.dat or Parquet; give what `perf script` or `trace-cmd report` prints"
            )
        else:
            with path.open(encoding="utf-8", errors="replace") as lines:
                yield from read_lines(lines, str(path), unread)
    except OSError as error:
        raise PleemuError(f"{path}: cannot be read: {error.strerror or error}") from None


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
_SWITCH_STATES = {word: number for number, word in tracepoints.STATES.items()}


def _number(name: str, text: str) -> Any:
    if name in _WORDS:
        return text
    return int(text, 16 if name in _HEX else 10)


def _switch(found: dict[str, str]) -> dict[str, Any]:
    return _numbers(found)


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
        _numbers,
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
        _switch,
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
