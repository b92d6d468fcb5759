"""The chaos scheduler: its queue, its preemption points, and the schedules that replay them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter, namedtuple
from pathlib import Path

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_guests import write_guest
from made_machines import GUESTS, Command, commands, observe, programs_of
from reference.chaos import Queue
from test_batching import PING_PONG, SCRIPT, SLOW
from test_machine_properties import check_counts

from pleemu.checks.locks import check_mutual_exclusion
from pleemu.checks.threads import check_threads
from pleemu.checks.windows import check_windows
from pleemu.checks.yields import check_obeyed
from pleemu.cli import main
from pleemu.errors import GuestFault, ScenarioError
from pleemu.experiment.compare import cases_of
from pleemu.jit import callable_alone
from pleemu.machine import run as run_module
from pleemu.machine.build import cycles_of, records
from pleemu.machine.run import simulate
from pleemu.observe.events import EXTERNAL_INTERRUPT, KVM_ENTRY, KVM_EXIT, SCHED_SWITCH
from pleemu.policy import check_policy, policy
from pleemu.schedule import Point, format_schedule, parse_schedule
from pleemu.scheduler import core, preemption
from pleemu.scheduler.records import CHAOS, DRAW, PREEMPTION, RQ, TASK, TASK_INTERRUPTIBLE, TASK_RUNNING, TUNABLES
from pleemu.testing import shrink_schedule

HERE = Path(__file__).parent
BROKEN = str(GUESTS / "broken" / "lost_update.S")
FITTING = ("vanilla", "strict-boost", "no-ple")


def with_chaos(command: Command, **fields: object) -> Command:
    """The same machine with the chaos scheduler."""
    chosen = {f"host.{name}": str(value) for name, value in fields.items()}
    return attrs.evolve(command, fields={**command.fields, "host.scheduler": "chaos", **chosen})


@st.composite
def chaotic(draw: st.DrawFn) -> Command:
    """Any small machine with this scheduler; slow ones need long slices to come to anything."""
    shortest = draw(st.sampled_from((1, 10, 1000)))
    longest = draw(st.sampled_from((shortest, 10 * shortest, 100_000, 1_000_000)))
    return with_chaos(draw(commands(FITTING)), chaos_min_ns=shortest, chaos_max_ns=max(longest, shortest))


# ---- The queue ---------------------------------------------------------------------------

Pieces = namedtuple("Pieces", "task rq tree tunables")
CPUS, TASKS = 3, 6


def pieces() -> Pieces:
    m = Pieces(records(TASKS, TASK), records(CPUS, RQ), np.zeros((CPUS, TASKS), np.int64), records(1, TUNABLES))
    m.tunables.model = CHAOS
    m.task.state = TASK_INTERRUPTIBLE
    m.rq.curr = m.rq.next = m.rq.mru_head = m.rq.mru_tail = m.rq.chosen = -1
    return m


wake, pick, tick, move, ask = (
    callable_alone(function)
    for function in (core.try_to_wake_up, core.pick_next_task, core.scheduler_tick, core.migrate_task, core.yield_to)
)
steps = st.lists(st.tuples(st.sampled_from(("wake", "sleep", "resched", "tick", "yield", "choose", "move")),
                           st.integers(0, CPUS - 1), st.integers(0, TASKS - 1)), max_size=60)  # fmt: skip


@settings(max_examples=150)
@given(steps)
def test_queue_agrees_with_lists(made: list[tuple[str, int, int]]) -> None:
    """Wake-ups, sleeps, ticks, directed yields, points and moves, in any order: who runs and who waits."""
    m, queues, home = pieces(), [Queue() for _ in range(CPUS)], dict.fromkeys(range(TASKS), 0)
    for what, q, task in made:
        queue, place = queues[q], queues[home[task]]
        waits = task in place.waiting
        if what == "wake":
            asleep = not waits and place.running != task
            assert wake(m, q, task, 0) == asleep
            if asleep:
                home[task] = q
                queue.wake(task)
        elif what == "sleep" and queue.running is not None:
            m.task[queue.running].state = TASK_INTERRUPTIBLE
            assert pick(m, q, 0) == number(queue.schedule(runnable=False))
        elif what == "resched":
            assert pick(m, q, 0) == number(queue.schedule(runnable=True))
        elif what == "tick":
            tick(m, q, 0)
            queue.tick()
        elif what == "yield" and queue.running is not None and queue.running != task:
            alone = not queue.waiting and len(place.waiting) + (place.running is not None) == 1
            assert ask(m, q, task, 0) == (-3 if alone else int(waits))
            if waits and not alone:
                place.hinted = task
                place.resched |= place is not queue
        elif what == "choose" and waits:
            m.rq[home[task]].chosen = place.chosen = task
        elif what == "move" and waits:
            move(m, q, task, 0)
            place.leave(task)
            home[task] = q
            queue.wake(task)
        for number_of_queue, one in enumerate(queues):
            rq = m.rq[number_of_queue]
            assert waiting(m, number_of_queue) == one.waiting
            assert (rq.curr, rq.need_resched) == (number(one.running), one.resched)
            assert rq.nr_running == len(one.waiting) + (one.running is not None)
            assert all(m.task[one].state == TASK_RUNNING for one in one.waiting)


def number(task: int | None) -> int:
    return -1 if task is None else task


def waiting(m: Pieces, q: int) -> list[int]:
    """The queue from both ends."""
    forwards, task = [], int(m.rq[q].mru_tail)
    while task >= 0:
        forwards.append(task)
        task = int(m.task[task].mru_prev)
    backwards, task = [], int(m.rq[q].mru_head)
    while task >= 0:
        backwards.append(task)
        task = int(m.task[task].mru_next)
    assert forwards == backwards[::-1]
    return forwards


@pytest.mark.parametrize(("least", "most"), [(1, 1), (1, 2), (7, 7), (20, 2_100_000), (3, 1 << 40), (63, 64)])
def test_slices_of_all_magnitudes_are_drawn_alike(least: int, most: int) -> None:
    """Every slice is in [least, most], and each octave from `least` up is as frequent as any other."""
    Draws = namedtuple("Draws", "preemption draw")
    m = Draws(records(1, PREEMPTION), records(1, DRAW))
    m.preemption.stream, m.draw.least, m.draw.most = 0x1234567, least, most
    slices = [int(DRAW_SLICE(m, 0)) for _ in range(4000)]
    assert least <= min(slices)
    assert max(slices) <= most
    octaves = Counter((one // least).bit_length() for one in slices)
    expected = len(slices) / (most // least).bit_length()
    assert len(octaves) == (most // least).bit_length()
    assert all(abs(count - expected) < 6 * expected**0.5 for count in octaves.values())


DRAW_SLICE = callable_alone(preemption.draw_slice)

# ---- Schedules replay runs -----------------------------------------------------------------


@settings(max_examples=40)
@given(chaotic())
def test_a_printed_schedule_replays_its_run(command: Command) -> None:
    """The random run's token gives the same events, and the same token."""
    scenario = command.scenario()
    run = observe(command).run
    replayed = simulate(
        attrs.evolve(scenario, host=attrs.evolve(scenario.host, schedule=run.schedule)), programs=programs_of(scenario)
    )
    assert (replayed.digest, replayed.schedule) == (run.digest, run.schedule)
    assert run.preemptions == replayed.preemptions == len(run.points())


@settings(max_examples=40)
@given(chaotic(), st.data())
def test_points_that_were_made_replay_any_given_ones(command: Command, data: st.DataObject) -> None:
    """Give any points, sensible or not: those that had an effect, given alone, give the same run."""
    scenario = command.scenario()
    vcpus = sum(vm.vcpus for vm in scenario.vm)
    last = cycles_of(scenario, scenario.duration_ns)
    given_points = data.draw(
        st.lists(
            st.builds(
                Point, st.integers(0, last), st.integers(0, scenario.hardware.pcpus - 1), st.integers(0, vcpus - 1)
            ),
            max_size=30,
        ).map(sorted)
    )
    first = observe(with_chaos(command, schedule=format_schedule(given_points))).run
    again = observe(with_chaos(command, schedule=first.schedule)).run
    assert again.digest == first.digest
    assert again.points() == first.points()
    assert len(first.points()) <= len(given_points)


@settings(max_examples=60)
@given(chaotic())
def test_every_chaotic_machine_keeps_the_rules(command: Command) -> None:
    """Mutual exclusion, windows, threads and counts are right wherever threads are preempted."""
    observed = observe(command)
    order = observed.events[["cycle", "pcpu"]].tolist()
    assert order == sorted(order)
    check_mutual_exclusion(observed)
    check_windows(observed)
    check_threads(observed)
    check_counts(observed)


@settings(max_examples=30)
@given(chaotic())
def test_every_accepted_yield_is_obeyed(command: Command) -> None:
    """yield_to that returned 1 on the yielder's own pCPU: the next thread there is the target."""
    check_obeyed(observe(command))


def test_seeds_give_different_schedules_and_the_same_seed_the_same() -> None:
    """Five seeds, five schedules, twice; what a schedule gives does not depend on the seed."""
    made = [[randomly(seed).schedule for seed in range(5)] for _ in range(2)]
    assert made[0] == made[1]
    assert len(set(made[0])) == 5
    assert {randomly(seed, schedule=made[0][3]).schedule for seed in range(5)} == {made[0][3]}


def randomly(seed: int, **fields: object):
    """A run whose own randomness is only the scheduler's."""
    command = Command(BROKEN, {"seed": seed, "pcpus": 1, "vcpus": 3, "duration": "2ms"})
    return observe(with_chaos(command, **fields)).run


def test_more_points_than_the_buffer_holds_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    """The core hands its points over whenever the buffer is full; none is lost, and the token stays pasteable."""
    monkeypatch.setattr(run_module, "PROGRESS_STEPS", 1)  # or else it would never fill
    free = {f"cost.{name}_ns": "0" for name in ("exit", "entry", "context_switch", "interrupt_handler")}
    command = Command(BROKEN, {"pcpus": 1, "vcpus": 2, "duration": "0.1ms", "seed": 3}, free)
    command = with_chaos(command, chaos_min_ns=1, chaos_max_ns=10)
    try:
        run = observe(command).run
        schedule, count = run.schedule, run.preemptions
    except GuestFault as fault:
        schedule = fault.schedule
        count = len(parse_schedule(schedule))
    assert count > 2 * preemption.MADE_LIMIT
    assert schedule.startswith("z:")
    scenario = attrs.evolve(command.scenario(), host=attrs.evolve(command.scenario().host, schedule=schedule))
    monkeypatch.undo()
    assert shown_schedule(scenario) == schedule


def shown_schedule(scenario) -> str | None:
    try:
        return simulate(scenario, programs=programs_of(scenario)).schedule
    except GuestFault as fault:
        return fault.schedule


def test_neither_plain_python_nor_single_steps_move_a_point() -> None:
    """With NUMBA_DISABLE_JIT=1, one instruction a call: the compiled core's digests, at random and at exact points."""
    asked = {}
    for subject, vcpus in (("ticket_lock", 4), ("overboost", 5), (PING_PONG, 4)):
        changes = {"duration": "10ms", "vms": 2, "vcpus": vcpus, "pcpus": 3, "seed": 5}
        asked[subject] = with_chaos(Command(subject, changes, SLOW | {"vm.pinning": "vcpu-to-pcpu"}))
    runs = {name: observe(one).run for name, one in asked.items()}
    assert all(run.preemptions > 20 for run in runs.values())
    asked |= {f"{name} exact": with_chaos(one, schedule=runs[name].schedule) for name, one in asked.items()}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps({name: (one.subject, one.changes, one.fields) for name, one in asked.items()}),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": f"{HERE.parent}:{HERE}"},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for name, run in runs.items():
        assert found[name] == found[f"{name} exact"] == [run.digest, run.instructions, run.ple.exits]


# ---- Points strike where they are told -----------------------------------------------------

NOPS = '.include "pleemu.inc"\n.globl guest_main\nguest_main:\n .rept 3000\n nop\n .endr\n ret\n'


@pytest.mark.parametrize("nop", [0, 1, 2, 17, 1500, 2998])
def test_a_point_strikes_between_two_named_instructions(tmp_path: Path, nop: int) -> None:
    """Of 3000 one-cycle instructions the thread stops before exactly the one that begins at the point's cycle."""
    command = Command(str(write_guest(tmp_path, NOPS)), {"pcpus": 1, "vcpus": 2, "duration": "1ms"})
    scenario = command.scenario()
    entered = observe(with_chaos(command, schedule="-")).of_kind(KVM_ENTRY)[0]
    cycle = int(entered["cycle"]) + cycles_of(scenario, scenario.cost.entry_ns) + nop
    found = observe(with_chaos(command, schedule=f"0@{cycle}:1"))
    stopped = found.of_kind(KVM_EXIT)[0]
    begins = programs_of(scenario)[scenario.program_of(scenario.vm[0])].address_of("guest_main")
    assert stopped["cycle"] == cycle + cycles_of(scenario, scenario.cost.exit_ns)
    assert (stopped["vcpu"], stopped["a"]) == (0, EXTERNAL_INTERRUPT)
    assert int(stopped["b"]) % (1 << 64) == begins + nop
    switched = found.of_kind(SCHED_SWITCH)[1]
    assert (switched["a"], switched["b"]) == (0, 1)
    assert found.run.points() == (Point(cycle, 0, 1),)


def test_points_without_effect_leave_no_trace() -> None:
    """For who runs already, sleeps elsewhere or does not exist yet: the run without them, to the digest."""
    command = Command(BROKEN, {"pcpus": 2, "vcpus": 4, "duration": "0.2ms"})
    plain = observe(with_chaos(command, schedule="-")).run
    idle = observe(with_chaos(command, schedule="0@30000:0,1@30000:0,0@30001:3,1@30002:2,1@30003:1,0@399999999:2")).run
    assert idle.digest == plain.digest
    assert idle.schedule == plain.schedule == "-"


@pytest.mark.parametrize("later", [0, 1, 3000, 15_000])
def test_a_point_in_host_code_is_obeyed_before_the_next_entry(later: int) -> None:
    """Due at the same cycle as another, or in the exit or switch behind it: the second thread follows the first."""
    command = Command(BROKEN, {"pcpus": 1, "vcpus": 3, "duration": "0.2ms"})
    found = observe(with_chaos(command, schedule=f"0@30000:2,0@{30000 + later}:1"))
    told = found.of_kind(KVM_ENTRY, KVM_EXIT, SCHED_SWITCH)[["kind", "vcpu", "b"]].tolist()[1:6]
    assert [(kind, vcpu, b) if kind == SCHED_SWITCH else (kind, vcpu) for kind, vcpu, b in told] == [
        (KVM_ENTRY, 0),
        (KVM_EXIT, 0),
        (SCHED_SWITCH, 0, 2),
        (SCHED_SWITCH, 2, 1),
        (KVM_ENTRY, 1),
    ]
    assert found.run.preemptions == 2


BUSY = '.include "pleemu.inc"\n.globl guest_main\nguest_main:\n1: work 1000\n operation_done\n jmp 1b\n'


@settings(max_examples=10)
@given(st.integers(2, 6), st.sampled_from((250, 1000)))
def test_without_points_threads_take_turns_at_ticks(tmp_path_factory, vcpus: int, hz: int) -> None:
    """Exactly one tick each, in the order in which they came: nobody waits longer than everybody else's tick."""
    guest = write_guest(tmp_path_factory.mktemp("busy"), BUSY)
    changes = {"pcpus": 1, "vcpus": vcpus, "duration": f"{(2 * vcpus + 1.5) * 1000 / hz}ms"}
    fields = {"host.hz": str(hz), "hardware.tsc_khz": "50000"}
    found = observe(with_chaos(Command(str(guest), changes, fields), schedule="-"))
    turns = found.of_kind(SCHED_SWITCH)
    assert turns["b"].tolist() == [number % vcpus for number in range(2 * vcpus + 2)]
    tick_cycles = found.run.scenario.hardware.core_rate_khz * 1000 // hz
    assert np.all(np.abs(np.diff(turns["cycle"])[1:] - tick_cycles) < tick_cycles // 10)


@settings(max_examples=8)
@given(st.integers(0, 2**32), st.integers(2, 6))
def test_no_thread_starves_at_random_points(tmp_path_factory, seed: int, vcpus: int) -> None:
    """Threads that never give way by themselves wait for at most two ticks of each."""
    guest = write_guest(tmp_path_factory.mktemp("busy"), BUSY)
    command = Command(str(guest), {"pcpus": 1, "vcpus": vcpus, "duration": "100ms", "seed": seed})
    observed = observe(with_chaos(command))
    rows = observed.of_kind(SCHED_SWITCH)
    since = dict.fromkeys(range(vcpus), 0)
    longest = 0
    for cycle, before, after in zip(rows["cycle"].tolist(), rows["a"].tolist(), rows["b"].tolist(), strict=True):
        longest = max(longest, cycle - since.get(after, 0))
        since[before] = cycle
    tick_cycles = observed.run.cycles * 4 // 100
    assert set(rows["b"].tolist()) == set(range(vcpus))
    assert longest <= 2 * vcpus * tick_cycles


# ---- Finding a bug --------------------------------------------------------------------------

SEARCH = Command(BROKEN, {"pcpus": 1, "vcpus": 2, "duration": "4ms"})
SEEDS = range(1, 7)


def fails(scenario) -> bool:
    """Whether the guest has lost an update and says so by a fault."""
    try:
        simulate(scenario, programs=programs_of(scenario))
    except GuestFault as fault:
        assert "(lost)" in str(fault)
        return True
    return False


def test_chaos_finds_replays_and_shrinks_what_cfs_does_not_show() -> None:
    """A lock that tests first and sets later: chaos breaks it in a few seeds, by two to four preemptions."""
    assert not any(fails(attrs.evolve(SEARCH.scenario(), seed=seed)) for seed in SEEDS)
    chaotic_scenario = with_chaos(SEARCH, chaos_max_ns=100_000).scenario()
    found = [seed for seed in SEEDS if fails(attrs.evolve(chaotic_scenario, seed=seed))]
    assert len(found) >= 3
    scenario = attrs.evolve(chaotic_scenario, seed=found[0])
    with pytest.raises(GuestFault, match=r"(?s)\(lost\).*\nreplay with: --host.schedule 0@") as caught:
        simulate(scenario, programs=programs_of(scenario))
    replay = attrs.evolve(scenario, host=attrs.evolve(scenario.host, schedule=caught.value.schedule))
    with pytest.raises(GuestFault) as replayed:
        simulate(replay, programs=programs_of(scenario))
    assert str(replayed.value) == str(caught.value)
    small = shrink_schedule(scenario, fails)
    assert fails(small)
    assert 1 <= len(small.points) <= 4
    for number in range(len(small.points)):
        fewer = format_schedule(small.points[:number] + small.points[number + 1 :])
        assert not fails(attrs.evolve(small, host=attrs.evolve(small.host, schedule=fewer)))


def test_shrinking_says_what_it_cannot_do() -> None:
    """Nothing fails, or another scheduler: an error instead of an answer."""
    with pytest.raises(ScenarioError, match="nothing to shrink"):
        shrink_schedule(with_chaos(SEARCH, schedule="-").scenario(), lambda _: False)
    with pytest.raises(ScenarioError, match=r"host\.scheduler is 'cfs-5\.6'"):
        shrink_schedule(SEARCH.scenario(), lambda _: True)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=40, unique=True).map(sorted), st.data())
def test_shrinking_keeps_exactly_what_matters(cycles: list[int], data: st.DataObject) -> None:
    """If a failure needs some of the points as they are, those and no others are left."""
    needed = set(data.draw(st.lists(st.sampled_from(cycles), max_size=3)))
    token = format_schedule(Point(cycle, 0, cycle % 2) for cycle in cycles)
    scenario = with_chaos(SEARCH, schedule=token).scenario()
    found = shrink_schedule(scenario, lambda one: needed <= {point.cycle for point in one.points})
    assert {point.cycle for point in found.points} == needed


# ---- What the user sees ---------------------------------------------------------------------


def test_command_line_prints_a_token_that_replays(capsys: pytest.CaptureFixture[str]) -> None:
    """The last line of the report, pasted, gives the same digest; a long token is only counted, but in the JSON."""
    given_line = ["run", "case_study", "--duration", "2ms", "--set=host.scheduler=chaos"]
    assert main(given_line) == 0
    printed = capsys.readouterr().out
    last = printed.rstrip().splitlines()[-1]
    assert last.startswith("replay with: --host.schedule 0@")
    assert main([*given_line, *last.removeprefix("replay with: ").split()]) == 0
    assert schedule_of(capsys.readouterr().out) == last
    assert main([*given_line, "--host.schedule", "0@1000000:1,0@1000000:1,0@1500000000:1"]) == 0
    assert "\n2 of the 3 points given had no effect: " in capsys.readouterr().out
    given_line[3] = "60ms"
    assert main(given_line) == 0
    assert "preemptions; --json has the token" in schedule_of(capsys.readouterr().out)
    assert main([*given_line, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schedule"].startswith("z:")
    assert found["preemptions"] == len(parse_schedule(found["schedule"]))
    assert main(["run", "case_study", "--duration", "2ms", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schedule"] is None


def schedule_of(printed: str) -> str:
    return printed.rstrip().splitlines()[-1]


def test_policies_that_change_vruntimes_do_not_go_with_it() -> None:
    """What has debooster in it is refused by name, in a run and in comparisons; by default it is left out."""
    scenario = with_chaos(Command("case_study")).scenario()
    with pytest.raises(ScenarioError, match=r"policy 'debooster' does not go with host\.scheduler 'chaos'"):
        simulate(scenario, policy=policy("debooster"))
    with pytest.raises(ScenarioError, match="use 'strict-boost' or another scheduler"):
        check_policy(policy("strict-boost+debooster"), "chaos")
    with pytest.raises(ScenarioError, match="'debooster'"):
        cases_of(scenario, "vanilla,debooster")
    with pytest.raises(ScenarioError, match="'debooster'"):
        cases_of(Command("case_study").scenario(), "debooster", ["host.scheduler=cfs-5.6,chaos"])
    assert [case.name for case in cases_of(scenario).cases] == list(FITTING)
    assert len(cases_of(Command("case_study").scenario()).cases) == 5


def test_points_strike_in_threads_of_the_host() -> None:
    """A hog is preempted as a guest is, at random and at the very cycle; the token replays both."""
    hog = {"thread.0.name": "hog", "host.hz": "100"}
    command = Command(str(GUESTS / "spin.S"), {"vcpus": 2, "pcpus": 1, "duration": "20ms"}, hog)
    made = observe(with_chaos(command, chaos_max_ns=10_000))
    assert all(0.2 < share < 0.5 for share in (made.run.vms[0].cpu_share / 2, made.run.threads[0].cpu_share))
    again = observe(with_chaos(command, schedule=made.run.schedule))
    assert again.run.digest == made.run.digest
    exact = observe(with_chaos(command, schedule="0@100000:2,0@3000000:0")).run.points()
    assert 0 <= exact[0].cycle - 100_000 < 20  # between two instructions
    assert (exact[1].cycle, exact[1].thread) == (3_000_000, 0)
