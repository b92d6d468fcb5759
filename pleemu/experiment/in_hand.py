"""What `pleemu.run` and `pleemu.compare` return: runs, with the data of each in hand.

    result = pleemu.run("worst_case")
    result.ple.longest_run                    # counters: as the report has them
    exits = result.frames()["exits"]          # every exit: pandas
    exits[exits.exit_reason == "PAUSE_INSTRUCTION"].guest_ns.median()

The frames come from a second run, the same to the cycle, which `frames()` makes when it is called first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import attrs
from attrs import define, field, frozen

from pleemu.errors import PleemuError, nearest
from pleemu.machine.result import Run
from pleemu.policy import Policy

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from pleemu.experiment.repeat import Asked
    from pleemu.guest.image import Image
    from pleemu.report.page import Repeat
    from pleemu.scenario import Program
    from pleemu.trace.recording import Progress, Recording

    Frames = Mapping[str, DataFrame]


@define
class _Again:
    """What it takes to run again, and what that has found."""

    policy: Policy
    programs: Mapping[Program, Image]
    asked: Asked | None = None  # of Python, for this run alone
    recording: Recording | None = None
    frames: Frames | None = None


@frozen(kw_only=True)
class Result(Run):
    """A run, and what it takes to look closer: every field and method of `pleemu.machine.result.Run`, and these."""

    again: _Again = field(repr=False, eq=False)

    def recording(self) -> Recording:
        """Return all events and the story of every PAUSE exit; the first call runs the scenario again."""
        if self.again.recording is None:
            from pleemu.trace.recording import record

            self.again.recording = record(self, self.again.policy, self.again.programs)
        return self.again.recording

    def beginning(self, progress: Progress | None = None) -> Recording:
        """Return as much of the recording as a page is made from: of a very long run the first events."""
        if self.again.recording is not None:
            return self.again.recording
        from pleemu.report.page import EVENTS, STORIES
        from pleemu.trace.recording import record

        found = record(
            self,
            self.again.policy,
            self.again.programs,
            progress=progress,
            limit=EVENTS,
            stories=STORIES,
            beginning=True,
        )
        if found.whole:
            self.again.recording = found
        return found

    def plot(self, path: str | Path | None = None) -> Figure:
        """Draw the run, write it to ``path`` (.png, .svg, .pdf) if given, and return the figure.

        Needs matplotlib: ``pip install 'pleemu[plots]'``.
        """
        from pleemu.report.figures import need_matplotlib
        from pleemu.report.plots import plot_run

        need_matplotlib()
        _check_output("plot", path, [self])
        return plot_run(self.beginning(), path)

    def to_html(self, path: str | Path) -> None:
        """Write a page for a browser, with a timeline and every decision: as `pleemu run --report` does."""
        from pleemu.experiment.repeat import Asked, repeat

        _check_output("to_html", path, [self])
        write_pages(Path(path), [(self.policy, self)], repeat([self], self.again.asked or Asked()))

    def frames(self) -> Frames:
        """Return data frames by name, made at the first call: see `pleemu.trace.columns` for what they hold.

        They are ``exits``, ``decisions``, ``switches``, ``migrations``, ``operations``, ``windows``, ``yields``,
        ``vruntimes``, ``spans``, ``runs``; the `number` of a PAUSE exit joins the first two.
        Needs pandas: ``pip install 'pleemu[frames]'``.
        """
        if self.again.frames is None:
            from pleemu.report.frames import frames_of, need_pandas

            need_pandas()
            self.again.frames = MappingProxyType(frames_of(self.recording()))
        return self.again.frames

    def summary(self) -> DataFrame:
        """Return one row of counts, shares and times, as `Results.summary` has of each run."""
        from pleemu.report.frames import summary_frame

        return summary_frame([(self.policy, self)])

    def to_parquet(self, folder: str | Path) -> tuple[Path, ...]:
        """Write each frame to ``folder/NAME.parquet`` and return the files."""
        from pleemu.report.frames import write_parquet

        return write_parquet(self.frames(), folder)

    def _repr_html_(self) -> str:
        from pleemu.report.html import run_html

        return run_html(self)


class Results(tuple[Result, ...]):
    """The runs of a comparison, in order; also by name: ``results["debooster"]``."""

    names: tuple[str, ...]  # of the cases: the policies, unless something else differs
    what: str  # in what they differ
    _asked: Asked | None
    _frames: Frames | None

    def __new__(
        cls, cases: Iterable[tuple[str, Result]] = (), what: str = "policy", asked: Asked | None = None
    ) -> Results:
        named = tuple(cases)
        made = super().__new__(cls, (run for _, run in named))
        made.names = tuple(name for name, _ in named)
        made.what = what
        made._asked = asked
        made._frames = None
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self.items()), self.what, self._asked

    @overload
    def __getitem__(self, key: str | SupportsIndex, /) -> Result: ...
    @overload
    def __getitem__(self, key: slice, /) -> tuple[Result, ...]: ...
    def __getitem__(self, key: Any, /) -> Any:
        if not isinstance(key, str):
            return super().__getitem__(key)
        if key not in self.names:
            raise PleemuError(f"{key!r}: there is no such run in this comparison{nearest(key, self.names)}")
        return super().__getitem__(self.names.index(key))

    def items(self) -> Iterator[tuple[str, Result]]:
        """Yield each run with the name of its case."""
        return zip(self.names, self, strict=True)

    def frames(self) -> Frames:
        """Return the frames of all runs below each other; `case` and `policy` say whose a row is."""
        if self._frames is None:
            from pleemu.report.frames import joined

            self._frames = MappingProxyType(joined([(name, run, run.frames()) for name, run in self.items()]))
        return self._frames

    def summary(self) -> DataFrame:
        """Return a row for each run: its counts, shares and times."""
        from pleemu.report.frames import summary_frame

        return summary_frame(list(self.items()))

    def to_parquet(self, folder: str | Path) -> tuple[Path, ...]:
        """Write each frame, and the summary, to ``folder/NAME.parquet`` and return the files."""
        from pleemu.report.frames import write_parquet

        return write_parquet({**self.frames(), "summary": self.summary()}, folder)

    def plot(self, path: str | Path | None = None) -> Figure:
        """Draw the runs beside each other, write them to ``path`` if given, and return the figure."""
        from pleemu.report.figures import need_matplotlib
        from pleemu.report.plots import plot_compare

        need_matplotlib()
        self._check_some()
        _check_output("plot", path, self)
        return plot_compare([(name, run.beginning()) for name, run in self.items()], path)

    def to_html(self, path: str | Path) -> None:
        """Write one page of all runs for a browser: as `pleemu compare --report` does."""
        from pleemu.experiment.repeat import Asked, repeat

        self._check_some()
        _check_output("to_html", path, self)
        write_pages(
            Path(path), list(self.items()), repeat(self, self._asked or Asked(command="compare")), what=self.what
        )

    def _check_some(self) -> None:
        if not self:
            raise PleemuError("this comparison has no runs, so there is nothing to show")

    def _repr_html_(self) -> str:
        from pleemu.report.html import compare_html

        return compare_html(tuple(self.items()), self.what)


def _check_output(method: str, path: str | Path | None, runs: Iterable[Result]) -> None:
    """Refuse a file that cannot be written, or that a run reads."""
    from pleemu.experiment.outputs import check_outputs

    if path is not None:
        check_outputs({method: Path(path)}, [(run.scenario, run.again.policy) for run in runs])


def write_pages(
    path: Path,
    cases: Sequence[tuple[str, Result]],
    repeat: Repeat,
    *,
    what: str = "policy",
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Write one page of some runs; ``repeat`` is how to make them again."""
    from pleemu.report.page import write_page

    write_page(path, recordings_of(cases, progress), repeat, what=what)


def write_plot(
    path: Path, cases: Sequence[tuple[str, Result]], progress: Callable[[str, int, int], None] | None = None
) -> None:
    """Draw one run, or several beside each other."""
    from pleemu.report.plots import plot_compare, plot_run

    recordings = recordings_of(cases, progress)
    if len(recordings) == 1:
        plot_run(recordings[0][1], path)
    else:
        plot_compare(recordings, path)


def recordings_of(
    cases: Sequence[tuple[str, Result]], progress: Callable[[str, int, int], None] | None
) -> list[tuple[str, Recording]]:
    """Return what pages and figures are made from; each run is made once more, unless it has been."""
    recordings = []
    for name, one in cases:
        show = None if progress is None else partial(progress, f"{name}, every event")
        recordings.append((name, one.beginning(show)))
    return recordings


def in_hand(run: Run, policy: Policy, programs: Mapping[Program, Image]) -> Result:
    """Return a run with what it takes to run it again."""
    values = {one.name: getattr(run, one.name) for one in attrs.fields(Run)}
    return Result(**values, again=_Again(policy, programs))
