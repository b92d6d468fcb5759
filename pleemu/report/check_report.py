"""What `pleemu check` shows: a line a property, then each counterexample as a command that repeats it."""

from __future__ import annotations

import json

from rich.console import Group, RenderableType
from rich.text import Text

from pleemu.checks.kit import Checked, Verdict
from pleemu.report.grid import Column, Grid

CHECK_KEYS = {
    "policy": "its name",
    "seed": "of the search",
    "examples": "machines that were made",
    "holds": "whether all properties hold",
    "properties": "a list: number, name, what, runs, holds, not_about; if it fails cycle, pcpu, vcpus, error, command",
}


def check_report(checked: Checked) -> RenderableType:
    """Return the table of properties and the counterexamples."""
    columns = (
        Column("", left=True),
        Column("property", left=True),
        Column("what", left=True, shrinks=True),
        Column("runs"),
        Column("", left=True, wraps=True),
    )
    title = f"{checked.policy}: {checked.examples} machines, seed {checked.seed}, {checked.seconds:.0f} s"
    grid = Grid(title, columns)
    parts: list[RenderableType] = [grid]
    for one in checked.verdicts:
        of = one.of
        grid.add(of.number, of.name, of.what, f"{one.runs:,}" if one.runs else "-", _verdict(one))
        if one.finding is not None:
            parts += [Text(f"\n{of.name} fails: {one.finding.error}", "bold red", overflow="ignore")]
            parts += [Text(str(one.finding.command), overflow="ignore", no_wrap=True)]
    return Group(*parts)


def _verdict(one: Verdict) -> Text:
    if one.finding is not None:
        return Text("fails", "bold red")
    return Text("holds", "green") if one.runs else Text(one.not_about or "in none of the runs", "dim")


def check_json(checked: Checked) -> str:
    """Return the same as JSON; the keys are those of CHECK_KEYS."""
    properties = []
    for one in checked.verdicts:
        of = one.of
        row = {"number": of.number, "name": of.name, "what": of.what, "runs": one.runs, "holds": one.holds}
        row["not_about"] = one.not_about
        if one.finding is not None:
            error = one.finding.error
            row |= {"cycle": error.cycle, "pcpu": error.pcpu, "vcpus": list(error.vcpus), "error": error.what}
            row["command"] = str(one.finding.command)
        properties.append(row)
    whole = {"policy": checked.policy, "seed": checked.seed, "examples": checked.examples, "holds": checked.holds}
    return json.dumps({**whole, "properties": properties}, indent=2)
