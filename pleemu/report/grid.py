"""The one look of all tables, and how they fit: names are shortened first, then minor columns are left out.

A table says which columns it has left out. In a pipe it is whole, however long its lines become.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import Factory, define, frozen
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from pleemu.report.console import Pipe

_GAP = 2
_SHORTEST = 10  # that a shortened column may become
_Cell = str | Text


@frozen
class Column:
    """A column of a grid: numbers stand to the right, names to the left."""

    name: str
    left: bool = False
    shrinks: bool = False  # may be shortened
    wraps: bool = False  # may take several lines; only the last column
    minor: int = 0  # left out where the line is too narrow, highest first; 0: never


@define
class Grid:
    """A titled table that knows which of its columns matter most."""

    title: str
    columns: Sequence[Column]
    rows: list[tuple[Text, ...]] = Factory(list)
    note: str = ""

    def add(self, *cells: _Cell, style: str = "") -> None:
        """Add a row of texts; nothing in them is markup."""
        self.rows.append(tuple(Text(cell, style) if isinstance(cell, str) else cell for cell in cells))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        whole = isinstance(console, Pipe)
        shown, widths = self._fit(options.max_width, whole=whole)
        of_lines = options.update(max_width=console.width) if whole else options
        yield Text(self.title, style="bold")
        for line in self._lines(shown, widths, console, rule="-" if options.ascii_only else "─"):
            yield from console.render(line, of_lines)
        left_out = [column.name for number, column in enumerate(self.columns) if number not in shown]
        if left_out:
            yield Text(f"Too wide for this terminal: {', '.join(left_out)}.", style="dim")
        if self.note:
            yield Text(self.note, style="dim")

    def _lines(self, shown: Sequence[int], widths: Sequence[int], console: Console, *, rule: str) -> Iterator[Text]:
        yield self._line([Text(column.name, style="cyan") for column in self.columns], shown, widths, console)
        yield Text((" " * _GAP).join(rule * widths[number] for number in shown), style="dim", no_wrap=True)
        for cells in self.rows:
            yield self._line(cells, shown, widths, console)

    def _line(self, cells: Sequence[Text], shown: Sequence[int], widths: Sequence[int], console: Console) -> Text:
        line = Text(no_wrap=True, overflow="ellipsis")
        for number in shown:
            column, width, cell = self.columns[number], widths[number], cells[number].copy()
            if column.wraps:
                indent = "\n" + " " * line.cell_len
                line.append_text(Text(indent).join(cell.wrap(console, width)))
                continue
            cell.truncate(width, overflow="ellipsis")
            if column.left:
                cell.pad_right(width - cell.cell_len)
            else:
                cell.pad_left(width - cell.cell_len)
            line.append_text(cell)
            line.append(" " * _GAP)
        line.rstrip()
        return line

    def _fit(self, width: int, *, whole: bool) -> tuple[list[int], list[int]]:
        """Return the columns to show and the width of every column; ``whole``: nothing is left out or shortened."""
        natural = [
            max(cell_len(column.name), *(cells[number].cell_len for cells in self.rows), 1)
            for number, column in enumerate(self.columns)
        ]
        shown = list(range(len(self.columns)))
        while True:
            widths = list(natural)
            excess = sum(natural[number] + _GAP for number in shown) - _GAP - width
            for number in shown:
                if excess > 0 and (self.columns[number].wraps or (self.columns[number].shrinks and not whole)):
                    cut = max(0, min(excess, natural[number] - _SHORTEST))
                    widths[number] -= cut
                    excess -= cut
            droppable = [number for number in shown if self.columns[number].minor and not whole]
            if excess <= 0 or not droppable:
                return shown, widths
            shown.remove(max(droppable, key=lambda number: self.columns[number].minor))
