"""The same run again: to the event, and under a policy that has nothing to decide."""

from __future__ import annotations

from typing import Any

import numpy as np

from pleemu.checks.finding import PropertyError
from pleemu.checks.observed import Observed
from pleemu.policy import policy as policy_named


def check_same_events(observed: Observed, other: Observed, what: str) -> None:
    """Two runs have the same events; if not, say where the first that differs is."""
    if observed.run.digest == other.run.digest and np.array_equal(observed.events, other.events):
        return
    common = min(len(observed.events), len(other.events))
    differs = np.flatnonzero(observed.events[:common] != other.events[:common])
    place = int(differs[0]) if len(differs) else common
    for one in (observed, other):
        if place < len(one.events):
            row = one.rows[place]
            raise PropertyError(f"{what}, event {place} differs", cycle=row[0], pcpu=row[2], vcpus=(row[3],))
    raise PropertyError(f"{what}, the digests differ: {observed.run.digest}, {other.run.digest}")


def check_repeats(observed: Observed) -> None:
    """Same machine, same seed: the same events, to the cycle (P10)."""
    check_same_events(observed, observed.again(), "run again with the same seed")


def check_idle_policy(observed: Observed) -> None:
    """Without PAUSE exits a policy has nothing to decide: all run as vanilla does, to the cycle (P10)."""
    kvm: dict[str, Any] = {"kvm__pause_filter_count": 0} if observed.scenario.hardware.is_amd else {"kvm__ple_gap": 0}
    mine = observed.again(kvm__pause_exiting="false", **kvm)
    vanilla = mine.again(policy=policy_named("vanilla"))
    check_same_events(mine, vanilla, "without PAUSE exits, compared with vanilla")
