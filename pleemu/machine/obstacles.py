"""Whom the vCPUs of a VM wait for directly: the graph of `observe.waits` as matrices, by number in the VM.

A row is who waits, a column for whom: who owes it an answer, who holds what it wants, who is before it in line, who
has yet to arrive at its barrier. It may hold itself what it wants.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pleemu.machine.state import Machine
from pleemu.observe.records import WAIT_DEPTH

Matrix = NDArray[np.bool_]


def obstacles(machine: Machine, v: int) -> list[int]:
    """Return the vCPUs that ``v`` waits for directly."""
    vm = machine.vm[int(machine.vcpu[v].vm)]
    first = int(vm.first_vcpu)
    row = obstacle_matrix(machine, range(first, first + int(vm.vcpus)))[v - first]
    return [first + int(number) for number in np.nonzero(row)[0]]


def obstacle_matrix(machine: Machine, members: range) -> Matrix:
    """Return for all ``members``, the vCPUs of one VM, whom each waits for."""
    waiting: Any = machine.waiting[members.start : members.stop]
    cpu: Any = machine.cpu[members.start : members.stop]
    found = owed_answers(machine, members)
    numbers = np.arange(len(members))
    inside = (waiting.depth > 0) & (waiting.depth <= WAIT_DEPTH)
    level = np.where(inside, waiting.depth - 1, 0)
    lock = np.where(inside, waiting.lock[numbers, level], -1)
    shares = waiting.shared[numbers, level] == 1
    for row in np.unique(lock[lock >= 0]):
        wants = lock == row
        holding, sharing = (
            members_of(machine.holding[row], len(members)),
            members_of(machine.sharing[row], len(members)),
        )
        found[wants & ~shares] |= holding
        found[wants & shares] |= holding & ~sharing
        if machine.lock[row].in_order == 1:
            own = places_in(waiting, cpu, row)
            before = (
                (own > 0) & ((cpu.place[:, None] == 0) | (own < cpu.place[:, None])) & ~np.eye(len(own), dtype=bool)
            )
            found[wants] |= before[wants]
    return found


def owed_answers(machine: Machine, members: range) -> Matrix:
    """Return who owes whom an answer."""
    return members_of(machine.awaited[members.start : members.stop], len(members))


def members_of(sets: NDArray[Any], count: int) -> Matrix:
    """Return the members of sets that are kept as bits, 64 to a word."""
    numbers = np.arange(count)
    return np.asarray((sets[..., numbers >> 6] >> (numbers & 63)) & 1 == 1)


def places_in(waiting: Any, cpu: Any, lock: int) -> NDArray[np.int64]:
    """Return the place in which each waits for a lock in order, 0 if it does not (see `frontier.place_in`)."""
    places = np.zeros(len(waiting), np.int64)
    known = np.zeros(len(waiting), bool)
    for level in range(WAIT_DEPTH):
        here = ~known & (level < waiting.depth) & (waiting.lock[:, level] == lock)
        places[here] = np.where(level == waiting.depth - 1, cpu.place, waiting.place[:, level])[here]
        known |= here
    return places
