"""Pause-loop exiting against the manual's rule and against Bochs."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, note
from hypothesis import strategies as st
from reference.ple import PauseLoopExiting

from pleemu.conform.ple import LogicalProcessor
from pleemu.conform.replay import replay_file

VECTORS = Path(__file__).parent / "vectors" / "ple.json.gz"
U32 = 2**32 - 1


def modelled(pause_exiting, ple):
    return LogicalProcessor(pause_exiting=pause_exiting, ple=ple)


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
    model, reference = modelled(*controls), PauseLoopExiting(*map(bool, controls))
    for kind, *arguments in events:
        note(f"{kind}{tuple(arguments)}")
        assert getattr(model, kind)(*arguments) == getattr(reference, kind)(*arguments)


@given(st.integers(0, U32), st.integers(0, U32), st.integers(0, 2**61))
def test_ple_never_exits_at_the_first_pause_of_an_entry(gap, window, now):
    """Whatever was before, a PAUSE right behind a VM entry does not exit."""
    model = modelled(0, 1)
    model.enter(gap, window)
    model.exits(0, 0)
    model.enter(gap, window)
    assert not model.exits(now, 0)


def test_ple_is_what_bochs_does():
    """Every PAUSE of 573 recorded runs of Bochs is decided alike, with gaps beyond the time since power-on, too."""
    replayed = replay_file(VECTORS)
    assert (replayed.cases, replayed.different) == (573, ())
    cases = json.loads(gzip.decompress(VECTORS.read_bytes()))["cases"]
    assert sum(event[0] == "P" for case in cases for event in case["events"]) > 20_000


@pytest.mark.parametrize("spacing", [128, 129])
def test_ple_gap_decides_what_a_loop_is(spacing):
    """PAUSEs 128 ticks apart are a loop for KVM's gap of 128 and exit past the window, 129 never do."""
    model = modelled(0, 1)
    model.enter(128, 4096)
    exits = [number for number in range(100) if model.exits(number * spacing, 0)]
    assert exits[:1] == ([33] if spacing == 128 else [])
