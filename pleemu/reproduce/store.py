"""Records of finished runs: one small file each, under a name that says all that the run depends on.

A record is written whole or not at all, so whatever ends the program leaves every finished run. One that cannot be
read counts as missing: its run is repeated.
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

from pleemu.catalogue import programs_folder
from pleemu.errors import PleemuError, ScenarioError
from pleemu.jit import sources_digest
from pleemu.reproduce.measures import Measures, measures_from_json, measures_to_json
from pleemu.reproduce.plan import Job
from pleemu.scenario import Program
from pleemu.whole_file import write_whole

_FOLDER = "runs"
_LIMIT = 1 << 20  # bytes of a record
_DIGITS = 32


class Store:
    """The records in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / _FOLDER
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PleemuError(f"{folder}: cannot be a folder for results: {error.strerror or error}") from None

    def read(self, job: Job) -> Measures | None:
        """Return the record of a run, or None if there is none."""
        path = self._path(job)
        if not path.is_file():
            return None
        try:
            with path.open(encoding="utf-8") as file:
                return measures_from_json(file.read(_LIMIT))
        except (OSError, UnicodeDecodeError, ScenarioError):
            return None

    def write(self, job: Job, measures: Measures) -> None:
        """Keep the record of a run."""
        write_whole(self._path(job), measures_to_json(measures).encode(), "the record")

    def _path(self, job: Job) -> Path:
        return self.folder / f"{key(job)}.json"


def key(job: Job) -> str:
    """Return the digest of all that a run depends on: scenario, policy, seed, guest, and pleemu's own sources."""
    data = job.scenario.to_dict()
    del data["name"]  # the same run in two parts is one
    guests = [
        {
            "sources": _digest_of_program(job.scenario.program_of(vm)),
            "parameters": dict(sorted(job.scenario.parameters_of(vm).items())),
        }
        for vm in job.scenario.vm
    ]
    whole = {"scenario": data, "guests": guests, "sources": _sources()}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:_DIGITS]


# Of the package: what is made of a run, or with it, and does not decide what it does.
_BESIDE_A_RUN = ("__main__.py", "checks", "cli", "cli.py", "conform", "experiment", "report", "reproduce", "trace")


@functools.cache
def _sources() -> str:
    """Return the digest of all of pleemu that decides what a run does and what is kept of it."""
    digest = hashlib.sha256(sources_digest().encode())
    for path in deciding_sources():
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def deciding_sources() -> list[Path]:
    """Return those files, in order."""
    package = Path(__file__).parent.parent
    files = (path for path in package.rglob("*") if path.suffix in (".py", ".txt"))
    deciding = (path for path in files if path.relative_to(package).parts[0] not in _BESIDE_A_RUN)
    return sorted([*deciding, Path(__file__).with_name("measures.py")])


@functools.cache
def _digest_of_program(program: Program) -> str:
    included = sorted((programs_folder() / "include").iterdir())
    digest = hashlib.sha256()
    for path in (*program.paths, *included):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
