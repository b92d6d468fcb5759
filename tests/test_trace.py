"""The trace file: lines that tools for `perf script` output can read."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import scenario_of

from pleemu.errors import ScenarioError
from pleemu.hardware.isa import PROBES
from pleemu.observe import events
from pleemu.scenario import Hardware, Thread, Vm
from pleemu.trace.files import trace_file

LINE = re.compile(
    r"(?P<comm>.+?) (?P<pid>\d+) \[(?P<cpu>\d{3,})\] (?P<seconds>\d+)\.(?P<us>\d{6}): "
    r"(?P<event>[a-z_]+:[a-z_]+): (?P<payload>.*)"
)
PAYLOADS = {
    "kvm:kvm_exit": r"vcpu \d+ reason [A-Z_]+ rip 0x[0-9a-f]+ info 0 0",
    "kvm:kvm_entry": r"vcpu \d+",
    "kvm:kvm_ple_window_update": r"vcpu \d+ old \d+ new \d+ \((growed|shrinked)\)",
    "sched:sched_switch": (
        r"prev_comm=(CPU \d+/KVM|swapper/\d+|kworker) prev_pid=\d+ prev_prio=1\d\d prev_state=(R|R\+|S|X) ==> "
        r"next_comm=(CPU \d+/KVM|swapper/\d+|kworker) next_pid=\d+ next_prio=1\d\d"
    ),
    "sched:sched_wakeup": r"comm=(CPU \d+/KVM|kworker) pid=\d+ prio=1\d\d target_cpu=\d{3,}",
    "sched:sched_migrate_task": r"comm=(CPU \d+/KVM|kworker) pid=\d+ prio=1\d\d orig_cpu=\d+ dest_cpu=\d+",
    "sched:sched_stat_runtime": r"comm=(CPU \d+/KVM|kworker) pid=\d+ runtime=[1-9]\d* \[ns\] vruntime=\d+ \[ns\]",
    "kvm:kvm_halt_poll_ns": r"vcpu \d+: halt_poll_ns \d+ \((grow|shrink) \d+\)",
    "kvm:kvm_apic_ipi": (
        r"dst [0-9a-f]+ vec \d+ \((Fixed|LowPrio)\|(physical|logical)\|(assert|de-assert)\|edge\|"
        r"(dst|self|all|all-but-self)\)"
    ),
}

vcpus = st.integers(0, 7)
tasks = st.integers(-1, 9)  # 8 and 9: threads of the host
u32 = st.integers(0, 2**32 - 1)
i64 = st.integers(-(2**63), 2**63 - 1)
cycles = st.integers(0, 10**15)
cpus = st.integers(0, 1023)
icrs = st.builds(
    lambda *bits: sum(bits),
    st.integers(0, 255),
    *(st.sampled_from((0, 1 << shift)) for shift in (8, 11, 14, 18, 19)),
)
reasons = st.sampled_from(list(events.EXIT_REASONS))
any_event = st.one_of(
    st.tuples(
        cycles, st.just(events.KVM_EXIT), cpus, vcpus, st.sampled_from(list(events.EXIT_REASONS)), i64, st.just(0)
    ),
    st.tuples(cycles, st.just(events.KVM_ENTRY), cpus, vcpus, st.integers(-1, 255), st.just(0), st.just(0)),
    st.tuples(cycles, st.just(events.PLE_WINDOW), cpus, vcpus, u32, u32, st.just(0)),
    st.tuples(cycles, st.just(events.SCHED_SWITCH), cpus, tasks, tasks, tasks, st.integers(0, 3)),
    st.tuples(cycles, st.just(events.SCHED_WAKEUP), cpus, tasks, st.integers(0, 9), cpus, st.just(0)),
    st.tuples(
        cycles, st.just(events.SCHED_MIGRATE), cpus, tasks, st.integers(0, 9), cpus, st.integers(0, 5 << 16 | 1023)
    ),
    st.tuples(
        cycles,
        st.just(events.STAT_RUNTIME),
        cpus,
        tasks,
        st.builds(lambda thread, queue: thread | queue << events.QUEUE_SHIFT, st.integers(0, 9), cpus),
        i64,
        st.integers(0, 2**40),
    ),
    st.tuples(cycles, st.just(events.HALT_POLL), cpus, vcpus, u32, u32, st.just(0)),
    st.tuples(cycles, st.just(events.APIC_IPI), cpus, vcpus, u32, st.integers(0, 255), icrs),
    st.tuples(cycles, st.just(events.YIELD_TO), cpus, vcpus, vcpus, st.sampled_from([1, 0, -3]), st.just(0)),
    st.tuples(cycles, st.just(events.PROBE), cpus, vcpus, st.integers(0, len(PROBES) - 1), i64, i64),
)


def traced(folder: Path, chunks: list[list[tuple[int, ...]]], **more: object) -> list[str]:
    path = folder / "trace.txt"
    thread = (Thread(name="kworker", count=2, nice=-20),)
    with trace_file(scenario_of(vms=2, vcpus=4, **{"thread": thread, **more}), path) as sink:
        for chunk in chunks:
            sink(np.array(chunk, events.EVENT))
    return path.read_text().splitlines()


@given(st.lists(st.lists(any_event, max_size=8), max_size=3))
def test_every_event_that_a_host_traces_becomes_a_line_that_parses(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[list[tuple[int, ...]]]
) -> None:
    """Each line has the shape of its v5.6 tracepoint; yields and vruntimes moved for free have none, and no line."""
    lines = traced(tmp_path_factory.mktemp("trace"), chunks)
    hidden = ((events.YIELD_TO,), (events.STAT_RUNTIME, 0))
    seen = [event for chunk in chunks for event in chunk if not {event[1:2], event[1::5]} & {*hidden}]
    assert len(lines) == len(seen)
    for line, event in zip(lines, seen, strict=True):
        found = LINE.fullmatch(line)
        assert found, line
        assert int(found["cpu"]) == event[2]
        assert int(found["seconds"]) * 10**6 + int(found["us"]) == event[0] // 2100
        name = found["event"]
        shape = PAYLOADS.get(name, r"\([0-9a-f]+\)( arg1=\d+)?")
        assert name in PAYLOADS or name.startswith("sdt_pleemu:")
        assert re.fullmatch(shape, found["payload"]), line


def test_exit_line_is_the_talks(tmp_path: Path) -> None:
    """A PAUSE exit reads as in the listing of the talk: thread, pid, pCPU, time, vCPU, reason and RIP."""
    cycle = 276_731_784 * 2100
    (line,) = traced(tmp_path, [[(cycle, events.KVM_EXIT, 6, 2, events.PAUSE_INSTRUCTION, -0x48D1D61D, 0)]])
    assert line == (
        "CPU 2/KVM 2679 [006] 276.731784: kvm:kvm_exit: vcpu 2 reason PAUSE_INSTRUCTION rip 0xffffffffb72e29e3 info 0 0"
    )


def test_exit_line_of_an_amd_host_has_its_names(tmp_path: Path) -> None:
    """kvm_amd calls the same exits pause, hlt, msr and interrupt."""
    exits = [(0, events.KVM_EXIT, 0, 0, reason, 16, 0) for reason in (40, 12, 32, 1)]
    lines = traced(tmp_path, [exits], hardware=Hardware(pcpus=1, processor="zen4"))
    assert [re.search(r"reason (\S+) rip 0x10", line)[1] for line in lines] == ["pause", "hlt", "msr", "interrupt"]


def test_threads_of_each_vm_have_pids_of_their_own(tmp_path: Path) -> None:
    """The second VM's vCPUs are numbered from 0 again, with pids 100 higher."""
    (line,) = traced(tmp_path, [[(0, events.KVM_ENTRY, 0, 5, -1, 0, 0)]])
    assert line == "CPU 1/KVM 2778 [000] 0.000000: kvm:kvm_entry: vcpu 1"


def test_idle_is_the_swapper_of_its_cpu(tmp_path: Path) -> None:
    """The idle task has pid 0 and the name of its pCPU."""
    (line,) = traced(tmp_path, [[(2100, events.SCHED_SWITCH, 3, 0, 0, -1, events.STATE_SLEEPING)]])
    assert line == (
        "CPU 0/KVM 2677 [003] 0.000001: sched:sched_switch: prev_comm=CPU 0/KVM prev_pid=2677 prev_prio=120 "
        "prev_state=S ==> next_comm=swapper/3 next_pid=0 next_prio=120"
    )


def test_nice_is_in_the_priority(tmp_path: Path) -> None:
    """The priority is 120 + nice, of vCPUs and of the host's own threads, which have pids and names of their own."""
    vm = tuple(Vm(name=f"vm{number}", program="a.S", vcpus=4, nice=nice) for number, nice in enumerate((0, 19)))
    happened = [
        (0, events.SCHED_SWITCH, 0, 9, 9, 4, events.STATE_PREEMPTED),
        (0, events.SCHED_WAKEUP, 0, 4, 8, 0, 0),
        (0, events.HALT_POLL, 0, 4, 0, 10_000, 0),
    ]
    assert [line.partition(" 0.000000: ") for line in traced(tmp_path, [happened], vm=vm)] == [
        (f"{thread} [000]", " 0.000000: ", payload)
        for thread, payload in (
            (
                "kworker 1002",
                "sched:sched_switch: prev_comm=kworker prev_pid=1002 prev_prio=100 prev_state=R+ ==> "
                "next_comm=CPU 0/KVM next_pid=2777 next_prio=139",
            ),
            ("CPU 0/KVM 2777", "sched:sched_wakeup: comm=kworker pid=1001 prio=100 target_cpu=000"),
            ("CPU 0/KVM 2777", "kvm:kvm_halt_poll_ns: vcpu 0: halt_poll_ns 10000 (grow 0)"),
        )
    ]


@pytest.mark.parametrize(("policy", "vruntime"), [("vanilla", " vruntime=18446744073709551615 [ns]"), ("kvm-6.19", "")])
def test_charge_reads_as_in_its_kernel(tmp_path: Path, policy: str, vruntime: str) -> None:
    """Line of update_curr: unsigned, of the charged thread; without a vruntime in recent kernels."""
    happened = [(2100, events.STAT_RUNTIME, 3, 4, 5 | 7 << 32, -1, 4000), (2100, events.STAT_RUNTIME, 3, 4, 5, 7, 0)]
    (line,) = traced(tmp_path, [happened], policy=policy)
    assert line == (
        f"CPU 0/KVM 2777 [003] 0.000001: sched:sched_stat_runtime: comm=CPU 1/KVM pid=2778 runtime=4000 [ns]{vruntime}"
    )


def test_priority_is_120_and_the_nice_value_in_every_event(tmp_path: Path) -> None:
    """A thread of the host of nice -5, behind eight vCPUs, is woken, moved and switched to."""
    happened = [
        (0, events.SCHED_WAKEUP, 0, 0, 8, 0, 0),
        (0, events.SCHED_MIGRATE, 0, 0, 8, 0, 1),
        (0, events.SCHED_SWITCH, 1, -1, -1, 8, events.STATE_RUNNING),
    ]
    lines = traced(tmp_path, [happened], thread=(Thread(name="kw", nice=-5),))
    assert [re.search(r"(?: |next_)prio=(\d+)", line)[1] for line in lines] == ["115"] * 3


def test_time_follows_the_core_clock(tmp_path: Path) -> None:
    """Cycles are core cycles: a faster core has shorter ones."""
    hardware = Hardware(pcpus=1, tsc_khz=2_000_000, core_khz=4_000_000)
    (line,) = traced(tmp_path, [[(4_000_000, events.KVM_ENTRY, 0, 0, -1, 0, 0)]], hardware=hardware)
    assert " 0.001000: " in line


@pytest.mark.parametrize("name", ["absent/trace.txt", ".", "\0"])
def test_trace_that_cannot_be_written_is_a_scenario_error(tmp_path: Path, name: str) -> None:
    """A path that cannot be opened is one clear message."""
    with pytest.raises(ScenarioError, match="the trace cannot be written"), trace_file(scenario_of(), tmp_path / name):
        pass


def test_error_of_the_run_is_not_blamed_on_the_trace(tmp_path: Path) -> None:
    """What goes wrong while the file is open passes through unchanged."""
    with pytest.raises(OSError, match="other"), trace_file(scenario_of(), tmp_path / "trace.txt"):
        raise OSError("other")
