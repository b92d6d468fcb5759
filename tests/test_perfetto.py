"""Traces for Perfetto, parsed back with the package's own protobuf classes."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import scenario_of
from test_trace import any_event

import pleemu
from pleemu.hypervisor.hypercall import KVM_HC_SEND_IPI
from pleemu.observe import events
from pleemu.scenario import Hardware, Thread
from pleemu.trace.files import trace_file

proto = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2", reason="perfetto is not installed")


def parsed(path: Path) -> Any:
    trace = proto.Trace()
    trace.ParseFromString(path.read_bytes())
    return trace


def names_of(trace: Any) -> dict[int, str]:
    described = [one.track_descriptor for one in trace.packet if one.HasField("track_descriptor")]
    names = {one.uuid: one.name for one in described}
    assert len(names) == len(described), "a track is described twice"
    assert all(one.parent_uuid in names for one in described if one.parent_uuid)
    return names


def slices_of(trace: Any) -> dict[str, list[tuple[int, int, str, int]]]:
    """Return (begin, end, name, depth) by track; each end has its begin, and time goes on."""
    names, found, opened = names_of(trace), defaultdict(list), defaultdict(list)
    for packet in trace.packet:
        one = packet.track_event
        if one.type == proto.TrackEvent.TYPE_SLICE_BEGIN:
            opened[one.track_uuid].append((packet.timestamp, one.name))
        elif one.type == proto.TrackEvent.TYPE_SLICE_END:
            begin, name = opened[one.track_uuid].pop()
            assert begin <= packet.timestamp
            found[names[one.track_uuid]].append((begin, packet.timestamp, name, len(opened[one.track_uuid])))
    assert not any(opened.values()), "a slice does not end"
    return found


def flows_of(trace: Any) -> tuple[Counter[int], Counter[int]]:
    begun, ended = Counter(), Counter()
    for packet in trace.packet:
        begun.update(packet.track_event.flow_ids)
        ended.update(packet.track_event.terminating_flow_ids)
    return begun, ended


@pytest.fixture(scope="module")
def worst_case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    path = tmp_path_factory.mktemp("perfetto") / "trace.pftrace"
    return pleemu.run("worst_case", trace=path, duration="60ms"), parsed(path)


def test_tracks_are_named(worst_case: tuple[Any, Any]) -> None:
    """Each pCPU and vCPU has one, and each vCPU a counter of its window."""
    names = set(names_of(worst_case[1]).values())
    vcpus = {f"vm{vm}/{vcpu}" for vm in range(2) for vcpu in range(2)}
    assert names >= {"pCPU 0", "vm0", "vm1"} | {f"vCPU {one}" for one in vcpus} | {f"ple_window {one}" for one in vcpus}


def test_vruntimes_are_counters(worst_case: tuple[Any, Any]) -> None:
    """Each of a pCPU's threads has one; under CFS who runs is never far ahead of the least."""
    names = names_of(worst_case[1])
    latest: dict[str, int] = {}
    for packet in worst_case[1].packet:
        track = names.get(packet.track_event.track_uuid, "")
        if track.startswith("vruntime"):
            latest[track] = packet.track_event.counter_value
    assert set(latest) == {f"vruntime vm{vm}/{vcpu}" for vm in range(2) for vcpu in range(2)}
    assert max(latest.values()) - min(latest.values()) < 20_000_000  # 60 ms of one pCPU among four
    assert min(latest.values()) > 5_000_000


def test_slices_nest(worst_case: tuple[Any, Any]) -> None:
    """Guest and host lie within the time on a pCPU, and only one vCPU is on it at a time."""
    slices = slices_of(worst_case[1])
    on_pcpu = sorted((begin, end) for track in slices.values() for begin, end, name, _ in track if name == "on pCPU 0")
    assert len(on_pcpu) > 10
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(on_pcpu))
    for name, track in slices.items():
        if name.startswith("vCPU") and not name.endswith("locks"):
            assert {depth for *_, depth in track} == {0, 1}
            outer = [one for one in track if one[3] == 0]
            inner = [one for one in track if one[3] == 1]
            assert {name for _, _, name, _ in inner} <= {
                "guest",
                "host",
                "host: PAUSE_INSTRUCTION",
                "host: EXTERNAL_INTERRUPT",
            }
            assert sum(end - begin for begin, end, *_ in inner) == sum(end - begin for begin, end, *_ in outer)
    shown = {name for track in slices.values() for _, _, name, _ in track}
    assert shown >= {"spinning", "critical section", "guest", "host: PAUSE_INSTRUCTION"}


def test_counts_are_the_runs(worst_case: tuple[Any, Any]) -> None:
    """Each directed yield is an arrow, each change of the window a value of its counter."""
    result, trace = worst_case
    begun, ended = flows_of(trace)
    instants = [
        packet.track_event.name for packet in trace.packet if packet.track_event.type == proto.TrackEvent.TYPE_INSTANT
    ]
    yields = sum(name.startswith("yield_to") for name in instants)
    assert yields == sum(name.startswith("nominated by") for name in instants) > 0
    assert len(begun) == yields
    assert result.ple.exits >= yields
    assert any(ended.values())
    values = {packet.track_event.counter_value for packet in trace.packet}
    assert {4096, 8192} <= values


def test_arrows_are_bound(worst_case: tuple[Any, Any]) -> None:
    """Each arrow has at least two ends, in the order of time, and none ends that has not begun."""
    begun, ended = flows_of(worst_case[1])
    assert set(ended) <= set(begun)
    assert all(begun[one] + ended[one] >= 2 for one in begun)


@given(st.lists(any_event, max_size=80))
def test_any_events_are_well_formed(tmp_path_factory: pytest.TempPathFactory, happened: list[tuple[int, ...]]) -> None:
    """Whatever happens, in whatever order: all slices end, all arrows are bound, no track is described twice."""
    made = sorted((cycle, kind, pcpu % 4, *rest) for cycle, kind, pcpu, *rest in happened)
    on_pcpu = dict.fromkeys(range(4), -1)
    sound = []
    for cycle, kind, pcpu, vcpu, a, b, c in made:
        if kind == events.SCHED_SWITCH:  # the scheduler's own rule: who comes runs nowhere else
            a = on_pcpu[pcpu]
            b = -1 if b in on_pcpu.values() else b
            on_pcpu[pcpu] = b
        sound.append((cycle, kind, pcpu, vcpu, a, b, c))
    path = tmp_path_factory.mktemp("perfetto") / "trace.pftrace"
    thread = (Thread(name="kworker", count=2),)
    scenario = scenario_of(vms=2, vcpus=4, thread=thread, hardware=Hardware(pcpus=4))
    with trace_file(scenario, path) as sink:
        sink(np.array(sound, events.EVENT))
    trace = parsed(path)
    slices_of(trace)
    begun, ended = flows_of(trace)
    assert set(ended) <= set(begun)
    assert all(begun[one] + ended[one] >= 2 for one in begun)


@pytest.mark.parametrize(
    ("destination", "icr", "receivers"),
    [
        (2, 0, {2}),
        (0xFFFFFFFF, 0, {0, 1, 2, 3}),
        (0b1010, 1 << 11, {1, 3}),
        (0, 1 << 18, {1}),
        (0, 2 << 18, {0, 1, 2, 3}),
        (0, 3 << 18, {0, 2, 3}),
    ],
)
def test_ipi_reaches_whom_the_icr_means(tmp_path: Path, destination: int, icr: int, receivers: set[int]) -> None:
    """One, all, a set of logical ids, self, all, all but self; of the sender's VM alone."""
    path = tmp_path / "trace.pftrace"
    with trace_file(scenario_of(vms=2, vcpus=4), path) as sink:
        sink(np.array([(0, events.APIC_IPI, 0, 5, destination, 236, icr)], events.EVENT))
    trace = parsed(path)
    names = names_of(trace)
    reached = {names[one.track_event.track_uuid] for one in trace.packet if one.track_event.terminating_flow_ids}
    assert reached == {f"vCPU vm1/{one}" for one in receivers}


def test_paravirtual_ipi_reaches_whom_its_bitmap_means(tmp_path: Path) -> None:
    """Bit 0 is the least x2APIC id; of the sender's VM alone; other hypercalls send none."""
    path = tmp_path / "trace.pftrace"
    happened = [
        (0, events.HYPERCALL, 0, 5, KVM_HC_SEND_IPI, 0b1011, 0),
        (0, events.HYPERCALL_MORE, 0, 5, 1, 236, 0),
        (1, events.HYPERCALL, 0, 5, KVM_HC_SEND_IPI + 1, 0b1011, 0),
        (1, events.HYPERCALL_MORE, 0, 5, 1, 236, 0),
    ]
    with trace_file(scenario_of(vms=2, vcpus=4), path) as sink:
        sink(np.array(happened, events.EVENT))
    trace = parsed(path)
    names = names_of(trace)
    reached = [names[one.track_event.track_uuid] for one in trace.packet if one.track_event.terminating_flow_ids]
    assert reached == ["vCPU vm1/1", "vCPU vm1/2"]


def test_vruntimes_of_copies_and_migrations_are_told_apart(tmp_path: Path) -> None:
    """Each copy of a thread of the host has a counter of its own; a migration is a mark on its vCPU's track."""
    path = tmp_path / "trace.pftrace"
    happened = [(0, events.STAT_RUNTIME, 0, 0, thread | 3 << events.QUEUE_SHIFT, 7, 5) for thread in (8, 9)]
    happened.append((1, events.SCHED_MIGRATE, 0, 0, 5, 1, 0 | 4 << events.CAUSE_SHIFT))
    happened.append((1, events.SCHED_MIGRATE, 0, 0, 8, 1, 0 | 4 << events.CAUSE_SHIFT))
    thread = (Thread(name="kworker", count=2),)
    with trace_file(scenario_of(vms=2, vcpus=4, thread=thread), path) as sink:
        sink(np.array(happened, events.EVENT))
    trace = parsed(path)
    names = names_of(trace)
    counted = [names[one.track_event.track_uuid] for one in trace.packet if one.track_event.counter_value == 7]
    assert counted == ["vruntime kworker/0", "vruntime kworker/1"]
    marks = [
        (names[one.track_event.track_uuid], one.track_event.name)
        for one in trace.packet
        if one.track_event.type == proto.TrackEvent.TYPE_INSTANT
    ]
    assert marks == [("vCPU vm1/1", "pCPU 1 to 0: active")]
