"""Means, ratios and intervals of several seeds, and Student's t, beside plain computations."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleemu.reproduce.statistics import CONFIDENCE, Interval, mean_interval, paired_ratio, t_quantile, t_within

POSITIVE = st.floats(1e-3, 1e6)
PAIRS = st.lists(st.tuples(POSITIVE, POSITIVE), min_size=2, max_size=20)
CLOSE = {"rel_tol": 1e-9, "abs_tol": 1e-9}


def density(t: float, freedom: int) -> float:
    """Student's t, from its definition."""
    shape = (freedom + 1) / 2
    scale = math.exp(math.lgamma(shape) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    return scale * (1 + t * t / freedom) ** -shape


@given(t=st.floats(0, 20), freedom=st.integers(1, 40))
def test_t_within_is_the_area_under_its_density(t: float, freedom: int) -> None:
    """By Simpson's rule."""
    steps = 2000
    width = t / steps
    weights = (1 if k in (0, steps) else 4 if k % 2 else 2 for k in range(steps + 1))
    area = sum(weight * density(k * width, freedom) for k, weight in enumerate(weights)) * width / 3
    assert t_within(t, freedom) == pytest.approx(2 * area, abs=1e-7)


@pytest.mark.parametrize(("freedom", "t"), [(1, 12.706), (2, 4.303), (5, 2.571), (7, 2.365), (30, 2.042)])
def test_t_quantile_is_that_of_the_tables(freedom: int, t: float) -> None:
    """The 97.5 % column, as every textbook prints it."""
    assert CONFIDENCE == 0.95
    assert round(t_quantile(freedom), 3) == t


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20))
def test_mean_and_its_bounds_are_those_of_the_textbook(values: list[float]) -> None:
    """Mean, plus and minus t times the standard error."""
    found = mean_interval(values)
    half = t_quantile(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    assert found.n == len(values)
    assert found.mean == pytest.approx(statistics.fmean(values), abs=1e-6)
    assert found.high - found.mean == pytest.approx(half, rel=1e-6, abs=1e-6)
    assert found.mean - found.low == pytest.approx(half, rel=1e-6, abs=1e-6)


@given(PAIRS)
def test_ratio_is_the_geometric_mean(pairs: list[tuple[float, float]]) -> None:
    """Of the ratios, pair by pair."""
    found = paired_ratio([one for one, _ in pairs], [other for _, other in pairs])
    expected = statistics.geometric_mean([one / other for one, other in pairs])
    assert math.isclose(found.mean, expected, rel_tol=1e-6)
    assert found.low <= found.mean * (1 + 1e-12)
    assert found.mean <= found.high * (1 + 1e-12)


@given(PAIRS)
def test_ratio_the_other_way_round_is_its_inverse(pairs: list[tuple[float, float]]) -> None:
    """With its bounds: whether one counts operations or time makes no difference."""
    ours, theirs = [one for one, _ in pairs], [other for _, other in pairs]
    there, back = paired_ratio(ours, theirs), paired_ratio(theirs, ours)
    for value, inverse in ((there.mean, back.mean), (there.low, back.high), (there.high, back.low)):
        assert math.isclose(math.log(value), -math.log(inverse), **CLOSE)


@given(PAIRS, POSITIVE)
def test_ratio_does_not_know_the_unit(pairs: list[tuple[float, float]], unit: float) -> None:
    """Neither a unit nor what makes a seed slower in both of its runs."""
    ours, theirs = [one for one, _ in pairs], [other for _, other in pairs]
    plain = paired_ratio(ours, theirs)
    scaled = paired_ratio([unit * one for one in ours], [unit * one for one in theirs])
    assert math.isclose(math.log(plain.high), math.log(scaled.high), rel_tol=1e-6, abs_tol=1e-6)


def test_same_runs_are_exactly_the_same() -> None:
    """A cure that changes nothing: a ratio of 1 without any width."""
    assert paired_ratio([3.0, 7.0, 9.0], [3.0, 7.0, 9.0]) == Interval(1.0, 1.0, 1.0, 3)


def test_what_goes_to_nothing_is_a_large_change() -> None:
    """Half a count is added where there is none, so a cure that leaves no exit is not left out."""
    none = paired_ratio([0, 0, 0], [400, 500, 450])
    assert none.high < 0.002
    assert none.low > 0
    assert paired_ratio([0, 0], [0, 0]) == Interval(1.0, 1.0, 1.0, 2)
    assert paired_ratio([0, 3], [5, 3]).mean == pytest.approx(math.sqrt(0.5 / 5.5))
