"""What became of a run's PAUSE exits, judged by the ground truth: plain values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from attrs import frozen

from pleemu.machine.state import Machine
from pleemu.observe.records import IRRELEVANT, NOBODY, UNKNOWN, USEFUL, VERDICTS, WASTED
from pleemu.scenario import Scenario


@frozen(kw_only=True)
class Judgement:
    """The PAUSE exits of one VM, or of all (`vm` is empty then).

    A verdict is on whom the exit's search nominated (its latest yield_to, whatever the answer): `useful`, somebody the
    spinner waits for, who can act, is runnable and not on a pCPU; `wasted`, somebody it waits for, who waits too;
    `irrelevant`, anybody else; `nobody`, no nomination. `unknown`: no probe says that the spinner waits.
    """

    vm: str
    useful: int
    wasted: int
    irrelevant: int
    nobody: int
    unknown: int
    useful_possible: int  # exits with somebody useful to boost, nominated or not
    hand_overs: int  # spinners for whom somebody useful was switched to, after a PAUSE exit at which it was useful;
    ran_ns: int  # from the first kvm_exit since which nobody useful had run until the switch: in total
    ran_most_ns: int  # at most
    releases: int  # spinners whose lock was released or acquired by another, or who got an answer, after a PAUSE exit;
    released_ns: int  # from the first kvm_exit since which nothing of that had happened: in total
    released_most_ns: int  # at most
    spin_ns: int  # executing instructions between lock_wait and lock_acquired, or ipi_wait and ipi_acked

    @property
    def judged(self) -> int:
        """PAUSE exits with a verdict."""
        return self.useful + self.wasted + self.irrelevant + self.nobody + self.unknown

    @property
    def precision(self) -> float | None:
        """Useful nominations of all, where it is known whom the spinner waits for; None: there were none."""
        nominations = self.useful + self.wasted + self.irrelevant
        return self.useful / nominations if nominations else None

    @property
    def recall(self) -> float | None:
        """Of the exits with somebody useful, those that nominated one; None: there were none."""
        return self.useful / self.useful_possible if self.useful_possible else None

    @property
    def exits_per_hand_over(self) -> float | None:
        """Exits with somebody useful for each one that thereupon ran: at best 1; None: nobody ran, or nobody was."""
        return self.useful_possible / self.hand_overs if self.hand_overs else None

    @property
    def ran_after_ns(self) -> float | None:
        """Mean time until somebody useful ran."""
        return self.ran_ns / self.hand_overs if self.hand_overs else None

    @property
    def released_after_ns(self) -> float | None:
        """Mean time to release."""
        return self.released_ns / self.releases if self.releases else None


@frozen(kw_only=True)
class Refusals:
    """How often a rule of the search passed over a candidate, and how often over one that was useful."""

    rule: str
    count: int
    useful: int


@frozen(kw_only=True)
class Decisions:
    """All that is known of a run's PAUSE exits beyond their number."""

    vms: tuple[Judgement, ...] = ()
    refusals: tuple[Refusals, ...] = ()  # most frequent first
    first_exits: tuple[tuple[str, int], ...] = ()  # verdict, number of its first exit

    @property
    def total(self) -> Judgement:
        """All VMs together."""
        return total_of(self.vms)


def total_of(vms: Iterable[Judgement]) -> Judgement:
    """Return the sum of several VMs' judgements."""
    rows = tuple(vms)

    def add(name: str) -> int:
        return sum(getattr(row, name) for row in rows)

    def most(name: str) -> int:
        return max((getattr(row, name) for row in rows), default=0)

    summed = {name: add(name) for name in _SUMMED}
    return Judgement(vm="", ran_most_ns=most("ran_most_ns"), released_most_ns=most("released_most_ns"), **summed)


_SUMMED = (*VERDICTS, "useful_possible", "hand_overs", "ran_ns", "releases", "released_ns", "spin_ns")


def jain_index(shares: Iterable[float]) -> float:
    """Return Jain's index of fairness (1984): 1 if all have the same, 1 / n if one has all."""
    values = np.asarray(tuple(shares), float)
    squares = float(len(values) * np.sum(values**2))
    return float(np.sum(values)) ** 2 / squares if squares else 1.0


def decisions_of(machine: Machine, scenario: Scenario) -> Decisions:
    """Collect the counters of a finished machine."""
    from pleemu.hypervisor.rules import RULES  # here, because it brings the compiler

    rules = [
        Refusals(rule=name, count=int(row["count"]), useful=int(row["useful"]))
        for name, row in zip(RULES, machine.refusals, strict=False)
        if row["count"]
    ]
    firsts = []
    for number, verdict in enumerate(VERDICTS):
        found = [int(row["first"][number]) for row in machine.judged if row["first"][number]]
        if found:
            firsts.append((verdict, min(found)))
    return Decisions(
        vms=tuple(_judgement(machine, number, vm.name) for number, vm in enumerate(scenario.vm)),
        refusals=tuple(sorted(rules, key=lambda one: (-one.count, one.rule))),
        first_exits=tuple(firsts),
    )


def _judgement(machine: Machine, number: int, name: str) -> Judgement:
    row: Any = machine.judged[number]
    vm = machine.vm[number]
    first = int(vm.first_vcpu)
    spin = int(np.sum(machine.waiting.spin_cycles[first : first + int(vm.vcpus)]))
    khz = int(machine.clock.core_khz[0])

    def ns(cycles: Any) -> int:
        return int(cycles) * 1_000_000 // khz

    return Judgement(
        vm=name,
        useful=int(row.verdict[USEFUL]),
        wasted=int(row.verdict[WASTED]),
        irrelevant=int(row.verdict[IRRELEVANT]),
        nobody=int(row.verdict[NOBODY]),
        unknown=int(row.verdict[UNKNOWN]),
        useful_possible=int(row.useful_possible),
        hand_overs=int(row.hand_overs),
        ran_ns=ns(row.ran_after),
        ran_most_ns=ns(row.ran_most),
        releases=int(row.releases),
        released_ns=ns(row.released_after),
        released_most_ns=ns(row.released_most),
        spin_ns=ns(spin),
    )
