"""KICK_CPU and HLT of v5.6 as a latch for each vCPU: what may sleep, and who must be woken.

Independent of the emulator: it reads what happened, in order, and says what contradicts the protocol.

    HLT exits, kicked since it last left a HLT     it does not sleep
    HLT exits, otherwise                           it may sleep
    kick, the vCPU sleeps                          it is woken at once
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, field

Happening = tuple[str, int]  # halt | sleep | wake | enter | kick, and whose vCPU


@define
class Kicks:
    """The latches of a machine."""

    kicked: set[int] = field(factory=set)
    halting: set[int] = field(factory=set)
    asleep: set[int] = field(factory=set)
    to_wake: set[int] = field(factory=set)
    ended: int = 0  # HLTs

    def problem(self, happenings: Iterable[Happening]) -> str | None:
        """What contradicts the protocol first, or None."""
        for number, (what, vcpu) in enumerate(happenings):
            if self.to_wake and (what, vcpu) != ("wake", next(iter(self.to_wake))):
                return f"{number}: vCPU {self.to_wake} sleeps on, although kicked"
            if what == "sleep" and vcpu in self.kicked:
                return f"{number}: vCPU {vcpu} goes to sleep, although kicked"
            getattr(self, f"_{what}")(vcpu)
        return f"the end: vCPU {self.to_wake} sleeps on, although kicked" if self.to_wake else None

    def _halt(self, vcpu: int) -> None:
        self.halting.add(vcpu)

    def _sleep(self, vcpu: int) -> None:
        self.asleep.add(vcpu)

    def _wake(self, vcpu: int) -> None:
        self.asleep.discard(vcpu)
        self.to_wake.discard(vcpu)

    def _enter(self, vcpu: int) -> None:
        if vcpu in self.halting:
            self.halting.remove(vcpu)
            self.kicked.discard(vcpu)
            self.ended += 1

    def _kick(self, vcpu: int) -> None:
        self.kicked.add(vcpu)
        if vcpu in self.asleep:
            self.to_wake.add(vcpu)
