"""Wake-up placement and load balancing of v5.6 (kernel/sched/fair.c), reduced, on plain Python objects.

Independent of the emulator: a queue is a list of tasks, a group a list of CPU numbers, and every rule is
the sentence of it in words. Load is the sum of runnable weights, a CPU with a task is fully used, and
a task of n on a queue uses an n-th of it.
"""

from __future__ import annotations

from attrs import define, field

SPARE, FULL, OVERLOADED = "spare", "full", "overloaded"
IDLE, BUSY, NEWLY_IDLE = "idle", "busy", "newly idle"
LOAD, UTIL, TASKS = "load", "util", "tasks"
HALF_MS = 500_000


@define(eq=False)
class Task:
    """A thread; ``ran_until``: up to when it was charged, 0 after a migration."""

    number: int
    weight: int
    allowed: set[int]
    cpu: int
    ran_until: int = 0
    recent: int = 0
    flips: int = 0
    last_wakee: int = -1
    decayed_at: int = 0


@define
class Domain:
    """One level of one CPU; times in jiffies, intervals in ms."""

    span: list[int]
    groups: list[list[int]]
    percent: int
    spread_over_siblings: bool
    interval: int
    last: int = 0
    failed: int = 0

    @property
    def least(self) -> int:
        return len(self.span)


@define
class Cpu:
    """A run queue: ``tasks`` with the one that ran or came last first, among them ``current`` (None: idle)."""

    tasks: list[Task]
    current: Task | None
    llc: list[int]
    domains: list[Domain]
    idle_task: Task
    buddies: set[int] = field(factory=set)
    next_balance: int = 0
    average_idle: int = 1_000_000
    idle_since: int = -1
    kicked: bool = False
    pushes_to: int | None = None

    @property
    def idle(self) -> bool:
        return not self.tasks and self.current is None


@define
class Host:
    """All CPUs, and what happened: (task, from, to) of each migration, and who was sent an IPI by balancing."""

    cpus: list[Cpu]
    hz: int
    floating: bool = True
    next_balance: int = 0
    moves: list[tuple[int, int, int]] = field(factory=list)

    # wake-ups

    def place(self, waker_cpu: int, task: Task, now: int) -> int:
        """Return where a sleeper goes that is woken from a CPU."""
        if len(task.allowed) == 1:
            return task.cpu
        here = self.cpus[waker_cpu]
        waker = here.current or here.idle_task
        if now - waker.decayed_at > 10**9:
            waker.flips, waker.decayed_at = waker.flips // 2, now
        if waker.last_wakee != task.number:
            waker.last_wakee, waker.flips = task.number, waker.flips + 1
        few, many = sorted((waker.flips, task.flips))
        wide = few >= len(here.llc) and many >= few * len(here.llc)
        affine = not wide and waker_cpu in task.allowed
        near = waker_cpu if affine and waker_cpu != task.cpu and self._pulls(waker_cpu, task) else task.cpu
        chosen = self._idle_sibling(task, near)
        if affine:
            waker.recent = waker_cpu
        return chosen

    def _pulls(self, here: int, task: Task) -> bool:
        """Does the waker's CPU win over the one where the task slept?"""
        there = self.cpus[task.cpu]
        if self.cpus[here].idle and here in there.llc:
            return not there.idle
        percent = next(one.percent for one in self.cpus[here].domains if task.cpu in one.span)
        mine, others = self._load([here]) + task.weight, self._load([task.cpu])
        return mine * 100 < others * (100 + (percent - 100) // 2)

    def _idle_sibling(self, task: Task, target: int) -> int:
        slept = task.cpu
        near = self.cpus[target].llc
        if self.cpus[target].idle:
            return target
        if slept in near and self.cpus[slept].idle:
            return slept
        recent = task.recent
        if recent not in (slept, target) and recent in near and self.cpus[recent].idle and recent in task.allowed:
            task.recent = slept
            return recent
        place = near.index(target)
        found = [cpu for cpu in near[place:] + near[:place] if self.cpus[cpu].idle and cpu in task.allowed]
        return found[0] if found else target

    def place_new(self, task: Task) -> int:
        """Return where a new task begins."""
        if len(task.allowed) > 1:
            task.recent = min(task.allowed, key=lambda cpu: (self._load([cpu]), self._load(self.cpus[cpu].llc), cpu))
            return task.recent
        return task.cpu

    # one pass

    def _load(self, cpus: list[int]) -> int:
        return sum(task.weight for cpu in cpus for task in self.cpus[cpu].tasks)

    def _kind(self, group: list[int], seen: list[int], percent: int) -> str:
        running = self._running(group, seen)
        used = 1024 * sum(bool(self.cpus[cpu].tasks) for cpu in seen)
        capacity = 1024 * len(group)
        if running > len(group) and capacity * 100 < used * percent:
            return OVERLOADED
        return SPARE if running < len(group) or capacity * 100 > used * percent else FULL

    def _running(self, group: list[int], seen: list[int]) -> int:
        return sum(len(self.cpus[cpu].tasks) for cpu in group if cpu in seen)

    def _idlers(self, group: list[int], seen: list[int]) -> int:
        return sum(self.cpus[cpu].idle for cpu in group if cpu in seen)

    def _average(self, group: list[int], seen: list[int]) -> int:
        return self._load([cpu for cpu in group if cpu in seen]) // len(group)

    def imbalance(self, cpu: int, domain: Domain, state: str, considered: list[int]) -> tuple[int, str, int] | None:
        """Return from which CPU what and how much shall come, None if nothing."""
        local = next(group for group in domain.groups if cpu in group)
        place = domain.groups.index(local)
        kind = {
            group[0]: self._kind(group, [one for one in group if one in considered], domain.percent)
            for group in domain.groups
        }
        rank = [SPARE, FULL, OVERLOADED]

        def how_busy(group: list[int]) -> tuple[int, ...]:
            number = rank.index(kind[group[0]])
            if kind[group[0]] == OVERLOADED:
                return (number, self._average(group, considered))
            if kind[group[0]] == FULL:
                return (number,)
            return (number, -self._idlers(group, considered), self._running(group, considered))

        others = domain.groups[place + 1 :] + domain.groups[:place]
        others = [group for group in others if self._running(group, considered)]
        if not others:
            return None
        busiest = max(others, key=how_busy)  # the first of equals
        mine, theirs = kind[local[0]], kind[busiest[0]]
        my_load, their_load = self._average(local, considered), self._average(busiest, considered)
        all_load = self._average(domain.span, considered)
        my_running, their_running = self._running(local, considered), self._running(busiest, considered)
        my_idlers, their_idlers = self._idlers(local, considered), self._idlers(busiest, considered)
        if rank.index(mine) > rank.index(theirs):
            return None
        if mine == theirs == OVERLOADED and (
            my_load >= their_load or my_load >= all_load or 100 * their_load <= domain.percent * my_load
        ):
            return None
        spread = domain.spread_over_siblings and mine == SPARE and their_running > my_running + 1
        if theirs != OVERLOADED and not spread:
            if state == BUSY or their_running == 1:
                return None
            if len(busiest) > 1 and my_idlers <= their_idlers + 1:
                return None
        if mine == SPARE and theirs == OVERLOADED:
            free = 1024 * (len(local) - sum(bool(self.cpus[one].tasks) for one in local if one in considered))
            what, amount = (UTIL, free) if free or state == BUSY else (TASKS, 1)
        elif mine == SPARE and (len(busiest) == 1 or domain.spread_over_siblings):
            what, amount = TASKS, max(0, their_running - my_running) // 2
        elif mine == SPARE:
            what, amount = TASKS, max(0, my_idlers - their_idlers) // 2
        else:
            if mine == FULL and my_load >= their_load:
                return None
            terms = [(their_load - all_load) * len(busiest), (all_load - my_load) * len(local)]
            what, amount = LOAD, min((term for term in terms if term >= 0), default=1 << 52)
        if amount <= 0:
            return None
        queues = [one for one in busiest if one in considered and self.cpus[one].tasks]
        if what == LOAD:
            queues = [one for one in queues if len(self.cpus[one].tasks) > 1 or self._load([one]) <= amount]
        if not queues:
            return None
        by = (lambda one: self._load([one])) if what == LOAD else (lambda one: len(self.cpus[one].tasks))
        return max(queues, key=by), what, amount

    def balance(self, cpu: int, level: int, state: str, now: int) -> int | None:
        """Make one pass for a CPU at one level; return how many tasks came, None if it is another CPU's turn."""
        domain = self.cpus[cpu].domains[level]
        group = next(group for group in domain.groups if cpu in group)
        turn = next((one for one in group if self.cpus[one].idle), group[0])
        if state != NEWLY_IDLE and turn != cpu:
            self._balanced(domain, state, pinned=False)
            return None
        considered = list(domain.span)
        pinned = False
        while True:
            plan = self.imbalance(cpu, domain, state, considered)
            if plan is None:
                self._balanced(domain, state, pinned=pinned)
                return 0
            source, what, amount = plan
            came, pinned = 0, False
            if len(self.cpus[source].tasks) > 1:
                came, pinned = self._detach(source, cpu, domain, state, what, amount, now)
            if not pinned:
                break
            considered.remove(source)
            if not set(considered) - set(group):
                self._balanced(domain, state, pinned=True)
                return 0
        if came:
            domain.failed, domain.interval = 0, domain.least
            return came
        if state != NEWLY_IDLE:
            domain.failed += 1
        if domain.failed <= 3:
            domain.interval = domain.least
            return 0
        queue = self.cpus[source]
        if queue.current is None or cpu not in queue.current.allowed:
            self._wait_longer(domain, state, pinned=True)
            return 0
        domain.failed = 2
        if queue.pushes_to is not None:
            domain.interval = domain.least
        else:
            queue.pushes_to = cpu
            if domain.interval < 2 * domain.least:
                domain.interval *= 2
        return 0

    @staticmethod
    def _balanced(domain: Domain, state: str, *, pinned: bool) -> None:
        domain.failed = 0
        Host._wait_longer(domain, state, pinned=pinned)

    @staticmethod
    def _wait_longer(domain: Domain, state: str, *, pinned: bool) -> None:
        limit = max(512, 2 * domain.least) if pinned else 2 * domain.least
        if state != NEWLY_IDLE and domain.interval < limit:
            domain.interval *= 2

    def movable(self, task: Task, source: int, cpu: int, domain: Domain, now: int) -> bool:
        """Return whether an allowed task may be taken."""
        queue = self.cpus[source]
        if task is queue.current:
            return False
        buddy = task.number in queue.buddies and bool(self.cpus[cpu].tasks)
        hot = buddy or now - task.ran_until < HALF_MS
        return not hot or domain.failed > 1

    def _detach(
        self, source: int, cpu: int, domain: Domain, state: str, what: str, amount: int, now: int
    ) -> tuple[int, bool]:
        """Take tasks; return how many, and whether none of those seen may run here."""
        queue = self.cpus[source].tasks
        share = 1024 // len(queue)
        came, pinned = 0, True
        for _ in range(min(32, len(queue))):
            if state != BUSY and len(queue) == 1:
                break
            task = queue.pop()
            takes = False
            if cpu in task.allowed:
                pinned = False
                price = {LOAD: task.weight, UTIL: share, TASKS: 1}[what]
                fits = {LOAD: task.weight // 2 <= amount or domain.failed > 1, UTIL: share <= amount, TASKS: True}[what]
                takes = fits and self.movable(task, source, cpu, domain, now)
            if not takes:
                queue.insert(0, task)
                continue
            self._arrive(task, source, cpu)
            came += 1
            amount -= price
            if amount <= 0 or state == NEWLY_IDLE:
                break
        return came, pinned

    def _arrive(self, task: Task, source: int, cpu: int) -> None:
        self.cpus[source].buddies.discard(task.number)
        self.cpus[cpu].tasks.insert(0, task)
        task.cpu, task.ran_until = cpu, 0
        self.moves.append((task.number, source, cpu))

    # when

    def interval(self, domain: Domain, state: str) -> int:
        """Return the jiffies from one pass to the next."""
        ms = domain.interval * (32 if state != IDLE else 1)
        return min(max(1, -(-ms * self.hz // 1000)), max(1, self.hz * len(self.cpus) // 10))

    def rebalance(self, cpu: int, state: str, now: int, jiffies: int) -> None:
        """Make the passes that are due for a CPU."""
        at = jiffies + 60 * self.hz
        for level, domain in enumerate(self.cpus[cpu].domains):
            came: int | None = 0
            if jiffies >= domain.last + self.interval(domain, state):
                came = self.balance(cpu, level, state, now)
                if came:
                    state = IDLE if self.cpus[cpu].idle else BUSY
                domain.last = jiffies
            at = min(at, domain.last + self.interval(domain, state))
            if came is None:
                break
        self.cpus[cpu].next_balance = at
        if state == IDLE:
            self.next_balance = min(self.next_balance, at)

    def tick(self, cpu: int, now: int, jiffies: int) -> None:
        """Do what the tick of a CPU sets off."""
        queue = self.cpus[cpu]
        if not self.floating or not queue.domains:
            return
        idle = queue.idle
        if jiffies >= queue.next_balance:
            self.rebalance(cpu, IDLE if idle else BUSY, now, jiffies)
        if idle or jiffies < self.next_balance:
            return
        neighbours = sum(not self.cpus[one].idle for one in queue.llc)
        idlers = [one for one in self.cpus if one.idle]
        if idlers and (len(queue.tasks) >= 2 or neighbours >= 2):
            self.next_balance += 1
            idlers[0].kicked = True

    def kicked(self, cpu: int, now: int, jiffies: int) -> None:
        """An idle CPU that was kicked balances for all idle ones."""
        queue = self.cpus[cpu]
        if not queue.kicked:
            return
        queue.kicked = False
        if not queue.idle:
            return
        seen = []
        for number, other in enumerate(self.cpus):
            if number != cpu and other.idle:
                if jiffies >= other.next_balance:
                    self.rebalance(number, IDLE, now, jiffies)
                seen.append(other.next_balance)
        self.rebalance(cpu, IDLE, now, jiffies)
        if seen:
            self.next_balance = min(*seen, jiffies + 60 * self.hz)

    def becomes_idle(self, cpu: int, now: int, jiffies: int) -> bool:
        """A CPU has nothing to run; return whether it has pulled something."""
        queue = self.cpus[cpu]
        if not self.floating:
            return False
        queue.idle_since = now
        at = [jiffies + self.hz]
        pulled = False
        if queue.average_idle >= HALF_MS and any(len(one.tasks) >= 2 for one in self.cpus):
            for level, domain in enumerate(queue.domains):
                pulled = bool(self.balance(cpu, level, NEWLY_IDLE, now))
                at.append(domain.last + self.interval(domain, IDLE))
                if pulled:
                    queue.idle_since = -1
                    break
        else:
            at += [domain.last + self.interval(domain, IDLE) for domain in queue.domains[:1]]
        queue.next_balance = min(queue.next_balance, *at)
        return pulled

    def push(self, cpu: int, now: int) -> None:
        """The stopper of a CPU pushes one task, the running one if need be."""
        queue = self.cpus[cpu]
        target, queue.pushes_to = queue.pushes_to, None
        if target is None or not queue.tasks:
            return
        if queue.current is not None:
            queue.current.ran_until = now  # charged when the stopper preempts it
            queue.current = None
        domain = next(one for one in self.cpus[target].domains if cpu in one.span)
        for task in reversed(queue.tasks):
            if target in task.allowed and self.movable(task, cpu, target, domain, now):
                domain.failed = 0
                queue.tasks.remove(task)
                self._arrive(task, cpu, target)
                return
