"""One run, with its events in a file if asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pleemu.machine.result import Run
from pleemu.policy import Policy
from pleemu.scenario import Scenario
from pleemu.trace.perf_script import perf_script

Progress = Callable[[int, int], None]  # done_ns, total_ns


def run_once(
    scenario: Scenario, *, policy: Policy | None = None, trace: Path | None = None, progress: Progress | None = None
) -> Run:
    """Run a scenario under its own policy or another, and write its events to ``trace``."""
    from pleemu.machine.run import simulate  # here, because it brings the compiler

    if trace is None:
        return simulate(scenario, policy=policy, progress=progress)
    with perf_script(scenario, trace) as sink:
        return simulate(scenario, policy=policy, events=sink, progress=progress)
