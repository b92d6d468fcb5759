"""Several seeds in one number: means with intervals, and ratios of runs with the same seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

from attrs import frozen

CONFIDENCE = 0.95
HOW = (
    "Ratios: of two runs with the same seed, their geometric mean over all seeds; where one of the counts is 0, half a "
    "count is added to all of them. In brackets: the 95 % interval of Student's t on the logarithms of these ratios; "
    "of a share or a count, on its values. Where the best or the worst of several settings decides, its interval is "
    "its own, and not wider for the choice."
)


@frozen
class Interval:
    """A mean and the bounds within which the true one lies, at 95 % confidence."""

    mean: float
    low: float
    high: float
    n: int  # values that it is over

    def holds(self, value: float) -> bool:
        """Whether a value lies within the bounds."""
        return self.low <= value <= self.high


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the arithmetic mean of at least two values with its interval."""
    n = len(values)
    mean = math.fsum(values) / n
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = t_quantile(n - 1) * deviation / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def paired_ratio(values: Sequence[float], references: Sequence[float]) -> Interval:
    """Return the geometric mean of value/reference, seed by seed; if one of these counts is 0, of each and a half.

    So what has gone to nothing is a large change, and not none. The half is Haldane's and Anscombe's, of odds.
    """
    more = 0 if all((*values, *references)) else 0.5
    logs = [math.log((value + more) / (reference + more)) for value, reference in zip(values, references, strict=True)]
    of_logs = mean_interval(logs)
    return Interval(math.exp(of_logs.mean), math.exp(of_logs.low), math.exp(of_logs.high), of_logs.n)


@cache
def t_quantile(freedom: int) -> float:
    """Return the t that |T| stays within at `CONFIDENCE`, for Student's t with ``freedom`` degrees of freedom."""
    low, high = 0.0, 1.0
    while t_within(high, freedom) < CONFIDENCE:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if t_within(middle, freedom) < CONFIDENCE else (low, middle)
    return high


def t_within(t: float, freedom: int) -> float:
    """Return the probability that |T| <= t: Abramowitz and Stegun 26.7.3 and 26.7.4, for whole degrees of freedom."""
    angle = math.atan2(t, math.sqrt(freedom))
    cosine = math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0
    for k in range(odd, freedom - 1 + odd, 2):
        total += term
        term *= cosine**2 * (k + 1) / (k + 2)
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
