"""EEVDF of Linux 6.6.87, 6.12.0 and 6.12.117: of those that are owed time, run whose deadline is earliest.

What differs between the three versions is in the table VERSIONS.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, frozen

from reference.fair import Host, Queue, Task, key_v, truncated, tunable_factor


def key_deadline(task: Task) -> int:
    """Order of 6.12."""
    return task.dl


@frozen(kw_only=True)
class Version:
    """What one kernel does that another does not."""

    base_slice: int  # ns, before the factor for the number of CPUs
    features: frozenset[str]  # by default
    by_deadline: bool = True  # order of the tree; by vruntime otherwise
    moving_zero: bool = False  # v0 is set to V wherever V is computed; a minimum otherwise
    fork_places_twice: bool = False
    slice_from_birth: bool = False
    short_preempts: bool = True  # update_curr also ends an unprotected task that is not eligible
    forfeits: bool = False  # a yield gives away the rest of the request; otherwise it only postpones the deadline
    buddy: str = "NEXT_BUDDY"  # the feature that lets a pick look at `next`


PLACE = {"PLACE_LAG", "PLACE_DEADLINE_INITIAL", "RUN_TO_PARITY", "WAKEUP_PREEMPTION"}
DELAY = PLACE | {"PLACE_REL_DEADLINE", "PREEMPT_SHORT", "DELAY_DEQUEUE", "DELAY_ZERO"}

VERSIONS = {
    "eevdf-6.6": Version(
        base_slice=750_000,
        features=frozenset(PLACE),
        by_deadline=False,
        fork_places_twice=True,
        slice_from_birth=True,
        short_preempts=False,
    ),
    "eevdf-6.12.0": Version(base_slice=750_000, features=frozenset(DELAY)),
    "eevdf-6.12": Version(
        base_slice=700_000,
        features=frozenset(DELAY | {"PICK_BUDDY"}),
        moving_zero=True,
        forfeits=True,
        buddy="PICK_BUDDY",
    ),
}

Choose = Callable[[list[Task], Task | None], Task]


def first_of(tied: list[Task], woken: Task | None) -> Task:
    """Any choice will do."""
    del woken
    return tied[0]


@define(eq=False)
class Eevdf(Host):
    """kernel/sched/fair.c since 6.6, a flat queue.

    In 6.6 the shape of the red-black tree decides among equal deadlines. ``choose`` is asked there: it is given who is
    tied, and the wakee if this is a test for preemption, and says who it was.
    """

    base_slice: int
    tick_nsec: int
    choose: Choose = first_of
    ties: int = 0

    TASK_KEYS = ("v", "dl", "lag", "slice", "sum", "prev", "es", "rel")

    def boot(self) -> None:
        for task in self.tasks:
            task.slice = self.base_slice if self.version.slice_from_birth else 0

    # Averages. --------------------------------------------------------------------------------------------------------

    def tree_sums(self, queue: Queue) -> tuple[int, int]:
        """avg_vruntime and avg_load: who waits in the tree, without the current."""
        weights = [task.weight for task in queue.tree]
        keys = [task.v - queue.v0 for task in queue.tree]
        return sum(w * key for w, key in zip(weights, keys, strict=True)), sum(weights)

    def sums(self, queue: Queue) -> tuple[int, int]:
        """The same with the current."""
        total, load = self.tree_sums(queue)
        if curr := queue.running:
            total, load = total + curr.weight * (curr.v - queue.v0), load + curr.weight
        return total, load

    def average(self, queue: Queue) -> int:
        """avg_vruntime(): V, rounded down."""
        total, load = self.sums(queue)
        v = queue.v0 + (total // load if load else 0)
        if self.version.moving_zero:
            queue.v0 = v
        return v

    def eligible(self, queue: Queue, task: Task) -> bool:
        """entity_eligible: it has got no more than its share."""
        total, load = self.sums(queue)
        return total >= (task.v - queue.v0) * load

    def update_lag(self, queue: Queue, task: Task) -> None:
        """update_entity_lag."""
        limit = task.fair(max(2 * task.slice, self.tick_nsec))
        task.lag = max(-limit, min(limit, self.average(queue) - task.v))

    def raise_minimum(self, queue: Queue) -> None:
        if not self.version.moving_zero:
            self.raise_v0(queue)

    # Running. ---------------------------------------------------------------------------------------------------------

    def update_curr(self, queue: Queue) -> None:
        if not self.charge(queue):
            return
        task = queue.curr
        ended = task.v >= task.dl
        if ended:
            self.renew(queue, task)
        self.raise_minimum(queue)
        if queue.nr == 1:
            return
        if self.version.short_preempts and "PREEMPT_SHORT" in self.features:
            ended = ended or (task.lag != task.dl and not self.eligible(queue, task))
        if ended:
            queue.need_resched = True
            self.forget_next(queue, task)

    def renew(self, queue: Queue, task: Task) -> None:
        """update_deadline: the next request."""
        task.slice = self.base_slice
        task.dl = task.v + task.fair(task.slice)
        if self.version.moving_zero:
            self.average(queue)

    def tick(self, queue: Queue) -> None:
        self.update_curr(queue)

    def forget_next(self, queue: Queue, task: Task) -> None:
        """clear_buddies."""
        if queue.next is task:
            queue.next = None

    # Joining and leaving. ---------------------------------------------------------------------------------------------

    def place(self, queue: Queue, task: Task, *, initial: bool = False) -> None:
        """place_entity: as far from V as it was when it left."""
        v = self.average(queue)
        task.slice = self.base_slice
        others = [other for other in queue.queued if other is not task]
        lag = 0
        if others and "PLACE_LAG" in self.features:
            _, load = self.sums(queue)
            lag = truncated(task.lag * (load + task.weight), load)
        task.v = v - lag
        if task.rel:
            task.dl += task.v
            task.rel = False
            return
        request = task.fair(task.slice)
        if initial and "PLACE_DEADLINE_INITIAL" in self.features:
            request //= 2
        task.dl = task.v + request

    def fork(self, queue: Queue, task: Task) -> None:
        """task_fork_fair and wake_up_new_task."""
        if self.version.fork_places_twice:
            self.update_curr(queue)
            self.place(queue, task, initial=True)
        self.enqueue(queue, task, initial=not self.version.fork_places_twice)

    def enqueue(
        self, queue: Queue, task: Task, *, wakeup: bool = False, migrated: bool = False, initial: bool = False
    ) -> None:
        """enqueue_entity; a wakeup is nothing special."""
        del wakeup
        self.update_curr(queue)
        self.place(queue, task, initial=initial)
        if migrated:
            task.es = 0
        queue.queued.insert(0, task)
        self.insert(queue, task)

    def dequeue(self, queue: Queue, task: Task, *, sleep: bool = False) -> None:
        """dequeue_entity: one that is owed nothing stays until it has waited for what it took too much."""
        self.update_curr(queue)
        self.forget_next(queue, task)
        if sleep and "DELAY_DEQUEUE" in self.features and not task.delayed and not self.eligible(queue, task):
            task.delayed = True
            return
        self.update_lag(queue, task)
        if not sleep and "PLACE_REL_DEADLINE" in self.features:
            task.dl -= task.v
            task.rel = True
        if task is not queue.curr:
            queue.tree.remove(task)
        queue.queued.remove(task)
        self.raise_minimum(queue)
        if task.delayed:
            task.delayed = False
            if "DELAY_ZERO" in self.features:
                task.lag = min(task.lag, 0)

    def requeue_delayed(self, queue: Queue, task: Task) -> None:
        """requeue_delayed_entity: it wakes before it has left."""
        if "DELAY_ZERO" in self.features:
            self.update_lag(queue, task)
            if task.lag > 0:
                queue.tree.remove(task)
                task.lag = 0
                self.place(queue, task)
                self.insert(queue, task)
        task.delayed = False

    def leave_asleep(self, queue: Queue, task: Task) -> None:
        """Nothing: a sleeper keeps its lag, not its vruntime."""

    # Picking. ---------------------------------------------------------------------------------------------------------

    def pick_eevdf(self, queue: Queue, woken: Task | None = None) -> Task | None:
        """The eligible task with the earliest deadline."""
        curr = queue.running
        if self.version.by_deadline and queue.nr == 1:
            return curr or queue.tree[0]
        if curr and not self.eligible(queue, curr):
            curr = None
        if curr and "RUN_TO_PARITY" in self.features and curr.lag == curr.dl:
            return curr
        candidates = [*([curr] if curr else []), *(task for task in queue.tree if self.eligible(queue, task))]
        if not candidates:
            return None
        earliest = min(task.dl for task in candidates)
        tied = [task for task in candidates if task.dl == earliest]
        if not self.version.by_deadline:
            if len(tied) == 1:
                return tied[0]
            self.ties += 1
            chosen = self.choose(tied, woken)
            assert chosen in tied, f"task {chosen.id} is none of the eligible {[task.id for task in tied]}"
            return chosen
        waiting = [task for task in tied if task is not curr]
        return waiting[0] if waiting else curr

    def pick_next(self, queue: Queue) -> Task | None:
        """pick_next_entity; a delayed task that is picked leaves instead."""
        while queue.queued:
            if queue.running:
                self.update_curr(queue)
            if self.version.buddy in self.features and queue.next and self.eligible(queue, queue.next):
                return queue.next
            task = self.pick_eevdf(queue)
            if not task.delayed:
                return task
            self.dequeue(queue, task, sleep=True)
        return None

    def set_next(self, queue: Queue, task: Task) -> None:
        self.forget_next(queue, task)
        super().set_next(queue, task)
        task.lag = task.dl

    def check_preempt_wakeup(self, queue: Queue, task: Task, *, fork: bool) -> None:
        if "NEXT_BUDDY" in self.features and not fork:
            queue.next = task
        if queue.need_resched or "WAKEUP_PREEMPTION" not in self.features:
            return
        self.update_curr(queue)
        if self.pick_eevdf(queue, task) is task:
            queue.need_resched = True

    def yield_task(self, queue: Queue) -> None:
        """yield_task_fair."""
        if queue.nr == 1:
            return
        task = queue.curr
        self.forget_next(queue, task)
        self.update_curr(queue)
        if not self.version.forfeits:
            task.dl += task.fair(task.slice)
        elif self.eligible(queue, task):
            task.v = task.dl
            self.renew(queue, task)

    def state_of(self, queue: Queue) -> dict:
        total, load = self.tree_sums(queue)
        return super().state_of(queue) | {"v0": queue.v0, "avg": total, "avgload": load}


def eevdf_of(number: str, version: Version) -> type[Eevdf]:
    """Return the scheduler of one kernel."""
    names = {
        "version": version,
        "FEATURES": version.features,
        "KNOWN_FEATURES": version.features | {"NEXT_BUDDY", version.buddy},
        "tree_key": staticmethod(key_deadline if version.by_deadline else key_v),
        "picking_again_moves_to_head": not version.by_deadline,
    }
    return type(f"Eevdf_{number}", (Eevdf,), names)


def eevdf_params(version: Version, online_cpus: int, hz: int) -> dict:
    """The tunables in ns."""
    return {"base_slice": version.base_slice * tunable_factor(online_cpus), "tick_nsec": (10**9 + hz // 2) // hz}


EEVDF = {number: eevdf_of(number, version) for number, version in VERSIONS.items()}
