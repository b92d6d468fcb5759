"""What the fair schedulers of Linux share: weights, fixed-point arithmetic, and the host that operations change.

A task is on a CPU's list `queued` (rq->cfs_tasks, most recent first) while it is on_rq; it also is in the sorted list
`tree` unless it runs. Sums over the queue are computed anew wherever they are needed. `cfs.py` and `eevdf.py` are the
two schedulers, as subclasses; operations and states have the form of the recorded vectors.
"""

from __future__ import annotations

from bisect import insort_right

from attrs import define, field

NOT_APPLICABLE = -1000
ESRCH = -3
V0_AT_BOOT = -(2**20)
NICE_0_WEIGHT = 1024

# kernel/sched/core.c: sched_prio_to_weight and sched_prio_to_wmult, nice -20 to 19.
WEIGHTS = [
    *(88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916),
    *(9548, 7620, 6100, 4904, 3906, 3121, 2501, 1991, 1586, 1277),
    *(1024, 820, 655, 526, 423, 335, 272, 215, 172, 137),
    *(110, 87, 70, 56, 45, 36, 29, 23, 18, 15),
]
INVERSES = [
    *(48388, 59856, 76040, 92818, 118348, 147320, 184698, 229616, 287308, 360437),
    *(449829, 563644, 704093, 875809, 1099582, 1376151, 1717300, 2157191, 2708050, 3363326),
    *(4194304, 5237765, 6557202, 8165337, 10153587, 12820798, 15790321, 19976592, 24970740, 31350126),
    *(39045157, 49367440, 61356676, 76695844, 95443717, 119304647, 148102320, 186737708, 238609294, 286331153),
]


def tunable_factor(online_cpus: int) -> int:
    """get_update_sysctl_factor: by how much a machine with so many CPUs stretches its slices."""
    return 1 + (min(online_cpus, 8).bit_length() - 1)


def inverse_of(load: int) -> int:
    """__update_inv_weight: about 2^32 / load."""
    return 0xFFFFFFFF // load if load else 0xFFFFFFFF


def scale(delta: int, weight: int, inverse: int) -> int:
    """__calc_delta: delta * weight / W in fixed point; ``inverse`` is about 2^32 / W."""
    factor, shift = weight * inverse, 32
    while factor >= 2**32:
        factor >>= 1
        shift -= 1
    return (delta * factor) >> shift


def truncated(dividend: int, divisor: int) -> int:
    """Divide as C does: towards zero."""
    quotient = abs(dividend) // abs(divisor)
    return quotient if (dividend < 0) == (divisor < 0) else -quotient


@define(eq=False)
class Task:
    """struct task_struct and its sched_entity; times in ns."""

    id: int
    weight: int
    inverse: int
    born: bool = False
    asleep: bool = False  # TASK_INTERRUPTIBLE
    delayed: bool = False  # asleep, but still queued (sched_delayed)
    cpu: int = -1
    v: int = 0  # vruntime
    sum: int = 0  # sum_exec_runtime
    prev: int = 0  # prev_sum_exec_runtime
    es: int = 0  # exec_start
    dl: int = 0  # deadline
    lag: int = 0  # vlag; of the running task: its deadline when it was picked
    slice: int = 0
    rel: bool = False  # dl is relative to v

    def fair(self, delta: int) -> int:
        """calc_delta_fair: wall time to the task's virtual time."""
        return delta if self.weight == NICE_0_WEIGHT else scale(delta, NICE_0_WEIGHT, self.inverse)


@define(eq=False)
class Queue:
    """struct rq and its cfs_rq."""

    cpu: int
    v0: int = V0_AT_BOOT  # min_vruntime; in 6.12.117 zero_vruntime
    queued: list[Task] = field(factory=list)
    tree: list[Task] = field(factory=list)
    curr: Task | None = None
    next: Task | None = None
    last: Task | None = None
    skip: Task | None = None
    need_resched: bool = False

    @property
    def nr(self) -> int:
        """nr_running, the current and delayed tasks included."""
        return len(self.queued)

    @property
    def load(self) -> int:
        """Weight of all that is queued, the current included."""
        return sum(task.weight for task in self.queued)

    @property
    def running(self) -> Task | None:
        """The current task, unless it has been dequeued already."""
        return self.curr if self.curr in self.queued else None


def key_v(task: Task) -> int:
    """Order of CFS and of 6.6."""
    return task.v


@define(eq=False)
class Host:
    """All tasks and queues, under one clock. Each operation returns its result as the vectors have it."""

    tasks: list[Task]
    queues: list[Queue]
    now: int
    features: frozenset[str]

    tree_key = staticmethod(key_v)
    picking_again_moves_to_head = True

    @classmethod
    def of(cls, scenario: dict, **more: object):
        """Return the host that a scenario of the vectors' form describes, before its first operation."""
        tasks = [Task(id=n, weight=WEIGHTS[x + 20], inverse=INVERSES[x + 20]) for n, x in enumerate(scenario["nice"])]
        queues = [Queue(cpu=number) for number in range(scenario["ncpu"])]
        features = frozenset(scenario.get("features", cls.FEATURES))
        assert features <= cls.KNOWN_FEATURES, features - cls.KNOWN_FEATURES
        host = cls(tasks=tasks, queues=queues, now=scenario["t0"], features=features, **scenario["params"], **more)
        host.boot()
        return host

    def boot(self) -> None:
        """Set what tasks have before they are born."""

    def apply(self, op: list) -> int:
        """Do one operation."""
        name, *operands = op
        return getattr(self, f"op_{name}")(*operands)

    # The operations. --------------------------------------------------------------------------------------------------

    def op_adv(self, ns: int) -> int:
        self.now += ns
        return 0

    def op_new(self, number: int, cpu: int) -> int:
        task, queue = self.tasks[number], self.queues[cpu]
        assert not task.born
        task.born, task.cpu = True, cpu
        self.fork(queue, task)
        self.check_preempt(queue, task, fork=True)
        return 0

    def op_tick(self, cpu: int) -> int:
        if self.queues[cpu].curr:
            self.tick(self.queues[cpu])
        return 0

    def op_sched(self, cpu: int) -> int:
        self.schedule(self.queues[cpu])
        return 0

    def op_sleep(self, cpu: int) -> int:
        queue = self.queues[cpu]
        if queue.curr is None:
            return NOT_APPLICABLE
        queue.curr.asleep = True
        self.schedule(queue)
        return 0

    def op_wake(self, number: int, cpu: int) -> int:
        task = self.tasks[number]
        if not task.born or not task.asleep:
            return NOT_APPLICABLE
        task.asleep = False
        if task.delayed:
            queue = self.queues[task.cpu]
            self.requeue_delayed(queue, task)
            self.check_preempt(queue, task)
            return 1
        queue, migrated = self.queues[cpu], cpu != task.cpu
        if migrated:
            self.leave_asleep(self.queues[task.cpu], task)
            task.cpu = cpu
        self.enqueue(queue, task, wakeup=True, migrated=migrated)
        self.check_preempt(queue, task)
        return 0

    def op_yield(self, cpu: int) -> int:
        queue = self.queues[cpu]
        if queue.curr is None:
            return NOT_APPLICABLE
        self.yield_task(queue)
        self.schedule(queue)
        return 0

    def op_yield_to(self, cpu: int, number: int) -> int:
        mine, task = self.queues[cpu], self.tasks[number]
        if mine.curr is None or not task.born or mine.curr is task:
            return NOT_APPLICABLE
        theirs = self.queues[task.cpu]
        if mine.nr == 1 and theirs.nr == 1:
            return ESRCH
        if theirs.curr is task or task.asleep:
            return 0
        theirs.next = task
        self.yield_task(mine)
        if theirs is not mine:
            theirs.need_resched = True
        self.schedule(mine)
        return 1

    def op_migrate(self, number: int, cpu: int) -> int:
        task = self.tasks[number]
        if not task.born or task.asleep or task.cpu == cpu or self.queues[task.cpu].curr is task:
            return NOT_APPLICABLE
        queue = self.queues[cpu]
        self.dequeue(self.queues[task.cpu], task)
        task.es, task.cpu = 0, cpu
        self.enqueue(queue, task, migrated=True)
        self.check_preempt(queue, task)
        return 0

    # __schedule. ------------------------------------------------------------------------------------------------------

    def schedule(self, queue: Queue) -> None:
        """Pick who runs; a current task that has fallen asleep leaves first."""
        prev = queue.curr
        if prev and prev.asleep:
            self.dequeue(queue, prev, sleep=True)
        task = self.pick_next(queue)
        if task is not prev:
            if prev:
                self.put(queue, prev)
            if task:
                self.set_next(queue, task)
        if task and (task is not prev or self.picking_again_moves_to_head):
            queue.queued.remove(task)
            queue.queued.insert(0, task)
        queue.need_resched = False

    def put(self, queue: Queue, task: Task) -> None:
        """put_prev_entity."""
        if task in queue.queued:
            self.update_curr(queue)
            self.insert(queue, task)
        queue.curr = None

    def set_next(self, queue: Queue, task: Task) -> None:
        """set_next_entity."""
        queue.tree.remove(task)
        task.es, task.prev = self.now, task.sum
        queue.curr = task

    def insert(self, queue: Queue, task: Task) -> None:
        """__enqueue_entity: behind those with the same key."""
        insort_right(queue.tree, task, key=self.tree_key)

    def check_preempt(self, queue: Queue, task: Task, *, fork: bool = False) -> None:
        """check_preempt_curr: anything preempts idle."""
        if queue.curr is None:
            queue.need_resched = True
        elif queue.curr is not task:
            self.check_preempt_wakeup(queue, task, fork=fork)

    def charge(self, queue: Queue) -> bool:
        """The beginning of update_curr: time since exec_start becomes vruntime. Return whether any has passed."""
        task = queue.curr
        if task is None or self.now <= task.es:
            return False
        delta = self.now - task.es
        task.es = self.now
        task.sum += delta
        task.v += task.fair(delta)
        return True

    def raise_v0(self, queue: Queue) -> None:
        """update_min_vruntime: to the smallest vruntime, and never back."""
        everybody = [*queue.tree, *([queue.running] if queue.running else [])]
        if everybody:
            queue.v0 = max(queue.v0, min(task.v for task in everybody))

    # The state, in the keys of the vectors. ---------------------------------------------------------------------------

    def state(self, result: int) -> dict:
        """Return everything there is to compare after an operation."""
        columns = {key: [int(getattr(task, key)) for task in self.tasks] for key in self.TASK_KEYS}
        return {
            "r": result,
            "t": self.now,
            "cpu": [self.state_of(queue) for queue in self.queues],
            **columns,
            "st": [self.life(task) for task in self.tasks],
            "on": [task.cpu for task in self.tasks],
        }

    def state_of(self, queue: Queue) -> dict:
        """Return the keys that all kernels have."""
        return {
            "curr": name(queue.curr),
            "nr": queue.nr,
            "nresched": int(queue.need_resched),
            "next": name(queue.next),
            "load": queue.load << 10,
            "tree": [task.id for task in queue.tree],
            "mru": [task.id for task in queue.queued],
        }

    def life(self, task: Task) -> int:
        """0 not created, 1 running, 2 waiting, 3 asleep, 4 asleep and still queued."""
        if not task.born:
            return 0
        if task.asleep:
            return 4 if task.delayed else 3
        return 1 if self.queues[task.cpu].curr is task else 2


def name(task: Task | None) -> int:
    """A task's number; -1 is none."""
    return -1 if task is None else task.id
