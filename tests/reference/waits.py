"""Who waits for whom, as sets: the ground truth of `pleemu.observe.waits` and `pleemu.machine.frontier`.

Independent of the emulator. The closure is a fixed point over all vCPUs, not a walk.
"""

from __future__ import annotations

from attrs import define, field


@define
class Wait:
    """A wait for a lock; ``place``: when it took its place in one that serves in order, None: behind all."""

    lock: str
    handling: bool
    shared: bool = False
    place: int | None = None


@define
class Vcpu:
    """What counts of one vCPU."""

    waits: list[Wait] = field(factory=list)  # innermost last
    owed: set[int] = field(factory=set)  # whose answers it awaits
    answered: set[int] = field(factory=set)  # who answered before it waited
    takes_interrupts: bool = False
    handling: bool = False  # an interrupt is in service
    runnable: bool = True
    on_pcpu: bool = False
    ended: bool = False


@define
class Vm:
    """All vCPUs of a VM, and its locks."""

    vcpus: list[Vcpu]
    holders: dict[str, set[int]] = field(factory=dict)
    in_order: set[str] = field(factory=set)
    sharing: set[tuple[str, int]] = field(factory=set)  # (lock, holder)
    missing: dict[str, set[int]] = field(factory=dict)  # of each barrier: who has yet to arrive

    def lock_wait(self, v: int, lock: str, *, in_order: bool, shared: bool = False) -> None:
        if in_order:
            self.in_order.add(lock)
        self.holders.setdefault(lock, set())
        self.vcpus[v].waits.append(Wait(lock, self.vcpus[v].handling, shared))

    def locked_operation(self, v: int, lock: str, now: int) -> None:
        """A LOCKed instruction on the lock's word gives a place to whom the innermost wait is for."""
        waits = self.vcpus[v].waits
        if waits and waits[-1].lock == lock:
            waits[-1].place = now

    def lock_acquired(self, v: int, lock: str, *, shared: bool = False) -> None:
        self.lock_wait_over(v, lock)
        self.holders.setdefault(lock, set()).add(v)
        self.sharing.discard((lock, v))
        if shared:
            self.sharing.add((lock, v))

    def lock_wait_over(self, v: int, lock: str) -> None:
        waits = self.vcpus[v].waits
        for level, wait in enumerate(waits):
            if wait.lock == lock:
                del waits[level:]
                break

    def lock_released(self, v: int, lock: str) -> None:
        holders = self.holders.get(lock, set())
        if v in holders:
            holders.remove(v)
        elif len(holders) == 1:
            holders.clear()

    def barrier_wait(self, v: int, barrier: str) -> None:
        if barrier not in self.missing:
            self.missing[barrier] = {v for v, vcpu in enumerate(self.vcpus) if not vcpu.ended}
        self.missing[barrier].discard(v)
        self.vcpus[v].waits.append(Wait(barrier, self.vcpus[v].handling))

    def barrier_passed(self, v: int, barrier: str) -> None:
        if barrier not in self.missing:
            return
        arrived = {v for v, vcpu in enumerate(self.vcpus) if barrier in [wait.lock for wait in vcpu.waits]}
        self.missing[barrier] = arrived
        for one in arrived:
            self.lock_wait_over(one, barrier)

    def end(self, v: int) -> None:
        self.operation_done(v)
        self.vcpus[v].ended = True

    def ipi_wait(self, v: int, target: int) -> None:
        vcpu = self.vcpus[v]
        if target in vcpu.answered:
            vcpu.answered.remove(target)
        else:
            vcpu.owed.add(target)

    def ipi_acked(self, v: int, sender: int) -> None:
        other = self.vcpus[sender]
        if v in other.owed:
            other.owed.remove(v)
        else:
            other.answered.add(v)

    def operation_done(self, v: int) -> None:
        vcpu = self.vcpus[v]
        vcpu.waits.clear()
        vcpu.owed.clear()
        vcpu.answered.clear()

    def awaited_locks(self, v: int) -> set[int]:
        """Whom ``v`` waits for because of a lock."""
        vcpu = self.vcpus[v]
        if not vcpu.waits:
            return set()
        wait = vcpu.waits[-1]
        before = {
            other
            for other, one in enumerate(self.vcpus)
            for its in one.waits
            if wait.lock in self.in_order and its.lock == wait.lock
            if its.place is not None and (wait.place is None or its.place < wait.place)
        }
        holders = self.missing.get(wait.lock, set()) | self.holders.get(wait.lock, set())
        if wait.shared:
            holders = {one for one in holders if (wait.lock, one) not in self.sharing}
        return (holders | before) - {v}

    def can_answer(self, v: int) -> bool:
        """An answer needs no more than that ``v`` runs."""
        vcpu = self.vcpus[v]
        return vcpu.takes_interrupts or (vcpu.handling and not (vcpu.waits and vcpu.waits[-1].handling))

    def closure(self, me: int) -> tuple[set[int], set[int]]:
        """Return C(me) and those of it that can act."""
        followed, members, acting = {me}, set(), set()
        while True:
            answers = {t for v in followed for t in self.vcpus[v].owed} - {me}
            locks = {t for v in followed for t in self.awaited_locks(v)} - {me}
            now = {t for t in answers if self.can_answer(t)}
            grown = followed | locks | (answers - now)
            members = answers | locks
            free = {t for t in grown - {me} if not self.vcpus[t].owed and not self.awaited_locks(t)}
            acting = now | free
            if grown == followed:
                return members, acting
            followed = grown

    def frontier(self, me: int) -> set[int]:
        """Return whom to boost for ``me``."""
        _, acting = self.closure(me)
        return {v for v in acting if self.vcpus[v].runnable and not self.vcpus[v].on_pcpu}
