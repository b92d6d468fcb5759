"""The results as tables of plain text, the same for the terminal, Markdown and the page."""

from __future__ import annotations

from collections.abc import Callable

from attrs import field, frozen

from pleemu.reproduce import statistics, verdict
from pleemu.reproduce.plan import Part
from pleemu.reproduce.published import LEAST, SHARE
from pleemu.reproduce.results import ALL, Finding, Measurement, PartResult, Results
from pleemu.reproduce.statistics import Interval

CALIBRATION = (
    "Calibrated: what exits, entries, KVM's handler and a switch cost, on the KVM trace in the talk, which is of "
    "vanilla (26 us from exit to exit, of which the guest has 4.5). All figures of the applications are proposed "
    "(pleemu list profiles). Nothing was fitted to what a cure does: all of that is prediction."
)
LENGTHS = (
    "A turn of a vCPU is at most 12 ms, and most exits are 26 us apart: a run of half a second or a second has "
    "hundreds of turns, and its start, which is different, counts for little. Runs of 3 s (dedup and ebizzy -M of the "
    "talk) agree with those of 1 s within their intervals; of 250 ms they did not quite. What chance is left is in the "
    "intervals."
)
HOW = (
    ("Statistics", statistics.HOW),
    ("Verdicts", verdict.HOW),
    ("Calibration", CALIBRATION),
    ("Length of the runs", LENGTHS),
)


@frozen(kw_only=True)
class Table:
    """A head and rows of cells; the first `left` columns are text, the others numbers."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int
    notes: tuple[str, ...] = field(default=())


def findings_table(results: Results) -> Table:
    """Return every published result beside ours, with the verdict."""
    rows = tuple((part.part.name, *row) for part in results.parts for row in part_findings(part).rows)
    return Table(title="Published results, and pleemu's", head=("evaluation", *_FINDINGS_HEAD), rows=rows, left=5)


_FINDINGS_HEAD = ("setting", "policy", "of", "published", "pleemu", "verdict")


def part_findings(result: PartResult) -> Table:
    """Return what was published of one part."""
    rows = tuple(_finding_row(result.part, one) for one in result.findings)
    return Table(title="Published, and here", head=_FINDINGS_HEAD, rows=rows, left=4)


def _finding_row(part: Part, finding: Finding) -> tuple[str, ...]:
    claim = finding.claim
    setting = finding.setting
    if len(claim.settings) > 1 and setting != ALL:
        setting = f"{claim.pick} {len(claim.settings)}: {setting}"
    policy = part.policies[claim.policy] + (f" to {part.policies[claim.beside]}" if claim.beside else "")
    return (setting, policy, claim.measure, claim.text, ours_text(finding), finding.verdict)


def ours_text(finding: Finding) -> str:
    """Return what was measured, in the form of the claim: a change in percent, a share or a count."""
    kind = finding.claim.kind
    if kind == SHARE:
        return share_text(finding.ours)
    return count_text(finding.ours) if kind == LEAST else change_text(finding.ours)


def measurements_table(result: PartResult) -> Table:
    """Return all that was measured in one part."""
    shown = [(head, cell) for head, cell in _COLUMNS if any(cell(one) for one in result.measurements)]
    part = result.part
    per_run = f"{result.seeds} seeds, {result.duration_ms:g} ms emulated in each run."
    several = len(part.policies) > 1
    return Table(
        title=part.title,
        head=("setting", *(("policy",) if several else ()), *(head for head, _ in shown)),
        rows=tuple(
            (one.setting, *((part.policies[one.policy],) if several else ()), *(cell(one) or "-" for _, cell in shown))
            for one in result.measurements
        ),
        left=1 + several,
        notes=(f"{part.text} {per_run}",),
    )


def change_text(ours: Interval | None) -> str:
    """Return a ratio as a change in percent, with its bounds."""
    if ours is None:
        return "-"
    if ours.low == ours.high == 1:
        return "the same"
    changes = [100 * (value - 1) for value in (ours.mean, ours.low, ours.high)]
    return _with_bounds([f"{_limited(value):+.{_digits(changes[0])}f}" for value in changes], " %")


def share_text(ours: Interval | None) -> str:
    """Return a share in percent, with its bounds."""
    if ours is None:
        return "-"
    return _with_bounds([f"{100 * value:.0f}" for value in (ours.mean, max(0.0, ours.low), min(1.0, ours.high))], " %")


def count_text(ours: Interval | None) -> str:
    """Return a count with its bounds."""
    if ours is None:
        return "-"
    return _with_bounds([f"{value:,.0f}" for value in (ours.mean, max(0.0, ours.low), ours.high)], "")


def _with_bounds(texts: list[str], unit: str) -> str:
    mean, low, high = texts
    return f"{mean}{unit} [{low}, {high}]"


def _digits(change: float) -> int:
    return 1 if abs(change) < 10 else 0


def _limited(change: float) -> float:
    return min(change, 9_999.0)  # an interval of two seeds may reach anywhere


def _plain(value: float) -> str:
    return f"{value:,.0f}"


_Cell = Callable[[Measurement], str]  # nothing where it does not apply

_COLUMNS: tuple[tuple[str, _Cell], ...] = (
    ("exits/s", lambda one: _plain(one.exits_per_second.mean)),
    ("change", lambda one: "" if one.is_reference else change_text(one.exits)),
    ("continuous", lambda one: "" if one.continuous is None else f"{100 * one.continuous.mean:.0f} %"),
    ("longest", lambda one: _plain(one.longest.mean)),
    ("for IPIs", lambda one: "" if one.answers is None else f"{100 * one.answers.mean:.0f} %"),
    ("waiting", lambda one: f"{100 * one.spinning.mean:.0f} %"),
    ("ops/s", lambda one: _plain(one.operations_per_second.mean)),
    ("change", lambda one: "" if one.is_reference else change_text(one.operations)),
    ("co-runner", lambda one: "" if one.is_reference or one.neighbours is None else change_text(one.neighbours)),
)
COLUMNS_HELP = (
    "Exits: PAUSE exits, PLE events. Continuous: share of those in a row at one address; longest: of these rows. For "
    "IPIs: share of those that wait for the answer to an IPI; the others wait for locks. Waiting: share of the guest's "
    "time. Ops: operations of the application; co-runner: those of the other VM. Rates are per second of emulated "
    "time; changes are to the first row of the setting, or to the ticket lock."
)
