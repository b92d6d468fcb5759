"""How long something takes, as a text: `2us`, `0..125us`, `exponential(60us)`, `lognormal(400ns, 0.8) max 2us`.

A guest draws from 256 equally likely values, the quantiles at (k + 1/2) / 256: so its code needs no more than a
table, and draws repeat exactly. The mean of the table is that of the distribution but for the tail beyond the last
quantile: 0.2 % less for an exponential one, 0.5 % for a lognormal one with sigma 1.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from statistics import NormalDist
from typing import Any

from attrs import frozen

from pleemu.errors import ScenarioError

QUANTILES = 256
LONGEST_NS = 3_600_000_000_000  # an hour
_NS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_TIME = r"([0-9]+(?:\.[0-9]+)?)\s*(ns|us|ms|s|cycles)?"
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
    sigma: float = 0.0  # lognormal: of the logarithm
    most: Time | None = None  # no value is larger

    def quantiles(self, khz: int) -> tuple[int, ...]:
        """Return the table in whole core cycles, smallest first, for a core of ``khz``."""
        values = [self._quantile((k + 0.5) / QUANTILES, khz) for k in range(QUANTILES)]
        ceiling = math.inf if self.most is None else float(self.most.cycles(khz))
        return tuple(round(min(value, ceiling)) for value in values)

    def _quantile(self, share: float, khz: int) -> float:
        first = float(self.first.cycles(khz))
        if self.shape == "uniform" and self.second is not None:
            return first + share * (float(self.second.cycles(khz)) - first)
        if self.shape == "exponential":
            return -first * math.log1p(-share)
        if self.shape == "lognormal":
            return first * math.exp(self.sigma * NormalDist().inv_cdf(share) - self.sigma**2 / 2)
        return first


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
    if one.second is not None and one.second.cycles(1_000_000) < one.first.cycles(1_000_000):
        raise ScenarioError(f"{given!r}: the most is less than the least")
    return one


def _parse(body: str) -> dict[str, Any]:
    if call := re.fullmatch(r"(\w+)\s*\((.*)\)", body):
        arguments = [one.strip() for one in call[2].split(",")]
        if call[1] == "exponential" and len(arguments) == 1:
            return {"shape": "exponential", "first": _time(arguments[0])}
        if call[1] == "lognormal" and len(arguments) == 2:
            sigma = float(arguments[1])
            if not 0 <= sigma <= 5:
                raise ValueError("sigma is out of range, use 0 to 5")
            return {"shape": "lognormal", "first": _time(arguments[0]), "sigma": sigma}
        raise ValueError(f"{call[1]}({call[2]}) is no distribution")
    least, dots, most = body.partition("..")
    if not dots:
        return {"shape": "constant", "first": _time(body)}
    upper = _time(most)
    return {"shape": "uniform", "first": _time(least if least.strip() != "0" else f"0{upper.unit}"), "second": upper}


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
