"""Where reports go: a terminal with its width and colours, or a pipe without."""

from __future__ import annotations

import sys
from typing import IO

from rich.console import Console, ConsoleOptions

_TEXT_WIDTH = 100  # of texts and drawings where nothing else says how wide
_LONGEST_LINE = 10_000


class Pipe(Console):
    """A console that is no terminal: lines may be long, so that tables are whole; what can be wrapped is."""

    @property
    def options(self) -> ConsoleOptions:
        """How wide a text is."""
        return super().options.update(max_width=_TEXT_WIDTH)


def console(file: IO[str] | None = None, *, width: int | None = None) -> Console:
    """Return a console on a file, by default stdout, that never fails on a character it cannot print."""
    file = sys.stdout if file is None else file
    reconfigure = getattr(file, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
    made = Console(file=file, width=width, highlight=False, emoji=False, markup=False)
    if width is not None or made.is_terminal:
        return made
    return Pipe(file=file, width=_LONGEST_LINE, highlight=False, emoji=False, markup=False)
