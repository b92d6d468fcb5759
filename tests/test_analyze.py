"""`pleemu analyze`: what was written is read back, the talk's listing has its figures, bad lines are counted."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import scenario_of
from rich.console import Console
from test_trace import any_event

import pleemu
from pleemu.errors import PleemuError
from pleemu.observe import events
from pleemu.report.analyze_report import analyze_json, analyze_report
from pleemu.scenario import Hardware, Thread
from pleemu.trace.analysis import Analysis, analyze_files
from pleemu.trace.files import trace_file
from pleemu.trace.read import Unread, open_trace, read_line, read_lines
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


def printed(found: Analysis) -> str:
    """Return the report on a trace."""
    text = io.StringIO()
    Console(width=400, file=text).print(analyze_report(found))
    return text.getvalue()


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
    read = [(seen.time_ns, seen.cpu, seen.event, printed_again(seen.values)) for seen in open_trace(path, Unread())]
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
    assert seen.pid in (18971, 6705, 2778, 2679, 2690)
    assert seen.values["guest_rip"] in (0xFD0BD, 0xE8FE, 0x10)


EXIT = "kvm:kvm_exit: vcpu 2 reason HLT rip 0x10 info 0 0"


@pytest.mark.parametrize(
    ("line", "comm", "pid", "cpu"),
    [
        ("CPU 2/KVM  2670/2690  [006] 1.000002: ", "CPU 2/KVM", 2690, 6),  # comm,pid,tid,cpu,time
        ("CPU 2/KVM  2670/2690  1.000002: ", "CPU 2/KVM", 2690, -1),
        ("  CPU 2/KVM  2690 1.000002: ", "CPU 2/KVM", 2690, -1),  # comm,tid,time
        (" 2690 [006] 1.000002: ", "", 2690, 6),  # tid,cpu,time
        ("2690 1.000002: ", "", 2690, -1),
        ("[006] 1.000002: ", "", -1, 6),  # cpu,time
        ("CPU 2/KVM [006] 1.000002: ", "CPU 2/KVM", -1, 6),  # comm,cpu,time
        ("CPU 2/KVM 1.000002: ", "CPU 2/KVM", -1, -1),  # comm,time
        ("a 12 2690 1.000002: ", "a 12", 2690, -1),
        ("CPU 2/KVM 2690 [006] K     1.000002: ", "CPU 2/KVM", 2690, 6),  # +misc
        ("CPU 2/KVM 2690 [006] 1.000002:          1 ", "CPU 2/KVM", 2690, 6),  # +period
    ],
)
def test_field_lists_of_perf_script_are_read(line: str, comm: str, pid: int, cpu: int) -> None:
    """`perf script -F`: what there is is told apart, and of process and thread it is the thread."""
    seen = read_line(line + EXIT)
    assert seen is not None
    assert (seen.comm, seen.pid, seen.cpu, seen.time_ns) == (comm, pid, cpu, 1_000_002_000)
    assert seen.values["exit_reason"] == "HLT"


def test_switch_away_is_found_by_the_tid(tmp_path: Path) -> None:
    """Of `pid/tid` it is the tid that sched_switch means: vCPUs of one process are threads of their own."""
    path = tmp_path / "perf.txt"
    pause = "kvm:kvm_exit: vcpu {0} reason PAUSE_INSTRUCTION rip 0x10 info 0 0"
    lines = [f"CPU {one}/KVM  2670/267{one}  [000] 0.00000{one}: {pause.format(one)}\n" for one in range(2)]
    switch = "prev_comm=CPU 1/KVM prev_pid=2671 prev_prio=120 prev_state=R ==> next_comm=a next_pid=9 next_prio=120"
    path.write_text("".join(lines) + f"CPU 1/KVM  2670/2671  [000] 0.000003: sched:sched_switch: {switch}\n")
    found = analyze_files([path])
    assert dict(found.by_thread) == {("CPU 0/KVM", 2670): 1, ("CPU 1/KVM", 2671): 1}
    assert dict(found.switched_to) == {("a", 9): 1}
    assert (found.runs, found.nameless) == (2, 0)


def test_threads_without_a_tid_are_told_of(tmp_path: Path) -> None:
    """They may be several, and who stays cannot be said of them."""
    path = tmp_path / "perf.txt"
    pause = EXIT.replace("HLT", "PAUSE_INSTRUCTION")
    path.write_text(f"CPU 2/KVM 0.000001: {pause}\nCPU 2/KVM 0.000002: kvm:kvm_entry: vcpu 2\n")
    found = analyze_files([path])
    assert (found.nameless, found.stayed, found.first_exit_to_entry.count) == (2, 0, 1)
    assert "2 exits and entries have no tid" in printed(found)


def test_field_list_without_times_is_an_error_that_shows_a_line(tmp_path: Path) -> None:
    """And says which fields are needed."""
    path = tmp_path / "perf.txt"
    path.write_text(f"CPU 2/KVM 2690 [006] {EXIT}\n" * 3)
    with pytest.raises(
        PleemuError, match=r"none of 3 lines .* line 1, 'CPU 2/KVM 2690 .*comm,tid,cpu,time,event,trace"
    ):
        analyze_files([path])


def test_plugins_reasons_are_kvms() -> None:
    """The plugin of libtraceevent prints reasons of SVM in capitals behind EXIT_."""
    names = {"EXIT_PAUSE": "pause", "EXIT_INTR": "interrupt", "EXIT_IOIO": "io", "EXIT_HLT": "hlt"}
    for theirs, kvms in names.items():
        seen = read_line(f"CPU 1/KVM-2778  [000]  0.004002: kvm_exit:  reason {theirs} rip 0xf info 0 0")
        assert seen is not None
        assert seen.values["exit_reason"] == kvms


@pytest.mark.parametrize(
    "line",
    [
        "a 1 [000] 1.0: kvm:kvm_entry: vcpu N",
        "a 1 [000] N.0: kvm:kvm_entry: vcpu 1",
        "a 1 [N] 1.0: kvm:kvm_entry: vcpu 1",
        "a N [000] 1.0: kvm:kvm_entry: vcpu 1",
        "a 1 [000] 1.0: kvm:kvm_exit: vcpu 1 reason HLT rip 0xN info 0 0",
        "CPU:1 [LOST N EVENTS]",
    ],
)
@pytest.mark.parametrize("digits", [32, 64, 4200, 5000])
def test_number_that_is_none_of_a_tracepoints_is_a_line_that_cannot_be_read(line: str, digits: int) -> None:
    """More than 64 bits, or more digits than Python takes."""
    unread = Unread()
    assert list(read_lines([line.replace("N", "9" * digits) + "\n"], "a", unread)) == []
    assert (unread.count, unread.lost_events) == (1, 0)


@pytest.mark.parametrize(
    ("line", "events"),
    [
        ("CPU:3 [LOST 17 EVENTS]", 17),  # the kernel's own text
        ("CPU:3 [LOST EVENTS]", None),
        ("CPU:7 [204600 EVENTS DROPPED]", 204600),  # trace-cmd
        ("CPU:0 [EVENTS DROPPED]", None),
        ("LOST 9 events!", 9),  # perf trace
        ("CPU 0/KVM 1 [000] 1.5: PERF_RECORD_LOST lost 12", 12),  # perf script --show-lost-events
        ("CPU 0/KVM 1 [000] 1.5: PERF_RECORD_LOST_SAMPLES lost 12", 12),
    ],
)
def test_losses_are_counted(line: str, events: int | None) -> None:
    """As the kernel, trace-cmd and perf tell of them, with or without a number."""
    unread = Unread()
    assert list(read_lines([line + "\n"], "a", unread)) == []
    assert (unread.count, unread.lost_events, unread.losses) == (0, events or 0, events is None)


def test_last_line_that_is_cut_in_its_payload_cannot_be_read() -> None:
    """Without its end, and with fewer fields than the event had before, its address may be half of one."""
    whole = f"a 1 [000] 1.0: {EXIT}\n"
    unread = Unread()
    assert len(list(read_lines([whole, whole[: whole.index("info") - 2]], "a", unread))) == 1
    assert unread.count == 1
    assert len(list(read_lines([whole, whole.rstrip()], "a", unread))) == 2
    assert unread.count == 1


@pytest.mark.parametrize(
    "line",
    [
        "CPU 1/KVM-2778 [000] 0.1: kvm_exit: exit_reason=0x28 guest_rip=0xf isa=1 info1=0 info2=0 vcpu_id=1",
        "<idle>-0 [000] 0.1: sched_switch:  prev_comm=swapper/0 prev_pid=0 prev_prio=120 prev_state=0 next_comm=a "
        "next_pid=2778 next_prio=120",
    ],
)
def test_raw_fields_are_an_error_that_names_the_option(line: str) -> None:
    """They say the same, but not the reasons' names."""
    with pytest.raises(PleemuError, match=r"a:1: .*leave out -R"):
        list(read_lines([line + "\n"], "a", Unread()))


def test_time_that_goes_back_ends_runs_and_is_told(tmp_path: Path) -> None:
    """No interval is negative, and none is from one trace to another."""
    once, twice = tmp_path / "once.txt", tmp_path / "twice.txt"
    pleemu.run("worst_case", trace=once, duration="20ms")
    twice.write_text(once.read_text() * 2)
    one, two = (analyze_files([path]) for path in (once, twice))
    assert (one.went_back, two.went_back, two.went_back_in) == (0, 1, str(twice))
    for name in ("entry_to_exit", "first_exit_to_entry", "exit_to_entry", "first_period", "period"):
        a, b = getattr(one, name), getattr(two, name)
        assert (2 * a.count, a.least_ns, a.median_ns, a.most_ns) == (b.count, b.least_ns, b.median_ns, b.most_ns)
    assert 2 * one.runs == two.runs
    assert f"Time went back once, first in {twice}" in printed(two)
    assert "went back" not in printed(one)


def test_clocks_that_differ_a_little_cost_only_their_thread(tmp_path: Path) -> None:
    """An interval that would be negative is not counted; another thread's goes on."""
    path = tmp_path / "perf.txt"
    lines = [("1", 9, "kvm_entry: vcpu 0"), ("2", 5, "kvm_entry: vcpu 1")]
    lines += [("2", 7, "kvm_exit: vcpu 1 reason pause rip 0x10"), ("1", 8, "kvm_exit: vcpu 0 reason pause rip 0x10")]
    path.write_text("".join(f"a {tid} [000] 0.00000{us}: kvm:{what}\n" for tid, us, what in lines))
    found = analyze_files([path])
    assert (found.went_back, found.entry_to_exit.count, found.entry_to_exit.least_ns) == (1, 1, 2_000)


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


@pytest.mark.parametrize("data", [b"nothing\nhere\n", b"\0\1\2", b"\x17\x08\x44tracing7\0", b"\x17\x08\x44tracing6\0"])
def test_file_without_events_is_an_error(tmp_path: Path, data: bytes) -> None:
    """One line that names the file."""
    path = tmp_path / "trace"
    path.write_bytes(data)
    with pytest.raises(PleemuError, match=r"trace: "):
        analyze_files([path])


@pytest.mark.parametrize("name", ["trace.txt", "trace.ftrace", "trace.dat", "trace.parquet"])
def test_pipe_is_read_once_and_whole(tmp_path: Path, name: str) -> None:
    """What a pipe gives is analyzed as the file is."""
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    path, fifo = tmp_path / name, tmp_path / "fifo"
    pleemu.run("worst_case", trace=path, duration="10ms")
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(path.read_bytes()), daemon=True)
    writer.start()
    piped = analyze_files([fifo])
    writer.join()
    assert analyze_json(piped) == analyze_json(analyze_files([path]))


def test_empty_file_is_called_empty(tmp_path: Path) -> None:
    """It is neither damaged nor of an unknown format."""
    path = tmp_path / "trace"
    path.touch()
    with pytest.raises(PleemuError, match="trace: it is empty"):
        analyze_files([path])


def small_dat(folder: Path) -> bytes:
    """Return a trace.dat of a few PAUSE exits."""
    happened = np.array([(one * 1000, events.KVM_EXIT, 0, 0, 40, 0x10, 0) for one in range(9)], events.EVENT)
    with trace_file(scenario_of(), folder / "small.dat") as sink:
        sink(happened)
    return (folder / "small.dat").read_bytes()


@pytest.mark.parametrize("left", [20, 3000, -4096, -4000, -1])
def test_binary_trace_that_is_cut_off_is_said_to_be(tmp_path: Path, left: int) -> None:
    """Wherever the cut is."""
    path = tmp_path / "cut.dat"
    path.write_bytes(small_dat(tmp_path)[:left])
    with pytest.raises(PleemuError, match=r"cut\.dat: .*: it is cut off; give"):
        analyze_files([path])


@pytest.mark.parametrize("field", ["exit_reason", "guest_rip"])
def test_binary_trace_without_a_field_is_an_error(tmp_path: Path, field: str) -> None:
    """It says which event has not which field."""
    path = tmp_path / "damaged.dat"
    path.write_bytes(small_dat(tmp_path).replace(b" " + field.encode() + b";", b" " + b"x" * len(field) + b";"))
    with pytest.raises(PleemuError, match=f"its kvm_exit has no {field}"):
        analyze_files([path])


@pytest.mark.parametrize(("flags", "lost"), [(1 << 31, (0, 1)), (1 << 31 | 1 << 30, (17, 0))])
def test_binary_trace_tells_of_missed_events(tmp_path: Path, flags: int, lost: tuple[int, int]) -> None:
    """A page's flags say that events are missing before it, and a number behind its events how many."""
    path = tmp_path / "lost.dat"
    data = bytearray(small_dat(tmp_path))
    page = len(data) - 4096
    (used,) = struct.unpack_from("<Q", data, page + 8)
    struct.pack_into("<Q", data, page + 8, used | flags)
    struct.pack_into("<Q", data, page + 16 + used, 17)
    path.write_bytes(data)
    found = analyze_files([path])
    assert (found.unread.lost_events, found.unread.losses) == lost
    assert found.pause_exits == 9
    assert "The tracer lost" in printed(found)


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
        Analysis().take(open_trace(path, Unread()))


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
