"""The one clock, and the only places where its unit changes.

Everything in a machine happens at an integer core cycle. The TSC and the scheduler's
nanoseconds are exact integer functions of it, rounded down, monotone, without overflow.
A time that is given in ns becomes cycles when it begins.
"""

from pleemu.jit import compiled, inlined


@compiled
def cycles_to_ns(clock, cycles):
    """Core cycles since the start -> nanoseconds."""
    khz = clock.core_khz
    return cycles // khz * 1_000_000 + cycles % khz * 1_000_000 // khz


@compiled
def ns_to_cycles(clock, ns):
    """Nanoseconds -> core cycles, rounded up: after so many cycles at least that time has passed."""
    khz = clock.core_khz
    return ns // 1_000_000 * khz + (ns % 1_000_000 * khz + 999_999) // 1_000_000


@inlined
def cycles_to_tsc(clock, cycles):
    """Core cycles since the start -> TSC ticks."""
    if clock.tsc_khz == clock.core_khz:
        return cycles
    return cycles // clock.core_khz * clock.tsc_khz + cycles % clock.core_khz * clock.tsc_khz // clock.core_khz
