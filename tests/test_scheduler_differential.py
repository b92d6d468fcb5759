"""The scheduler room against the plain reference, on operations that nobody has recorded.

PLEEMU_SEQUENCES=5000 compares so many sequences a scheduler. PLEEMU_SEED=n compares the one that a failure names.
"""

import json
import os

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from made_operations import REFERENCES, format_of, machine_of, made_scenario, reduced, run
from scheduler_sides import compare, recordable

from pleemu.conform.replay import replay_file

SEQUENCES = int(os.environ.get("PLEEMU_SEQUENCES", "60"))
SEED = os.environ.get("PLEEMU_SEED")
SEEDS = st.just(int(SEED)) if SEED else st.integers(0, 2**32)


@pytest.mark.parametrize("scheduler", REFERENCES)
def test_the_room_agrees_with_the_reference_on_random_operations(scheduler, tmp_path_factory):
    """After each operation every integer is the same; a failure leaves a file for `pleemu conform`."""

    @settings(
        max_examples=SEQUENCES,
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=SEEDS)
    @example(seed=0)
    def agrees(seed):
        scenario = made_scenario(scheduler, seed)
        if compare(scheduler, scenario)[1] is None:
            return
        short = reduced(scenario, lambda one: compare(scheduler, one)[1] is not None)
        agreed, difference, states = compare(scheduler, short)
        short |= {"ops": short["ops"][: len(states)], "states": states}
        short = recordable(scheduler, short)
        path = tmp_path_factory.mktemp("differential") / f"{scheduler}-{seed}.json"
        path.write_text(json.dumps({"format": format_of(scheduler), "scenarios": [short]}))
        raise AssertionError(
            f"{scheduler}, PLEEMU_SEED={seed}, shortened to {len(short['ops'])} operations, {agreed} of which agree: "
            f"{difference}\nfeatures: {short.get('features', 'as they are by default')}\nreplay: pleemu conform {path}"
        )

    agrees()


@pytest.mark.parametrize("scheduler", REFERENCES)
def test_the_file_that_a_failure_leaves_is_replayed_with_its_features(scheduler, tmp_path):
    """The reference's states under other features agree; without them the same states do not."""
    path = tmp_path / "made.json"
    features = sorted(REFERENCES[scheduler].FEATURES ^ {"WAKEUP_PREEMPTION", "NEXT_BUDDY"})
    scenario = machine_of(scheduler, nice=[0, 0]) | {"features": features}
    scenario["ops"] = [["new", 0, 0], ["sched", 0], ["sleep", 0], ["new", 1, 0], ["sched", 0]]
    scenario["ops"] += [["adv", 100_000_000], ["wake", 0, 0]]
    scenario["states"] = run(REFERENCES[scheduler].of(scenario), scenario["ops"])
    written = recordable(scheduler, scenario)
    for text, agreeing in ((written["features"], 1), ("", 0)):
        path.write_text(json.dumps({"format": format_of(scheduler), "scenarios": [written | {"features": text}]}))
        assert replay_file(path).agreeing == agreeing


@pytest.mark.parametrize("scheduler", REFERENCES)
def test_a_task_that_is_alone_for_a_year(scheduler):
    """Its vruntime times its weight is more than 64 bits hold; who is alone is the average without a product."""
    scenario = machine_of(scheduler, nice=[-20, 0])
    scenario["ops"] = [["new", 0, 0], ["sched", 0], ["adv", 365 * 86_400 * 10**9], ["tick", 0], ["new", 1, 0]]
    assert compare(scheduler, scenario)[1] is None
