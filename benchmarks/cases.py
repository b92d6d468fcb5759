"""The machines that the benchmarks run, and what of a run is a figure."""

from __future__ import annotations

from pathlib import Path

import attrs

from pleemu.catalogue import find
from pleemu.machine.result import Run
from pleemu.machine.run import load_programs, simulate
from pleemu.scenario import Hardware, Scenario, Vm, with_fields

GUESTS = Path(__file__).parent / "guests"
TICKET = "../../guest_programs/locks/ticket.S"


def guest(name: str, *, ms: float, vcpus: int = 1, pcpus: int = 1, policy: str = "no-ple") -> Scenario:
    """One VM of a benchmark's guest, one vCPU on each pCPU."""
    vm = Vm(name="vm0", program=name, vcpus=vcpus)
    hardware = Hardware(pcpus=pcpus)
    return Scenario(name=name, duration_ms=ms, policy=policy, vm=(vm,), hardware=hardware, folder=GUESTS)


def contended(vcpus: int, pcpus: int, *, ms: float, vms: int = 2) -> Scenario:
    """VMs with a ticket lock each, about twice as many vCPUs as pCPUs."""
    parameters = {"hold": "4200cycles", "think": "0..125us"}
    made = tuple(
        Vm(name=f"vm{n}", program=TICKET, vcpus=vcpus // vms, parameters=parameters, memory_kib=2048)
        for n in range(vms)
    )
    hardware = Hardware(pcpus=pcpus)
    return Scenario(name="contended", duration_ms=ms, policy="vanilla", vm=made, hardware=hardware, folder=GUESTS)


def testbed(*, ms: float) -> Scenario:
    """Two VMs of 8 vCPUs on 8 pCPUs."""
    return attrs.evolve(find("testbed"), duration_ms=ms, policy="vanilla")


def exits(*, ms: float) -> Scenario:
    """One vCPU that does nothing but spin, under a window of 4096 that does not grow."""
    return with_fields(guest("spin.S", ms=ms, policy="vanilla"), {"kvm.ple_window_grow": "0"})


def run(scenario: Scenario, *, skip: bool = True) -> Run:
    """Run a scenario; its wall time leaves out assembling and loading. Without ``skip`` each turn is executed."""
    return simulate(scenario, programs=load_programs(scenario), skip=skip)


def mips(done: Run) -> float:
    """Guest instructions by wall time, in millions a second."""
    return done.instructions / done.wall_seconds / 1e6
