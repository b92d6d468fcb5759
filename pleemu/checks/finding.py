"""What a property says when it does not hold."""

from __future__ import annotations

from collections.abc import Iterable


class PropertyError(AssertionError):
    """A run in which a property does not hold: where, and who is concerned."""

    def __init__(self, what: str, *, cycle: int | None = None, pcpu: int | None = None, vcpus: Iterable[int] = ()):
        self.what = what
        self.cycle = cycle
        self.pcpu = pcpu
        self.vcpus = tuple(one for one in vcpus if one >= 0)
        super().__init__(str(self))

    def __str__(self) -> str:
        place = [] if self.cycle is None else [f"cycle {self.cycle}"]
        place += [] if self.pcpu is None else [f"pCPU {self.pcpu}"]
        if self.vcpus:
            place.append(f"vCPU{'s' if len(self.vcpus) > 1 else ''} {', '.join(map(str, self.vcpus))}")
        return f"{', '.join(place)}: {self.what}" if place else self.what


Row = tuple[int, int, int, int, int, int, int]  # cycle, kind, pcpu, vcpu, a, b, c: see `observe.events`


def at(row: Row, what: str, *others: int) -> PropertyError:
    """Return the error that an event shows; ``others`` are vCPUs beside the event's own."""
    vcpus = dict.fromkeys((row[3], *others))
    return PropertyError(what, cycle=row[0], pcpu=row[2], vcpus=vcpus)
