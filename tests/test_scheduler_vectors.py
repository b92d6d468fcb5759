"""CFS against the scheduler functions of Linux 5.6.4, recorded state by state."""

import gzip
import json
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from pleemu.jit import callable_alone
from pleemu.scheduler import core
from pleemu.scheduler.records import (
    MIN_VRUNTIME_AT_BOOT,
    RQ,
    TASK,
    TASK_INTERRUPTIBLE,
    TASK_RUNNING,
    TUNABLES,
)
from pleemu.scheduler.weights import INVERSE_WEIGHTS, WEIGHTS

VECTORS = Path(__file__).parent / "vectors" / "cfs-5.6.json.gz"
SCENARIOS = json.loads(gzip.decompress(VECTORS.read_bytes()))["scenarios"]

Host = namedtuple("Host", "task rq tree tunables")

fork = callable_alone(core.wake_up_new_task)
wake = callable_alone(core.try_to_wake_up)
migrate = callable_alone(core.migrate_task)
pick = callable_alone(core.pick_next_task)
tick = callable_alone(core.scheduler_tick)
yield_to = callable_alone(core.yield_to)
sched_yield = callable_alone(core.cfs.yield_task_fair)

NOT_APPLICABLE = -1000


class Replay:
    """One recorded scenario, replayed operation by operation."""

    def __init__(self, scenario):
        tasks, cpus = len(scenario["nice"]), scenario["ncpu"]
        self.host = Host(
            np.zeros(tasks, TASK).view(np.recarray),
            np.zeros(cpus, RQ).view(np.recarray),
            np.zeros((cpus, tasks), np.int64),
            np.zeros(1, TUNABLES).view(np.recarray),
        )
        self.born = [False] * tasks
        self.now = scenario["t0"]
        task, rq, tunables = self.host.task, self.host.rq, self.host.tunables
        task.cpu = -1
        task.weight = [WEIGHTS[nice + 20] for nice in scenario["nice"]]
        task.inverse_weight = [INVERSE_WEIGHTS[nice + 20] for nice in scenario["nice"]]
        rq.curr = rq.next = rq.last = rq.skip = -1
        rq.min_vruntime = MIN_VRUNTIME_AT_BOOT
        params = scenario["params"]
        tunables.latency = params["latency"]
        tunables.min_granularity = params["min_gran"]
        tunables.wakeup_granularity = params["wakeup_gran"]
        tunables.nr_latency = params["nr_latency"]

    def apply(self, op):
        """Apply one operation; return its result as the recording has it."""
        return getattr(self, op[0])(*op[1:])

    def adv(self, ns):
        self.now += ns
        return 0

    def new(self, task, cpu):
        fork(self.host, cpu, task, self.now)
        self.born[task] = True
        return 0

    def tick(self, cpu):
        tick(self.host, cpu, self.now)
        return 0

    def sched(self, cpu):
        pick(self.host, cpu, self.now)
        return 0

    def sleep(self, cpu):
        curr = self.host.rq.curr[cpu]
        if curr < 0:
            return NOT_APPLICABLE
        self.host.task.state[curr] = TASK_INTERRUPTIBLE
        return self.sched(cpu)

    def wake(self, task, cpu):
        if not self.born[task] or self.host.task.state[task] == TASK_RUNNING:
            return NOT_APPLICABLE
        wake(self.host, cpu, task, self.now)
        return 0

    def yield_(self, cpu):
        if self.host.rq.curr[cpu] < 0:
            return NOT_APPLICABLE
        sched_yield(self.host, cpu, self.now)
        return self.sched(cpu)

    def yield_to(self, cpu, task):
        curr = self.host.rq.curr[cpu]
        if curr < 0 or not self.born[task] or curr == task:
            return NOT_APPLICABLE
        result = yield_to(self.host, cpu, task, self.now)
        if result == 1:
            self.sched(cpu)
        return result

    def migrate(self, task, cpu):
        se = self.host.task[task]
        if not self.born[task] or not se.on_rq or self.host.rq.curr[se.cpu] == task or se.cpu == cpu:
            return NOT_APPLICABLE
        migrate(self.host, cpu, task, self.now)
        return 0

    def state(self, result):
        """The complete state, in the keys of the recording (but `mru`, which only a load balancer reads)."""
        task, rq = self.host.task, self.host.rq
        cpus = [
            {
                "curr": int(r.curr),
                "nr": int(r.nr_running),
                "nresched": int(r.need_resched),
                "minv": int(r.min_vruntime),
                "next": int(r.next),
                "last": int(r.last),
                "skip": int(r.skip),
                "load": int(r.load) << 10,
                "tree": [int(k) for k in self.host.tree[c, : r.queued]],
            }
            for c, r in enumerate(rq)
        ]
        return {
            "r": result,
            "t": self.now,
            "cpu": cpus,
            "v": task.vruntime.tolist(),
            "sum": task.sum_exec_runtime.tolist(),
            "prev": task.prev_sum_exec_runtime.tolist(),
            "es": task.exec_start.tolist(),
            "on": task.cpu.tolist(),
            "st": [self._life(t) for t in range(len(task))],
        }

    def _life(self, t):
        if not self.born[t]:
            return 0
        if self.host.task.state[t] == TASK_INTERRUPTIBLE:
            return 3
        return 1 if self.host.rq.curr[self.host.task.cpu[t]] == t else 2


setattr(Replay, "yield", Replay.yield_)  # the operation is a Python keyword


def without_mru(state):
    """The recorded state less what no model here keeps."""
    return {**state, "cpu": [{k: v for k, v in cpu.items() if k != "mru"} for cpu in state["cpu"]]}


@pytest.mark.parametrize("number", range(len(SCENARIOS)))
def test_cfs_agrees_with_the_kernel_on_every_state(number):
    """After each operation every integer of the scheduler is the one of Linux 5.6.4."""
    scenario = SCENARIOS[number]
    replay = Replay(scenario)
    for step, (op, recorded) in enumerate(zip(scenario["ops"], scenario["states"], strict=True)):
        state = replay.state(replay.apply(op))
        assert state == without_mru(recorded), f"scenario {number} ({scenario['kind']}), step {step}: {op}"
