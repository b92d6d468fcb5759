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
from pleemu.trace.analysis import analyze_files
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
