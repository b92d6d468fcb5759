"""v5.6 arch/x86/kvm/x86.h: __grow_ple_window and __shrink_ple_window, in C's unsigned arithmetic."""

from __future__ import annotations

U32 = 2**32


def grow(value: int, base: int, modifier: int, maximum: int) -> int:
    """Multiply if the modifier is below the base, else add: in 64 bits, then the smaller of it and the maximum."""
    if modifier < 1:
        return base
    grown = value * modifier if modifier < base else value + modifier
    return min(grown % 2**64, maximum)


def shrink(value: int, base: int, modifier: int, minimum: int) -> int:
    """Divide if the modifier is below the base, else subtract: in 32 bits, then the larger of it and the minimum."""
    if modifier < 1:
        return base
    shrunk = value // modifier if modifier < base else (value - modifier) % U32
    return max(shrunk, minimum)
