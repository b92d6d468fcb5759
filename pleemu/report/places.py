"""PAUSE exits by place and by VM, and in parts by the verdict on each: as pages and figures show them.

All of them are counted, so the parts add up to the number of PAUSE exits that stands above:

    pending   the run ended before KVM had decided
    untold    the verdict on each single exit is not kept: there are too many of them
"""

from __future__ import annotations

from collections.abc import Iterable

from pleemu.machine.result import Run
from pleemu.observe.events import PAUSE_EXIT_NAMES
from pleemu.observe.records import VERDICTS
from pleemu.trace.columns import Columns
from pleemu.trace.recording import Recording

PENDING, UNTOLD = "pending", "untold"
PARTS = (*VERDICTS, PENDING, UNTOLD)

Counts = dict[str, list[int]]  # of each place or VM: PAUSE exits by part


def by_place(recording: Recording, found: dict[str, Columns], most: int) -> Counts:
    """Return the PAUSE exits of the whole run by where they are, the most frequent places first.

    If not all of a run is recorded, these are the places of the run's own counters, which know no verdicts.
    """
    if not recording.whole:
        places = {symbol: _part(UNTOLD, exits) for symbol, exits in recording.run.ple.by_symbol.items()}
        return _most(places, most)
    exits = found["exits"]
    verdicts = verdicts_of(found["decisions"])
    counts: Counts = {}
    for number, symbol in zip(exits["number"].tolist(), exits["symbol"], strict=True):
        if number >= 0:
            counts.setdefault(symbol, _part(PENDING, 0))[PARTS.index(verdicts.get(number, PENDING))] += 1
    return _most(counts, most)


def verdicts_of(decisions: Columns) -> dict[int, str]:
    """Return the verdict on each exit that came to one."""
    numbered = zip(decisions["number"].tolist(), decisions["verdict"], strict=True)
    return {number: verdict for number, verdict in numbered if verdict}


def by_vm(run: Run) -> Counts:
    """Return the PAUSE exits of each VM."""
    counts = {}
    for one in run.decisions.vms:
        exits = sum(row.count for row in run.exits if row.vm == one.vm and row.reason in PAUSE_EXIT_NAMES)
        decided = [getattr(one, verdict) for verdict in VERDICTS]
        counts[one.vm] = [*decided, exits - one.judged, 0]
    return counts


def of_all(run: Run) -> list[int]:
    """Return the PAUSE exits of all VMs together."""
    return _sum(by_vm(run).values())


def _most(counts: Counts, most: int) -> Counts:
    """The places with most exits, and the others in one row."""
    ranked = sorted(counts.items(), key=lambda item: (-sum(item[1]), item[0]))
    if len(ranked) <= most:
        return dict(ranked)
    rest = ranked[most - 1 :]
    return {**dict(ranked[: most - 1]), f"{len(rest)} more places": _sum(parts for _, parts in rest)}


def _part(part: str, exits: int) -> list[int]:
    return [exits if one == part else 0 for one in PARTS]


def _sum(rows: Iterable[list[int]]) -> list[int]:
    return [sum(column) for column in zip(_part(PENDING, 0), *rows, strict=True)]
