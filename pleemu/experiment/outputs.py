"""What a run writes: checked before it, since it may be long, and against what it reads, since that is the user's."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pleemu.errors import PleemuError
from pleemu.guest.source import LIBRARY, SOURCE_LIMIT
from pleemu.policy import Policy
from pleemu.profile import profile_path
from pleemu.scenario import Scenario
from pleemu.whole_file import check_output

_INCLUDE = re.compile(rb'^\s*[.#]\s*include\s+"([^"\n]+)"', re.MULTILINE)

Runs = Iterable[tuple[Scenario, Policy]]


def check_outputs(outputs: Mapping[str, Path | None], runs: Runs) -> None:
    """Refuse files, by their options, that cannot be written, that some run reads, or that are one and the same."""
    given = {option: path for option, path in outputs.items() if path is not None}
    for option, path in given.items():
        check_output(option, path)
    for (option, path), (other, same) in itertools.combinations(given.items(), 2):
        if _is_same(path, same):
            raise PleemuError(f"{option} {path} and {other} {same} are one file; name two")
    read = files_read(runs) if given else ()
    for option, path in given.items():
        if any(_is_same(path, one) for one in read):
            raise PleemuError(f"{option} {path}: that would overwrite what is to be run; name another file")


def files_read(runs: Runs) -> Iterable[Path]:
    """Return the files that runs depend on; of what C includes, those that it finds beside itself or in pleemu's."""
    return _with_includes(_files_named(runs))


def _files_named(runs: Runs) -> Iterator[Path]:
    for scenario, policy in runs:
        if scenario.file is not None:
            yield scenario.file
        if policy.own is not None and policy.own.path:
            yield Path(policy.own.path)
        for vm in scenario.vm:
            if vm.profile:
                yield profile_path(vm.profile, scenario.folder)
            yield from scenario.program_of(vm).paths


def _with_includes(paths: Iterable[Path]) -> Iterable[Path]:
    """Return files and all that they include, each once."""
    found: dict[Path, None] = {}
    left = list(paths)
    while left:
        path = left.pop()
        if path not in found:
            found[path] = None
            left += _included(path)
    return found


def _included(path: Path) -> Iterator[Path]:
    """Return the files that a source includes by name, in assembly or C; of anything else none."""
    try:
        with path.open("rb") as file:
            text = file.read(SOURCE_LIMIT)
    except (OSError, ValueError):
        return  # whoever loads it says so
    for name in map(os.fsdecode, _INCLUDE.findall(text)):
        found = (folder / name for folder in (path.parent, LIBRARY))
        yield from (one for one in found if os.path.isfile(one))


def _is_same(one: Path, other: Path) -> bool:
    """Whether two names are one file, be it through links or another spelling; a device takes what comes."""
    if os.path.exists(one) and not os.path.isfile(one):
        return False
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):  # one is yet to be made
        return os.path.realpath(one) == os.path.realpath(other)
