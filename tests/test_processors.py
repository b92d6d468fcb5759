"""Processor presets, and what the length of PAUSE makes of them."""

from __future__ import annotations

import functools

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_guests import MAIN, write_guest
from made_machines import Command, observe
from reference.ple import PauseLoopExiting

from pleemu.processor import AMD, FIGURES, INTEL, PROCESSORS, SPIN_LOOP_CYCLES, processor
from pleemu.report.lists import _spin_exits
from pleemu.scenario import Hardware

NAMES = [one.name for one in PROCESSORS]
INTELS = [one.name for one in PROCESSORS if one.vendor == INTEL]


def test_presets_are_the_eight():
    """Five of Intel and three of AMD."""
    assert NAMES == ["haswell", "broadwell", "skylake-sp", "cascade-lake", "ice-lake-sp", "zen2", "zen3", "zen4"]
    assert [one.name for one in PROCESSORS if one.vendor == AMD] == ["zen2", "zen3", "zen4"]


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_has_a_source(name):
    """No number of a preset stands without the place that it comes from."""
    assert set(processor(name).sources) == set(FIGURES)
    assert all(processor(name).sources.values())


@given(st.sampled_from(NAMES), st.sampled_from(FIGURES), st.integers(1000, 1024))
def test_every_figure_can_be_overridden_alone(name, figure, value):
    """What is given in `hardware` replaces that figure of the preset and no other."""
    value -= 900 * (figure == "store_buffer")  # which has its own bounds
    costs = Hardware(processor=name, **{figure: value}).costs()
    assert costs == attrs.evolve(processor(name), **{figure: value})


def test_clocks_follow_the_preset():
    """The TSC runs at the preset's rate and the core at the TSC's, unless they are given."""
    assert (Hardware().tsc_rate_khz, Hardware().core_rate_khz) == (2_100_000, 2_100_000)
    assert Hardware(processor="cascade-lake").core_rate_khz == 3_000_000
    assert Hardware(processor="cascade-lake", tsc_khz=5_000).core_rate_khz == 5_000
    assert Hardware(processor="cascade-lake", core_khz=5_000).tsc_rate_khz == 3_000_000
    assert Hardware(processor="haswell", vendor=AMD).is_amd


def latency(processor, **fields):
    """A short run of the shipped experiment."""
    return observe(Command("pause_latency", {"duration": "60ms"}, {"hardware.processor": processor, **fields})).run


@pytest.mark.parametrize(
    ("name", "clock", "least", "most"),
    [
        ("haswell", None, 300, 400),
        ("broadwell", None, 300, 400),
        ("skylake-sp", "2800000", 30, 40),
        ("cascade-lake", None, 90, 100),
        ("ice-lake-sp", None, 100, 120),
        ("zen2", None, 3000, 3000),
        ("zen3", None, 3000, 3000),
        ("zen4", None, 3000, 3000),
    ],
)
def test_pauses_before_the_first_exit_depend_on_their_length(name, clock, least, most):
    """A window of 4096 ticks is 300 to 400 short PAUSEs, under 40 of Skylake's; AMD counts 3000 of any length."""
    run = latency(name, **({"hardware.core_khz": clock} if clock else {}))
    assert run.ple.exits > 0
    assert least <= run.ple.pauses_before_first <= most


def test_skylake_is_silent_at_its_base_clock():
    """142 ticks from PAUSE to PAUSE are beyond the gap of 128: no exit. With a turbo, or a gap of 142, there are."""
    assert latency("skylake-sp").ple.exits == 0
    assert latency("skylake-sp").ple.pauses > 10_000
    assert latency("skylake-sp", **{"kvm.ple_gap": "141"}).ple.exits == 0
    assert latency("skylake-sp", **{"kvm.ple_gap": "142"}).ple.exits > 0
    assert latency("skylake-sp", **{"hardware.core_khz": "2800000"}).ple.exits > 0


@functools.cache
def spinner(folder):
    """A bare spin loop that nobody ends."""
    return str(
        write_guest(folder, f"{MAIN}1: pause\n cmp dword ptr [rip + lock], 0\n jne 1b\n ret\n.data\nlock: .long 1\n")
    )


def first_exit_by_the_manual(tsc_khz, core_khz, cycles, gap, pauses):
    """The number of the first PAUSE that exits by the SDM's rule, if PAUSE k comes at cycle k * cycles; None: none."""
    ple = PauseLoopExiting(gap=gap)
    ple.enter(gap, 4096)
    times = (k * cycles * tsc_khz // core_khz for k in range(pauses))
    return next((k for k, now in enumerate(times) if ple.exits(now, 0)), None)


EDGE_KHZ = 2_100_000 * (140 + SPIN_LOOP_CYCLES) // 128  # core clock at which PAUSEs are 128 ticks apart


@settings(max_examples=60)
@given(st.integers(-3, 3) | st.integers(-60_000, 60_000) | st.sampled_from((-229_687, 470_313)))
def test_edge_is_where_the_manual_has_it(tmp_path_factory, off):
    """Around the core clock at which two PAUSEs are 128 TSC ticks apart the loop exits exactly where the rule says."""
    folder = tmp_path_factory.getbasetemp()
    core_khz = EDGE_KHZ + off
    quiet = {"hardware.processor": "skylake-sp", "hardware.core_khz": str(core_khz), "cost.entry_ns": "0"}
    run = observe(Command(spinner(folder), {"vcpus": 1, "duration": "1ms"}, quiet)).run
    expected = first_exit_by_the_manual(2_100_000, core_khz, 142, 128, 10_000)
    assert run.ple.pauses_before_first == expected
    assert (run.ple.exits > 0) == (expected is not None)


@pytest.mark.parametrize(("off", "fires"), [(-60_000, False), (-5_000, False), (1, True), (60_000, True)])
def test_edge_is_at_a_turbo_of_142_to_128(tmp_path_factory, off, fires):
    """Clearly below 1.109 times the TSC's rate there is no exit, from there on there is."""
    assert (first_exit_by_the_manual(2_100_000, EDGE_KHZ + off, 142, 128, 10_000) is not None) == fires


def test_list_says_where_the_edge_is():
    """`pleemu list processors` names the clock from which Skylake-SP's loop exits; all others' do at once."""
    assert {one.name: _spin_exits(one) for one in PROCESSORS} == {
        name: "from 2.33 GHz" if name == "skylake-sp" else "yes" for name in NAMES
    }


@pytest.mark.parametrize("name", ["broadwell", "zen4"])
def test_every_pause_exits_with_pause_exiting(tmp_path, name):
    """Each of 50 PAUSEs exits, whatever gap, window or count are; the window stays; without PLE none does."""
    guest = str(write_guest(tmp_path, f"{MAIN} mov ecx, 50\n1: pause\n dec ecx\n jne 1b\n ret\n"))
    fields = {"hardware.processor": name, "kvm.pause_exiting": "true"}
    run = observe(Command(guest, {"vcpus": 1}, fields)).run
    assert (run.ple.exits, run.ple.pauses) == (50, 0)
    assert run.ple.runs[0].first_window == run.ple.runs[0].last_window
    assert observe(Command(guest, {"vcpus": 1, "policy": "no-ple"}, fields)).run.ple.exits == 0
