"""Threads of the host beside the vCPUs', nice values and ticks."""

from __future__ import annotations

import json
from collections import namedtuple

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_machines import GUESTS, Command, observe, prepare_core, programs_of

from pleemu.cli import main
from pleemu.hardware.records import CLOCK, PCPU
from pleemu.jit import callable_alone
from pleemu.machine import timers
from pleemu.machine.build import build
from pleemu.machine.state import RUN
from pleemu.observe.events import (
    EXTERNAL_INTERRUPT,
    KVM_EXIT,
    SCHED_SWITCH,
    SCHED_WAKEUP,
    STATE_PREEMPTED,
    STATE_SLEEPING,
)
from pleemu.policy import policy
from pleemu.scenario import set_fields
from pleemu.scheduler.weights import WEIGHTS

set_next_tick_alone = callable_alone(timers.set_next_tick)

SPIN = str(GUESTS / "spin.S")
FREE = {f"cost.{name}_ns": "0" for name in ("context_switch", "tick", "interrupt_handler", "wakeup", "idle_exit")}
KHZ = 100_000  # a slow machine: many time slices in few instructions
SLOW = {"hardware.tsc_khz": str(KHZ), "hardware.core_khz": str(KHZ), "host.hz": "1000", "host.online_cpus": "1"}


def spin(fields, *, vcpus=1, pcpus=1, duration="400ms", vms=1, base=SLOW):
    """Run vCPUs that spin without exits, on a slow machine."""
    changes = {"vcpus": vcpus, "pcpus": pcpus, "vms": vms, "duration": duration, "policy": "no-ple"}
    return observe(Command(SPIN, changes, {**base, **fields}))


def thread(number=0, **fields):
    """Settings of one table [[thread]]."""
    return {f"thread.{number}.{name}": str(value) for name, value in fields.items()}


def test_hog_and_vcpu_share_evenly():
    """A vCPU and a hog of equal nice on one pCPU have half of it each, and neither is ever idle."""
    run = spin(thread(name="hog")).run
    assert run.vms[0].cpu_share == pytest.approx(0.5, abs=0.01)
    assert run.threads[0].cpu_share == pytest.approx(0.5, abs=0.01)
    assert run.idle_share < 1e-3


@settings(max_examples=10)
@given(st.integers(-4, 4), st.integers(-4, 4), st.integers(1, 2))
def test_shares_are_as_the_weights_of_nice(vm_nice, thread_nice, hogs):
    """One vCPU of each of two VMs and some hogs: each gets its weight's part of the pCPU."""
    fields = {"vm.0.nice": str(vm_nice)} | thread(name="hog", nice=thread_nice, count=hogs)
    run = spin(fields, vms=2, duration="600ms").run
    mine, other, theirs = WEIGHTS[vm_nice + 20], WEIGHTS[20], WEIGHTS[thread_nice + 20] * hogs
    total = mine + other + theirs
    shares = [*(vm.cpu_share for vm in run.vms), run.threads[0].cpu_share]
    assert shares == pytest.approx([weight / total for weight in (mine, other, theirs)], abs=0.03)


def wakeups_of(found, task):
    """Cycles at which a task was woken, and at which it then ran."""
    woken = found.of_kind(SCHED_WAKEUP)
    switches = found.of_kind(SCHED_SWITCH)
    starts = switches["cycle"][switches["b"] == task]
    cycles = woken["cycle"][woken["a"] == task]
    return cycles.tolist(), [int(starts[starts >= one][0]) for one in cycles if (starts >= one).any()]


@pytest.mark.parametrize("period_us", [1000, 777, 3333])
@pytest.mark.parametrize("khz", [2_100_000, 2_333_333])
def test_timer_wakes_an_idle_pcpu_at_the_exact_cycle(period_us, khz):
    """Beside a guest on another pCPU: wake-up k is at the first cycle of k periods, without drift."""
    clock = {"hardware.tsc_khz": str(khz)}
    found = spin(thread(name="kw", busy_us=50, period_us=period_us, pinning=1), pcpus=2, base=clock, duration="29ms")
    woken, _ = wakeups_of(found, 1)
    assert woken == [-(-k * period_us * khz // 1000) for k in range(1, len(woken) + 1)]
    assert len(woken) == 28_999 // period_us
    assert found.run.threads[0].bursts == len(woken) + 1


def test_timer_takes_a_guest_out_at_once():
    """A pCPU in guest mode: an EXTERNAL_INTERRUPT exit, the thread runs within 10 us, and has busy / period of it."""
    fields = thread(name="kw", busy_us=100, period_us=1000)
    found = spin(fields, base={"host.hz": "100"}, duration="200ms")
    woken, ran = wakeups_of(found, 1)
    exits = found.of_kind(KVM_EXIT)
    assert set(exits["a"].tolist()) == {EXTERNAL_INTERRUPT}
    assert len(woken) == 199
    for k, (wakeup, start) in enumerate(zip(woken, ran, strict=True), 1):
        assert 0 <= wakeup - k * 2_100_000 < 2 * 2100  # the exit takes 1.5 us; a tick may come first
        assert start - wakeup < 10 * 2100
    assert found.run.threads[0].bursts == 200
    assert found.run.threads[0].cpu_share == pytest.approx(0.105, abs=0.001)  # with its context switch


@settings(max_examples=10)
@given(st.integers(200, 5000), st.integers(6000, 20_000), st.integers(0, 3))
def test_preempted_bursts_go_on_where_they_stopped(busy_us, period_us, nice):
    """With a host that costs nothing, a burst has exactly its CPU time between wake-up and sleep, in any pieces."""
    fields = FREE | thread(name="kw", busy_us=busy_us, period_us=period_us, nice=nice) | thread(1, name="hog")
    found = spin(fields, duration="150ms")
    ran, since, bursts, preempted = 0, None, 0, 0
    for cycle, a, b, state in found.of_kind(SCHED_SWITCH)[["cycle", "a", "b", "c"]].tolist():
        if a == 1:
            ran += cycle - since
            preempted += state == STATE_PREEMPTED
            if state == STATE_SLEEPING:
                assert ran == busy_us * KHZ // 1000
                bursts, ran = bursts + 1, 0
        if b == 1:
            since = cycle
    assert bursts == found.run.threads[0].bursts
    assert bursts > 3
    assert preempted > 0 or busy_us < 4500  # less may be had on a sleeper's credit


def test_ticks_are_no_part_of_a_burst():
    """A burst of 20 ms alone on its pCPU is as much longer as the ticks in it take: 1000 Hz, 30 us each."""
    fields = FREE | {"cost.tick_ns": "30000"} | thread(name="kw", busy_us=20_000, period_us=50_000, pinning=1)
    found = spin(fields, pcpus=2, duration="90ms")
    ran = [cycle for cycle, a in found.of_kind(SCHED_SWITCH)[["cycle", "a"]].tolist() if a == 1]
    begins = (70, 50 * KHZ)  # the first one 700 ns after its birth
    assert [cycle - begin for cycle, begin in zip(ran, begins, strict=True)] == [20 * KHZ + 20 * 3000] * 2


def test_burst_that_is_late_leaves_a_period_out():
    """A thread that gets half of what it wants never sleeps long, and its wake-ups stay on multiples of its period."""
    found = spin(FREE | thread(name="kw", busy_us=900, period_us=1000) | thread(1, name="hog"), duration="200ms")
    woken, _ = wakeups_of(found, 1)
    assert 10 < len(woken) < 190
    assert found.run.threads[0].cpu_share == pytest.approx(1 / 3, abs=0.05)


def test_threads_start_at_random_moments_of_the_spread():
    """host.start_spread_ms spreads the host's threads, too, and their periods begin then."""
    fields = thread(name="kw", count=5, busy_us=10, period_us=2000, pinning="1,1,1,1,1") | {"host.start_spread_ms": "2"}
    found = spin(FREE | fields, pcpus=2, duration="9ms", base={})
    wakeups = [wakeups_of(found, task)[0] for task in range(1, 6)]
    assert all(np.diff(cycles).tolist() == [4_200_000] * (len(cycles) - 1) for cycles in wakeups)
    assert len({cycles[0] for cycles in wakeups}) == 5
    assert all(4_200_000 < cycles[0] < 2 * 4_200_000 for cycles in wakeups)


def test_yield_to_counts_threads_of_the_host():
    """A lone spinner's yield to a vCPU that a hog keeps from another pCPU is accepted: two tasks are runnable there."""
    changes = {"vcpus": 2, "pcpus": 2, "duration": "300ms", "policy": "vanilla"}
    guest = str(GUESTS / "two_locks.S")
    with_hog = observe(Command(guest, changes, SLOW | thread(name="hog", pinning=1))).run
    alone = observe(Command(guest, changes, SLOW)).run
    assert alone.ple.exits > 0
    assert not alone.boosts
    assert sum(row.accepted for row in with_hog.boosts) == sum(row.attempts for row in with_hog.boosts) > 0


def test_command_line_adds_a_thread(capsys):
    """A scenario without threads gets one by its name, and the JSON says what it had."""
    arguments = ["run", "case_study", "--duration", "30ms", "--thread.0.name", "hog", "--thread.0.nice=-3", "--json"]
    prepare_core()
    assert main(arguments) == 0
    run = json.loads(capsys.readouterr().out)
    assert run["threads"] == [{"name": "hog", "count": 1, "cpu_share": run["threads"][0]["cpu_share"], "bursts": 0}]
    assert run["threads"][0]["cpu_share"] + run["vms"][0]["cpu_share"] + run["idle_share"] == pytest.approx(1)
    assert run["threads"][0]["cpu_share"] > 0.3
    assert main(["run", "case_study", "--thread.0.nice", "5"]) == 2
    assert "thread.0.name: is missing" in capsys.readouterr().err


# ---- ticks

Pieces = namedtuple("Pieces", "pcpu clock run")


@settings(max_examples=200)
@given(
    st.sampled_from((100, 250, 300, 1000)),
    st.integers(1000, 10_000_000),
    st.integers(1, 64),
    st.data(),
)
def test_ticks_are_exact(hz, khz, pcpus, data):
    """Tick k of pCPU p is at k / HZ seconds, rounded down, plus p shares of half a period: after any time, no drift."""
    p = data.draw(st.integers(0, pcpus - 1))
    skew = data.draw(st.booleans())
    k = data.draw(st.integers(1, 600 * hz))
    settings_of = {"hardware.tsc_khz": str(khz), "host.hz": str(hz), "host.skew_tick": str(skew).lower()}
    scenario = set_fields(Command(SPIN, {"pcpus": pcpus}).scenario(), settings_of)
    machine, _ = build(attrs.evolve(scenario), policy("vanilla"), programs_of(scenario), recording=False)
    offset_ns = 10**9 // hz // 2 // pcpus * p if skew else 0
    offset = offset_ns * khz // 10**6
    assert machine.pcpu.next_tick[p] == khz * 1000 // hz + offset
    m = Pieces(
        np.zeros(1, PCPU).view(np.recarray), np.zeros(1, CLOCK).view(np.recarray), np.zeros(1, RUN).view(np.recarray)
    )
    m.pcpu[0] = machine.pcpu[p]
    m.clock.core_khz, m.run.tick_hz = khz, hz
    m.pcpu.ticks, m.pcpu.next_tick = k, 0
    set_next_tick_alone(m, 0, k * khz * 1000 // hz + offset)
    assert m.pcpu.ticks[0] == k + 1
    assert m.pcpu.next_tick[0] == (k + 1) * khz * 1000 // hz + offset


@pytest.mark.parametrize("skew", [True, False])
def test_skewed_ticks_interrupt_guests_one_after_the_other(skew):
    """At 300 Hz on 4 pCPUs the exits of tick k are 416 us apart, or all in one moment."""
    fields = {"host.hz": "300", "host.skew_tick": str(skew).lower(), "cost.exit_ns": "0"}
    found = spin(fields, vcpus=4, pcpus=4, duration="1s", base={"hardware.tsc_khz": "10000"})
    exits = found.of_kind(KVM_EXIT)
    for p in range(4):
        offset = (3_333_333 // 2 // 4 * p) * 10_000 // 10**6 if skew else 0
        cycles = exits["cycle"][exits["pcpu"] == p].tolist()
        ticks = [k * 10_000_000 // 300 + offset for k in range(1, len(cycles) + 1)]
        assert len(cycles) >= 298
        assert all(0 <= exit_ - tick < 30 for exit_, tick in zip(cycles, ticks, strict=True))
