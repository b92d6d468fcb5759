"""The tournament of the pCPUs says what looking at all of them would say."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pleemu.handle import pointer_to
from pleemu.hardware.agenda import earliest, reschedule, runner_up
from pleemu.hardware.records import NEVER, PCPU
from pleemu.jit import callable_alone
from pleemu.machine.build import agenda_of

Pieces = namedtuple("Pieces", "pcpu due winner")

CYCLES = st.sampled_from((0, 1, 2, 3, NEVER)) | st.integers(0, 50)
CHANGES = st.lists(st.tuples(st.integers(0, 10**6), CYCLES, CYCLES), min_size=1, max_size=40)


def after(machine, p):
    """PCPU ``p`` has changed: who is first, who then, and when."""
    m = pointer_to(machine)
    reschedule(m, p)
    first = earliest(m)
    second, cycle = runner_up(m, first)
    return first, m.due[first], second, cycle


after_alone = callable_alone(after)


@given(st.integers(1, 70), CHANGES)
def test_first_and_second_are_those_of_a_scan(pcpus, changes):
    """By (cycle, number), after each of any changes; a pCPU without a second has none."""
    due, winner = agenda_of(pcpus)
    machine = Pieces(np.zeros(pcpus, PCPU).view(np.recarray), due, winner)
    machine.pcpu.cycle = machine.pcpu.commit_at = NEVER
    for number, cycle, commit_at in changes:
        p = number % pcpus
        machine.pcpu[p].cycle, machine.pcpu[p].commit_at = cycle, commit_at
        first, first_cycle, second, second_cycle = after_alone(machine, p)
        keys = sorted((min(one.cycle, one.commit_at), q) for q, one in enumerate(machine.pcpu))
        assert (first_cycle, first) == keys[0]
        expected = keys[1] if pcpus > 1 else (NEVER, -1)
        assert second_cycle == expected[0]
        if expected[0] < NEVER:
            assert second == expected[1]
