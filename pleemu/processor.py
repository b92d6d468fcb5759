"""Processor presets: what the instructions that a spin loop consists of cost, in core cycles.

All figures are latencies measured by InstLatx64 (AIDA64 dumps), L1 hit, uncontended:

    preset        PAUSE        LOCK ADD/XCHG  RDTSC  MFENCE
    haswell       9            19             24-27  33
    broadwell     9.5          19             24-27  33      PAUSE rounded up to 10
    skylake-sp    140-141      18             24-27  33
    cascade-lake  40           18             24-27  33
    ice-lake-sp   34 (1 CPU)   20             24-27  36-38

RDTSC is taken as 25 everywhere. PLE compares TSC ticks, so at `ple_gap` 128 a PAUSE of 140 cycles
is a loop only if the core runs faster than its TSC (`hardware.core_khz` above `hardware.tsc_khz`).
"""

from __future__ import annotations

from attrs import frozen

from pleemu.errors import ScenarioError, nearest


@frozen(kw_only=True)
class Processor:
    """The cost of the instructions whose cost matters to PLE, in core cycles."""

    name: str
    summary: str
    pause_cycles: int
    locked_cycles: int  # LOCK-prefixed read-modify-write and XCHG, line owned
    rdtsc_cycles: int
    fence_cycles: int  # MFENCE


PROCESSORS = tuple(
    Processor(
        name=name,
        summary=summary,
        pause_cycles=pause,
        locked_cycles=locked,
        rdtsc_cycles=25,
        fence_cycles=fence,
    )
    for name, pause, locked, fence, summary in (
        ("haswell", 9, 19, 33, "Xeon E5 v3: a short PAUSE, 300 to 400 of them in a PLE window"),
        ("broadwell", 10, 19, 33, "Xeon E5 v4: measured 9.5 cycles a PAUSE, rounded up"),
        ("skylake-sp", 140, 18, 33, "Xeon Scalable 1: its PAUSE is longer than the default gap, so that PLE is silent"),
        ("cascade-lake", 40, 18, 33, "Xeon Scalable 2: PAUSE shortened again, about 100 in a PLE window"),
        ("ice-lake-sp", 34, 20, 36, "Xeon Scalable 3: PAUSE from one sample at 2 GHz"),
    )
)


def processor(name: str) -> Processor:
    """Return the preset called ``name``, or say which one was probably meant."""
    known = {preset.name: preset for preset in PROCESSORS}
    if name not in known:
        raise ScenarioError(f"unknown processor {name!r}{nearest(name, known)}")
    return known[name]
