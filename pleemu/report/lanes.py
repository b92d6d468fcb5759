"""Lanes of pCPUs as an image: who ran when, in so many columns; and above each where the PAUSE exits were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pleemu.report.colours import IDLE, PAUSE, rgb
from pleemu.trace.columns import Columns

COLUMNS = 1600
_EXITS, _LANE, _GAP = 6, 20, 5  # rows of an image: PAUSE exits, who ran, nothing
ROWS = _EXITS + _LANE + _GAP  # of each pCPU
_PAPER, _FEW = (255, 255, 255), (240, 190, 80)


def shares(
    switches: Columns, cpu: int, names: Sequence[str], edges: NDArray[Any]
) -> tuple[list[int], NDArray[np.float64]]:
    """Return which threads ran on a pCPU, and the share of each column between ``edges`` (ns) that each had of it."""
    mine = np.asarray(switches["cpu"]) == cpu
    times = np.asarray(switches["time_ns"], float)[mine]
    following = np.asarray(switches["next"], object)[mine]
    numbers = {name: number for number, name in enumerate(names[:-1])}
    begins, ends = times, np.append(times[1:], max(edges[-1], times[-1])) if len(times) else times
    threads = sorted({numbers[name] for name in following if name in numbers})
    rows = []
    for thread in threads:
        his = following == names[thread]
        # Time that the thread has had so far, a line that rises while it runs: its differences are the shares.
        at = np.column_stack((begins[his], ends[his])).ravel()
        so_far = np.cumsum(np.column_stack((np.zeros(his.sum()), ends[his] - begins[his])).ravel())
        rows.append(np.diff(np.interp(edges, at, so_far, left=0.0)) / np.diff(edges))
    return threads, np.array(rows) if rows else np.zeros((0, len(edges) - 1))


def lanes_image(
    found: dict[str, Columns],
    pcpus: int,
    names: Sequence[str],
    colours: Sequence[str],
    begin_ns: int,
    end_ns: int,
    columns: int = COLUMNS,
) -> NDArray[np.uint8]:
    """Return an image of `ROWS` rows for each pCPU: where several threads share a column, they stand on each other."""
    edges = np.linspace(begin_ns, max(end_ns, begin_ns + 1), columns + 1)
    image = np.full((pcpus * ROWS, columns, 3), 255, np.uint8)
    palette = np.array([rgb(one) for one in (*colours, IDLE)], np.uint8)
    middles = ((np.arange(_LANE) + 0.5) / _LANE)[:, None]
    for cpu in range(pcpus):
        threads, of_column = shares(found["switches"], cpu, names, edges)
        tops = np.cumsum(of_column, axis=0)
        place = np.sum(middles[None] >= tops[:, None, :], axis=0)  # how many threads end above this row
        top = cpu * ROWS + _EXITS
        image[top : top + _LANE] = palette[np.array([*threads, len(colours)])[place]]
        image[cpu * ROWS : top] = _exits(found["exits"], cpu, edges)
    return image


def _exits(exits: Columns, cpu: int, edges: NDArray[Any]) -> NDArray[np.uint8]:
    mine = (np.asarray(exits["cpu"]) == cpu) & (np.asarray(exits["number"]) >= 0)
    wide = 4  # columns that show one count: a mark that can be seen
    counts, _ = np.histogram(np.asarray(exits["time_ns"])[mine], edges[::wide])
    heat = np.log1p(counts) / np.log1p(max(1, counts.max(initial=1)))
    strip = np.where(
        (counts > 0)[:, None],
        np.array(_FEW) + (np.array(rgb(PAUSE)) - np.array(_FEW)) * heat[:, None],
        np.array(_PAPER),
    ).astype(np.uint8)
    spread = np.repeat(strip, wide, axis=0)[: len(edges) - 1]
    rows = np.full((_EXITS, len(edges) - 1, 3), 255, np.uint8)
    rows[: _EXITS - 1, : len(spread)] = spread
    return rows
