"""Processor presets: each figure with the source that it comes from.

`pleemu list figures` shows them all. Cycles are core cycles, uncontended, L1 hit. Where a source says

    InstLatx64         latencies of AIDA64 dumps, "PAUSE T:", "LOCK ADD m64" and "XCHG m64", "MFENCE", "RDTSC"
    core-to-core       github.com/nviennot/core-to-core-latency README @0dddf509, one-way message by CAS
    base clock         the vendor's product page of that model: a TSC runs at the base clock (P0 on AMD)
    unverified         known, but not read in the document that it names
    taken from ...     no figure is known for this processor: that of its nearest relative

PLE and the pause filter compare TSC ticks, so at `ple_gap` 128 a PAUSE of 140 cycles is a loop only if the core
runs faster than its TSC (`hardware.core_khz` above `hardware.tsc_khz`).
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from attrs import frozen

from pleemu.errors import ScenarioError, nearest

INTEL, AMD = "intel", "amd"

# What a bare spin loop, `pause; cmp [lock], 0; jne`, takes beside its PAUSE, in core cycles.
SPIN_LOOP_CYCLES = 2


@frozen(kw_only=True)
class Processor:
    """What a processor's instructions and cache lines cost, as far as it matters to a spin loop."""

    name: str
    vendor: str
    summary: str
    tsc_khz: int  # nominal, of the model in its source
    pause_cycles: int
    locked_cycles: int  # LOCK-prefixed read-modify-write and XCHG, line owned
    rdtsc_cycles: int
    fence_cycles: int  # MFENCE
    transfer_ns: int  # of a cache line, from a core that shares the last-level cache
    far_transfer_ns: int  # from any other core
    llc_pcpus: int  # cores that share a last-level cache; 0: all
    store_buffer: int  # entries
    sources: Mapping[str, str] = attrs.field(factory=dict, eq=False, repr=False)  # by field

    def spin_loop_ticks(self, tsc_khz: int, core_khz: int) -> float:
        """Return the TSC ticks from one PAUSE to the next of a bare spin loop."""
        return (self.pause_cycles + SPIN_LOOP_CYCLES) * tsc_khz / core_khz


# The fields of a preset that are figures.
FIGURES = tuple(one.name for one in attrs.fields(Processor) if one.name not in ("name", "vendor", "summary", "sources"))


def _preset(name: str, vendor: str, summary: str, **figures: tuple[int, str]) -> Processor:
    values = {field: value for field, (value, _) in figures.items()}
    sources = {field: source for field, (_, source) in figures.items()}
    return Processor(name=name, vendor=vendor, summary=summary, sources=sources, **values)


_RDTSC_INTEL = (25, "InstLatx64, 24 to 27 on Intel")
_RDTSC_AMD = (36, "InstLatx64, 35 to 38 on AMD")
_ONE_SOCKET = (0, "all cores of a socket share the LLC; pCPUs are taken as one socket")
_INTEL_MANUAL = "Intel 64 and IA-32 Architectures Optimization Reference Manual"

PROCESSORS = (
    _preset(
        "haswell",
        INTEL,
        "Xeon E5 v3: a short PAUSE, 300 to 400 of them in a PLE window",
        tsc_khz=(2_300_000, "base clock of a Xeon E5-2699 v3, unverified"),
        pause_cycles=(9, "InstLatx64"),
        locked_cycles=(19, "InstLatx64"),
        rdtsc_cycles=_RDTSC_INTEL,
        fence_cycles=(33, "InstLatx64"),
        transfer_ns=(44, "taken from broadwell (a Haswell client's ring: 20 to 21)"),
        far_transfer_ns=(118, "taken from broadwell"),
        llc_pcpus=_ONE_SOCKET,
        store_buffer=(42, f"{_INTEL_MANUAL}, Haswell microarchitecture, unverified"),
    ),
    _preset(
        "broadwell",
        INTEL,
        "Xeon E5 v4: as Haswell",
        tsc_khz=(2_100_000, "core-to-core: Xeon E5-2695 v4, 2.1 GHz"),
        pause_cycles=(10, "InstLatx64: 9.5, rounded up"),
        locked_cycles=(19, "InstLatx64"),
        rdtsc_cycles=_RDTSC_INTEL,
        fence_cycles=(33, "InstLatx64"),
        transfer_ns=(44, "core-to-core: Xeon E5-2695 v4, same socket"),
        far_transfer_ns=(118, "core-to-core: Xeon E5-2695 v4, cross socket"),
        llc_pcpus=_ONE_SOCKET,
        store_buffer=(42, "taken from haswell"),
    ),
    _preset(
        "skylake-sp",
        INTEL,
        "Xeon Scalable 1: PAUSE is longer than the default gap, so PLE is silent below a turbo of x1.11",
        tsc_khz=(2_100_000, "base clock of a Xeon Platinum 8160, unverified"),
        pause_cycles=(140, "InstLatx64: 140 to 141"),
        locked_cycles=(18, "InstLatx64"),
        rdtsc_cycles=_RDTSC_INTEL,
        fence_cycles=(33, "InstLatx64"),
        transfer_ns=(47, "taken from cascade-lake, the same mesh"),
        far_transfer_ns=(134, "taken from cascade-lake"),
        llc_pcpus=_ONE_SOCKET,
        store_buffer=(56, f"{_INTEL_MANUAL}, Skylake microarchitecture, unverified"),
    ),
    _preset(
        "cascade-lake",
        INTEL,
        "Xeon Scalable 2: PAUSE shortened again, about 100 in a PLE window",
        tsc_khz=(3_000_000, "core-to-core: Xeon Platinum 8275CL, 3.0 GHz"),
        pause_cycles=(40, "InstLatx64"),
        locked_cycles=(18, "InstLatx64"),
        rdtsc_cycles=_RDTSC_INTEL,
        fence_cycles=(33, "InstLatx64"),
        transfer_ns=(47, "core-to-core: Xeon Platinum 8275CL, same socket"),
        far_transfer_ns=(134, "core-to-core: Xeon Platinum 8275CL, cross socket"),
        llc_pcpus=_ONE_SOCKET,
        store_buffer=(56, "taken from skylake-sp"),
    ),
    _preset(
        "ice-lake-sp",
        INTEL,
        "Xeon Scalable 3: PAUSE from one sample at 2 GHz",
        tsc_khz=(2_900_000, "core-to-core: Xeon Platinum 8375C, 2.9 GHz"),
        pause_cycles=(34, "InstLatx64, one sample"),
        locked_cycles=(20, "InstLatx64"),
        rdtsc_cycles=_RDTSC_INTEL,
        fence_cycles=(36, "InstLatx64: 36 to 38"),
        transfer_ns=(51, "core-to-core: Xeon Platinum 8375C, same socket"),
        far_transfer_ns=(108, "core-to-core: Xeon Platinum 8375C, cross socket"),
        llc_pcpus=_ONE_SOCKET,
        store_buffer=(72, f"{_INTEL_MANUAL}, Ice Lake Client microarchitecture (Sunny Cove), unverified"),
    ),
    _preset(
        "zen2",
        AMD,
        "EPYC 7002: the pause filter counts PAUSEs, in any loop and at any CPL",
        tsc_khz=(2_250_000, "base clock of an EPYC 7742, unverified"),
        pause_cycles=(65, "InstLatx64"),
        locked_cycles=(18, "InstLatx64"),
        rdtsc_cycles=_RDTSC_AMD,
        fence_cycles=(76, "InstLatx64: 74 to 79 on Zen 1 and 2, the middle"),
        transfer_ns=(24, "core-to-core: a Zen 2 desktop, same CCX; no figure for EPYC 7002"),
        far_transfer_ns=(94, "core-to-core: a Zen 2 desktop, other CCX; no figure for EPYC 7002"),
        llc_pcpus=(4, "AMD publication 56305, Family 17h models 30h: four cores a CCX, unverified"),
        store_buffer=(48, "AMD publication 56305, Family 17h models 30h: store queue, unverified"),
    ),
    _preset(
        "zen3",
        AMD,
        "EPYC 7003: LOCKed instructions take 7 cycles, eight cores share a last-level cache",
        tsc_khz=(2_650_000, "base clock of an EPYC 7R13, unverified"),
        pause_cycles=(65, "InstLatx64"),
        locked_cycles=(8, "InstLatx64: LOCK ADD 7, XCHG 8"),
        rdtsc_cycles=_RDTSC_AMD,
        fence_cycles=(59, "InstLatx64: 58 to 60 on Zen 3 and 4, the middle"),
        transfer_ns=(23, "core-to-core: EPYC 7R13, same CCX"),
        far_transfer_ns=(107, "core-to-core: EPYC 7R13, other CCX; another socket: 197"),
        llc_pcpus=(8, "AMD publication 56665, Family 19h: eight cores a CCX, unverified"),
        store_buffer=(64, "AMD publication 56665, Family 19h: store queue, unverified"),
    ),
    _preset(
        "zen4",
        AMD,
        "EPYC 9004: the filter's measured behaviour comes from one under KVM",
        tsc_khz=(2_400_000, "base clock of an EPYC 9654, unverified"),
        pause_cycles=(65, "InstLatx64; measured 68 to 72 TSC ticks under KVM"),
        locked_cycles=(8, "InstLatx64: LOCK ADD 7.5, XCHG 8; measured 11 to 13 TSC ticks under KVM"),
        rdtsc_cycles=_RDTSC_AMD,
        fence_cycles=(59, "InstLatx64: 58 to 60 on Zen 3 and 4, the middle"),
        transfer_ns=(30, "measured on two vCPUs under KVM: 27 to 33, the middle"),
        far_transfer_ns=(68, "core-to-core: a Zen 4 desktop; no figure for EPYC 9004, which is probably slower"),
        llc_pcpus=(8, "AMD publication 57647, Family 19h models 11h: eight cores a CCX, unverified"),
        store_buffer=(64, "AMD publication 57647, Family 19h models 11h: store queue, unverified"),
    ),
)


def processor(name: str) -> Processor:
    """Return the preset called ``name``, or say which one was probably meant."""
    known = {preset.name: preset for preset in PROCESSORS}
    if name not in known:
        raise ScenarioError(f"unknown processor {name!r}{nearest(name, known)}")
    return known[name]
