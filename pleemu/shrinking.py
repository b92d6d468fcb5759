"""The fewest preemptions with which something still goes wrong.

A schedule that chaos has found has hundreds of points, of which one or two matter. Dropping one
that does not matter moves all that happens after it, and then those that do miss the instruction
that they hit. So a stretch of points is dropped in several ways, and the first that still fails is kept:

    what comes after it  stays at its cycle
                         is moved to where the stretch began: who was to run behind it runs at once
                         is moved to where the preempted thread would have gone on, if it was back at the end
                         is moved by any number of cycles: some are tried, once nothing else helps

Long stretches first, the latest first, until no single point can be dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import attrs

from pleemu.errors import GuestFault, ScenarioError
from pleemu.machine.build import cycles_of
from pleemu.machine.run import simulate
from pleemu.scenario import Scenario
from pleemu.schedule import Point, format_schedule, parse_schedule

_SHIFTS = 32
_GOLDEN = 0.6180339887498949  # its multiples, modulo 1, are spread evenly, however many are taken


def shrink_schedule(scenario: Scenario, still_fails: Callable[[Scenario], bool], *, attempts: int = 2000) -> Scenario:
    """Return ``scenario`` with as few preemption points as are needed for ``still_fails`` to be true.

    ``scenario`` has ``host.scheduler = "chaos"``; without a ``host.schedule`` its random points are
    those to begin with. ``still_fails`` gets it with other points and runs it, as in

        def still_fails(scenario):
            try:
                return pleemu.run(scenario).vms[0].operations < 100
            except GuestFault:
                return True

    It is asked at most ``attempts`` times. The answer is small, not always the smallest.
    """
    points = points_of(scenario)

    def fails(points: Sequence[Point]) -> bool:
        return still_fails(_with(scenario, points))

    if not fails(points):
        raise ScenarioError("shrink_schedule: still_fails is false for all of the points; there is nothing to shrink")
    turn = _turn_cycles(scenario)
    left = attempts - 1
    shifts, size = 0, len(points) // 2 or 1
    while points and left > 0:
        smaller = None
        for fewer in _smaller(points, size, turn, shifts):
            left -= 1
            if fails(fewer):
                smaller = fewer
            if smaller is not None or left == 0:
                break
        if smaller is not None:
            points = smaller
            size = min(size, len(points) // 2 or 1)
        elif size > 1:
            size //= 2
        elif shifts == 0:
            shifts, size = _SHIFTS, len(points) // 2 or 1
        else:
            break
    return _with(scenario, points)


def points_of(scenario: Scenario) -> tuple[Point, ...]:
    """Return the preemption points that are given, or those that a random run makes."""
    if scenario.host.scheduler != "chaos":
        raise ScenarioError(f"host.scheduler is {scenario.host.scheduler!r}; only 'chaos' has a schedule")
    if scenario.points is not None:
        return scenario.points
    try:
        schedule = simulate(scenario).schedule
    except GuestFault as fault:
        schedule = fault.schedule
    if schedule is None:
        raise ScenarioError("the run has too many preemptions for a schedule; use a shorter one")
    return parse_schedule(schedule)


def _with(scenario: Scenario, points: Sequence[Point]) -> Scenario:
    return attrs.evolve(scenario, host=attrs.evolve(scenario.host, schedule=format_schedule(points)))


def _turn_cycles(scenario: Scenario) -> int:
    """From a point in a guest to the first instruction of the thread that it names."""
    cost = scenario.cost
    parts = (cost.exit_ns, cost.interrupt_handler_ns, cost.context_switch_ns, cost.entry_ns)
    return sum(cycles_of(scenario, part) for part in parts)


def _smaller(points: Sequence[Point], size: int, turn: int, shifts: int) -> Iterator[tuple[Point, ...]]:
    """The points without each stretch of ``size``, the latest first, in each way."""
    for end in range(len(points), 0, -size):
        begin = max(0, end - size)
        before, dropped, rest = points[:begin], points[begin:end], points[end:]
        gaps: dict[int, None] = {0: None}
        if rest:
            length = dropped[-1].cycle - dropped[0].cycle
            gaps |= {rest[0].cycle - dropped[0].cycle: None, length + turn: None}
            gaps |= {int(number * _GOLDEN % 1 * max(turn, 1000)): None for number in range(1, shifts + 1)}
        for gap in gaps:
            moved = (attrs.evolve(one, cycle=max(one.cycle - gap, 0)) for one in rest)
            yield _in_order((*before, *moved))


def _in_order(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return the points by cycle: what has been moved must not come before what has not."""
    return tuple(sorted(points, key=lambda one: one.cycle))
