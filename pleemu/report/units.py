"""Numbers as an engineer reads them."""

from __future__ import annotations

import math


def count(value: int) -> str:
    """Return a count with its thousands set apart."""
    return f"{value:,}"


def time(ns: float) -> str:
    """Return a time in the unit that suits it."""
    if not math.isfinite(ns):
        return "-"
    for unit, size, below in (("ns", 1, 1e3), ("us", 1e3, 1e6), ("ms", 1e6, 1e10)):
        if abs(ns) < below:
            return f"{ns:.0f} ns" if size == 1 else f"{ns / size:.1f} {unit}"
    return f"{ns / 1e9:.1f} s"


def microseconds(ns: float) -> str:
    """Return a time as `perf kvm stat` prints it."""
    return f"{ns / 1e3:.2f}us"


def percent(part: float, whole: float = 1.0) -> str:
    """Return a share in percent, or a dash of nothing."""
    return f"{100 * part / whole:.1f}%" if whole else "-"


def ratio(value: float, reference: float) -> str:
    """Return how many times the reference a value is, with three digits."""
    if not reference:
        return "=" if not value else "-"
    times = value / reference
    if times >= 100:
        return f"x{times:.0f}"
    return f"x{times:.1f}" if times >= 10 else f"x{times:.2f}"


def window(first: int, last: int) -> str:
    """Return how the PLE window went, in TSC ticks."""
    return f"{first}" if first == last else f"{first} -> {last}"
