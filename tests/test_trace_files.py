"""How trace files come to be: formats, whole or not at all, in bounded memory; and Parquet."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import scenario_of
from test_trace import any_event

from pleemu.errors import GuestFault, PleemuError, ScenarioError
from pleemu.observe import events
from pleemu.scenario import Hardware, Thread
from pleemu.trace.analysis import Analysis, analyze_files
from pleemu.trace.files import FORMATS, format_of, trace_file
from pleemu.trace.read import Unread, open_trace
from pleemu.trace.stream import Stream

KWORKERS = (Thread(name="kworker", count=2, nice=-20),)
PACKAGES = {"perfetto": "perfetto", "parquet": "pyarrow"}


def needs(name: str) -> None:
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name], reason=f"{PACKAGES[name]} is not installed")


def some(number: int, begin: int = 0) -> np.ndarray:
    """Return PAUSE exits and entries in turn, a microsecond apart."""
    happened = np.zeros(number, events.EVENT)
    happened["cycle"] = (begin + np.arange(number)) * 2100
    happened["kind"] = np.where(np.arange(number) % 2 == 0, events.KVM_EXIT, events.KVM_ENTRY)
    happened["a"] = np.where(happened["kind"] == events.KVM_EXIT, events.PAUSE_INSTRUCTION, 0)
    happened["b"] = np.where(happened["kind"] == events.KVM_EXIT, 0x1000, 0)
    return happened


@pytest.mark.parametrize(
    ("path", "name"),
    [("a.txt", "perf"), ("a", "perf"), ("a.ftrace", "ftrace"), ("a.DAT", "trace-cmd"), ("a.pftrace", "perfetto")],
)
def test_suffix_says_which_format(path: str, name: str) -> None:
    """Unless the format is named."""
    assert format_of(Path(path)).name == name
    assert format_of(Path(path), "parquet").name == "parquet"


def test_unknown_format_is_an_error_that_helps() -> None:
    """It names the one that is meant."""
    with pytest.raises(ScenarioError, match="did you mean 'ftrace'"):
        format_of(Path("a"), "ftrce")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("stopped", [KeyboardInterrupt, GuestFault("ud2")])
def test_run_that_ends_early_leaves_what_had_happened(tmp_path: Path, name: str, stopped: BaseException) -> None:
    """A fault or an interrupt: the file is whole, and nothing else is left."""
    needs(name)
    path = tmp_path / "trace"
    with pytest.raises((KeyboardInterrupt, GuestFault)), trace_file(scenario_of(), path, name=name) as sink:  # noqa: PT012
        sink(some(100))
        raise stopped
    assert [one.name for one in tmp_path.iterdir()] == ["trace"]
    if name != "perfetto":
        assert analyze_files([path]).pause_exits == 50


@pytest.mark.parametrize("name", FORMATS)
def test_unfinished_trace_has_not_the_files_name(tmp_path: Path, name: str) -> None:
    """What was there before stays until the new trace is whole."""
    needs(name)
    path = tmp_path / "trace"
    path.write_text("before")
    with trace_file(scenario_of(), path, name=name) as sink:
        sink(some(100))
        assert path.read_text() == "before"
    assert path.read_bytes() != b"before"


@pytest.mark.parametrize("name", FORMATS)
def test_memory_does_not_grow_with_the_trace(tmp_path: Path, name: str) -> None:
    """After the first groups of events, four times as many leave nothing behind."""
    needs(name)
    chunk = 4_000
    with trace_file(scenario_of(), tmp_path / "trace", name=name) as sink:
        for turn in range(4):
            sink(some(chunk, turn * chunk))
        tracemalloc.start()
        held = []
        for turn in range(4, 16):
            sink(some(chunk, turn * chunk))
            held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    # Parquet fills a group of rows: what that holds is bounded too, and given up every 50,000 rows.
    assert min(held[-3:]) < held[0] + (50_000_000 if name == "parquet" else 200_000)


def test_trace_dat_does_not_go_to_a_pipe() -> None:
    """It is put together at the end, from the pCPUs' parts."""
    with (
        pytest.raises(ScenarioError, match="no regular file"),
        trace_file(scenario_of(), Path("/dev/null"), name="trace-cmd"),
    ):
        pass


def test_text_goes_to_a_device() -> None:
    """A terminal or a pipe is written as it is."""
    with trace_file(scenario_of(), Path("/dev/null")) as sink:
        sink(some(10))
    assert Path("/dev/null").is_char_device()


@given(st.lists(any_event, max_size=60))
def test_parquet_is_read_back(tmp_path_factory: pytest.TempPathFactory, happened: list[tuple[int, ...]]) -> None:
    """Each event with all its fields, directed yields too."""
    needs("parquet")
    scenario = scenario_of(vms=2, vcpus=4, thread=KWORKERS, hardware=Hardware(pcpus=1))
    chunk = np.array(happened, events.EVENT)
    path = tmp_path_factory.mktemp("parquet") / "trace.parquet"
    with trace_file(scenario, path) as sink:
        sink(chunk)
    stream = Stream(scenario, own=True)
    written = list(stream.happenings(chunk))
    read = list(open_trace(path, Unread()))
    assert len(written) == len(read)
    for one, seen in zip(written, read, strict=True):
        assert (seen.time_ns, seen.cpu, seen.event) == (one.time_ns, one.pcpu, one.point.name)
        assert seen.pid == stream.threads.pids[one.thread]
        fields = [field.name for field in one.point.fields if field.name not in ("exit_reason", "prev_state")]
        assert {name: seen.values[name] for name in fields} == {name: one.values[name] for name in fields}


def test_other_parquet_is_an_error(tmp_path: Path) -> None:
    """Damaged, or of somebody else."""
    needs("parquet")
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(PleemuError, match="cannot be read"):
        analyze_files([path])


def parquet_of(folder: Path, rip: int = 0x1000) -> Path:
    """Return a file of PAUSE exits, entries and a switch."""
    needs("parquet")
    happened = some(20)
    happened["b"][happened["kind"] == events.KVM_EXIT] = rip - (1 << 64) if rip >> 63 else rip
    happened["kind"][-1] = events.SCHED_SWITCH
    path = folder / "trace.parquet"
    with trace_file(scenario_of(), path) as sink:
        sink(happened)
    return path


def test_pandas_reads_whole_numbers(tmp_path: Path) -> None:
    """Plain read_parquet: addresses keep all their bits though other events have none, and can be written back."""
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    path, again = parquet_of(tmp_path, 0xFFFFFFFF8100001B), tmp_path / "again.parquet"
    frame = pandas.read_parquet(path)
    assert {str(frame[name].dtype) for name in ("guest_rip", "info1", "new")} == {"UInt64"}
    assert {str(frame[name].dtype) for name in ("prev_pid", "vruntime")} == {"Int64"}
    assert not [name for name in frame if frame[name].dtype.kind == "f"]
    assert [hex(rip) for rip in frame.guest_rip.dropna().unique()] == ["0xffffffff8100001b"]
    assert frame.guest_rip.isna().any()
    frame.to_parquet(again)
    first, second = (analyze_files([one]) for one in (path, again))
    assert first.pauses == second.pauses == {0xFFFFFFFF8100001B: 10}
    assert first.events == second.events


@pytest.mark.parametrize(
    ("column", "kind", "match"),
    [
        ("guest_rip", None, "a row of kvm_exit has no guest_rip"),
        ("exit_reason", None, "a row of kvm_exit has no exit_reason"),
        ("next_pid", None, "a row of sched_switch has no next_pid"),
        ("time_ns", None, "it has no column time_ns"),
        ("guest_rip", "float64", "guest_rip of a row of kvm_exit is a float; .* UInt64"),
        ("time_ns", "string", "time_ns of a row of kvm_exit is a str"),
    ],
)
def test_parquet_with_another_column_is_an_error(tmp_path: Path, column: str, kind: str | None, match: str) -> None:
    """Without a column that is needed, or with one of another type."""
    path = parquet_of(tmp_path)
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    place = table.schema.names.index(column)
    table = table.remove_column(place) if kind is None else table.set_column(place, column, table[column].cast(kind))
    pyarrow.parquet.write_table(table, path)
    with pytest.raises(PleemuError, match=match):
        analyze_files([path])


def test_parquet_row_without_a_time_is_an_error(tmp_path: Path) -> None:
    """Nulls, where each row must have a value."""
    path = parquet_of(tmp_path)
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    nulls = pyarrow.nulls(len(table), pyarrow.int64())
    pyarrow.parquet.write_table(table.set_column(0, "time_ns", nulls), path)
    with pytest.raises(PleemuError, match="a row of kvm_exit has no time_ns"):
        analyze_files([path])


@given(places=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=3), value=st.integers(0, 255))
def test_damaged_parquet_is_one_line_or_read(
    tmp_path_factory: pytest.TempPathFactory, places: list[float], value: int
) -> None:
    """No damaged byte ends in anything but a PleemuError of one line."""
    path = parquet_of(tmp_path_factory.mktemp("parquet"))
    data = bytearray(path.read_bytes())
    for place in places:
        data[4 + int(place * (len(data) - 4))] = value
    path.write_bytes(data)
    try:
        Analysis().take(open_trace(path, Unread()))
    except PleemuError as error:
        assert "\n" not in str(error)
