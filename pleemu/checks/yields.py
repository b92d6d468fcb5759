"""Whom KVM names after a PAUSE exit, and what it owes to the ones it has named."""

from __future__ import annotations

from pleemu.checks.finding import PropertyError, Row, at
from pleemu.checks.observed import Observed
from pleemu.checks.threads import ASLEEP, DEAD, ON_PCPU, READY, UNBORN, receivers
from pleemu.kernel import CHAOS, HOST_SCHEDULERS
from pleemu.observe.events import (
    APIC_IPI,
    KVM_ENTRY,
    KVM_EXIT,
    PAUSE_INSTRUCTION,
    PCPU_MASK,
    SCHED_MIGRATE,
    SCHED_SWITCH,
    SCHED_WAKEUP,
    STATE_DEAD,
    STATE_SLEEPING,
    YIELD_TO,
)

ACCEPTED, NOT_POSSIBLE, ESRCH = 1, 0, -3


class Lives:
    """What each thread is doing, followed through the events."""

    def __init__(self, observed: Observed) -> None:
        self.of = dict.fromkeys(range(len(observed.scenario.allowed_pcpus())), UNBORN)
        self.woken: set[int] = set()  # ready because of a wake-up, and not because of a preemption
        self.home: dict[int, int] = {}

    def follow(self, row: Row) -> None:
        """Take the next event."""
        _, kind, pcpu, _, a, b, c = row
        if kind == SCHED_SWITCH:
            if a >= 0:
                self.of[a] = ASLEEP if c == STATE_SLEEPING else DEAD if c == STATE_DEAD else READY
            if b >= 0:
                self.of[b] = ON_PCPU
                self.home[b] = pcpu
                self.woken.discard(b)
        elif kind == SCHED_WAKEUP:
            self.of[a] = READY
            self.home[a] = b
            self.woken.add(a)
        elif kind == SCHED_MIGRATE:
            self.home[a] = c & PCPU_MASK


def rows_of(observed: Observed) -> list[Row]:
    """All events but the directed yields of hypercalls: a guest that asks for one names whom it wants."""
    return [row for row in observed.rows if row[1] != YIELD_TO or row[6] == 0]


def check_own_vm(observed: Observed) -> None:
    """A directed yield names another vCPU of the spinner's own VM (v5.6 kvm_vcpu_on_spin: kvm_for_each_vcpu)."""
    vm = observed.vm_of
    for row in rows_of(observed):
        if row[1] == YIELD_TO:
            _, _, _, vcpu, a, _, _ = row
            if a == vcpu:
                raise at(row, "yields to itself")
            if a >= len(vm):
                raise at(row, f"yields to thread {a}, which is no vCPU")
            if vm[a] != vm[vcpu]:
                raise at(row, f"of VM {vm[vcpu]} boosts vCPU {a} of VM {vm[a]}", a)


def check_only_ready(observed: Observed) -> None:
    """Only a vCPU that waits for a pCPU can be boosted, and none is asked for that executes guest code.

    v5.6 kernel/sched/core.c yield_to: 0 if `p` runs or is not runnable; and KVM passes over whoever runs, by
    `preempted` or `ready`. Before v3.10 it looked at PF_VCPU, which does not cover the transitions: not checked.
    """
    by_flag = "in-guest" in observed.policy.search.rules
    lives = Lives(observed)
    in_guest: set[int] = set()
    for row in rows_of(observed):
        _, kind, _, vcpu, a, b, _ = row
        if kind == KVM_ENTRY:
            in_guest.add(vcpu)
        elif kind == KVM_EXIT:
            in_guest.discard(vcpu)
        elif kind == SCHED_SWITCH:
            in_guest.discard(a)  # whose thread has ended
        elif kind == YIELD_TO:
            state = lives.of[a]
            if b not in (ACCEPTED, NOT_POSSIBLE, ESRCH):
                raise at(row, f"yield_to returns {b}", a)
            if b == ACCEPTED and state not in (READY, UNBORN):
                raise at(row, f"boosts vCPU {a}, which is {state}", a)
            if a in in_guest and not by_flag:
                raise at(row, f"asks for vCPU {a}, which runs on pCPU {lives.home[a]}", a)
        lives.follow(row)


def check_yields_follow_exits(observed: Observed) -> int:
    """Who yields has just exited by PAUSE, and asks for each vCPU at most once a round; returns how many exits did."""
    spinning: dict[int, list[int]] = {}  # vCPU between its PAUSE exit and its next entry -> whom it has asked for
    exits = 0
    for row in rows_of(observed):
        _, kind, _, vcpu, a, _, _ = row
        if kind == KVM_EXIT and a == PAUSE_INSTRUCTION:
            spinning[vcpu] = []
            exits += 1
        elif kind == KVM_ENTRY:
            spinning.pop(vcpu, None)
        elif kind == YIELD_TO:
            if vcpu not in spinning:
                raise at(row, f"boosts vCPU {a} without a PAUSE exit", a)
            asked = spinning[vcpu]
            if asked.count(a) >= 2:
                raise at(row, f"asks for vCPU {a} for the third time after one exit", a)
            asked.append(a)
    return exits


def check_spin_flag(observed: Observed) -> None:
    """in_spin_loop is released before the guest goes on (v5.6: kvm_vcpu_on_spin ends with ..._set_in_spin_loop(false)).

    Or else the other vCPUs take it for a spinner, and pass over it every other time, for ever.
    """
    for row in rows_of(observed):
        if row[1] == KVM_ENTRY and row[6] != 0:
            raise at(row, "enters the guest with in_spin_loop still set")


def check_user_mode(observed: Observed) -> int:
    """A policy that passes over "user-mode" boosts nobody who was preempted there; returns whom it could have (P4).

    The lost opportunity of v4.14 to v5.13 as it is: what waits for the answer to an IPI cannot help its receiver.
    """
    lives, exit_rip = Lives(observed), {}
    preempted_in_user = 0
    for row in rows_of(observed):
        _, kind, _, vcpu, a, b, c = row
        if kind == KVM_EXIT:
            exit_rip[vcpu] = b
        elif kind == SCHED_SWITCH and a in exit_rip and c not in (STATE_SLEEPING, STATE_DEAD):
            preempted_in_user += observed.in_user_mode(a, exit_rip[a])
        elif kind == YIELD_TO and a in exit_rip and lives.of[a] == READY and a not in lives.woken:
            label = observed.function_at(a, exit_rip[a])
            if observed.in_user_mode(a, exit_rip[a]):
                raise at(row, f"boosts vCPU {a}, preempted at {label}, CPL 3", a)
        lives.follow(row)
    return preempted_in_user


def passes_over_user_mode(observed: Observed) -> str:
    """Say why `check_user_mode` is not about this policy; empty: it is."""
    search = observed.policy.search
    if "user-mode" not in search.rules or search.pending_irq or search.ipi_bool:
        return "it is not what this policy promises"
    return "on SVM it depends on the spinner's CPL" if observed.scenario.hardware.is_amd else ""


def check_strict_boost(observed: Observed) -> int:
    """Strict Boost names a woken vCPU only if the spinner has sent it an IPI meanwhile; returns how often it did (P5).

    As its authors have coded it, also at the second look: a refusal leaves the mark of an IPI (see
    `hypervisor/strict_boost.py`), which the vCPU's next entry or switch takes away.
    """
    exact = observed.policy.search.strict_boost == "ideal"
    lives = Lives(observed)
    sent: dict[int, set[int]] = {}  # vCPU -> who has sent it an IPI since it was switched out
    looks: dict[int, set[int]] = {}  # vCPU -> who of its VM has had a PAUSE exit since it last entered
    vm = observed.vm_of
    named = 0
    for row in rows_of(observed):
        _, kind, _, vcpu, a, b, c = row
        if kind == SCHED_SWITCH:
            for one in (a, b):
                sent.pop(one, None)
            looks.pop(b, None)
        elif kind == KVM_ENTRY:
            looks.pop(vcpu, None)
        elif kind == APIC_IPI:
            for one in receivers(observed, vcpu, a, c):
                sent.setdefault(one, set()).add(vcpu)
        elif kind == YIELD_TO and a in lives.woken:
            seen = vcpu in sent.get(a, ()) or (not exact and vcpu in looks.get(a, ()))
            if not seen:
                raise at(row, f"boosts vCPU {a}, which was halted, without having sent it an IPI", a)
            named += 1
        lives.follow(row)
        if kind == KVM_ENTRY:  # the look of the exit before this entry is over: later ones are second looks
            for one, spinner in _looked(vcpu, lives, vm):
                looks.setdefault(one, set()).add(spinner)
    return named


def _looked(spinner: int, lives: Lives, vm: list[int]) -> list[tuple[int, int]]:
    return [(one, spinner) for one in range(len(vm)) if one != spinner and vm[one] == vm[spinner]]


def is_strict_boost(observed: Observed) -> str:
    """Say why `check_strict_boost` is not about this policy; empty: it is."""
    promised = observed.policy.own is None and observed.policy.search.strict_boost
    return "" if promised else "it is not what this policy promises"


def check_obeyed(observed: Observed) -> int:
    """A hint that was accepted on the yielder's own pCPU is obeyed: the target runs next there; returns how many (P6).

    The chaos scheduler has no reason of its own to refuse.
    """
    lives = Lives(observed)
    pending: dict[int, tuple[int, int]] = {}
    obeyed = 0
    for row in rows_of(observed):
        cycle, kind, pcpu, vcpu, a, b, _ = row
        if kind == YIELD_TO and b == ACCEPTED and lives.home.get(a) == pcpu:
            pending[pcpu] = (a, vcpu)
        elif kind == SCHED_SWITCH and pcpu in pending:
            target, spinner = pending.pop(pcpu)
            obeyed += 1
            if b != target:
                raise PropertyError(
                    f"vCPU {spinner} yielded to vCPU {target}, but thread {b} runs",
                    cycle=cycle, pcpu=pcpu, vcpus=(spinner, target, b),
                )  # fmt: skip
        lives.follow(row)
    return obeyed


def is_always_obeyed(observed: Observed) -> str:
    """Say why `check_obeyed` is not about this run; empty: it is."""
    model = HOST_SCHEDULERS[observed.scenario.host.scheduler].model
    return "" if model == CHAOS else "a kernel's scheduler may refuse"


def check_ideal(observed: Observed) -> int:
    """A policy that knows the truth names who can act, at every exit at which there is one; returns how many (P3).

    By the verdicts of the run, which follow from the waits-for graph of the guests' probes.
    """
    judged = observed.run.decisions.total
    if judged.useful < judged.useful_possible:
        missed = judged.useful_possible - judged.useful
        raise PropertyError(f"boosts nobody useful at {missed} of {judged.useful_possible} exits with somebody useful")
    if judged.wasted + judged.irrelevant > 0:
        raise PropertyError(f"boosts somebody useless at {judged.wasted + judged.irrelevant} exits")
    return judged.useful


def is_ideal(observed: Observed) -> str:
    """Say why `check_ideal` is not about this policy; empty: it is."""
    return "" if observed.policy.generation.startswith("ideal") else "it is not what this policy promises"
