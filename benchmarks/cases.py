"""The machines that the benchmarks run, and what of a run is a figure."""

from __future__ import annotations

from pathlib import Path

import attrs

from pleemu.catalogue import find
from pleemu.guest.image import Image
from pleemu.machine.result import Run
from pleemu.machine.run import load_programs, simulate
from pleemu.scenario import Hardware, Kvm, Program, Scenario, Vm

GUESTS = Path(__file__).parent / "guests"
TICKET = "../../guest_programs/locks/ticket.S"


def guest(name: str, *, ms: float, vcpus: int = 1, pcpus: int = 1, policy: str = "no-ple") -> Scenario:
    """One VM of a benchmark's guest, one vCPU on each pCPU."""
    vm = Vm(name="vm0", program=name, vcpus=vcpus)
    hardware = Hardware(pcpus=pcpus)
    return Scenario(name=name, duration_ms=ms, policy=policy, vm=(vm,), hardware=hardware, folder=GUESTS)


def pause_exits(*, ms: float) -> Scenario:
    """A spinner alone on its pCPU, that exits whenever the window of 4096 is over, which does not grow."""
    spin = guest("spin.S", ms=ms, policy="vanilla")
    return attrs.evolve(spin, kvm=Kvm(ple_window=4096, ple_window_grow=0))


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
    """Two VMs of 8 vCPUs on 8 pCPUs at 2.1 GHz: ebizzy in one, swaptions in the other, under `vanilla`."""
    found = find("testbed")
    hardware = attrs.evolve(found.hardware, tsc_khz=2_100_000, core_khz=2_100_000)
    return attrs.evolve(found, duration_ms=ms, policy="vanilla", hardware=hardware)


def run(scenario: Scenario, *, skip: bool = True) -> Run:
    """Run a scenario; its wall time leaves out assembling and loading."""
    return simulate(scenario, programs=programs_of(scenario), skip=skip)


_programs: dict[Program, Image] = {}


def programs_of(scenario: Scenario) -> dict[Program, Image]:
    """Return its guests, each assembled once."""
    if not {scenario.program_of(vm) for vm in scenario.vm} <= _programs.keys():
        _programs.update(load_programs(scenario))
    return _programs


def mips(done: Run) -> float:
    """Guest instructions by wall time, in millions a second."""
    return done.instructions / done.wall_seconds / 1e6
