"""Who is inside a lock, and in which order: what no policy may change."""

from __future__ import annotations

from bisect import bisect

import numpy as np

from pleemu.checks.finding import at
from pleemu.checks.observed import Observed
from pleemu.guest.image import Image
from pleemu.hardware.isa import (
    LOCK_SHARED,
    OP_JCC,
    OP_PROBE,
    PROBE_LOCK_ACQUIRED,
    PROBE_LOCK_RELEASED,
    PROBE_LOCK_WAIT,
    PROBE_LOCK_WAIT_OVER,
)
from pleemu.observe.events import KVM_EXIT, PAUSE_INSTRUCTION, PROBE

# Labels of loops in which a waiter already has its place in a first-in-first-out order, by lock.
FIFO_WAITS = (
    *("_raw_spin_lock", "mcs_node_wait", "clh_node_wait"),
    *("pending_wait", "queue_head_wait"),  # and mcs_node_wait: the queued spinlock
)


def check_mutual_exclusion(observed: Observed) -> int:
    """No lock ever has two holders, unless both share it, whatever the policy does; returns how often one was taken.

    A policy only changes timing (P1, `reference/workloads` 0 d). A lock is free from the store that frees it,
    which stands directly before its probe. So a vCPU holds it no more if it was taken out of the guest between
    the two: its exit is at the probe, and may still be on its way (a kvm_exit comes later than the guest's last
    instruction) or have been cut off.
    """
    vm = observed.vm_of
    after_store = [_after_store(image) for image in observed.images]
    shares = [_sharing(image) for image in observed.images]
    told = [row for row in observed.rows if row[1] in (KVM_EXIT, PROBE)]
    places: dict[int, list[int]] = {}  # of each vCPU's events in `told`
    for place, row in enumerate(told):
        places.setdefault(row[3], []).append(place)
    holders: dict[tuple[int, int], dict[int, bool]] = {}  # by lock: who has it, and whether it shares it
    taken = 0
    for place, row in enumerate(told):
        _, kind, _, vcpu, a, b, c = row
        if (kind, a) == (PROBE, PROBE_LOCK_ACQUIRED):
            held = holders.setdefault((vm[vcpu], b), {})
            shared = c in shares[vm[vcpu]]
            for holder, shares_it in list(held.items()):
                if holder == vcpu or (shared and shares_it):
                    continue
                later = bisect(places[holder], place)
                around = [told[near] for near in places[holder][later - 1 : later + 1]]
                stopped = any(event[1] == KVM_EXIT and event[5] in after_store[vm[holder]] for event in around)
                open_end = later == len(places[holder])
                if not (stopped or open_end):
                    raise at(row, f"takes lock {b:#x}, which vCPU {holder} holds", holder)
                del held[holder]
            held[vcpu] = shared
            taken += 1
        elif (kind, a) == (PROBE, PROBE_LOCK_RELEASED):
            holders.get((vm[vcpu], b), {}).pop(vcpu, None)
    return taken


def _after_store(image: Image) -> set[int]:
    """Where a vCPU has let go of a lock and not yet told: at the probe, and at a jump that looks at whether it has."""
    table = image.instructions
    told = (table.op == OP_PROBE) & (table.probe == PROBE_LOCK_RELEASED)
    leads = np.append(told[1:], False) | np.where(table.target >= 0, told[table.target], False)
    return set(table.address[told | ((table.op == OP_JCC) & leads)].tolist())


def _sharing(image: Image) -> set[int]:
    """Where a lock is taken together with others."""
    table = image.instructions
    shared = (table.op == OP_PROBE) & (table.probe == PROBE_LOCK_ACQUIRED) & (table.manner & LOCK_SHARED != 0)
    return set(table.address[shared].tolist())


def check_fifo(observed: Observed) -> int:
    """A first-in-first-out lock is had in the order of its tickets or queue; returns how many were in line (P8).

    What a waiter's place is only its registers know. But who has had a PAUSE exit in a loop of FIFO_WAITS had its
    place by then: whoever says only afterwards that it wants the lock must come behind it.
    """
    vm = observed.vm_of
    waits: dict[int, dict[int, int]] = {}  # of each vCPU, from the outermost on: lock -> number of its lock_wait event
    in_line: dict[tuple[int, int], int] = {}  # vCPU that certainly has a place in a lock -> number of what shows it
    seen = 0
    for number, row in enumerate(observed.rows):
        _, kind, _, vcpu, a, b, _ = row
        mine = waits.setdefault(vcpu, {})
        if kind == KVM_EXIT and a == PAUSE_INSTRUCTION and mine:
            lock = next(reversed(mine))
            if (vcpu, lock) not in in_line and observed.function_at(vcpu, b) in FIFO_WAITS:
                in_line[vcpu, lock] = number
                seen += 1
        elif (kind, a) == (PROBE, PROBE_LOCK_WAIT):
            mine[b] = number
        elif (kind, a) == (PROBE, PROBE_LOCK_WAIT_OVER):
            mine.pop(b, None)
            in_line.pop((vcpu, b), None)
        elif (kind, a) == (PROBE, PROBE_LOCK_ACQUIRED) and b in mine:
            began = mine.pop(b)
            in_line.pop((vcpu, b), None)
            for (other, lock), shown in in_line.items():
                if vm[other] == vm[vcpu] and lock == b and shown < began:
                    raise at(row, f"overtakes vCPU {other} at lock {b:#x}", other)
    return seen
