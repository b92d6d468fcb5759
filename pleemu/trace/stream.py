"""Events of a run as the tracepoints of a host: what all trace formats are written from.

There is no tracepoint for a directed yield on x86, so YIELD_TO is none: it shows, as on a real host, in the
sched_switch that follows a PAUSE exit. A hypercall is two events and one tracepoint. What real traces have and this
one makes up: `info`, `intr_info`, `error_code` and `requests` are 0. The RIP at an entry follows from the exit before
it; at a vCPU's first entry it is 0. Of STAT_RUNTIME a host traces what charges a thread, not what else moves it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from attrs import evolve, frozen
from numpy.typing import NDArray

from pleemu.generations import GENERATIONS
from pleemu.observe import events
from pleemu.policy import Policy
from pleemu.policy import policy as policy_named
from pleemu.scenario import Scenario
from pleemu.trace import tracepoints
from pleemu.trace.threads import Threads
from pleemu.trace.tracepoints import Field, Tracepoint

_U32 = 2**32 - 1
_U64 = 2**64 - 1
_RECENT = ("v6.13", "v6.19")  # generations whose kernels print as v6.19
# Instructions that KVM completes: their lengths. After other exits the guest goes on where it was.
_LENGTHS = {
    events.PAUSE_INSTRUCTION: 2,
    events.HLT: 1,
    events.CPUID: 2,
    events.MSR_READ: 2,
    events.MSR_WRITE: 2,
    events.VMCALL: 3,
}

# Not of any kernel on x86: only where a format is pleemu's own.
YIELD_TO = Tracepoint(
    "pleemu",
    "yield_to",
    (Field("int", "target_pid"), Field("int", "result"), Field("int", "hypercall")),
    "target_pid=%d result=%d hypercall=%d",
    ("target_pid", "result", "hypercall"),
)

Values = dict[str, Any]
_Event = tuple[int, int, int]  # a, b, c


@frozen
class Happening:
    """One tracepoint that was hit: in which thread, and the values of its fields."""

    time_ns: int
    pcpu: int
    thread: int
    point: Tracepoint
    values: Values


class Stream:
    """Turns chunks of events into happenings; with ``own`` also what no kernel traces."""

    def __init__(self, scenario: Scenario, policy: Policy | None = None, *, own: bool = False) -> None:
        policy = policy_named(scenario.policy) if policy is None else policy
        amd = scenario.hardware.is_amd
        self.threads = Threads(scenario)
        form = tracepoints.kernel_form(recent=GENERATIONS[policy.generation].kernel in _RECENT, amd=amd)
        self.form = evolve(form, stat_runtime=tracepoints.STAT_RUNTIME_OWN) if own else form
        self.points = tracepoints.all_tracepoints(self.form) + ((YIELD_TO,) if own else ())
        self._own = own
        self._core_khz = scenario.hardware.core_rate_khz
        self._isa = tracepoints.SVM if amd else tracepoints.VMX
        self._numbers = tracepoints.SVM_NUMBERS if amd else {}
        self._rips = [0] * len(self.threads.vm)
        self._hypercall: _Event = (0, 0, 0)
        self._translations: dict[int, Callable[[int, int, _Event], tuple[Tracepoint, Values] | None]] = {
            events.KVM_EXIT: self._kvm_exit,
            events.KVM_ENTRY: self._kvm_entry,
            events.PLE_WINDOW: self._ple_window,
            events.HALT_POLL: self._halt_poll,
            events.APIC_IPI: self._apic_ipi,
            events.HYPERCALL: self._hypercall_begun,
            events.HYPERCALL_MORE: self._hypercall_whole,
            events.PV_TLB_FLUSH: self._pv_tlb_flush,
            events.SCHED_SWITCH: self._sched_switch,
            events.SCHED_WAKEUP: self._sched_wakeup,
            events.SCHED_MIGRATE: self._sched_migrate,
            events.STAT_RUNTIME: self._stat_runtime,
            events.PROBE: self._probe,
        }
        if own:
            self._translations[events.YIELD_TO] = self._yield_to

    def happenings(self, chunk: NDArray[Any]) -> Iterator[Happening]:
        """Yield what a chunk of `pleemu.observe.events.EVENT` is to a host's tracer."""
        columns = (chunk[name].tolist() for name in ("cycle", "kind", "pcpu", "vcpu", "a", "b", "c"))
        for cycle, kind, pcpu, vcpu, a, b, c in zip(*columns, strict=True):
            translate = self._translations.get(kind)
            found = translate(pcpu, vcpu, (a, b, c)) if translate else None
            if found is not None:
                yield Happening(cycle * 1_000_000 // self._core_khz, pcpu, vcpu, *found)

    def _kvm_exit(self, _: int, vcpu: int, event: _Event) -> tuple[Tracepoint, Values]:
        reason, rip, _ = event
        self._rips[vcpu] = rip + _LENGTHS.get(reason, 0)
        return self.form.exit, {
            "vcpu_id": self.threads.number_in_vm[vcpu],
            "exit_reason": self._numbers.get(reason, reason),
            "guest_rip": rip & _U64,
            "isa": self._isa,
            "info1": 0,
            "info2": 0,
            "intr_info": 0,
            "error_code": 0,
            "requests": 0,
        }

    def _kvm_entry(self, _: int, vcpu: int, __: _Event) -> tuple[Tracepoint, Values]:
        return self.form.entry, {
            "vcpu_id": self.threads.number_in_vm[vcpu],
            "rip": self._rips[vcpu] & _U64,
            "intr_info": 0,
            "error_code": 0,
        }

    def _ple_window(self, _: int, vcpu: int, event: _Event) -> tuple[Tracepoint, Values]:
        return tracepoints.PLE_WINDOW, self._grown(vcpu, event)

    def _halt_poll(self, _: int, vcpu: int, event: _Event) -> tuple[Tracepoint, Values]:
        return tracepoints.HALT_POLL, self._grown(vcpu, event)

    def _grown(self, vcpu: int, event: _Event) -> Values:
        old, new, _ = event
        return {"vcpu_id": self.threads.number_in_vm[vcpu], "old": old, "new": new, "grow": int(new > old)}

    def _apic_ipi(self, _: int, __: int, event: _Event) -> tuple[Tracepoint, Values]:
        destination, vector, icr = event
        return tracepoints.APIC_IPI, {"dest_id": destination & _U32, "vector": vector, "icr_low": icr & _U32}

    def _hypercall_begun(self, _: int, __: int, event: _Event) -> None:
        self._hypercall = event

    def _hypercall_whole(self, _: int, __: int, event: _Event) -> tuple[Tracepoint, Values]:
        numbers = (*self._hypercall, *event[:2])
        return tracepoints.HYPERCALL, {
            name: number & _U64 for name, number in zip(("nr", "a0", "a1", "a2", "a3"), numbers, strict=True)
        }

    def _pv_tlb_flush(self, _: int, vcpu: int, event: _Event) -> tuple[Tracepoint, Values]:
        values = {"vcpu_id": self.threads.number_in_vm[vcpu], "need_flush_tlb": int(event[0] != 0)}
        return tracepoints.PV_TLB_FLUSH, values

    def _sched_switch(self, pcpu: int, _: int, event: _Event) -> tuple[Tracepoint, Values]:
        previous, following, state = event
        return tracepoints.SCHED_SWITCH, {
            **self._task("prev_", previous, pcpu),
            "prev_state": tracepoints.STATE_OF_EVENT[state],
            **self._task("next_", following, pcpu),
        }

    def _sched_wakeup(self, _: int, __: int, event: _Event) -> tuple[Tracepoint, Values]:
        woken, target_pcpu, _ = event
        return tracepoints.SCHED_WAKEUP, {
            **self._task("", woken, target_pcpu),
            "success": 1,
            "target_cpu": target_pcpu,
        }

    def _sched_migrate(self, pcpu: int, __: int, event: _Event) -> tuple[Tracepoint, Values]:
        moved, from_pcpu, to_pcpu = event
        return tracepoints.SCHED_MIGRATE, {
            **self._task("", moved, pcpu),
            "orig_cpu": from_pcpu,
            "dest_cpu": to_pcpu & events.PCPU_MASK,
        }

    def _stat_runtime(self, _: int, __: int, event: _Event) -> tuple[Tracepoint, Values] | None:
        place, vruntime, runtime = event
        thread = place & events.THREAD_MASK
        if runtime == 0 and not self._own:
            return None
        return self.form.stat_runtime, {
            "comm": self.threads.comm(thread, 0),
            "pid": self.threads.pids[thread],
            "runtime": runtime,
            "vruntime": vruntime if self._own else vruntime & _U64,
        }

    def _probe(self, _: int, __: int, event: _Event) -> tuple[Tracepoint, Values]:
        probe, operand, rip = event
        return tracepoints.GUEST_PROBES[probe], {"__probe_ip": rip & _U64, "arg1": operand & _U64}

    def _yield_to(self, _: int, __: int, event: _Event) -> tuple[Tracepoint, Values]:
        target, result, hypercall = event
        return YIELD_TO, {"target_pid": self.threads.pids[target], "result": result, "hypercall": hypercall}

    def _task(self, prefix: str, thread: int, pcpu: int) -> Values:
        threads = self.threads
        return {
            f"{prefix}comm": threads.comm(thread, pcpu),
            f"{prefix}pid": threads.pids[thread],
            f"{prefix}prio": threads.priorities[thread],
        }
