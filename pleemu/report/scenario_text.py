"""A scenario as the TOML file that repeats it: what differs from the defaults, and no more."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from pleemu.generations import VANILLA
from pleemu.own_policy import is_own, of_functions
from pleemu.scenario import Scenario, Vm
from pleemu.structure import described, unstructure


def scenario_text(scenario: Scenario, *, policy: str | None = None) -> str:
    """Return the scenario as TOML, under another policy if one is given.

    Programs are looked for beside the file. A policy of one's own stands in a comment: it goes on the command line.
    """
    policy = scenario.policy if policy is None else policy
    own = any(is_own(part) for part in policy.split("+"))
    chosen = attrs.evolve(scenario, policy=VANILLA if own else policy)
    comment = [f"# {'policy' if of_functions(policy) else '--policy'} {policy}"] if own else []
    return "\n".join([*comment, *_lines(chosen)]) + "\n"


def in_place(scenario: Scenario) -> Scenario:
    """Return the scenario with its files named by where they are, so that its text may stand anywhere."""
    folder = os.path.abspath(scenario.folder)
    if not folder.isprintable():
        return scenario
    return attrs.evolve(scenario, vm=tuple(_vm_in_place(vm, folder) for vm in scenario.vm))


def _vm_in_place(vm: Vm, folder: str) -> Vm:
    if vm.profile:
        is_file = vm.profile.endswith(".toml")
        return attrs.evolve(vm, profile=os.path.join(folder, vm.profile)) if is_file else vm
    if isinstance(vm.program, str):
        return attrs.evolve(vm, program=os.path.join(folder, vm.program))
    return attrs.evolve(vm, program=tuple(os.path.join(folder, one) for one in vm.program))


def _lines(scenario: Scenario) -> Iterator[str]:
    yield from _table(scenario)
    for name, attribute in described(Scenario).items():
        value = getattr(scenario, name)
        if attribute.metadata.get("table"):
            lines = list(_table(value))
            if lines:
                yield from ("", f"[{name}]", *lines)
        elif attribute.metadata.get("tables"):
            for one in value:
                yield from ("", f"[[{name}]]", *_table(one))
                for entry in _entries(one):
                    given = getattr(one, entry)
                    if given:
                        yield from ("", f"[{name}.{entry}]", *(f"{_key(key)} = {_value(given[key])}" for key in given))


def _table(table: Any) -> Iterator[str]:
    for name, attribute in described(type(table)).items():
        value = getattr(table, name)
        inner = any(attribute.metadata.get(kind) for kind in ("table", "tables", "entries"))
        if not inner and value is not None and value != attribute.default:
            yield f"{name} = {_value(unstructure(value))}"


def _entries(table: Any) -> Iterator[str]:
    for name, attribute in described(type(table)).items():
        if attribute.metadata.get("entries"):
            yield name


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_value(one)}" for key, one in value.items()) + " }"
    return repr(value)


def _text(text: str) -> str:
    if "\n" in text.strip() and "'''" not in text and text.replace("\n", "").isprintable():
        return f"'''\n{text}'''" if not text.startswith("\n") else f"'''{text}'''"
    return json.dumps(text, ensure_ascii=True) if all(ord(one) < 0x10000 for one in text) else _escaped(text)


def _escaped(text: str) -> str:
    """JSON has surrogate pairs for what TOML writes with eight digits."""
    return '"' + "".join(json.dumps(one)[1:-1] if ord(one) < 0x10000 else f"\\U{ord(one):08x}" for one in text) + '"'


def _key(key: str) -> str:
    return key if key.isascii() and key.replace("_", "").replace("-", "").isalnum() else _text(key)
