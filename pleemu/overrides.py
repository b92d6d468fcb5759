"""What a user changes in a scenario for one run, without editing its file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from pleemu.errors import ScenarioError, nearest
from pleemu.fields import FieldError, plain, show
from pleemu.own_policy import spelled
from pleemu.scenario import Scenario, from_dict
from pleemu.structure import assign

_VM_LIMIT = 1024
_TIME = r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-zA-Z]*)\s*"
_UNITS_IN_MS = {"s": 1_000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6, "": 1.0}


def parse_time_ms(name: str, given: Any) -> float:
    """Return a time in ms from ``50ms``, ``2s``, ``300us`` or a bare number of ms; ``name`` is the option's."""
    given = plain(given)
    if type(given) is int or type(given) is float:
        return given
    found = re.fullmatch(_TIME, given) if isinstance(given, str) else None
    if found is None or found[2] not in _UNITS_IN_MS:
        raise FieldError(name, f"{show(given)} is not a time; write 50ms, 2s, 300us or a number of ms")
    return float(found[1]) * _UNITS_IN_MS[found[2]]


@attrs.frozen(kw_only=True)
class Overrides:
    """Changes to a scenario; None leaves a value as it is."""

    policy: Any = None  # a name, or what `own_policy.spelled` takes
    seed: int | None = None
    duration: str | float | None = None  # as `parse_time_ms` takes it
    vms: int | None = None
    vcpus: int | None = None
    pcpus: int | None = None
    cc: str | None = None
    cflags: str | None = None
    fields: Mapping[str, Any] = attrs.field(factory=dict)  # by dotted path: text to be read, or values

    @fields.validator
    def _check_fields(self, _: Any, value: Any) -> None:
        if not isinstance(value, Mapping) or not all(isinstance(path, str) for path in value):
            raise FieldError("fields", f'{show(value)} is not a mapping of values by name; write {{"host.hz": 1000}}')

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Overrides:
        """Return the changes that a caller names in Python, or say that there is no such name."""
        known = [one.name for one in attrs.fields(cls)]
        unknown = next((name for name in given if name not in known), None)
        if unknown is not None:
            raise ScenarioError(f"unknown argument {unknown!r}{nearest(unknown, known)}")
        return cls(**given)

    def apply(self, scenario: Scenario) -> Scenario:
        """Return the scenario with the changes, checked when all of them are made."""
        data = scenario.to_dict()
        if self.vms is not None:
            data["vm"] = _repeated(data["vm"], self.vms)
        if self.duration is not None:
            data["duration_ms"] = parse_time_ms("duration", self.duration)
        for path, value in {**self._shorthands(), **self.fields}.items():
            assign(data, Scenario, path, value)
        return from_dict(data, folder=scenario.folder, file=scenario.file)

    def in_words(self) -> Overrides:
        """Return the same changes as a command line has them: in text."""
        policy = None if self.policy is None else spelled(self.policy)
        return attrs.evolve(self, policy=policy, fields={path: as_text(one) for path, one in self.fields.items()})

    def arguments(self) -> list[str]:
        """Return these changes as command-line arguments, but for the policy."""
        given = {name: getattr(self, name) for name in ("seed", "duration", "vms", "vcpus", "pcpus", "cc")}
        shorthands = [part for name, value in given.items() if value is not None for part in (f"--{name}", str(value))]
        shorthands += [] if self.cflags is None else [f"--cflags={self.cflags}"]
        settings = ((path, f"{path}={as_text(value)}") for path, value in self.fields.items())
        return shorthands + [f"--{one}" if "." in path else f"--set={one}" for path, one in settings]

    def _shorthands(self) -> dict[str, Any]:
        given = {
            "policy": None if self.policy is None else spelled(self.policy),
            "seed": self.seed,
            "vm.vcpus": self.vcpus,
            "hardware.pcpus": self.pcpus,
            "vm.cc": self.cc,
            "vm.cflags": self.cflags,
        }
        return {path: value for path, value in given.items() if value is not None}


def as_text(value: Any) -> str:
    """Return a field's value as the command line takes it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(as_text, value))
    return str(value)


def _repeated(vms: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Return the first ``count`` VMs; more of them than there are repeat the given ones under new names."""
    count = plain(count)
    if type(count) is not int:
        raise FieldError("vms", f"{show(count)} is not a whole number; use 1 to {_VM_LIMIT}")
    if not 1 <= count <= _VM_LIMIT:
        raise FieldError("vms", f"{count} is out of range; use 1 to {_VM_LIMIT}")
    taken = {vm["name"] for vm in vms}
    repeated = [dict(vm) for vm in vms[:count]]
    while len(repeated) < count:
        model = vms[len(repeated) % len(vms)]
        name = _new_name(model["name"], taken)
        taken.add(name)
        repeated.append({**model, "name": name})
    return repeated


def _new_name(name: str, taken: set[str]) -> str:
    stem, number = re.fullmatch(r"(.*?)([0-9]{0,9})", name, re.DOTALL).groups()  # type: ignore[union-attr]
    following = int(number or 1) + 1
    while f"{stem}{following}" in taken:
        following += 1
    return f"{stem}{following}"


def split_dotted(arguments: Sequence[str]) -> list[str]:
    """Return command-line arguments with each ``--a.b VALUE`` or ``--a.b=VALUE`` as ``--set=a.b=VALUE``."""
    translated: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.removeprefix("--").partition("=")
        if argument == "--":
            return [*translated, argument, *rest]
        if not argument.startswith("--") or "." not in name:
            translated.append(argument)
            continue
        if not equals:
            value = next(rest, "--")
            if value.startswith("--"):
                raise ScenarioError(f"--{name} needs a value; write --{name} VALUE or --{name}=VALUE")
        translated.append(f"--set={name}={value}")
    return translated


def parse_settings(settings: Sequence[str]) -> dict[str, str]:
    """Return ``PATH=VALUE`` settings by path; a later one wins."""
    parsed = {}
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals:
            raise ScenarioError(f"--set {setting}: write --set FIELD=VALUE, as in --set host.hz=1000")
        parsed[path] = value
    return parsed
