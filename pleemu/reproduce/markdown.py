"""The results in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from pleemu.reproduce.results import Results
from pleemu.reproduce.tables import COLUMNS_HELP, HOW, Table, findings_table, measurements_table
from pleemu.reproduce.terminal import tally


def markdown_findings(results: Results) -> str:
    """Return the table of published results, beside ours."""
    table = findings_table(results)
    return "\n\n".join((_table(table), tally(results), *(f"**{head}.** {text}" for head, text in HOW))) + "\n"


def markdown_report(results: Results) -> str:
    """Return everything."""
    sections = ["# The evaluation, reproduced", markdown_findings(results).rstrip()]
    for part in results.parts:
        table = measurements_table(part)
        sections += [f"## {table.title}", *table.notes, _table(table)]
    return "\n\n".join([*sections, COLUMNS_HELP]) + "\n"


def _table(table: Table) -> str:
    rule = ["---"] * table.left + ["---:"] * (len(table.head) - table.left)
    if table.head[-1] == "verdict":
        rule[-1] = "---"
    return "\n".join(_line(cells) for cells in (table.head, rule, *table.rows))


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
