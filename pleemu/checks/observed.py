"""A run as the command line spells it, and all that happened in it."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
from attrs import field, frozen

from pleemu import catalogue
from pleemu.checks.finding import Row
from pleemu.guest import load
from pleemu.guest.image import Image
from pleemu.machine.result import Run
from pleemu.machine.run import simulate
from pleemu.observe.events import EVENT
from pleemu.overrides import Overrides
from pleemu.policy import Policy
from pleemu.policy import policy as policy_named
from pleemu.scenario import Program, Scenario

USER_LABEL = "user"  # what a label of code at CPL 3 begins with


@functools.lru_cache(maxsize=64)
def _image(program: Program) -> Image:
    """A guest is assembled once for all runs."""
    return load(*program.paths, cc=program.cc, cflags=program.cflags)


def programs_of(scenario: Scenario) -> dict[Program, Image]:
    """Return the images of a scenario's programs."""
    return {program: _image(program) for program in map(scenario.program_of, scenario.vm)}


@frozen
class Command:
    """A run as the command line spells it, so that a failing one can be replayed."""

    subject: str  # a shipped scenario or a guest
    changes: Mapping[str, Any] = field(factory=dict)  # policy, seed, duration, vms, vcpus, pcpus
    fields: Mapping[str, str] = field(factory=dict)  # by dotted path

    def __str__(self) -> str:
        options = [f"--{name}={value}" for name, value in self.changes.items()]
        settings = [f"--set={path}={value}" for path, value in self.fields.items()]
        return shlex.join(["pleemu", "run", self.subject, *options, *settings])

    def scenario(self) -> Scenario:
        """Return the scenario that the command line runs."""
        return Overrides(**self.changes, fields=self.fields).apply(catalogue.find(self.subject))

    def under(self, policy: str) -> Command:
        """Return the same command with another policy."""
        return attrs.evolve(self, changes={**self.changes, "policy": policy})

    def having(self, **fields: Any) -> Command:
        """Return the same command with other fields; ``__`` in a name stands for the dot."""
        chosen = {name.replace("__", "."): str(value) for name, value in fields.items()}
        return attrs.evolve(self, fields={**self.fields, **chosen})


@frozen
class Observed:
    """A run and all its events."""

    run: Run
    events: np.ndarray
    command: Command | None = None  # that repeats it
    policy: Policy = field()  # that it ran under

    @policy.default
    def _policy_of_the_run(self) -> Policy:
        return policy_named(self.run.policy)

    @property
    def scenario(self) -> Scenario:
        """What was run."""
        return self.run.scenario

    @functools.cached_property
    def rows(self) -> list[Row]:
        """The events as tuples (cycle, kind, pcpu, vcpu, a, b, c)."""
        return self.events.tolist()  # type: ignore[no-any-return]

    def of_kind(self, *kinds: int) -> np.ndarray:
        """Return the events of some kinds."""
        return self.events[np.isin(self.events["kind"], kinds)]

    @functools.cached_property
    def vm_of(self) -> list[int]:
        """The VM of each vCPU."""
        return [number for number, vm in enumerate(self.scenario.vm) for _ in range(vm.vcpus)]

    @functools.cached_property
    def first_vcpu(self) -> list[int]:
        """The first vCPU of each VM."""
        return [self.vm_of.index(number) for number in range(len(self.scenario.vm))]

    @functools.cached_property
    def images(self) -> list[Image]:
        """What each VM runs."""
        programs = programs_of(self.scenario)
        return [programs[self.scenario.program_of(vm)] for vm in self.scenario.vm]

    def function_at(self, vcpu: int, address: int) -> str:
        """Return the label of the guest under which ``address`` stands."""
        known = self._labels
        key = (self.vm_of[vcpu], address)
        if key not in known:
            known[key] = self.images[self.vm_of[vcpu]].function_at(address)
        return known[key]

    def in_user_mode(self, vcpu: int, address: int) -> bool:
        """Whether the guest's code at ``address`` runs at CPL 3, by its label."""
        return self.function_at(vcpu, address).startswith(USER_LABEL)

    @functools.cached_property
    def _labels(self) -> dict[tuple[int, int], str]:
        return {}

    def again(self, *, policy: Policy | None = None, **fields: Any) -> Observed:
        """Run the same again, under another policy or with other fields."""
        command = self.command or Command("?")
        scenario = self.scenario
        if fields:
            command = command.having(**fields)
            chosen = {name.replace("__", "."): str(value) for name, value in fields.items()}
            scenario = Overrides(fields=chosen).apply(scenario)
        chosen_policy = policy or self.policy
        return observe_scenario(scenario, chosen_policy, command.under(chosen_policy.name))


def observe(command: Command, policy: Policy | None = None, **more: Any) -> Observed:
    """Run a command with its events."""
    scenario = command.scenario()
    return observe_scenario(scenario, policy or policy_named(scenario.policy), command, **more)


def observe_scenario(scenario: Scenario, policy: Policy, command: Command | None = None, **more: Any) -> Observed:
    """Run a scenario with its events; ``more`` is for `simulate`."""
    chunks: list[np.ndarray] = []
    run = simulate(scenario, policy=policy, events=chunks.append, programs=programs_of(scenario), **more)
    events = np.concatenate(chunks) if chunks else np.zeros(0, EVENT)
    return Observed(run, events, command, policy)
