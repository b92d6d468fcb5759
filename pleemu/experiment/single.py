"""One run, with its events in a file if asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pleemu.experiment.in_hand import Result, in_hand
from pleemu.experiment.outputs import check_outputs
from pleemu.policy import Policy, check_policy
from pleemu.policy import policy as policy_named
from pleemu.scenario import Scenario
from pleemu.trace.files import trace_file

Progress = Callable[[int, int], None]  # done_ns, total_ns


def run_once(
    scenario: Scenario,
    *,
    policy: Policy | None = None,
    trace: Path | None = None,
    trace_format: str | None = None,
    progress: Progress | None = None,
    skip: bool = True,
) -> Result:
    """Run a scenario under its own policy or another, and write its events to ``trace``.

    ``trace_format`` is one of `pleemu.trace.files.FORMATS`; by default the file's suffix says which. Without ``skip``
    every turn of every loop is executed.
    """
    from pleemu.machine.run import load_programs, simulate  # here, because it brings the compiler

    policy = policy_named(scenario.policy) if policy is None else policy
    check_policy(policy, scenario.host.scheduler)
    check_outputs({"trace": trace}, [(scenario, policy)])
    programs = load_programs(scenario)
    if trace is None:
        run = simulate(scenario, policy=policy, progress=progress, programs=programs, skip=skip)
        return in_hand(run, policy, programs)
    with trace_file(scenario, trace, name=trace_format, policy=policy) as sink:
        run = simulate(scenario, policy=policy, events=sink, progress=progress, programs=programs, skip=skip)
    return in_hand(run, policy, programs)
