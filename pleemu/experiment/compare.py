"""The same scenario several times with one thing different: its policy, or any of its fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import attrs
from attrs import frozen

from pleemu.errors import PleemuError, ScenarioError
from pleemu.experiment.in_hand import Result, in_hand
from pleemu.fields import plain, show
from pleemu.overrides import as_text
from pleemu.own_policy import spelled
from pleemu.policy import POLICIES, Policy, check_policy, fitting, suits
from pleemu.policy import policies as policies_named
from pleemu.policy import policy as policy_named
from pleemu.scenario import Scenario, with_fields

_CASE_LIMIT = 1000
_SEPARATOR = r",(?![^()]*\))"  # a comma outside of parentheses


@frozen
class Case:
    """One row of a comparison."""

    name: str
    scenario: Scenario
    policy: Policy


@frozen
class Axis:
    """A field by its dotted path and the values to try: text to be read, or values."""

    path: str
    values: tuple[Any, ...]


@frozen
class Comparison:
    """The rows, and what they differ in: the head of their column."""

    cases: tuple[Case, ...]
    what: str
    by_policy: bool = False  # nothing but the policy differs


def cases_of(scenario: Scenario, policies: str | None = None, axes: Sequence[str | Axis] = ()) -> Comparison:
    """Return what to compare: the axes that are given, or the scenario's own variants, or policies.

    All policies are those that suit the scheduler; one that is named must.
    """
    compared = _cases_of(scenario, policies, axes)
    if policies and policies.strip() == "all":
        suiting = [case for case in compared.cases if suits(case.policy, case.scenario.host.scheduler)]
        compared = attrs.evolve(compared, cases=tuple(suiting))
    for case in compared.cases:
        check_policy(case.policy, case.scenario.host.scheduler)
    return compared


def _cases_of(scenario: Scenario, policies: str | None, axes: Sequence[str | Axis]) -> Comparison:
    chosen = policies_named(policies) if policies else ()
    if axes:
        parsed = [axis if isinstance(axis, Axis) else parse_axis(axis) for axis in axes]
        return Comparison(across(scenario, parsed, chosen), ", ".join(axis.path for axis in parsed))
    if scenario.variant and not chosen:
        return Comparison(by_variant(scenario), "variant")
    return Comparison(by_policy(scenario, chosen or fitting(scenario.host.scheduler)), "policy", by_policy=True)


def parse_axis(given: str) -> Axis:
    """Return the axis of ``FIELD=VALUE,VALUE,...``; a ``;`` in it separates values that have commas outside of ( )."""
    path, equals, listed = given.partition("=")
    values = tuple(value.strip() for value in re.split(";" if ";" in listed else _SEPARATOR, listed))
    if not equals or not path or not all(values):
        raise ScenarioError(
            f"--across {given}: write --across FIELD=VALUE,VALUE, as in --across hardware.processor=haswell,zen4"
        )
    _check_each_once(values, f"--across {given}")
    return Axis(path, values)


def axes_of(given: Any) -> tuple[Axis, ...]:
    """Return the axes that Python gives: values by the name of their field."""
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        raise ScenarioError(f'across: {show(given)} is not a mapping; write across={{"host.hz": [250, 1000]}}')
    return tuple(_axis_of(path, values) for path, values in given.items())


def _axis_of(path: Any, given: Any) -> Axis:
    if not isinstance(path, str):
        raise ScenarioError(f'across: {show(path)} is not the name of a field, such as "host.hz"')
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise ScenarioError(f"across: {path}: {show(given)} is not a list of values; write [{show(given)}]")
    values = tuple(map(spelled if path == "policy" else plain, given))
    if not values:
        raise ScenarioError(f"across: {path}: the list is empty; give one value or more")
    _check_each_once([as_text(value) for value in values], f"across: {path}")
    return Axis(path, values)


def _check_each_once(values: Sequence[str], where: str) -> None:
    doubled = next((value for number, value in enumerate(values) if value in values[:number]), None)
    if doubled is not None:
        raise ScenarioError(f"{where}: {doubled} is named twice; name each value once")


def by_policy(scenario: Scenario, policies: Iterable[Policy] = POLICIES) -> tuple[Case, ...]:
    """Return one case for each policy."""
    return tuple(Case(policy.name, scenario, policy) for policy in policies)


def across(scenario: Scenario, axes: Sequence[Axis], policies: Sequence[Policy] = ()) -> tuple[Case, ...]:
    """Return a case for each combination of values, under the scenario's own policy or under each of several."""
    paths = [axis.path for axis in axes]
    doubled = next((path for number, path in enumerate(paths) if path in paths[:number]), None)
    if doubled is not None:
        raise ScenarioError(f"--across {doubled} is given twice; list its values in one")
    if "policy" in paths and policies:
        raise ScenarioError("--across policy and --policies both choose policies; use one of them")
    cases = []
    for values in product(*(axis.values for axis in axes)):
        chosen = with_fields(scenario, dict(zip(paths, values, strict=True)))
        cases += _under(", ".join(map(str, values)), chosen, policies)
        if len(cases) > _CASE_LIMIT:
            raise ScenarioError(f"--across: more than {_CASE_LIMIT} combinations; use fewer values")
    return tuple(cases)


def by_variant(scenario: Scenario) -> tuple[Case, ...]:
    """Return the variants that the scenario itself lists."""
    cases = []
    for number, variant in enumerate(scenario.variant):
        fields = {path.strip(): value.strip() for path, _, value in (one.partition("=") for one in variant.set)}
        try:
            chosen = with_fields(scenario, fields)
        except ScenarioError as error:
            raise ScenarioError(f"variant.{number} ({variant.name}): {error}") from None
        cases += _under(variant.name, chosen, ())
    return tuple(cases)


def compare(cases: Iterable[Case], what: str = "policy") -> tuple[tuple[str, Result], ...]:
    """Run each case in turn and return it with its name; ``what`` is what they differ in."""
    return tuple(finished(cases, what))


def finished(
    cases: Iterable[Case],
    what: str = "policy",
    *,
    progress: Callable[[Case, int, int], None] | None = None,
    skip: bool = True,
) -> Iterator[tuple[str, Result]]:
    """Run each case in turn and yield it with its name; ``progress`` gets the case, done_ns and total_ns.

    An error names the case that it comes from.
    """
    from pleemu.machine.run import load_programs, simulate  # here, because it brings the compiler

    def progress_of(case: Case) -> Callable[[int, int], None] | None:
        if progress is None:
            return None
        return lambda done_ns, total_ns: progress(case, done_ns, total_ns)

    cases = tuple(cases)
    for case in cases:
        case.scenario.check_programs()
    programs: dict[Any, Any] = {}
    for case in cases:
        try:
            if any(case.scenario.program_of(vm) not in programs for vm in case.scenario.vm):
                programs |= load_programs(case.scenario)
            shown = progress_of(case)
            run = simulate(case.scenario, policy=case.policy, progress=shown, programs=programs, skip=skip)
        except PleemuError as error:
            error.args = (f"row {case.name!r} ({what}): {error}",)
            raise
        yield case.name, in_hand(run, case.policy, programs)


def _under(name: str, scenario: Scenario, policies: Sequence[Policy]) -> list[Case]:
    if not policies:
        return [Case(name, scenario, policy_named(scenario.policy))]
    several = len(policies) > 1
    return [Case(f"{name}, {policy.name}" if several else name, scenario, policy) for policy in policies]
