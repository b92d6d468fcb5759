"""The report of a comparison across values of fields: one row a value, and what PAUSE did there."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from pleemu.machine.result import Run
from pleemu.report import units
from pleemu.report.grid import Column, Grid
from pleemu.report.run_report import paragraph


def across_report(rows: Sequence[tuple[str, Run]], what: str) -> RenderableType:
    """Return the report of at least one named run; ``what`` is what the runs differ in."""
    scenario = rows[0][1].scenario
    policies = ", ".join(dict.fromkeys(run.policy for _, run in rows))
    head = Text.assemble((scenario.name, "bold"), f"  {len(rows)} runs  policy {policies}  seed {rows[0][1].seed}\n")
    if scenario.summary:
        head.append(f"{scenario.summary.strip()}\n", "italic")
    seconds = sum(run.wall_seconds for _, run in rows)
    head.append(f"emulated in {seconds:.2f} s together", "dim")
    sections: list[RenderableType] = [head, Text(), across_table(rows, what), Text()]
    if scenario.look_for:
        sections += [paragraph("Look for", scenario.look_for), Text()]
    return Group(*sections)


def across_table(rows: Sequence[tuple[str, Run]], what: str) -> Grid:
    """Return one row a run."""
    grid = Grid(
        f"Across {what}",
        (
            Column(what, left=True, shrinks=True),
            Column("PAUSE", minor=2),
            Column("spacing"),
            Column("PAUSEs"),
            Column("exits"),
            Column("guest/exit"),
            Column("longest", minor=3),
            Column("yields", minor=4),
            Column("operations"),
            Column("ratio", minor=1),
        ),
        note="PAUSE: its cycles. Spacing: TSC ticks from PAUSE to PAUSE in a bare loop (pause; cmp; jne). "
        "PAUSEs: of the loop, before the first exit. Guest/exit: kvm_entry to kvm_exit. "
        "Longest: exits in a row at one address. Yields: honoured/attempts. Ratio: to the first row.",
    )
    reference = _operations(rows[0][1])
    for name, run in rows:
        hardware, ple = run.scenario.hardware, run.ple
        preset = hardware.costs()
        attempts, honoured = sum(one.attempts for one in run.boosts), sum(one.honoured for one in run.boosts)
        grid.add(
            name,
            str(preset.pause_cycles),
            f"{preset.spin_loop_ticks(hardware.tsc_rate_khz, hardware.core_rate_khz):.1f}",
            "-" if ple.pauses_before_first is None else units.count(ple.pauses_before_first),
            units.count(ple.exits),
            "-" if ple.guest_ns is None else units.time(ple.guest_ns),
            units.count(ple.longest_run),
            f"{units.count(honoured)}/{units.count(attempts)}" if attempts else "-",
            units.count(_operations(run)),
            units.ratio(_operations(run), reference),
            style="" if ple.exits else "dim",
        )
    return grid


def _operations(run: Run) -> int:
    return sum(vm.operations for vm in run.vms)
