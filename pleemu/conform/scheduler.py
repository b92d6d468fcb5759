"""`pleemu-<scheduler>-1`: every integer of the scheduler after each operation, recorded from Linux.

One format for each version of `pleemu.kernel`: CFS of 5.6.4, EEVDF of 6.6.87, 6.12.0 and 6.12.117.
Nothing recorded is adopted: where several tasks of eevdf-6.6 are equally good, too, the choice
must be the kernel's.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import attrs
import numpy as np
from attrs import field, frozen

from pleemu.conform.vectors import ConformError, Difference, Format, Results, Word, structure
from pleemu.jit import callable_once
from pleemu.kernel import CFS, EEVDF, SCHEDULERS
from pleemu.machine.tunables import tunables_of
from pleemu.scheduler import core
from pleemu.scheduler.records import RQ, TASK, TASK_INTERRUPTIBLE, TASK_RUNNING, sched_init
from pleemu.scheduler.weights import INVERSE_WEIGHTS, WEIGHTS

_fork = callable_once(core.wake_up_new_task)
_wake = callable_once(core.try_to_wake_up)
_migrate = callable_once(core.migrate_task)
_pick = callable_once(core.pick_next_task)
_tick = callable_once(core.scheduler_tick)
_yield_to = callable_once(core.yield_to)
_sched_yield = callable_once(core.sched_yield)

_NOT_APPLICABLE = -1000
_LIMIT = 1024  # tasks and CPUs

# Operation -> what its operands are: CPUs (C), tasks (T) and times (n).
_OPERATIONS = {
    "adv": "n", "new": "TC", "tick": "C", "sched": "C", "sleep": "C",
    "wake": "TC", "yield": "C", "yield_to": "CT", "migrate": "TC",
}  # fmt: skip


@frozen
class CfsParams:
    """The tunables of CFS, in ns."""

    latency: Word
    min_gran: Word
    wakeup_gran: Word
    nr_latency: Word


@frozen
class EevdfParams:
    """The tunables of EEVDF, in ns."""

    base_slice: Word
    tick_nsec: Word


_PARAMS: dict[str, Any] = {CFS: CfsParams, EEVDF: EevdfParams}

# Key of a recording -> field of the record TUNABLES, where they are not the same.
_TUNABLES = {"min_gran": "min_granularity", "wakeup_gran": "wakeup_granularity"}


@frozen
class Scenario:
    """A machine, its operations and the state after each."""

    seed: int
    kind: str
    ncpu: int
    t0: Word
    nice: list[int]
    params: Any
    ops: list[list[Any]]
    states: list[dict[str, Any]]
    features: str = field(default="", kw_only=True)  # unlike the defaults, as in `NEXT_BUDDY NO_PLACE_LAG`


@frozen
class CfsScenario(Scenario):
    """A machine with CFS."""

    params: CfsParams


@frozen
class EevdfScenario(Scenario):
    """A machine with EEVDF."""

    params: EevdfParams


class Host(NamedTuple):
    """The records that the scheduler works on."""

    task: Any
    rq: Any
    tunables: Any


class Machine:
    """One scenario's host, changed operation by operation."""

    def __init__(self, scheduler: str, scenario: Scenario) -> None:
        tasks, cpus = len(scenario.nice), scenario.ncpu
        self.version = SCHEDULERS[scheduler]
        self.is_eevdf = self.version.model == EEVDF
        self.host = Host(
            np.zeros(tasks, TASK).view(np.recarray),
            np.zeros(cpus, RQ).view(np.recarray),
            tunables_of(self.version, cpus=1, hz=250, features=scenario.features),
        )
        self.born = [False] * tasks
        self.now: int = scenario.t0
        task, rq, tunables = self.host.task, self.host.rq, self.host.tunables
        task.cpu = -1
        task.weight = [WEIGHTS[nice + 20] for nice in scenario.nice]
        task.inverse_weight = [INVERSE_WEIGHTS[nice + 20] for nice in scenario.nice]
        sched_init(rq)
        for name, value in attrs.asdict(scenario.params).items():
            tunables[_TUNABLES.get(name, name)] = value
        if scheduler == "eevdf-6.6":
            task.slice = tunables.base_slice  # from birth on; later versions set it at the first placement

    @classmethod
    def of(cls, scheduler: str, nice: list[int], *, cpus: int = 1, online_cpus: int = 1, hz: int = 250) -> Machine:
        """Return a machine as its kernel sets it up, at time 0: ``nice`` has one value a task, none of them born."""
        values = SCHEDULERS[scheduler].tunables(cpus=online_cpus, hz=hz)
        params = _PARAMS[SCHEDULERS[scheduler].model]
        given = {name: values[_TUNABLES.get(name, name)] for name in attrs.fields_dict(params)}
        return cls(scheduler, Scenario(0, "", cpus, Word(0), nice, params(**given), [], []))

    def apply(self, op: list[Any]) -> int:
        """Apply one operation; return its result as the recording has it."""
        return int(getattr(self, f"_{op[0]}")(*op[1:]))

    def _adv(self, ns: int) -> int:
        self.now += ns
        return 0

    def _new(self, task: int, cpu: int) -> int:
        _fork(self.host, cpu, task, self.now)
        self.born[task] = True
        return 0

    def _tick(self, cpu: int) -> int:
        _tick(self.host, cpu, self.now)
        return 0

    def _sched(self, cpu: int) -> int:
        _pick(self.host, cpu, self.now)
        return 0

    def _sleep(self, cpu: int) -> int:
        curr = self.host.rq.curr[cpu]
        if curr < 0:
            return _NOT_APPLICABLE
        self.host.task.state[curr] = TASK_INTERRUPTIBLE
        return self._sched(cpu)

    def _wake(self, task: int, cpu: int) -> int:
        if not self.born[task] or self.host.task.state[task] == TASK_RUNNING:
            return _NOT_APPLICABLE
        delayed = int(self.host.task.sched_delayed[task])
        _wake(self.host, cpu, task, self.now)
        return delayed

    def _yield(self, cpu: int) -> int:
        if self.host.rq.curr[cpu] < 0:
            return _NOT_APPLICABLE
        _sched_yield(self.host, cpu, self.now)
        return self._sched(cpu)

    def _yield_to(self, cpu: int, task: int) -> int:
        curr = self.host.rq.curr[cpu]
        if curr < 0 or not self.born[task] or curr == task:
            return _NOT_APPLICABLE
        result = int(_yield_to(self.host, cpu, task, self.now))
        if result == 1:
            self._sched(cpu)
        return result

    def _migrate(self, task: int, cpu: int) -> int:
        se = self.host.task[task]
        queued = self.born[task] and se.on_rq and not se.sched_delayed
        if not queued or self.host.rq.curr[se.cpu] == task or se.cpu == cpu:
            return _NOT_APPLICABLE
        _migrate(self.host, cpu, task, self.now)
        return 0

    def state(self, result: int) -> dict[str, Any]:
        """The complete state, in the keys of the recording."""
        task, rq = self.host.task, self.host.rq
        state = {
            "r": result,
            "t": self.now,
            "cpu": [self._queue(r) for r in rq],
            "v": task.vruntime.tolist(),
            "sum": task.sum_exec_runtime.tolist(),
            "prev": task.prev_sum_exec_runtime.tolist(),
            "es": task.exec_start.tolist(),
            "on": task.cpu.tolist(),
            "st": [self._life(t) for t in range(len(task))],
        }
        if self.is_eevdf:
            state |= {
                "dl": task.deadline.tolist(),
                "lag": task.vlag.tolist(),
                "slice": task.slice.tolist(),
                "rel": task.rel_deadline.tolist(),
            }
        return state

    def _queue(self, r: Any) -> dict[str, Any]:
        task = self.host.task
        queue = {
            "curr": int(r.curr),
            "nr": int(r.nr_running),
            "nresched": int(r.need_resched),
            "next": int(r.next),
            "load": int(r.load) << 10,
            "tree": in_order(task, r.root),
            "mru": along(task, r.mru_head),
        }
        if self.is_eevdf:
            return queue | {"v0": int(r.min_vruntime), "avg": int(r.avg_vruntime), "avgload": int(r.avg_load)}
        return queue | {"minv": int(r.min_vruntime), "last": int(r.last), "skip": int(r.skip)}

    def _life(self, t: int) -> int:
        if not self.born[t]:
            return 0
        if self.host.task.state[t] == TASK_INTERRUPTIBLE:
            return 4 if self.host.task.sched_delayed[t] else 3
        return 1 if self.host.rq.curr[self.host.task.cpu[t]] == t else 2


def in_order(task: Any, root: int) -> list[int]:
    """Return the tasks of a tree, first to last."""
    if root < 0:
        return []
    left, right = task.child[root]
    return [*in_order(task, left), int(root), *in_order(task, right)]


def along(task: Any, head: int) -> list[int]:
    """Return the tasks of rq->cfs_tasks from its head on."""
    tasks = []
    while head >= 0:
        tasks.append(int(head))
        head = task.mru_next[head]
    return tasks


def replay(scheduler: str, data: Mapping[str, Any]) -> Results:
    """Apply all operations of every scenario."""
    for number, given in enumerate(data["scenarios"]):
        place = f"scenarios[{number}]"
        scenario = structure(EevdfScenario if SCHEDULERS[scheduler].model == EEVDF else CfsScenario, given, place)
        _check(scenario, place)
        yield _difference(scheduler, scenario, number)


def _difference(scheduler: str, scenario: Scenario, number: int) -> Difference | None:
    machine = Machine(scheduler, scenario)
    for step, (op, recorded) in enumerate(zip(scenario.ops, scenario.states, strict=True)):
        rows = list(_differing(machine.state(machine.apply(op)), recorded))
        if rows:
            before = [f"  step {k}: {scenario.ops[k]}" for k in range(max(0, step - 4), step)]
            lines = [*before, f"  step {step}: {op}  <- the first state that differs:", *rows]
            return Difference(f"scenario {number} ({scenario.kind}, seed {scenario.seed})", "\n".join(lines))
    return None


def _differing(found: dict[str, Any], recorded: dict[str, Any]) -> list[str]:
    rows = [
        f"  {key}: recorded {recorded.get(key)}, here {found.get(key)}"
        for key in {**found, **recorded}
        if key != "cpu" and recorded.get(key) != found.get(key)
    ]
    for number, cpu in enumerate(found["cpu"]):
        known = recorded["cpu"][number]
        rows += [
            f"  cpu {number}.{key}: recorded {known.get(key)}, here {cpu.get(key)}"
            for key in {**cpu, **known}
            if known.get(key) != cpu.get(key)
        ]
    return rows


def _check(scenario: Scenario, place: str) -> None:
    tasks = len(scenario.nice)
    limits = {"C": scenario.ncpu - 1, "T": tasks - 1, "n": 2**62}
    if not (1 <= scenario.ncpu <= _LIMIT and tasks <= _LIMIT and all(-20 <= nice <= 19 for nice in scenario.nice)):
        raise ConformError(f"1 to {_LIMIT} CPUs and at most {_LIMIT} tasks of nice -20 to 19 are right @ {place}")
    if len(scenario.ops) != len(scenario.states):
        raise ConformError(f"{len(scenario.states)} states of {len(scenario.ops)} operations @ {place}.states")
    for number, state in enumerate(scenario.states):
        cpus = state.get("cpu")
        if not isinstance(cpus, list) or len(cpus) != scenario.ncpu or not all(isinstance(one, dict) for one in cpus):
            raise ConformError(f"a list of {scenario.ncpu} CPUs is right @ {place}.states[{number}].cpu")
    born = set()
    now: int = scenario.t0
    for number, op in enumerate(scenario.ops):
        kinds = _OPERATIONS.get(op[0]) if op and isinstance(op[0], str) else None
        if kinds is None or len(op) != len(kinds) + 1:
            raise ConformError(f"{op} is no operation; known are {', '.join(_OPERATIONS)} @ {place}.ops[{number}]")
        for kind, value in zip(kinds, op[1:], strict=True):
            if type(value) is not int or not 0 <= value <= limits[kind]:
                raise ConformError(f"{op} names what is not there @ {place}.ops[{number}]")
        if op[0] == "new" and op[1] in born:
            raise ConformError(f"{op} creates a task a second time @ {place}.ops[{number}]")
        born |= {op[1]} if op[0] == "new" else set()
        now += op[1] if op[0] == "adv" else 0
        if now >= 2**63:
            raise ConformError(f"{op} advances the clock to {now}, beyond 64 bits @ {place}.ops[{number}]")


FORMATS = tuple(
    Format(f"pleemu-{name}-1", f"{version.model} of Linux {version.kernel}", "scenarios", partial(replay, name))
    for name, version in SCHEDULERS.items()
    if version.model in (CFS, EEVDF)
)
