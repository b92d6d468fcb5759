"""What is true of every fair scheduler, said over a sequence of states in the vectors' form, whoever made them.

`before` is the state before an operation; the first one is that of a machine in which nothing has happened.
"""

from __future__ import annotations

from collections import Counter

from reference.fair import V0_AT_BOOT, WEIGHTS

UNBORN, RUNNING, WAITING, ASLEEP, DELAYED = range(5)


def start_of(scheduler: str, scenario: dict) -> dict:
    """Return the little of the state before the first operation that the properties look at."""
    none = [0] * len(scenario["nice"])
    cpu = {"curr": -1, "tree": [], "nr": 0, "v0" if "eevdf" in scheduler else "minv": V0_AT_BOOT}
    return {"t": scenario["t0"], "v": none, "sum": none, "es": none, "st": none, "cpu": [cpu] * scenario["ncpu"]}


def pairs(scheduler: str, scenario: dict, states: list[dict]):
    """Yield each operation with the states before and after it."""
    yield from zip(scenario["ops"], [start_of(scheduler, scenario), *states], states, strict=False)


def a_task_is_in_one_place(scenario: dict, states: list[dict]) -> None:
    """It runs on one CPU, or waits in one queue, or is in none; counts and loads are those of who is there."""
    for state in states:
        found = Counter()
        for number, cpu in enumerate(state["cpu"]):
            here = cpu["tree"] + [cpu["curr"]] * (cpu["curr"] >= 0)
            found.update(here)
            assert all(state["on"][task] == number for task in here)
            assert len(here) == cpu["nr"]
            assert cpu["load"] == sum(WEIGHTS[scenario["nice"][task] + 20] << 10 for task in here)
        for task, life in enumerate(state["st"]):
            assert found[task] == (life in (RUNNING, WAITING, DELAYED))
            runs = any(cpu["curr"] == task for cpu in state["cpu"])
            assert runs == (life == RUNNING)


def time_is_conserved(scheduler: str, scenario: dict, states: list[dict]) -> None:
    """What all tasks have run, and what the running ones have not been charged yet, is the time CPUs were not idle."""
    busy = 0
    for _, before, after in pairs(scheduler, scenario, states):
        passed = after["t"] - before["t"]
        busy += passed * sum(cpu["curr"] >= 0 for cpu in before["cpu"])
        running = [cpu["curr"] for cpu in after["cpu"] if cpu["curr"] >= 0]
        assert sum(after["sum"]) + sum(after["t"] - after["es"][task] for task in running) == busy


def vruntime_goes_back_only_where_it_may(scheduler: str, scenario: dict, states: list[dict]) -> None:
    """It goes back where a task changes queues, as vruntimes are relative to a queue; and in EEVDF at any placement.

    CFS: `wake` on another CPU and `migrate`. Placement after a sleep on the same CPU never lowers it.
    EEVDF: `wake` of who had left the queue, and `migrate`: V - lag, whatever it was. One that wakes before it has left
    (st 4) stays where it is or moves forward to V.
    """
    for (name, *operands), before, after in pairs(scheduler, scenario, states):
        back = {task for task, v in enumerate(before["v"]) if after["v"][task] < v and before["st"][task] != UNBORN}
        if name == "migrate":
            back -= {operands[0]}
        elif name == "wake" and before["st"][operands[0]] == ASLEEP:
            moves = "eevdf" in scheduler or before["on"][operands[0]] != operands[1]
            back -= {operands[0]} if moves else set()
        assert not back, f"{name} {operands}: tasks {back}"


def min_vruntime_never_goes_back(scheduler: str, scenario: dict, states: list[dict]) -> None:
    """In CFS and in EEVDF up to 6.12.0; later v0 is V, which falls when somebody with positive lag joins."""
    key = "v0" if "eevdf" in scheduler else "minv"
    for op, before, after in pairs(scheduler, scenario, states):
        for one, other in zip(before["cpu"], after["cpu"], strict=True):
            assert other[key] >= one[key], op


def vruntime_changes_only_for_who_runs_or_is_placed(scheduler: str, scenario: dict, states: list[dict]) -> None:
    """A yield, directed or not, is at nobody else's expense."""
    for (name, *operands), before, after in pairs(scheduler, scenario, states):
        may = {cpu["curr"] for cpu in before["cpu"]}
        may |= {operands[0]} if name in ("new", "wake", "migrate") else set()
        if name in ("tick", "sched", "sleep", "yield", "yield_to"):
            may = {before["cpu"][operands[0]]["curr"]}
        changed = {task for task, v in enumerate(before["v"]) if after["v"][task] != v}
        assert changed <= may, f"{name} {operands}: tasks {changed - may}"
        if name == "adv":
            assert before["sum"] == after["sum"]
            assert not changed


def a_yield_costs_no_vruntime(scheduler: str, scenario: dict, states: list[dict]) -> None:
    """But for the time that the caller has run. Not in 6.12.117, which takes the rest of the request."""
    for (name, *operands), before, after in pairs(scheduler, scenario, states):
        caller = before["cpu"][operands[0]]["curr"] if name in ("yield", "yield_to") else -1
        if caller >= 0 and scenario["nice"][caller] == 0:
            assert after["v"][caller] - before["v"][caller] == after["sum"][caller] - before["sum"][caller]


def all_of(scheduler: str, scenario: dict, states: list[dict]) -> None:
    """Every property that this scheduler has."""
    a_task_is_in_one_place(scenario, states)
    time_is_conserved(scheduler, scenario, states)
    vruntime_goes_back_only_where_it_may(scheduler, scenario, states)
    vruntime_changes_only_for_who_runs_or_is_placed(scheduler, scenario, states)
    if scheduler != "eevdf-6.12":
        min_vruntime_never_goes_back(scheduler, scenario, states)
        a_yield_costs_no_vruntime(scheduler, scenario, states)
