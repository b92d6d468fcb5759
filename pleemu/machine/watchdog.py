"""Who can never go on: a set of vCPUs of which each waits for another, and none can act (from the guests' probes).

A vCPU of the set spins in a wait that a member would have to end, or the spinner itself: for a lock, one that holds it
or is before it in line; at a barrier, one that has yet to arrive; for an answer, one that cannot give it because it
takes no interrupts. Or it sleeps, and all that could wake it are members. A wait that is given up ends with a
probe, so each spinner must have executed more than the longest spin that gives up, with no probe from anybody of the
set meanwhile; then the run is over, and says so.

Looked for at each return of the loop to Python, which is at fixed cycles: a hundredth of the run, or less.
"""

from __future__ import annotations

import numpy as np

from pleemu.hypervisor.records import RESUME_HALT
from pleemu.machine.build import Layout
from pleemu.machine.obstacles import Matrix, obstacle_matrix, obstacles, owed_answers
from pleemu.machine.state import Machine
from pleemu.observe.records import WAIT_DEPTH
from pleemu.scenario import Scenario

# Instructions that a spinner must have executed since its latest probe. Linux' longest spin that gives up is that of
# its paravirtual locks, SPIN_THRESHOLD = 1 << 15 turns (v5.6 arch/x86/include/asm/spinlock.h), of some four
# instructions.
SPUN = 1 << 17
_MASK = (1 << 64) - 1


class Watchdog:
    """Remembers of each vCPU how far it had come at its latest probe, or at the first turn after that."""

    def __init__(self, machine: Machine) -> None:
        self._probes, self._instructions = machine.waiting.probes.copy(), machine.cpu.instructions.copy()

    def look(self, machine: Machine) -> dict[int, list[int]]:
        """Return the vCPUs that can never go on and whom each waits for; nothing where all may."""
        waiting = machine.waiting
        spins = (waiting.depth > 0) | (waiting.answers > 0)
        halted = (machine.vcpu.on_wait_queue == 1) & (machine.vcpu.resume == RESUME_HALT)
        same = waiting.probes == self._probes
        spun = machine.cpu.instructions - self._instructions >= SPUN
        stands = same & (waiting.ended == 0) & (halted | (spins & spun))
        self._instructions[~same] = machine.cpu.instructions[~same]
        self._probes[~same] = waiting.probes[~same]
        found: dict[int, list[int]] = {}
        for vm in machine.vm:
            members = range(int(vm.first_vcpu), int(vm.first_vcpu + vm.vcpus))
            if np.any(stands[members.start : members.stop] & spins[members.start : members.stop]):
                found |= _closed_set(machine, members, stands[members.start : members.stop])
        return found


def _closed_set(machine: Machine, members: range, candidates: Matrix) -> dict[int, list[int]]:
    """Return the largest set of ``candidates`` each of which waits for others of it alone, and for whom."""
    first = members.start
    ended = machine.waiting.ended[members.start : members.stop] == 1
    halted = np.array([is_halted(machine, v) for v in members])
    deaf = np.array([is_halted(machine, v) and not _has_interrupt(machine, v) for v in members])
    hears = np.array([takes_interrupts(machine, v) for v in members])
    # Who has ended holds up for ever; one that is stuck does unless it can answer all the same.
    awaited = obstacle_matrix(machine, members)
    held_up = awaited & (ended | halted | ~(owed_answers(machine, members) & hears))
    stuck = candidates
    while True:
        spinning = np.any(held_up & (ended | stuck), axis=1)
        left = stuck & np.where(halted, deaf & bool(np.all(stuck | ended)), spinning)
        if np.array_equal(left, stuck):
            break
        stuck = left
    found = {}
    for number in np.nonzero(stuck)[0]:
        others = np.nonzero(held_up[number] & (ended | stuck))[0]
        if len(others) or halted[number]:
            found[first + int(number)] = [first + int(other) for other in others]
    return found


def is_halted(machine: Machine, v: int) -> bool:
    """Whether it sleeps in HLT. KVM of 2009 sleeps at PAUSE exits, too, but then a timer wakes it."""
    return bool(machine.vcpu[v].on_wait_queue == 1 and machine.vcpu[v].resume == RESUME_HALT)


def takes_interrupts(machine: Machine, v: int) -> bool:
    """Whether interrupts are on, or one is being handled that may be the one awaited (see `frontier.can_answer`)."""
    cpu, waiting = machine.cpu[v], machine.waiting[v]
    if cpu.interrupt_flag == 1:
        return True
    depth = int(waiting.depth)
    return bool(np.any(cpu.isr)) and not (0 < depth <= WAIT_DEPTH and waiting.handling[depth - 1] == 1)


def owes_answer(machine: Machine, v: int, other: int) -> bool:
    """Whether ``v`` waits for the answer of ``other``."""
    number = int(machine.vcpu[other].id)
    return bool(int(machine.awaited[v, number >> 6]) >> (number & 63) & 1)


def _has_interrupt(machine: Machine, v: int) -> bool:
    """Whether something pending will wake it."""
    cpu = machine.cpu[v]
    pending = np.any(cpu.pir) or np.any(cpu.irr)
    return bool((pending and cpu.interrupt_flag == 1) or machine.vcpu[v].pv_unhalted)


def innermost_lock(machine: Machine, v: int) -> int:
    """Return the row of the lock that ``v`` wants first, -1 none."""
    depth = int(machine.waiting[v].depth)
    return int(machine.waiting[v].lock[depth - 1]) if 0 < depth <= WAIT_DEPTH else -1


def _keeps_out(machine: Machine, v: int, other: int, lock: int) -> bool:
    """Whether ``other`` holds the lock in a manner that keeps ``v`` out, or has yet to arrive at the barrier."""
    number = int(machine.vcpu[other].id)
    in_the_way = int(machine.holding[lock, number >> 6])
    if machine.waiting[v].shared[int(machine.waiting[v].depth) - 1] == 1:
        in_the_way &= ~int(machine.sharing[lock, number >> 6])
    return bool(in_the_way >> (number & 63) & 1)


def sentence(machine: Machine, layout: Layout, scenario: Scenario, found: dict[int, list[int]]) -> str:
    """Return who waits for whom, along one circle of it."""
    names = [f"{vm.name}/{index}" for vm in scenario.vm for index in range(vm.vcpus)]
    v = min((v for v, others in found.items() if others), default=min(found))
    clauses, told = [], set()
    while v in found and v not in told:
        told.add(v)
        other = min(found[v], default=-1)
        clauses.append(f"{names[v]}{_state(machine, v, found)} waits for {_what(machine, layout, v, other, names)}")
        v = other
    if v >= 0 and machine.waiting[v].ended:
        clauses.append(f"{names[v]} has ended")
    rest = len(found) - len(told & set(found))
    more = f"; {rest} more vCPU{'s' if rest > 1 else ''} cannot go on either" if rest else ""
    return f"deadlock: {', and '.join(clauses)}{more}"


def _state(machine: Machine, v: int, found: dict[int, list[int]]) -> str:
    if is_halted(machine, v):
        return ", halted,"
    is_asked = any(v in others and owes_answer(machine, one, v) for one, others in found.items())
    return " with interrupts off" if is_asked else ""


def _what(machine: Machine, layout: Layout, v: int, other: int, names: list[str]) -> str:
    if other >= 0 and owes_answer(machine, v, other):
        return f"the answer of {names[other]}"
    lock = innermost_lock(machine, v)
    if lock < 0:
        return "an interrupt"
    row = machine.lock[lock]
    symbol = layout.images[int(machine.vcpu[v].vm)].symbol_at(int(row.address) & _MASK)
    if row.barrier:
        return f"{names[other]} at the barrier {symbol}" if other >= 0 else f"a wake-up at the barrier {symbol}"
    if other < 0:
        return f"the lock {symbol}, which nobody holds"
    if other == v:
        return f"the lock {symbol}, which it holds itself"
    if _keeps_out(machine, v, other, innermost_lock(machine, v)):
        return f"the lock {symbol}, which {names[other]} holds"
    return f"the lock {symbol}, in which {names[other]} is before it"


def why_stuck(machine: Machine, layout: Layout, scenario: Scenario) -> str:
    """Return why nothing can happen any more: all vCPUs have ended, or wait for what nobody can send."""
    halted = [int(v) for v in np.nonzero(machine.vcpu.on_wait_queue == 1)[0]]
    if not halted:
        return "all vCPUs have returned from guest_main"
    ended = (
        f"nothing can happen any more: {len(halted)} of {len(machine.vcpu)} vCPUs are halted and nobody is left to "
        "wake them"
    )
    waiting = [v for v in halted if machine.waiting[v].depth or machine.waiting[v].answers]
    if not waiting:
        return ended
    found = {v: obstacles(machine, v) for v in waiting}
    return f"{ended}; {sentence(machine, layout, scenario, found)}"
