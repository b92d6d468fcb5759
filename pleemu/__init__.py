"""Pause-loop exiting, cycle by cycle: guests that spin, KVM that boosts, a Linux scheduler that refuses.

    import pleemu

    result = pleemu.run("worst_case", policy="debooster", fields={"host.hz": 1000})
    print(result.ple.longest_run)
    print(result.frames()["exits"].guest_ns.describe())

Importing pleemu is cheap; what brings the compiler is imported by the first run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pleemu.experiment.in_hand import Result, Results
    from pleemu.machine.result import Run
    from pleemu.machine.story import Story
    from pleemu.scenario import Scenario

__all__ = ["__version__", "compare", "explain", "load_scenario", "run"]


def load_scenario(scenario: str | Path | Scenario, **overrides: Any) -> Scenario:
    """Return a scenario by shipped name, TOML file or guest program, with overrides.

    Overrides are ``policy`` ``seed``, ``duration`` (``"50ms"`` or ms), ``vms``, ``vcpus``, ``pcpus``, ``cc``,
    ``cflags`` and ``fields``, a mapping of dotted names such as ``{"host.hz": 1000}``. ``policy`` is a name, or
    a policy of your own: ``"./mine.py"``, a module, a mapping or class of functions, or a function ``refuses``.
    """
    from pleemu.catalogue import find
    from pleemu.overrides import Overrides
    from pleemu.scenario import Scenario

    found = scenario if isinstance(scenario, Scenario) else find(str(scenario))
    return Overrides.of(overrides).apply(found) if overrides else found


def run(scenario: str | Path | Scenario, *, trace: str | Path | None = None, **overrides: Any) -> Result:
    """Run a scenario once, with overrides as `load_scenario` takes them; write its events to ``trace``.

    What it returns has the counters as fields, and `frames`, `summary` and `to_parquet` for every exit and decision.
    """
    from pleemu.experiment.repeat import Asked
    from pleemu.experiment.single import run_once

    result = run_once(load_scenario(scenario, **overrides), trace=None if trace is None else Path(trace))
    result.again.asked = Asked(scenario=_name_of(scenario), overrides=overrides)
    return result


def compare(
    scenario: str | Path | Scenario,
    policies: Any = None,
    *,
    across: Mapping[str, Sequence[Any]] | None = None,
    **overrides: Any,
) -> Results:
    """Run a scenario under several policies, with several values of fields, or both.

    ``policies`` are comma-separated names, ``all``, or what `run` takes as ``policy``, or a list of that.
    ``across`` is a mapping such as ``{"hardware.processor": ["haswell", "zen4"]}``: one run for each combination.
    Without both, the runs are the scenario's own variants, or else the five usual policies. What it returns is a
    tuple of runs that also takes their names, ``results["debooster"]``, with `frames` and `summary` of all of them.
    """
    from pleemu.experiment.compare import axes_of, cases_of
    from pleemu.experiment.compare import compare as compare_cases
    from pleemu.experiment.in_hand import Results
    from pleemu.experiment.repeat import Asked
    from pleemu.own_policy import spelled_all

    axes = axes_of(across)
    if policies is not None:
        policies = spelled_all(policies)
    compared = cases_of(load_scenario(scenario, **overrides), policies, axes)
    asked = Asked(command="compare", scenario=_name_of(scenario), policies=policies, axes=axes, overrides=overrides)
    return Results(compare_cases(compared.cases, compared.what), compared.what, asked)


def _name_of(scenario: str | Path | Scenario) -> str:
    """Return what a command line calls a scenario; nothing if it is an object."""
    return str(scenario) if isinstance(scenario, str | Path) else ""


def explain(scenario: str | Path | Scenario, *exits: str | int, **overrides: Any) -> tuple[Run, tuple[Story, ...]]:
    """Run a scenario and tell the stories of PAUSE exits, by number, range or word as `pleemu explain` takes them."""
    from pleemu.experiment.explain import explain as explain_exits

    explained = explain_exits(load_scenario(scenario, **overrides), [str(one) for one in exits])
    return explained.run, explained.stories


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("pleemu")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
