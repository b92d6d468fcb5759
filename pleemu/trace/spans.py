"""What the guests were doing, from when to when, as their probes say: waits, and critical sections.

The same rules as the ground truth's (`pleemu.observe.waits` says what each probe means), from the events alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from pleemu.hardware.isa import (
    PROBE_BARRIER_PASSED,
    PROBE_BARRIER_WAIT,
    PROBE_IPI_ACKED,
    PROBE_IPI_WAIT,
    PROBE_LOCK_ACQUIRED,
    PROBE_LOCK_RELEASED,
    PROBE_LOCK_WAIT,
    PROBE_LOCK_WAIT_OVER,
    PROBE_OPERATION_DONE,
)

FOR_LOCK, FOR_ANSWER, AT_BARRIER, CRITICAL = WHAT = (
    "waits for a lock",
    "waits for an answer",
    "waits at a barrier",
    "critical section",
)


class Span(NamedTuple):
    """One wait or critical section, in cycles."""

    begin: int
    vcpu: int
    what: str
    object: int  # address of the lock or barrier; or the vCPU whose answer it is, by its number in events
    end: int


_Open = tuple[int, str, int]  # begin, what, object


class _Spans:
    def __init__(self, vm_of: Sequence[int]) -> None:
        self._vm = vm_of
        self._same_vm = [range(vm_of.index(vm), vm_of.index(vm) + vm_of.count(vm)) for vm in vm_of]
        self._waits: list[list[_Open]] = [[] for _ in vm_of]  # for locks and at barriers, the innermost last
        self._held: list[dict[int, int]] = [{} for _ in vm_of]  # lock -> begin
        self._awaited: list[dict[int, int]] = [{} for _ in vm_of]  # vCPU -> begin
        self._answered: list[set[int]] = [set() for _ in vm_of]  # vCPUs that answered before they were asked

    def follow(self, cycle: int, vcpu: int, probe: int, operand: int) -> Iterator[Span]:
        """Take one probe and yield what ends by it."""
        if probe == PROBE_LOCK_WAIT:
            self._waits[vcpu].append((cycle, FOR_LOCK, operand))
        elif probe == PROBE_BARRIER_WAIT:
            self._waits[vcpu].append((cycle, AT_BARRIER, operand))
        elif probe == PROBE_LOCK_ACQUIRED:
            yield from self._end_wait(vcpu, operand, cycle)
            self._held[vcpu].setdefault(operand, cycle)
        elif probe == PROBE_LOCK_WAIT_OVER:
            yield from self._end_wait(vcpu, operand, cycle)
        elif probe == PROBE_LOCK_RELEASED:
            yield from self._release(vcpu, operand, cycle)
        elif probe == PROBE_BARRIER_PASSED:
            for other in self._same_vm[vcpu]:
                yield from self._end_wait(other, operand, cycle)
        elif probe == PROBE_IPI_WAIT:
            self._await(vcpu, self._same_vm[vcpu].start + operand, cycle)
        elif probe == PROBE_IPI_ACKED:
            yield from self._answer(vcpu, self._same_vm[vcpu].start + operand, cycle)
        elif probe == PROBE_OPERATION_DONE:
            yield from self._forget(vcpu, cycle)

    def close(self, cycle: int) -> Iterator[Span]:
        """Yield what is still going on."""
        for vcpu in range(len(self._vm)):
            yield from self._forget(vcpu, cycle)
            yield from (Span(begin, vcpu, CRITICAL, lock, cycle) for lock, begin in self._held[vcpu].items())

    def _end_wait(self, vcpu: int, wanted: int, cycle: int) -> Iterator[Span]:
        """The wait for something is over, and with it the waits inside it."""
        waits = self._waits[vcpu]
        level = next((level for level, (_, _, of) in enumerate(waits) if of == wanted), len(waits))
        ended, waits[level:] = waits[level:], []
        yield from (Span(begin, vcpu, what, of, cycle) for begin, what, of in ended)

    def _release(self, vcpu: int, lock: int, cycle: int) -> Iterator[Span]:
        """By who holds it, or by another vCPU if only one does."""
        holders = [other for other in self._same_vm[vcpu] if lock in self._held[other]]
        if vcpu not in holders and len(holders) != 1:
            return
        owner = vcpu if vcpu in holders else holders[0]
        yield Span(self._held[owner].pop(lock), owner, CRITICAL, lock, cycle)

    def _await(self, vcpu: int, target: int, cycle: int) -> None:
        if target not in self._same_vm[vcpu]:
            return
        if target in self._answered[vcpu]:
            self._answered[vcpu].discard(target)
        else:
            self._awaited[vcpu].setdefault(target, cycle)

    def _answer(self, vcpu: int, spinner: int, cycle: int) -> Iterator[Span]:
        if spinner not in self._same_vm[vcpu]:
            return
        begin = self._awaited[spinner].pop(vcpu, None)
        if begin is None:
            self._answered[spinner].add(vcpu)
        else:
            yield Span(begin, spinner, FOR_ANSWER, vcpu, cycle)

    def _forget(self, vcpu: int, cycle: int) -> Iterator[Span]:
        waits, self._waits[vcpu] = self._waits[vcpu], []
        awaited, self._awaited[vcpu] = self._awaited[vcpu], {}
        self._answered[vcpu] = set()
        yield from (Span(begin, vcpu, what, of, cycle) for begin, what, of in waits)
        yield from (Span(begin, vcpu, FOR_ANSWER, target, cycle) for target, begin in awaited.items())


def spans_of(probes: Iterable[tuple[int, int, int, int]], vm_of: Sequence[int], until: int) -> list[Span]:
    """Return what there was, by its beginning, from probes (cycle, vCPU, probe, operand) in order of time.

    ``vm_of`` is the VM of each vCPU. What is open at cycle ``until`` ends then.
    """
    spans = _Spans(list(vm_of))
    found = [span for probe in probes for span in spans.follow(*probe)]
    return sorted([*found, *spans.close(until)])
