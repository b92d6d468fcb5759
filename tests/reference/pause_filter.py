"""APM 2 15.14.4 with what was measured on Zen 4: rows of PAUSEs, of which ``count`` pass and the next one exits."""

from __future__ import annotations

from attrs import define, field


@define
class PauseFilter:
    """The PAUSEs since VMRUN, oldest first; a row is what the latest of them have in common."""

    count: int
    threshold: int
    times: list[int] = field(factory=list)

    def enter(self, count: int, threshold: int) -> None:
        """VMRUN."""
        self.count, self.threshold = count, threshold
        self.times = []

    def exits(self, now: int, cpl: int) -> bool:
        """Return whether a PAUSE at time ``now``, at any CPL, causes #VMEXIT(PAUSE)."""
        self.times.append(now)
        return len(self.row()) > self.count

    def row(self) -> list[int]:
        """The PAUSEs from the last one on that came more than the threshold after its predecessor."""
        starts = [
            number
            for number in range(1, len(self.times))
            if self.threshold and self.times[number] - self.times[number - 1] > self.threshold
        ]
        return self.times[starts[-1] if starts else 0 :]
