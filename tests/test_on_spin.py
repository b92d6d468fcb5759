"""kvm_vcpu_on_spin of every generation, its cures, and Debooster against plain loops over flags."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from made_searches import (
    ASLEEP,
    DEAD,
    MS,
    QUEUED,
    RUNNING,
    boostable,
    end_alone,
    machine,
    read_flags,
    spin_alone,
    write_flags,
    yields,
)
from reference.on_spin import YEARS, Kvm, Vcpu

from pleemu.errors import ScenarioError
from pleemu.generations import CURES, GENERATIONS
from pleemu.hypervisor import strict_boost
from pleemu.jit import callable_alone
from pleemu.policy import policy
from pleemu.scheduler import core

mark_alone = callable_alone(strict_boost.mark_ipi_receiver)
yield_to_alone = callable_alone(core.yield_to)
pick_alone = callable_alone(core.pick_next_task)


def answer_of(threads, me, target):
    """yield_to of v5.6, for tasks of equal class whose preconditions alone count."""
    running = [sum(where == pcpu and life in (RUNNING, QUEUED) for where, life, _ in threads) for pcpu in range(99)]
    pcpu, life, _ = threads[target]
    if life == DEAD:
        return 0  # no thread
    if running[threads[me][0]] == 1 and running[pcpu] == 1:
        return -3
    return 1 if life == QUEUED else 0


@st.composite
def hosts(draw):
    """A host with two VMs in any state, who spins, and since when whom was boosted."""
    pcpus = draw(st.integers(1, 4))
    size = draw(st.integers(1, 9) | st.sampled_from((34, 66)))
    first = draw(st.integers(0, 3))
    me = first + draw(st.integers(0, size - 1))
    home = draw(st.integers(0, pcpus - 1))
    taken = {home}
    threads = []
    for number in range(first + size):
        pcpu = draw(st.integers(0, pcpus - 1))
        life = draw(st.sampled_from((QUEUED, QUEUED, RUNNING, ASLEEP, DEAD)))
        if life == RUNNING and pcpu in taken:
            life = QUEUED
        if number == me:
            pcpu, life = home, RUNNING
        if life == RUNNING:
            taken.add(pcpu)
        threads.append((pcpu, life, draw(st.integers(0, 20)) * MS))
    mostly = st.sampled_from((True, True, True, False))
    rarely = st.sampled_from((False, False, False, True))
    bits = st.sampled_from((0, 0, 1 << ((me - first) % 64), 1 << ((me - first) % 32), 1 << 31, 1 << 40, 2**64 - 1))
    senders = st.sampled_from(({}, {}, {me - first}, {(me - first) % 64}, range(size)))
    vcpus = [
        Vcpu(
            id=number,
            ready=draw(mostly),
            preempted=draw(mostly),
            preempted_in_kernel=draw(mostly),
            blocking=draw(rarely),
            interrupt_pending=draw(st.booleans()),
            posted=draw(st.booleans()),
            interrupts_on=draw(mostly),
            in_guest=threads[first + number][1] == RUNNING and draw(st.booleans()),
            pv_unhalted=draw(st.booleans()),
            in_spin_loop=draw(rarely),
            dy_eligible=draw(st.booleans()),
            ipi_received=draw(bits),
            ipi_senders=frozenset(draw(senders)),
            ipi_any=draw(st.booleans()),
            awaited=draw(st.none() | st.integers(0, size - 1)) if first + number == me else None,
        )
        for number in range(size)
    ]
    return threads, pcpus, first, me, vcpus, draw(st.integers(0, size - 1))


def makes_sense(name):
    """Whether a policy's parts fit together."""
    try:
        policy(name)
    except ScenarioError:
        return False
    return True


BY_TRUTH = ("ideal-nominee", "ideal")  # no kernels; what they do is in test_decisions

POLICIES = [
    name
    for year in YEARS
    for cure in ("", *(f"+{one}" for one in CURES), *(f"+{one}+pending-irq" for one in CURES if one != "pending-irq"))
    if makes_sense(name := year + cure)
]


def test_table_of_generations_is_that_of_the_reference():
    """The plain-Python ladder has every generation that searches; the one that does not sleeps."""
    searching = [one for one in GENERATIONS.values() if not one.search.sleeps and one.name not in BY_TRUTH]
    assert [one.name for one in searching] == list(YEARS)
    assert len(POLICIES) > 40


@settings(max_examples=400)
@given(hosts(), st.sampled_from(POLICIES), st.integers(1, 3), st.sampled_from((0, 0, 1)), st.sampled_from((0, 3)))
def test_on_spin_is_that_of_its_kernel(host, named, exits, svm, cpl):
    """Any policy, flags and run queues: same candidates in the same order, same answer, same flags left behind."""
    threads, pcpus, first, me, vcpus, last = host
    chosen = policy(named)
    m = machine(threads, pcpus, first=first, named=named)
    m.kvm.svm = svm
    m.cpu.cpl[me] = cpl
    apicv = pcpus % 2
    m.cpu.apicv = apicv
    m.vm.last_boosted_vcpu[1] = last
    for number, vcpu in enumerate(vcpus):
        write_flags(m, first + number, vcpu)
    vcpus = [attrs.evolve(vcpu) for vcpu in vcpus]
    kvm = Kvm(
        vcpus,
        lambda vcpu: answer_of(threads, me, first + vcpu.id),
        last_boosted_vcpu=last,
        generation=chosen.generation,
        cures=frozenset(chosen.cures),
        apicv=apicv == 1,
        yield_to_kernel_mode=not svm or cpl == 0,
    )
    for _ in range(exits):
        kvm.tried.clear()
        m.journal.recorded = 0
        accepted = kvm.on_spin(vcpus[me - first])
        assert spin_alone(m, threads[me][0], me, 1000) == accepted
        tried = [first + k for k in kvm.tried]
        note(f"tried {tried}")
        asked = yields(m)
        alive = [k for k in tried if threads[k][1] != DEAD]
        assert asked.a.tolist() == alive
        assert asked.b.tolist() == [answer_of(threads, me, k) for k in alive]
        assert me not in alive
        assert m.vm.last_boosted_vcpu[1] == kvm.last_boosted_vcpu
        assert [read_flags(m, first + k, vcpu) for k, vcpu in enumerate(vcpus)] == vcpus
        kvm.finish(vcpus[me - first])
        end_alone(m, me)
        assert read_flags(m, me, vcpus[me - first]) == vcpus[me - first]
        if accepted:
            break


@pytest.mark.parametrize(("last", "tried"), [(6, [7]), (1, [2, 3, 4])])
def test_on_spin_gives_up_after_esrch(last, tried):
    """Of 8 vCPUs, all alone on their pCPUs: three tries, and none in the second pass if the first ended by -ESRCH."""
    m = machine([(k, RUNNING if k == 0 else QUEUED, 0) for k in range(8)], 8)
    m.vm.last_boosted_vcpu[1] = last
    for number in range(8):
        write_flags(m, number, boostable(number))
    assert not spin_alone(m, 0, 0, 0)
    asked = yields(m)
    assert asked.a.tolist() == tried
    assert asked.b.tolist() == [-3] * len(tried)
    assert m.vm.last_boosted_vcpu[1] == last


def test_spinner_is_eligible_every_other_time():
    """A vCPU in its own kvm_vcpu_on_spin is eligible at the 2nd, 4th, ... query; one refused before was not asked."""
    m = machine([(0, RUNNING, 0), (0, QUEUED, 0)], 1)
    spinner = attrs.evolve(boostable(1), in_spin_loop=True)
    write_flags(m, 1, spinner)
    answers = []
    for _ in range(6):
        answers.append(bool(spin_alone(m, 0, 0, 0)))
        end_alone(m, 0)
    assert answers == [False, True, False, True, False, True]
    write_flags(m, 1, attrs.evolve(spinner, ready=False, dy_eligible=True))
    spin_alone(m, 0, 0, 0)
    assert m.vcpu[1].dy_eligible == 1


def test_strict_boost_skips_once():
    """A woken vCPU is refused at a spinner's first exit, boosted at its second, refused again after a switch in."""
    m = machine([(0, RUNNING, 0), (0, QUEUED, 0)], 1, named="strict-boost")
    write_flags(m, 1, Vcpu(1, ready=True, preempted_in_kernel=True))
    answers = []
    for exit_number in range(4):
        if exit_number == 2:
            m.vcpu[1].ipi_received = 0  # kvm_sched_in
        answers.append(bool(spin_alone(m, 0, 0, 0)))
        end_alone(m, 0)
    assert answers == [False, True, False, True]


@pytest.mark.parametrize(("scheduled_out", "boosted"), [(1, True), (0, False)])
def test_strict_boost_nominates_who_got_an_ipi_while_it_was_out(scheduled_out, boosted):
    """A vCPU preempted in user mode is a candidate for who sent it an IPI since, and for nobody else."""
    m = machine([(0, RUNNING, 0), (0, QUEUED, 0), (0, QUEUED, 0)], 1, named="strict-boost")
    write_flags(m, 1, Vcpu(1, ready=True, preempted=True))
    m.vcpu[1].scheduled_out = scheduled_out
    mark_alone(m, 0, 1)
    assert spin_alone(m, 0, 0, 0) == boosted
    assert not spin_alone(m, 0, 2, 0)


@pytest.mark.parametrize(
    ("me", "senders", "boosted"),
    [
        (33, 1 << 33, False),
        (33, 1 << 1, True),
        (40, 1 << 8, True),
        (31, 1 << 31, True),
        (31, 1 << 40, True),
        (31, 1, False),
    ],
)
def test_strict_boost_tests_32_bits_in_user_mode(me, senders, boosted):
    """The rule for user mode looks at the bit of vcpu_id modulo 32, and for 31 at all above, as C's int does."""
    m = machine(
        [(0, QUEUED, 0)] + [(0, RUNNING if k == me else ASLEEP, 0) for k in range(1, 50)], 1, named="strict-boost"
    )
    write_flags(m, 0, Vcpu(0, ready=True, preempted=True, ipi_received=senders))
    assert spin_alone(m, 0, me, 0) == boosted


@pytest.mark.parametrize(
    ("target", "raised"), [(20, 16), (13, 10), (5, 10), (14, 10), (15, 11)], ids=lambda ms: f"{ms}ms"
)
def test_debooster_raises_the_yielder_to_one_granularity_below(target, raised):
    """The yielder at 10 ms is raised to 4 ms before a target further ahead, never lowered; the target is picked."""
    m = machine([(0, RUNNING, 10 * MS), (0, QUEUED, target * MS)], 1)
    m.tunables.debooster = 1
    assert yield_to_alone(m, 0, 1, 0) == 1
    assert m.task.vruntime.tolist() == [raised * MS, target * MS]
    assert pick_alone(m, 0, 0) == 1


def test_debooster_leaves_other_queues_and_other_tasks_alone():
    """A target on another pCPU changes nothing; a third task that is 18 ms behind the target still runs first."""
    m = machine([(0, RUNNING, 10 * MS), (1, QUEUED, 20 * MS), (1, RUNNING, 0), (0, QUEUED, 9 * MS)], 2)
    m.tunables.debooster = 1
    assert yield_to_alone(m, 0, 1, 0) == 1
    assert m.task.vruntime[0] == 10 * MS
    m = machine([(0, RUNNING, 10 * MS), (0, QUEUED, 20 * MS), (0, QUEUED, 2 * MS)], 1)
    m.tunables.debooster = 1
    assert yield_to_alone(m, 0, 1, 0) == 1
    assert m.task.vruntime[0] == 16 * MS
    assert pick_alone(m, 0, 0) == 2


def test_without_debooster_the_hint_is_refused():
    """A target 10 ms of virtual time ahead is named next, but CFS picks the yielder again."""
    m = machine([(0, RUNNING, 10 * MS), (0, QUEUED, 20 * MS)], 1)
    assert yield_to_alone(m, 0, 1, 0) == 1
    assert m.rq.next[0] == 1
    assert pick_alone(m, 0, 0) == 0
