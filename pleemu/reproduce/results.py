"""From the records to what is shown: measurements with intervals, and verdicts on what was published."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from attrs import frozen

from pleemu.reproduce import published
from pleemu.reproduce.measures import Measures
from pleemu.reproduce.plan import Job, Part, Plan, Setting
from pleemu.reproduce.published import FUNCTIONS, KEEPS, RATIO, SHARE, WORST, Claim
from pleemu.reproduce.statistics import Interval, mean_interval, paired_ratio
from pleemu.reproduce.verdict import judge

ALL = "all"  # settings together

Runs = Mapping[tuple[str, str, str], Sequence[Measures]]  # part, setting, policy -> by seed

# "Function causing PLE events", the talk's table.
TALKS_FUNCTIONS = (
    "native_queued_spin_lock_slowpath",
    "queued_write_lock_slowpath",
    "queued_read_lock_slowpath",
    "try_to_wake_up",
    "smp_call_function_many",
    "smp_call_function_single",
)


@frozen(kw_only=True)
class Measurement:
    """One setting under one policy, over all seeds. Ratios are to the part's reference; None: to nothing."""

    setting: str
    policy: str
    exits_per_second: Interval  # of emulated time
    exits: Interval
    continuous: Interval | None  # share of the exits; None where a run has none
    longest: Interval
    answers: Interval | None  # share of the exits that wait for the answer to an IPI
    spinning: Interval  # share of the subjects' guest time
    operations_per_second: Interval
    operations: Interval
    neighbours: Interval | None
    is_reference: bool


@frozen(kw_only=True)
class Finding:
    """One published result and ours."""

    claim: Claim
    setting: str  # the one that decides
    ours: Interval | None
    verdict: str


@frozen(kw_only=True)
class PartResult:
    """All that a part showed."""

    part: Part
    seeds: int
    duration_ms: float
    measurements: tuple[Measurement, ...]
    findings: tuple[Finding, ...]


@frozen(kw_only=True)
class Results:
    """The whole evaluation."""

    quick: bool
    parts: tuple[PartResult, ...]
    runs: tuple[tuple[Job, str], ...]  # with the digest of all events

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every published result that the parts bear on."""
        return tuple(finding for part in self.parts for finding in part.findings)


def results_of(plan: Plan, records: Sequence[tuple[Job, Measures]]) -> Results:
    """Return what the records of all runs of a plan show, in the order of its jobs."""
    runs: dict[tuple[str, str, str], list[Measures]] = {}
    for job, measures in records:
        runs.setdefault((job.part, job.setting, job.policy), []).append(measures)
    return Results(
        quick=plan.quick,
        parts=tuple(_part(plan, part, runs) for part in plan.parts),
        runs=tuple((job, measures.digest) for job, measures in records),
    )


def _part(plan: Plan, part: Part, runs: Runs) -> PartResult:
    return PartResult(
        part=part,
        seeds=len(plan.seeds_of(part)),
        duration_ms=plan.duration_ms_of(part),
        measurements=tuple(
            _measurement(part, setting, policy, runs) for setting in part.settings for policy in part.policies
        ),
        findings=tuple(_finding(part, claim, runs) for claim in published.claims() if claim.part == part.name),
    )


def _measurement(part: Part, setting: Setting, policy: str, runs: Runs) -> Measurement:
    own = runs[part.name, setting.name, policy]

    def ratio(measure: str) -> Interval:
        return _ratio(part, setting.name, policy, measure, runs)

    def per_second(value: Callable[[Measures], float]) -> Interval:
        return mean_interval([value(one) * 1e9 / one.duration_ns for one in own])

    return Measurement(
        setting=setting.name,
        policy=policy,
        exits_per_second=per_second(lambda one: one.exits),
        exits=ratio(published.EXITS),
        continuous=_share(own, lambda one: one.continuous, lambda one: one.exits),
        longest=mean_interval([one.longest for one in own]),
        answers=_share(own, lambda one: one.waits.get("answer", 0), lambda one: one.exits),
        spinning=mean_interval([_spinning(one, setting) for one in own]),
        operations_per_second=per_second(lambda one: _operations(one, setting.subjects)),
        operations=ratio(published.OPERATIONS),
        neighbours=ratio(published.NEIGHBOUR) if setting.neighbours else None,
        is_reference=(setting.name, policy) == part.reference_of(setting.name, policy),
    )


def _share(
    runs: Sequence[Measures], part: Callable[[Measures], int], whole: Callable[[Measures], int]
) -> Interval | None:
    if not all(whole(one) for one in runs):
        return None
    return mean_interval([part(one) / whole(one) for one in runs])


def _operations(measures: Measures, vms: Sequence[int]) -> int:
    return sum(measures.operations[vm] for vm in vms)


def _spinning(measures: Measures, setting: Setting) -> float:
    guest_ns = sum(measures.guest_ns[vm] for vm in setting.subjects)
    return sum(measures.spin_ns[vm] for vm in setting.subjects) / max(1, guest_ns)


def _ratio(part: Part, setting: str, policy: str, measure: str, runs: Runs, beside: str | None = None) -> Interval:
    """Return the ratio of a setting under a policy to the reference, or to the policy ``beside``, of the same seeds."""
    chosen = {one.name: one for one in part.settings}[setting]
    own = runs[part.name, setting, policy]
    reference, other = part.reference_of(setting, policy)
    others = runs[part.name, reference, beside or other]
    value = _COUNTS[measure]
    ours = [value(one, chosen) for one in own]
    theirs = [value(one, chosen) for one in others]
    return paired_ratio(theirs, ours) if measure == published.TIME else paired_ratio(ours, theirs)


# Time is that for one operation: the inverse of how many there were in the time.
_COUNTS: Mapping[str, Callable[[Measures, Setting], float]] = {
    published.EXITS: lambda one, _: one.exits,
    published.OPERATIONS: lambda one, setting: _operations(one, setting.subjects),
    published.TIME: lambda one, setting: _operations(one, setting.subjects),
    published.SPINNING: lambda one, setting: 1e9 * _spinning(one, setting),  # ns of a second in the guest
    published.NEIGHBOUR: lambda one, setting: _operations(one, setting.neighbours),
}


def _finding(part: Part, claim: Claim, runs: Runs) -> Finding:
    if claim.measure == FUNCTIONS:
        ours: Interval | None = _functions(part, claim, runs)
        return Finding(claim=claim, setting=ALL, ours=ours, verdict=judge(claim, ours))
    found = {setting: _ours(part, claim, setting, runs) for setting in claim.settings}
    setting = decisive(claim, found)
    return Finding(claim=claim, setting=setting, ours=found[setting], verdict=judge(claim, found[setting]))


def _ours(part: Part, claim: Claim, setting: str, runs: Runs) -> Interval | None:
    if claim.kind != SHARE and claim.measure != published.LONGEST:
        return _ratio(part, setting, claim.policy, claim.measure, runs, claim.beside or None)
    own = runs[part.name, setting, claim.policy]
    if claim.measure == published.LONGEST:
        return mean_interval([one.longest for one in own])
    if claim.measure == published.SPINNING:
        chosen = {one.name: one for one in part.settings}[setting]
        return mean_interval([_spinning(one, chosen) for one in own])
    return _share(own, lambda one: one.continuous, lambda one: one.exits)


def decisive(claim: Claim, found: Mapping[str, Interval | None]) -> str:
    """Return the setting that decides on a claim: the best one, or the worst; one without a value is the worst.

    Where something shall keep what it has, the worst is the one that may have lost most.
    """
    below = claim.less if claim.value is None or claim.kind != RATIO else claim.value < 1

    def goodness(setting: str) -> float:
        ours = found[setting]
        if ours is None:
            return float("-inf")
        if claim.kind == KEEPS:
            return ours.low
        return -ours.mean if below else ours.mean

    return (min if claim.pick == WORST else max)(found, key=goodness)


def _functions(part: Part, claim: Claim, runs: Runs) -> Interval:
    """Return how many of the talk's functions cause PAUSE exits, in all settings of a seed together."""
    by_seed = zip(*(runs[part.name, setting, claim.policy] for setting in claim.settings), strict=True)
    return mean_interval(
        [
            float(sum(any(one.functions.get(function) for one in of_seed) for function in TALKS_FUNCTIONS))
            for of_seed in by_seed
        ]
    )
