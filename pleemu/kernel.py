"""The host schedulers of `host.scheduler`: what differs from version to version, one entry each.

`pleemu.scheduler` follows the switches; their names there are those of the features here, in
lower case, and those of `switches` and `base_ns`. What is not named is off.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from pleemu.errors import ScenarioError

CFS, EEVDF, CHAOS = "CFS", "EEVDF", "chaos"


@frozen(kw_only=True)
class Scheduler:
    """One version of the Linux scheduler, in its default configuration."""

    kernel: str  # the source that it follows
    model: str  # CFS, EEVDF or CHAOS
    summary: str
    features: str  # as /sys/kernel/debug/sched/features shows them: NO_ is off
    switches: tuple[str, ...]  # what is different, and no feature
    base_ns: Mapping[str, int]  # on one CPU; see `factor`
    constants: Mapping[str, int] = field(factory=dict)  # tunables that do not grow with the CPUs
    yields: str  # what becomes of who yields, in three words
    hint: str  # whether the next pick follows yield_to, in three words

    @property
    def defaults(self) -> dict[str, bool]:
        """Every feature that there is, and whether it is on."""
        return {name.removeprefix("NO_"): not name.startswith("NO_") for name in self.features.split()}

    def with_features(self, written: str) -> dict[str, bool]:
        """Return all features after ``written``, as in `NEXT_BUDDY NO_RUN_TO_PARITY`, has been written to the file."""
        features = self.defaults
        for word in written.split():
            name = word.removeprefix("NO_")
            if not features:
                raise ScenarioError(f"{name!r}: the {self.model} scheduler has no features; leave them out")
            if name not in features:
                raise ScenarioError(
                    f"{name!r} is no scheduler feature of Linux {self.kernel}; "
                    f"it has {', '.join(features)}, and each with NO_ in front turns it off"
                )
            features[name] = not word.startswith("NO_")
        return features

    def tunables(self, *, cpus: int, hz: int, features: str = "") -> dict[str, int]:
        """Return the fields of the scheduler's record `TUNABLES` (but `model`) that are not 0, by name."""
        values = {name: base * factor(cpus) for name, base in self.base_ns.items()} | dict(self.constants)
        values |= dict.fromkeys(self.switches, 1)
        chosen = self.with_features(features)
        values |= {name.lower(): int(on) for name, on in chosen.items()}
        if self.model == EEVDF:
            values["tick_nsec"] = (1_000_000_000 + hz // 2) // hz
            # Before there was PICK_BUDDY, NEXT_BUDDY decided both: who becomes the next buddy, and whether it counts.
            values.setdefault("pick_buddy", int(chosen["NEXT_BUDDY"]))
        return values


def factor(cpus: int) -> int:
    """By how much more CPUs stretch the tunables: 1 + floor(log2(min(cpus, 8))), get_update_sysctl_factor()."""
    return min(cpus, 8).bit_length()


_OF_6_6 = "PLACE_LAG PLACE_DEADLINE_INITIAL RUN_TO_PARITY NO_NEXT_BUDDY CACHE_HOT_BUDDY WAKEUP_PREEMPTION"
_SINCE_6_12 = " PLACE_REL_DEADLINE PREEMPT_SHORT DELAY_DEQUEUE DELAY_ZERO"

SCHEDULERS = {
    "cfs-5.6": Scheduler(
        kernel="5.6.4",
        model=CFS,
        summary="the smallest vruntime runs, unless a buddy is close to it",
        features="GENTLE_FAIR_SLEEPERS START_DEBIT NO_NEXT_BUDDY LAST_BUDDY CACHE_HOT_BUDDY WAKEUP_PREEMPTION",
        switches=("repick_moves",),
        base_ns={"latency": 6_000_000, "min_granularity": 750_000, "wakeup_granularity": 1_000_000},
        constants={"nr_latency": 8},
        yields="skipped once",
        hint="if close enough",
    ),
    "eevdf-6.6": Scheduler(
        kernel="6.6.87",
        model=EEVDF,
        summary="of those that are owed time the first deadline runs",
        features=_OF_6_6,
        switches=("fork_places_twice", "repick_moves"),
        base_ns={"base_slice": 750_000},
        yields="later deadline",
        hint="ignored",
    ),
    "eevdf-6.12.0": Scheduler(
        kernel="6.12.0",
        model=EEVDF,
        summary="and who falls asleep ahead of the others stays queued until they catch up",
        features=_OF_6_6 + _SINCE_6_12,
        switches=("deadline_order",),
        base_ns={"base_slice": 750_000},
        yields="later deadline",
        hint="ignored",
    ),
    "eevdf-6.12": Scheduler(
        kernel="6.12.117",
        model=EEVDF,
        summary="and a directed yield counts, at the price of the caller's slice",
        features=_OF_6_6 + _SINCE_6_12 + " PICK_BUDDY",
        switches=("deadline_order", "zero_vruntime", "yield_forfeits"),
        base_ns={"base_slice": 700_000},
        yields="slice forfeited",
        hint="if eligible",
    ),
}

# No model of any kernel; see `pleemu.scheduler.chaos`.
_CHAOS = Scheduler(
    kernel="none",
    model=CHAOS,
    summary="for finding bugs: FIFO, preempted at random points that a token replays, or at those of host.schedule",
    features="",
    switches=(),
    base_ns={},
    yields="to the tail",
    hint="always",
)

# By the names of `host.scheduler`.
HOST_SCHEDULERS = {**SCHEDULERS, "chaos": _CHAOS}
