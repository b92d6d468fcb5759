"""Whole machines for tests: those of `pleemu.checks` with the guests of `tests/guests`, too."""

from __future__ import annotations

import fcntl
import functools
import tempfile
from pathlib import Path
from typing import Any

import attrs
from hypothesis import currently_in_test_context, note
from hypothesis import strategies as st

from pleemu import catalogue
from pleemu.checks import machines
from pleemu.checks import observed as observing
from pleemu.checks.machines import POLICIES, pinnings
from pleemu.checks.observed import Command, Observed, programs_of
from pleemu.jit import sources_digest
from pleemu.machine.run import simulate

__all__ = ["GUESTS", "HALTING", "Command", "Observed", "commands", "observe", "pinnings", "prepare_core", "programs_of"]

GUESTS = Path(__file__).parent / "guests"


@functools.cache
def prepare_core() -> None:
    """Load the compiled core; of several processes that miss it one compiles, the others wait."""
    with (Path(tempfile.gettempdir()) / f"pleemu-tests-{sources_digest()}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        simulate(attrs.evolve(catalogue.find("worst_case"), duration_ms=0.001))


def observe(command: Command, **more: Any) -> Observed:
    """Run with events; a failing property prints the command line."""
    if currently_in_test_context():
        note(f"replay: {command}")
    prepare_core()
    return observing.observe(command, **more)


SUBJECTS = (*(str(path) for path in sorted(GUESTS.glob("*.S"))), *machines.GUESTS)
HALTING = (
    *(str(GUESTS / f"{name}.S") for name in ("lost_kick", "ping", "ping_pong", "priorities", "pv_ticket")),
    "overboost",
)


def commands(policies: tuple[str, ...] = POLICIES, subjects: tuple[str, ...] = SUBJECTS) -> st.SearchStrategy[Command]:
    """Any small machine under a kernel's scheduler."""
    return machines.commands(policies, subjects)
