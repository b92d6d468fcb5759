"""Where the guest programs that come with pleemu are: inside an installed package, beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

from pleemu.errors import ScenarioError


def programs_folder() -> Path:
    """Return the folder of the shipped guest programs."""
    package = Path(__file__).resolve().parent
    for folder in (package / "guest_programs", package.parent / "guest_programs"):
        if folder.is_dir():
            return folder
    raise ScenarioError(f"the shipped guest programs are missing beside {package}; reinstall pleemu")
