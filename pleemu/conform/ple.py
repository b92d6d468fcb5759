"""`pleemu-ple-1`: which PAUSEs exit, recorded from an implementation of VMX.

One tick is one instruction. The decisions are a function of the times of PAUSEs and VM entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from attrs import frozen

from pleemu.conform.vectors import ConformError, Difference, Format, Results, Word, structure
from pleemu.hardware.pause import load_pause_controls, pause_exits
from pleemu.hardware.records import CPU
from pleemu.jit import callable_once

_LENGTHS = {"E": 4, "P": 5, "X": 3}
_BEFORE, _AFTER = 6, 2  # events shown around a difference

_load = callable_once(load_pause_controls)
_pause_exits = callable_once(pause_exits)


@frozen
class Case:
    """One run of a guest; events are VM entries E, PAUSEs P and other VM exits X."""

    id: int
    kind: str
    pause_exiting: Word
    ple: Word
    events: list[list[Any]]


class LogicalProcessor:
    """The emulator's rule, with its VM-execution controls."""

    def __init__(self, *, pause_exiting: int, ple: int) -> None:
        self._cpu = np.zeros(1, CPU).view(np.recarray)[0]
        self._cpu.pause_exiting, self._cpu.ple = pause_exiting, ple

    def enter(self, gap: int, window: int) -> None:
        """A VM entry with these values in force."""
        self._cpu.ple_gap = gap
        _load(self._cpu, window)

    def exits(self, now: int, cpl: int) -> bool:
        """Whether a PAUSE at tick ``now`` causes a VM exit."""
        self._cpu.cpl = cpl
        return bool(_pause_exits(self._cpu, now))


def replay(data: Mapping[str, Any]) -> Results:
    """Decide every PAUSE of every case."""
    for number, given in enumerate(data["cases"]):
        case = structure(Case, given, f"cases[{number}]")
        _check_events(case.events, f"cases[{number}].events")
        yield _difference(case)


def _difference(case: Case) -> Difference | None:
    processor = LogicalProcessor(pause_exiting=case.pause_exiting, ple=case.ple)
    for number, event in enumerate(case.events):
        if event[0] == "E":
            processor.enter(*event[2:])
        elif event[0] == "P":
            _, now, cpl, _, recorded = event
            if processor.exits(now, cpl) != bool(recorded):
                return Difference(f"case {case.id} ({case.kind})", _text(case, number))
    return None


def _text(case: Case, differing: int) -> str:
    lines = [f"PAUSE exiting {case.pause_exiting}, PAUSE-loop exiting {case.ple}; the events around it, by tick:"]
    for number in range(max(0, differing - _BEFORE), min(len(case.events), differing + _AFTER + 1)):
        event = case.events[number]
        shown = _shown(event)
        if number == differing:
            shown += f"  <- recorded; here it {'does not' if event[4] else 'does'}"
        lines.append(f"{event[1]:>12}  {shown}")
    return "\n".join(lines)


def _shown(event: list[Any]) -> str:
    if event[0] == "E":
        return f"VM entry, gap {event[2]} window {event[3]}"
    if event[0] == "P":
        return f"PAUSE {event[3]} at CPL {event[2]}: {'exits' if event[4] else 'does not exit'}"
    return f"VM exit, reason {event[2]}"


def _check_events(events: list[list[Any]], place: str) -> None:
    for number, event in enumerate(events):
        kind, *values = event if event else [None]
        if kind not in _LENGTHS or len(event) != _LENGTHS[kind]:
            raise ConformError(
                f'{event} is no event; ["E", t, gap, window], ["P", t, cpl, index, exited] or ["X", t, reason] '
                f"is right @ {place}[{number}]"
            )
        structure(list[Word], values, f"{place}[{number}]")


FORMATS = (Format("pleemu-ple-1", "PAUSE exits of VMX", "cases", replay),)
