"""The command that repeats what was run from Python, for the pages that are made there.

It is what was asked for, in the words of the command line; or, of a scenario that has no name there, it takes the text
that the page has. Whether it makes the same runs is tried before it is shown.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from attrs import field, frozen

from pleemu.catalogue import find
from pleemu.errors import PleemuError
from pleemu.experiment.compare import Axis, cases_of, parse_axis
from pleemu.machine.result import Run
from pleemu.overrides import Overrides, as_text
from pleemu.own_policy import is_own, of_functions
from pleemu.report.page import Repeat
from pleemu.scenario import Scenario


@frozen(kw_only=True)
class Asked:
    """What `pleemu.run` or `pleemu.compare` was given."""

    command: str = "run"
    scenario: str = ""  # empty: none that a command line could name
    policies: str | None = None
    axes: tuple[Axis, ...] = ()
    overrides: Mapping[str, Any] = field(factory=dict)


def repeat(runs: Sequence[Run], asked: Asked) -> Repeat:
    """Return how to make some runs again."""
    functions = [run.policy for run in runs if of_functions(run.policy)]
    if functions:
        return Repeat(command=f"# {functions[0]} was given in Python, and no command can name it")
    if asked.scenario:
        with contextlib.suppress(PleemuError):
            overrides = Overrides.of(asked.overrides)
            if _rows(asked, overrides.in_words().apply(find(asked.scenario))) == _made(runs):
                return _of_name(asked, overrides, runs)
    saved = f"{runs[0].scenario.name.replace('/', '-')}.toml"
    with contextlib.suppress(PleemuError):
        if _rows(asked, attrs.evolve(runs[0].scenario, policy=runs[0].policy)) == _made(runs):
            return _of_text(asked, saved, runs)
    return Repeat(command=f"pleemu run {shlex.quote(saved)}  # each run by itself: its scenario is below", saved=saved)


def _of_name(asked: Asked, overrides: Overrides, runs: Sequence[Run]) -> Repeat:
    """Return the command as it would have been given in place of the call."""
    changes = overrides.arguments()
    policy = None if overrides.policy is None else str(overrides.in_words().policy)
    return Repeat(
        command=_line(asked.command, asked.scenario, *_policy(asked, policy), *_rows_asked_for(asked), *changes),
        explain=_line("explain", asked.scenario, *_of_only(runs), *changes),
    )


def _of_text(asked: Asked, saved: str, runs: Sequence[Run]) -> Repeat:
    """Return the command that takes the scenario from the page; a policy's file cannot stand in its text."""
    policy = runs[0].policy
    own = policy if any(map(is_own, policy.split("+"))) else None
    return Repeat(
        command=_line(asked.command, saved, *_policy(asked, own), *_rows_asked_for(asked)),
        explain=_line("explain", saved, *_of_only(runs)),
        saved=saved,
    )


def _line(*words: str) -> str:
    return shlex.join(["pleemu", *words])


def _policy(asked: Asked, policy: str | None) -> list[str]:
    if policy is None or asked.policies is not None:
        return []
    return ["--policy", policy] if asked.command == "run" else [f"--set=policy={policy}"]


def _of_only(runs: Sequence[Run]) -> list[str]:
    """Return the policy of a run that is alone; of several, each has its own."""
    return ["--policy", runs[0].policy] if len(runs) == 1 else []


def _rows_asked_for(asked: Asked) -> list[str]:
    policies = [] if asked.policies is None else ["--policies", asked.policies]
    return policies + [word for axis in _axes(asked) for word in ("--across", axis)]


def _axes(asked: Asked) -> list[str]:
    found = []
    for axis in asked.axes:
        values = [as_text(value) for value in axis.values]
        found.append(f"{axis.path}={(';' if any(',' in one for one in values) else ',').join(values)}")
    return found


def _rows(asked: Asked, scenario: Scenario) -> list[Scenario]:
    """Return the scenarios that the command runs."""
    if asked.command == "run":
        return [attrs.evolve(scenario, variant=())]
    cases = cases_of(scenario, asked.policies, [parse_axis(axis) for axis in _axes(asked)]).cases
    return [_row(case.scenario, case.policy.name) for case in cases]


def _made(runs: Sequence[Run]) -> list[Scenario]:
    return [_row(run.scenario, run.policy) for run in runs]


def _row(scenario: Scenario, policy: str) -> Scenario:
    return attrs.evolve(scenario, policy=policy, variant=())
