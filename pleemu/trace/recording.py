"""All that happened in a run, in memory: its events, and the story of every PAUSE exit.

A run keeps counters, not events. But a run repeats exactly, so whoever wants to look closer runs it again with
everything noted: that takes as long as the run did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from attrs import define, field, frozen
from numpy.typing import NDArray

from pleemu.errors import PleemuError
from pleemu.guest.image import Image
from pleemu.machine.result import Run
from pleemu.machine.story import Stories, Story
from pleemu.observe.events import EVENT
from pleemu.policy import Policy
from pleemu.scenario import IDLE, Program, Scenario

EVENT_LIMIT = 20_000_000  # 56 bytes each: a GiB

Progress = Callable[[int, int], None]  # done_ns, total_ns


@frozen(kw_only=True)
class Recording:
    """A run with everything that was noted of it."""

    run: Run
    policy: Policy
    events: NDArray[Any] = field(repr=False, eq=False)  # of `pleemu.observe.events.EVENT`, in order
    stories: tuple[Story, ...] = field(repr=False, eq=False)  # of PAUSE exits, by number
    images: tuple[Image, ...] = field(repr=False, eq=False)  # by VM
    until: int  # cycle up to which there are events: the run's end, unless there were too many
    every_event: bool
    every_story: bool

    @property
    def whole(self) -> bool:
        """Nothing is left out."""
        return self.every_event and self.every_story

    @property
    def scenario(self) -> Scenario:
        """What was run."""
        return self.run.scenario

    def ns(self, cycles: Any) -> Any:
        """Core cycles -> nanoseconds, rounded down, as all reports have them; of one number or of an array."""
        khz = self.scenario.hardware.core_rate_khz
        return cycles // khz * 1_000_000 + cycles % khz * 1_000_000 // khz  # in two steps, so that 64 bits suffice


def record(
    run: Run,
    policy: Policy,
    programs: Mapping[Program, Image],
    *,
    progress: Progress | None = None,
    limit: int = EVENT_LIMIT,
    stories: int | None = None,
    beginning: bool = False,
) -> Recording:
    """Run again what has been run, and note everything; the stories only of the first ``stories`` exits, if given.

    ``beginning``: of a run of more than ``limit`` events the first ones are enough. Raises `PleemuError` for such a run
    otherwise, and for a policy of one's own in plain Python that does not do the same twice.
    """
    from pleemu.machine.run import simulate  # here, because it brings the compiler

    events = _Events(limit, beginning)
    wanted = run.ple.exits if stories is None else min(stories, run.ple.exits)
    told = Stories(frozenset(range(1, wanted + 1)))
    again = simulate(
        run.scenario, policy=policy, events=events.take, stories=told, progress=progress, programs=dict(programs)
    )
    if again.digest != run.digest:
        raise PleemuError(
            f"policy {run.policy!r} did not do the same when it ran again, so its run cannot be shown; "
            "let it decide by its arguments alone"
        )
    images = tuple(programs[run.scenario.program_of(vm)] for vm in run.scenario.vm)
    return Recording(
        run=run,
        policy=policy,
        events=events.whole(),
        stories=told.found,
        images=images,
        until=run.cycles if events.until is None else events.until,
        every_event=events.until is None,
        every_story=wanted == run.ple.exits,
    )


@define
class _Events:
    limit: int
    beginning: bool
    until: int | None = None  # cycle of the first event that is not kept
    _chunks: list[NDArray[Any]] = field(factory=list)
    _count: int = 0

    def take(self, chunk: NDArray[Any]) -> None:
        if self.until is not None:
            return
        if self.beginning and self._count + len(chunk) > self.limit:
            self.until = int(chunk["cycle"][self.limit - self._count])
            chunk = chunk[: self.limit - self._count]
        self._count += len(chunk)
        if self._count > self.limit:
            raise PleemuError(
                f"this run has more than {self.limit:,} events, too many to keep in memory; "
                "shorten it by duration, or write a trace"
            )
        self._chunks.append(chunk)

    def whole(self) -> NDArray[Any]:
        return np.concatenate(self._chunks) if self._chunks else np.zeros(0, EVENT)


def thread_names(scenario: Scenario) -> Sequence[str]:
    """Return what each thread is called, by its number in events, and at -1 the idle one."""
    return (*scenario.thread_names(), IDLE)
