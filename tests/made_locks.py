"""Machines for the shipped locks: some vCPUs take one a few times each, and all return."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen
from made_machines import Command, Observed, observe

from pleemu import catalogue
from pleemu.checks.finding import PropertyError
from pleemu.checks.locks import check_fifo, check_mutual_exclusion
from pleemu.errors import GuestFault

LOCKS = catalogue.programs_folder() / "locks"
ALL_RETURNED = "all vCPUs have returned from guest_main"
SCHEDULERS = ("cfs-5.6", "eevdf-6.12", "chaos")
KHZ = 100_000  # a slow machine: many time slices in few instructions
BOUND_MS = 300  # what no run of these comes near to, but one in which somebody waits for ever

# By name: the files of the guest, from the folder of the locks.
PROGRAMS = {
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
    "qrwlock on ticket": ("qrwlock.S", "ticket.S"),
    "seqlock": ("seqlock.S", "virt_spin_lock.S"),
    "seqlock on clh": ("seqlock.S", "clh.S"),
}
IN_ORDER = ("ticket", "ticket in C", "mcs", "clh", "qspinlock")


@frozen(kw_only=True)
class Setting:
    """One cell of the matrix: a lock on a machine."""

    lock: str
    policy: str = "vanilla"
    scheduler: str = "chaos"
    vcpus: int = 3
    pcpus: int = 2
    rounds: int = 12
    seed: int = 1
    hold: str = "0..300us"
    think: str = "0..300us"
    fields: tuple[tuple[str, str], ...] = ()
    files: tuple[Path, ...] = ()  # in place of the shipped ones

    def command(self) -> Command:
        """The same as a command line."""
        files = self.files or tuple(LOCKS / name for name in PROGRAMS[self.lock])
        changes = {"policy": self.policy, "seed": self.seed, "duration": f"{BOUND_MS}ms"}
        fields = {
            "vm.program": ",".join(map(str, files)),
            "vm.vcpus": str(self.vcpus),
            "hardware.pcpus": str(self.pcpus),
            "hardware.tsc_khz": str(KHZ),
            "host.hz": "1000",
            "host.online_cpus": "1",
            "host.scheduler": self.scheduler,
            "host.start_spread_ms": "0.05",
            "vm.parameters.rounds": str(self.rounds),
            "vm.parameters.hold": self.hold,
            "vm.parameters.think": self.think,
            "vm.parameters.objects": str(1 + self.seed % 2),
        }
        if self.scheduler == "chaos":
            fields["host.chaos_max_ns"] = "200000"
        if self.lock == "pv_qspinlock":
            fields["vm.parameters.spin_threshold"] = "64"  # so that vCPUs halt
        return Command("locks", changes, fields | dict(self.fields))


def check(setting: Setting) -> tuple[Observed, int]:
    """Run, and ask for all that a lock promises; returns what has happened, and how many were seen waiting in line.

    That nobody was inside with another, no update or wake-up is lost and the lock is free at the end, the guest
    itself checks: it stops at a `ud2`, or not all its vCPUs return.
    """
    observed = observe(setting.command())
    if observed.run.ended != f"{ALL_RETURNED}":
        raise PropertyError(f"not all vCPUs return: {observed.run.ended}", cycle=observed.run.cycles, vcpus=())
    operations = sum(vm.operations for vm in observed.run.vms)
    if operations != setting.vcpus * setting.rounds:
        raise PropertyError(f"{operations} operations", cycle=observed.run.cycles, vcpus=())
    check_mutual_exclusion(observed)
    return observed, check_fifo(observed) if setting.lock in IN_ORDER else 0


def broken(setting: Setting) -> str:
    """What is wrong with a lock, as far as this run shows it; nothing: ''."""
    try:
        check(setting)
    except (GuestFault, PropertyError) as error:
        return str(error).partition("\n")[0]
    return ""
