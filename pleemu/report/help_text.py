"""The parts of ``--help`` that are made from the code: scenario fields and JSON keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import NOTHING, Attribute

from pleemu.conform.replay import FORMATS
from pleemu.report.disasm_keys import DISASM_KEYS
from pleemu.report.json_form import CONFORM_KEYS, EXPLAIN_KEYS, RUN_KEYS
from pleemu.scenario import Scenario
from pleemu.structure import paths

_EXAMPLES = """\
Examples:
  {command} worst_case --policy debooster --host.hz 1000
  {command} my_scenario.toml --kvm.ple_gap=64 --vm.0.pinning 0,0,1 --json
  {command} my_guest.S --vcpus 4 --pcpus 2 --duration 50ms
  {command} main.c lock.S --cc gcc --cflags=-O3    (one guest of two files)"""


def run_help() -> str:
    """Return what stands below the options of ``pleemu run --help``."""
    keys = "\n".join(f"  {key:14}{meaning}" for key, meaning in RUN_KEYS.items())
    return f"{_EXAMPLES.format(command='pleemu run')}\n\n{_fields()}\n\nKeys of the JSON object:\n{keys}"


def compare_help() -> str:
    """Return what stands below the options of ``pleemu compare --help``."""
    examples = _EXAMPLES.format(command="pleemu compare").replace("--policy debooster", "--policies vanilla,debooster")
    examples += "\n  pleemu compare worst_case --across hardware.processor=haswell,skylake-sp,zen4"
    examples += "\n  pleemu compare worst_case --across 'vm.0.pinning=0,0;0,1' --across host.hz=250,1000 --pcpus 2"
    keys = '  runs          a list of runs: each has a name and the keys that are listed by "pleemu run --help"'
    return f"{examples}\n\n{_fields()}\n\nKeys of the JSON object:\n{keys}"


def explain_help() -> str:
    """Return what stands below the options of ``pleemu explain --help``."""
    examples = """\
Examples:
  pleemu explain worst_case                     (the most telling exits, and an overview)
  pleemu explain worst_case 1 270-272 longest --policy debooster
  pleemu explain my_guest.S first wasted --vcpus 4 --pcpus 2 --json"""
    keys = "\n".join(f"  {key:14}{meaning}" for key, meaning in EXPLAIN_KEYS.items())
    return f"{examples}\n\n{_fields()}\n\nKeys of the JSON object:\n{keys}"


def conform_help() -> str:
    """Return what stands below the options of ``pleemu conform --help``."""
    keys = "\n".join(f"  {key:14}{meaning}" for key, meaning in CONFORM_KEYS.items())
    formats = "Formats, plain or gzip'ed JSON: " + ", ".join(FORMATS) + "."
    codes = "Exit code: 0 all cases agree, 1 some do not, 2 a file is no recorded vectors."
    return f"{formats}\n{codes}\n\nThe JSON object has a list `files`; the keys of each:\n{keys}"


def disasm_help() -> str:
    """Return what stands below the options of ``pleemu disasm --help``."""
    keys = "\n".join(f"  {key:14}{meaning}" for key, meaning in DISASM_KEYS.items())
    return f'Keys of each entry of "guests" in the JSON object:\n{keys}'


def _fields() -> str:
    """Return every field with its default, unit and meaning."""
    lines = [line for path, attribute in paths(Scenario) if "." in path for line in _field(path, attribute)]
    intro = "Every field of a scenario, with its default (--vm.0.NAME: of the first VM, --vm.NAME: of every VM):"
    more = "A scenario without threads of the host gets one by its name: --thread.0.name hog --thread.0.nice 5"
    return "\n".join([intro, *lines, more])


def _field(path: str, attribute: Attribute[Any]) -> Iterator[str]:
    yield f"  --{path:32}{_default(attribute)}"
    yield f"      {_meaning(attribute)}"


def _default(attribute: Attribute[Any]) -> str:
    unit = attribute.metadata.get("unit", "")
    if attribute.metadata.get("entries"):
        return "the guest's own: pleemu list parameters"
    if attribute.default is NOTHING:
        return "required"
    if attribute.default is None:
        return f"none ({unit})" if unit else "none"
    shown = str(attribute.default).lower() if isinstance(attribute.default, bool) else str(attribute.default)
    return f"{shown} {unit}".strip()


def _meaning(attribute: Attribute[Any]) -> str:
    meaning: str = attribute.metadata["help"]
    none, origin = attribute.metadata.get("none"), attribute.metadata.get("origin")
    return meaning + (f"; none: {none}" if none else "") + (f"; {origin.partition(':')[0]}" if origin else "")
