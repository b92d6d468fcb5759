"""Debooster by variant: only the yielder changes, by what the patches say."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleemu.conform.scheduler import Machine
from pleemu.errors import ScenarioError
from pleemu.jit import callable_once
from pleemu.kernel import CFS, EEVDF
from pleemu.policy import DEBOOSTERS, check_policy, policy
from pleemu.scheduler import debooster

MS = 1_000_000
GRAN = 2_800_000  # base slice of 6.12.117 on 8 CPUs
NICE = st.integers(-20, 19)
NUMBERS = {
    "debooster": debooster.V5_6,
    "debooster-rfc": debooster.RFC,
    "debooster-2025-v1": debooster.PENALTY_V1,
    "debooster-2025-v2": debooster.PENALTY_V2,
}
SCHEDULERS = {CFS: ["cfs-5.6"], EEVDF: ["eevdf-6.6", "eevdf-6.12.0", "eevdf-6.12"]}

deboost = callable_once(debooster.deboost)


def queue(scheduler, nice, variant, *, cpus=1):
    """A CPU whose first task runs and the others wait, the last task on the last CPU."""
    machine = Machine.of(scheduler, nice, cpus=cpus, online_cpus=8)
    machine.host.tunables.debooster = NUMBERS[variant]
    for task in range(len(nice)):
        machine.apply(["new", task, cpus - 1 if task == len(nice) - 1 else 0])
    machine.apply(["sched", 0])
    return machine


def spread(machine, behind):
    """The yielder, and task 0 or 1 that waits ``behind`` ns of vruntime ahead of it."""
    yielder = int(machine.host.rq.curr[0])
    target = 1 if yielder == 0 else 0
    machine.host.task.vruntime[target] = machine.host.task.vruntime[yielder] + behind
    return yielder, target


def gran(machine, task):
    """The wake-up granularity in a task's virtual time."""
    value = int(machine.host.tunables.wakeup_granularity[0])
    weight, inverse = int(machine.host.task.weight[task]), int(machine.host.task.inverse_weight[task])
    return value if weight == 1024 else (value * 1024 * inverse) >> 32


@pytest.mark.parametrize("variant", ["debooster", "debooster-rfc"])
@pytest.mark.parametrize(("target_ms", "expected_ms"), [(20, 16), (14, 10), (13, 10), (5, 10)])
def test_worked_numbers_of_2021(variant, target_ms, expected_ms):
    """Weight 1024, granularity 4 ms, yielder at 10 ms: it rises to 4 ms below the target, or stays."""
    machine = queue("cfs-5.6", [0, 0], variant)
    machine.host.task.vruntime[machine.host.rq.curr[0]] = 10 * MS
    yielder, target = spread(machine, (target_ms - 10) * MS)
    deboost(machine.host, 0, target, machine.now)
    assert machine.host.task.vruntime[yielder] == expected_ms * MS


def test_a_third_task_far_behind_still_wins():
    """The pick compares with the leftmost: a target far ahead of a third task is refused, with Debooster, too."""
    for variant in ("debooster", "debooster-rfc"):
        machine = queue("cfs-5.6", [0, 0, 0], variant)
        third = next(task for task in range(3) if task != machine.host.rq.curr[0])
        machine.apply(["sched", 0])
        yielder = int(machine.host.rq.curr[0])
        target = next(task for task in range(3) if task not in (yielder, third))
        machine.apply(["adv", 30 * MS])  # the yielder runs ahead of both
        machine.apply(["yield_to", 0, target])
        assert machine.host.rq.curr[0] in (target, third)
        runs = int(machine.host.rq.curr[0])
        machine.apply(["adv", 18 * MS])
        other = target if runs == third else third
        machine.apply(["yield_to", 0, yielder])  # 30 ms ahead of `other`, which has not run at all
        assert machine.host.rq.curr[0] == other


@given(
    nice=st.lists(NICE, min_size=2, max_size=6),
    behind=st.integers(-100 * MS, 100 * MS),
    variant=st.sampled_from(["debooster", "debooster-rfc"]),
)
def test_cfs_leaves_a_granularity(nice, behind, variant):
    """One of the target's weight with v5.6, of the yielder's with the RFC; never down."""
    machine = queue("cfs-5.6", nice, variant)
    yielder, target = spread(machine, behind)
    before = int(machine.host.task.vruntime[yielder])
    deboost(machine.host, 0, target, machine.now)
    left = gran(machine, yielder if variant == "debooster-rfc" else target)
    expected = before + behind - left if behind > gran(machine, yielder) else before
    assert machine.host.task.vruntime[yielder] == expected


def penalty(queued, behind, *, reverse=False):
    """The penalty of 2025 for a yielder of nice 0, in ns."""
    most = {2: 24, 3: 16, 4: 10, 5: 10, 6: 10, 7: 8, 8: 8, 9: 6, 10: 6, 11: 6, 12: 6}.get(queued, 4)
    wanted = GRAN + behind + behind // 10 if behind > 0 else GRAN
    if reverse:
        wanted = min(wanted, max(behind, GRAN))
    return min(max(wanted, GRAN), GRAN * most // 4)


def test_the_patch_for_v5_6_can_help_the_yielder():
    """It tests by the yielder's granularity and leaves the target's, 273 ms at nice 19: the yielder gains."""
    for variant, helped in (("debooster", True), ("debooster-rfc", False)):
        machine = queue("cfs-5.6", [0, 19], variant)
        while machine.host.rq.curr[0] != 0:
            machine.apply(["adv", MS])
            machine.apply(["sched", 0])
        yielder, target = spread(machine, 5 * MS)
        before = int(machine.host.task.vruntime[yielder])
        deboost(machine.host, 0, target, machine.now)
        assert (machine.host.task.vruntime[yielder] < before) == helped


@given(queued=st.integers(2, 20), behind=st.integers(-100 * MS, 100 * MS), v1=st.booleans())
def test_the_penalty_is_bounded_by_the_queue(queued, behind, v1):
    """A granularity and 1.1 times what the target is ahead, at most 6 to 1 granularities; the deadline follows."""
    machine = queue("eevdf-6.12", [0] * queued, "debooster-2025-v1" if v1 else "debooster-2025-v2")
    machine.apply(["adv", 50 * MS])
    yielder, target = spread(machine, behind)
    before = int(machine.host.task.vruntime[yielder])
    deboost(machine.host, 0, target, machine.now)
    assert machine.host.task.vruntime[yielder] == before + penalty(queued, behind)
    assert machine.host.task.deadline[yielder] == before + penalty(queued, behind) + GRAN


@pytest.mark.parametrize(("queued", "granularities"), [(2, 6), (3, 4), (5, 2.5), (8, 2), (12, 1.5), (20, 1)])
def test_worked_caps_of_2025(queued, granularities):
    """A target 10 granularities ahead; then again within 6 ms: nothing."""
    machine = queue("eevdf-6.12", [0] * queued, "debooster-2025-v2")
    machine.apply(["adv", 50 * MS])
    yielder, target = spread(machine, 10 * GRAN)
    before = int(machine.host.task.vruntime[yielder])
    deboost(machine.host, 0, target, machine.now)
    after = int(machine.host.task.vruntime[yielder])
    assert after - before == granularities * GRAN
    deboost(machine.host, 0, target, machine.now + 6 * MS)
    assert machine.host.task.vruntime[yielder] == after


def test_rate_limits_of_2025():
    """v2 punishes again after more than 6 ms; v1's clock starts anew at each yield, so a steady spinner is spared."""
    counts = {}
    for variant in ("debooster-2025-v1", "debooster-2025-v2"):
        machine = queue("eevdf-6.12", [0, 0], variant)
        machine.apply(["adv", 50 * MS])
        yielder, target = spread(machine, 0)
        counts[variant] = 0
        for step in range(100):
            before = int(machine.host.task.vruntime[yielder])
            deboost(machine.host, 0, target, machine.now + step * MS)
            counts[variant] += int(machine.host.task.vruntime[yielder]) > before
    assert counts == {"debooster-2025-v1": 1, "debooster-2025-v2": 100 // 7 + 1}


def test_a_yield_back_is_punished_less():
    """A to B and B to A within 600 us; only without the rate limit of 6 ms can the second one count at all."""
    for back_after, reverse in ((600_000, True), (600_001, False)):
        machine = queue("eevdf-6.12", [0, 0], "debooster-2025-v2")
        machine.apply(["adv", 50 * MS])
        yielder, target = spread(machine, GRAN)
        machine.host.rq.deboost_yielder[0] = target
        machine.host.rq.deboost_target[0] = yielder
        machine.host.rq.deboost_pair_at[0] = machine.now - back_after
        before = int(machine.host.task.vruntime[yielder])
        deboost(machine.host, 0, target, machine.now)
        assert machine.host.task.vruntime[yielder] == before + penalty(2, GRAN, reverse=reverse)


@given(data=st.data(), variant=st.sampled_from(list(DEBOOSTERS)))
def test_only_the_yielder_changes(data, variant):
    """Whatever happened before: no other task, and nothing of another CPU; and the yielder only falls back.

    The last does not hold for v5.6 with unequal weights, see `test_the_patch_for_v5_6_can_help_the_yielder`.
    """
    scheduler = data.draw(st.sampled_from(SCHEDULERS[DEBOOSTERS[variant]]))
    nice = data.draw(st.lists(NICE, min_size=2, max_size=8))
    cpus = data.draw(st.integers(1, 2))
    machine = queue(scheduler, nice, variant, cpus=cpus)
    moved = ("min_vruntime", "avg_vruntime") if variant == "debooster-2025-v1" else ()
    for ns, task in data.draw(st.lists(st.tuples(st.integers(0, 12 * MS), st.integers(0, 7)), max_size=20)):
        for op in (["adv", ns], ["tick", 0], ["sched", 0]):
            machine.apply(op)
        host, yielder, target = machine.host, int(machine.host.rq.curr[0]), task % len(nice)
        if target == yielder or host.rq.curr[host.task.cpu[target]] == target:
            continue
        tasks, queues = host.task.copy(), host.rq.copy()
        deboost(host, 0, target, machine.now)
        others = np.arange(len(nice)) != yielder
        assert np.array_equal(host.task[others], tasks[others])
        if variant != "debooster" or len(set(nice)) == 1:
            assert host.task.vruntime[yielder] >= tasks.vruntime[yielder]
        if host.task.cpu[target] != 0:
            assert host.task.vruntime[yielder] == tasks.vruntime[yielder]
        assert np.array_equal(host.rq[1:], queues[1:])
        for name in queues.dtype.names:
            if not name.startswith("deboost") and name not in moved:
                assert host.rq[name][0] == queues[name][0], name
        machine.apply(["yield_to", 0, target])


def test_policies_have_at_most_one():
    """Two deboosters in one name are refused."""
    with pytest.raises(ScenarioError, match="has 2 deboosters; use one of debooster, debooster-2025-v2"):
        policy("debooster+debooster-2025-v2")
    assert {name: policy(name).debooster for name in DEBOOSTERS} == {name: name for name in DEBOOSTERS}


@pytest.mark.parametrize(
    ("name", "scheduler", "instead"),
    [
        ("debooster-2025-v1", "cfs-5.6", "debooster"),
        ("strict-boost+debooster", "eevdf-6.6", "strict-boost+debooster-2025-v2"),
        ("debooster", "chaos", "vanilla"),
    ],
)
def test_a_debooster_of_another_scheduler_is_answered_with_the_one_compared_there(name, scheduler, instead):
    """And what is offered is accepted."""
    with pytest.raises(ScenarioError, match=rf"use '{re.escape(instead)}' or another scheduler"):
        check_policy(policy(name), scheduler)
    check_policy(policy(instead), scheduler)
