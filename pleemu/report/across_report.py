"""The report of a comparison across values of fields: one row a value, and what PAUSE did there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from pleemu.machine.result import Run
from pleemu.report import units
from pleemu.report.compare_report import ran_after
from pleemu.report.grid import Column, Grid
from pleemu.report.run_report import paragraph, profile_notes, seeds_of


def across_report(rows: Sequence[tuple[str, Run]], what: str) -> RenderableType:
    """Return the report of at least one named run; ``what`` is what the runs differ in."""
    scenario = rows[0][1].scenario
    policies = ", ".join(dict.fromkeys(run.policy for _, run in rows))
    seeds = seeds_of(run for _, run in rows)
    head = Text.assemble((scenario.name, "bold"), f"  {len(rows)} runs  policy {policies}  {seeds}\n")
    if scenario.summary:
        head.append(f"{scenario.summary.strip()}\n", "italic")
    seconds = sum(run.wall_seconds for _, run in rows)
    head.append(f"emulated in {seconds:.2f} s together", "dim")
    sections: list[RenderableType] = [head, Text(), across_table(rows, what), Text()]
    for notes in profile_notes(run.scenario for _, run in rows):
        sections += [notes, Text()]
    if scenario.look_for:
        sections += [paragraph("Look for", scenario.look_for), Text()]
    return Group(*sections)


def across_table(rows: Sequence[tuple[str, Run]], what: str) -> Grid:
    """Return one row a run; what PAUSE is like only where the rows differ in that."""
    columns = _YIELD_COLUMNS
    if len({run.scenario.hardware for _, run in rows}) > 1:
        columns = _PAUSE_COLUMNS + columns
    grid = Grid(
        f"Across {what}",
        (Column(what, left=True, shrinks=True), *(column for column, _, _ in columns)),
        note=" ".join(note for _, note, _ in columns if note),
    )
    reference = rows[0][1]
    for name, run in rows:
        cells = [cell(run, reference) for _, _, cell in columns]
        grid.add(name, *cells, style="" if run.ple.exits else "dim")
    return grid


def _spacing(run: Run, _: Run) -> str:
    hardware = run.scenario.hardware
    ticks = hardware.costs().spin_loop_ticks(hardware.tsc_rate_khz, hardware.core_rate_khz)
    return f"{ticks:.1f}"


def _pauses(run: Run, _: Run) -> str:
    before = run.ple.pauses_before_first
    return "-" if before is None else units.count(before)


def _yields(run: Run, _: Run) -> str:
    attempts, honoured = sum(one.attempts for one in run.boosts), sum(one.honoured for one in run.boosts)
    return f"{units.count(honoured)}/{units.count(attempts)}" if attempts else "-"


def _most(run: Run, _: Run) -> str:
    return units.time(max(one.most_ns for one in run.boosts)) if any(one.ran for one in run.boosts) else "-"


def _operations(run: Run) -> int:
    return sum(vm.operations for vm in run.vms)


_Cell = Callable[[Run, Run], str]  # of a run, beside the first one

# Column, what it means, and its cells.
_PAUSE_COLUMNS: tuple[tuple[Column, str, _Cell], ...] = (
    (Column("PAUSE", minor=2), "PAUSE: its cycles.", lambda run, _: str(run.scenario.hardware.costs().pause_cycles)),
    (Column("spacing"), "Spacing: TSC ticks from PAUSE to PAUSE in a bare loop (pause; cmp; jne).", _spacing),
    (Column("PAUSEs"), "PAUSEs: of the loop, before the first exit.", _pauses),
)
_YIELD_COLUMNS: tuple[tuple[Column, str, _Cell], ...] = (
    (Column("exits"), "", lambda run, _: units.count(run.ple.exits)),
    (
        Column("guest/exit", minor=5),
        "Guest/exit: kvm_entry to kvm_exit.",
        lambda run, _: "-" if run.ple.guest_ns is None else units.time(run.ple.guest_ns),
    ),
    (
        Column("longest", minor=3),
        "Longest: exits in a row at one address.",
        lambda run, _: units.count(run.ple.longest_run),
    ),
    (Column("yields", minor=4), "Yields: honoured/attempts.", _yields),
    (
        Column("ran after"),
        "Ran after: mean time from an accepted yield until the nominated vCPU ran.",
        lambda run, _: ran_after(run),
    ),
    (Column("at most", minor=6), "", _most),
    (Column("operations"), "", lambda run, _: units.count(_operations(run))),
    (
        Column("ratio", minor=1),
        "Ratio: to the first row.",
        lambda run, first: units.ratio(_operations(run), _operations(first)),
    ),
)
