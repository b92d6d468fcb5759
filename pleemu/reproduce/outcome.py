"""The files that an evaluation leaves."""

from __future__ import annotations

from pathlib import Path

from pleemu.reproduce.markdown import markdown_report
from pleemu.reproduce.page import page
from pleemu.reproduce.plain import results_json
from pleemu.reproduce.results import Results
from pleemu.reproduce.store import Store
from pleemu.whole_file import check_output, write_whole

FILES = {"results.json": results_json, "results.md": markdown_report, "report.html": page}


def check_outcome(folder: Path) -> None:
    """Make the folder, and refuse it before any run if a record or a file of the results could not be written."""
    records = Store(folder).folder
    for path in (records / "record.json", *(folder / name for name in FILES)):
        check_output("--output", path)


def write_outcome(results: Results, folder: Path) -> tuple[Path, ...]:
    """Write every file and return their paths."""
    for name, text_of in FILES.items():
        write_whole(folder / name, text_of(results).encode(), "a result")
    return tuple(folder / name for name in FILES)
