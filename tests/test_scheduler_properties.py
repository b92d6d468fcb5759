"""What must be true of a fair scheduler: of the reference, and of the room, on the same operations."""

from random import Random

import pytest
import scheduler_properties as properties
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from made_operations import REFERENCES, machine_of, made_scenario
from reference.fair import INVERSES, NICE_0_WEIGHT, WEIGHTS, Task
from scheduler_sides import SIDES, Driven, side_of

MS = 1_000_000


def states_of(side, scheduler, scenario):
    machine = side_of(side, scheduler, scenario)
    return [machine.state(machine.apply(op)) for op in scenario["ops"]]


@pytest.mark.parametrize(("side", "scheduler"), SIDES)
def test_time_is_conserved_and_vruntime_goes_back_only_where_it_may(side, scheduler):
    """All of `scheduler_properties`, on made operations."""

    @settings(
        max_examples=30 if side == "reference" else 10,
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.integers(0, 2**32))
    @example(seed=0)
    def holds(seed):
        scenario = made_scenario(scheduler, seed)
        properties.all_of(scheduler, scenario, states_of(side, scheduler, scenario))

    holds()


@pytest.mark.parametrize("scheduler", REFERENCES)
@pytest.mark.parametrize("spoil", ["v", "sum", "minv", "tree", "other"])
def test_a_spoiled_sequence_of_states_has_not_these_properties(scheduler, spoil):
    """Each property notices what it is about."""
    scenario = machine_of(scheduler, nice=[0, 0]) | {
        "ops": [["new", 0, 0], ["new", 1, 0], ["sched", 0], ["adv", 30 * MS], ["tick", 0], ["yield", 0], ["tick", 0]]
    }
    states = states_of("reference", scheduler, scenario)
    properties.all_of(scheduler, scenario, states)
    last = states[-1]
    cpu = last["cpu"][0]
    if spoil == "v":
        last["v"][cpu["curr"]] -= 1
    elif spoil == "sum":
        last["sum"][0] += 1
    elif spoil == "minv":
        cpu["minv" if scheduler == "cfs-5.6" else "v0"] -= 100 * MS
        if scheduler == "eevdf-6.12":
            return
    elif spoil == "tree":
        cpu["tree"].append(cpu["curr"])
    else:
        last["v"][1 - cpu["curr"]] += 1
    with pytest.raises(AssertionError):
        properties.all_of(scheduler, scenario, states)


# Fair shares, with periodic ticks. ------------------------------------------------------------------------------------


def fair(nice, delta):
    return Task(id=0, weight=WEIGHTS[nice + 20], inverse=INVERSES[nice + 20]).fair(delta)


def turn_of(scheduler, scenario, nice):
    """Return the most virtual time that a task gets in one turn: its slice, and until the tick that ends it."""
    tick = 10**9 // scenario["hz"]
    if scheduler != "cfs-5.6":
        return fair(nice, scenario["params"]["base_slice"] + tick)
    params = scenario["params"]
    period = max(params["latency"], len(scenario["nice"]) * params["min_gran"])
    part = WEIGHTS[nice + 20] / sum(WEIGHTS[one + 20] for one in scenario["nice"])
    return fair(nice, int(period * part) + tick)


def spread_of(scheduler, scenario, turn):
    """Return how far apart the vruntimes of a queue can come when nobody gets more than ``turn`` at a time.

    CFS picks the leftmost, so nobody gets further ahead than a turn. EEVDF picks one that is not ahead of V, so nobody
    gets more than a turn ahead of V; and as all lags together are 0, one task's lag can be what all others are ahead.
    """
    if scheduler == "cfs-5.6":
        return turn
    weights = [WEIGHTS[nice + 20] for nice in scenario["nice"]]
    return turn + max(turn * (sum(weights) - weight) // weight for weight in weights)


def run_hogs(side, scheduler, scenario, warm_up, ticks):
    """Run tasks that never sleep; return the states after a warm-up and at the end."""
    host = Driven(side, scheduler, scenario)
    host.start(len(scenario["nice"]))
    for _ in range(warm_up):
        host.tick()
    host.do("tick", 0)
    begin = host.now
    for _ in range(ticks):
        host.tick()
    return begin, host.now


@pytest.mark.parametrize(("side", "scheduler"), SIDES)
@pytest.mark.parametrize(("tasks", "hz", "online_cpus"), [(2, 250, 16), (3, 1000, 1), (5, 250, 4), (12, 300, 16)])
def test_equal_weights_share_equally_within_one_slice(side, scheduler, tasks, hz, online_cpus):
    """Whatever the window, a task's part of it is the mean, give or take a slice that ends at a tick."""
    scenario = machine_of(scheduler, nice=[0] * tasks, hz=hz, online_cpus=online_cpus)
    slice_and_tick = turn_of(scheduler, scenario, 0)
    begin, end = run_hogs(side, scheduler, scenario, 20 * tasks, 150)
    shares = [after - before for before, after in zip(begin["sum"], end["sum"], strict=True)]
    assert sum(shares) == end["t"] - begin["t"]
    mean = sum(shares) / tasks
    assert max(abs(share - mean) for share in shares) <= slice_and_tick
    assert max(end["v"]) - min(end["v"]) <= slice_and_tick


@pytest.mark.parametrize(("side", "scheduler"), SIDES)
@pytest.mark.parametrize("nice", [(0, 5), (-5, 0, 5), (-20, 0), (3, 3, 0, -3), (10, 10, 19)])
def test_shares_are_in_proportion_to_weights(side, scheduler, nice):
    """Virtual time is equal to within the spread of the queue; and it is the time over the weight, but for rounding."""
    scenario = machine_of(scheduler, nice=list(nice))
    begin, end = run_hogs(side, scheduler, scenario, 100, 400)
    virtual = [after - before for before, after in zip(begin["v"], end["v"], strict=True)]
    shares = [after - before for before, after in zip(begin["sum"], end["sum"], strict=True)]
    spread = spread_of(scheduler, scenario, max(turn_of(scheduler, scenario, one) for one in nice))
    assert max(virtual) - min(virtual) <= 2 * spread
    assert max(end["v"]) - min(end["v"]) <= spread
    for share, v, one in zip(shares, virtual, nice, strict=True):
        exact = share * NICE_0_WEIGHT / WEIGHTS[one + 20]
        assert exact * (1 - 1e-6) - 1000 <= v <= exact


@pytest.mark.parametrize(("side", "scheduler"), SIDES)
@pytest.mark.parametrize("nice", [(0, 0), (0,) * 6, (0, 0, 5, -5)])
def test_nobody_starves_whoever_yields_to_whom(side, scheduler, nice):
    """Under a storm of directed yields at few targets everybody runs again after what the spread allows to the others.

    A waiting task's vruntime stands still; each of the others can run until it is a spread ahead, from a spread behind.
    In CFS a boost adds the granularity to the spread. A yield of 6.6 and 6.12.0 moves the deadline away, until which
    the yielder, when it is picked again, is not preempted: its turns grow with its yields. 6.12.117 takes a slice away.
    """
    scenario = machine_of(scheduler, nice=list(nice))
    host, random = Driven(side, scheduler, scenario), Random(len(nice))
    host.start(len(nice))
    turn = max(turn_of(scheduler, scenario, one) for one in nice)
    granularity = max(fair(one, scenario["params"].get("wakeup_gran", 0)) for one in nice)
    forfeit = max(fair(one, scenario["params"].get("base_slice", 0)) for one in nice)
    last_run = [host.now["t"]] * len(nice)
    for _ in range(120):
        target = random.randrange(2)
        for _ in range(random.randint(0, 8)):
            host.do("adv", random.randint(0, 400_000))
            host.do("yield_to", 0, target)
            last_run[host.now["cpu"][0]["curr"]] = host.now["t"]
            for one, dl, v in zip(nice, host.now.get("dl", ()), host.now["v"], strict=False):
                turn = max(turn, dl - v + fair(one, host.tick_ns))
        host.tick()
        last_run[host.now["cpu"][0]["curr"]] = host.now["t"]
        spread = spread_of(scheduler, scenario, turn + forfeit) + granularity
        for task, since in enumerate(last_run):
            others = sum(WEIGHTS[one + 20] for number, one in enumerate(nice) if number != task)
            assert host.now["t"] - since <= 2 * spread * others // NICE_0_WEIGHT, task
    assert all(host.now["sum"])


@pytest.mark.parametrize(("side", "scheduler"), SIDES)
def test_who_yields_in_vain_before_6_12_117_then_keeps_the_cpu_for_a_slice_a_yield(side, scheduler):
    """Its deadline goes 3 ms further each time; when it is picked next it is protected until then, at every tick."""
    host = Driven(side, scheduler, machine_of(scheduler, nice=[0, 0]))
    host.start(2)
    holder = host.now["cpu"][0]["curr"]
    spinner, yields = 1 - holder, 0
    host.do("adv", abs(host.now["v"][0] - host.now["v"][1]) + 10 * MS)
    host.do("sched", 0)
    while host.now["cpu"][0]["curr"] == spinner:
        host.do("adv", MS)
        host.do("yield_to", 0, holder)
        yields += 1
    host.do("adv", 6 * MS)
    host.do("sched", 0)
    turn = -host.now["t"]
    while host.now["cpu"][0]["curr"] == spinner:
        host.tick()
    turn += host.now["t"]
    if scheduler in ("eevdf-6.6", "eevdf-6.12.0"):
        assert turn >= yields * 3 * MS - yields * MS == 20 * MS  # but for what it ran before it yielded
    else:
        assert turn < 20 * MS
