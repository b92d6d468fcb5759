"""Operations on the fair schedulers, made at random so that rare states happen, as scenarios of the vectors' form.

They are made against the reference: it knows who is delayed, who is about to be preempted, whose lag is negative, and
how long to wait until a comparison is decided by one nanosecond. Every operation is valid in every state, so that a
scenario remains one when operations are taken away from it (`reduced`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random

from reference.cfs import Cfs, cfs_params
from reference.eevdf import EEVDF, VERSIONS, Eevdf, eevdf_params
from reference.fair import Host, Queue, Task

REFERENCES: dict[str, type[Host]] = {"cfs-5.6": Cfs, **EEVDF}

US, MS = 1_000, 1_000_000
LARGEST = 2**61  # of what the kernel holds in 64 bits
RATES = (100, 250, 300, 1000)


def format_of(scheduler: str) -> str:
    """Return what a file says it holds."""
    return f"pleemu-{scheduler}-1"


def machine_of(
    scheduler: str, *, nice: list[int], ncpu: int = 1, online_cpus: int = 16, hz: int = 250, t0: int = 10**9
) -> dict:
    """Return a scenario without operations; `hz` is known to those who make ticks."""
    if scheduler == "cfs-5.6":
        params = cfs_params(online_cpus, hz)
    else:
        params = eevdf_params(VERSIONS[scheduler], online_cpus, hz)
    machine = {"ncpu": ncpu, "online_cpus": online_cpus, "hz": hz, "t0": t0, "nice": nice, "params": params}
    return {"seed": 0, "kind": "made", **machine, "ops": [], "states": []}


def made_machine(scheduler: str, random: Random) -> dict:
    """Return a machine of any size; every second one has features switched at random."""
    nices = random.choice(([0], [0], [0, 0, 5, -5], range(-20, 20), [-20, 19], [random.randrange(-20, 20)]))
    scenario = machine_of(
        scheduler,
        nice=[random.choice(nices) for _ in range(random.choice((random.randint(1, 12), 3, 12)))],
        ncpu=random.choice((1, 1, 2, 3, 4)),
        online_cpus=random.randint(1, 16),
        hz=random.choice(RATES),
        t0=random.choice((0, 1, 10**9, random.randrange(10**15))),
    )
    if random.random() < 0.5:
        reference = REFERENCES[scheduler]
        unlike = {one for one in reference.KNOWN_FEATURES if random.random() < 0.3}
        scenario["features"] = sorted(reference.FEATURES ^ unlike)
    return scenario


def made_scenario(scheduler: str, seed: int, *, length: int = 300) -> dict:
    """Return a scenario of up to so many operations, without states."""
    random = Random(f"{scheduler} {seed}")
    scenario = made_machine(scheduler, random) | {"seed": seed}
    maker = Maker(REFERENCES[scheduler].of(scenario), random, 10**9 // scenario["hz"])
    wanted = random.randint(1, length)
    while len(maker.ops) < wanted and maker.in_range():
        maker.phase()
    return scenario | {"ops": maker.ops[:wanted]}


class Maker:
    """Makes operations phase by phase; in each phase other things happen often."""

    def __init__(self, host: Host, random: Random, tick_ns: int) -> None:
        self.host, self.random, self.tick_ns = host, random, tick_ns
        self.ops: list[list] = []
        self.acts = (
            *(self.advance, self.advance_to_a_boundary, self.ticks, self.birth, self.sched, self.sleep, self.wake),
            *(self.hand_over, self.storm, self.migrate, self.overrun_and_sleep, self.delayed, self.together),
            *(self.run_dry, self.anything, self.wake_at_once),
        )

    def do(self, *op) -> None:
        """One operation."""
        self.ops.append(list(op))
        self.host.apply(list(op))

    def in_range(self) -> bool:
        """Whether the products that decide who is eligible fit into 64 bits."""
        longest = max((abs(task.v - queue.v0) for queue in self.host.queues for task in queue.queued), default=0)
        return longest * max(1, sum(task.weight for task in self.host.tasks)) < LARGEST

    def phase(self) -> None:
        """Some acts, of which a few are likely."""
        if not self.host.tasks[0].born or self.random.random() < 0.5:
            self.birth()
        if self.random.random() < 0.5:
            self.wake_many()
        weights = [self.random.choice((0, 0, 1, 1, 3, 9)) for _ in self.acts]
        for act in self.random.choices(self.acts, [weight + 0.1 for weight in weights], k=self.random.randint(3, 15)):
            act()

    # Whom it concerns. ------------------------------------------------------------------------------------------------

    def cpu(self) -> int:
        """Any CPU, more likely one that runs something."""
        busy = [queue.cpu for queue in self.host.queues if queue.curr]
        return self.random.choice(busy) if busy and self.random.random() < 0.8 else self.any_cpu()

    def any_cpu(self) -> int:
        return self.random.randrange(len(self.host.queues))

    def task_that(self, wanted: Callable[[Task], bool]) -> int:
        """Any task of which that is true; if there is none or by chance, any at all."""
        some = [task.id for task in self.host.tasks if task.born and wanted(task)]
        if some and self.random.random() < 0.95:
            return self.random.choice(some)
        return self.random.randrange(len(self.host.tasks))

    def waits(self, task: Task) -> bool:
        """Queued, not delayed, and not running."""
        return not task.asleep and self.host.queues[task.cpu].curr is not task

    # What happens. ----------------------------------------------------------------------------------------------------

    def advance(self) -> None:
        self.do("adv", self.some_time())

    def some_time(self) -> int:
        longest = self.random.choice((0, 4, 1000, 100 * US, MS, 4 * MS, 4 * MS, 12 * MS, 30 * MS, 100 * MS))
        if self.random.random() < 0.01:
            longest = 2000 * MS
        return self.random.randint(0, longest)

    def advance_to_a_boundary(self) -> None:
        """Wait until the current is as far ahead as some rule allows; 1 ns less; 1 ns more. Then ask who is to run."""
        queue = self.host.queues[self.cpu()]
        if queue.curr:
            away = self.random.choice(list(self.boundaries(queue, queue.curr)))
            away += self.host.now - queue.curr.es if self.random.random() < 0.3 else 0
            self.do("adv", min(2000 * MS, max(0, away + self.random.choice((-1, 0, 0, 1)))))
        self.ask(queue.cpu)

    def boundaries(self, queue: Queue, curr: Task):
        """Distances, in wall time from exec_start, to what the next comparisons are about."""
        waited = self.host.now - curr.es

        def until(v: int) -> int:
            return (v - curr.v) * curr.weight // 1024 - waited

        yield self.tick_ns - self.host.now % self.tick_ns
        if isinstance(self.host, Eevdf):
            yield until(curr.dl)
            if queue.tree:
                total, load = self.host.tree_sums(queue)
                yield until(queue.v0 + total // load)  # it ceases to be eligible
                yield until(queue.tree[0].dl)
                yield until(queue.tree[0].v)
            return
        yield self.host.slice(queue, curr) - (curr.sum - curr.prev) - waited
        yield self.host.min_gran - (curr.sum - curr.prev) - waited
        for task in queue.tree:
            yield until(task.v)
            yield until(task.v + task.fair(self.host.wakeup_gran))

    def ask(self, cpu: int) -> None:
        """Something that compares."""
        number = self.task_that(self.waits)
        op = self.random.choice((["tick", cpu], ["sched", cpu], ["yield", cpu], ["yield_to", cpu, number]))
        self.do(*op)
        if self.host.queues[cpu].need_resched and self.random.random() < 0.8:
            self.do("sched", cpu)

    def ticks(self) -> None:
        """Periodic ticks, sometimes missed on some CPU, with the reschedules that they ask for."""
        for _ in range(self.random.randint(1, 6)):
            self.do("adv", self.tick_ns - self.host.now % self.tick_ns)
            for queue in self.host.queues:
                if self.random.random() < 0.9:
                    self.do("tick", queue.cpu)
                if queue.need_resched and self.random.random() < 0.9:
                    self.do("sched", queue.cpu)

    def birth(self) -> None:
        unborn = [task.id for task in self.host.tasks if not task.born]
        for number in unborn[: self.random.choice((1, 1, 2, 12))]:
            self.do("new", number, self.any_cpu())
            if self.random.random() < 0.3:
                self.ask(self.host.tasks[number].cpu)

    def wake_many(self) -> None:
        """Half of those who sleep, each where it slept or elsewhere; then all CPUs run something."""
        for task in self.host.tasks:
            if task.asleep and self.random.random() < 0.5:
                self.do("wake", task.id, self.any_cpu() if self.random.random() < 0.5 else task.cpu)
        for queue in self.host.queues:
            if queue.queued and not queue.curr:
                self.do("sched", queue.cpu)

    def together(self) -> None:
        """Several join one queue at one instant: equal vruntimes, equal deadlines."""
        cpu = self.any_cpu()
        for task in self.host.tasks:
            if task.asleep:
                self.do("wake", task.id, cpu)
            elif task.born and task.cpu != cpu and self.random.random() < 0.5:
                self.do("migrate", task.id, cpu)
        self.do("sched", cpu)

    def sched(self) -> None:
        needy = [queue.cpu for queue in self.host.queues if queue.need_resched]
        self.do("sched", self.random.choice(needy) if needy else self.cpu())

    def sleep(self) -> None:
        self.do("sleep", self.cpu())

    def wake(self) -> None:
        number = self.task_that(lambda task: task.asleep)
        cpu = self.any_cpu() if self.random.random() < 0.5 else max(0, self.host.tasks[number].cpu)
        self.do("wake", number, cpu)
        if self.random.random() < 0.7:
            self.do("sched", cpu)

    def wake_at_once(self) -> None:
        """Sleep, and wake before much has happened; here or there."""
        queue = self.host.queues[self.cpu()]
        curr = queue.curr
        self.do("sleep", queue.cpu)
        if curr:
            self.do("adv", self.random.choice((0, 1, self.some_time())))
            self.do("wake", curr.id, self.any_cpu())

    def hand_over(self) -> None:
        self.do("yield_to", self.cpu(), self.task_that(self.waits))

    def storm(self) -> None:
        """Everybody yields to one task, every so often."""
        number = self.task_that(self.random.choice((self.waits, self.waits, lambda task: True)))
        period = self.random.choice((0, 1, 50 * US, 100 * US, MS))
        for _ in range(self.random.randint(2, 15)):
            self.do("adv", period)
            cpu = self.cpu()
            if self.host.queues[cpu].curr is self.host.tasks[number]:
                self.do("adv", self.tick_ns)
                self.do("sched", cpu)
            self.do("yield_to", cpu, number)
            if self.random.random() < 0.2:
                self.sched()

    def migrate(self) -> None:
        number = self.task_that(self.waits)
        elsewhere = [queue.cpu for queue in self.host.queues if queue.cpu != self.host.tasks[number].cpu]
        if elsewhere:
            self.do("migrate", number, self.random.choice(elsewhere))

    def overrun_and_sleep(self) -> None:
        """Sleep with negative lag: in 6.12 the task stays queued."""
        cpu = self.cpu()
        self.do("adv", self.random.choice((MS, 4 * MS, 20 * MS, self.some_time())))
        self.do("sleep", cpu)

    def delayed(self) -> None:
        """Whatever can befall a task that is asleep and still queued; the others may catch up with it before."""
        some = [task for task in self.host.tasks if task.delayed]
        if not some:
            self.overrun_and_sleep()
            return
        task = self.random.choice(some)
        if self.random.random() < 0.7:
            self.do("adv", self.random.choice((MS, 4 * MS, 12 * MS, 30 * MS)))
            self.do("tick", task.cpu)
            self.do("adv", self.random.choice((0, 100 * US)))
        ops = (
            *(["wake", task.id, self.any_cpu()] for _ in range(4)),
            *(["migrate", task.id, self.any_cpu()], ["yield_to", self.cpu(), task.id]),
            *(["sched", task.cpu], ["sleep", task.cpu], ["yield", task.cpu], ["tick", task.cpu]),
        )
        self.do(*self.random.choice(ops))
        if self.random.random() < 0.5:
            self.do("adv", self.some_time())
            self.do("sched", task.cpu)

    def run_dry(self) -> None:
        """All that run on a CPU fall asleep, one after the other."""
        queue = self.host.queues[self.cpu()]
        for _ in range(len(queue.queued)):
            if queue.curr:
                self.do("adv", self.some_time())
                self.do("sleep", queue.cpu)

    def anything(self) -> None:
        """An operation that may not be applicable."""
        task, cpu = self.random.randrange(len(self.host.tasks)), self.any_cpu()
        self.do(*self.random.choice((["wake", task, cpu], ["yield", cpu], ["yield_to", cpu, task], ["sleep", cpu])))


def run(host: Host, ops: list[list]) -> list[dict]:
    """Return the state after each operation."""
    return [host.state(host.apply(op)) for op in ops]


def reduced(scenario: dict, fails: Callable[[dict], bool], *, seconds: float = 10) -> dict:
    """Return a shorter scenario that fails as well: operations are taken away while time lasts."""
    ops, size, end = scenario["ops"], len(scenario["ops"]) // 2, time.monotonic() + seconds
    while size:
        start, shorter = 0, False
        while start < len(ops):
            fewer = ops[:start] + ops[start + size :]
            if time.monotonic() > end:
                return scenario | {"ops": ops}
            if fails(scenario | {"ops": fewer}):
                ops, shorter = fewer, True
            else:
                start += size
        if not (shorter and size == 1):
            size //= 2
    return scenario | {"ops": ops}
