"""What `pleemu list programs` shows: the guest programs that are shipped, and what a folder of them says of itself."""

from __future__ import annotations

from pleemu import catalogue
from pleemu.errors import ScenarioError, nearest
from pleemu.report.grid import Column, Grid

_NAME = Column("name", left=True)
_SUMMARY = Column("what", left=True, wraps=True)


def programs() -> Grid:
    """Return the folders of guest programs, and the files in each."""
    shipped = catalogue.programs_folder()
    grid = Grid(
        f"Guest programs in {shipped}",
        (_NAME, _SUMMARY),
        note="pleemu list programs FOLDER: what to look for, and which exits it causes. pleemu list parameters GUEST: "
        "what can be set. pleemu new guest NAME: one of your own.",
    )
    for folder in catalogue.folders():
        grid.add(folder.name, catalogue.summary_of(folder), style="bold")
        for path in catalogue.sources(folder):
            grid.add(f"  {path.name}", catalogue.first_comment(path))
    return grid


def readme(name: str) -> str:
    """Return what a folder says of itself, and where it is. Raises ScenarioError if there is none of that name."""
    known = {folder.name: folder for folder in catalogue.folders()}
    if name.rstrip("/") not in known:
        raise ScenarioError(f"list programs: there is no folder {name!r}{nearest(name, known)}")
    folder = known[name.rstrip("/")]
    return f"{catalogue.read_readme(folder).strip()}\n\n{folder}"
