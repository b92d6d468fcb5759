"""How far the evaluation is, on stderr, if somebody is there to look."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from pleemu.reproduce.evaluate import Progress


@contextmanager
def evaluation_bar() -> Iterator[Callable[[Progress], None] | None]:
    """Give a function that takes how far it is; None if stderr is no terminal."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield None
        return
    columns = (
        BarColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left", markup=False),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task("")

        def show(at: Progress) -> None:
            named = "; ".join(at.at)
            text = f"{at.finished}/{at.runs} runs  {named}"[: max(20, console.width - 60)]
            bars.update(task, description=text, completed=at.done, total=max(1.0, at.work))

        yield show
