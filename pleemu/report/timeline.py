"""Runs on one time axis in the terminal: who was on a pCPU, and where the PAUSE exits were.

One lane a vCPU, or one a VM where there are more than six vCPUs. A glyph's shade is the share of
its column that the lane spent on a pCPU; its colour, from amber to red, is the density of PAUSE exits.
Without colour a second row under a lane marks them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from attrs import define, frozen
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from pleemu.machine.result import Run
from pleemu.report import units

_VCPU_LANES = 6
_LABEL_LIMIT = 16
_COLUMN_LIMIT = 200
_SHADES, _ASCII_SHADES = " ░▒▓█", " .:*#"
_MARKS = " .:!"
_QUIET = "rgb(95,165,190)"
_FEW, _MANY = (225, 175, 55), (235, 45, 45)


@frozen
class Lane:
    """What one vCPU or VM did, in columns of equal length."""

    label: str
    running: Sequence[float]  # 0..1
    pause_exits: Sequence[float]


@define
class TimelinePlot:
    """The runs below each other on a common axis."""

    runs: Sequence[Run]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        labels = [label for run in self.runs for label in _labels(run)]
        label_width = min(_LABEL_LIMIT, max((cell_len(label) for label in labels), default=0))
        width = max(10, min(_COLUMN_LIMIT, options.max_width - label_width - 4))
        total_ns = max((len_ns(run) for run in self.runs), default=0) or 1
        lanes = [list(_lanes(run, total_ns, width)) for run in self.runs]
        most = max((exits for run in lanes for lane in run for exits in lane.pause_exits), default=0.0)
        coloured = console.color_system is not None and not console.no_color
        shades = _ASCII_SHADES if options.ascii_only else _SHADES
        edge = "|" if options.ascii_only else "│"

        yield Text("Timeline", style="bold")
        for run, run_lanes in zip(self.runs, lanes, strict=True):
            yield Text.assemble((run.policy, "bold"), (f"  {units.count(run.ple.exits)} PAUSE exits", "dim"))
            for lane in run_lanes:
                label = set_cell_size(lane.label, label_width)
                body = _coloured(lane, shades, most) if coloured else Text(_glyphs(lane, shades))
                yield Text.assemble((f" {label} {edge}", "dim"), body, (edge, "dim"))
                if not coloured and any(lane.pause_exits):
                    yield Text(" " * (label_width + 3) + _marks(lane, most).rstrip())
        for line in axis(total_ns, width, "'" if options.ascii_only else "╵"):
            yield Text(" " * (label_width + 3) + line, style="dim")
        yield legend(shades, most, total_ns / width, coloured)


def len_ns(run: Run) -> int:
    """Return the time that a run's timeline covers."""
    return run.timeline.column_ns * max((len(row) for row in run.timeline.running), default=0)


def resample(values: Sequence[float], column_ns: int, total_ns: int, width: int) -> list[float]:
    """Return the sums of ``values`` over ``width`` equal columns of ``total_ns``, spread evenly where they straddle."""
    sums = [0.0] * width
    for number, value in enumerate(values):
        if not value:
            continue
        first, last = number * column_ns * width / total_ns, (number + 1) * column_ns * width / total_ns
        column = int(first)
        while column < min(last, width):
            overlap = min(last, column + 1) - max(first, column)
            sums[column] += value * max(0.0, overlap) / (last - first)
            column += 1
    return sums


def _labels(run: Run) -> tuple[str, ...]:
    if len(run.timeline.vcpu_names) <= _VCPU_LANES:
        return run.timeline.vcpu_names
    return (*(vm.name for vm in run.vms), *(thread.name for thread in run.threads))


def _lanes(run: Run, total_ns: int, width: int) -> Iterator[Lane]:
    """Yield a run's lanes at the width of the plot."""
    timeline = run.timeline
    by_vcpu = len(timeline.vcpu_names) <= _VCPU_LANES
    of_all = [*(vm.vcpus for vm in run.vms), *(thread.count for thread in run.threads)]
    sizes = [1] * len(timeline.vcpu_names) if by_vcpu else of_all
    columns_each = timeline.column_ns * width / total_ns  # output columns that one of the run's fills
    first = 0
    for label, size in zip(_labels(run), sizes, strict=True):
        rows = range(first, min(first + size, len(timeline.running)))
        first += size
        running, exits = [0.0] * width, [0.0] * width
        for row in rows:
            shares = resample(timeline.running[row], timeline.column_ns, total_ns, width)
            running = [sum_ + share * columns_each / size for sum_, share in zip(running, shares, strict=True)]
            more = resample(timeline.pause_exits[row], timeline.column_ns, total_ns, width)
            exits = [sum_ + one for sum_, one in zip(exits, more, strict=True)]
        yield Lane(label, running, exits)


def _glyphs(lane: Lane, shades: str) -> str:
    return "".join(_shade(share, exits, shades) for share, exits in zip(lane.running, lane.pause_exits, strict=True))


def _shade(share: float, exits: float, shades: str) -> str:
    if share < 0.02 and not exits:
        return shades[0]
    return shades[max(1, min(len(shades) - 1, math.ceil(share * (len(shades) - 1) - 0.02)))]


def _density(exits: float, most: float) -> float:
    """Return 0..1 on a logarithmic scale, so that a single exit can be seen beside a storm."""
    return math.log1p(exits) / math.log1p(most) if most > 0 else 0.0


def _coloured(lane: Lane, shades: str, most: float) -> Text:
    body = Text()
    for glyph, exits in zip(_glyphs(lane, shades), lane.pause_exits, strict=True):
        body.append(glyph, _colour(_density(exits, most)) if exits else _QUIET)
    return body


def _colour(density: float) -> str:
    red, green, blue = (round(few + (many - few) * min(1.0, density)) for few, many in zip(_FEW, _MANY, strict=True))
    return f"rgb({red},{green},{blue})"


def _marks(lane: Lane, most: float) -> str:
    last = len(_MARKS) - 1
    return "".join(
        _MARKS[max(1, min(last, math.ceil(last * _density(exits, most))))] if exits else _MARKS[0]
        for exits in lane.pause_exits
    )


def axis(total_ns: int, width: int, tick: str) -> tuple[str, str]:
    """Return the ticks under the lanes and their labels, in ms."""
    total_ms = total_ns / 1e6
    step = _nice(total_ms * 12 / width)
    unit = " ms"
    ticks, labels = [" "] * width, [" "] * width
    for number in range(int(total_ms / step + 1e-9) + 1):
        column, label = round(number * step / total_ms * width), f"{number * step:g}"
        if column < width:
            ticks[column] = tick
        if column + len(label) <= width - len(unit):
            labels[column : column + len(label)] = label
    labels[-len(unit) :] = unit
    return "".join(ticks), "".join(labels)


def _nice(value: float) -> float:
    """Return the least of 1, 2, 5, 10, 20, ... and their fractions that is not below a value."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= value * 0.999)


def legend(shades: str, most: float, column_ns: float, coloured: bool) -> Text:
    """Return what the glyphs and colours stand for."""
    scale = f"1 to {units.count(round(most))}" if most >= 1.5 else "1"
    text = Text(f" {shades[1:]} share of {units.time(column_ns)} on a pCPU", style="dim")
    if not most:
        return text.append("; no PAUSE exits")
    text.append("; PAUSE exits: ")
    if coloured:
        for density in (0.0, 0.5, 1.0):
            text.append(shades[-1], _colour(density))
        return text.append(f" {scale}")
    return text.append(f"{_MARKS[1:]} below, {scale}")
