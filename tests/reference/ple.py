"""The rule of SDM 3C 25.1.3 for PAUSE in VMX non-root operation, sentence by sentence."""

from __future__ import annotations

from attrs import define


@define
class PauseLoopExiting:
    """One logical processor with its VM-execution controls."""

    pause_exiting: bool = False
    pause_loop_exiting: bool = True
    gap: int = 128
    window: int = 4096
    first: int | None = None  # time of the first PAUSE of the loop; None: none since the latest VM entry
    previous: int | None = None

    def enter(self, gap: int, window: int) -> None:
        """A VM entry: gap and window of the VMCS apply, and no PAUSE has been executed since."""
        self.gap, self.window = gap, window
        self.first = self.previous = None

    def exits(self, now: int, cpl: int) -> bool:
        """Return whether a PAUSE at time ``now`` causes a VM exit."""
        if self.pause_exiting:
            return True
        if cpl > 0 or not self.pause_loop_exiting:
            return False
        if self.first is None or self.previous is None or now - self.previous > self.gap:
            self.first = now
        elif now - self.first > self.window:
            return True
        self.previous = now
        return False
