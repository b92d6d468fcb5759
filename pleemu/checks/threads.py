"""One thread a pCPU, where it may run; and no interrupt that is lost on its way to a halted vCPU."""

from __future__ import annotations

import attrs

from pleemu.checks.finding import PropertyError, at
from pleemu.checks.observed import Observed
from pleemu.machine.build import cycles_of
from pleemu.observe.events import (
    APIC_IPI,
    CAUSE_SHIFT,
    HLT,
    KVM_ENTRY,
    KVM_EXIT,
    PCPU_MASK,
    PROBE,
    SCHED_MIGRATE,
    SCHED_SWITCH,
    SCHED_WAKEUP,
    STATE_DEAD,
    STATE_SLEEPING,
)
from pleemu.observe.records import MIGRATIONS

ASLEEP, READY, ON_PCPU, DEAD, UNBORN = "asleep", "ready", "on a pCPU", "dead", "not yet started"


def check_threads(observed: Observed) -> None:
    """One thread a pCPU, where it may run; a guest runs between entry and exit, and only while its thread does."""
    scenario = observed.scenario
    allowed = scenario.allowed_pcpus()
    home: dict[int, int] = {}  # the pCPU on whose queue a thread is or was
    current = dict.fromkeys(range(scenario.hardware.pcpus), -1)
    life = dict.fromkeys(range(len(allowed)), UNBORN)
    in_guest: dict[int, bool] = {}
    for row in observed.rows:
        _, kind, pcpu, vcpu, a, b, c = row
        if vcpu != current[pcpu]:
            raise at(row, f"does something while thread {current[pcpu]} is current")
        if kind == SCHED_SWITCH:
            if a != vcpu or a == b:
                raise at(row, f"switches from {a} to {b}")
            if a >= 0:
                life[a] = ASLEEP if c == STATE_SLEEPING else DEAD if c == STATE_DEAD else READY
                if in_guest.get(a) and c != STATE_DEAD:
                    raise at(row, "is switched out inside the guest")
            if b >= 0:
                if home.setdefault(b, pcpu) != pcpu:
                    raise at(row, f"thread {b} waits on pCPU {home[b]}", b)
                if pcpu not in allowed[b]:
                    raise at(row, f"thread {b} may not run here", b)
                if life[b] not in (READY, UNBORN):
                    raise at(row, f"thread {b} is switched in, but it is {life[b]}", b)
                life[b] = ON_PCPU
            current[pcpu] = b
        elif kind == SCHED_WAKEUP:
            if life[a] != ASLEEP:
                raise at(row, f"thread {a} is woken, but it is {life[a]}", a)
            if b != home[a]:
                raise at(row, f"thread {a} is woken on pCPU {b}, but is on {home[a]}", a)
            life[a] = READY
        elif kind == SCHED_MIGRATE:
            target, cause = c & PCPU_MASK, MIGRATIONS[c >> CAUSE_SHIFT]
            movable = (ASLEEP,) if cause == "wake-up" else (READY, UNBORN)
            if not (home.setdefault(a, b) == b != target):
                raise at(row, f"thread {a} is moved from pCPU {b} to {target}", a)
            if target not in allowed[a]:
                raise at(row, f"thread {a} is moved to pCPU {target}, where it may not run", a)
            if life[a] not in movable:
                raise at(row, f"thread {a} is moved ({cause}), but it is {life[a]}", a)
            home[a] = target
        elif kind == KVM_ENTRY:
            if in_guest.get(vcpu):
                raise at(row, "enters twice")
            in_guest[vcpu] = True
        elif kind == KVM_EXIT:
            if not in_guest[vcpu]:
                raise at(row, "exits twice")
            in_guest[vcpu] = False
        elif kind == PROBE and not in_guest[vcpu]:
            raise at(row, "executes instructions outside of the guest")


def receivers(observed: Observed, sender: int, destination: int, icr: int) -> range | list[int]:
    """Return the vCPUs that an ICR write addresses (SDM 3A 11.6.1; x2APIC's clusters of 16)."""
    vm = observed.vm_of[sender]
    first, count = observed.first_vcpu[vm], observed.scenario.vm[vm].vcpus
    shorthand = icr >> 18 & 3
    everybody = range(first, first + count)
    if shorthand == 1:
        return [sender]
    if shorthand:
        return [one for one in everybody if shorthand == 2 or one != sender]
    destination &= 0xFFFFFFFF
    if destination == 0xFFFFFFFF:
        return everybody
    if icr & 1 << 11:
        cluster, members = destination >> 16, destination & 0xFFFF
        return [one for one in everybody if (one - first) >> 4 == cluster and members >> ((one - first) & 15) & 1]
    return [first + destination] if destination < count else []


def check_kicks(observed: Observed) -> int:
    """Every HLT with a later interrupt ends: no wake-up is lost; returns how many there were (P9).

    From an IPI to the wake-up of whoever it finds asleep there are only stretches of host code: each at most
    all costs together, and on the way there are the sender's exit, its loop over the destinations and what the
    target's pCPU is doing. So ten times the sum, and one flight for each vCPU, is a bound.

    DEVIATION: an IPI of lowest priority goes to one of those it names only; such are left out.
    """
    scenario = observed.scenario
    flights_ns = len(observed.vm_of) * scenario.cost.ipi_target_ns
    bound = cycles_of(scenario, 10 * sum(attrs.astuple(scenario.cost)) + flights_ns)
    halted: dict[int, bool] = {}  # vCPU whose latest exit is HLT
    asleep: set[int] = set()
    called: dict[int, tuple[int, int]] = {}  # sleeper -> cycle of its first IPI, sender
    wakeups = 0
    for row in observed.rows:
        cycle, kind, _, vcpu, a, _, c = row
        if kind == KVM_EXIT:
            halted[vcpu] = a == HLT
        elif kind == SCHED_SWITCH and c == STATE_SLEEPING and halted.get(a):
            asleep.add(a)
        elif kind == SCHED_WAKEUP and a in asleep:
            asleep.discard(a)
            since, sender = called.pop(a, (cycle, -1))
            wakeups += 1
            if cycle - since > bound:
                raise at(row, f"vCPU {a} slept {cycle - since} cycles on, with an IPI from vCPU {sender} pending", a)
        elif kind == APIC_IPI and c >> 8 & 7 == 0:
            for one in receivers(observed, vcpu, a, c):
                if one in asleep:
                    called.setdefault(one, (cycle, vcpu))
    for one, (since, sender) in called.items():
        if observed.run.cycles - since > bound:
            what = f"sleeps until the end, with an IPI from vCPU {sender} pending"
            raise PropertyError(what, cycle=since, vcpus=(one, sender))
    return wakeups
