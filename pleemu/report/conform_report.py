"""What `pleemu conform` shows: a line a file, then the first difference of each in full."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from pleemu.conform.replay import Conformance
from pleemu.report.grid import Column, Grid


def conform_report(files: Sequence[Conformance]) -> RenderableType:
    """Return the table of all files and the first difference in each."""
    columns = (
        Column("file", left=True, shrinks=True),
        Column("replays", left=True),
        Column("agree"),
        Column("of"),
        Column("", left=True),
    )
    grid = Grid("Recorded cases", columns)
    parts: list[RenderableType] = [grid]
    for one in files:
        agrees = one.first is None
        verdict = Text("all agree" if agrees else f"{len(one.different)} differ", "green" if agrees else "bold red")
        grid.add(one.path, one.what, f"{one.agreeing:,}", f"{one.cases:,}", verdict)
        if one.first is not None:
            parts += [Text(f"\n{one.path}: {one.first.case} is the first that differs", style="bold")]
            parts += [Text(one.first.text, overflow="fold")]
    return Group(*parts)
