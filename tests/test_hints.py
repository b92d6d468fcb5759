"""What explains a scheduler's answer to a hint, and the pick that policy `ideal` forces, on any operations."""

from __future__ import annotations

from random import Random

import pytest
import scheduler_properties as properties
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from made_operations import REFERENCES, made_scenario
from reference.fair import WEIGHTS
from scheduler_properties import RUNNING, WAITING
from scheduler_sides import room_of

from pleemu.jit import callable_alone
from pleemu.kernel import SCHEDULERS
from pleemu.scheduler.distance import HINT_CLOSE, HINT_ELIGIBLE, HINT_IGNORED, hint_distance, hint_test

distance_alone = callable_alone(hint_distance)
hint_alone = callable_alone(hint_test)

quick = settings(
    max_examples=15,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


def queues(state):
    """Yield each CPU's number and the tasks on its queue, the running one with them."""
    for q, cpu in enumerate(state["cpu"]):
        yield q, cpu["tree"] + [cpu["curr"]] * (cpu["curr"] >= 0 and state["on"][cpu["curr"]] == q)


@pytest.mark.parametrize("scheduler", REFERENCES)
def test_distance_says_who_would_be_followed(scheduler):
    """CFS: how far from the least vruntime; EEVDF: above the limit exactly if not eligible. It changes nothing."""

    @quick
    @given(seed=st.integers(0, 2**32))
    def holds(seed):
        scenario = made_scenario(scheduler, seed, length=120)
        machine = room_of(scheduler, scenario)
        for op in scenario["ops"]:
            state = machine.state(machine.apply(op))
            v = state["v"]
            weight = [WEIGHTS[nice + 20] for nice in scenario["nice"]]
            for q, tasks in queues(state):
                for task in tasks:
                    distance, limit = distance_alone(machine.host, q, task)
                    if scheduler == "cfs-5.6":
                        assert distance == v[task] - min(v[one] for one in tasks)
                        assert limit >= 0
                    else:
                        eligible = sum(weight[one] * (v[one] - v[task]) for one in tasks) >= 0
                        assert (distance <= limit) == eligible
            assert machine.state(state["r"]) == state

    holds()


@pytest.mark.parametrize("scheduler", REFERENCES)
def test_forced_pick_is_safe(scheduler):
    """Who is runnable here is picked; who sleeps, delayed or not, or is elsewhere is not. No invariant breaks."""

    @quick
    @given(seed=st.integers(0, 2**32))
    def holds(seed):
        scenario = made_scenario(scheduler, seed, length=120)
        machine = room_of(scheduler, scenario)
        random, states = Random(seed), []
        for op in scenario["ops"]:
            forced = -1
            if op[0] == "sched":
                before = machine.state(0)
                forced = random.randrange(len(scenario["nice"]))
                machine.host.rq.forced[op[1]] = forced + 1
            states.append(machine.state(machine.apply(op)))
            if forced >= 0:
                runnable = before["st"][forced] in (RUNNING, WAITING) and before["on"][forced] == op[1]
                if runnable:
                    assert states[-1]["cpu"][op[1]]["curr"] == forced
                assert machine.host.rq.forced[op[1]] == 0
        properties.all_of(scheduler, scenario, states)

    holds()


@pytest.mark.parametrize(
    ("scheduler", "features", "what"),
    [
        ("cfs-5.6", "", HINT_CLOSE),
        ("eevdf-6.6", "", HINT_IGNORED),
        ("eevdf-6.12.0", "", HINT_IGNORED),
        ("eevdf-6.12.0", "NEXT_BUDDY", HINT_ELIGIBLE),
        ("eevdf-6.12", "", HINT_ELIGIBLE),
        ("eevdf-6.12", "NO_PICK_BUDDY", HINT_IGNORED),
    ],
)
def test_version_decides_whether_the_hint_is_looked_at(scheduler, features, what):
    """What `pleemu list schedulers` says of the hint, and its features."""
    from pleemu.conform.scheduler import Machine

    machine = Machine.of(scheduler, [0, 0])
    for name, value in SCHEDULERS[scheduler].tunables(cpus=1, hz=250, features=features).items():
        machine.host.tunables[name] = value
    if "NO_PICK_BUDDY" in features:
        machine.host.tunables.pick_buddy = 0
    assert hint_alone(machine.host) == what
