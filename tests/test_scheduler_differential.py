"""The scheduler room against the plain reference, on operations that nobody has recorded.

PLEEMU_SEQUENCES=5000 compares so many sequences a scheduler. PLEEMU_SEED=n compares the one that a failure names.
"""

import json
import os

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from made_operations import REFERENCES, format_of, made_scenario, reduced
from scheduler_sides import compare, known, knows_features

SEQUENCES = int(os.environ.get("PLEEMU_SEQUENCES", "60"))
SCHEDULERS = [
    pytest.param(name, marks=[] if known(name) else pytest.mark.skip(f"pleemu conform does not know {name} yet"))
    for name in REFERENCES
]
SEED = os.environ.get("PLEEMU_SEED")
SEEDS = st.just(int(SEED)) if SEED else st.integers(0, 2**32)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
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
        scenario = made_scenario(scheduler, seed, default_features=not knows_features(scheduler))
        if compare(scheduler, scenario)[1] is None:
            return
        short = reduced(scenario, lambda one: compare(scheduler, one)[1] is not None)
        agreed, difference, states = compare(scheduler, short)
        short |= {"ops": short["ops"][: len(states)], "states": states}
        path = tmp_path_factory.mktemp("differential") / f"{scheduler}-{seed}.json"
        path.write_text(json.dumps({"format": format_of(scheduler), "scenarios": [short]}))
        raise AssertionError(
            f"{scheduler}, PLEEMU_SEED={seed}, shortened to {len(short['ops'])} operations, {agreed} of which agree: "
            f"{difference}\nfeatures: {short.get('features', 'as they are by default')}\nreplay: pleemu conform {path}"
        )

    agrees()
