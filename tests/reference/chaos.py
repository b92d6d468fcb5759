"""The chaos scheduler's queue, with Python's lists."""

from __future__ import annotations

from attrs import define, field


@define
class Queue:
    """One CPU: who runs, who waits, and who was named to be next."""

    running: int | None = None
    waiting: list[int] = field(factory=list)
    hinted: int | None = None  # by yield_to
    chosen: int | None = None  # by a preemption point
    resched: bool = False

    def wake(self, task: int) -> None:
        """Behind all others; an idle CPU takes it."""
        self.waiting.append(task)
        self.resched |= self.running is None

    def leave(self, task: int) -> None:
        """A task that waits goes to another queue."""
        self.waiting.remove(task)
        self.hinted = None if self.hinted == task else self.hinted
        self.chosen = None if self.chosen == task else self.chosen

    def schedule(self, runnable: bool) -> int | None:
        """The next one, in the order of: chosen, hinted, longest waiting."""
        if self.running is not None and runnable:
            self.waiting.append(self.running)
        named = [one for one in (self.chosen, self.hinted) if one in self.waiting]
        self.running = (named + self.waiting + [None])[0]
        self.chosen, self.resched = None, False
        if self.running is not None:
            self.waiting.remove(self.running)
        if self.hinted == self.running:
            self.hinted = None
        return self.running

    def tick(self) -> None:
        """Round robin."""
        self.resched |= self.running is not None and bool(self.waiting)
