"""What PAUSE exits waited for, as a table in the form of the talk's "Functionality / Function causing PLE events"."""

from __future__ import annotations

from pleemu.machine.causes import Attribution
from pleemu.machine.result import Run
from pleemu.report import units
from pleemu.report.grid import Column, Grid

_ROWS_SHOWN = 12
_FUNCTIONALITY = {
    "lock": "lock",
    "shared lock": "lock, shared",
    "answer": "answer",
    "barrier": "barrier",
    "unknown": "not known",
}
# Columns of causes; what is not here is nobody's fault, or not known.
_CAUSES = {
    "holder preempted": "holder off",
    "waiter preempted": "next off",
    "target preempted": "target off",
    "absent": "late one off",
    "halted": "halted",
    "running": "running",
    "nobody can act": "deadlock",
}


def cause_table(run: Run) -> Grid:
    """Return what the PAUSE exits waited for, where, and why it did not come."""
    several = len(run.scenario.vm) > 1
    shown = {name: title for name, title in _CAUSES.items() if run.causes.of(name)}
    grid = Grid(
        f"What causes the PAUSE exits: {units.percent(run.causes.attributed, run.causes.exits)} of them have a "
        "function and a wait",
        (
            Column("functionality", left=True),
            Column("function", left=True, shrinks=True),
            Column("waits for", left=True, shrinks=True, minor=3),
            *((Column("VM", left=True, shrinks=True, minor=4),) if several else ()),
            Column("exits"),
            Column("share", minor=2),
            *(Column(title, minor=1 if title in ("running", "halted", "deadlock") else 0) for title in shown.values()),
        ),
        note=_note(run),
    )
    for row in run.causes.rows[:_ROWS_SHOWN]:
        grid.add(
            _FUNCTIONALITY[row.wait],
            function_of(row),
            row.object or "-",
            *((row.vm,) if several else ()),
            units.count(row.exits),
            units.percent(row.exits, run.causes.exits),
            *(units.count(row.causes.get(cause, 0)) for cause in shown),
            style="dim" if row.wait == "unknown" else "",
        )
    if rest := run.causes.rows[_ROWS_SHOWN:]:
        exits = sum(row.exits for row in rest)
        name = f"and {len(rest)} more rows"
        counts = (units.count(sum(row.causes.get(cause, 0) for row in rest)) for cause in shown)
        vm = ("",) if several else ()
        grid.add("", name, "", *vm, units.count(exits), units.percent(exits, run.causes.exits), *counts, style="dim")
    return grid


def function_of(row: Attribution) -> str:
    """Return the function, with the loop inside it."""
    return f"{row.function} ({row.loop})" if row.loop else row.function


def _note(run: Run) -> str:
    note = (
        "Off: has no pCPU. Holder off: of all that a spinner waits for at last, a lock holder is preempted (LHP); next "
        "off: a lock is free and the next to have it is preempted (LWP); target off: "
        "who owes an answer to an IPI or a request; late one off: who has yet to arrive at a barrier."
    )
    stood = [f"{units.count(one.exits)} in {one.loop or one.function}" for one in run.causes.waiters[:_ROWS_SHOWN]]
    return f"{note} The next one stood: {', '.join(stood)}." if stood else note
