"""Who is inside a lock, and in which order: what no policy may change."""

from __future__ import annotations

from bisect import bisect
from typing import Any

import numpy as np

from pleemu.checks.finding import at
from pleemu.checks.observed import Observed
from pleemu.hardware.isa import (
    OP_JCC,
    OP_PROBE,
    PROBE_LOCK_ACQUIRED,
    PROBE_LOCK_RELEASED,
    PROBE_LOCK_WAIT,
    PROBE_LOCK_WAIT_OVER,
)
from pleemu.observe.events import KVM_EXIT, PAUSE_INSTRUCTION, PROBE

# Labels of loops in which a waiter already has its place in a first-in-first-out order, by lock.
FIFO_WAITS = ("_raw_spin_lock", "pending_wait", "mcs_node_wait", "clh_node_wait", "wait_for_ticket")


def check_mutual_exclusion(observed: Observed) -> int:
    """No lock ever has two holders, whatever the policy does; returns how often one was taken.

    A policy only changes timing (P1, `reference/workloads` 0 d). A lock is free from the store that frees it,
    which stands directly before its probe. So a vCPU holds it no more if it was taken out of the guest between
    the two: its exit is at the probe, and may still be on its way (a kvm_exit comes later than the guest's last
    instruction) or have been cut off.
    """
    vm = observed.vm_of
    after_store = [_behind_release(image.instructions) for image in observed.images]
    told = [row for row in observed.rows if row[1] in (KVM_EXIT, PROBE)]
    places: dict[int, list[int]] = {}  # of each vCPU's events in `told`
    for place, row in enumerate(told):
        places.setdefault(row[3], []).append(place)
    holders: dict[tuple[int, int], int] = {}
    taken = 0
    for place, row in enumerate(told):
        _, kind, _, vcpu, a, b, _ = row
        if (kind, a) == (PROBE, PROBE_LOCK_ACQUIRED):
            holder = holders.get((vm[vcpu], b))
            if holder is not None:
                later = bisect(places[holder], place)
                around = [told[near] for near in places[holder][later - 1 : later + 1]]
                stopped = any(event[1] == KVM_EXIT and event[5] in after_store[vm[holder]] for event in around)
                open_end = later == len(places[holder])
                if not (stopped or open_end):
                    raise at(row, f"takes lock {b:#x}, which vCPU {holder} holds", holder)
            holders[vm[vcpu], b] = vcpu
            taken += 1
        elif (kind, a) == (PROBE, PROBE_LOCK_RELEASED) and holders.get((vm[vcpu], b)) == vcpu:
            del holders[vm[vcpu], b]
    return taken


def _behind_release(table: Any) -> set[int]:
    """Addresses between the store that frees a lock and its probe: the probe, and a branch by whether it was freed."""
    probes = (table.op == OP_PROBE) & (table.probe == PROBE_LOCK_RELEASED)
    leads = np.append(probes[1:], False) | np.where(table.target >= 0, probes[table.target], False)
    return set(table.address[probes | ((table.op == OP_JCC) & leads)].tolist())


def check_fifo(observed: Observed) -> int:
    """A first-in-first-out lock is had in the order of its tickets or queue; returns how many were in line (P8).

    What a waiter's place is only its registers know. But who has had a PAUSE exit in a loop of FIFO_WAITS had its
    place by then: whoever says only afterwards that it wants the lock must come behind it.
    """
    vm = observed.vm_of
    since: dict[int, dict[int, int]] = {}  # vCPU -> lock -> number of its lock_wait event, innermost last
    in_line: dict[int, int] = {}  # vCPU that certainly has a place -> number of the event that shows it
    seen = 0
    for number, row in enumerate(observed.rows):
        _, kind, _, vcpu, a, b, _ = row
        waits = since.setdefault(vcpu, {})
        if kind == KVM_EXIT and a == PAUSE_INSTRUCTION and waits and vcpu not in in_line:
            if observed.function_at(vcpu, b) in FIFO_WAITS:
                in_line[vcpu] = number
                seen += 1
        elif (kind, a) == (PROBE, PROBE_LOCK_WAIT):
            waits[b] = number
        elif (kind, a) == (PROBE, PROBE_LOCK_WAIT_OVER):
            waits.pop(b, None)
        elif (kind, a) == (PROBE, PROBE_LOCK_ACQUIRED) and b in waits:
            began = waits.pop(b)
            in_line.pop(vcpu, None)
            for other, shown in in_line.items():
                if vm[other] == vm[vcpu] and next(reversed(since[other])) == b and shown < began:
                    raise at(row, f"overtakes vCPU {other} at lock {b:#x}", other)
    return seen
