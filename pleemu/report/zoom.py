"""The longest run of PAUSE exits from near: each thread that ran on its pCPU, exit by exit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pleemu.report import units
from pleemu.report.colours import PAUSE, thread_colours
from pleemu.report.figures import legend_above
from pleemu.report.names import shortened
from pleemu.trace.columns import Columns
from pleemu.trace.recording import Recording, thread_names
from pleemu.trace.spans import CRITICAL

_PERIODS = 14  # of the run that are shown
_LANES = 6
_LONGEST_NAME = 16
_HELD, _SPINNING, _OFF = "#2f9e63", "#e0a42e", "#fbdedf"

_Spans = list[tuple[float, float]]  # begin and length, in us since the run of exits began


def draw_zoom(axis: Any, recording: Recording, found: dict[str, Columns]) -> None:
    """Draw the beginning of the longest run of PAUSE exits; what is off its pCPU with a lock in its hand is red."""
    runs = found["runs"]
    if not len(runs["length"]):
        axis.set_title("The longest run of PAUSE exits")
        axis.text(0.5, 0.5, "no PAUSE exits", transform=axis.transAxes, ha="center", va="center", color="#8a939c")
        axis.set_yticks([])
        return
    longest = int(np.argmax(runs["length"]))
    length, cpu, first = int(runs["length"][longest]), int(runs["cpu"][longest]), int(runs["time_ns"][longest])
    period = float(runs["duration_ns"][longest]) / max(1, length - 1) or 20_000.0
    begin, end = first - 0.6 * period, first + min(length, _PERIODS) * period
    numbers = {name: number for number, name in enumerate(thread_names(recording.scenario)[:-1])}
    switches = found["switches"]
    mine = np.asarray(switches["cpu"]) == cpu
    times = np.append(np.asarray(switches["time_ns"])[mine], recording.ns(recording.until))
    names = np.asarray(switches["next"], object)[mine]
    threads = _threads(names, times, begin, end)
    spinner = f"{runs['vm'][longest]}/{runs['vcpu_id'][longest]}"
    threads = sorted(
        {spinner, *threads, *_holders(found["spans"], spinner, first)}, key=lambda one: numbers.get(one, 0)
    )
    colours = thread_colours(recording.scenario)
    near = {
        "spans": _near(found["spans"], found["spans"]["duration_ns"], begin, end),
        "exits": _near(found["exits"], np.maximum(found["exits"]["host_ns"], 0), begin, end),
    }
    for lane, name in enumerate(threads[:_LANES]):
        on = _on(switches, name, begin, end)
        _lane(axis, lane, name, on, near, colours[numbers[name]], (begin, end, first))
    axis.set_yticks(range(len(threads[:_LANES])), [shortened(name, _LONGEST_NAME) for name in threads[:_LANES]])
    axis.set_ylim(len(threads[:_LANES]) - 0.45, -0.75)
    axis.set_xlim((begin - first) / 1e3, (end - first) / 1e3)
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel(f"us since {first / 1e6:.3f} ms")
    which = "The longest run" if length == recording.run.ple.longest_run else "The longest run of this part"
    what = f"{which}: {units.count(length)} exit{'s' if length > 1 else ''} of {shortened(spinner, _LONGEST_NAME)}"
    axis.set_title(what + (f", {units.time(period)} apart" if length > 1 else ""))
    _legend(axis)


def _lane(
    axis: Any,
    lane: int,
    name: str,
    on: _Spans,
    near: dict[str, Columns],
    colour: str,
    times: tuple[float, float, int],
) -> None:
    begin, end, zero = times
    vm, _, number = name.rpartition("/")
    spans, exits = near["spans"], near["exits"]

    def drawn(spans: _Spans, low: float, height: float, shade: str, **more: Any) -> None:
        bars = [((a - zero) / 1e3, (b - a) / 1e3) for a, b in overlaps(spans, [(begin, end)])]
        axis.broken_barh(bars, (low, height), facecolors=shade, linewidth=0, **more)

    held = _of(spans, vm, number, spans["duration_ns"], np.asarray(spans["what"], object) == CRITICAL)
    waits = _of(spans, vm, number, spans["duration_ns"], np.asarray(spans["what"], object) != CRITICAL)
    drawn(held, lane - 0.32, 0.46, _OFF)
    drawn(on, lane - 0.32, 0.46, colour)
    in_host = _of(exits, vm, number, exits["host_ns"], np.asarray(exits["host_ns"]) >= 0)
    drawn(overlaps(in_host, on), lane - 0.32, 0.46, "white", alpha=0.55)
    drawn(waits, lane + 0.2, 0.12, _SPINNING)
    drawn(held, lane + 0.2, 0.12, _HELD)
    pauses = _of(exits, vm, number, np.zeros(len(exits["number"]), np.int64), np.asarray(exits["number"]) >= 0)
    at = [(a - zero) / 1e3 for a, _ in pauses if begin <= a < end]
    axis.plot(at, [lane - 0.46] * len(at), "v", color=PAUSE, markersize=4, linestyle="")


def _of(rows: Columns, vm: str, vcpu: str, lasts: NDArray[Any], wanted: NDArray[Any]) -> _Spans:
    mine = wanted & (np.asarray(rows["vm"], object) == vm) & (np.asarray(rows["vcpu_id"]).astype(str) == vcpu)
    begins = np.asarray(rows["time_ns"])[mine]
    return list(zip(begins.tolist(), (begins + lasts[mine]).tolist(), strict=True))


def _near(rows: Columns, lasts: NDArray[Any], begin: float, end: float) -> Columns:
    """Return the rows of the part that is shown: the lanes look at no others."""
    begins = np.asarray(rows["time_ns"])
    (near,) = np.nonzero((begins < end) & (begins + lasts >= begin))
    return {
        name: column[near] if isinstance(column, np.ndarray) else [column[row] for row in near.tolist()]
        for name, column in rows.items()
    }


def overlaps(some: _Spans, others: _Spans) -> _Spans:
    """Return where some spans overlap others, which are in order and apart."""
    found: _Spans = []
    place = 0
    for begin, end in sorted(some):
        while place < len(others) and others[place][1] <= begin:
            place += 1
        for other in range(place, len(others)):
            low, high = others[other]
            if low >= end:
                break
            found.append((max(begin, low), min(end, high)))
    return found


def _on(switches: Columns, name: str, begin: float, end: float) -> _Spans:
    """Return when a thread was on a pCPU, whichever, in the part that is shown."""
    cpus, following = np.asarray(switches["cpu"]), np.asarray(switches["next"], object)
    spans: _Spans = []
    for cpu in np.unique(cpus[following == name]):
        mine = cpus == cpu
        times = np.append(np.asarray(switches["time_ns"])[mine], end)
        shown = (following[mine] == name) & (times[:-1] < end) & (times[1:] > begin)
        spans += [(times[k], times[k + 1]) for k in np.nonzero(shown)[0]]
    return sorted(spans)


def _threads(names: NDArray[Any], times: NDArray[Any], begin: float, end: float) -> list[str]:
    """Return the vCPUs that ran on a pCPU then."""
    seen = names[(times[:-1] < end) & (times[1:] > begin)]
    return [name for name in dict.fromkeys(seen.tolist()) if "/" in name]


def _holders(spans: Columns, spinner: str, now: int) -> list[str]:
    """Return who of the spinner's VM was in a critical section then."""
    vm = spinner.rpartition("/")[0]
    begins = np.asarray(spans["time_ns"])
    mine = (np.asarray(spans["vm"], object) == vm) & (np.asarray(spans["what"], object) == CRITICAL)
    mine &= (begins <= now) & (begins + spans["duration_ns"] > now)
    return [f"{vm}/{vcpu}" for vcpu in dict.fromkeys(np.asarray(spans["vcpu_id"])[mine].tolist())]


def _legend(axis: Any) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Line2D([], [], color=PAUSE, marker="v", linestyle="", markersize=4, label="PAUSE exit"),
        Patch(color="#9db9d3", label="in the host"),
        Patch(color=_SPINNING, label="waits"),
        Patch(color=_HELD, label="has a lock"),
        Patch(color=_OFF, label="has a lock and no pCPU"),
    ]
    legend_above(axis, 9.3, handles)
