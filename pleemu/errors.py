"""The one error tree of pleemu: what a user did, never what pleemu did.

Every error is a single message that names the file, the place in it, what is wrong and
what would be right. The command line prints it and ends with exit code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PleemuError(Exception):
    """Base of every error that a user's input can cause."""


class ScenarioError(PleemuError):
    """A scenario, an override or a policy name that makes no sense."""


class GuestError(PleemuError):
    """A guest program that does not assemble, link or decode."""


class GuestFault(PleemuError):
    """A guest that did at run time what its processor forbids.

    ``schedule`` is the token of the preemptions up to then, if the host's scheduler made any (`Run.schedule`).
    """

    def __init__(self, message: str, schedule: str | None = None) -> None:
        super().__init__(message)
        self.schedule = schedule


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``'; did you mean X?'`` for the known name nearest to ``word``, or the choices."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
