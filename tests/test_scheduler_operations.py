"""The schedulers under random operations: what must hold whatever the recordings cover."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tree import check

from pleemu.conform.scheduler import CfsParams, EevdfParams, Machine, Scenario, along, in_order
from pleemu.kernel import EEVDF, SCHEDULERS

TASKS, CPUS = 8, 3
MS = 1_000_000

_task, _cpu = st.integers(0, TASKS - 1), st.integers(0, CPUS - 1)
OPERATIONS = st.one_of(
    st.tuples(st.just("adv"), st.sampled_from((0, 1, 50_000, 700_000, 3 * MS, 4 * MS, 30 * MS))),
    st.tuples(st.sampled_from(("sched", "sleep", "tick", "yield")), _cpu),
    st.tuples(st.sampled_from(("wake", "migrate")), _task, _cpu),
    st.tuples(st.just("yield_to"), _cpu, _task),
)


def host(name, nice=(0,) * TASKS, features="", *, cpus=CPUS, t0=10**15):
    """A machine with that scheduler, as 8 CPUs scale it."""
    values = SCHEDULERS[name].tunables(cpus=8, hz=250)
    if SCHEDULERS[name].model == EEVDF:
        params = EevdfParams(values["base_slice"], values["tick_nsec"])
    else:
        params = CfsParams(values["latency"], values["min_granularity"], values["wakeup_granularity"], 8)
    return Machine(name, Scenario(0, "", cpus, t0, list(nice), params, [], [], features=features))


def run(machine, *operations):
    """Apply operations; the last one's result."""
    result = 0
    for operation in operations:
        result = machine.apply(list(operation))
    return result


def started(name, tasks=TASKS, features="", *, cpus=1):
    """A machine whose tasks have all been born on CPU 0, the first of them running."""
    machine = host(name, (0,) * tasks, features, cpus=cpus)
    run(machine, *(("new", task, 0) for task in range(tasks)), ("sched", 0))
    return machine


def eligible(m, q, task):
    """By the definition: the sum over all that are queued of (vruntime - the task's) * weight is not negative."""
    queued = along(m.task, m.rq[q].mru_head)
    return sum(int(m.task[k].vruntime - m.task[task].vruntime) * int(m.task[k].weight) for k in queued) >= 0


def best_deadline(m, q):
    """The first deadline of the eligible tasks of a queue."""
    return min(int(m.task[k].deadline) for k in along(m.task, m.rq[q].mru_head) if eligible(m, q, k))


def check_queue(m, q, *, eevdf, by_deadline):
    """What the fields of a run queue say of each other."""
    rq = m.rq[q]
    queued = along(m.task, rq.mru_head)
    waiting = in_order(m.task, rq.root)
    assert sorted(queued) == sorted([*waiting, *([int(rq.curr)] if rq.curr >= 0 else [])])
    assert queued == along_back(m, rq.mru_tail)[::-1]
    assert all(m.task[k].on_rq == 1 and m.task[k].cpu == q for k in queued)
    assert rq.nr_running == len(queued)
    assert rq.load == sum(int(m.task[k].weight) for k in queued)
    key, other = ("deadline", "vruntime") if by_deadline else ("vruntime", "deadline")
    assert check(m, int(rq.root), key, other)[1] == waiting
    assert rq.leftmost == (waiting[0] if waiting else -1)
    assert all(rq[buddy] == -1 or rq[buddy] in queued for buddy in ("next", "last", "skip"))
    if eevdf:
        weights = [int(m.task[k].weight) for k in waiting]
        assert rq.avg_load == sum(weights)
        assert rq.avg_vruntime == sum(
            int(m.task[k].vruntime - rq.min_vruntime) * w for k, w in zip(waiting, weights, strict=True)
        )
        assert not queued or any(eligible(m, q, k) for k in queued)


def along_back(m, tail):
    found = []
    while tail >= 0:
        found.append(int(tail))
        tail = m.task[tail].mru_prev
    return found


@pytest.mark.parametrize("name", SCHEDULERS)
@settings(deadline=None, max_examples=40)
@given(
    nice=st.one_of(st.just([0] * TASKS), st.lists(st.integers(-20, 19), min_size=TASKS, max_size=TASKS)),
    homes=st.lists(_cpu, min_size=TASKS, max_size=TASKS),
    operations=st.lists(OPERATIONS, max_size=50),
)
def test_a_queue_stays_whole_and_the_best_is_picked(name, nice, homes, operations):
    """Sums, counts, lists and trees agree; EEVDF picks by its definition; nobody is on two queues."""
    machine = host(name, nice)
    m, tunables = machine.host, machine.host.tunables[0]
    eevdf = SCHEDULERS[name].model == EEVDF
    for operation in [*(("new", task, cpu) for task, cpu in enumerate(homes)), *operations]:
        run(machine, operation)
        for q in range(CPUS):
            check_queue(m, q, eevdf=eevdf, by_deadline=tunables.deadline_order == 1)
        assert sum(int(rq.nr_running) for rq in m.rq) == sum(int(se.on_rq) for se in m.task)
        if eevdf and operation[0] == "sched":
            rq = m.rq[operation[1]]
            if rq.curr >= 0 and rq.next < 0 and m.task[rq.curr].exec_start == machine.now:
                assert eligible(m, operation[1], rq.curr)
        if eevdf and operation[0] == "sleep" and m.rq[operation[1]].next < 0 and m.rq[operation[1]].curr >= 0:
            assert m.task[m.rq[operation[1]].curr].deadline == best_deadline(m, operation[1])


@pytest.mark.parametrize("name", ["eevdf-6.12.0", "eevdf-6.12"])
def test_a_delayed_sleeper_counts_until_it_is_picked(name):
    """It is asleep, on the queue and in nr_running; waking it leaves it there, yield_to does nothing to it."""
    machine = started(name, 3, cpus=2)
    m = machine.host
    sleeper = int(m.rq.curr[0])
    other = (sleeper + 1) % 3
    run(machine, ("adv", 2 * MS), ("sleep", 0))
    assert (m.task.sched_delayed[sleeper], m.task.on_rq[sleeper], m.rq.nr_running[0]) == (1, 1, 3)
    assert run(machine, ("yield_to", 0, sleeper)) in (0, -1000)
    assert run(machine, ("wake", sleeper, 1)) == 1  # CPU 1 is not asked
    assert (m.task.sched_delayed[sleeper], m.task.cpu[sleeper], m.rq.nr_running[1]) == (0, 0, 0)
    run(machine, ("adv", MS), ("sched", 0), ("sleep", 0), *[("adv", 9 * MS), ("sched", 0)] * 3)
    assert m.task.sched_delayed.sum() == 0
    assert m.rq.nr_running[0] == m.task.on_rq.sum() == 2
    assert other in range(3)


@pytest.mark.parametrize("name", ["eevdf-6.12.0", "eevdf-6.12"])
def test_the_last_sleeper_leaves_an_idle_cpu(name):
    """When all others sleep a delayed sleeper is picked, dequeued, and the CPU is idle."""
    machine = started(name, 2)
    m = machine.host
    run(machine, ("adv", 2 * MS), ("sleep", 0))
    assert m.task.sched_delayed.sum() == 1
    run(machine, ("adv", MS // 10), ("sleep", 0))
    assert m.rq.curr[0] == -1
    assert m.rq.nr_running[0] == m.task.sched_delayed.sum() == m.task.on_rq.sum() == 0
    assert run(machine, ("tick", 0)) == 0
    assert m.rq.root[0] == m.rq.mru_head[0] == -1


@pytest.mark.parametrize("name", ["eevdf-6.12.0", "eevdf-6.12"])
def test_a_dying_task_is_not_delayed(name):
    """Only who sleeps waits for the others."""
    machine = started(name, 2)
    m = machine.host
    run(machine, ("adv", 2 * MS))
    m.task.state[m.rq.curr[0]] = 2  # TASK_DEAD
    run(machine, ("sched", 0))
    assert m.task.sched_delayed.sum() == 0
    assert m.rq.nr_running[0] == 1


# Features: what changes when one is turned, each in one scene.


NAMES = ("sched", "sched", "tick", "tick", "yield", "yield_to", "yield_to", "sleep", "wake", "wake", "migrate")
WITHOUT_EFFECT = {
    *((name, "CACHE_HOT_BUDDY") for name in SCHEDULERS),  # asked by the load balancer alone
    ("eevdf-6.6", "PLACE_DEADLINE_INITIAL"),  # a new task is placed a second time
}


def scene(name, features, seed):
    """All states of a long scene with everything in it."""
    random = Random(seed)
    cpus = 1 + seed % 2
    tasks = 3 if seed % 3 == 0 else 12
    machine = host(name, random.choices((0, 0, -5, 5), k=tasks), features, cpus=cpus)
    run(machine, *(("new", task, task % cpus) for task in range(tasks)))
    states = []
    for _ in range(150):
        operation, task, cpu = random.choice(NAMES), random.randrange(tasks), random.randrange(cpus)
        operands = {"wake": (task, cpu), "migrate": (task, cpu), "yield_to": (cpu, task)}.get(operation, (cpu,))
        result = run(machine, ("adv", random.choice((0, 50_000, MS, 4 * MS))), (operation, *operands))
        states.append(machine.state(result))
    return states


@pytest.mark.parametrize(("name", "feature"), [(n, f) for n, s in SCHEDULERS.items() for f in s.defaults])
def test_every_feature_has_an_effect(name, feature):
    """Turned it makes a difference, turned back none."""
    default = SCHEDULERS[name].defaults[feature]
    turned, back = (f"NO_{feature}", feature) if default else (feature, f"NO_{feature}")
    assert scene(name, f"{turned} {back}", 1) == scene(name, "", 1)
    differs = any(scene(name, "", seed) != scene(name, turned, seed) for seed in range(20))
    assert differs == ((name, feature) not in WITHOUT_EFFECT)


def vruntimes(machine):
    return machine.host.task.vruntime.tolist()


def test_cfs_features():
    """One scene each: a debt of a slice, a credit of a latency or half, a last buddy, a wake-up that waits."""
    assert vruntimes(started("cfs-5.6", 2, "NO_START_DEBIT")) == [0, 0]
    assert vruntimes(started("cfs-5.6", 2))[1] > 10 * MS
    slept = []
    for features in ("", "NO_GENTLE_FAIR_SLEEPERS"):
        machine = started("cfs-5.6", 2, features)
        sleeper = int(machine.host.rq.curr[0])
        run(machine, ("sleep", 0), ("adv", 500 * MS), ("tick", 0), ("wake", sleeper, 0))
        slept.append(int(machine.host.rq.min_vruntime[0]) - vruntimes(machine)[sleeper])
    assert slept == [12 * MS, 24 * MS]
    for features, preempts, last in (("", 1, 1), ("NO_LAST_BUDDY", 1, 0), ("NO_WAKEUP_PREEMPTION", 0, 0)):
        machine = started("cfs-5.6", TASKS, features)
        sleeper = int(machine.host.rq.curr[0])
        run(
            machine, ("sleep", 0), ("adv", 500 * MS), ("tick", 0), ("sched", 0), ("adv", 500 * MS), ("wake", sleeper, 0)
        )
        rq = machine.host.rq[0]
        assert (rq.need_resched, rq.last >= 0) == (preempts, last)


@pytest.mark.parametrize(
    ("name", "features", "followed"),
    [
        ("eevdf-6.6", "", False),
        ("eevdf-6.6", "NEXT_BUDDY", True),
        ("eevdf-6.12.0", "", False),
        ("eevdf-6.12.0", "NEXT_BUDDY", True),
        ("eevdf-6.12", "", True),
        ("eevdf-6.12", "NO_PICK_BUDDY", False),
        ("eevdf-6.12", "NO_PICK_BUDDY NEXT_BUDDY", False),
    ],
)
def test_the_hint_of_a_directed_yield(name, features, followed):
    """Between equals yield_to's target runs next if the buddy counts; before 6.12.117 it does not unless asked for."""
    machine = started(name, 4, features)
    run(machine, ("adv", 100_000))
    target = 3 if machine.host.rq.curr[0] != 3 else 2
    assert run(machine, ("yield_to", 0, target)) == 1
    assert bool(machine.host.rq.curr[0] == target) is followed


def test_eevdf_requests():
    """A new task has half a slice (6.6: a whole one); a migrated one keeps what is left (6.6: starts anew)."""
    for name, half in (("eevdf-6.6", 1), ("eevdf-6.12.0", 2), ("eevdf-6.12", 2)):
        machine = started(name, 3, cpus=2)
        m = machine.host
        full = int(m.tunables[0].base_slice)
        assert (m.task.deadline - m.task.vruntime).tolist() == [full // half] * 3
        run(machine, ("migrate", 2, 1))
        assert m.task.deadline[2] - m.task.vruntime[2] == full // half
        for features, left in (("", full // half), ("NO_PLACE_REL_DEADLINE", full)):
            if name != "eevdf-6.6" or not features:
                machine = started(name, 3, features, cpus=2)
                run(machine, ("migrate", 2, 1))
                task = machine.host.task[2]
                assert task.deadline - task.vruntime == left
