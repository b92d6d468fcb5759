"""The results in the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from pleemu.report.grid import Column, Grid
from pleemu.report.run_report import paragraph
from pleemu.reproduce import verdict
from pleemu.reproduce.results import Results
from pleemu.reproduce.tables import COLUMNS_HELP, HOW, Table, measurements_table, part_findings
from pleemu.reproduce.verdict import DIRECTION, MAGNITUDE, NOT

_STYLES = {MAGNITUDE: "green", DIRECTION: "green", NOT: "red"}


def terminal_report(results: Results) -> RenderableType:
    """Return all tables and how to read them."""
    sections: list[RenderableType] = []
    for part in results.parts:
        sections += [_grid(measurements_table(part)), Text(), _findings(part_findings(part)), Text()]
    sections += [Text(COLUMNS_HELP, "dim"), Text(), Text(tally(results)), Text()]
    for head, text in HOW:
        sections += [paragraph(head, text), Text()]
    return Group(*sections)


def tally(results: Results) -> str:
    """Return how many results have which verdict."""
    verdicts = [one.verdict for one in results.findings]
    counts = ", ".join(f"{verdicts.count(one)} {one}" for one in verdict.VERDICTS if one in verdicts)
    quick = " (quick: too few and too short runs to judge by)" if results.quick else ""
    return f"Of {len(verdicts)} published results are reproduced: {counts}{quick}."


def _findings(table: Table) -> Grid:
    minor = {"policy": 1}
    columns = [Column(head, left=True, minor=minor.get(head, 0), shrinks=head == "published") for head in table.head]
    grid = Grid(table.title, columns)
    for row in table.rows:
        *cells, last = row
        grid.add(*cells, Text(last, _STYLES.get(last, "")))
    return grid


def _grid(table: Table) -> Grid:
    minor = {"co-runner": 1, "waiting": 2, "for IPIs": 3, "longest": 4, "continuous": 5}
    columns = [
        Column(head, left=number < table.left, minor=minor.get(head, 0)) for number, head in enumerate(table.head)
    ]
    grid = Grid(table.title, columns, note=" ".join(table.notes))
    for row in table.rows:
        grid.add(*row)
    return grid
