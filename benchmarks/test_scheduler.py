"""How long one operation of the scheduler takes, by the length of the run queue.

Run with `python -m pytest benchmarks/test_scheduler.py -s`. Each operation is done many
times inside compiled code, as the core does it. No assertion: the figures are printed.
"""

from __future__ import annotations

from collections import namedtuple
from time import perf_counter_ns

import numpy as np
import pytest

from pleemu.handle import pointer_to
from pleemu.jit import callable_alone, compiled
from pleemu.kernel import SCHEDULERS
from pleemu.machine.tunables import tunables_of
from pleemu.scheduler import core
from pleemu.scheduler.records import RQ, TASK, TASK_INTERRUPTIBLE, sched_init

Host = namedtuple("Host", "task rq tunables")
LENGTHS = (2, 8, 64, 512)
STEP = 50_000  # ns from operation to operation


@compiled
def start(m, tasks):
    """All tasks are born on CPU 0."""
    for task in range(tasks):
        core.wake_up_new_task(m, 0, task, 0)
    core.pick_next_task(m, 0, 0)


def yields(machine, tasks, rounds):
    """yield_to, then pick."""
    m = pointer_to(machine)
    start(m, tasks)
    for k in range(rounds):
        now = (k + 1) * STEP
        core.yield_to(m, 0, k % tasks, now)
        core.pick_next_task(m, 0, now)


def sleeps(machine, tasks, rounds):
    """Who sleeps wakes two steps later."""
    m = pointer_to(machine)
    start(m, tasks)
    asleep = -1
    for k in range(rounds):
        now = (k + 1) * STEP
        curr = m.rq[0].curr
        if curr >= 0:
            m.task[curr].state = TASK_INTERRUPTIBLE
        core.pick_next_task(m, 0, now)
        if asleep >= 0:
            core.try_to_wake_up(m, 0, asleep, now)
        asleep = curr


def ticks(machine, tasks, rounds):
    """A tick, and a pick if it asks for one."""
    m = pointer_to(machine)
    start(m, tasks)
    for k in range(rounds):
        now = (k + 1) * STEP
        core.scheduler_tick(m, 0, now)
        if m.rq[0].need_resched == 1:
            core.pick_next_task(m, 0, now)


def migrations(machine, tasks, rounds):
    """The last waiting task of rq->cfs_tasks goes to the idle CPU 1, and comes back."""
    m = pointer_to(machine)
    start(m, tasks)
    for k in range(rounds):
        q = k & 1
        task = m.rq[q].mru_tail
        if task == m.rq[q].curr:
            task = m.task[task].mru_prev
        core.migrate_task(m, 1 - q, task, (k + 1) * STEP)


OPERATIONS = {
    "yield_to + pick": yields, "sleep + wake": sleeps, "tick": ticks, "migrate": migrations,
}  # fmt: skip


@pytest.fixture(scope="module")
def operations():
    return {name: callable_alone(function) for name, function in OPERATIONS.items()}


def host(name, tasks):
    m = Host(
        np.zeros(tasks, TASK).view(np.recarray),
        np.zeros(2, RQ).view(np.recarray),
        tunables_of(SCHEDULERS[name], cpus=8, hz=250),
    )
    sched_init(m.rq)
    m.task.weight, m.task.inverse_weight, m.task.state = 1024, 4194304, TASK_INTERRUPTIBLE
    return m


@pytest.mark.parametrize("name", SCHEDULERS)
def test_scheduler(operations, name):
    """Nanoseconds an operation; the last column is how much more 512 tasks take than 8."""
    print(f"\n{name:17}" + "".join(f"{length:>8}" for length in LENGTHS) + "   512 : 8")
    for what, function in operations.items():
        spent = [per_operation(function, name, length) for length in LENGTHS]
        shown = "".join(f"{ns:8.0f}" for ns in spent)
        print(f"{what:17}{shown}{spent[3] / spent[1]:10.1f}")


def per_operation(function, name, length, rounds=100_000):
    function(host(name, length), length, 10)  # compiles
    spent = []
    for _ in range(3):
        machine = host(name, length)
        before = perf_counter_ns()
        function(machine, length, rounds)
        spent.append((perf_counter_ns() - before) / rounds)
    return min(spent)
