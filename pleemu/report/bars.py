"""Measured values as bars with their confidence intervals, beside published ones.

draw_bars(
    [Panel(title="PAUSE exits", unit="share of vanilla", groups={
        "dedup": {"vanilla": Bar(1.0), "debooster": Bar(0.2, low=0.15, high=0.25, published=0.124)},
    })],
    "evaluation.png",
)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from attrs import frozen

from pleemu.report.colours import vm_colour
from pleemu.report.figures import look, new_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ACROSS = 2  # panels in a row
_PUBLISHED = "#1d242b"


@frozen
class Bar:
    """A mean, the ends of its confidence interval, and the published value if there is one."""

    value: float
    low: float | None = attrs.field(default=None, kw_only=True)
    high: float | None = attrs.field(default=None, kw_only=True)
    published: float | None = attrs.field(default=None, kw_only=True)


@frozen(kw_only=True)
class Panel:
    """One axis: groups of bars, as benchmarks, each with bars by series, as policies."""

    title: str
    unit: str  # of all values; the label of the axis
    groups: Mapping[str, Mapping[str, Bar]]
    line: float | None = None  # a value to draw a line at, as 1.0 for "as vanilla"


def draw_bars(panels: Sequence[Panel], path: str | Path | None = None, *, title: str = "") -> Figure:
    """Draw panels beside each other, write them to ``path`` (.png, .svg, .pdf) if given, and return the figure.

    A series has one colour in all panels. Published values are black diamonds. Raises `PleemuError` without matplotlib.
    """
    across = min(_ACROSS, max(1, len(panels)))
    down = max(1, -(-len(panels) // across))
    series = list(dict.fromkeys(name for panel in panels for bars in panel.groups.values() for name in bars))
    colours = {name: vm_colour(number) for number, name in enumerate(series)}
    with look():
        figure = new_figure(5.2 * across, 0.5 + 3.0 * down)
        axes = figure.subplots(down, across, squeeze=False).ravel()
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        for axis, panel in zip(axes, panels, strict=False):
            _draw(axis, panel, colours)
        _legend(figure, panels, colours)
        if title:
            figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    if path is not None:
        save(figure, path)
    return figure


def _draw(axis: Any, panel: Panel, colours: Mapping[str, str]) -> None:
    width = 0.8 / max(1, *(len(bars) for bars in panel.groups.values()), 1)
    for place, bars in enumerate(panel.groups.values()):
        for number, (name, bar) in enumerate(bars.items()):
            x = place + (number - (len(bars) - 1) / 2) * width
            axis.bar(x, bar.value, width * 0.9, color=colours[name])
            low, high = bar.low, bar.high
            if low is not None and high is not None:
                ends = [[max(0.0, bar.value - low)], [max(0.0, high - bar.value)]]
                axis.errorbar(x, bar.value, ends, color="#3b444d", linewidth=1, capsize=2)
            if bar.published is not None:
                axis.plot(x, bar.published, "D", color=_PUBLISHED, markersize=4.5, markeredgecolor="white", zorder=4)
    if panel.line is not None:
        axis.axhline(panel.line, color="#8a939c", linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    axis.set_xticks(range(len(panel.groups)), list(panel.groups))
    axis.tick_params(axis="x", length=0)
    axis.set_title(panel.title)
    axis.set_ylabel(panel.unit)
    axis.grid(axis="y")


def _legend(figure: Figure, panels: Sequence[Panel], colours: Mapping[str, str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=colour, label=name) for name, colour in colours.items()]
    bars = [bar for panel in panels for group in panel.groups.values() for bar in group.values()]
    if any(bar.published is not None for bar in bars):
        handles.append(Line2D([], [], marker="D", color=_PUBLISHED, linestyle="", markersize=4.5, label="published"))
    if any(bar.low is not None for bar in bars):
        handles.append(Line2D([], [], color="#3b444d", marker="|", linestyle="-", label="confidence interval"))
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)))
