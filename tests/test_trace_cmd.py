"""Debian's trace-cmd and KernelShark as judges of a written trace.dat."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_runs import scenario_of
from test_trace import any_event

import pleemu
from pleemu.errors import PleemuError
from pleemu.observe import events
from pleemu.scenario import Hardware, Thread
from pleemu.trace.analysis import analyze_files
from pleemu.trace.files import trace_file
from pleemu.trace.read import Seen, Unread, read_lines

KWORKERS = (Thread(name="kworker", count=2, nice=-20),)
pytestmark = pytest.mark.skipif(shutil.which("trace-cmd") is None, reason="trace-cmd is not installed")


def report(path: Path, *options: str) -> str:
    command = ["trace-cmd", "report", *options, str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True, errors="replace").stdout


def read(text: str) -> list[Seen]:
    unread = Unread()
    seen = list(read_lines(text.splitlines(), "report", unread))
    assert unread.count == 0, unread.first
    return seen


def both(folder: Path, happened: list[tuple[int, ...]], policy: str) -> tuple[str, Path]:
    """Write events as ftrace text and as trace.dat."""
    scenario = scenario_of(vms=2, vcpus=4, policy=policy, thread=KWORKERS, hardware=Hardware(pcpus=4))
    for path in (folder / "trace.ftrace", folder / "trace.dat"):
        with trace_file(scenario, path) as sink:
            sink(np.array(happened, events.EVENT))
    return (folder / "trace.ftrace").read_text(), folder / "trace.dat"


@pytest.mark.parametrize("policy", ["vanilla", "kvm-6.19"])
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(happened=st.lists(any_event, min_size=1, max_size=200))
def test_trace_cmd_prints_our_text(
    tmp_path_factory: pytest.TempPathFactory, policy: str, happened: list[tuple[int, ...]]
) -> None:
    """`trace-cmd report -N` of any events is, to the letter, the text that we write of them."""
    happened = [
        (number * 10**9 + cycle % 10**9, kind, number % 4, *rest)
        for number, (cycle, kind, _, *rest) in enumerate(happened)
    ]
    text, path = both(tmp_path_factory.mktemp("dat"), happened, policy)
    if text.count("\n") > 1:
        assert report(path, "-N") == text


def test_plugins_of_trace_cmd_change_the_form_only(tmp_path: Path) -> None:
    """With trace-cmd's plugins for kvm and sched the events of a run are the same, field by field."""
    for name in ("trace.ftrace", "trace.dat"):
        pleemu.run("worst_case", trace=tmp_path / name, duration="30ms")
    texts = [(tmp_path / "trace.ftrace").read_text(), report(tmp_path / "trace.dat")]
    ours, theirs = (read(text) for text in texts)
    assert len(ours) == len(theirs) > 100
    for one, other in zip(ours, theirs, strict=True):
        assert (one.time_ns, one.cpu, one.pid, one.event) == (other.time_ns, other.cpu, other.pid, other.event)
        one.values.update({name: "R" for name, state in one.values.items() if state == "R+"})  # its plugin drops the +
        common = one.values.keys() & other.values.keys()
        assert common or not one.values
        assert {name: one.values[name] for name in common} == {name: other.values[name] for name in common}


@pytest.mark.parametrize("processor", ["haswell", "zen4"])
@pytest.mark.parametrize("options", [[], ["-l"], ["-t"], ["--ts-diff"], ["-l", "-t", "--ts-diff"], ["-N", "-l"]])
def test_options_of_the_report_do_not_change_the_figures(tmp_path: Path, processor: str, options: list[str]) -> None:
    """Latency flags, differences of times, names of SVM's exits by its plugin: the same exits, runs and switches."""
    binary, text = tmp_path / "trace.dat", tmp_path / "report.txt"
    pleemu.run("worst_case", trace=binary, duration="60ms", fields={"hardware.processor": processor})
    text.write_text(report(binary, *options))
    ours, theirs = (analyze_files([path]) for path in (binary, text))
    assert theirs.unread.count == 0
    assert ours.pause_exits == theirs.pause_exits > 20
    assert (ours.exits, ours.pauses, ours.runs) == (theirs.exits, theirs.pauses, theirs.runs)
    assert sorted(ours.switched_to.values()) == sorted(theirs.switched_to.values())


def test_raw_report_is_an_error_that_names_the_option(tmp_path: Path) -> None:
    """Fields without their names."""
    binary, text = tmp_path / "trace.dat", tmp_path / "report.txt"
    pleemu.run("worst_case", trace=binary, duration="5ms")
    text.write_text(report(binary, "-R"))
    with pytest.raises(PleemuError, match="leave out -R"):
        analyze_files([text])


def test_missed_events_are_told_as_trace_cmd_tells_them(tmp_path: Path) -> None:
    """The flags of a page, and the number behind its events."""
    binary, text = tmp_path / "trace.dat", tmp_path / "report.txt"
    pleemu.run("worst_case", trace=binary, duration="5ms")
    data = bytearray(binary.read_bytes())
    page = len(data) - 4096
    (used,) = struct.unpack_from("<Q", data, page + 8)
    struct.pack_into("<Q", data, page + 8, used | 0b11 << 30)
    struct.pack_into("<Q", data, page + 16 + used, 17)
    binary.write_bytes(data)
    text.write_text(report(binary))
    assert "[17 EVENTS DROPPED]" in text.read_text()
    assert [analyze_files([path]).unread.lost_events for path in (binary, text)] == [17, 17]
