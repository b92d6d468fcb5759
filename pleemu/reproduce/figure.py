"""Ratios with their intervals as a drawing: a row for each, on a logarithmic axis, beside what was published."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from attrs import frozen

from pleemu.reproduce.statistics import Interval

_ROW, _LABELS, _PLOT, _TOP, _AXIS = 18, 290, 400, 26, 30  # pixels
_WIDTH = _LABELS + _PLOT + 20
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50, 100)
_WIDEST = 100.0  # a ratio beyond it, or below its inverse, is drawn at the edge


@frozen(kw_only=True)
class Mark:
    """One row of a drawing."""

    label: str
    ours: Interval
    published: float | None = None
    color: int = 0  # number of its class


def ratio_figure(title: str, marks: Sequence[Mark]) -> str:
    """Return the drawing as SVG, which needs the page's style for its colours."""
    least, most = _range(marks)

    def x(ratio: float) -> float:
        clipped = min(max(ratio, least), most)
        return _LABELS + _PLOT * math.log(clipped / least) / math.log(most / least)

    height = _TOP + _ROW * len(marks) + _AXIS
    parts = [
        f'<svg class="figure" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img" '
        f'aria-label="{escape(title)}">',
        f'<text class="title" x="0" y="14">{escape(title)}</text>',
    ]
    bottom = _TOP + _ROW * len(marks)
    for tick in _TICKS:
        if least <= tick <= most:
            kind = "one" if tick == 1 else "grid"
            parts.append(f'<line class="{kind}" x1="{x(tick):.1f}" y1="{_TOP}" x2="{x(tick):.1f}" y2="{bottom}"/>')
            parts.append(f'<text class="tick" x="{x(tick):.1f}" y="{bottom + 14}">x{tick:g}</text>')
    for number, mark in enumerate(marks):
        parts.append(_mark(mark, x, _TOP + _ROW * number + _ROW / 2))
    return "\n".join([*parts, "</svg>"])


def _mark(mark: Mark, x, y: float) -> str:  # type: ignore[no-untyped-def]
    ours = mark.ours
    said = f"{mark.label}: x{ours.mean:.3g} [{ours.low:.3g}, {ours.high:.3g}]"
    drawn = [
        f'<g class="c{mark.color}"><title>{escape(said)}</title>',
        f'<text class="label" x="{_LABELS - 8}" y="{y + 4:.1f}">{escape(mark.label)}</text>',
        f'<line class="bar" x1="{x(ours.low):.1f}" y1="{y:.1f}" x2="{x(ours.high):.1f}" y2="{y:.1f}"/>',
        f'<circle cx="{x(ours.mean):.1f}" cy="{y:.1f}" r="4"/>',
    ]
    if mark.published is not None:
        at = x(mark.published)
        drawn.append(
            f'<path class="published" d="M{at:.1f} {y - 6:.1f} l6 6 l-6 6 l-6 -6 z">'
            f"<title>published: x{mark.published:.3g}</title></path>"
        )
    return "".join([*drawn, "</g>"])


def _range(marks: Sequence[Mark]) -> tuple[float, float]:
    values = [1 / 1.05, 1.05]
    for mark in marks:
        values += [mark.ours.mean, mark.ours.low, mark.ours.high]
        values += [] if mark.published is None else [mark.published]
    inside = [min(max(value, 1 / _WIDEST), _WIDEST) for value in values]
    return min(inside) / 1.1, max(inside) * 1.1
