"""Distributions: what their text may say, and the table that a guest draws from."""

from __future__ import annotations

import math
from fractions import Fraction
from statistics import NormalDist, fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pleemu.distribution import QUANTILES, Distribution, parse_distribution
from pleemu.errors import ScenarioError

NS = {"ns": 1, "us": 1_000, "ms": 1_000_000}
SHARES = [Fraction(2 * k + 1, 2 * QUANTILES) for k in range(QUANTILES)]
rates = st.integers(1_000, 10_000_000)  # kHz
amounts = st.decimals(0, 5_000, places=3).map(lambda one: f"{one:f}")


@st.composite
def times(draw: st.DrawFn, units: tuple[str, ...] = (*NS, "cycles")) -> tuple[str, str]:
    return draw(amounts), draw(st.sampled_from(units))


def cycles(time: tuple[str, str], khz: int) -> Fraction:
    amount, unit = time
    return Fraction(amount) * (1 if unit == "cycles" else Fraction(NS[unit] * khz, 1_000_000))


def table(text: str, khz: int) -> tuple[int, ...]:
    return parse_distribution(text).quantiles(khz)


@given(times(), times(("ns", "us")), rates)
def test_constant_and_uniform_are_exact(constant: tuple[str, str], other: tuple[str, str], khz: int) -> None:
    """A constant is one number; a uniform distribution has its values at (k + 1/2) / 256 of the way, in fractions."""
    assert table("".join(constant), khz) == (round(cycles(constant, khz)),) * QUANTILES
    least, most = sorted([other, ("1", "us")], key=lambda one: cycles(one, khz))
    first, last = cycles(least, khz), cycles(most, khz)
    found = table(f"{''.join(least)} .. {''.join(most)}", khz)
    assert found == tuple(round(first + share * (last - first)) for share in SHARES)


@settings(max_examples=25)
@given(times(), st.integers(0, 5_000).map(lambda n: n / 1_000), rates)
def test_shapes_are_those_of_their_formulas(mean: tuple[str, str], sigma: float, khz: int) -> None:
    """In floating point, to a cycle and a millionth: -m ln(1 - p), and m exp(s z - s^2/2)."""
    of_mean, normal = float(cycles(mean, khz)), NormalDist()
    exponential = [-of_mean * math.log1p(-float(share)) for share in SHARES]
    lognormal = [of_mean * math.exp(sigma * normal.inv_cdf(float(share)) - sigma**2 / 2) for share in SHARES]
    assert table(f"exponential({''.join(mean)})", khz) == pytest.approx(exponential, rel=1e-6, abs=1)
    assert table(f"lognormal({''.join(mean)}, {sigma:f})", khz) == pytest.approx(lognormal, rel=1e-6, abs=1)


@pytest.mark.parametrize(
    ("text", "short"), [("exponential(60us)", 0.002), ("lognormal(60us, 0.8)", 0.005), ("0..120us", 1e-4)]
)
def test_mean_is_the_one_that_is_given(text: str, short: float) -> None:
    """But for the tail that 256 values have not."""
    mean = fmean(table(text, 2_000_000)) / 2_000
    assert 60 * (1 - short) <= mean <= 60.001


@settings(max_examples=25)
@given(times(), times(), st.sampled_from(["{}", "exponential({})", "lognormal({}, 1.25)"]), rates)
def test_max_cuts_and_changes_nothing_else(mean: tuple[str, str], most: tuple[str, str], shape: str, khz: int) -> None:
    """Values above it become it; all are in order, and none is negative."""
    text = shape.format("".join(mean))
    plain, cut = table(text, khz), table(f"{text} max {''.join(most)}", khz)
    assert cut == tuple(min(value, round(cycles(most, khz))) for value in plain)
    assert list(cut) == sorted(cut)
    assert cut[0] >= 0


@given(st.text(max_size=30) | st.text("0123456789.unsmc()xpelog, ", max_size=30))
def test_any_text_is_a_distribution_or_an_error(text: str) -> None:
    """And nothing else; what is read has a table of numbers that a guest can hold."""
    try:
        read: Distribution = parse_distribution(text)
    except ScenarioError as error:
        assert repr(text) in str(error)
    else:
        assert all(0 <= value < 1 << 63 for value in read.quantiles(10_000_000))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("2", "'2' has no unit; write 2us, 4200cycles"),
        ("2 weeks", "'2 weeks' is no time"),
        ("-2us", "'-2us' is no time"),
        ("2h", "'2h' is no time"),
        ("3601s", "'3601s' is more than an hour"),
        ("9us..1us", "the most is less than the least"),
        ("100cycles..2us", "one end is in cycles and the other is not"),
        ("normal(2us, 1us)", "normal(2us, 1us) is no distribution"),
        ("lognormal(2us)", "lognormal(2us) is no distribution"),
        ("lognormal(2us, big)", "sigma 'big' is no number"),
        ("lognormal(2us, nan)", "sigma 'nan' is no number"),
        ("lognormal(2us, 6)", "sigma is out of range, use 0 to 5"),
        ("2us max", "'2us max' is no time"),
        ("2us max 1", "'1' has no unit"),
        ("9" * 5_000 + "us", "is no time"),
    ],
)
def test_bad_text_is_told_what_is_wrong(text: str, problem: str) -> None:
    """With the text itself, and with what would be right."""
    with pytest.raises(ScenarioError) as error:
        parse_distribution(text)
    assert problem in str(error.value)
