"""Application profiles: a guest with a set of parameters, under a name, and where its figures come from.

A profile is a TOML file: one that comes with pleemu (`pleemu list profiles`), or one of your own. A VM names it in
place of a program; what the scenario gives in [vm.parameters] goes before what the profile says.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from attrs import evolve, field, frozen

from pleemu.errors import ScenarioError, nearest
from pleemu.fields import REQUIRED, FieldError, text
from pleemu.guest_fields import parameters_field, program_field
from pleemu.shipped import programs_folder
from pleemu.structure import structure
from pleemu.toml import read_toml

FOLDER = "profiles"  # of the guest programs


@frozen(kw_only=True)
class Profile:
    """One application."""

    name: str = text(REQUIRED, "name in reports")
    summary: str = text("", "what it does, in one line", lines=True)
    origin: str = text(REQUIRED, "which of its figures are reported by whom, and which are proposed", lines=True)
    program: str | tuple[str, ...] = program_field(REQUIRED)
    parameters: Mapping[str, int | str] = parameters_field()
    folder: Path = field(default=Path(), eq=False)  # where its programs are looked for


def shipped_profiles() -> dict[str, Path]:
    """Return the files of the profiles that come with pleemu, by name."""
    return {path.stem: path for path in sorted((programs_folder() / FOLDER).glob("*.toml"))}


def profile(name: str, folder: Path) -> Profile:
    """Return a profile: a shipped one by its name, or a TOML file, from ``folder`` on. Raises ScenarioError."""
    return _read(profile_path(name, folder))


def profile_path(name: str, folder: Path) -> Path:
    """Return the file of a profile."""
    if name.endswith(".toml"):
        return folder / name
    shipped = shipped_profiles()
    if name not in shipped:
        raise ScenarioError(f"unknown profile {name!r}{nearest(name, shipped)}; known are {', '.join(shipped)}")
    return shipped[name]


@functools.cache
def _read(path: Path) -> Profile:
    try:
        return evolve(structure(Profile, read_toml(path)), folder=path.parent)
    except FieldError as error:
        raise ScenarioError(f"{path}: {error}") from None
