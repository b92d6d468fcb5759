"""The shipped guest programs: each folder says what it does and which exits it causes, and both are so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
from made_machines import prepare_core

from pleemu import catalogue
from pleemu.errors import GuestError
from pleemu.experiment.compare import Case, by_variant
from pleemu.guest import load
from pleemu.machine.run import simulate
from pleemu.observe.events import EXIT_REASONS
from pleemu.overrides import Overrides
from pleemu.policy import policy
from pleemu.scenario import Scenario

FOLDERS = catalogue.folders()
SHORT_MS = 50.0  # of what is not the experiment itself
# Whatever a guest does: the host's ticks.
TICKS = "EXTERNAL_INTERRUPT"
AMD = {"pause": "PAUSE_INSTRUCTION", "interrupt": TICKS}


def cases_of(scenario: Scenario) -> Iterator[Case]:
    """An experiment as it is, and its variants for a short time."""
    yield Case(scenario.name, scenario, policy(scenario.policy))
    yield from by_variant(Overrides(duration=min(SHORT_MS, scenario.duration_ms)).apply(scenario))


@cache
def experiments_with(folder: Path) -> tuple[str, ...]:
    """Those whose guests have a file of a folder in them, or its own."""
    return tuple(
        name for name in catalogue.experiments()
        if any(path.resolve().parent == folder for case in cases_of(catalogue.find(name)) for vm in case.scenario.vm
               for path in (case.scenario.folder / "scenario.toml", *case.scenario.program_of(vm).paths))
    )  # fmt: skip


@cache
def exits_of_experiment(name: str) -> set[str]:
    return exits_of_cases(cases_of(catalogue.find(name)))


def exits_of_cases(cases: Iterable[Case]) -> set[str]:
    prepare_core()
    runs = (simulate(case.scenario, policy=case.policy) for case in cases)
    return {AMD.get(row.reason, row.reason) for run in runs for row in run.exits}


def alone(folder: Path) -> Iterator[Case]:
    """The guests of a folder that are part of no experiment, with twice as many vCPUs as pCPUs."""
    for path in catalogue.programs():
        if path.parent == folder:
            scenario = Overrides(vcpus=4, pcpus=2, duration=SHORT_MS).apply(catalogue.find(str(path)))
            yield Case(path.name, scenario, policy("vanilla"))


def exits_of(folder: Path) -> set[str]:
    """Exits of the folder's own experiment, or else of all that are made of its files, or of its guests alone."""
    if folder.name in catalogue.experiments():
        return exits_of_experiment(folder.name)
    if names := experiments_with(folder):
        return set().union(*map(exits_of_experiment, names))
    return exits_of_cases(alone(folder))


def section(folder: Path, name: str) -> str:
    found = re.search(rf"^\*\*{name}\.\*\* (.*?)(\n\n|\Z)", catalogue.read_readme(folder), re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda one: one.name)
def test_folder_says_what_it_does(folder: Path) -> None:
    """Its README begins with a line for `pleemu list programs`, says what to look for, and what it names is there."""
    text = catalogue.read_readme(folder)
    assert re.match(rf"# {folder.name}\b.*\n\n", text, re.IGNORECASE)
    assert catalogue.summary_of(folder)
    assert folder.name == "include" or section(folder, "What to look for")
    for path in catalogue.sources(folder):
        assert f"`{path.name}`" in text or f"{folder.name}/{path.name}" in text or path.name == "main.S", path
    for name in re.findall(r"`pleemu (?:run|compare|explain) (\w+)[ `]", text):
        assert name in catalogue.experiments()


@pytest.mark.parametrize("folder", [one for one in FOLDERS if one.name != "include"], ids=lambda one: one.name)
def test_folder_names_the_exits_it_causes(folder: Path) -> None:
    """No more and no less than there are, but for ticks, which all have."""
    said = section(folder, "(?:Which e|E)xits").replace("PAUSE exits", "PAUSE_INSTRUCTION")
    named = set(re.findall(r"\b[A-Z_]{3,}\b", said)) & set(EXIT_REASONS.values())
    assert named - {TICKS} == exits_of(folder) - {TICKS}


def test_every_program_is_what_its_first_comment_says() -> None:
    """Each source begins with a sentence about itself; and it is a guest, or part of an experiment's."""
    used = {
        path.resolve() for name in catalogue.experiments() for case in cases_of(catalogue.find(name))
        for vm in case.scenario.vm for path in case.scenario.program_of(vm).paths
    }  # fmt: skip
    for path in catalogue.programs():
        assert catalogue.first_comment(path), path
        if path.resolve() not in used:
            try:
                load(path)
            except GuestError as error:
                assert "no C compiler was found" in str(error), path
