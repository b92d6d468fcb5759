"""Every shipped lock keeps its promises under every policy and scheduler: these may only change timing."""

from __future__ import annotations

import os
from itertools import product

import pytest
from made_c_guests import COMPILERS
from made_locks import IN_ORDER, PROGRAMS, SCHEDULERS, Setting, check
from made_machines import POLICIES

from pleemu.checks.machines import fitting_schedulers
from pleemu.observe.events import HLT, KVM_EXIT

# (vCPUs, pCPUs): as many pCPUs as vCPUs, and fewer. Two vCPUs on one show what three on two do not: nobody ever spins
# while the owner runs.
SHAPES = ((2, 2), (2, 1), (3, 3), (3, 2), (5, 5), (5, 2), (8, 8), (8, 3))
PAIRS = [(policy, one) for policy in POLICIES for one in fitting_schedulers(policy, SCHEDULERS)]
EVERYTHING = os.environ.get("PLEEMU_LOCKS") == "all"  # the whole matrix: some ten minutes


def settings_of(lock: str) -> list[Setting]:
    """All cells of the matrix for a lock; or every policy under every scheduler that it fits, the shapes in turn."""
    turn = list(PROGRAMS).index(lock)
    if EVERYTHING:
        cells = list(product(PAIRS, SHAPES))
    else:
        cells = [(pair, SHAPES[(3 * turn + number) % len(SHAPES)]) for number, pair in enumerate(PAIRS)]
    return [
        Setting(lock=lock, policy=policy, scheduler=scheduler, vcpus=vcpus, pcpus=pcpus, seed=1 + number)
        for number, ((policy, scheduler), (vcpus, pcpus)) in enumerate(cells)
    ]


@pytest.mark.parametrize("lock", PROGRAMS)
def test_lock_keeps_its_promises_everywhere(lock: str) -> None:
    """One owner at a time, nobody waits for ever, the lock is free at the end, and those in order keep it."""
    if lock == "ticket in C" and all(one.marks[0].args[0] for one in COMPILERS):
        pytest.skip("no C compiler is installed")
    settings = settings_of(lock)
    assert {(one.policy, one.scheduler) for one in settings} == set(PAIRS)
    assert {(one.vcpus, one.pcpus) for one in settings} == set(SHAPES)
    exits = in_line = halts = 0
    for one in settings:
        observed, found = check(one)
        exits += observed.run.ple.exits
        in_line += found
        halts += int((observed.of_kind(KVM_EXIT)["a"] == HLT).sum())
    assert exits > 100
    assert in_line > 50 or lock not in IN_ORDER
    assert halts > 100 or lock != "pv_qspinlock"
