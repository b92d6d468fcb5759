"""Verdicts: what they promise, whatever was published and measured; and what was published, once more."""

from __future__ import annotations

import math
import re

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pleemu.policy import policy
from pleemu.reproduce.plan import parts
from pleemu.reproduce.published import BEST, EXITS, KEEPS, LEAST, RATIO, SHARE, WORST, Claim, claims
from pleemu.reproduce.results import decisive
from pleemu.reproduce.statistics import Interval
from pleemu.reproduce.verdict import DIRECTION, MAGNITUDE, NO_LOSS, NOT, OPEN, VERDICTS, judge

ORDER = {NOT: 0, OPEN: 1, DIRECTION: 2, MAGNITUDE: 3}


def claim(kind: str = RATIO, value: float | None = None, *, less: bool = False, pick: str = WORST) -> Claim:
    """A published result, of which only that matters."""
    return Claim(
        part="talk", settings=("dedup", "vips"), policy="vanilla", measure=EXITS, kind=kind, value=value, less=less,
        pick=pick, text="", source="",
    )  # fmt: skip


def interval(log_mean: float, log_half: float) -> Interval:
    """One around a ratio."""
    return Interval(*(math.exp(log_mean + sign * log_half) for sign in (0, -1, 1)), 5)


INTERVALS = st.builds(interval, st.floats(-3, 3), st.floats(0, 2))
RATIOS = st.floats(-3, 3).filter(lambda log: abs(log) > 1e-3).map(math.exp)
SHARES = (
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
    .map(sorted)
    .map(lambda ends: Interval(ends[1], ends[0], ends[2], 5))
)
CLAIMS = st.one_of(
    st.builds(claim, st.just(RATIO), RATIOS),
    st.builds(claim, st.just(RATIO), st.none(), less=st.booleans()),
    st.builds(claim, st.just(KEEPS)),
    st.builds(claim, st.just(LEAST), st.floats(0.1, 20)),
)


@given(CLAIMS, INTERVALS)
def test_every_verdict_is_one_of_four(published: Claim, ours: Interval) -> None:
    """And without a measurement it is open."""
    assert judge(published, ours) in VERDICTS
    assert judge(published, None) == OPEN


@given(RATIOS, INTERVALS)
def test_reproduced_means_beyond_no_effect_on_the_published_side(value: float, ours: Interval) -> None:
    """The whole interval; and the other way round, an interval there is reproduced in one way or the other."""
    beyond = ours.high < 1 if value < 1 else ours.low > 1
    assert (judge(claim(value=value), ours) in (DIRECTION, MAGNITUDE)) == beyond


@given(RATIOS, INTERVALS)
def test_time_and_throughput_have_the_same_verdict(value: float, ours: Interval) -> None:
    """A ratio and its inverse say the same."""
    inverse = Interval(1 / ours.mean, 1 / ours.high, 1 / ours.low, ours.n)
    assume(abs(abs(math.log(ours.mean / value)) - 0.25 * abs(math.log(value))) > 1e-9)
    assume(all(abs(bound - edge) > 1e-9 for bound in (ours.low, ours.high) for edge in (1, value)))
    assert judge(claim(value=value), ours) == judge(claim(value=1 / value), inverse)


@given(RATIOS, st.floats(0, 2))
def test_published_value_itself_is_reproduced_or_open(value: float, half: float) -> None:
    """In magnitude, unless the interval is so wide that it might be nothing."""
    ours = interval(math.log(value), half)
    assume(abs(half - abs(math.log(value))) > 1e-9)
    assert judge(claim(value=value), ours) == (MAGNITUDE if half < abs(math.log(value)) else OPEN)


@given(RATIOS, st.floats(-3, 3), st.floats(0, 2), st.floats(0, 1))
def test_more_seeds_never_open_what_is_closed(value: float, mean: float, half: float, narrower: float) -> None:
    """A narrower interval around the same mean may leave `open`, but does not come back to it, nor change sides."""
    wide, narrow = (judge(claim(value=value), interval(mean, one)) for one in (half, half * narrower))
    if wide != OPEN:
        assert narrow != OPEN
    if wide in (DIRECTION, MAGNITUDE):
        assert narrow in (DIRECTION, MAGNITUDE)


@given(INTERVALS, st.booleans())
def test_words_are_reproduced_in_direction_at_most(ours: Interval, less: bool) -> None:
    """A figure without numbers has no magnitude."""
    assert judge(claim(less=less), ours) != MAGNITUDE


@given(st.sampled_from((KEEPS, LEAST)), INTERVALS, st.floats(1, 3))
def test_more_is_never_worse_where_that_is_asked(kind: str, ours: Interval, factor: float) -> None:
    """Of a least count, and of a co-runner that shall lose nothing."""
    more = Interval(ours.mean * factor, ours.low * factor, ours.high * factor, ours.n)
    asked = claim(kind, 2.0)
    assert ORDER[judge(asked, more)] >= ORDER[judge(asked, ours)]


@given(SHARES)
def test_most_is_more_than_a_half(ours: Interval) -> None:
    """The whole interval above it, or else below, or neither."""
    assert (judge(claim(SHARE), ours) == DIRECTION) == (ours.low > 0.5)
    assert (judge(claim(SHARE, less=True), ours) == DIRECTION) == (ours.high < 0.5)


@pytest.mark.parametrize(
    ("mean", "verdict"), [(0.55, DIRECTION), (0.66, DIRECTION), (0.67, MAGNITUDE), (0.77, MAGNITUDE)]
)
def test_share_is_near_by_its_distance_from_a_half(mean: float, verdict: str) -> None:
    """Of a published 72.3 %, 22.3 points beyond a half, 66.7 to 77.9 % are a quarter off at most."""
    assert judge(claim(SHARE, 0.723), Interval(mean, mean - 0.001, mean + 0.001, 5)) == verdict


def test_neighbour_that_may_have_lost_most_decides() -> None:
    """Not the one with the lowest mean: a wide interval says less."""
    found = {"dedup": Interval(0.99, 0.98, 1.0, 5), "vips": Interval(1.0, 0.7, 1.43, 5)}
    assert decisive(claim(KEEPS), found) == "vips"
    assert judge(claim(KEEPS), found["vips"]) == OPEN


def test_cure_that_changes_nothing_is_not_open() -> None:
    """More seeds would not tell: every one of them was the same."""
    assert judge(claim(value=1.5), Interval(1, 1, 1, 8)) == NOT
    assert judge(claim(KEEPS), Interval(1, 1, 1, 8)) == MAGNITUDE
    assert judge(claim(KEEPS), Interval(1, 1 - NO_LOSS - 0.01, 1.1, 8)) == OPEN


@given(st.dictionaries(st.text(max_size=3), INTERVALS, min_size=1, max_size=5), st.booleans())
def test_best_and_worst_are_the_ends(found: dict[str, Interval | None], less: bool) -> None:
    """Of what was measured: nothing is better than the best of them."""
    means = [one.mean for one in found.values() if one is not None]
    best, worst = (found[decisive(claim(less=less, pick=pick), found)] for pick in (BEST, WORST))
    assert best is not None
    assert worst is not None
    ends = (min(means), max(means)) if less else (max(means), min(means))
    assert (best.mean, worst.mean) == ends


# What the sources say: part, setting or policy, in the order of `claims`.
FIGURES = {
    ("talk", "execution time"): [0.60],
    ("talk", "throughput"): [1.75, 1.80],
    ("talk", "PLE events in a row"): [100],
    ("talk", "functions with PLE events"): [6],
    ("four-vms", "PLE events"): [1 - 0.876],
    ("ready-2019", "throughput"): [4000 / 1570, 23520 / 21443, 8000 / 2800, 3100 / 1800],
    ("ready-2019", "guest time spent waiting"): [0.723, 0.384 / 0.723],
    ("wait-early", "throughput"): [13500 / 1750, 14750 / 4750],
    ("series-2025", "throughput"): [1.144, 1.098, 1.067, 1.471, 1.281, 1.017, 1.262, 1.127, 1.060],
    ("locks", "throughput"): [1714 / 1470, 968 / 849],
}


def test_published_figures_are_those_of_the_sources() -> None:
    """Every figure, and no other."""
    found: dict[tuple[str, str], list[float]] = {}
    for one in claims():
        if one.value is not None:
            found.setdefault((one.part, one.measure), []).append(one.value)
    assert found.keys() == FIGURES.keys()
    for key, values in FIGURES.items():
        assert found[key] == pytest.approx(values, rel=1e-12), key


@pytest.mark.parametrize("one", claims(), ids=lambda one: f"{one.part} {one.measure} {'/'.join(one.settings)}")
def test_claim_is_about_what_is_emulated(one: Claim) -> None:
    """Its settings and policies are there, its words fit its value, and it has a source."""
    part = {part.name: part for part in parts()}[one.part]
    assert set(one.settings) <= {setting.name for setting in part.settings}
    assert {one.policy, one.beside} - {""} <= part.policies.keys()
    assert one.source
    percent = re.search(r"([-+]?)(\d+(?:\.\d+)?) %", one.text)
    if percent and one.value is not None:
        number = float(percent[1] + percent[2]) / 100
        assert one.value == pytest.approx(number if one.kind == SHARE else 1 + number, rel=0.03)


def test_every_part_is_judged_by_something() -> None:
    """And all of its policies are policies."""
    assert {one.part for one in claims()} == {part.name for part in parts()}
    assert all(policy(name) for part in parts() for name in part.policies)


def test_claims_are_not_told_by_their_verdict() -> None:
    """No claim says what pleemu finds."""
    assert not {"verdict", "ours"} & {one.name for one in attrs.fields(Claim)}
