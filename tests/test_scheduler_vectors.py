"""The schedulers against the kernel's own functions, recorded state by state."""

import gzip
import json
from functools import cache
from pathlib import Path

import pytest

from pleemu.conform.scheduler import replay
from pleemu.kernel import SCHEDULERS

VECTORS = Path(__file__).parent / "vectors"
# One CPU, many CPUs, worked by hand.
RECORDED = {"cfs-5.6": 148, "eevdf-6.6": 55, "eevdf-6.12.0": 55, "eevdf-6.12": 135}


@cache
def scenarios(name):
    return json.loads(gzip.decompress((VECTORS / f"{name}.json.gz").read_bytes()))["scenarios"]


def test_every_scheduler_is_recorded():
    """A scheduler without a recording would be a claim."""
    assert set(RECORDED) == {name for name, version in SCHEDULERS.items() if version.model in ("CFS", "EEVDF")}


@pytest.mark.parametrize(("name", "count"), RECORDED.items())
def test_the_scheduler_agrees_with_the_kernel_on_every_state(name, count):
    """After each operation every integer is the kernel's; `pleemu conform tests/vectors/NAME.json.gz` repeats it."""
    assert len(scenarios(name)) == count
    differing = [found for found in replay(name, {"scenarios": scenarios(name)}) if found is not None]
    assert not differing, f"{len(differing)} of {count} differ; {differing[0].case}\n{differing[0].text}"


def test_the_recording_of_eevdf_6_6_has_ties():
    """Where several eligible tasks have the best deadline the shape of the tree chose; hundreds of such states."""
    ties = 0
    for scenario in scenarios("eevdf-6.6"):
        if any(scenario["nice"]):
            continue
        for state in scenario["states"]:
            for cpu in state["cpu"]:
                total, load = cpu["avg"], cpu["avgload"]
                if cpu["curr"] >= 0:
                    total += (state["v"][cpu["curr"]] - cpu["v0"]) * 1024
                    load += 1024
                eligible = [task for task in cpu["tree"] if total >= (state["v"][task] - cpu["v0"]) * load]
                deadlines = [state["dl"][task] for task in eligible]
                ties += bool(deadlines) and deadlines.count(min(deadlines)) > 1
    assert ties > 500


@pytest.mark.parametrize("name", RECORDED)
def test_what_the_replay_checks_is_every_key(name):
    """Whatever number of a recording is changed, the replay differs: none is only looked over."""
    scenario = next(one for one in scenarios(name) if one["ncpu"] > 1)
    step = len(scenario["ops"]) // 2
    state = scenario["states"][step]
    for place in (state, state["cpu"][1]):
        for key, value in place.items():
            if key == "cpu":
                continue
            try:
                place[key] = [*value[1:], 77] if isinstance(value, list) else value + 1
                (found,) = replay(name, {"scenarios": [scenario]})
            finally:
                place[key] = value
            assert found is not None, key
            assert f"step {step}: {scenario['ops'][step]}  <- " in found.text
            assert f"{key}: recorded " in found.text


def test_a_key_that_is_not_known_differs():
    """A recording with more state than we have is not agreed with."""
    scenario = dict(scenarios("cfs-5.6")[0])
    scenario["states"] = [{**scenario["states"][0], "more": 1}, *scenario["states"][1:]]
    (found,) = replay("cfs-5.6", {"scenarios": [scenario]})
    assert "more: recorded 1, here None" in found.text
