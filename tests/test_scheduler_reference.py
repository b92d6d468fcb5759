"""The plain reference of the fair schedulers against Linux, and the worked numbers of CFS on both sides."""

import gzip
import json
from itertools import pairwise
from pathlib import Path

import pytest
from made_operations import REFERENCES, format_of, machine_of, made_scenario, reduced, run
from reference.fair import Task, inverse_of, scale, truncated, tunable_factor
from scheduler_sides import SIDES, Driven, Followed, first_difference

VECTORS = Path(__file__).parent / "vectors"
CFS_SIDES = [param for param in SIDES if param.values[1] == "cfs-5.6"]
MS = 1_000_000


def recorded(scheduler):
    data = json.loads(gzip.decompress((VECTORS / f"{scheduler}.json.gz").read_bytes()))
    assert data["format"] == format_of(scheduler)
    return data["scenarios"]


def disagreement(scheduler, scenario):
    """Return the first key that differs from the recording."""
    reference = Followed(scheduler, scenario)
    for number, (op, state) in enumerate(zip(scenario["ops"], scenario["states"], strict=True)):
        found = reference.follow(op, state)
        if difference := first_difference(state, found):
            return f"step {number} {op}: {difference}"
        assert found == state
    return None


@pytest.mark.parametrize(
    ("scheduler", "scenarios", "operations"),
    [("cfs-5.6", 148, 17661), ("eevdf-6.6", 55, 6221), ("eevdf-6.12.0", 55, 6221), ("eevdf-6.12", 135, 16846)],
)
def test_the_reference_agrees_with_the_kernel_on_every_state(scheduler, scenarios, operations):
    """Every key of every state of every recorded scenario, load-balancer lists included."""
    known = recorded(scheduler)
    assert (len(known), sum(len(scenario["ops"]) for scenario in known)) == (scenarios, operations)
    for number, scenario in enumerate(known):
        assert disagreement(scheduler, scenario) is None, number


@pytest.mark.parametrize("scheduler", REFERENCES)
def test_a_recording_that_is_off_by_one_does_not_agree(scheduler):
    """The comparison sees every number of a state."""
    scenario = recorded(scheduler)[-1]
    last = scenario["states"][-1]
    places = [(last, "r"), (last, "t")]
    places += [(last[key], 0) for key in last if isinstance(last[key], list) and key != "cpu"]
    places += [(cpu, key) for cpu in last["cpu"] for key in cpu if isinstance(cpu[key], int)]
    for place, key in places:
        place[key] += 1
        assert disagreement(scheduler, scenario) is not None, key
        place[key] -= 1
    assert disagreement(scheduler, scenario) is None


@pytest.mark.parametrize("scheduler", REFERENCES)
def test_made_scenarios_are_the_same_again(scheduler):
    """A seed is enough to make a scenario again, and the reference is determined by it."""
    one, two = made_scenario(scheduler, 7), made_scenario(scheduler, 7)
    assert one == two
    states = [run(REFERENCES[scheduler].of(scenario), scenario["ops"]) for scenario in (one, two)]
    assert states[0] == states[1]
    assert one["ops"] != made_scenario(scheduler, 8)["ops"]


def test_reducing_leaves_the_operations_that_matter():
    """Of many operations those remain without which it does not fail."""
    scenario = {"ops": [["adv", n] for n in range(200)]}
    short = reduced(scenario, lambda one: {17, 93} <= {op[1] for op in one["ops"]})
    assert short["ops"] == [["adv", 17], ["adv", 93]]


def test_made_operations_reach_the_rare_states():
    """What a comparison of random operations is for: each of these comes up again and again."""
    seen = dict.fromkeys(("delayed task woken", "and moved", "lag below 0", "next refused", "equal", "last", "-3"), 0)
    for scheduler in ("cfs-5.6", "eevdf-6.12"):
        for seed in range(40):
            scenario = made_scenario(scheduler, seed)
            host = REFERENCES[scheduler].of(scenario)
            for op in scenario["ops"]:
                before = {task.id: task.v for task in host.tasks if task.delayed}
                result = host.apply(op)
                woken = op[0] == "wake" and result == 1
                seen["delayed task woken"] += woken
                seen["and moved"] += woken and host.tasks[op[1]].v != before[op[1]]
                seen["lag below 0"] += any(task.asleep and task.lag < 0 for task in host.tasks)
                seen["next refused"] += op[0] == "yield_to" and host.queues[op[1]].next is host.tasks[op[2]]
                seen["equal"] += any(len({task.v for task in q.tree}) < len(q.tree) for q in host.queues)
                seen["last"] += any(q.last is not None for q in host.queues)
                seen["-3"] += result == -3
    assert all(seen.values()), seen


# Arithmetic. ----------------------------------------------------------------------------------------------------------


def test_the_tunables_grow_with_the_logarithm_of_up_to_8_cpus():
    """1 for one CPU, 2 for 2 or 3, 3 for 4 to 7, and 4 from there on."""
    assert [tunable_factor(cpus) for cpus in (1, 2, 3, 4, 7, 8, 9, 16, 64)] == [1, 2, 2, 3, 3, 4, 4, 4, 4]


def test_slices_are_a_few_nanoseconds_short():
    """The inverse of a queue's load is of 2^32 - 1: two equal tasks of 24 ms get 11.999994 ms each."""
    assert scale(24 * MS, 1024, inverse_of(2048)) == 11_999_994
    assert inverse_of(0) == 2**32 - 1


def test_short_times_of_heavy_tasks_are_lost():
    """Rounding is down in each update: 3 ns of nice -5 and 86 ns of nice -20 are no virtual time."""
    scenario = machine_of("cfs-5.6", nice=[-5, -20])
    minus_5, minus_20 = REFERENCES["cfs-5.6"].of(scenario).tasks
    assert [minus_5.fair(3), minus_5.fair(4), minus_20.fair(86), minus_20.fair(87)] == [0, 1, 0, 1]
    assert Task(id=0, weight=1024, inverse=4194304).fair(12345) == 12345


def test_division_is_as_in_c():
    """Towards zero, whatever the signs."""
    assert [truncated(a, b) for a, b in ((7, 2), (-7, 2), (7, -2), (-7, -2), (0, 5))] == [3, -3, -3, 3, 0]


# CFS: numbers that were worked out by hand, on a machine with 16 CPUs. ------------------------------------------------


@pytest.mark.parametrize(("side", "scheduler"), CFS_SIDES)
@pytest.mark.parametrize("ahead", [4_000_000, 4_000_001])
def test_a_buddy_may_be_4_ms_ahead_and_not_1_ns_more(side, scheduler, ahead):
    """Beyond, the caller is picked again, which clears its skip; the refused buddy stays."""
    host = Driven(side, scheduler, machine_of(scheduler, nice=[0, 0]))
    host.start(1)
    host.do("adv", 1000)
    v = host.do("new", 1, 0)["v"]
    host.do("adv", v[1] - v[0] - ahead)
    state = host.do("yield_to", 0, 1)
    honoured = ahead == 4_000_000
    cpu = state["cpu"][0]
    assert state["r"] == 1
    assert (cpu["curr"], cpu["skip"], cpu["next"]) == ((1, 0, -1) if honoured else (0, -1, 1))


@pytest.mark.parametrize(("side", "scheduler"), CFS_SIDES)
@pytest.mark.parametrize(("nice", "granularity"), [(-5, 1_312_399), (5, 12_226_865)])
@pytest.mark.parametrize("beyond", [0, 1])
def test_the_granularity_is_scaled_by_the_weight_of_the_leftmost(side, scheduler, nice, granularity, beyond):
    """Not by the buddy's, which is 1024 here."""
    host = Driven(side, scheduler, machine_of(scheduler, nice=[nice, 0]))
    host.start(2)
    assert host.now["cpu"][0]["curr"] == 1
    v = host.now["v"]
    host.do("adv", v[0] - v[1] + granularity + beyond)
    assert host.do("sched", 0)["cpu"][0]["curr"] == 0
    assert host.do("yield_to", 0, 1)["cpu"][0]["curr"] == (0 if beyond else 1)


@pytest.mark.parametrize(("side", "scheduler"), CFS_SIDES)
def test_a_long_sleeper_is_placed_12_ms_before_the_others_and_preempts(side, scheduler):
    """Half of the latency, which is more than the wakeup granularity; a short sleeper keeps its own vruntime."""
    for asleep, preempts in ((50 * MS, True), (3 * MS, False)):
        host = Driven(side, scheduler, machine_of(scheduler, nice=[0, 0]))
        host.start(2)
        while abs(host.now["v"][0] - host.now["v"][1]) > MS or host.now["cpu"][0]["curr"] != 0:
            host.do("adv", MS // 2)
            host.do("sched", 0)
        slept = host.do("sleep", 0)["v"][0]
        host.do("adv", asleep)
        host.do("wake", 0, 0)
        cpu, v = host.now["cpu"][0], host.now["v"][0]
        assert v == (cpu["minv"] - 12 * MS if preempts else slept)
        assert (cpu["nresched"], cpu["next"]) == ((1, 0) if preempts else (0, -1))


@pytest.mark.parametrize(("side", "scheduler"), CFS_SIDES)
@pytest.mark.parametrize("ran", [2_999_999, 3_000_000])
def test_a_tick_sends_a_buddy_away_after_min_granularity(side, scheduler, ran):
    """A slice of 6 ms, picked 3.5 ms ahead: from 3 ms on it is too far ahead of the leftmost; not looked at before."""
    host = Driven(side, scheduler, machine_of(scheduler, nice=[0] * 4))
    host.start(4)
    left = host.now["v"][0]
    for task, ahead in ((3, 3_500_000), (2, 5 * MS), (1, 5 * MS)):
        assert host.now["cpu"][0]["curr"] == task
        host.do("adv", left + ahead - host.now["v"][task])
        host.do("sched", 0)
    assert host.now["cpu"][0]["curr"] == 0
    assert host.do("yield_to", 0, 3)["cpu"][0]["curr"] == 3
    host.do("adv", ran)
    assert host.do("tick", 0)["cpu"][0]["nresched"] == (ran == 3_000_000)


@pytest.mark.parametrize(("side", "scheduler"), CFS_SIDES)
def test_a_boosted_task_that_is_far_ahead_never_runs_while_two_others_alternate(side, scheduler):
    """The ping-pong that pause-loop exits cause: task 0 is refused at every pick, 1 and 2 take turns."""
    host = Driven(side, scheduler, machine_of(scheduler, nice=[0] * 3))
    host.start(3)
    assert [round(v / MS) for v in host.now["v"]] == [23, 11, 7]
    ran = []
    for _ in range(60):
        host.do("adv", 100_000)
        cpu = host.do("yield_to", 0, 0)["cpu"][0]
        assert (host.now["r"], cpu["next"]) == (1, 0)
        ran.append(cpu["curr"])
    assert ran[:2] in ([1, 2], [2, 1])
    assert all(one != other for one, other in pairwise(ran))
    assert 0 not in ran


@pytest.mark.parametrize(("side", "scheduler"), CFS_SIDES)
@pytest.mark.parametrize("overrun", [5 * MS, 10 * MS, 20 * MS])
def test_a_holder_that_overran_is_boosted_when_the_others_are_within_4_ms(side, scheduler, overrun):
    """One that was preempted G ahead waits until the leftmost has run G - 4 ms, however often it is yielded to."""
    host = Driven(side, scheduler, machine_of(scheduler, nice=[0, 0]))
    host.start(2)
    assert host.now["cpu"][0]["curr"] == 1
    host.do("adv", host.now["v"][0] - host.now["v"][1] + overrun)
    host.do("sched", 0)
    begin = host.now["t"]
    while host.now["cpu"][0]["curr"] == 0:
        host.do("adv", 50_000)
        host.do("yield_to", 0, 1)
    assert host.now["t"] - begin == overrun - 4 * MS
