"""One run, from a scenario to what it found."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from pleemu.errors import GuestFault, ScenarioError
from pleemu.guest import load
from pleemu.guest.image import Image
from pleemu.jit import announce_compilation, ready
from pleemu.machine import summary
from pleemu.machine.build import Layout, build
from pleemu.machine.faults import describe
from pleemu.machine.loop import BUFFER_FULL, FAULT, OWN_FAILED, PROGRESS, STUCK, run_machine
from pleemu.machine.own import Bound, bound
from pleemu.machine.result import Run
from pleemu.machine.state import Machine
from pleemu.machine.story import Stories
from pleemu.machine.watchdog import Watchdog, sentence, why_stuck
from pleemu.policy import Policy, check_policy
from pleemu.policy import policy as policy_named
from pleemu.scenario import Program, Scenario
from pleemu.schedule import POINT_LIMIT, Point, format_schedule, how_to_replay
from pleemu.scheduler.records import CHAOS

# How often the loop returns to Python, for progress and for an interrupt from the keyboard.
PROGRESS_STEPS = 100
LONGEST_STEP_CYCLES = 50_000_000


def prepare(announce: Callable[[str], None]) -> None:
    """Have ``announce`` called if the core must be compiled, before that takes its time.

    It happens once after an installation or an update; the machine code is kept (see `jit`).
    """
    announce_compilation(lambda: announce("compiling the emulator's core for this machine, once: half a minute ..."))


def load_programs(scenario: Scenario) -> dict[Program, Image]:
    """Compile, assemble and link every program of a scenario, each once; an absent one is named by its field."""
    scenario.check_programs()
    programs = dict.fromkeys(scenario.program_of(vm) for vm in scenario.vm)
    return {program: load(*program.paths, cc=program.cc, cflags=program.cflags) for program in programs}


def simulate(
    scenario: Scenario,
    *,
    policy: Policy | None = None,
    events: Callable[[np.ndarray], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    programs: dict[Program, Image] | None = None,
    stories: Stories | None = None,
    skip: bool = True,
) -> Run:
    """Run a scenario to its end.

    ``policy`` defaults to the scenario's own. ``events`` receives all events, in order, in
    arrays of `pleemu.observe.events.EVENT`. ``progress`` is called with (done, total) in ns.
    ``programs`` saves assembling them again where many runs share them. ``stories`` receives those of the PAUSE exits
    that it wants. Without ``skip`` every turn of every loop is executed: the same run, but slower (`hardware.spin`).
    Raises `GuestError` for a guest that cannot be loaded and `GuestFault` for one that its processor stops.
    """
    policy = policy_named(scenario.policy) if policy is None else policy
    check_policy(policy, scenario.host.scheduler)
    programs = load_programs(scenario) if programs is None else programs
    try:
        recording, telling = events is not None, stories is not None
        machine, layout = build(scenario, policy, programs, recording=recording, telling=telling, skipping=skip)
    except MemoryError:
        raise ScenarioError("vm: the host has too little memory for these VMs; use fewer or smaller ones") from None
    go_on = ready(run_machine, machine)
    preemptions = Preemptions()
    chaos = machine.tunables.model[0] == CHAOS
    try:
        with bound(machine, policy.own) as own:
            began = time.perf_counter()
            ended = _drive(go_on, machine, layout, scenario, events, progress, preemptions, stories, own)
    except GuestFault as fault:
        if not chaos:
            raise
        schedule = preemptions.schedule()
        elsewhere = "the seed replays them, and GuestFault.schedule has the token"
        replay = how_to_replay(schedule, preemptions.count, elsewhere)
        raise GuestFault(f"{fault}\n{replay}", schedule) from None
    wall_seconds = time.perf_counter() - began
    if stories is not None:
        stories.finish(machine, layout, scenario)
    return summary.summarise(
        machine,
        layout,
        scenario,
        policy,
        ended=ended,
        wall_seconds=wall_seconds,
        preemptions=preemptions.count if chaos else None,
        schedule=preemptions.schedule() if chaos else None,
    )


class Preemptions:
    """The preemption points that had an effect, taken from a machine bit by bit."""

    def __init__(self) -> None:
        self.count = 0
        self._taken: list[np.ndarray] = []

    def take(self, machine: Machine) -> None:
        """Empty the machine's buffer."""
        made = int(machine.draw.made[0])
        machine.draw.made = 0
        self.count += made
        if made and self.count <= POINT_LIMIT:
            self._taken.append(machine.made[:made].copy())

    def schedule(self) -> str | None:
        """Return their token; None if they are too many."""
        if self.count > POINT_LIMIT:
            return None
        return format_schedule(Point(*one) for taken in self._taken for one in taken.tolist())


def _drive(
    go_on: Callable[[], int],
    machine: Machine,
    layout: Layout,
    scenario: Scenario,
    events: Callable[[np.ndarray], None] | None,
    progress: Callable[[int, int], None] | None,
    preemptions: Preemptions,
    stories: Stories | None,
    own: Bound | None,
) -> str:
    """Call the loop until it is through; returns why it ended, in a sentence."""
    journal, run = machine.journal[0], machine.run[0]
    watchdog, ended = Watchdog(machine), "the time is over"
    until = int(run.until)
    step = min(-(-until // PROGRESS_STEPS), LONGEST_STEP_CYCLES)
    with np.errstate(over="ignore"):  # plain Python wraps around silently, too
        run.progress = step
        while True:
            why = go_on()
            if events is not None and journal.recorded:
                events(machine.event[: int(journal.recorded)].copy())
                journal.recorded = 0
            preemptions.take(machine)
            if stories is not None and journal.told:
                stories.take(machine.tale[: int(journal.told)].copy())
                journal.told = 0
            if why == FAULT:
                raise GuestFault(describe(machine, layout, scenario))
            if why == OWN_FAILED and own is not None:
                raise own.failure()
            if why == PROGRESS:
                if progress is not None:
                    progress(scenario.duration_ns * int(run.progress) // until, scenario.duration_ns)
                if found := watchdog.look(machine):
                    ended = sentence(machine, layout, scenario, found)
                    run.until = run.progress  # and the loop closes what is open
                run.progress += step
            elif why == STUCK:
                return why_stuck(machine, layout, scenario)
            elif why != BUFFER_FULL:
                return ended
