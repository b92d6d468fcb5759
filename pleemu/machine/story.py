"""The stories of single PAUSE exits: what KVM and the scheduler decided, and what came of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import define, field

from pleemu.hardware.isa import PROBES
from pleemu.hypervisor.rules import RULES
from pleemu.machine.build import Layout
from pleemu.machine.state import Machine
from pleemu.observe import records as told
from pleemu.observe.records import VERDICTS
from pleemu.scenario import Scenario
from pleemu.scheduler.distance import HINT_CLOSE, HINT_ELIGIBLE, HINT_IGNORED, HINT_OBEYED

_MASK = (1 << 64) - 1
_RULES = tuple(RULES)

# What decides whether a scheduler follows the hint of a directed yield; see `scheduler.distance`.
HINTS = {HINT_CLOSE: "close", HINT_ELIGIBLE: "eligible", HINT_IGNORED: "ignored", HINT_OBEYED: "obeyed"}


@define(kw_only=True)
class Look:
    """One candidate of a search: refused by a rule, or asked yield_to for."""

    vcpu: str
    round: int
    rule: str = ""  # name of the rule that refused it, empty: none
    answer: int | None = None  # of yield_to: 1, 0 or -3 (-ESRCH); None: not asked


@define(kw_only=True)
class Holder:
    """Who holds the lock, or owes an answer."""

    vcpu: str
    running: bool
    waits: bool = False  # for something itself


@define(kw_only=True)
class Story:
    """One PAUSE exit. Times are since the run began, or `..._after_ns` since this exit's kvm_exit."""

    number: int
    at_ns: int
    spinner: str = ""
    pcpu: int = 0
    rip: int = 0
    symbol: str = ""
    waits_for: str = ""  # `lock`, `shared lock`, `answer`, `barrier` or nothing that a probe names
    waiting_since_ns: int | None = None  # kvm_exit of the first PAUSE exit of this wait
    lock: int | None = None  # its address
    lock_symbol: str = ""
    in_order: bool = False  # it serves its waiters in order
    holders: list[Holder] = field(
        factory=list
    )  # of the lock; who has yet to arrive at the barrier; or who owes an answer
    can_act: list[str] = field(factory=list)  # of all that it waits for, directly or not: who waits for nobody
    useful: list[str] = field(factory=list)  # of these: runnable, and not on a pCPU
    slept: bool = False  # KVM's first answer: no search, the spinner sleeps
    looked_at: list[Look] = field(factory=list)  # in order
    target: str | None = None  # whom the search asked for last
    verdict: str = ""
    accepted: bool = False  # yield_to returned 1: the spinner gives way
    next_here: str | None = None  # whom its pCPU ran next, "idle"; None: nobody was picked
    target_pcpu: int | None = None
    next_there: str | None = None  # and that of the target, the next time that it chose
    hint: str = ""  # what its scheduler asks of a target: `close`, `eligible`; or `ignored`, `obeyed`: nothing
    distance_ns: int | None = None  # then: how far the target was ahead of the first or the average, in virtual time,
    limit_ns: int | None = None  # and up to what distance its scheduler follows the hint
    ran: str | None = None  # who of the useful ones ran first
    ran_after_ns: int | None = None
    moved_by: str | None = None  # who released or acquired the lock, or answered, first
    moved: str | None = None  # by which probe
    moved_after_ns: int | None = None
    over_after_ns: int | None = None  # when the wait was over


@define
class Stories:
    """Takes a run's tale and keeps the stories of the exits that are wanted."""

    wanted: frozenset[int]
    _rows: list[Any] = field(factory=list)
    found: tuple[Story, ...] = ()

    def take(self, rows: np.ndarray) -> None:
        """Keep what concerns a wanted exit, directly or later."""
        if self.wanted:
            number = rows["number"]
            later = (rows["kind"] >= told.TOLD_RAN) | (rows["kind"] == told.TOLD_VERDICT)
            mine = np.isin(number, list(self.wanted)) | (later & (number >= min(self.wanted)))
            self._rows.append(rows[mine])

    def finish(self, machine: Machine, layout: Layout, scenario: Scenario) -> None:
        """Make the stories."""
        names = _Names(machine, layout, scenario)
        stories: dict[int, Story] = {}
        without: dict[str, dict[int, list[Story]]] = {kind: {} for kind in ("ran", "moved", "over")}
        for row in (row for rows in self._rows for row in rows.tolist()):
            number, kind, cycle, vcpu, a, b, c = row
            if kind == told.TOLD_EXIT:
                story = Story(number=number, at_ns=names.ns(cycle))
                names.begin(story, cycle, vcpu, a, b, c)
                stories[number] = story
                for waiting in without.values():
                    waiting.setdefault(vcpu, []).append(story)
            elif kind >= told.TOLD_RAN:
                what = {told.TOLD_RAN: "ran", told.TOLD_MOVED: "moved", told.TOLD_OVER: "over"}[kind]
                for story in without[what].pop(vcpu, ()):
                    if what != "ran" or story.useful:
                        names.later(story, what, cycle, a, b)
                if kind == told.TOLD_OVER:
                    for waiting in without.values():
                        waiting.pop(vcpu, None)
            elif kind == told.TOLD_VERDICT and b == 0:
                without["ran"].pop(vcpu, None)
            if number in stories and kind not in (told.TOLD_EXIT, told.TOLD_RAN, told.TOLD_MOVED, told.TOLD_OVER):
                names.add(stories[number], kind, a, b, c)
        self.found = tuple(stories[number] for number in sorted(stories))
        self._rows.clear()


class _Names:
    """Numbers to names."""

    def __init__(self, machine: Machine, layout: Layout, scenario: Scenario) -> None:
        self._tasks = [f"{vm.name}/{index}" for vm in scenario.vm for index in range(vm.vcpus)]
        self._tasks += [one.name for one in scenario.thread for _ in range(one.count)]
        self._sleeps = bool(machine.kvm.sleeps[0])
        self._machine, self._layout = machine, layout
        self._khz = int(machine.clock.core_khz[0])

    def ns(self, cycles: int) -> int:
        return cycles * 1_000_000 // self._khz

    def vcpu(self, number: int) -> str:
        """A vCPU, or another task of the host."""
        return "idle" if number < 0 else self._tasks[number]

    def begin(self, story: Story, cycle: int, vcpu: int, pc: int, pcpu: int, first: int) -> None:
        self._image = self._layout.images[int(self._machine.vcpu[vcpu].vm)]
        story.spinner, story.pcpu, story.slept = self.vcpu(vcpu), pcpu, self._sleeps
        story.rip = int(self._machine.code[pc].address) & _MASK
        story.symbol = self._image.symbol_at(story.rip)
        story.waiting_since_ns = self.ns(first) if first >= 0 else None

    def add(self, story: Story, kind: int, a: int, b: int, c: int) -> None:
        if kind == told.TOLD_LOCK:
            story.waits_for = "barrier" if c & 4 else "shared lock" if c & 2 else "lock"
            story.lock, story.in_order = a & _MASK, c & 1 == 1
            story.lock_symbol = self._image.symbol_at(story.lock)
        elif kind == told.TOLD_ANSWER:
            story.waits_for = "answer"
            story.holders.append(Holder(vcpu=self.vcpu(a), running=b == 1))
        elif kind == told.TOLD_HOLDER:
            story.holders.append(Holder(vcpu=self.vcpu(a), running=b == 1, waits=c == 1))
        elif kind == told.TOLD_SINK:
            story.can_act.append(self.vcpu(a))
            if b == 1:
                story.useful.append(self.vcpu(a))
        elif kind == told.TOLD_LOOK:
            story.looked_at.append(Look(vcpu=self.vcpu(a), round=c, rule=_RULES[b] if b < len(_RULES) else f"rule {b}"))
        elif kind == told.TOLD_ASK:
            story.looked_at[-1].answer = b
            story.accepted, story.target_pcpu = b > 0, c
        elif kind == told.TOLD_VERDICT:
            story.verdict = VERDICTS[a]
            story.target = None if c < 0 else self.vcpu(c)
        elif kind == told.TOLD_PICK:
            if c == 0:
                story.next_here = self.vcpu(a)
            else:
                story.next_there = self.vcpu(a)
        elif kind == told.TOLD_WHY:
            story.distance_ns, story.limit_ns, story.hint = a, b, HINTS[c]

    def later(self, story: Story, what: str, cycle: int, a: int, b: int) -> None:
        after = self.ns(cycle) - story.at_ns
        if what == "ran":
            story.ran, story.ran_after_ns = self.vcpu(a), after
        elif what == "moved":
            story.moved_by, story.moved, story.moved_after_ns = self.vcpu(a), PROBES[b], after
        else:
            story.over_after_ns = after
