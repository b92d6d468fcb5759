"""Where reports go: a terminal with its width and colours, or a pipe without."""

from __future__ import annotations

import sys
from typing import IO

from rich.console import Console

_PIPE_WIDTH = 100


def console(file: IO[str] | None = None, *, width: int | None = None) -> Console:
    """Return a console on a file, by default stdout, that never fails on a character it cannot print."""
    file = sys.stdout if file is None else file
    reconfigure = getattr(file, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
    made = Console(file=file, width=width, highlight=False, emoji=False, markup=False)
    if width is None and not made.is_terminal:
        made.width = _PIPE_WIDTH
    return made
