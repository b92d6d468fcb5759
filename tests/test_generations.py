"""Every quirk of a generation or a cure, as the difference between two named policies on a small machine."""

from __future__ import annotations

from types import FunctionType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_searches import (
    ASLEEP,
    QUEUED,
    RUNNING,
    boostable,
    end_alone,
    machine,
    spin,
    spin_alone,
    tried,
    write_flags,
)
from reference.on_spin import Vcpu

from pleemu.generations import GENERATIONS
from pleemu.hypervisor.ipi import kvm_vcpu_wake_up
from pleemu.hypervisor.ipi_aware import IPI_WINDOW_NS, clear_ipi_on_eoi, track_ipi
from pleemu.hypervisor.notifiers import kvm_sched_in
from pleemu.hypervisor.on_spin import CALIBRATED_CANDIDATES, search_cycles
from pleemu.hypervisor.strict_boost import mark_ipi_receiver
from pleemu.jit import callable_alone, compiled
from pleemu.policy import ALL
from pleemu.scheduler.records import TASK_INTERRUPTIBLE

mark_alone = callable_alone(mark_ipi_receiver)
track_alone = callable_alone(track_ipi)
eoi_alone = callable_alone(clear_ipi_on_eoi)
sched_in_alone = callable_alone(kvm_sched_in)
search_cycles_alone = callable_alone(search_cycles)

BY_TRUTH = ("ideal-nominee", "ideal")  # of no kernel; what they do is in test_decisions
SEARCHING = [one.name for one in GENERATIONS.values() if not one.search.sleeps and one.name not in BY_TRUTH]


def alone(vcpus, named, *, me=0):
    """Every vCPU boostable, and the only one on its pCPU: each yield gives -ESRCH."""
    m = machine([(k, RUNNING if k == me else QUEUED, 0) for k in range(vcpus)], vcpus, named=named)
    for number in range(vcpus):
        write_flags(m, number, boostable(number))
    return m


def shared(vcpus, named, *, me=0):
    """All vCPUs on one pCPU and nobody boostable yet."""
    return machine([(0, RUNNING if k == me else QUEUED, 0) for k in range(vcpus)], 1, named=named)


@settings(max_examples=40)
@given(st.integers(2, 11), st.data(), st.sampled_from(SEARCHING))
def test_all_generations_visit_in_the_same_order(vcpus, data, named):
    """From behind the one boosted last, once round; only v2.6.39 begins with vCPU 0 if that was boosted last."""
    last, me = data.draw(st.integers(0, vcpus - 1)), data.draw(st.integers(0, vcpus - 1))
    dead = [k for k in range(vcpus) if k != me]
    m = machine([(0, RUNNING if k == me else QUEUED, 0) for k in range(vcpus)], 1, named=named)
    order = [(last + 1 + k) % vcpus for k in range(vcpus)]
    if named == "directed-yield-2011" and last == 0:
        order = [*range(vcpus), 0]
    met = []
    while dead:  # who comes first is found by letting one after the other out of it
        for number in range(vcpus):
            write_flags(m, number, boostable(number) if number in dead else Vcpu(number, blocking=True))
        m.vm.last_boosted_vcpu[1] = last
        assert spin(m, me)
        (first,) = tried(m)
        met.append(first)
        dead.remove(first)
    assert met == list(dict.fromkeys(k for k in order if k != me))


@pytest.mark.parametrize(
    ("named", "last", "asked"),
    [
        ("vanilla", 6, [7]),
        ("pending-irq-2021", 6, [7]),
        ("kvm-6.13", 6, [7, 1, 2]),
        ("kvm-6.19", 6, [7, 1, 2]),
        ("vanilla", 1, [2, 3, 4]),
        ("kvm-6.19", 1, [2, 3, 4]),
        ("in-kernel-2017", 1, [2, 3, 4]),
        ("preempted-2013", 1, [2]),
        ("esrch-2013", 1, [2]),
        ("relax-filter-2012", 6, [7, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_esrch_ends_a_search_as_its_loop_has_it(named, last, asked):
    """Three tries; between two passes one is enough; a bool takes it for success; before it had no meaning."""
    m = alone(8, named)
    m.vm.last_boosted_vcpu[1] = last
    assert not spin(m)
    assert tried(m) == asked


@pytest.mark.parametrize(("named", "kept"), [("esrch-2013", 3), ("preempted-2013", 3), ("in-kernel-2017", 2)])
def test_bool_of_2013_remembers_whom_it_could_not_boost(named, kept):
    """The first -ESRCH moves last_boosted_vcpu, until v3.16 made an int of it."""
    m = alone(8, named)
    m.vm.last_boosted_vcpu[1] = 2
    assert not spin(m)
    assert m.vm.last_boosted_vcpu[1] == kept


@pytest.mark.parametrize(("named", "kept"), [("kvm-6.13", 3), ("kvm-6.19", 0), ("pending-irq-2021", 0)])
def test_wrong_index_of_2024_is_the_number_of_steps(named, kept):
    """Of 8, behind vCPU 4, vCPU 0 is found at the fourth step: v6.13 stores 3, all others 0."""
    m = shared(8, named, me=7)
    m.vm.last_boosted_vcpu[1] = 4
    write_flags(m, 0, boostable(0))
    assert spin(m, 7)
    assert tried(m) == [0]
    assert m.vm.last_boosted_vcpu[1] == kept


@pytest.mark.parametrize(("named", "asked"), [("directed-yield-2011", [0, 2]), ("relax-filter-2012", [2, 0])])
def test_first_directed_yield_begins_with_vcpu_0(named, asked):
    """In v2.6.39 `<` lets vCPU 0 come first as long as it is the one boosted last, and nobody else is."""
    m = shared(3, named, me=1)
    first = []
    for _ in range(2):
        m.vm.last_boosted_vcpu[1] = 0
        assert spin(m, 1)
        (found,) = tried(m)
        first.append(found)
        write_flags(m, found, Vcpu(found, blocking=True))
    assert first == asked


@pytest.mark.parametrize(
    ("vcpu", "accepted"),
    [
        (Vcpu(1), ["directed-yield-2011", "relax-filter-2012", "esrch-2013"]),
        (Vcpu(1, preempted=True, ready=True), SEARCHING[:4]),
        (Vcpu(1, preempted=True, ready=True, posted=True), [*SEARCHING[:4], *SEARCHING[6:]]),
        (Vcpu(1, preempted=True, ready=True, preempted_in_kernel=True), SEARCHING),
        (Vcpu(1, ready=True), [*SEARCHING[:3], *SEARCHING[5:]]),
        (Vcpu(1, preempted=True, ready=True, preempted_in_kernel=True, in_spin_loop=True), SEARCHING[:1]),
        (Vcpu(1, ready=True, blocking=True), []),
        (Vcpu(1, ready=True, blocking=True, posted=True), SEARCHING[5:]),
    ],
    ids=["running", "user mode", "user mode, interrupt", "kernel", "woken", "spins", "woken, rcuwait", "and interrupt"],
)
def test_each_year_has_its_candidates(vcpu, accepted):
    """Who is a candidate, and since which kernel."""
    found = []
    for named in SEARCHING:
        m = shared(2, named)
        write_flags(m, 1, vcpu)
        if spin(m):
            found.append(named)
    assert found == accepted


def test_halted_vcpu_can_run_in_2017_if_interrupts_are_on():
    """The precise test of v4.14 asks for RFLAGS.IF, the cheap one of 2019 does not."""
    found = {}
    for named in ("in-kernel-2017", "vanilla"):
        for on in (True, False):
            m = shared(2, named)
            flags = {"ready": True, "preempted": True, "preempted_in_kernel": True, "blocking": True, "posted": True}
            write_flags(m, 1, Vcpu(1, interrupts_on=on, **flags))
            found[named, on] = spin(m)
    assert found == {
        ("in-kernel-2017", True): True,
        ("in-kernel-2017", False): False,
        ("vanilla", True): True,
        ("vanilla", False): True,
    }


@compiled
def is_queued_already(m, p, task, now):
    """Stands in for `wake_thread`: compiling the scheduler's part would take a minute."""


in_kvm = getattr(kvm_vcpu_wake_up, "py_func", kvm_vcpu_wake_up)
wake_in_kvm_alone = callable_alone(
    FunctionType(in_kvm.__code__, {**in_kvm.__globals__, "wake_thread": is_queued_already})
)


@pytest.mark.parametrize(("named", "boosted"), [("vanilla", True), ("pending-irq-2021", False), ("kvm-6.19", False)])
def test_woken_vcpu_blocks_under_rcuwait_until_it_runs(named, boosted):
    """Swait takes a woken vCPU off its queue; with rcuwait it needs an interrupt to be a candidate, until it ran."""
    m = shared(2, named)
    m.vcpu[1].on_wait_queue = m.vcpu[1].blocking = 1
    wake_in_kvm_alone(m, 0, 1, 1000)
    assert (m.vcpu[1].ready, m.vcpu[1].on_wait_queue) == (1, 0)
    assert spin(m) == boosted
    sched_in_alone(m, 0, 1, 2000)
    assert m.vcpu[1].blocking == 0


@pytest.mark.parametrize(
    ("named", "answers"),
    [
        ("vanilla", [True] * 4),
        ("strict-boost", [False, True, False, True]),
        ("strict-boost-rfc", [False, True, False, True]),
        ("strict-boost-ideal", [False] * 4),
    ],
)
def test_strict_boost_passes_over_woken_vcpus_once(named, answers):
    """As coded a refusal counts as an IPI until the vCPU is switched in; as described it does not."""
    m = shared(2, named)
    found = []
    for exit_number in range(4):
        if exit_number == 2:
            sched_in_alone(m, 0, 1, 0)
        write = Vcpu(1, ready=True, preempted_in_kernel=True)
        m.vcpu[1].ready, m.vcpu[1].preempted_in_kernel = write.ready, write.preempted_in_kernel
        found.append(spin(m))
    assert found == answers


@pytest.mark.parametrize(
    ("named", "answers"),
    [("strict-boost", [False] * 3), ("strict-boost-rfc", [False, True, True]), ("strict-boost-ideal", [False] * 3)],
)
def test_rfc_passes_over_user_mode_once(named, answers):
    """Only the posted version marks who it refuses for user mode."""
    m = shared(2, named)
    write_flags(m, 1, Vcpu(1, ready=True, preempted=True))
    assert [spin(m) for _ in range(3)] == answers


@pytest.mark.parametrize(
    ("named", "other", "scheduled_out", "boosted"),
    [
        ("strict-boost-ideal", False, 1, True),
        ("strict-boost-ideal", False, 0, False),
        ("strict-boost-ideal", True, 1, False),
        ("ipi-bool", False, 0, True),
        ("ipi-bool", True, 1, True),
        ("vanilla", False, 1, False),
    ],
)
def test_bool_forgets_who_sent_and_when(named, other, scheduled_out, boosted):
    """A bool nominates in user mode whoever had an IPI, from anybody and even while it ran."""
    m = shared(3, named)
    write_flags(m, 1, Vcpu(1, ready=True, preempted=True))
    m.vcpu[1].scheduled_out = scheduled_out
    mark_alone(m, 2 if other else 0, 1)
    assert spin(m) == boosted


@pytest.mark.parametrize(
    ("named", "sender", "boosted_for"),
    [
        ("strict-boost-ideal", 33, [33]),
        ("strict-boost-ideal", 90, [90]),
        ("strict-boost-rfc", 33, [1, 33, 65]),
        ("strict-boost-rfc", 90, [26, 58, 90]),
        ("strict-boost-rfc", 31, [31, 63, 95]),
        ("strict-boost", 33, [31, 63]),
        ("strict-boost", 90, [26, 58, 90]),
    ],
)
def test_shift_of_the_patches_mistakes_senders_beyond_31(named, sender, boosted_for):
    """Of 96 vCPUs: for whom the receiver of an IPI in user mode is a candidate; as described, only for its sender."""
    m = machine([(0, ASLEEP, 0)] * 95 + [(0, QUEUED, 0)], 1, named=named)
    found = []
    for me in range(95):
        write_flags(m, 95, Vcpu(95, ready=True, preempted=True))
        m.vcpu[95].scheduled_out = 1
        mark_alone(m, sender, 95)
        m.task[me].state, m.rq[0].curr, m.rq[0].nr_running = 0, me, 2
        if spin(m, me):
            found.append(me)
        m.task[me].state = TASK_INTERRUPTIBLE
    assert found == [one for one in boosted_for if one < 95]


@pytest.mark.parametrize(("apicv", "boosted"), [(1, True), (0, False)])
def test_pending_irq_needs_apicv(apicv, boosted):
    """The patch of 2021 over v5.6 nominates in user mode who has a posted interrupt; without APICv it is inert."""
    found = {}
    for named in ("vanilla", "pending-irq", "pending-irq-2021", "kvm-6.19"):
        m = shared(2, named)
        write_flags(m, 1, Vcpu(1, ready=True, preempted=True, posted=True))
        m.cpu.apicv = apicv
        found[named] = spin(m)
    assert found == {"vanilla": False, "pending-irq": boosted, "pending-irq-2021": boosted, "kvm-6.19": boosted}


def test_ipi_aware_lets_only_the_latest_receiver_pass():
    """A woken vCPU passes kvm-6.19 at once, IPI-aware only after an IPI of the spinner, the latest, within 50 ms."""
    found = {}
    for named, sent, now in (
        ("kvm-6.19", [], 0),
        ("kvm-6.19+ipi-aware-v2", [], 0),
        ("kvm-6.19+ipi-aware-v2", [1], 0),
        ("kvm-6.19+ipi-aware-v2", [1], IPI_WINDOW_NS),
        ("kvm-6.19+ipi-aware-v2", [1], IPI_WINDOW_NS + 1),
        ("kvm-6.19+ipi-aware-v2", [1, 2], 0),
    ):
        m = shared(3, named)
        write_flags(m, 1, Vcpu(1, ready=True, preempted_in_kernel=True))
        for receiver in sent:
            track_alone(m, 0, receiver, 50, 0)
        found[named, tuple(sent), now] = spin(m, now=now)
    assert list(found.values()) == [True, False, True, True, False, False]


def test_relaxed_round_takes_who_was_preempted_in_user_mode():
    """Whom the first round refuses the second takes, if preempted; who spins itself has its turn within one exit."""
    for flags, boosted in (
        ({"ready": True, "preempted": True}, True),
        ({"ready": True}, False),
        ({"ready": True, "preempted": True, "preempted_in_kernel": True, "in_spin_loop": True}, True),
    ):
        found = {}
        for named in ("kvm-6.19", "kvm-6.19+ipi-aware-v1"):
            m = shared(2, named)
            write_flags(m, 1, Vcpu(1, **flags))
            found[named] = spin(m)
        assert found["kvm-6.19+ipi-aware-v1"] == boosted
        assert found["kvm-6.19"] != boosted


def test_relaxed_round_of_a_used_up_search_has_no_limit():
    """`try` is not set anew: with three -ESRCH behind it the second round asks everyone."""
    m = alone(8, "kvm-6.19+ipi-aware-v2")
    assert not spin(m)
    assert tried(m) == [1, 2, 3, *range(1, 8)]
    for named in ("kvm-6.19", "ipi-aware-v2"):  # over v5.6, whose passes ask whether tries are left
        m = alone(8, named)
        assert not spin(m)
        assert tried(m) == [1, 2, 3]
    m = alone(2, "ipi-aware-v2")
    assert not spin(m)
    assert tried(m) == [1, 1]


@pytest.mark.parametrize(
    ("named", "own_wait", "senders_wait"),
    [("ipi-aware-v1", 0, 0), ("ipi-aware-v2", 0, 0), ("ipi-aware-v3", 1, 1)],
)
def test_unrelated_eoi_ends_a_wait_until_v3(named, own_wait, senders_wait):
    """A timer's EOI on a receiver ends its sender's wait and its own for another, before v3; the IPI's own, always."""
    m = shared(3, named)
    timer, vector = 236, 50
    track_alone(m, 0, 1, vector, 0)
    track_alone(m, 1, 2, vector, 0)
    m.cpu[1].isr[timer // 64] = 1 << timer % 64
    eoi_alone(m, 1, 1000)
    assert (m.vcpu[1].pending_ipi, m.vcpu[0].pending_ipi) == (own_wait, senders_wait)
    track_alone(m, 0, 1, vector, 0)
    m.cpu[1].isr[:] = 0
    m.cpu[1].isr[vector // 64] = 1 << vector % 64
    eoi_alone(m, 1, 1000)
    assert m.vcpu[0].pending_ipi == 0


def test_lone_vcpu_does_not_search_since_v6_13():
    """v6.13 leaves before it sets in_spin_loop if there is nobody else; v5.6 searches and finds nobody."""
    for named, flag in (("vanilla", 1), ("kvm-6.13", 0)):
        m = shared(1, named)
        assert not spin_alone(m, 0, 0, 0)
        assert m.vcpu[0].in_spin_loop == flag
        end_alone(m, 0)


@pytest.mark.parametrize("vcpus", [2, 8, 9, 64, 200])
def test_search_beyond_the_calibrated_one_costs_time(vcpus):
    """Eight candidates are part of pause_handler_ns, each further one costs the pCPU one candidate_ns."""
    m = shared(vcpus, "vanilla")
    m.cost.candidate = 100
    assert not spin(m)
    assert m.vcpu[0].visited == vcpus
    assert search_cycles_alone(m, 0) == 100 * max(vcpus - CALIBRATED_CANDIDATES, 0)


def test_every_policy_has_a_name_of_its_own_and_a_search_of_its_own():
    """`all` lists every part once; two cures alone share their search, the first two IPI-aware versions."""
    assert len({one.name for one in ALL}) == len(ALL)
    searches = [str(one.search) for one in ALL if one.cures]
    assert len(set(searches)) == len(searches) - 1
