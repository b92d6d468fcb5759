"""What a page knows of a run: the figures of all of it, and every event of a part of it.

Times are integers in ns, each as the difference to the one before; names are numbers in lists of names. So a
hundred thousand events are some hundred kB. A page shows at most `ROWS` of them, around the longest run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pleemu.hypervisor.rules import RULES
from pleemu.machine.result import Run
from pleemu.machine.story import Story
from pleemu.report.colours import thread_colours, vm_colour
from pleemu.report.explain_report import sentences
from pleemu.report.page_part import RECORDS, ROWS, Part, part_of
from pleemu.report.places import PARTS, PENDING, Counts, by_place, by_vm, verdicts_of
from pleemu.trace.columns import Columns, tables
from pleemu.trace.recording import Recording, thread_names
from pleemu.trace.spans import CRITICAL

_PLACES = 12
_RULE_NAMES = list(RULES)


def case_data(name: str, recording: Recording, *, rows: int = ROWS, records: int = RECORDS) -> dict[str, Any]:
    """Return all that a page shows of one run, as plain values."""
    run, scenario = recording.run, recording.scenario
    found = tables(recording)
    part = part_of(recording, found, rows=rows, records=records)
    words = _Words()
    return {
        "name": name,
        "policy": run.policy,
        "duration": run.duration_ns,
        "begin": part.begin,
        "end": part.end,
        "whole": part.whole,
        "part": part.said(run),
        "threads": list(thread_names(scenario)[:-1]),
        "colours": thread_colours(scenario),
        "vmOf": [number for number, vm in enumerate(scenario.vm) for _ in range(vm.vcpus)],
        "vms": [
            {
                "name": vm.name,
                "colour": vm_colour(number),
                "cpu": vm.cpu_share,
                "guest": vm.guest_share,
                "operations": vm.operations,
            }
            for number, vm in enumerate(run.vms)
        ],
        "fairness": run.fairness,
        "idle": run.idle_share,
        "cpus": _cpus(found["switches"], scenario.hardware.pcpus, thread_names(scenario), part),
        "exits": _exits(found["exits"], _verdicts(recording, found), _vcpu_numbers(recording), part, words),
        "spans": _spans(found["spans"], _vcpu_numbers(recording), part, words),
        "windows": _windows(found["windows"], _vcpu_numbers(recording), part),
        "windowUnit": "PAUSEs" if scenario.hardware.is_amd else "TSC ticks",
        "records": _records(recording.stories, part, records, thread_names(scenario)),
        "rules": [[rule, meaning] for rule, meaning in RULES.items()],
        "words": words.listed,
        "overview": _overview(run),
        "symbols": _listed(by_place(recording, found, _PLACES)),
        "lengths": _lengths(recording, found["runs"]),
        "windowsAt": _by_power(found["exits"]["ple_window"][found["exits"]["number"] >= 0]),
        "longest": _longest(run),
        "verdicts": _listed(by_vm(run)),
        "captions": _captions(recording, found["exits"]),
        "figures": _figures(run),
    }


class _Words:
    """Names that many rows have, by number."""

    def __init__(self) -> None:
        self.listed: list[str] = []
        self._number: dict[str, int] = {}

    def numbers(self, words: Sequence[str] | NDArray[Any]) -> list[int]:
        return [self._of(str(word)) for word in words]

    def _of(self, word: str) -> int:
        if word not in self._number:
            self._number[word] = len(self.listed)
            self.listed.append(word)
        return self._number[word]


def _vcpu_numbers(recording: Recording) -> dict[tuple[str, int], int]:
    pairs = [(vm.name, vcpu) for vm in recording.scenario.vm for vcpu in range(vm.vcpus)]
    return {pair: number for number, pair in enumerate(pairs)}


def _steps(times: NDArray[Any]) -> list[int]:
    """Times as differences."""
    return [int(one) for one in np.diff(times, prepend=0)]


def _cpus(switches: Columns, pcpus: int, names: Sequence[str], part: Part) -> list[dict[str, Any]]:
    """Of each pCPU: from when on which thread ran, -1 idle; the first one when the part begins."""
    numbers = {name: number for number, name in enumerate(names[:-1])}
    threads = np.array([numbers.get(name, -1) for name in switches["next"]], np.int64)
    found = []
    for pcpu in range(pcpus):
        mine = np.asarray(switches["cpu"]) == pcpu
        times, running = np.asarray(switches["time_ns"])[mine], threads[mine]
        first = max(0, int(np.searchsorted(times, part.begin, "right")) - 1)
        last = int(np.searchsorted(times, part.end))
        found.append({"t": _steps(np.maximum(times[first:last], part.begin)), "thread": running[first:last].tolist()})
    return found


def _inside(begins: NDArray[Any], ends: NDArray[Any], part: Part) -> NDArray[Any]:
    return (ends >= part.begin) & (begins < part.end)


def _verdicts(recording: Recording, found: dict[str, Columns]) -> dict[int, int]:
    """The part that each PAUSE exit counts in, by number, where that is known of the single exit."""
    exits = found["exits"]["number"].tolist() if recording.every_story else []
    known = {**dict.fromkeys(exits, PENDING), **verdicts_of(found["decisions"])}
    return {number: PARTS.index(part) for number, part in known.items() if number >= 0}


def _exits(
    exits: Columns, verdicts: dict[int, int], numbers: dict[tuple[str, int], int], part: Part, words: _Words
) -> list[dict[str, Any]]:
    """Of each vCPU its exits: when, how long until the entry (-1: never), why, where, and of PAUSE exits the rest."""
    vcpus = np.array([numbers[pair] for pair in zip(exits["vm"], exits["vcpu_id"].tolist(), strict=True)], np.int64)
    times, host = exits["time_ns"], exits["host_ns"]
    shown = _inside(times, np.where(host < 0, part.end, times + host), part)
    found = []
    for vcpu in range(len(numbers)):
        (rows,) = np.nonzero(shown & (vcpus == vcpu))
        found.append(
            {
                "t": _steps(times[rows]),
                "host": host[rows].tolist(),
                "cpu": exits["cpu"][rows].tolist(),
                "reason": words.numbers([exits["exit_reason"][row] for row in rows]),
                "symbol": words.numbers([exits["symbol"][row] for row in rows]),
                "number": exits["number"][rows].tolist(),
                "window": exits["ple_window"][rows].tolist(),
                "verdict": [verdicts.get(number, -1) for number in exits["number"][rows].tolist()],
            }
        )
    return found


def _spans(spans: Columns, numbers: dict[tuple[str, int], int], part: Part, words: _Words) -> list[dict[str, Any]]:
    """Of each vCPU its waits and critical sections, by when they began."""
    vcpus = np.array([numbers[pair] for pair in zip(spans["vm"], spans["vcpu_id"].tolist(), strict=True)], np.int64)
    begins = spans["time_ns"]
    shown = _inside(begins, begins + spans["duration_ns"], part)
    found = []
    for vcpu in range(len(numbers)):
        (rows,) = np.nonzero(shown & (vcpus == vcpu))
        found.append(
            {
                "t": _steps(begins[rows]),
                "lasts": spans["duration_ns"][rows].tolist(),
                "held": [int(spans["what"][row] == CRITICAL) for row in rows],
                "what": words.numbers([f"{spans['what'][row]}, {spans['object'][row]}" for row in rows]),
            }
        )
    return found


def _windows(windows: Columns, numbers: dict[tuple[str, int], int], part: Part) -> list[dict[str, Any]]:
    """Of each vCPU its window: what it was when the part begins, and what it became when."""
    vcpus = np.array([numbers[pair] for pair in zip(windows["vm"], windows["vcpu_id"].tolist(), strict=True)], np.int64)
    found = []
    for vcpu in range(len(numbers)):
        mine = vcpus == vcpu
        times, old, new = windows["time_ns"][mine], windows["old"][mine], windows["new"][mine]
        first, last = (int(np.searchsorted(times, one)) for one in (part.begin, part.end))
        before = int(new[first - 1]) if first else int(old[0]) if len(old) else None
        found.append({"first": before, "t": _steps(times[first:last]), "new": new[first:last].tolist()})
    return found


def _records(stories: Sequence[Story], part: Part, most: int, names: Sequence[str]) -> dict[int, Any]:
    """The decision record of each PAUSE exit of the part, by its number."""
    numbers = {name: number for number, name in enumerate(names[:-1])}
    shown = [one for one in stories if part.begin <= one.at_ns < part.end][:most]
    return {
        one.number: {
            "said": list(sentences(one)),
            "looked": [
                [
                    numbers.get(look.vcpu, -1),
                    _RULE_NAMES.index(look.rule) if look.rule in RULES else -1,
                    look.answer,
                    look.round,
                ]
                for look in one.looked_at
            ],
            "useful": [numbers[name] for name in one.useful if name in numbers],
            "target": numbers.get(one.target, -1) if one.target else -1,
            "targetCpu": -1 if one.target_pcpu is None else one.target_pcpu,
            "here": one.next_here,
            "there": one.next_there,
            "ranAfter": one.ran_after_ns,
        }
        for one in shown
    }


def _overview(run: Run) -> dict[str, Any]:
    """All of the run in columns: PAUSE exits of all vCPUs, and what each VM had of the pCPUs."""
    timeline = run.timeline
    exits = np.sum(np.array(timeline.pause_exits, float), axis=0) if timeline.pause_exits else np.zeros(0)
    return {"column": timeline.column_ns, "exits": [int(one) for one in exits]}


def _listed(counts: Counts) -> list[list[Any]]:
    return [list(item) for item in counts.items()]


def _lengths(recording: Recording, runs: Columns) -> list[list[int | None]]:
    """Runs by length in powers of two: the least length, how many runs, and how many exits if all are recorded."""
    exits: dict[int, int] = {}
    for length in runs["length"].tolist():
        power = 1 << (length.bit_length() - 1)
        exits[power] = exits.get(power, 0) + length
    return [
        [length, count, exits.get(length) if recording.every_event else None]
        for length, count in sorted(recording.run.ple.run_lengths.items())
    ]


def _captions(recording: Recording, exits: Columns) -> dict[str, str]:
    """What each chart counts, and of what part of the run where that is not all of it."""
    ple = recording.run.ple
    recorded = int((exits["number"] >= 0).sum())
    first = f" Only the first {recorded:,} of {ple.exits:,} exits: of so long a run no more events are kept."
    counted = "PAUSE exits by the length of the run that they belong to"
    return {
        "symbols": "Coloured by what the ground truth says of whom KVM nominated."
        if recording.whole
        else "All of the run, by the label that they stand under; the verdicts on so many are kept by VM only.",
        "lengths": f"{counted if recording.every_event else 'Runs of PAUSE exits by their length'}: "
        "same vCPU, same address, at most 1 ms apart.",
        "windows": "PAUSE exits by the window in force; the timeline shows it over time."
        + ("" if recording.every_event else first),
    }


def _by_power(values: NDArray[Any]) -> list[list[int]]:
    powers, counts = np.unique(np.floor(np.log2(np.maximum(values, 1))).astype(np.int64), return_counts=True)
    return [[1 << power, count] for power, count in zip(powers.tolist(), counts.tolist(), strict=True)]


def _longest(run: Run) -> dict[str, Any] | None:
    if not run.ple.runs:
        return None
    one = run.ple.runs[0]
    return {
        "begin": one.start_ns,
        "lasts": round(one.period_ns * (one.length - 1)),
        "first": one.first_exit,
        "length": one.length,
    }


def _figures(run: Run) -> dict[str, Any]:
    total = run.decisions.total
    return {
        "exits": run.ple.exits,
        "continuous": run.ple.continuous,
        "longest": run.ple.longest_run,
        "attempts": sum(one.attempts for one in run.boosts),
        "honoured": sum(one.honoured for one in run.boosts),
        "operations": sum(vm.operations for vm in run.vms),
        "precision": total.precision,
        "recall": total.recall,
        "ran": sum(one.ran for one in run.boosts),
        "ranAfter": sum(one.waited_ns for one in run.boosts),
        "spin": total.spin_ns,
    }
