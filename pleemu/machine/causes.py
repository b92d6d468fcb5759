"""What a run's PAUSE exits waited for, and why that did not come: plain values (see `attribution`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen

from pleemu.observe.records import CAUSES, PLACES, WAITS, WAITS_FOR_ANSWER, WAITS_UNKNOWN
from pleemu.scenario import Scenario

if TYPE_CHECKING:  # they bring the compiler
    from pleemu.guest.image import Image
    from pleemu.machine.build import Layout
    from pleemu.machine.state import Machine

_MASK = (1 << 64) - 1
ELSEWHERE = "(no room to tell)"  # in place of a function


@frozen(kw_only=True)
class Attribution:
    """PAUSE exits of one VM in one loop for one kind of wait, and one lock or barrier."""

    vm: str
    function: str  # the function that the PAUSE stands in: an STT_FUNC symbol, or else the label before it
    loop: str  # the label before it, where that is another
    wait: str  # lock | shared lock | answer | barrier | unknown
    object: str  # name of the lock or barrier, or its address; empty for an answer
    exits: int
    causes: dict[str, int]  # exits by cause (`attribution`), those that occurred

    @property
    def is_complete(self) -> bool:
        """Whether both the place and the wait are known."""
        return self.wait != WAITS[WAITS_UNKNOWN] and not self.function.startswith(("0x", "("))


@frozen(kw_only=True)
class WaiterPreempted:
    """PAUSE exits at which a lock was free and the next to have it was preempted, by where that one stood."""

    vm: str
    function: str
    loop: str
    exits: int


@frozen(kw_only=True)
class Causes:
    """All of a run."""

    rows: tuple[Attribution, ...] = ()  # most exits first
    waiters: tuple[WaiterPreempted, ...] = ()

    @property
    def exits(self) -> int:
        """PAUSE exits that came to a decision of KVM."""
        return sum(row.exits for row in self.rows)

    @property
    def attributed(self) -> int:
        """Of these, how many are known by function and by wait."""
        return sum(row.exits for row in self.rows if row.is_complete)

    def of(self, cause: str) -> int:
        """Return the number of exits with one cause."""
        return sum(row.causes.get(cause, 0) for row in self.rows)


def causes_of(machine: Machine, layout: Layout, scenario: Scenario) -> Causes:
    """Collect the counters of a finished machine."""
    merged: dict[tuple[str, str, str, str, str], np.ndarray] = {}
    for place in np.nonzero(machine.attributed.exits)[0]:
        row = machine.attributed[place]
        number = int(row.vm)
        image = layout.images[number]
        if place == PLACES:
            key = ("", ELSEWHERE, "", WAITS[WAITS_UNKNOWN], "")
        else:
            function, loop = place_in(image, int(machine.code[row.pc].address))
            nameless = row.wait in (WAITS_UNKNOWN, WAITS_FOR_ANSWER)
            name = "" if nameless else image.symbol_at(int(row.address) & _MASK)
            key = (scenario.vm[number].name, function, loop, WAITS[row.wait], name)
        merged[key] = merged.get(key, 0) + row.cause
    rows = [
        Attribution(
            vm=vm, function=function, loop=loop, wait=wait, object=name, exits=int(counts.sum()), causes=_named(counts)
        )
        for (vm, function, loop, wait, name), counts in merged.items()
    ]
    order = sorted(rows, key=lambda row: (-row.exits, row.vm, row.function, row.loop, row.wait, row.object))
    return Causes(rows=tuple(order), waiters=tuple(_waiters(machine, layout, scenario)))


def place_in(image: Image, address: int) -> tuple[str, str]:
    """Return the function that an address is in and the label that it stands under, if that is another."""
    function, label = image.enclosing_function(address), image.function_at(address)
    return (function, "" if label == function else label) if function else (label, "")


def _named(counts: np.ndarray) -> dict[str, int]:
    return {cause: int(count) for cause, count in zip(CAUSES, counts, strict=True) if count}


def _waiters(machine: Machine, layout: Layout, scenario: Scenario) -> Iterable[WaiterPreempted]:
    merged: dict[tuple[str, str, str], int] = {}
    for number, pc in zip(*np.nonzero(machine.waiter_at), strict=True):
        key = (scenario.vm[number].name, *place_in(layout.images[number], int(machine.code[pc].address)))
        merged[key] = merged.get(key, 0) + int(machine.waiter_at[number, pc])
    for (vm, function, loop), exits in sorted(merged.items(), key=lambda item: (-item[1], item[0])):
        yield WaiterPreempted(vm=vm, function=function, loop=loop, exits=exits)
