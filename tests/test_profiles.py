"""Application profiles: all run, every PAUSE exit has its wait, and overcommitment is what causes them."""

from __future__ import annotations

import functools
from itertools import product
from pathlib import Path

import pytest
from made_machines import Command, observe

from pleemu import catalogue
from pleemu.errors import ScenarioError
from pleemu.hardware.isa import PROBE_IPI_ACKED, PROBE_LOCK_RELEASED, PROBE_LOCK_WAIT, PROBE_OPERATION_DONE
from pleemu.machine.result import Run
from pleemu.machine.run import simulate
from pleemu.observe.events import HLT, KVM_EXIT, PROBE
from pleemu.overrides import Overrides
from pleemu.profile import profile, shipped_profiles
from pleemu.scenario import Scenario, Vm

PROFILES = tuple(shipped_profiles())
CALM = ("hackbench", "swaptions", "dbench")  # with next to no PAUSE exits, whatever the machine


@functools.cache
def run(name: str, pcpus: int) -> Run:
    """The application beside swaptions, 16 vCPUs in all, for 60 ms."""
    fields = {"vm.0.profile": name, "vm.pinning": "vcpu-to-pcpu" if pcpus == 8 else "spread"}
    return simulate(Overrides(pcpus=pcpus, duration=60, fields=fields).apply(catalogue.find("testbed")))


@pytest.mark.parametrize("name", PROFILES)
def test_profile_works_and_its_exits_have_a_function_and_a_wait(name: str) -> None:
    """At least 99 % of the PAUSE exits, with swaptions in the other VM."""
    busy = run(name, 8)
    assert all(vm.operations for vm in busy.vms)
    assert busy.causes.exits == busy.ple.exits
    assert busy.causes.attributed >= 0.99 * busy.causes.exits


@pytest.mark.parametrize("name", [one for one in PROFILES if one not in CALM])
def test_exits_come_from_overcommitment(name: str) -> None:
    """With a pCPU for each vCPU, an operation costs less than a third of the exits; most cost far less."""
    crowded, free = run(name, 8), run(name, 16)
    per_operation = [one.ple.exits / one.vms[0].operations for one in (crowded, free)]
    assert crowded.ple.exits > 20
    assert per_operation[1] < per_operation[0] / 3
    assert free.vms[0].operations > crowded.vms[0].operations


def test_mixed_run_reads_like_the_table_of_the_talk() -> None:
    """Ebizzy's exits stand under the kernel's functions that the talk lists, by what they serve."""
    rows = {(row.wait, row.function) for row in run("ebizzy-m", 8).causes.rows}
    assert {
        ("lock", "native_queued_spin_lock_slowpath"),
        ("lock", "queued_write_lock_slowpath"),
        ("shared lock", "queued_read_lock_slowpath"),
        ("answer", "smp_call_function_many"),
    } <= rows


@pytest.mark.parametrize("changed", [{}, {"vm.0.parameters.zone_irqs_off": "0"}], ids=["as in Linux", "changed"])
@pytest.mark.parametrize("name", ["dedup", "ebizzy-M"])
def test_who_waits_for_a_lock_of_the_page_allocator_answers_no_ipi(name: str, changed: dict[str, str]) -> None:
    """Linux takes zone->lock with interrupts off; with interrupts on, those that wait do answer."""
    fields = {"vm.0.profile": name, "vm.pinning": "none", **changed}
    observed = observe(Command("testbed", {"duration": "100ms"}, fields))
    image = observed.images[0]
    begin, waits, answers = image.address_of("zone_lock"), set(), 0
    for _, kind, _, vcpu, probe, operand, _ in observed.rows:
        if kind != PROBE or vcpu >= 8:
            continue
        if probe in (PROBE_LOCK_WAIT, PROBE_LOCK_RELEASED) and 0 <= operand % 2**64 - begin < 64 * 64:
            (waits.add if probe == PROBE_LOCK_WAIT else waits.discard)(vcpu)
        answers += probe == PROBE_IPI_ACKED and vcpu in waits
    assert (answers == 0) == (not changed)


@pytest.mark.parametrize("name", ["dedup", "vips", "hackbench"])
def test_nobody_sleeps_for_ever(name: str) -> None:
    """Every thread halts, is woken and does its records, with a pCPU of its own, to the end."""
    observed = observe(
        Command("testbed", {"duration": "60ms", "pcpus": 16}, {"vm.0.profile": name, "vm.pinning": "spread"})
    )
    cycles = observed.run.cycles
    done = [
        {vcpu for cycle, kind, _, vcpu, probe, _, _ in observed.rows
         if kind == PROBE and probe == PROBE_OPERATION_DONE and vcpu < 8 and begin <= cycle < begin + cycles // 3}
        for begin in (0, cycles // 3, 2 * cycles // 3)
    ]  # fmt: skip
    halted = {vcpu for _, kind, _, vcpu, reason, _, _ in observed.rows if kind == KVM_EXIT and reason == HLT}
    assert done == [set(range(8))] * 3
    assert halted == set(range(1, 8))


def test_boosting_the_woken_costs_those_in_user_mode() -> None:
    """Where threads sleep, `ready` slows ebizzy down, unless KVM may nominate in user mode, too (v5.14)."""
    fields = {"vm.0.profile": "ebizzy-M", "vm.1.vcpus": 2}
    sleepy = {"vm.0.parameters.sleeps": 20, "vm.0.parameters.wakeups": 40}
    done = dict.fromkeys(("in-kernel-2017", "ready-2019", "pending-irq-2021"), 0)
    for policy, seed in product(done, (1, 2, 3)):
        given = Overrides(seed=seed, policy=policy, duration=300, fields={**fields, **sleepy})
        done[policy] += simulate(given.apply(catalogue.find("testbed"))).vms[0].operations
    assert done["ready-2019"] < 0.7 * done["in-kernel-2017"]
    assert done["ready-2019"] < 0.7 * done["pending-irq-2021"]


def test_scenario_goes_before_its_profile() -> None:
    """What [vm.parameters] sets replaces the profile's value, and leaves its others."""
    scenario = Scenario(name="x", vm=(Vm(name="vm0", profile="dedup", parameters={"wakeups": 7}),))
    own = profile("dedup", Path()).parameters
    assert scenario.parameters_of(scenario.vm[0]) == {**own, "wakeups": 7}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"profile": "dedupp"}, r"vm.0.profile: unknown profile 'dedupp'; did you mean 'dedup'\?"),
        ({"profile": "none.toml"}, r"vm.0.profile: .*none.toml"),
    ],
)
def test_unknown_profile_is_named(fields: dict[str, str], expected: str) -> None:
    """With the place, and those that there are."""
    scenario = Scenario(name="x", vm=(Vm(name="vm0", **fields),))
    with pytest.raises(ScenarioError, match=expected):
        scenario.program_of(scenario.vm[0])


def test_program_and_profile_exclude_each_other() -> None:
    """A VM runs one of the two, and one it must have."""
    with pytest.raises(ScenarioError, match="brings its program"):
        Vm(name="vm0", program="lock.S", profile="dedup")
    with pytest.raises(ScenarioError, match="program: is missing"):
        Vm(name="vm0")


def test_every_profile_says_where_its_figures_come_from() -> None:
    """Reported or proposed."""
    assert all("Proposed:" in profile(name, Path()).origin for name in PROFILES)
