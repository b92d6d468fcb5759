"""How long something takes, as a text: `2us`, `0..125us`, `exponential(60us)`, `lognormal(400ns, 0.8) max 2us`.

A guest draws from 256 equally likely values, the quantiles at (k + 1/2) / 256: so its code needs no more than a
table, and draws repeat exactly. The mean of the table is that of the distribution but for the tail beyond the last
quantile: 0.2 % less for an exponential one, 0.5 % for a lognormal one with sigma 1.

The table is the same on every machine: fractions, and decimal arithmetic, whose functions are correctly rounded.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal
from fractions import Fraction
from functools import cache
from statistics import NormalDist
from typing import Any

from attrs import frozen

from pleemu.errors import ScenarioError

QUANTILES = 256
LARGEST_SIGMA = 5
LONGEST_NS = 3_600_000_000_000  # an hour
_NS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_TIME = r"([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*(ns|us|ms|s|cycles)?"
_SIGMA = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_DECIMAL = Context(prec=25)  # more than the 16 digits of an hour in cycles
_EXAMPLES = (
    "2us, 4200cycles, 0..125us (uniform), exponential(60us), lognormal(400ns, 0.8) with mean and sigma, each with "
    "`max 2us` behind it if need be"
)


@frozen
class Time:
    """A time, or a number of core cycles."""

    amount: Fraction
    unit: str

    def cycles(self, khz: int) -> Fraction:
        """Return it in core cycles."""
        return self.amount if self.unit == "cycles" else self.amount * _NS[self.unit] * khz / 1_000_000


@frozen(kw_only=True)
class Distribution:
    """A shape with its parameters; `given` is the text it was read from."""

    given: str
    shape: str  # constant | uniform | exponential | lognormal
    first: Time  # the constant, the least, the mean
    second: Time | None = None  # uniform: the most
    sigma: Fraction = Fraction(0)  # lognormal: of the logarithm
    most: Time | None = None  # no value is larger

    def quantiles(self, khz: int) -> tuple[int, ...]:
        """Return the table in whole core cycles, smallest first, for a core of ``khz``."""
        return _quantiles(self, khz)

    def quantile(self, share: Fraction, khz: int) -> Fraction:
        """Return the number of core cycles that a share of all values is below."""
        first = self.first.cycles(khz)
        if self.shape == "uniform" and self.second is not None:
            return first + share * (self.second.cycles(khz) - first)
        if self.shape == "exponential":
            return -first * Fraction(_DECIMAL.ln(_decimal(1 - share)))
        if self.shape == "lognormal":
            # Only the normal quantile is a float: its last digits, where machines may differ, are cut off.
            normal = Fraction(f"{NormalDist().inv_cdf(float(share)):.12f}")
            return first * Fraction(_DECIMAL.exp(_decimal(self.sigma * normal - self.sigma**2 / 2)))
        return first


@cache  # the VMs of a scenario and the runs of a comparison have the same ones
def _quantiles(one: Distribution, khz: int) -> tuple[int, ...]:
    values = [one.quantile(Fraction(2 * k + 1, 2 * QUANTILES), khz) for k in range(QUANTILES)]
    if one.most is not None:
        values = [min(value, one.most.cycles(khz)) for value in values]
    return tuple(round(value) for value in values)


def _decimal(value: Fraction) -> Decimal:
    return _DECIMAL.divide(Decimal(value.numerator), Decimal(value.denominator))


def parse_distribution(given: str) -> Distribution:
    """Read a distribution. Raises ScenarioError with what would be right."""
    text = given.strip()
    body, _, most = text.partition(" max ")
    try:
        found = _parse(body.strip())
        found = {**found, "most": _time(most)} if most else found
        one = Distribution(given=text, **found)
    except ValueError as reason:
        raise ScenarioError(f"{given!r}: {reason or 'is no time'}; write {_EXAMPLES}") from None
    if one.second is not None:
        if (one.first.unit == "cycles") != (one.second.unit == "cycles"):
            raise ScenarioError(f"{given!r}: one end is in cycles and the other is not; use the same for both")
        if one.second.cycles(1_000_000) < one.first.cycles(1_000_000):
            raise ScenarioError(f"{given!r}: the most is less than the least; write the least first")
    return one


def _parse(body: str) -> dict[str, Any]:
    if call := re.fullmatch(r"(\w+)\s*\((.*)\)", body):
        arguments = [one.strip() for one in call[2].split(",")]
        if call[1] == "exponential" and len(arguments) == 1:
            return {"shape": "exponential", "first": _time(arguments[0])}
        if call[1] == "lognormal" and len(arguments) == 2:
            return {"shape": "lognormal", "first": _time(arguments[0]), "sigma": _sigma(arguments[1])}
        raise ValueError(f"{call[1]}({call[2]}) is no distribution")
    least, dots, most = body.partition("..")
    if not dots:
        return {"shape": "constant", "first": _time(body)}
    upper = _time(most)
    return {"shape": "uniform", "first": _time(least if least.strip() != "0" else f"0{upper.unit}"), "second": upper}


def _sigma(text: str) -> Fraction:
    if re.fullmatch(_SIGMA, text) is None:
        raise ValueError(f"sigma {text!r} is no number")
    if Fraction(text) > LARGEST_SIGMA:
        raise ValueError(f"sigma is out of range, use 0 to {LARGEST_SIGMA}")
    return Fraction(text)


def _time(text: str) -> Time:
    found = re.fullmatch(_TIME, text.strip())
    if found is None:
        raise ValueError(f"{text.strip()!r} is no time")
    if found[2] is None:
        raise ValueError(f"{text.strip()!r} has no unit")
    time = Time(Fraction(found[1]), found[2])
    if time.cycles(1_000_000) > LONGEST_NS:
        raise ValueError(f"{text.strip()!r} is more than an hour")
    return time
