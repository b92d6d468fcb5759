"""The table of `pleemu boost-latency`."""

from __future__ import annotations

import json
from collections.abc import Sequence

import attrs
from rich.text import Text

from pleemu.conform.boost_latency import PATIENCE_NS, BoostLatency
from pleemu.kernel import SCHEDULERS
from pleemu.report import units
from pleemu.report.grid import Column, Grid

_SLOW_NS = 2_000_000  # a boost that takes longer is none


def boost_latency_report(rows: Sequence[BoostLatency]) -> Grid:
    """Return one row a case, one column a scheduler; what was recorded in brackets."""
    schedulers = list(dict.fromkeys(row.scheduler for row in rows))
    grid = Grid(
        "Time until a preempted lock holder runs that is yielded to",
        (Column("tasks"), Column("overrun"), *(Column(name) for name in schedulers)),
        note=f"One CPU, nice 0; whoever runs yields to the holder every {units.time(rows[0].every_ns)}. In brackets: "
        "recorded from the kernel's own functions. 0: the holder was picked again at once. The hint: "
        + ", ".join(f"{name} {SCHEDULERS[name].hint}" for name in schedulers)
        + ".",
    )
    for tasks, overrun in dict.fromkeys((row.tasks, row.overrun_ns) for row in rows):
        case = [row for row in rows if (row.tasks, row.overrun_ns) == (tasks, overrun)]
        grid.add(str(tasks), units.time(overrun), *(_cell(row) for row in case))
    return grid


def boost_latency_json(rows: Sequence[BoostLatency]) -> str:
    """Return the measurements as JSON."""
    return json.dumps({"rows": [attrs.asdict(row) for row in rows]}, indent=2)


def _cell(row: BoostLatency) -> Text:
    if row.waited_ns is None:
        return Text(f"over {units.time(PATIENCE_NS)}", "red")
    recorded = "" if row.recorded_ns is None else f" ({row.recorded_ns / 1e6:.2f})"
    shown = f"{row.waited_ns / 1e6:.2f}" if row.waited_ns else "0"
    return Text.assemble((f"{shown} ms", "green" if row.waited_ns < _SLOW_NS else "red"), (recorded, "dim"))
