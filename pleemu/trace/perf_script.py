"""Events as `perf script` prints them, with the payloads of the tracepoints of Linux v5.6.

    CPU 2/KVM 2679 [006] 276.731784: kvm:kvm_exit: vcpu 2 reason PAUSE_INSTRUCTION rip 0xffffffffb72e29e3 info 0 0

What a real trace has and this one makes up: pids (2677 + 100 for each earlier VM + the vCPU's
number; the step is a larger multiple of 100 if a VM has more than 100 vCPUs), those of the host's own
threads (1001, 1002, ...), and `info` 0.

A hypercall is two events and one line.

v5.6 has no tracepoint for a directed yield on x86, so YIELD_TO leaves no line: it shows, as on a
real host, in the sched_switch that follows a PAUSE exit. A probe of the guest is printed as perf
prints an SDT event: `sdt_pleemu:lock_wait: (ffffffff81000010) arg1=8`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from numpy.typing import NDArray

from pleemu.errors import ScenarioError
from pleemu.hardware.isa import PROBE_OPERATION_DONE, PROBES
from pleemu.observe import events
from pleemu.scenario import Scenario

_FIRST_PID = 2677
_FIRST_PID_OF_HOST = 1001
_PID_STEP = 100
_U64 = 2**64 - 1
_PRIORITY = 120  # of nice 0
# Fields of the ICR's low half, by their lowest bit: what each value is called.
_ICR_FIELDS = (
    (8, ("Fixed", "LowPrio", "SMI", "Res3", "NMI", "INIT", "SIPI", "ExtINT")),
    (11, ("physical", "logical")),
    (14, ("de-assert", "assert")),
    (15, ("edge", "level")),
    (18, ("dst", "self", "all", "all-but-self")),
)
_WITHOUT_ARGUMENT = (PROBE_OPERATION_DONE,)

_Event = tuple[int, int, int]  # a, b, c


class PerfScript:
    """A sink for chunks of events that writes one line for each."""

    def __init__(self, scenario: Scenario, file: TextIO) -> None:
        self._file = file
        self._core_khz = scenario.hardware.core_rate_khz
        self._reasons = events.exit_reasons(scenario.hardware.is_amd)
        step = _PID_STEP * -(-max(vm.vcpus for vm in scenario.vm) // _PID_STEP)
        numbered = [(vm, vcpu) for vm, one in enumerate(scenario.vm) for vcpu in range(one.vcpus)]
        self._number_in_vm = [vcpu for _, vcpu in numbered]
        self._comms = [f"CPU {vcpu}/KVM" for _, vcpu in numbered]
        self._pids = [_FIRST_PID + step * vm + vcpu for vm, vcpu in numbered]
        self._priorities = [_PRIORITY + one.nice for one in scenario.vm for _ in range(one.vcpus)]
        of_host = [one for one in scenario.thread for _ in range(one.count)]
        self._comms += [one.name for one in of_host]
        self._pids += [_FIRST_PID_OF_HOST + number for number in range(len(of_host))]
        self._priorities += [_PRIORITY + one.nice for one in of_host]
        self._priorities.append(_PRIORITY)  # of swapper
        self._threads = [f"{comm} {pid}" for comm, pid in zip(self._comms, self._pids, strict=True)]
        self._threads.append("swapper 0")  # vCPU -1
        self._hypercall_arguments: _Event = (0, 0, 0)
        self._payloads: dict[int, Callable[[int, int, _Event], str | None]] = {
            events.KVM_EXIT: self._kvm_exit,
            events.KVM_ENTRY: self._kvm_entry,
            events.PLE_WINDOW: self._ple_window,
            events.SCHED_SWITCH: self._sched_switch,
            events.SCHED_WAKEUP: self._sched_wakeup,
            events.SCHED_MIGRATE: self._sched_migrate,
            events.APIC_IPI: self._apic_ipi,
            events.PROBE: self._probe,
            events.HALT_POLL: self._halt_poll,
            events.HYPERCALL: self._hypercall_begun,
            events.HYPERCALL_MORE: self._hypercall,
            events.PV_TLB_FLUSH: self._pv_tlb_flush,
        }

    def __call__(self, chunk: NDArray[Any]) -> None:
        """Write the lines of a chunk."""
        times_us = chunk["cycle"] * 1_000 // self._core_khz
        columns = [times_us.tolist(), *(chunk[name].tolist() for name in ("kind", "pcpu", "vcpu", "a", "b", "c"))]
        lines = []
        for time_us, kind, pcpu, vcpu, a, b, c in zip(*columns, strict=True):
            payload_of = self._payloads.get(kind)
            payload = payload_of(pcpu, vcpu, (a, b, c)) if payload_of else None
            if payload is not None:
                seconds, us = divmod(time_us, 1_000_000)
                where = f"{self._threads[vcpu]} [{pcpu:03d}] {seconds}.{us:06d}"
                lines.append(f"{where}: {payload}\n")
        with _explained(Path(self._file.name)):
            self._file.write("".join(lines))

    def _kvm_exit(self, _: int, vcpu: int, event: _Event) -> str:
        reason, rip, _ = event
        name = self._reasons.get(reason, str(reason))
        return f"kvm:kvm_exit: vcpu {self._number_in_vm[vcpu]} reason {name} rip {rip & _U64:#x} info 0 0"

    def _kvm_entry(self, _: int, vcpu: int, event: _Event) -> str:
        return f"kvm:kvm_entry: vcpu {self._number_in_vm[vcpu]}"

    def _ple_window(self, _: int, vcpu: int, event: _Event) -> str:
        old, new, _ = event
        how = "growed" if new > old else "shrinked"
        return f"kvm:kvm_ple_window_update: vcpu {self._number_in_vm[vcpu]} old {old} new {new} ({how})"

    def _halt_poll(self, _: int, vcpu: int, event: _Event) -> str:
        old, new, _ = event
        how = "grow" if new > old else "shrink"
        return f"kvm:kvm_halt_poll_ns: vcpu {self._number_in_vm[vcpu]}: halt_poll_ns {new} ({how} {old})"

    def _sched_switch(self, pcpu: int, _: int, event: _Event) -> str:
        previous, following, state = event
        from_comm, from_pid = self._task(previous, pcpu)
        to_comm, to_pid = self._task(following, pcpu)
        return (
            f"sched:sched_switch: prev_comm={from_comm} prev_pid={from_pid} prev_prio={self._priorities[previous]} "
            f"prev_state={events.STATE_NAMES[state]} ==> "
            f"next_comm={to_comm} next_pid={to_pid} next_prio={self._priorities[following]}"
        )

    def _sched_wakeup(self, _: int, __: int, event: _Event) -> str:
        woken, target_pcpu, _ = event
        comm, pid = self._task(woken, target_pcpu)
        return f"sched:sched_wakeup: comm={comm} pid={pid} prio={self._priorities[woken]} target_cpu={target_pcpu:03d}"

    def _sched_migrate(self, pcpu: int, __: int, event: _Event) -> str:
        moved, from_pcpu, to_pcpu = event
        comm, pid = self._task(moved, pcpu)
        to_pcpu &= events.PCPU_MASK
        return (
            f"sched:sched_migrate_task: comm={comm} pid={pid} prio={self._priorities[moved]} "
            f"orig_cpu={from_pcpu} dest_cpu={to_pcpu}"
        )

    def _apic_ipi(self, _: int, __: int, event: _Event) -> str:
        destination, vector, icr = event
        how = "|".join(names[icr >> shift & len(names) - 1] for shift, names in _ICR_FIELDS)
        return f"kvm:kvm_apic_ipi: dst {destination & 0xFFFFFFFF:x} vec {vector} ({how})"

    def _hypercall_begun(self, _: int, __: int, event: _Event) -> None:
        self._hypercall_arguments = event

    def _hypercall(self, _: int, __: int, event: _Event) -> str:
        nr, a0, a1 = (one & _U64 for one in self._hypercall_arguments)
        a2, a3 = (one & _U64 for one in event[:2])
        return f"kvm:kvm_hypercall: nr {nr:#x} a0 {a0:#x} a1 {a1:#x} a2 {a2:#x} a3 {a3:#x}"

    def _pv_tlb_flush(self, _: int, vcpu: int, event: _Event) -> str:
        needed = "true" if event[0] else "false"
        return f"kvm:kvm_pv_tlb_flush: vcpu {self._number_in_vm[vcpu]} need_flush_tlb {needed}"

    def _probe(self, _: int, __: int, event: _Event) -> str:
        probe, operand, rip = event
        argument = "" if probe in _WITHOUT_ARGUMENT else f" arg1={operand & _U64}"
        return f"sdt_pleemu:{PROBES[probe]}: ({rip & _U64:x}){argument}"

    def _task(self, task: int, pcpu: int) -> tuple[str, int]:
        return (f"swapper/{pcpu}", 0) if task < 0 else (self._comms[task], self._pids[task])


@contextmanager
def perf_script(scenario: Scenario, path: Path) -> Iterator[PerfScript]:
    """Open a file that receives events as text; a failure to write it is a ScenarioError."""
    with _explained(path):
        file = path.open("w", encoding="ascii")
    try:
        yield PerfScript(scenario, file)
    finally:
        with _explained(path):
            file.close()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise ScenarioError(f"{path}: the trace cannot be written: {reason}") from None
