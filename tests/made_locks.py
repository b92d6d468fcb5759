"""The shipped locks, and machines that put them to the test."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from pleemu import catalogue
from pleemu.checks.observed import Observed, observe_scenario
from pleemu.errors import GuestFault
from pleemu.overrides import Overrides
from pleemu.policy import ALL, Policy, suits
from pleemu.scenario import Scenario

FOLDER = catalogue.programs_folder() / "locks"
LOCKS = {
    "test_and_set": ("test_and_set.S",),
    "ttas_backoff": ("ttas_backoff.S",),
    "virt_spin_lock": ("virt_spin_lock.S",),
    "ticket": ("ticket.S",),
    "ticket in C": ("ticket_in_c.c",),
    "mcs": ("mcs.S",),
    "clh": ("clh.S",),
    "qspinlock": ("qspinlock.S",),
    "pv_qspinlock": ("pv_qspinlock.S",),
    "qrwlock": ("qrwlock.S", "qspinlock.S"),
    "qrwlock over tickets": ("qrwlock.S", "ticket.S"),
    "seqlock": ("seqlock.S", "virt_spin_lock.S"),
}
FIFO = ("ticket", "ticket in C", "mcs", "clh", "qspinlock")  # that promise to serve in order
SCHEDULERS = ("cfs-5.6", "eevdf-6.12", "chaos")
SHAPES = ((2, 2), (2, 1), (3, 3), (3, 2), (5, 5), (5, 2), (8, 8), (8, 3))  # vCPUs, pCPUs
ALL_RETURNED = "all vCPUs have returned from guest_main"


@frozen
class Trial:
    """One machine: a lock under a policy and a scheduler, on so many vCPUs and pCPUs."""

    lock: str
    policy: Policy
    scheduler: str
    vcpus: int
    pcpus: int
    rounds: int = 6
    seed: int = 1
    duration_ms: int = 60

    def scenario(self, *paths: Path) -> Scenario:
        """Return it as a scenario; ``paths`` in place of the lock's own files."""
        files = paths or tuple(FOLDER / name for name in LOCKS[self.lock])
        fields = {
            "host.scheduler": self.scheduler,
            "host.chaos_max_ns": "20000",
            "vm.parameters.rounds": str(self.rounds),
            "vm.parameters.objects": "2" if self.seed % 2 else "1",
            "vm.parameters.hold": "exponential(1us) max 20us",
            "vm.parameters.think": "exponential(2us)",
            "vm.pinning": "vcpu-to-pcpu",
        }
        wanted = Overrides(
            policy=self.policy.name,
            seed=self.seed,
            duration=self.duration_ms,
            vcpus=self.vcpus,
            pcpus=self.pcpus,
            fields=fields,
        )
        return wanted.apply(catalogue.find(*map(str, files)))

    def run(self, *paths: Path) -> Observed:
        """Run it with its events."""
        return observe_scenario(self.scenario(*paths), self.policy)


def every_trial() -> list[Trial]:
    """Return the whole matrix."""
    return [
        Trial(lock, policy, scheduler, vcpus, pcpus)
        for lock in LOCKS
        for scheduler in SCHEDULERS
        for policy in ALL
        if suits(policy, scheduler)
        for vcpus, pcpus in SHAPES
    ]


def covering_trials() -> list[Trial]:
    """Return a part of it in which each lock meets each policy under each scheduler, the shapes in turn."""
    every, turns = len(SHAPES), 0
    chosen = []
    for number, trial in enumerate(every_trial()):
        if number % every == 0:
            turns += 1
        if number % every == turns % every:
            chosen.append(trial)
    return chosen


def outcome(trial: Trial, *paths: Path) -> str:
    """Return how a run ends: all returned, the label at which the guest found itself broken, or why it stands still."""
    try:
        return trial.run(*paths).run.ended
    except GuestFault as fault:
        return str(fault).partition("RIP")[2].partition("(")[2].partition(")")[0].partition("+")[0]
