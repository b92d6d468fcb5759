"""Pause-loop exiting against the manual's rule and against Bochs."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st
from reference.ple import PauseLoopExiting

from pleemu.hardware.pause import load_pause_controls, pause_exits
from pleemu.hardware.records import CPU
from pleemu.jit import callable_alone

VECTORS = Path(__file__).parent / "vectors" / "ple.json.gz"
CASES = json.loads(gzip.decompress(VECTORS.read_bytes()))["cases"]
U32 = 2**32 - 1

load_alone = callable_alone(load_pause_controls)
exits_alone = callable_alone(pause_exits)


class Modelled:
    """The emulator's rule with the interface of the reference."""

    def __init__(self, pause_exiting, pause_loop_exiting):
        self.cpu = np.zeros(1, CPU).view(np.recarray)[0]
        self.cpu.pause_exiting, self.cpu.ple = pause_exiting, pause_loop_exiting

    def enter(self, gap, window):
        self.cpu.ple_gap = gap
        load_alone(self.cpu, window)

    def exits(self, now, cpl):
        self.cpu.cpl = cpl
        return bool(exits_alone(self.cpu, now))


def around(*values):
    """Those values, their neighbours, and any other up to the largest."""
    near = [value + step for value in values for step in (-1, 0, 1) if 0 <= value + step <= U32]
    return st.sampled_from(near) | st.integers(0, max(values))


@st.composite
def lives(draw):
    """What a processor sees: entries with new gaps and windows, PAUSEs at any distance and level."""
    gap = draw(around(0, 41, 128, U32))
    window = draw(around(0, 10 * gap, 4096) if gap < 1000 else around(4096, U32))
    distances = st.integers(0, 2 * gap + 2) | around(gap) | around(window)
    events = [("enter", gap, window)]
    now = 0
    for _ in range(draw(st.integers(1, 40))):
        now += draw(distances)
        if draw(st.integers(0, 7)) == 0:
            events.append(("enter", draw(around(0, gap)), draw(around(0, window))))
        else:
            events.append(("exits", now, draw(st.sampled_from((0, 0, 0, 3)))))
    return events


@given(lives(), st.sampled_from(((0, 1), (0, 1), (0, 1), (1, 1), (1, 0), (0, 0))))
def test_ple_is_the_rule_of_the_manual(events, controls):
    """For any gap, window, times, levels and VM entries the same PAUSEs exit as by the SDM's own words."""
    model, reference = Modelled(*controls), PauseLoopExiting(*map(bool, controls))
    for kind, *arguments in events:
        note(f"{kind}{tuple(arguments)}")
        assert getattr(model, kind)(*arguments) == getattr(reference, kind)(*arguments)


@given(st.integers(0, U32), st.integers(0, U32), st.integers(0, 2**61))
def test_ple_never_exits_at_the_first_pause_of_an_entry(gap, window, now):
    """Whatever was before, a PAUSE right behind a VM entry does not exit."""
    model = Modelled(0, 1)
    model.enter(gap, window)
    model.exits(0, 0)
    model.enter(gap, window)
    assert not model.exits(now, 0)


def disagreements(case):
    """The PAUSEs of a recorded case at which the emulator decides otherwise than Bochs did."""
    model = Modelled(case["pause_exiting"], case["ple"])
    return [
        event
        for event in case["events"]
        if (event[0] == "E" and model.enter(*event[2:])) or (event[0] == "P" and model.exits(*event[1:3]) != event[4])
    ]


def test_ple_is_what_bochs_does():
    """Every PAUSE of 573 recorded runs of Bochs is decided alike, with gaps beyond the time since power-on, too."""
    assert len(CASES) == 573
    assert sum(event[0] == "P" for case in CASES for event in case["events"]) > 20_000
    assert {case["id"]: found for case in CASES if (found := disagreements(case))} == {}


@pytest.mark.parametrize("spacing", [128, 129])
def test_ple_gap_decides_what_a_loop_is(spacing):
    """PAUSEs 128 ticks apart are a loop for KVM's gap of 128 and exit past the window, 129 never do."""
    model = Modelled(0, 1)
    model.enter(128, 4096)
    exits = [number for number in range(100) if model.exits(number * spacing, 0)]
    assert exits[:1] == ([33] if spacing == 128 else [])
