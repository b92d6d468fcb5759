"""Policies in whole runs: what a generation or a cure does to a guest, not to a flag."""

from __future__ import annotations

import functools

import attrs
import numpy as np
import pytest
from made_machines import GUESTS, Command, observe, programs_of

from pleemu.catalogue import find
from pleemu.experiment.compare import cases_of, compare
from pleemu.hardware.records import NEVER
from pleemu.hypervisor.sleep import SLEEP_NS
from pleemu.machine.build import build
from pleemu.machine.loop import FINISHED, run_machine
from pleemu.machine.run import simulate
from pleemu.observe.events import (
    KVM_EXIT,
    PAUSE_INSTRUCTION,
    SCHED_SWITCH,
    SCHED_WAKEUP,
    STATE_SLEEPING,
    YIELD_TO,
)
from pleemu.policy import ALL, policy
from pleemu.scenario import with_fields

PING = str(GUESTS / "ping.S")


def sleeps_of(observed):
    """How long each sleep took until its wake-up, in ns, of those that began with a PAUSE exit."""
    khz = observed.run.scenario.hardware.core_rate_khz
    reason: dict[int, int] = {}
    began: dict[int, int] = {}
    found = []
    for cycle, kind, _, vcpu, a, _, c in observed.events[["cycle", "kind", "pcpu", "vcpu", "a", "b", "c"]].tolist():
        if kind == KVM_EXIT:
            reason[vcpu] = a
        elif kind == SCHED_SWITCH and c == STATE_SLEEPING and reason[vcpu] == PAUSE_INSTRUCTION:
            began[vcpu] = cycle
        elif kind == SCHED_WAKEUP and a in began:
            found.append((cycle - began.pop(a)) * 1_000_000 // khz)
    return found


def test_spinner_of_2009_sleeps_100_us_and_nominates_nobody():
    """Each PAUSE exit is a sleep of 100 us, to which at most a stretch of host code is added; nobody is yielded to."""
    observed = observe(Command("worst_case", {"policy": "sleep-2009", "duration": "100ms"}))
    sleeps = sleeps_of(observed)
    assert len(sleeps) > 50
    assert all(SLEEP_NS <= one < SLEEP_NS + 10_000 for one in sleeps)
    assert 0 <= observed.run.ple.exits - len(sleeps) <= 2  # the last one may go on
    assert not len(observed.of_kind(YIELD_TO))


@pytest.mark.parametrize("ipiv", ["false", "true"])
def test_interrupt_ends_the_sleep_of_2009_early(ipiv):
    """A receiver that spins with interrupts on sleeps until its next ping, and answers it; others sleep on."""
    changes = {"policy": "sleep-2009", "vcpus": 2, "pcpus": 2, "seed": 3, "duration": "5ms"}
    observed = observe(Command(PING, changes, {"kvm.ipiv": ipiv}))
    sleeps = sleeps_of(observed)
    assert sum(one < SLEEP_NS for one in sleeps) > 10
    assert SLEEP_NS in sleeps
    assert observed.run.vms[0].operations > 10


def test_search_of_a_big_vm_takes_time():
    """In a VM of 12 where nobody is preempted, an exit lasts longer by four candidates."""
    found = {}
    for ns in (0, 1000):
        changes = {"vcpus": 12, "pcpus": 12, "seed": 1, "duration": "1ms"}
        run = observe(Command(PING, changes, {"cost.candidate_ns": str(ns), "vm.memory_kib": "1024"})).run
        (row,) = [one for one in run.exits if one.reason == "PAUSE_INSTRUCTION"]
        found[ns] = (row.min_ns, row.max_ns)
        assert not run.boosts
    assert found == {0: (3500, 3500), 1000: (7500, 7500)}


@pytest.mark.parametrize(
    ("vcpus", "named"),
    [
        (64, "strict-boost-rfc"),
        (96, "kvm-6.19+strict-boost-ideal"),
        (200, "vanilla"),
        (200, "kvm-6.19+ipi-aware-v2"),
    ],
)
def test_big_vms_work(vcpus, named):
    """64, 96 and 200 vCPUs in one VM on 16 pCPUs: exits, yields to its own vCPUs of any number, and progress."""
    changes = {"policy": named, "vms": 1, "vcpus": vcpus, "pcpus": 16, "duration": "18ms"}
    observed = observe(Command("ticket_lock", changes, {"vm.memory_kib": "16384", "vm.pinning": "vcpu-to-pcpu"}))
    yields = observed.of_kind(YIELD_TO)
    assert observed.run.ple.exits > 1000
    assert np.all(yields["a"] != yields["vcpu"])
    assert yields["a"].max() >= vcpus - 8
    assert observed.run.vms[0].operations > 0


SAME = [
    # a woken vCPU is nobody's candidate in 2017, nor by Strict Boost as described
    ("overboost", 100, "strict-boost-ideal", "in-kernel-2017"),
    # the receiver in user mode: whoever sees its IPI, and however, nominates it
    ("lost_opportunity", 40, "strict-boost", "pending-irq"),
    ("lost_opportunity", 40, "ipi-bool", "ipi-aware-v3"),
    ("lost_opportunity", 40, "vanilla", "in-kernel-2017"),
]
DIFFERENT = [
    ("overboost", 100, "vanilla", "in-kernel-2017"),
    ("overboost", 100, "vanilla", "strict-boost"),
    ("overboost", 100, "strict-boost", "strict-boost-ideal"),
    ("overboost", 100, "strict-boost", "strict-boost-rfc"),
    ("overboost", 100, "kvm-6.13", "kvm-6.19"),
    ("lost_opportunity", 40, "in-kernel-2017", "preempted-2013"),
    ("lost_opportunity", 40, "vanilla", "pending-irq"),
    ("ticket_lock", 40, "directed-yield-2011", "relax-filter-2012"),
    ("ticket_lock", 40, "relax-filter-2012", "esrch-2013"),
    ("ticket_lock", 40, "esrch-2013", "preempted-2013"),
    ("ticket_lock", 40, "preempted-2013", "in-kernel-2017"),
    ("ticket_lock", 40, "vanilla", "ipi-aware-v2"),
]


@functools.cache
def digest(name, ms, named):
    """The digest of an experiment, of its first milliseconds, under a policy."""
    scenario = attrs.evolve(find(name), duration_ms=ms)
    return simulate(scenario, policy=policy(named), programs=programs_of(scenario)).digest


@pytest.mark.parametrize("case", SAME + DIFFERENT, ids=lambda case: f"{case[0]}: {case[2]} and {case[3]}")
def test_policies_differ_where_their_rules_do(case):
    """Two policies make the same run or another one, as the experiment has what their rules differ in."""
    name, ms, one, other = case
    assert (digest(name, ms, one) == digest(name, ms, other)) == (case in SAME)


def test_every_policy_runs_and_other_names_are_the_same_run():
    """Each of `--policies all` runs worst_case, on its scheduler; kvm-5.6 and ready-2019 have vanilla's digest."""
    seen = set()
    for scheduler in ("cfs-5.6", "eevdf-6.12"):
        scenario = with_fields(find("worst_case"), {"host.scheduler": scheduler, "duration_ms": "10"})
        rows = compare(cases_of(scenario, "all").cases)
        seen |= {name for name, _ in rows}
        assert all(sum(vm.operations for vm in run.vms) > 0 for _, run in rows)
    assert seen == {one.name for one in ALL}
    assert (
        digest("overboost", 100, "kvm-5.6")
        == digest("overboost", 100, "ready-2019")
        == digest("overboost", 100, "vanilla")
    )


@pytest.mark.parametrize("apicv", [True, False])
def test_eoi_ends_a_wait_only_where_it_exits(apicv):
    """IPI tracking: with APICv KVM does not see the EOI, and the sender of pings waits for as long as it sends."""
    fields = {"kvm.apicv": str(apicv)}
    scenario = Command(PING, {"vcpus": 2, "pcpus": 2, "seed": 2, "duration": "5ms"}, fields).scenario()
    machine, _ = build(scenario, policy("ipi-aware-v2"), programs_of(scenario), recording=False)
    machine.run.progress = NEVER
    waits = []
    with np.errstate(over="ignore"):
        for step in range(1, 300):
            machine.run.until = step * 10_000
            assert run_machine(machine) == FINISHED
            waits.append(int(machine.vcpu[0].pending_ipi))
    first = waits.index(1)
    assert machine.vcpu[0].last_ipi_receiver == 1
    assert (0 in waits[first:]) != apicv
