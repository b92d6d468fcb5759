"""`pleemu analyze`: what was written is read back, the talk's listing has its figures, bad lines are counted."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import scenario_of
from test_trace import any_event

import pleemu
from pleemu.errors import PleemuError
from pleemu.observe import events
from pleemu.scenario import Hardware, Thread
from pleemu.trace.analysis import Analysis, analyze_files
from pleemu.trace.files import trace_file
from pleemu.trace.read import Unread, read_line, read_lines
from pleemu.trace.read_dat import read_dat
from pleemu.trace.stream import Happening, Stream
from pleemu.trace.text import ftrace_line, perf_line
from pleemu.trace.tracepoints import Symbol, all_tracepoints, kernel_form

PCPUS = 8
KWORKERS = (Thread(name="kworker", count=2, nice=-20),)
NAMES = {
    point.name: [part.field if isinstance(part, Symbol) else part for part in point.shown]
    for point in all_tracepoints(kernel_form(recent=False, amd=False))
}
TALK = Path(__file__).parent / "traces" / "kvm_forum_2021.txt"


def printed_values(one: Happening) -> dict[str, object]:
    """Return the values of the fields that the payload shows, as the reader gives them."""
    shown: dict[str, object] = {}
    for part in one.point.shown:
        name = part.field if isinstance(part, Symbol) else part
        word = isinstance(part, Symbol) and name in ("exit_reason", "prev_state")
        shown[name] = part.text(one.values[name]) if word else one.values[name]
    if "icr_low" in shown:
        shown["icr_low"] = one.values["icr_low"] & 0xCCF00
    return shown


def printed_again(values: dict[str, object]) -> dict[str, object]:
    """Leave of the ICR what texts show of it."""
    return {name: value & 0xCCF00 if name == "icr_low" else value for name, value in values.items()}


@pytest.mark.parametrize("policy", ["vanilla", "kvm-6.19"])
@given(st.lists(any_event, max_size=8))
def test_what_is_written_is_read_back(policy: str, happened: list[tuple[int, ...]]) -> None:
    """Both texts of any events, of both kernels' forms, give the reader the same events again."""
    stream = Stream(scenario_of(vms=2, vcpus=4, policy=policy, thread=KWORKERS))
    for one in stream.happenings(np.array(happened, events.EVENT)):
        perf, ftrace = (read_line(line(one, stream.threads)) for line in (perf_line, ftrace_line))
        assert perf is not None
        assert ftrace is not None
        assert perf.time_ns == one.time_ns // 1000 * 1000
        assert ftrace.time_ns == (one.time_ns + 500) // 1000 * 1000
        for seen in (perf, ftrace):
            assert (seen.event, seen.pid, seen.cpu) == (one.point.name, stream.threads.pids[one.thread], one.pcpu)
            assert seen.values == printed_values(one)


@given(st.lists(any_event, max_size=60))
def test_binary_trace_is_read_back(tmp_path_factory: pytest.TempPathFactory, happened: list[tuple[int, ...]]) -> None:
    """A trace.dat holds each event, with all its fields, in the order of times."""
    happened = sorted((cycle, kind, pcpu % PCPUS, *rest) for cycle, kind, pcpu, *rest in happened)
    scenario = scenario_of(vms=2, vcpus=4, thread=KWORKERS, hardware=Hardware(pcpus=PCPUS))
    path = tmp_path_factory.mktemp("dat") / "trace.dat"
    with trace_file(scenario, path) as sink:
        sink(np.array(happened, events.EVENT))
    order = lambda one: (one[0], one[1], one[2], str(one[3]))  # noqa: E731
    written = [
        (one.time_ns, one.pcpu, one.point.name, printed_values(one))
        for one in Stream(scenario).happenings(np.array(happened, events.EVENT))
    ]
    read = [(seen.time_ns, seen.cpu, seen.event, printed_again(seen.values)) for seen in read_dat(path)]
    assert [one[0] for one in read] == sorted(one[0] for one in written)
    shown = [
        (*rest, {name: values[name] for name in dict.fromkeys(was)})
        for *rest, values in read
        for was in [NAMES[rest[2]]]
    ]
    assert sorted(shown, key=order) == sorted(written, key=order)


def test_talks_listing_has_its_published_figures() -> None:
    """11 exits at one address, 4-5 us in the guest, 21-22 us outside after the first 35, period 26 us."""
    found = analyze_files([TALK])
    assert (found.pause_exits, list(found.pauses)) == (11, [0xFFFFFFFFB72E29E3])
    guest, host, first, period = found.entry_to_exit, found.exit_to_entry, found.first_exit_to_entry, found.period
    assert (guest.count, guest.least_ns, guest.most_ns, guest.mean_ns) == (10, 4_000, 5_000, 4_500)
    assert (first.count, first.most_ns) == (1, 35_000)
    assert (host.count, host.least_ns, host.most_ns) == (9, 21_000, 22_000)
    assert (period.median_ns, period.least_ns, period.most_ns) == (26_000, 26_000, 27_000)
    assert [run.length for run in found.longest] == [11]


REAL_LINES = [
    "qemu-system-x86-18971   [015] d.... 95922.997039: kvm_exit: vcpu 0 reason EXCEPTION_NMI rip 0xfd0bd info1 "
    "0x0000000000000000 info2 0x0000000000000413 intr_info 0x80000306 error_code 0x00000000",
    "qemu-kvm-6705  [002] ....1.. 767785.648964: kvm_exit: reason IO_INSTRUCTION rip 0xe8fe info 1f00039 0",
    "       CPU 1/KVM-2778  [000]     0.000007: kvm_exit:             reason pause rip 0xe8fe",
    "CPU 2/KVM 2679/2690 [006] d..1. 276.731784123: kvm:kvm_exit: vcpu 2 reason HLT rip 0x10 info 0 0",
    "CPU 2/KVM  2679 [006] 276.731784:          1 kvm:kvm_exit: vcpu 2 reason HLT rip 0x10 info 0 0",
    "CPU 2/KVM 2679 [006] 276.731784 kvm:kvm_exit: vcpu 2 reason HLT rip 0x10 info 0 0",
]


@pytest.mark.parametrize("line", REAL_LINES)
def test_variants_of_an_exit_are_read(line: str) -> None:
    """Kernels and tools write it differently: flags, tid, count, no vCPU, no colon, more fields."""
    seen = read_line(line)
    assert seen is not None
    assert seen.event == "kvm_exit"
    assert seen.values["exit_reason"] in ("EXCEPTION_NMI", "IO_INSTRUCTION", "pause", "HLT")
    assert seen.pid in (18971, 6705, 2778, 2679)
    assert seen.values["guest_rip"] in (0xFD0BD, 0xE8FE, 0x10)


def test_other_lines_are_read() -> None:
    """Bare events, entries with a RIP, both forms of a switch and of the window."""
    lines = [
        "220.696238: kvm_apic_ipi: dst b0 vec 176 (Fixed|physical|assert|edge|self)",
        "qemu-system-x86-18971   [015] d.... 95922.997133: kvm_entry: vcpu 0, rip 0xf7d6b",
        "<idle>-0 [001] d...2.. 1000.000032: sched_switch: prev_comm=swapper/1 prev_pid=0 prev_prio=120 prev_state=R "
        "==> next_comm=CPU 0/KVM next_pid=4201 next_prio=120",
        "<idle>-0 [000] 0.000002: sched_switch: swapper/0:0 [120] R ==> CPU 1/KVM:2778 [120]",
        "CPU 3/KVM-4204 [001] d.... 12.1: kvm_ple_window: vcpu 3: ple_window 8192 (grow 4096)",
        "CPU 0/KVM-4201    [001] .......  1000.000038: kvm_vcpu_wakeup: wait time 1900000 ns, polling valid",
    ]
    seen = [read_line(line) for line in lines]
    assert [one.event for one in seen if one] == [
        "kvm_apic_ipi", "kvm_entry", "sched_switch", "sched_switch", "kvm_ple_window", "kvm_vcpu_wakeup",
    ]  # fmt: skip
    assert [one.values["next_pid"] for one in seen[2:4] if one] == [4201, 2778]
    assert seen[4] is not None
    assert (seen[4].values["old"], seen[4].values["new"]) == (4096, 8192)


def test_lines_that_cannot_be_read_are_counted_and_shown_with_their_number() -> None:
    """Nothing is passed over in silence, but for headings; lost events are told."""
    text = (
        "cpus=8\n# tracer: nop\n\nnonsense\nA-1 [000] 1.0: kvm_exit: garbage\nCPU:3 [LOST 17 EVENTS]\n" + REAL_LINES[0]
    )
    unread = Unread()
    assert len(list(read_lines(io.StringIO(text), "a.txt", unread))) == 1
    assert (unread.count, unread.lost_events) == (2, 17)
    assert [one[:2] for one in unread.first] == [("a.txt", 4), ("a.txt", 5)]


@pytest.mark.parametrize(
    "data", [b"", b"nothing\nhere\n", b"\0\1\2", b"\x17\x08\x44tracing7\0", b"\x17\x08\x44tracing6\0"]
)
def test_file_without_events_is_an_error(tmp_path: Path, data: bytes) -> None:
    """One line that names the file."""
    path = tmp_path / "trace"
    path.write_bytes(data)
    with pytest.raises(PleemuError, match=r"trace: "):
        analyze_files([path])


@given(st.binary(max_size=200), st.integers(0, 2000))
def test_damaged_binary_trace_is_an_error_or_read(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, place: int
) -> None:
    """No damage to a trace.dat ends in anything but a PleemuError."""
    path = tmp_path_factory.mktemp("damaged") / "trace.dat"
    with trace_file(scenario_of(), path) as sink:
        sink(np.array([(number * 1000, events.KVM_ENTRY, 0, 0, 0, 0, 0) for number in range(9)], events.EVENT))
    data = path.read_bytes()
    place = place * len(data) // 2000
    path.write_bytes(data[:place] + noise + data[place + len(noise) :])
    with contextlib.suppress(PleemuError):
        Analysis().take(read_dat(path))


@pytest.mark.parametrize("name", ["trace.txt", "trace.ftrace", "trace.dat"])
def test_worst_case_repeats_the_talks_intervals(tmp_path: Path, name: str) -> None:
    """Our own traces of it, read back: period 26 +- 1 us, of which the guest has 4.5 +- 0.5 us."""
    path = tmp_path / name
    result = pleemu.run("worst_case", trace=path, duration="150ms")
    found = analyze_files([path])
    assert found.pause_exits == result.ple.exits
    assert found.longest[0].length > 100
    assert 25_000 <= found.period.median_ns <= 27_000
    assert 4_000 <= found.entry_to_exit.median_ns <= 5_000
    assert 20_000 <= found.exit_to_entry.median_ns <= 23_000
