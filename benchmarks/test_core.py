"""Speed of the core, in figures a user cares about: guest instructions and PAUSE exits a second.

    pip install -e '.[bench]' && python -m pytest benchmarks

Absolute times depend on the machine and on what else it does: compare figures of one run only.
"""

from pathlib import Path

import pytest
from made_searches import QUEUED, RUNNING, machine, write_flags
from reference.on_spin import Vcpu

from pleemu.catalogue import find
from pleemu.handle import pointer_to
from pleemu.hypervisor.on_spin import kvm_vcpu_on_spin
from pleemu.jit import callable_alone, compiled
from pleemu.machine.own import bound
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


@pytest.mark.parametrize("named", ["vanilla", "strict-boost-ideal", "kvm-6.19+ipi-aware-v2"])
def test_search(benchmark, named):
    """A PAUSE exit of one of 200 vCPUs that are all ready: whom shall it boost? Nobody, having seen all."""
    m = machine([(0, RUNNING if k == 0 else QUEUED, 0) for k in range(200)], 1, named=named)
    for number in range(1, 200):
        write_flags(m, number, Vcpu(number, ready=True, preempted=True))
    m.journal.recording = 0
    searches = 1000
    many_alone(m, searches)
    benchmark.pedantic(many_alone, args=(m, searches), rounds=5, iterations=1)
    benchmark.extra_info["ns a search"] = round(benchmark.stats.stats.median / searches * 1e9)
    benchmark.extra_info["ns a candidate"] = round(benchmark.stats.stats.median / searches / 200 * 1e9, 1)
    print(f"\n{named}: {benchmark.extra_info}")


OWN = "def refuses(me, candidate):\n    return not candidate.ready\n"


@pytest.mark.parametrize("form", ["compiled", "plain Python"])
def test_own_policy(benchmark, form, tmp_path):
    """What a call of a user's function costs: the same search with one more rule, beside vanilla's above."""
    path = tmp_path / "mine.py"
    path.write_text(OWN + ("COMPILED = False\n" if form == "plain Python" else ""))
    named = str(path)
    m = machine([(0, RUNNING if k == 0 else QUEUED, 0) for k in range(200)], 1, named=named)
    for number in range(1, 200):
        write_flags(m, number, Vcpu(number, ready=True, preempted=True))
    m.journal.recording = 0
    searches = 100
    with bound(m, policy(named).own):
        many_alone(m, searches)
        benchmark.pedantic(many_alone, args=(m, searches), rounds=5, iterations=1)
    benchmark.extra_info["ns a candidate"] = round(benchmark.stats.stats.median / searches / 200 * 1e9, 1)
    print(f"\n{form}: {benchmark.extra_info}")


@compiled
def many(machine, searches):
    """Search again and again."""
    m = pointer_to(machine)  # as in the core
    for _ in range(searches):
        kvm_vcpu_on_spin(m, 0, 0, 0)


many_alone = callable_alone(many)
