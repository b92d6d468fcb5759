"""The report of a comparison: one row a policy, beside the reference, and the runs on one time axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from pleemu.machine.result import Run
from pleemu.report import units
from pleemu.report.decision_report import mean, share
from pleemu.report.grid import Column, Grid
from pleemu.report.run_report import paragraph, profile_notes
from pleemu.report.timeline import TimelinePlot

_REFERENCE = "vanilla"
_VMS_SHOWN = 4
_SAME = 0.02  # a ratio this near to 1 has no colour


def compare_report(runs: Sequence[Run], *, hint: str = "") -> RenderableType:
    """Return the report of at least one run; ``hint`` is the next command to try."""
    sections = list(_sections(runs, hint))
    return Group(*(part for section in sections for part in (section, Text())))


def reference_of(runs: Sequence[Run]) -> Run:
    """Return the run that the others are measured by: vanilla, or else the first."""
    return next((run for run in runs if run.policy == _REFERENCE), runs[0])


def _sections(runs: Sequence[Run], hint: str) -> Iterator[RenderableType]:
    reference = reference_of(runs)
    yield _header(runs)
    yield policy_table(runs, reference)
    if any(run.ple.exits and run.decisions.vms for run in runs):
        yield decision_table(runs)
    if len(reference.vms) > 1:
        yield vm_table(runs, reference)
    yield TimelinePlot(runs)
    yield from profile_notes(run.scenario for run in runs)
    if reference.scenario.look_for:
        yield paragraph("Look for", reference.scenario.look_for)
    if hint:
        yield Text.assemble(("next: ", "dim"), (hint, "bold"))


def _header(runs: Sequence[Run]) -> Text:
    scenario = runs[0].scenario
    seconds = sum(run.wall_seconds for run in runs)
    text = Text.assemble((scenario.name, "bold"), f"  {len(runs)} policies  seed {runs[0].seed}\n")
    if scenario.summary:
        text.append(f"{scenario.summary.strip()}\n", "italic")
    emulated = units.time(max(run.duration_ns for run in runs))
    return text.append(f"{emulated} each, emulated in {seconds:.2f} s together", "dim")


def policy_table(runs: Sequence[Run], reference: Run) -> Grid:
    """Return one row a policy, with its ratio to the reference."""
    note = f"Ratios are to {reference.policy}" + (
        "." if reference.policy == _REFERENCE else f", the first policy, since {_REFERENCE} is not among them."
    )
    grid = Grid(
        "Policies",
        (
            Column("policy", left=True),
            Column("exits"),
            Column("ratio"),
            Column("continuous", minor=2),
            Column("longest"),
            Column("yields", minor=1),
            Column("ran after", minor=3),
            Column("operations"),
            Column("ratio"),
            Column("CPU by VM", left=True, minor=4),
        ),
        note=note + " Exits: PAUSE exits; continuous and longest: in runs at one address; yields: honoured/attempts; "
        "ran after: mean time from an accepted yield until the nominated vCPU ran.",
    )
    for run in runs:
        attempts, honoured = sum(one.attempts for one in run.boosts), sum(one.honoured for one in run.boosts)
        grid.add(
            Text(run.policy, "bold" if run is reference else ""),
            units.count(run.ple.exits),
            _judged(run.ple.exits, reference.ple.exits, less_is_better=True),
            units.percent(run.ple.continuous, run.ple.exits),
            units.count(run.ple.longest_run),
            f"{units.count(honoured)}/{units.count(attempts)}" if attempts else "-",
            ran_after(run),
            units.count(_operations(run)),
            _judged(_operations(run), _operations(reference)),
            _shares(run),
        )
    return grid


def decision_table(runs: Sequence[Run]) -> Grid:
    """Return what the ground truth says of each policy's nominations."""
    grid = Grid(
        "Nominations, judged by the ground truth",
        (
            Column("policy", left=True, shrinks=True),
            Column("precision"),
            Column("recall"),
            Column("exits/hand-over"),
            Column("ran after"),
            Column("released after", minor=1),
            Column("spinning", minor=2),
            Column("fairness", minor=3),
        ),
        note="Precision: useful of all nominations; recall: of the exits with somebody useful. Hand-over: somebody "
        "useful ran. Ran after, released after: mean times from the first such exit until then, and until the lock "
        "changed hands or the answer came. Spinning: share of the guest time. Fairness: Jain's index of CPU shares.",
    )
    for run in runs:
        total = run.decisions.total
        guest_ns = sum(vm.guest_share for vm in run.vms) * run.scenario.hardware.pcpus * run.duration_ns
        grid.add(
            run.policy,
            share(total.precision),
            share(total.recall),
            mean(total.exits_per_hand_over),
            "-" if total.ran_after_ns is None else units.time(total.ran_after_ns),
            "-" if total.released_after_ns is None else units.time(total.released_after_ns),
            units.percent(total.spin_ns, guest_ns),
            f"{run.fairness:.3f}",
        )
    return grid


def vm_table(runs: Sequence[Run], reference: Run) -> Grid:
    """Return what each VM got under each policy, for the first few VMs."""
    hidden = len(reference.vms) - _VMS_SHOWN
    grid = Grid(
        "By virtual machine",
        (
            Column("VM", left=True, shrinks=True),
            Column("policy", left=True, shrinks=True),
            Column("operations"),
            Column("ratio"),
            Column("CPU share"),
            Column("in guest", minor=1),
        ),
        note=f"and {hidden} more VMs; --json has them all" if hidden > 0 else "",
    )
    for number, vm in enumerate(reference.vms[:_VMS_SHOWN]):
        for run in runs:
            one = run.vms[number]
            grid.add(
                vm.name if run is runs[0] else "",
                run.policy,
                units.count(one.operations),
                _judged(one.operations, vm.operations),
                units.percent(one.cpu_share),
                units.percent(one.guest_share),
            )
    return grid


def ran_after(run: Run) -> str:
    """Return the mean time from the first accepted yield that named a vCPU until it ran."""
    ran = sum(one.ran for one in run.boosts)
    return units.time(sum(one.waited_ns for one in run.boosts) / ran) if ran else "-"


def _operations(run: Run) -> int:
    return sum(vm.operations for vm in run.vms)


def _shares(run: Run) -> str:
    shares = [f"{100 * vm.cpu_share:.0f}" for vm in run.vms[:_VMS_SHOWN]]
    of_host = f", host {100 * sum(one.cpu_share for one in run.threads):.0f} %" if run.threads else ""
    return "/".join(shares) + ("/..." if len(run.vms) > _VMS_SHOWN else "") + " %" + of_host


def _judged(value: int, reference: int, *, less_is_better: bool = False) -> Text:
    """Return a ratio, green where it is better than the reference and red where worse."""
    shown = units.ratio(value, reference)
    if not reference or abs(value / reference - 1) <= _SAME:
        return Text(shown)
    return Text(shown, "green" if (value < reference) == less_is_better else "red")
