"""Which part of a run a page's timeline shows: all of it, or as much as a page may hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from pleemu.machine.result import Run
from pleemu.trace.columns import Columns
from pleemu.trace.recording import Recording

ROWS = 200_000  # of a page: switches, exits, spans and windows
RECORDS = 6_000  # PAUSE exits of a page with their decision record
_BEFORE = 0.05  # of the part that is shown lies before the longest run


@frozen
class Part:
    """From when to when a timeline goes, in ns."""

    begin: int
    end: int
    whole: bool  # it is all of the run

    def said(self, run: Run) -> str:
        """What of the run the timeline shows, unless it is all of it."""
        if self.whole:
            return ""
        why = "around the longest run of PAUSE exits" if self.begin else "its beginning"
        return (
            f"The timeline shows {self.begin / 1e6:.3f} to {self.end / 1e6:.3f} ms of {run.duration_ns / 1e6:g} ms, "
            f"{why}: a page holds at most {ROWS:,} events and {RECORDS:,} decision records. "
            "Figures, charts and tables are of the whole run, or say otherwise."
        )


def part_of(recording: Recording, found: dict[str, Columns], *, rows: int, records: int) -> Part:
    """Return the part of a run whose events fit into a page: all of it, or what begins before its longest run."""
    times = [found[name]["time_ns"] for name in ("switches", "exits", "spans", "windows")]
    all_times = np.sort(np.concatenate(times))
    pauses = np.sort(found["decisions"]["time_ns"])
    end = int(recording.ns(recording.until))
    if len(all_times) <= rows and len(pauses) <= records:
        return Part(0, end, recording.whole)
    longest = recording.run.ple.runs[0].start_ns if recording.run.ple.runs else 0
    begin = longest if longest < end else 0
    budgets = ((all_times, rows), (pauses, records))
    begin = max(_back(ordered, begin, int(most * _BEFORE)) for ordered, most in budgets)
    last = end
    for ordered, most in budgets:
        place = int(np.searchsorted(ordered, begin)) + most
        last = min(last, int(ordered[place])) if place < len(ordered) else last
    if last == end:  # there is room for more before it
        begin = max(int(ordered[-most]) if len(ordered) > most else 0 for ordered, most in budgets)
    return Part(begin, max(last, begin + 1), False)


def _back(ordered: NDArray[Any], time: int, rows: int) -> int:
    """Return the time that some rows lie before another."""
    place = int(np.searchsorted(ordered, time)) - rows
    return int(ordered[place]) if place > 0 else 0
