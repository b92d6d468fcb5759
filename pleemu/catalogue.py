"""The shipped experiments, and what a user may name on the command line instead of one.

An experiment is a folder of `guest_programs` with a `scenario.toml`. The folder lies inside an
installed package and beside the package in a checkout.
"""

from __future__ import annotations

import os
from pathlib import Path

from pleemu.errors import ScenarioError, nearest
from pleemu.scenario import Scenario, Vm, load
from pleemu.shipped import programs_folder as programs_folder

PROGRAM_SUFFIXES = (".S", ".s", ".c", ".o", ".a", ".elf")
_ELF = b"\x7fELF"
_SHARED_FOLDER = "include"  # what guests include; not an experiment
_HEAD = 4096  # characters of a source in which its first comment is


def experiments() -> dict[str, Path]:
    """Return the scenario file of each shipped experiment, by name."""
    return {path.parent.name: path for path in sorted(programs_folder().glob("*/scenario.toml"))}


def programs() -> tuple[Path, ...]:
    """Return every guest source that comes with pleemu."""
    found = (path for path in programs_folder().glob("*/*") if path.suffix in PROGRAM_SUFFIXES)
    return tuple(sorted(path for path in found if path.parent.name != _SHARED_FOLDER))


def sources(folder: Path) -> tuple[Path, ...]:
    """Return the sources in a folder, and of the shared one what guests include."""
    suffixes = (*PROGRAM_SUFFIXES, ".inc", ".h")
    return tuple(sorted(path for path in folder.iterdir() if path.suffix in suffixes))


def folders() -> tuple[Path, ...]:
    """Return the folders of the shipped guests, each with a README.md, and of what guests include."""
    return tuple(sorted(path for path in programs_folder().iterdir() if path.is_dir() and path.name[0] not in "._"))


def summary_of(folder: Path) -> str:
    """Return what a folder of guests does: its README's first line behind the name, or else its first sentence."""
    title, _, text = read_readme(folder).partition("\n")
    return title.partition(": ")[2] or first_sentence(text.strip().partition("\n\n")[0])


def read_readme(folder: Path) -> str:
    """Return the text of a folder's README, or nothing where it has none."""
    try:
        return (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def first_comment(path: Path) -> str:
    """Return the first sentence of the comment that a source begins with, or nothing."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            lines = file.read(_HEAD).splitlines()
    except OSError:
        return ""
    words: list[str] = []
    for line in lines:
        text = line.strip()
        comment = text.lstrip("/*# ").removesuffix("*/").strip()
        if not text.startswith(("/", "*", "#")) or text.startswith("#include") or (words and not comment):
            break
        words += comment.split()
    return first_sentence(" ".join(words))


def first_sentence(text: str) -> str:
    """Return a text as one line, up to the end of its first sentence."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    sentence, stop, _ = line.partition(". ")
    return sentence if stop else line.removesuffix(".")


def find(name: str, *more: str) -> Scenario:
    """Return the scenario that a user names: a shipped one, a TOML file, or straight a guest, of several files too."""
    path = Path(name)
    if more:
        others = [one for one in (name, *more) if not _is_program(Path(one))]
        if others:
            raise ScenarioError(
                f"{', '.join(others)}: only the files of one guest can be named together: {', '.join(PROGRAM_SUFFIXES)}"
            )
        return of_program(path, *map(Path, more))
    if _is_program(path):
        return of_program(path)
    if path.suffix == ".toml" or path.parent != Path():
        return load(path)
    shipped = experiments()
    if name in shipped:
        return load(shipped[name])
    if (path / "scenario.toml").is_file():
        return load(path)
    if path.is_file():
        raise ScenarioError(f"{name}: neither a scenario (.toml) nor a guest ({', '.join(PROGRAM_SUFFIXES)})")
    raise ScenarioError(f"unknown scenario {name!r}{nearest(name, shipped)}")


def _is_program(path: Path) -> bool:
    """Whether a path is a guest's, by its name or, for an executable, by what it begins with."""
    if path.suffix in PROGRAM_SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return path.is_file() and file.read(len(_ELF)) == _ELF
    except (OSError, ValueError):
        return False


def of_program(path: Path, *more: Path) -> Scenario:
    """Return a scenario that runs one guest, of one file or several, in one VM, all else at its default."""
    for one in (path, *more):
        if not one.is_file():
            raise ScenarioError(f"{one}: {'not a file' if one.exists() else 'no such file'}; name a guest program")
    name = "".join(letter for letter in path.stem if letter.isprintable()) or "guest"
    others = tuple(os.path.relpath(one, path.parent) for one in more)
    program = (path.name, *others) if more else path.name
    return Scenario(name=name, vm=(Vm(name="vm0", program=program),), folder=path.parent)
