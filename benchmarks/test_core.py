"""Speed of the core, in figures a user cares about: guest instructions and PAUSE exits a second.

    pip install -e '.[bench]' && python -m pytest benchmarks

Absolute times depend on the machine and on what else it does: compare figures of one run only.
"""

from pathlib import Path

import pytest

from pleemu.catalogue import find
from pleemu.machine.run import load_programs, simulate
from pleemu.policy import policy
from pleemu.scenario import Scenario, Vm

GUESTS = Path(__file__).parent / "guests"


def straight(guest: str) -> Scenario:
    """One vCPU of a benchmark's own guest, alone on a pCPU."""
    vm = Vm(name="vm0", program=guest, vcpus=1)
    return Scenario(name=guest, duration_ms=20, policy="no-ple", vm=(vm,), folder=GUESTS)


CASES = {
    "alu, load and store": (lambda: straight("loop.S"), "no-ple"),
    "PAUSE spin, stepping": (lambda: straight("spin.S"), "no-ple"),
    "two VMs on 8 pCPUs": (lambda: find("ticket_lock"), "vanilla"),
    "PAUSE exits": (lambda: find("worst_case"), "vanilla"),
}


@pytest.mark.parametrize("name", CASES)
def test_core(benchmark, name):
    """Run one case again and again; the rates stand in the table's extra columns."""
    make, under = CASES[name]
    scenario = make()
    programs = load_programs(scenario)
    run = simulate(scenario, policy=policy(under), programs=programs)  # compiles, and warms up
    benchmark.pedantic(
        simulate, args=(scenario,), kwargs={"policy": policy(under), "programs": programs}, rounds=5, iterations=1
    )
    seconds = benchmark.stats.stats.median
    benchmark.extra_info["million instructions/s"] = round(run.instructions / seconds / 1e6, 1)
    benchmark.extra_info["PAUSE exits/s"] = round(run.ple.exits / seconds)
    benchmark.extra_info["emulated/wall"] = round(run.duration_ns / 1e9 / seconds, 4)
    print(f"\n{name}: {benchmark.extra_info}")
