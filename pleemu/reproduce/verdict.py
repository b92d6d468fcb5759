"""Is a published result reproduced? One rule for each kind of claim, the same for all results."""

from __future__ import annotations

import math

from pleemu.reproduce.published import KEEPS, LEAST, SHARE, Claim
from pleemu.reproduce.statistics import Interval

MAGNITUDE, DIRECTION, OPEN, NOT = "in magnitude", "in direction", "open", "no"
VERDICTS = (MAGNITUDE, DIRECTION, OPEN, NOT)

TOLERANCE = 0.25  # of the published effect
NO_LOSS = 0.05  # of a co-runner's throughput: what nobody would see in the talk's figure

HOW = (
    "In direction: the whole interval is on the published side of no effect (a ratio of 1, a share of a half). In "
    f"magnitude: and the published value is inside the interval, or ours within {100 * TOLERANCE:.0f} % of the "
    "published effect (the logarithm of a ratio, a share's distance from a half). Open: the interval has both no "
    "effect in it and the published value, or else side; more seeds would tell. No: none of these. At least so many: "
    f"in magnitude if the whole interval is, in direction if the mean is but {100 * TOLERANCE:.0f} % short. That a "
    f"co-runner loses nothing: in magnitude if the whole interval is above {1 - NO_LOSS:g}. Words, and figures without "
    "numbers, are reproduced in direction at most. Execution time is the inverse of throughput: one measurement."
)


def judge(claim: Claim, ours: Interval | None) -> str:
    """Return the verdict on a claim, given what was measured; None is a ratio to nothing."""
    if ours is None:
        return OPEN
    if claim.kind == LEAST:
        return _at_least(claim, ours)
    if claim.kind == KEEPS:
        return _keeps(ours)
    return _on_its_side(claim, ours)


def _at_least(claim: Claim, ours: Interval) -> str:
    """At least so many: the least that the mean may be, and the most."""
    wanted = claim.value or 0.0
    if ours.low >= wanted:
        return MAGNITUDE
    if ours.high >= wanted:
        return OPEN
    return DIRECTION if ours.mean >= wanted * (1 - TOLERANCE) else NOT


def _keeps(ours: Interval) -> str:
    if ours.low >= 1 - NO_LOSS:
        return MAGNITUDE
    return OPEN if ours.high >= 1 - NO_LOSS else NOT


def _on_its_side(claim: Claim, ours: Interval) -> str:
    share = claim.kind == SHARE
    none = 0.5 if share else 1.0
    below = claim.less if claim.value is None else claim.value < none
    if none < ours.low if below else ours.high < none:
        return NOT
    if not (ours.high < none if below else ours.low > none):
        return OPEN if ours.low < ours.high and (claim.value is None or ours.holds(claim.value)) else NOT
    if claim.value is None:
        return DIRECTION
    return MAGNITUDE if ours.holds(claim.value) or _near(ours.mean, claim.value, share=share) else DIRECTION


def _near(ours: float, published: float, *, share: bool) -> bool:
    """Whether ours is within the tolerance of the published effect."""
    if share:
        return abs(ours - published) <= TOLERANCE * abs(published - 0.5)
    return abs(math.log(ours) - math.log(published)) <= TOLERANCE * abs(math.log(published))
