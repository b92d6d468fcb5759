"""Wake-up placement and load balancing: the compiled rules beside plain ones, on random states of a host."""

from __future__ import annotations

from collections import Counter

import attrs
from hypothesis import example, given, note, settings
from hypothesis import strategies as st
from made_machines import GUESTS, programs_of
from reference.balance import Cpu, Domain, Host, Task

from pleemu.handle import pointer_to
from pleemu.jit import entry_point
from pleemu.machine.build import build
from pleemu.observe.events import PCPU_MASK, SCHED_MIGRATE
from pleemu.policy import policy
from pleemu.scenario import Hardware, Scenario, Vm
from pleemu.scheduler import balance, core, placement
from pleemu.scheduler.weights import INVERSE_WEIGHTS, WEIGHTS

FORK, PICK, WAKE, NEW, TICK, NEWLY_IDLE, KICKED, PUSH = range(8)
TRIGGERS = (TICK, NEWLY_IDLE, KICKED, PUSH)
NOW = 5_000_000_000  # ns, and cycles of a core at 1 GHz
MS = 1_000_000


@entry_point
def drive(machine, what, cpu, task, now):
    """One step of the scheduler, chosen by number, so that there is one thing to compile."""
    m = pointer_to(machine)
    if what == FORK:
        core.wake_up_new_task(m, cpu, task, now)
    elif what == PICK:
        return core.pick_next_task(m, cpu, now)
    elif what == WAKE:
        return placement.select_task_rq(m, cpu, task, now)
    elif what == NEW:
        return placement.select_idlest_rq(m, task)
    elif what == TICK:
        balance.trigger_load_balance(m, cpu, now)
    elif what == NEWLY_IDLE:
        return 1 if balance.newidle_balance(m, cpu, now) else 0
    elif what == KICKED:
        balance.nohz_idle_balance(m, cpu, now)
    elif what == PUSH:
        moved = balance.active_load_balance(m, cpu, now, True)
        if moved >= 0:
            balance.finish_active_balance(m, cpu, moved, now)
    return 0


@attrs.frozen
class Shape:
    """What a random host is made of."""

    pcpus: int
    llc: int
    hz: int
    places: tuple[str, ...]  # by task: the CPUs that it may use
    tasks: tuple[tuple[int, bool, int, int, int, int, int], ...]  # where, awake, nice, us since it ran, flips, ...
    running: tuple[bool, ...]  # by CPU
    cpus: tuple[tuple[int, ...], ...]  # buddies, next_balance, average idle
    domains: tuple[tuple[int, ...], ...]
    next_balance: int


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Any small host, from idle to overloaded; tasks that float, mostly."""
    pcpus = draw(st.integers(2, 8))
    number = draw(st.integers(1, 14))
    one = st.integers(0, pcpus - 1)
    ranges = st.tuples(one, one).map(lambda pair: f"{min(pair)}-{max(pair)}")
    everywhere = st.just(f"0-{pcpus - 1}")
    places = draw(st.lists(st.one_of(everywhere, everywhere, ranges), min_size=number, max_size=number))
    if draw(st.booleans()):  # crowded on few CPUs
        one = st.integers(0, draw(st.integers(0, 2)))
    ran = st.sampled_from((100, 499, 500, 501, 3000))
    task = st.tuples(
        one, st.sampled_from((True, True, False)), st.sampled_from((0, 0, 0, -5, 5, -15)), ran,
        st.sampled_from((0, 1, 3, 9, 40)), st.integers(0, 7), st.integers(-1, number - 1),
    )  # fmt: skip
    cpu = st.tuples(st.integers(0, 3), st.integers(-3, 2), st.sampled_from((0, 499_999, 500_000, 10**6)))
    domain = st.tuples(st.sampled_from((1, 1, 2, 4)), st.sampled_from((0, 0, 1, 2, 3, 4)), st.integers(0, 300))
    return Shape(
        pcpus,
        draw(st.sampled_from((0, 1, 2, 3, 4))),
        draw(st.sampled_from((100, 250, 1000))),
        tuple(places),
        draw(st.tuples(*[task] * number)),
        draw(st.tuples(*[st.sampled_from((True, True, True, False))] * pcpus)),
        draw(st.tuples(*[cpu] * pcpus)),
        draw(st.tuples(*[domain] * (2 * pcpus))),
        draw(st.integers(-2, 2)),
    )


def made(shape: Shape):
    """The compiled machine and the plain host of a shape; and the tasks that sleep."""
    scenario = Scenario(
        name="host",
        hardware=Hardware(pcpus=shape.pcpus, llc_pcpus=shape.llc, tsc_khz=1_000_000),
        vm=(Vm(name="vm", program="ping_pong.S", vcpus=len(shape.places), pinning=shape.places),),
        folder=GUESTS,
    )
    scenario = attrs.evolve(scenario, host=attrs.evolve(scenario.host, hz=shape.hz))
    machine, _ = build(scenario, policy("vanilla"), programs_of(scenario), recording=True)
    m = machine
    jiffies = NOW * shape.hz // 10**9
    asleep = []
    allowed = scenario.allowed_pcpus()
    for number, (where, awake, nice, *_) in enumerate(shape.tasks):
        m.task.weight[number], m.task.inverse_weight[number] = WEIGHTS[nice + 20], INVERSE_WEIGHTS[nice + 20]
        where = allowed[number][where % len(allowed[number])]
        m.task.cpu[number] = where
        if awake:
            drive(machine, FORK, where, number, NOW - 9 * MS)
        else:
            asleep.append(number)
    for cpu, runs in enumerate(shape.running):
        if runs:
            drive(machine, PICK, cpu, 0, NOW - 8 * MS)
        m.pcpu.vcpu[cpu] = m.rq.curr[cpu]
        buddies, next_balance, average = shape.cpus[cpu]
        queued = [task for task in queue_of(m, cpu) if task != m.rq.curr[cpu]]
        m.rq.next[cpu] = queued[0] if queued and buddies & 1 else -1
        m.rq.last[cpu] = queued[-1] if queued and buddies & 2 else -1
        m.balance.next_balance[cpu] = jiffies + next_balance
        m.balance.avg_idle[cpu] = average
        for level in range(m.sd.shape[1]):
            times, failed, age = shape.domains[2 * cpu + level]
            domain = m.sd[cpu, level]
            domain.balance_interval *= times
            domain.nr_balance_failed = failed
            domain.last_balance = jiffies - age
    for number, (_, awake, _, us, flips, recent, last) in enumerate(shape.tasks):
        if awake:
            m.task.exec_start[number] = NOW - us * 1000
        allowed_here = allowed[number]
        m.placement[number].recent_used_cpu = allowed_here[recent % len(allowed_here)]
        m.placement[number].wakee_flips = flips
        m.placement[number].last_wakee = last
        m.placement[number].wakee_flip_decay_ts = NOW - (us - 200) * 400_000
    m.balancer.next_balance = jiffies + shape.next_balance
    return machine, plain(machine, shape, allowed), asleep, jiffies


def queue_of(m, cpu):
    """Tasks of a run queue, the one that ran or came last first."""
    found = []
    task = int(m.rq.mru_head[cpu])
    while task >= 0:
        found.append(task)
        task = int(m.task.mru_next[task])
    return found


def plain(m, shape, allowed):
    """The same host as plain objects."""
    tasks = [
        Task(
            number=k,
            weight=int(m.task.weight[k]),
            allowed=set(allowed[k]),
            cpu=int(m.task.cpu[k]),
            ran_until=int(m.task.exec_start[k]),
            recent=int(m.placement.recent_used_cpu[k]),
            flips=int(m.placement.wakee_flips[k]),
            last_wakee=int(m.placement.last_wakee[k]),
            decayed_at=int(m.placement.wakee_flip_decay_ts[k]),
        )
        for k in range(len(m.task))
    ]
    size = min(shape.llc or shape.pcpus, shape.pcpus)
    everyone = list(range(shape.pcpus))
    caches = [everyone[first : first + size] for first in range(0, shape.pcpus, size)]
    host = Host([], shape.hz, any(len(one.allowed) > 1 for one in tasks), int(m.balancer.next_balance[0]))
    for cpu in everyone:
        llc = caches[cpu // size]
        domains = [Domain(llc, [[one] for one in llc], 117, False, 0)] if size > 1 else []
        if len(caches) > 1:
            domains.append(Domain(everyone, caches, 125, size > 1, 0))
        for level, domain in enumerate(domains):
            record = m.sd[cpu, level]
            domain.interval, domain.last = int(record.balance_interval), int(record.last_balance)
            domain.failed = int(record.nr_balance_failed)
        curr = int(m.rq.curr[cpu])
        host.cpus.append(
            Cpu(
                tasks=[tasks[k] for k in queue_of(m, cpu)],
                current=tasks[curr] if curr >= 0 else None,
                llc=llc,
                domains=domains,
                idle_task=Task(-1, 0, set(), cpu),
                buddies={int(m.rq.next[cpu]), int(m.rq.last[cpu])} - {-1},
                next_balance=int(m.balance.next_balance[cpu]),
                average_idle=int(m.balance.avg_idle[cpu]),
                idle_since=-1,
            )
        )
    return host, tasks


def assert_same(m, host, tasks):
    """Everything that balancing decides or remembers is the same in both."""
    events = m.event[: int(m.journal.recorded[0])]
    moved = [(int(e.a), int(e.b), int(e.c) & PCPU_MASK) for e in events if e.kind == SCHED_MIGRATE]
    assert moved == host.moves
    assert int(m.migrations.sum()) == len(moved)
    assert int(m.balancer.next_balance[0]) == host.next_balance
    for number, cpu in enumerate(host.cpus):
        assert queue_of(m, number) == [task.number for task in cpu.tasks]
        record = m.balance[number]
        assert record.next_balance == cpu.next_balance
        assert bool(record.nohz_kick) == cpu.kicked
        assert (record.push_cpu if record.active_balance else None) == cpu.pushes_to
        assert record.idle_stamp == cpu.idle_since
        for level, domain in enumerate(cpu.domains):
            found = m.sd[number, level]
            assert (found.balance_interval, found.nr_balance_failed, found.last_balance) == (
                domain.interval, domain.failed, domain.last
            ), (number, level)  # fmt: skip
    memories = [*tasks, *(cpu.idle_task for cpu in host.cpus)]
    for number, task in enumerate(memories):
        record = m.placement[number]
        if number < len(tasks):
            assert record.recent_used_cpu == task.recent
            assert m.task.cpu[number] == task.cpu
        assert (record.wakee_flips, record.last_wakee) == (task.flips, task.last_wakee)


@settings(max_examples=150)
@given(shapes(), st.integers(0, 7), st.integers(0, 13))
def test_a_wakeup_goes_where_the_kernel_puts_it(shape: Shape, waker: int, chosen: int) -> None:
    """Any host: the same CPU for a woken task, three times in a row, and the same memory of it left behind."""
    m, (host, tasks), asleep, _ = made(shape)
    for step in range(3 if asleep else 0):
        number, cpu = asleep[(chosen + step) % len(asleep)], (waker + step) % shape.pcpus
        where = drive(m, WAKE, cpu, number, NOW + step * 700 * MS)
        assert where == host.place(cpu, tasks[number], NOW + step * 700 * MS)
        assert where in tasks[number].allowed
    assert_same(m, host, tasks)


@settings(max_examples=60)
@given(shapes())
def test_a_new_thread_goes_to_the_idlest_cpu(shape: Shape) -> None:
    """Any host: the least loaded CPU that is allowed, near as little load as possible."""
    m, (host, tasks), asleep, _ = made(shape)
    for number in asleep:
        where = drive(m, NEW, 0, number, NOW)
        assert where == host.place_new(tasks[number])


def one_cache_busy(failed: int) -> Shape:
    """Two caches of two CPUs; one has a running task on each CPU, the other is idle and has failed to get one."""
    tasks = tuple((cpu, True, 0, 3000, 0, 0, 0) for cpu in range(2))
    cpus, domains = ((0, -3, 10**6),) * 4, ((1, failed, 300),) * 8
    return Shape(4, 2, 1000, ("0-3", "0-3"), tasks, (True,) * 4, cpus, domains, 0)


def test_balancing_moves_what_the_kernel_moves() -> None:
    """Any host, any trigger: the same tasks move in the same order, and the same is remembered for later."""
    seen: Counter[str] = Counter()

    @settings(max_examples=300)
    @given(shapes(), st.integers(0, 7), st.sampled_from(TRIGGERS))
    @example(one_cache_busy(4), 0, KICKED)
    @example(one_cache_busy(3), 0, KICKED)
    @example(one_cache_busy(0), 0, TICK)
    @example(one_cache_busy(2), 0, PUSH)
    def check(shape: Shape, cpu: int, what: int) -> None:
        m, (host, tasks), _, jiffies = made(shape)
        idle = [number for number, one in enumerate(host.cpus) if one.idle]
        cpu = idle[cpu % len(idle)] if idle and what in (NEWLY_IDLE, KICKED) else cpu % shape.pcpus
        queue = host.cpus[cpu]
        if what == NEWLY_IDLE and not queue.idle:
            what = TICK
        if what == KICKED:
            m.balance.nohz_kick[cpu] = queue.kicked = True
        if what == PUSH:
            m.balance.active_balance[cpu] = True
            m.balance.push_cpu[cpu] = queue.pushes_to = (cpu + 1) % shape.pcpus
        queues = [(queue_of(m, k), int(m.rq.curr[k])) for k in range(shape.pcpus)]
        note(f"{what} on CPU {cpu} of {queues}")
        result = drive(m, what, cpu, 0, NOW)
        if what == TICK:
            host.tick(cpu, NOW, jiffies)
        elif what == NEWLY_IDLE:
            assert bool(result) == host.becomes_idle(cpu, NOW, jiffies)
        elif what == KICKED:
            host.kicked(cpu, NOW, jiffies)
        else:
            host.push(cpu, NOW)
        assert_same(m, host, tasks)
        for number in {target for _, _, target in host.moves} - {cpu}:
            assert m.rq.need_resched[number] == 0 or m.pcpu.interrupt_at[number] <= NOW + m.balancer.ipi[0]
        seen["moved", what] += bool(host.moves)
        seen["kicked"] += any(one.kicked for one in host.cpus)
        seen["pushed"] += what != PUSH and any(one.pushes_to is not None for one in host.cpus)

    check()
    assert min(seen["moved", what] for what in TRIGGERS) > 0, seen
    assert min(seen["kicked"], seen["pushed"]) > 0, seen
