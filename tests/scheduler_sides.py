"""The two sides of the differential test: the reference, and pleemu's scheduler room as `pleemu conform` drives it."""

from __future__ import annotations

import pytest
from made_operations import REFERENCES
from reference.fair import Host, Task

from pleemu.conform.scheduler import CfsScenario, EevdfScenario, Machine
from pleemu.conform.vectors import structure


def recordable(scheduler: str, scenario: dict) -> dict:
    """Return a scenario as a file has it: features, which the reference lists, are written as for the kernel."""
    if "features" not in scenario:
        return scenario
    on, names = scenario["features"], sorted(REFERENCES[scheduler].KNOWN_FEATURES)
    return scenario | {"features": " ".join(name if name in on else f"NO_{name}" for name in names)}


def room_of(scheduler: str, scenario: dict) -> Machine:
    """Return pleemu's machine for a scenario, with `apply` and `state` like the reference."""
    kind = CfsScenario if scheduler == "cfs-5.6" else EevdfScenario
    return Machine(scheduler, structure(kind, recordable(scheduler, scenario), "made"))


class Followed:
    """A reference that makes the choices, where they are free, that a given state shows."""

    def __init__(self, scheduler: str, scenario: dict) -> None:
        self.host: Host = REFERENCES[scheduler].of(scenario)
        self.op: list = []
        self.shown: dict = {}
        if scheduler == "eevdf-6.6":
            self.host.choose = self.choose

    def choose(self, tied: list[Task], woken: Task | None) -> Task:
        """Who was it? After a wakeup only need_resched tells."""
        cpu = self.shown["cpu"][self.op[-1] if self.op[0] in ("new", "wake", "migrate") else self.op[1]]
        if woken is None:
            return self.host.tasks[cpu["curr"]]
        if cpu["nresched"] and woken in tied:
            return woken
        return next(task for task in tied if task is not woken)

    def follow(self, op: list, shown: dict) -> dict:
        """Do an operation after which the other side has the state ``shown``; return what it should be."""
        self.op, self.shown = op, shown
        return self.host.state(self.host.apply(op))


def side_of(side: str, scheduler: str, scenario: dict):
    """Return either side's machine."""
    return room_of(scheduler, scenario) if side == "room" else REFERENCES[scheduler].of(scenario)


SIDES = [
    pytest.param(side, scheduler, id=f"{scheduler}-{side}")
    for scheduler in REFERENCES
    for side in ("reference", "room")
]


class Driven:
    """A machine on either side that is driven step by step, with ticks, and whose states are kept if asked."""

    def __init__(self, side: str, scheduler: str, scenario: dict) -> None:
        self.machine = side_of(side, scheduler, scenario)
        self.tick_ns = 10**9 // scenario["hz"]
        self.now = self.machine.state(0)

    def do(self, *op) -> dict:
        """One operation; return the state after it."""
        self.now = self.machine.state(self.machine.apply(list(op)))
        return self.now

    def start(self, tasks: int, cpu: int = 0) -> None:
        """Create tasks on a CPU at one instant; the first of them runs."""
        for number in range(tasks):
            self.do("new", number, cpu)
        self.do("sched", cpu)

    def tick(self) -> dict:
        """Go on to the next periodic tick, on each CPU, and reschedule where it asks for it."""
        self.do("adv", self.tick_ns - self.now["t"] % self.tick_ns)
        for cpu in range(len(self.now["cpu"])):
            if self.do("tick", cpu)["cpu"][cpu]["nresched"]:
                self.do("sched", cpu)
        return self.now


def first_difference(expected: dict, found: dict) -> str | None:
    """Return the first key of a state that differs, with both values."""
    for number, (right, here) in enumerate(zip(expected["cpu"], found["cpu"], strict=True)):
        for key in right:
            if right[key] != here.get(key):
                return f"cpu {number}.{key}: the reference has {right[key]}, the other side {here.get(key)}"
    for key in expected:
        if key != "cpu" and expected[key] != found.get(key):
            return f"{key}: the reference has {expected[key]}, the other side {found.get(key)}"
    extra = set(found) - set(expected)
    return f"unknown keys {sorted(extra)}" if extra else None


def compare(scheduler: str, scenario: dict) -> tuple[int, str | None, list[dict]]:
    """Do the operations on both sides.

    Return how many agreed, the first difference, and the reference's states up to there.
    """
    room, reference = room_of(scheduler, scenario), Followed(scheduler, scenario)
    states: list[dict] = []
    for number, op in enumerate(scenario["ops"]):
        found = room.state(room.apply(op))
        try:
            expected = reference.follow(op, found)
        except AssertionError as error:
            return number, f"step {number} {op}: {error}", states
        states.append(expected)
        if difference := first_difference(expected, found):
            return number, f"step {number} {op}: {difference}", states
    return len(scenario["ops"]), None, states
