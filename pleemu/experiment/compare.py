"""The same scenario under several policies."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pleemu.machine.result import Run
from pleemu.policy import POLICIES, Policy
from pleemu.scenario import Scenario


def compare(
    scenario: Scenario,
    policies: Iterable[Policy] = POLICIES,
    *,
    progress: Callable[[Policy, int, int], None] | None = None,
) -> tuple[Run, ...]:
    """Run a scenario under each policy in turn; ``progress`` gets the policy, done_ns and total_ns."""
    from pleemu.machine.run import load_programs, simulate  # here, because it brings the compiler

    def progress_of(policy: Policy) -> Callable[[int, int], None] | None:
        if progress is None:
            return None
        return lambda done_ns, total_ns: progress(policy, done_ns, total_ns)

    programs = load_programs(scenario)
    return tuple(
        simulate(scenario, policy=policy, progress=progress_of(policy), programs=programs) for policy in policies
    )
