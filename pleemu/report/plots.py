"""Runs as figures: one that shows a run, and one that shows several beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pleemu.report import units
from pleemu.report.colours import PARTS as PART_COLOURS
from pleemu.report.colours import thread_colours, vm_colour
from pleemu.report.figures import legend_above, look, new_figure, save
from pleemu.report.lanes import ROWS, lanes_image
from pleemu.report.names import shortened
from pleemu.report.places import PARTS, Counts, by_place, of_all
from pleemu.report.zoom import draw_zoom
from pleemu.trace.columns import Columns, tables
from pleemu.trace.recording import Recording, thread_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TIMELINES = 6  # of a comparison
_FEW = 8  # lines that have a colour of their own, and room for a legend between them
_STYLES = ("solid", "dashed", "dotted", "dashdot")  # of the first few lines, the next few, ...
_PLACES = 8
_VCPUS_NAMED = 16
_LONGEST_NAME, _LONGEST_ROW = 20, 36  # letters: in a legend, of a row of bars


def plot_run(recording: Recording, path: str | Path | None = None) -> Figure:
    """Draw one run, write it to ``path`` (.png, .svg, .pdf) if given, and return the figure.

    Who ran on each pCPU, the longest run of PAUSE exits from near, the window, run lengths, exits by place and verdict.
    """
    run, scenario = recording.run, recording.scenario
    found = tables(recording)
    pcpus = scenario.hardware.pcpus
    with look():
        figure = new_figure(11, 7.4 + 0.28 * min(pcpus, 24))
        heights = [0.6 + 0.28 * min(pcpus, 24), 1.5, 1.2, 2.0]
        grid = figure.add_gridspec(4, 1, height_ratios=heights)
        axis = figure.add_subplot(grid[0])
        draw_timeline(axis, recording, found, f"Who ran on each pCPU, and PAUSE exits above{_until(recording)}")
        _vcpu_legend(axis, 9.3, recording)
        draw_zoom(figure.add_subplot(grid[1]), recording, found)
        _windows(figure.add_subplot(grid[2], sharex=axis), recording, found)
        low = grid[3].subgridspec(1, 2, width_ratios=(1, 1.6))
        _lengths(figure.add_subplot(low[0]), {run.policy: found["runs"]}, _until(recording))
        untold = "" if recording.whole else "; the verdicts on so many are not kept"
        places = by_place(recording, found, _PLACES)
        _stacked(figure.add_subplot(low[1]), 4.8, places, f"PAUSE exits by place{untold}")
        counts = f"{units.count(run.ple.exits)} PAUSE exits, the longest run {units.count(run.ple.longest_run)}"
        _headed(figure, f"{shortened(scenario.name, 40)}, {shortened(run.policy, 40)}: {counts}")
    if path is not None:
        save(figure, path)
    return figure


def plot_compare(cases: Sequence[tuple[str, Recording]], path: str | Path | None = None) -> Figure:
    """Draw several runs, write them to ``path`` if given, and return the figure.

    Exits by verdict, operations by VM, run lengths; and above these the timelines of the first few.
    """
    found = {name: tables(recording) for name, recording in cases}
    shown = list(cases)[:_TIMELINES]
    lanes = [min(one.scenario.hardware.pcpus, 24) for _, one in shown]
    scenario = cases[0][1].scenario
    with look():
        figure = new_figure(12, 3.8 + sum(0.62 + 0.19 * count for count in lanes) + 0.12 * len(cases))
        heights = [0.45 + 0.19 * count for count in lanes]
        grid = figure.add_gridspec(len(shown) + 1, 1, height_ratios=[*heights, 2.2 + 0.12 * len(cases)])
        axes: list[Any] = []
        for number, (name, recording) in enumerate(shown):
            axes.append(figure.add_subplot(grid[number], sharex=axes[0] if axes else None))
            head = f"{shortened(name, 60)}: {units.count(recording.run.ple.exits)} PAUSE exits{_until(recording)}"
            draw_timeline(axes[-1], recording, found[name], head, labelled=number == len(shown) - 1)
        _vcpu_legend(axes[0], 10.3, shown[0][1])
        low = grid[len(shown)].subgridspec(1, 3, width_ratios=(1, 1, 1 if len(cases) <= _FEW else 1.5))
        exits, done, lengths = (figure.add_subplot(low[column]) for column in range(3))
        _stacked(exits, 2.9, {name: of_all(recording.run) for name, recording in cases}, "PAUSE exits")
        _operations(done, cases)
        parts = dict.fromkeys(_until(recording) for _, recording in cases if not recording.every_event)
        _lengths(lengths, {name: found[name]["runs"] for name, _ in cases}, next(iter(parts), ""))
        title = f"{shortened(scenario.name, 40)}: {len(cases)} runs"
        _headed(figure, title + (f" (timelines of the first {_TIMELINES})" if len(cases) > _TIMELINES else ""))
    if path is not None:
        save(figure, path)
    return figure


def _headed(figure: Figure, title: str) -> None:
    figure.suptitle(title, fontsize=12, fontweight="bold", x=0.01, ha="left")


def draw_timeline(
    axis: Any, recording: Recording, found: dict[str, Columns], title: str, *, labelled: bool = True
) -> None:
    """Draw all pCPUs of a run on an axis in ms."""
    scenario = recording.scenario
    pcpus, end = scenario.hardware.pcpus, int(recording.ns(recording.until))
    image = lanes_image(found, pcpus, thread_names(scenario), thread_colours(scenario), 0, end)
    extent = (0, end / 1e6, pcpus - 0.5, -0.5)
    axis.imshow(image, extent=extent, aspect="auto", interpolation="antialiased")
    middle = (ROWS - 5 + 6) / 2 / ROWS - 0.5  # of the lane, without what is above and below it
    every = max(1, -(-pcpus // 24))
    axis.set_yticks([cpu + middle for cpu in range(0, pcpus, every)], [f"pCPU {cpu}" for cpu in range(0, pcpus, every)])
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.set_title(title)
    axis.tick_params(axis="x", labelbottom=labelled)
    if labelled:
        axis.set_xlabel("ms")


def _until(recording: Recording) -> str:
    """Which part of a run is drawn, unless it is all of it."""
    shown = recording.ns(recording.until) / 1e6
    return "" if recording.every_event else f"; the first {shown:.1f} ms of {recording.run.duration_ns / 1e6:g}"


def _vcpu_legend(axis: Any, width: float, recording: Recording) -> None:
    from matplotlib.patches import Patch

    scenario = recording.scenario
    names, colours = thread_names(scenario)[:-1], thread_colours(scenario)
    coloured = list(zip(names, colours, strict=True))
    if len(names) > _VCPUS_NAMED:
        coloured = [(vm.name, vm_colour(number)) for number, vm in enumerate(scenario.vm[:8])]
    patches = [Patch(color=colour, label=shortened(name, _LONGEST_NAME)) for name, colour in coloured]
    legend_above(axis, width, patches)


def _windows(axis: Any, recording: Recording, found: dict[str, Columns]) -> None:
    windows, colours = found["windows"], thread_colours(recording.scenario)
    numbers = {(vm.name, vcpu): None for vm in recording.scenario.vm for vcpu in range(vm.vcpus)}
    for number, (vm, vcpu) in enumerate(numbers):
        mine = (np.asarray(windows["vm"], object) == vm) & (np.asarray(windows["vcpu_id"]) == vcpu)
        if mine.any():
            times, new = windows["time_ns"][mine] / 1e6, windows["new"][mine]
            times = np.concatenate(([0.0], times, [recording.ns(recording.until) / 1e6]))
            values = np.concatenate((windows["old"][mine][:1], new, new[-1:]))
            axis.plot(times, values, drawstyle="steps-post", color=colours[number], linewidth=0.9, rasterized=True)
    unit = "PAUSEs" if recording.scenario.hardware.is_amd else "TSC ticks"
    axis.set_title(f"Window over time, {unit}")
    axis.set_xlabel("ms")
    axis.grid(axis="y")
    if len(windows["new"]):
        axis.set_yscale("log", base=2)
        axis.yaxis.set_major_formatter(lambda value, _: f"{round(value):,}")
    else:
        _nothing(axis, "it did not change")


def _lengths(axis: Any, runs: dict[str, Columns], until: str) -> None:
    """PAUSE exits that belong to a run of at least so many, as a share of all."""
    axis.set_title("PAUSE exits in runs of at least n")
    most, thickest = 1, 1.6 if len(runs) == 1 else 5.0
    for number, (name, found) in enumerate(runs.items()):
        lengths = np.sort(np.asarray(found["length"]))
        if not len(lengths):
            continue
        share = 100 * np.cumsum(lengths[::-1])[::-1] / lengths.sum()
        at, first = np.unique(lengths, return_index=True)
        most = max(most, int(at[-1]))
        axis.plot(
            np.concatenate(([1], at, at[-1:])),
            np.concatenate(([100], share[first], [0])),
            drawstyle="steps-pre",
            color=vm_colour(number),
            linestyle=_STYLES[number // _FEW % len(_STYLES)],
            linewidth=max(1.2, thickest - 1.1 * number),  # the same line twice is seen
            label=shortened(name, _LONGEST_ROW),
        )
    axis.set_xscale("log", base=2)
    axis.set_xlim(1, max(2, most * 1.3))
    axis.xaxis.set_major_formatter(lambda value, _: f"{round(value):,}")
    axis.set_ylim(0, 104)
    axis.set_ylabel("%")
    axis.set_xlabel(f"n{until}")
    axis.grid()
    if not axis.lines:
        _nothing(axis, "no PAUSE exits")
    elif len(runs) > _FEW:
        axis.legend(loc="upper left", bbox_to_anchor=(1, 1), borderaxespad=0.1, fontsize=7)
    elif len(runs) > 1:
        axis.legend(loc="best")


def _stacked(axis: Any, width: float, rows: Counts, title: str) -> None:
    """Draw a bar for each row, in its parts."""
    left = np.zeros(len(rows))
    for number, part in enumerate(PARTS):
        values = np.array([counts[number] for counts in rows.values()], float)
        if values.any():
            axis.barh(range(len(rows)), values, 0.7, left=left, color=PART_COLOURS[part], label=part)
        left += values
    for place, total in enumerate(left):
        axis.annotate(
            units.count(int(total)), (total, place), (3, 0), textcoords="offset points", va="center", fontsize=8
        )
    _named(axis, list(rows), title)
    if left.any():
        axis.set_xlim(0, left.max() * 1.16)
        legend_above(axis, width)
    else:
        _nothing(axis, "none")


def _operations(axis: Any, cases: Sequence[tuple[str, Recording]]) -> None:
    left = np.zeros(len(cases))
    names = [vm.name for vm in cases[0][1].run.vms]
    for number, name in enumerate(names):
        values = np.array([recording.run.vms[number].operations for _, recording in cases], float)
        axis.barh(
            range(len(cases)), values, 0.7, left=left, color=vm_colour(number), label=shortened(name, _LONGEST_NAME)
        )
        left += values
    for place, total in enumerate(left):
        axis.annotate(
            units.count(int(total)), (total, place), (3, 0), textcoords="offset points", va="center", fontsize=8
        )
    _named(axis, [name for name, _ in cases], "Operations")
    axis.set_xlim(0, max(1.0, left.max() * 1.16))
    if len(names) > 1:
        legend_above(axis, 2.9)


def _named(axis: Any, names: Sequence[str], title: str) -> None:
    axis.set_yticks(range(len(names)), [shortened(name, _LONGEST_ROW) for name in names])
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.set_title(title)
    axis.grid(axis="x")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def _nothing(axis: Any, text: str) -> None:
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color="#8a939c")
