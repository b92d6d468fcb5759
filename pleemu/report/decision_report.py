"""PAUSE exits judged by the ground truth, as tables."""

from __future__ import annotations

from pleemu.hypervisor.rules import RULES
from pleemu.machine.judgement import Judgement
from pleemu.machine.result import Run
from pleemu.report import units
from pleemu.report.grid import Column, Grid

_RULES_SHOWN = 8


def verdict_table(run: Run) -> Grid:
    """Return whom KVM nominated, by verdict."""
    total = run.decisions.total
    grid = Grid(
        f"PAUSE exits by verdict: precision {share(total.precision)}, recall {share(total.recall)}, "
        f"{mean(total.exits_per_hand_over)} exits per hand-over",
        (
            Column("VM", left=True, shrinks=True),
            Column("useful"),
            Column("wasted"),
            Column("irrelevant"),
            Column("nobody"),
            Column("unknown", minor=4),
            Column("possible", minor=1),
            Column("ran after"),
            Column("released after", minor=2),
            Column("spinning", minor=3),
        ),
        note="Useful: the nominated vCPU is one that the spinner waits for, can act, and lacks only a pCPU; wasted: it "
        "waits itself; irrelevant: the spinner does not wait for it. Precision: useful of all nominations; recall: of "
        "the exits at which it was possible. Ran after: mean time from such an exit until somebody useful ran: the "
        "hand-over; released after: until the lock changed hands or the answer came. Spinning: guest time in waits."
        + _pending(run),
    )
    for one in run.decisions.vms:
        _add(grid, one.vm, one)
    if len(run.decisions.vms) > 1:
        _add(grid, "all", total)
    return grid


def _pending(run: Run) -> str:
    """Say how many exits have no verdict, so that the columns add up to all."""
    missing = run.ple.exits - run.decisions.total.judged
    return f" Of {units.count(missing)} more the run ended before KVM had decided." if missing > 0 else ""


def _add(grid: Grid, name: str, one: Judgement) -> None:
    grid.add(
        name,
        *(units.count(count) for count in (one.useful, one.wasted, one.irrelevant, one.nobody, one.unknown)),
        units.count(one.useful_possible),
        "-" if one.ran_after_ns is None else units.time(one.ran_after_ns),
        "-" if one.released_after_ns is None else units.time(one.released_after_ns),
        units.time(one.spin_ns),
    )


def refusal_table(run: Run) -> Grid:
    """Return which rules passed over candidates, and how often over one that was useful."""
    grid = Grid(
        "Candidates passed over, by rule",
        (
            Column("rule", left=True),
            Column("times"),
            Column("useful ones"),
            Column("refuses who is", left=True, wraps=True),
        ),
    )
    for one in run.decisions.refusals[:_RULES_SHOWN]:
        grid.add(one.rule, units.count(one.count), units.count(one.useful), RULES.get(one.rule, ""))
    return grid


def share(value: float | None) -> str:
    """Return a share in percent, or a dash."""
    return "-" if value is None else units.percent(value)


def mean(value: float | None) -> str:
    """Return a mean with two digits behind the point, or a dash."""
    return "-" if value is None else f"{value:,.2f}"
