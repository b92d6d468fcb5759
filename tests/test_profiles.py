"""Application profiles: all run, every PAUSE exit has its wait, and overcommitment is what causes them."""

from __future__ import annotations

import functools
from itertools import product
from pathlib import Path

import pytest

from pleemu import catalogue
from pleemu.errors import ScenarioError
from pleemu.machine.result import Run
from pleemu.machine.run import simulate
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


def test_boosting_the_woken_costs_those_in_user_mode() -> None:
    """Where threads sleep, `ready` slows ebizzy down, unless KVM may nominate in user mode, too (v5.14)."""
    fields = {"vm.0.profile": "ebizzy-M", "vm.1.vcpus": 2, "vm.pinning": "none"}
    sleepy = {f"vm.0.parameters.{name}": 20 for name in ("sleeps", "wakeups")}
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
