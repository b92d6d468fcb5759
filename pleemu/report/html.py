"""Reports as HTML: the same sections that a terminal gets, for notebooks and pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from rich.console import Console, Group, RenderableType
from rich.text import Text

from pleemu.machine.result import Run
from pleemu.report import units
from pleemu.report.across_report import across_report
from pleemu.report.compare_report import compare_report
from pleemu.report.grid import Grid
from pleemu.report.run_report import run_report
from pleemu.report.timeline import TimelinePlot, len_ns

# For a notebook, whose colours may be light or dark: only what is true for both.
_STYLE = """
.pleemu table { border-collapse: collapse; margin: 0.3em 0; font-size: 90%; }
.pleemu caption { text-align: left; font-weight: 600; padding: 0.3em 0; caption-side: top; white-space: nowrap; }
.pleemu th, .pleemu td { padding: 0.15em 0.8em 0.15em 0; text-align: right; font-variant-numeric: tabular-nums; }
.pleemu th { font-weight: 500; opacity: 0.75; border-bottom: 1px solid rgba(128, 128, 128, 0.5); }
.pleemu .left { text-align: left; }
.pleemu .note, .pleemu .dim { opacity: 0.7; }
.pleemu .note { max-width: 60em; font-size: 85%; margin-bottom: 1em; }
.pleemu .bold { font-weight: 600; } .pleemu .italic { font-style: italic; }
.pleemu .red { color: #d0342c; } .pleemu .green { color: #2f8f4e; } .pleemu .yellow { color: #b8860b; }
.pleemu p { white-space: pre-line; margin: 0.4em 0; max-width: 60em; }
.pleemu svg { display: block; margin: 0.3em 0; }
"""
_PLAIN = Console(
    width=10_000, color_system="truecolor", markup=False, emoji=False, highlight=False, legacy_windows=False
)
_COLOURS = ("red", "green", "yellow", "cyan")


def run_html(run: Run) -> str:
    """Return the report of one run, as a notebook shows it."""
    return _in_notebook([run_report(run), TimelinePlot([run])])


def compare_html(rows: Sequence[tuple[str, Run]], what: str) -> str:
    """Return the report of a comparison, as a notebook shows it; ``what``: in what the runs differ."""
    if not rows:
        return _in_notebook([Text("no runs")])
    runs = [run for _, run in rows]
    return _in_notebook([compare_report(runs) if what == "policy" else across_report(rows, what)])


def _in_notebook(parts: Iterable[RenderableType]) -> str:
    return f'<div class="pleemu"><style>{_STYLE}</style>{"".join(html_of(part) for part in parts)}</div>'


def html_of(part: RenderableType) -> str:
    """Return a part of a report as HTML; classes say what its texts and cells are like."""
    if isinstance(part, Group):
        return "".join(html_of(one) for one in part.renderables)
    if isinstance(part, Grid):
        return grid_html(part)
    if isinstance(part, TimelinePlot):
        return timeline_svg(part.runs)
    if isinstance(part, Text):
        return f"<p>{text_html(part)}</p>" if part.plain.strip() else ""
    raise TypeError(f"no HTML is known for {type(part).__name__}")


def text_html(text: Text) -> str:
    """Return a text with its styles as classes."""
    parts = []
    for segment in text.render(_PLAIN):
        style, shown = segment.style, escape(segment.text)
        names = [] if style is None else [name for name in ("bold", "dim", "italic") if getattr(style, name)]
        if style is not None and style.color is not None and style.color.name in _COLOURS:
            names.append(style.color.name)
        parts.append(f'<span class="{" ".join(names)}">{shown}</span>' if names and shown else shown)
    return "".join(parts)


def grid_html(grid: Grid) -> str:
    """Return a grid with all of its columns as a table."""
    sides = [' class="left"' if column.left else "" for column in grid.columns]
    head = "".join(f"<th{side}>{escape(column.name)}</th>" for side, column in zip(sides, grid.columns, strict=True))
    rows = "".join(
        f"<tr>{''.join(f'<td{side}>{text_html(cell)}</td>' for side, cell in zip(sides, cells, strict=True))}</tr>"
        for cells in grid.rows
    )
    note = f'<div class="note">{escape(grid.note)}</div>' if grid.note else ""
    table = f"<table><caption>{escape(grid.title)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f"{table}{note}"


_LANE, _WIDTH, _LABEL, _LANES = 12, 720, 90, 64  # px; lanes at most


def timeline_svg(runs: Sequence[Run]) -> str:
    """Return the runs on one time axis: bars are shares of a column on a pCPU, red where there were PAUSE exits."""
    total = max((len_ns(run) for run in runs), default=0) or 1
    parts: list[str] = []
    y = 0
    for run in runs:
        y += _LANE + 4
        parts.append(_label(0, y - 3, f"{run.policy}  {units.count(run.ple.exits)} PAUSE exits"))
        timeline = run.timeline
        most = max((exits for row in timeline.pause_exits for exits in row), default=0) or 1
        width = timeline.column_ns / total * _WIDTH
        lanes = list(zip(timeline.vcpu_names, timeline.running, timeline.pause_exits, strict=True))
        for name, running, pause_exits in lanes[:_LANES]:
            parts.append(_label(0, y + _LANE - 3, name))
            for column, (share, exits) in enumerate(zip(running, pause_exits, strict=True)):
                if share >= 0.02 or exits:
                    height = max(1.0, min(1.0, share) * (_LANE - 2))
                    colour = _heat(exits / most) if exits else "#6aa7bd"
                    parts.append(
                        f'<rect x="{_LABEL + column * width:.1f}" y="{y + _LANE - 1 - height:.1f}" '
                        f'width="{max(width, 0.3):.2f}" height="{height:.1f}" fill="{colour}"/>'
                    )
            y += _LANE
    parts.append(_label(_LABEL, y + _LANE, "0"))
    parts.append(_label(_LABEL + _WIDTH, y + _LANE, units.time(total), "end"))
    size = f'width="{_LABEL + _WIDTH}" height="{y + _LANE + 4}"'
    return f'<svg {size} role="img" aria-label="timeline" fill="currentColor">{"".join(parts)}</svg>'


def _label(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" font-size="10" text-anchor="{anchor}">{escape(text)}</text>'


def _heat(share: float) -> str:
    """Amber to red."""
    red, green, blue = (round(few + (many - few) * min(1.0, share)) for few, many in ((225, 225), (165, 50), (50, 45)))
    return f"#{red:02x}{green:02x}{blue:02x}"
