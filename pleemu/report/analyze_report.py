"""What `pleemu analyze` prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from pleemu.report import units
from pleemu.report.grid import Column, Grid
from pleemu.trace.analysis import Analysis, Intervals, PauseRun

_MOST_ROWS = 10

_INTERVALS = (
    ("entry_to_exit", "entry -> PAUSE exit"),
    ("first_exit_to_entry", "PAUSE exit -> entry, first of a run"),
    ("exit_to_entry", "PAUSE exit -> entry, later ones"),
    ("first_period", "exit -> exit, first of a run"),
    ("period", "exit -> exit, later ones"),
)


def analyze_report(found: Analysis) -> RenderableType:
    """Return the tables of a trace; those without anything in them are left out."""
    return Group(*_parts(found))


def _parts(found: Analysis) -> Iterator[RenderableType]:
    span = found.end_ns - (found.begin_ns or 0)
    yield Text(f"{units.count(found.events.total())} events in {units.time(span)}", style="bold")
    if found.exits:
        yield from _spaced(_exits(found))
    if found.pauses:
        yield from _spaced(_addresses(found))
        yield from _spaced(_intervals(found))
        yield from _spaced(_runs(found))
        if found.events["sched_switch"]:
            yield from _spaced(_switches(found))
    if found.grown or found.shrunk:
        yield from _spaced(_window(found))
    yield from _doubts(found)
    yield from _unread(found)


def _spaced(part: RenderableType) -> Iterator[RenderableType]:
    yield Text("")
    yield part


def _exits(found: Analysis) -> Grid:
    grid = Grid("Exits by reason", (Column("reason", left=True), Column("exits"), Column("share")))
    total = found.exits.total()
    for reason, number in found.exits.most_common():
        grid.add(reason, units.count(number), units.percent(number, total))
    return grid


def _addresses(found: Analysis) -> Grid:
    grid = Grid(
        "PAUSE exits by address",
        (Column("address", left=True), Column("exits"), Column("share")),
        note=_more(len(found.pauses)),
    )
    for rip, number in found.pauses.most_common(_MOST_ROWS):
        grid.add(f"{rip:#x}", units.count(number), units.percent(number, found.pause_exits))
    return grid


def _intervals(found: Analysis) -> Grid:
    names = ("n", "least", "median", "mean", "most")
    grid = Grid("Intervals", (Column("from, to", left=True), *(Column(name) for name in names)))
    for name, what in _INTERVALS:
        one: Intervals = getattr(found, name)
        if one.count:
            times = (one.least_ns, one.median_ns, one.mean_ns, one.most_ns)
            grid.add(what, units.count(one.count), *(units.time(ns) for ns in times))
    return grid


def _runs(found: Analysis) -> Grid:
    grid = Grid(
        "Longest continuous runs of PAUSE exits",
        (
            Column("thread", left=True, shrinks=True),
            Column("address", left=True),
            Column("exits"),
            Column("begin"),
            Column("period"),
        ),
        note=f"Of {units.count(found.runs)}. {units.percent(found.continuous, found.pause_exits)} of the exits are in "
        "runs of at least two.",
    )
    for run in found.longest:
        begin = units.time(run.first_ns - (found.begin_ns or 0))
        period = units.time(run.period_ns) if run.length > 1 else "-"
        grid.add(_thread(run.comm, run.pid), f"{run.rip:#x}", units.count(run.length), begin, period)
    return grid


def _switches(found: Analysis) -> Grid:
    grid = Grid(
        "Behind a PAUSE exit the pCPU went to",
        (Column("thread", left=True, shrinks=True), Column("times"), Column("share")),
        note=_more(len(found.switched_to)),
    )
    if found.stayed:
        grid.add(
            "the same thread, without a switch in the trace",
            units.count(found.stayed),
            units.percent(found.stayed, found.pause_exits),
        )
    for (comm, pid), number in found.switched_to.most_common(_MOST_ROWS):
        grid.add(_thread(comm, pid), units.count(number), units.percent(number, found.pause_exits))
    return grid


def _window(found: Analysis) -> Grid:
    grid = Grid(
        "The PLE window",
        (Column("grew to", left=True), Column("times")),
        note=f"grew {units.count(found.grown)} times, shrank {units.count(found.shrunk)} times",
    )
    for window, number in sorted(found.windows.items()):
        grid.add(units.count(window), units.count(number))
    return grid


def _doubts(found: Analysis) -> Iterator[RenderableType]:
    """Say what makes the figures doubtful, a line each."""
    if found.went_back:
        times = _times(found.went_back)
        yield Text(
            f"\nTime went back {times}, first in {found.went_back_in}: intervals across it are not counted, "
            "and runs end there.",
            style="red",
        )
    if found.nameless:
        yield Text(
            f"\n{units.count(found.nameless)} exits and entries have no tid: threads of one name and vCPU are counted "
            "as one, and switches are not followed.",
            style="red",
        )
    lost, losses = found.unread.lost_events, found.unread.losses
    if lost:
        yield Text(f"\nThe tracer lost {units.count(lost)} events: counts are too low.", style="red")
    if losses:
        yield Text(
            f"\nThe tracer lost events {_times(losses)} without saying how many: counts are too low.", style="red"
        )


def _times(number: int) -> str:
    return "once" if number == 1 else f"{units.count(number)} times"


def _unread(found: Analysis) -> Iterator[RenderableType]:
    unread = found.unread
    if unread.count:
        yield Text(f"\n{units.count(unread.count)} lines could not be read:", style="red")
        for name, number, line in unread.first:
            yield Text(f"  {name}:{number}: {_printable(line)}")


def _thread(comm: str, pid: int) -> str:
    return _printable(f"{comm} {pid}" if pid >= 0 else comm or "-")


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _more(number: int) -> str:
    return f"{number - _MOST_ROWS} more" if number > _MOST_ROWS else ""


def analyze_json(found: Analysis) -> str:
    """Return everything as JSON; times in ns."""
    return json.dumps(_to_dict(found), indent=2)


def _to_dict(found: Analysis) -> dict[str, Any]:
    return {
        "events": dict(found.events),
        "span_ns": found.end_ns - (found.begin_ns or 0),
        "exits": dict(found.exits),
        "pause_exits": found.pause_exits,
        "pause_exits_by_address": {f"{rip:#x}": number for rip, number in found.pauses.most_common()},
        "pause_exits_by_thread": [
            {"comm": comm, "pid": pid, "exits": number} for (comm, pid), number in found.by_thread.most_common()
        ],
        "intervals": {name: _interval(getattr(found, name)) for name, _ in _INTERVALS},
        "runs": found.runs,
        "continuous_exits": found.continuous,
        "longest_runs": [_run(run) for run in found.longest],
        "window": {"grown": found.grown, "shrunk": found.shrunk, "grew_to": dict(sorted(found.windows.items()))},
        "switched_to": [
            {"comm": comm, "pid": pid, "times": number} for (comm, pid), number in found.switched_to.most_common()
        ],
        "not_switched": found.stayed,
        "without_tid": found.nameless,
        "time_went_back": found.went_back,
        "time_went_back_first_in": found.went_back_in,
        "lost_events": found.unread.lost_events,
        "losses_of_unknown_size": found.unread.losses,
        "unread_lines": found.unread.count,
        "first_unread": [{"file": name, "line": number, "text": line} for name, number, line in found.unread.first],
    }


def _interval(one: Intervals) -> dict[str, Any]:
    return {
        "count": one.count,
        "least_ns": one.least_ns,
        "median_ns": one.median_ns,
        "mean_ns": one.mean_ns,
        "most_ns": one.most_ns,
    }


def _run(run: PauseRun) -> dict[str, Any]:
    return {
        "comm": run.comm,
        "pid": run.pid,
        "address": f"{run.rip:#x}",
        "exits": run.length,
        "first_ns": run.first_ns,
        "last_ns": run.last_ns,
        "period_ns": run.period_ns,
    }
