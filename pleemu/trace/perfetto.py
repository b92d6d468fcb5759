"""Perfetto's own protobuf: tracks with slices, arrows and counters (perfetto.dev, TrackEvent).

A track for each pCPU, with slices of who runs. For each vCPU one of where it is (on a pCPU: guest or host, by reason
of the exit), with marks where it migrates, below it lanes of what its guest does (spinning, critical section), and a
counter of its PLE window. For each thread a counter of its vruntime, on the queue that it is on: two of one pCPU may be
compared. Arrows go from a directed yield to whom it nominates, and on to where that next runs, and from each IPI that
exits to KVM to its receivers. A lane holds one thing at a time: locks need not be released in the order in which they
were taken.

The file is a sequence of packets, so each is written as it happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from attrs import Factory, define
from numpy.typing import NDArray

from pleemu.hardware.isa import (
    PROBE_IPI_WAIT,
    PROBE_LOCK_ACQUIRED,
    PROBE_LOCK_RELEASED,
    PROBE_LOCK_WAIT,
    PROBE_LOCK_WAIT_OVER,
)
from pleemu.hypervisor.hypercall import KVM_HC_SEND_IPI
from pleemu.observe import events
from pleemu.observe.records import MIGRATIONS
from pleemu.scenario import Scenario
from pleemu.trace.recording import thread_names
from pleemu.trace.threads import IDLE, Threads

_U64 = 2**64 - 1
_LOGICAL = 1 << 11  # of an ICR's low half
_PCPU, _VM, _VCPU, _WINDOW, _LANE, _VRUNTIME = (kind << 40 for kind in range(1, 7))  # uuids: kind, then number
_LANES = 2**16  # of a vCPU


@define
class _Vcpu:
    """What is open on a vCPU's tracks."""

    pcpu: int = -1  # where it runs; -1 nowhere
    mode: str = "host"
    lanes: list[tuple[str, int] | None] = Factory(list)  # what each lane shows, of which lock
    arrow: int = 0  # of the latest yield to it, if it has not run since


class Perfetto:
    """Writes a trace for ui.perfetto.dev."""

    def __init__(self, file: BinaryIO, scenario: Scenario) -> None:
        from perfetto.protos.perfetto.trace import perfetto_trace_pb2

        self._proto = perfetto_trace_pb2
        self._event = perfetto_trace_pb2.TrackEvent
        self._file = file
        self._threads = threads = Threads(scenario)
        self._core_khz = scenario.hardware.core_rate_khz
        self._reasons = events.exit_reasons(scenario.hardware.is_amd)
        self._names = thread_names(scenario)
        self._vcpus = [_Vcpu() for _ in threads.vm]
        self._running = [IDLE] * scenario.hardware.pcpus
        self._with_vruntime: set[int] = set()  # threads; under `chaos` none
        self._bitmap = 0  # of the latest hypercall
        self._arrows = 0
        self._now = 0
        self._describe(scenario)

    def take(self, chunk: NDArray[Any]) -> None:
        """Write a chunk of events."""
        handlers: dict[int, Callable[[int, int, int, int, int], None]] = {
            events.KVM_EXIT: self._kvm_exit,
            events.KVM_ENTRY: self._kvm_entry,
            events.PLE_WINDOW: self._ple_window,
            events.SCHED_SWITCH: self._sched_switch,
            events.YIELD_TO: self._yield_to,
            events.APIC_IPI: self._apic_ipi,
            events.HYPERCALL: self._hypercall,
            events.HYPERCALL_MORE: self._hypercall_more,
            events.SCHED_MIGRATE: self._sched_migrate,
            events.STAT_RUNTIME: self._stat_runtime,
            events.PROBE: self._probe,
        }
        columns = (chunk[name].tolist() for name in ("cycle", "kind", "pcpu", "vcpu", "a", "b", "c"))
        for cycle, kind, pcpu, vcpu, a, b, c in zip(*columns, strict=True):
            handler = handlers.get(kind)
            if handler is not None:
                self._now = cycle * 1_000_000 // self._core_khz
                handler(pcpu, vcpu, a, b, c)

    def close(self) -> None:
        """End every slice that is still open."""
        for pcpu, thread in enumerate(self._running):
            if thread != IDLE:
                self._end(_PCPU + pcpu)
        for number, vcpu in enumerate(self._vcpus):
            if vcpu.pcpu >= 0:
                self._leave(number)
            for lane, held in enumerate(vcpu.lanes):
                if held is not None:
                    self._end(_lane(number, lane))

    def _describe(self, scenario: Scenario) -> None:
        for pcpu in range(scenario.hardware.pcpus):
            self._track(_PCPU + pcpu, f"pCPU {pcpu}")
        for number, vm in enumerate(scenario.vm):
            self._track(_VM + number, vm.name)
        for number, of_vm in enumerate(self._threads.vm):
            self._track(_VCPU + number, f"vCPU {self._names[number]}", _VM + of_vm)
            unit = "PAUSEs" if scenario.hardware.is_amd else "TSC ticks"
            self._counter_track(_WINDOW + number, f"ple_window {self._names[number]}", _VM + of_vm, unit)

    def _kvm_exit(self, _: int, vcpu: int, reason: int, rip: int, __: int) -> None:
        self._change(vcpu, self._reasons.get(reason, str(reason)), rip=rip & _U64)

    def _kvm_entry(self, _: int, vcpu: int, *__: int) -> None:
        self._change(vcpu, "guest")

    def _change(self, vcpu: int, mode: str, **notes: int) -> None:
        """The vCPU goes from guest to host, or back."""
        shown = mode if mode == "guest" else f"host: {mode}"
        state = self._vcpus[vcpu]
        if state.pcpu >= 0:
            self._end(_VCPU + vcpu)
            self._begin(_VCPU + vcpu, shown, **notes)
        state.mode = shown

    def _ple_window(self, _: int, vcpu: int, __: int, new: int, ___: int) -> None:
        self._count(_WINDOW + vcpu, new)

    def _stat_runtime(self, _: int, __: int, place: int, vruntime: int, ___: int) -> None:
        thread = place & events.THREAD_MASK
        if thread not in self._with_vruntime:
            self._with_vruntime.add(thread)
            parent = _VM + self._threads.vm[thread] if thread < len(self._threads.vm) else 0
            self._counter_track(_VRUNTIME + thread, f"vruntime {self._names[thread]}", parent, "ns")
        self._count(_VRUNTIME + thread, vruntime)

    def _sched_switch(self, pcpu: int, _: int, previous: int, following: int, state: int) -> None:
        if self._running[pcpu] != IDLE:
            self._end(_PCPU + pcpu)
        if 0 <= previous < len(self._vcpus) and self._vcpus[previous].pcpu >= 0:
            self._leave(previous)
        self._running[pcpu] = following
        if following == IDLE:
            return
        self._begin(_PCPU + pcpu, self._names[following])
        if following < len(self._vcpus):
            vcpu = self._vcpus[following]
            vcpu.pcpu = pcpu
            self._begin(_VCPU + following, f"on pCPU {pcpu}", ends=vcpu.arrow)
            self._begin(_VCPU + following, vcpu.mode)
            vcpu.arrow = 0

    def _leave(self, vcpu: int) -> None:
        self._end(_VCPU + vcpu)  # guest or host
        self._end(_VCPU + vcpu)  # on its pCPU
        self._vcpus[vcpu].pcpu = -1

    def _yield_to(self, _: int, vcpu: int, target: int, result: int, __: int) -> None:
        arrow = self._new_arrow()
        self._instant(vcpu, f"yield_to {self._names[target]}", arrow, result=result)
        self._instant(target, f"nominated by {self._names[vcpu]}", arrow, ends=result != 1)
        if result == 1:
            self._vcpus[target].arrow = arrow

    def _apic_ipi(self, _: int, vcpu: int, destination: int, vector: int, icr: int) -> None:
        for receiver in self._receivers(vcpu, destination & 0xFFFFFFFF, icr):
            self._arrow_of_ipi(vcpu, receiver, vector)

    def _arrow_of_ipi(self, sender: int, receiver: int, vector: int) -> None:
        arrow = self._new_arrow()
        self._instant(sender, f"IPI {vector} to {self._names[receiver]}", arrow)
        self._instant(receiver, f"IPI {vector} from {self._names[sender]}", arrow, ends=True)

    def _hypercall(self, _: int, __: int, number: int, low: int, high: int) -> None:
        self._bitmap = low & _U64 | (high & _U64) << 64 if number == KVM_HC_SEND_IPI else 0

    def _hypercall_more(self, _: int, vcpu: int, least: int, icr: int, __: int) -> None:
        """A paravirtual IPI is to the x2APIC ids of its bitmap, which begins at the least of them."""
        for receiver, number in self._same_vm(vcpu):
            if number >= least and self._bitmap >> (number - least) & 1:
                self._arrow_of_ipi(vcpu, receiver, icr & 0xFF)

    def _sched_migrate(self, _: int, __: int, thread: int, origin: int, where: int) -> None:
        if thread < len(self._vcpus):
            cause = MIGRATIONS[where >> events.CAUSE_SHIFT]
            self._instant(thread, f"pCPU {origin} to {where & events.PCPU_MASK}: {cause}")

    def _receivers(self, sender: int, destination: int, icr: int) -> Iterator[int]:
        """Yield whom an ICR means (SDM 3A 10.6.1, 10.12.9), of all vCPUs: x2APIC ids are the numbers in the VM."""
        shorthand = icr >> 18 & 3
        for number, vcpu in self._same_vm(sender):
            if shorthand:
                meant = shorthand == 2 or (shorthand == 1) == (number == sender)
            elif icr & _LOGICAL and destination != 0xFFFFFFFF:
                meant = destination >> 16 == vcpu >> 4 and destination >> (vcpu & 15) & 1 == 1
            else:
                meant = destination in (vcpu, 0xFFFFFFFF)
            if meant:
                yield number

    def _same_vm(self, of: int) -> Iterator[tuple[int, int]]:
        """Yield the vCPUs of a vCPU's VM: their numbers among all, and in it."""
        for number, (vm, vcpu) in enumerate(zip(self._threads.vm, self._threads.number_in_vm, strict=True)):
            if vm == self._threads.vm[of]:
                yield number, vcpu

    def _probe(self, _: int, vcpu: int, probe: int, operand: int, rip: int) -> None:
        if probe == PROBE_LOCK_WAIT:
            self._open_lane(vcpu, "spinning", operand)
        elif probe == PROBE_LOCK_ACQUIRED:
            self._close_lane(vcpu, "spinning", operand)
            self._open_lane(vcpu, "critical section", operand)
        elif probe == PROBE_LOCK_RELEASED:
            self._close_lane(vcpu, "critical section", operand)
        elif probe == PROBE_LOCK_WAIT_OVER:
            self._close_lane(vcpu, "spinning", operand)
        elif probe == PROBE_IPI_WAIT:
            self._instant(vcpu, f"waits for an answer of vCPU {operand}")

    def _open_lane(self, vcpu: int, what: str, lock: int) -> None:
        lanes = self._vcpus[vcpu].lanes
        if None not in lanes:
            vm = self._threads.vm[vcpu]
            self._track(_lane(vcpu, len(lanes)), f"vCPU {self._names[vcpu]} locks", _VM + vm)
            lanes.append(None)
        lane = lanes.index(None)
        lanes[lane] = (what, lock)
        self._begin(_lane(vcpu, lane), what, lock=lock & _U64)

    def _close_lane(self, vcpu: int, what: str, lock: int) -> None:
        lanes = self._vcpus[vcpu].lanes
        if (what, lock) in lanes:
            lane = lanes.index((what, lock))
            lanes[lane] = None
            self._end(_lane(vcpu, lane))

    def _new_arrow(self) -> int:
        self._arrows += 1
        return self._arrows

    def _instant(self, vcpu: int, name: str, arrow: int = 0, *, ends: bool = False, **notes: int) -> None:
        packet = self._packet(_VCPU + vcpu, self._event.TYPE_INSTANT, name, notes)
        if arrow:
            (packet.track_event.terminating_flow_ids if ends else packet.track_event.flow_ids).append(arrow)
        self._write(packet)

    def _begin(self, track: int, name: str, *, ends: int = 0, **notes: int) -> None:
        packet = self._packet(track, self._event.TYPE_SLICE_BEGIN, name, notes)
        if ends:
            packet.track_event.terminating_flow_ids.append(ends)
        self._write(packet)

    def _count(self, track: int, value: int) -> None:
        packet = self._packet(track, self._event.TYPE_COUNTER)
        packet.track_event.counter_value = value
        self._write(packet)

    def _end(self, track: int) -> None:
        self._write(self._packet(track, self._event.TYPE_SLICE_END))

    def _packet(self, track: int, kind: int, name: str = "", notes: dict[str, int] | None = None) -> Any:
        packet = self._proto.TracePacket()
        packet.timestamp = self._now
        packet.trusted_packet_sequence_id = 1
        packet.track_event.type = kind
        packet.track_event.track_uuid = track
        if name:
            packet.track_event.name = name
        for key, value in (notes or {}).items():
            note = packet.track_event.debug_annotations.add()
            note.name = key
            if value < 0 or key == "result":
                note.int_value = value
            else:
                note.pointer_value = value
        return packet

    def _track(self, uuid: int, name: str, parent: int = 0) -> None:
        self._write(self._track_packet(uuid, name, parent))

    def _counter_track(self, uuid: int, name: str, parent: int, unit: str) -> None:
        packet = self._track_packet(uuid, name, parent)
        packet.track_descriptor.counter.unit_name = unit
        self._write(packet)

    def _track_packet(self, uuid: int, name: str, parent: int) -> Any:
        packet = self._proto.TracePacket()
        packet.trusted_packet_sequence_id = 1
        packet.track_descriptor.uuid = uuid
        packet.track_descriptor.name = name
        if parent:
            packet.track_descriptor.parent_uuid = parent
        return packet

    def _write(self, packet: Any) -> None:
        body = packet.SerializeToString()
        size, length = bytearray(b"\x0a"), len(body)  # field 1 of Trace, with its length as a varint
        while length > 127:
            size.append(length & 127 | 128)
            length >>= 7
        size.append(length)
        self._file.write(bytes(size) + body)


def _lane(vcpu: int, lane: int) -> int:
    return _LANE + vcpu * _LANES + lane
