"""CFS of Linux 5.6: run whoever has the least vruntime, unless a buddy is not too far ahead of it."""

from __future__ import annotations

from attrs import define

from reference.fair import Host, Queue, Task, inverse_of, name, scale, tunable_factor


def cfs_params(online_cpus: int, hz: int) -> dict:
    """The tunables in ns; ``hz`` is in none of them."""
    del hz
    factor = tunable_factor(online_cpus)
    return {
        "latency": 6_000_000 * factor,
        "min_gran": 750_000 * factor,
        "wakeup_gran": 1_000_000 * factor,
        "nr_latency": 8,
    }


@define(eq=False)
class Cfs(Host):
    """v5.6 kernel/sched/fair.c, a flat queue."""

    latency: int
    min_gran: int
    wakeup_gran: int
    nr_latency: int

    FEATURES = frozenset({"GENTLE_FAIR_SLEEPERS", "START_DEBIT", "LAST_BUDDY", "WAKEUP_PREEMPTION"})
    KNOWN_FEATURES = FEATURES | {"NEXT_BUDDY"}
    TASK_KEYS = ("v", "sum", "prev", "es")

    # Slices and places. -----------------------------------------------------------------------------------------------

    def slice(self, queue: Queue, task: Task) -> int:
        """sched_slice: the task's part of the period, as if it were queued."""
        joins = task not in queue.queued
        nr, load = queue.nr + joins, queue.load + joins * task.weight
        period = nr * self.min_gran if nr > self.nr_latency else self.latency
        return scale(period, task.weight, inverse_of(load))

    def place(self, queue: Queue, task: Task, *, initial: bool) -> None:
        """place_entity: a new task begins a slice late, a sleeper up to half a latency early; none is moved back."""
        v = queue.v0
        if initial:
            v += task.fair(self.slice(queue, task)) if "START_DEBIT" in self.features else 0
        else:
            v -= self.latency >> 1 if "GENTLE_FAIR_SLEEPERS" in self.features else self.latency
        task.v = max(task.v, v)

    def update_curr(self, queue: Queue) -> None:
        if self.charge(queue):
            self.raise_v0(queue)

    # Joining and leaving. ---------------------------------------------------------------------------------------------

    def fork(self, queue: Queue, task: Task) -> None:
        """task_fork_fair on the parent's queue, then wake_up_new_task."""
        self.update_curr(queue)
        if queue.curr:
            task.v = queue.curr.v
        self.place(queue, task, initial=True)
        task.v -= queue.v0
        self.enqueue(queue, task)

    def enqueue(self, queue: Queue, task: Task, *, wakeup: bool = False, migrated: bool = False) -> None:
        """enqueue_entity: all but one that wakes where it slept comes with a relative vruntime."""
        self.update_curr(queue)
        if migrated or not wakeup:
            task.v += queue.v0
        queue.queued.insert(0, task)
        if wakeup:
            self.place(queue, task, initial=False)
        self.insert(queue, task)

    def dequeue(self, queue: Queue, task: Task, *, sleep: bool = False) -> None:
        """dequeue_entity: all but a sleeper leave with a relative vruntime."""
        self.update_curr(queue)
        self.clear_buddies(queue, task)
        if task is not queue.curr:
            queue.tree.remove(task)
        queue.queued.remove(task)
        if not sleep:
            task.v -= queue.v0
        self.raise_v0(queue)

    def leave_asleep(self, queue: Queue, task: Task) -> None:
        """migrate_task_rq_fair: a sleeper will wake elsewhere."""
        task.v -= queue.v0
        task.es = 0

    # Preemption. ------------------------------------------------------------------------------------------------------

    def tick(self, queue: Queue) -> None:
        """entity_tick and check_preempt_tick."""
        self.update_curr(queue)
        if queue.nr <= 1:
            return
        task = queue.curr
        ideal, ran = self.slice(queue, task), task.sum - task.prev
        if ran > ideal:
            queue.need_resched = True
            self.clear_buddies(queue, task)
        elif ran >= self.min_gran and task.v - queue.tree[0].v > ideal:
            queue.need_resched = True

    def preempts(self, task: Task, by: Task) -> int:
        """wakeup_preempt_entity: 1 if ``by`` is too far behind ``task``, -1 if it is not behind at all."""
        if task.v <= by.v:
            return -1
        return int(task.v - by.v > by.fair(self.wakeup_gran))

    def check_preempt_wakeup(self, queue: Queue, task: Task, *, fork: bool) -> None:
        many = queue.nr >= self.nr_latency
        marked = "NEXT_BUDDY" in self.features and many and not fork
        if marked:
            queue.next = task
        if queue.need_resched or "WAKEUP_PREEMPTION" not in self.features:
            return
        self.update_curr(queue)
        if self.preempts(queue.curr, task) == 1:
            queue.next = task
            queue.need_resched = True
            if many and "LAST_BUDDY" in self.features:
                queue.last = queue.curr

    # Picking. ---------------------------------------------------------------------------------------------------------

    def pick_next(self, queue: Queue) -> Task | None:
        """pick_next_entity: the leftmost, or one of the buddies that is not too far ahead of it."""
        if not queue.queued:
            return None
        curr = queue.running
        if curr:
            self.update_curr(queue)
        order = list(queue.tree)
        if curr:  # among equals the current comes last, as the comparisons with it are strict
            ahead = [task for task in order if task.v <= curr.v]
            order.insert(len(ahead), curr)
        left = task = order[0]
        if queue.skip is left and len(order) > 1 and self.preempts(order[1], left) < 1:
            task = order[1]
        for buddy in (queue.last, queue.next):
            if buddy and self.preempts(buddy, left) < 1:
                task = buddy
        self.clear_buddies(queue, task)
        return task

    def clear_buddies(self, queue: Queue, task: Task) -> None:
        for buddy in ("next", "last", "skip"):
            if getattr(queue, buddy) is task:
                setattr(queue, buddy, None)

    def yield_task(self, queue: Queue) -> None:
        """yield_task_fair."""
        if queue.nr == 1:
            return
        self.clear_buddies(queue, queue.curr)
        self.update_curr(queue)
        queue.skip = queue.curr

    def state_of(self, queue: Queue) -> dict:
        return super().state_of(queue) | {"minv": queue.v0, "last": name(queue.last), "skip": name(queue.skip)}
