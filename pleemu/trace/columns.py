"""A recording as tables of columns: NumPy arrays and lists, by name. Data frames and pages are made from them.

    exits        a row for each VM exit          decisions    one for each PAUSE exit: what KVM made of it
    switches     one for each sched_switch       operations   one for each `operation_done`
    windows      one for each change of the PLE window        yields       one for each directed yield
    spans        one for each wait and each critical section  runs         one for each run of PAUSE exits
    vruntimes    one for each time that a vruntime moved          migrations   one for each sched_migrate_task

Columns are named after the fields of the tracepoints where there are such: `cpu` is a pCPU, `vcpu_id` a vCPU's number
in its VM. Times are since the run began, or durations, in ns, as the names say. Where there is no such time or number,
there is `ABSENT`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pleemu.hardware.isa import PROBE_OPERATION_DONE
from pleemu.observe import events as of
from pleemu.observe.records import MIGRATIONS, RUN_GAP_NS
from pleemu.trace.recording import Recording, thread_names
from pleemu.trace.spans import FOR_ANSWER, spans_of

ABSENT = -1

Columns = dict[str, Any]  # name -> array or list, all of one length


def tables(recording: Recording) -> dict[str, Columns]:
    """Return all tables of a recording."""
    maker = _Maker(recording)
    exits = maker.exits()
    return {
        "exits": exits,
        "decisions": maker.decisions(),
        "switches": maker.switches(),
        "migrations": maker.migrations(),
        "operations": maker.operations(),
        "windows": maker.windows(),
        "yields": maker.yields(),
        "vruntimes": maker.vruntimes(),
        "spans": maker.spans(),
        "runs": continuous_runs(exits),
    }


class _Maker:
    def __init__(self, recording: Recording) -> None:
        scenario = recording.scenario
        self._recording = recording
        self._events = recording.events
        self._names = np.array(thread_names(scenario), object)
        self._vm = np.array([number for number, vm in enumerate(scenario.vm) for _ in range(vm.vcpus)])
        self._vm_names = np.array([vm.name for vm in scenario.vm], object)
        self._ids = np.array([vcpu for vm in scenario.vm for vcpu in range(vm.vcpus)])
        self._number = {name: number for number, name in enumerate(self._names[: len(self._ids)].tolist())}
        self._amd = scenario.hardware.is_amd

    def exits(self) -> Columns:
        """Each kvm_exit; `number` is that of a PAUSE exit, as `pleemu explain` takes it."""
        rows, index = self._of(of.KVM_EXIT)
        pause = rows["a"] == of.PAUSE_INSTRUCTION
        cycles = rows["cycle"]
        entered_before, entered_after = self._entries_around(rows, index)
        reasons = of.exit_reasons(self._amd)
        return {
            "number": np.where(pause, np.cumsum(pause), ABSENT),
            "time_ns": self._ns(cycles),
            **self._where(rows),
            "exit_reason": [reasons.get(reason, str(reason)) for reason in rows["a"].tolist()],
            "guest_rip": rows["b"].astype(np.uint64),
            "symbol": self._symbols(rows["vcpu"], rows["b"]),
            "guest_ns": np.where(entered_before >= 0, self._ns(cycles) - self._ns(entered_before), ABSENT),
            "host_ns": np.where(entered_after >= 0, self._ns(entered_after) - self._ns(cycles), ABSENT),
            "ple_window": np.where(pause, self._window_at(rows, index), ABSENT),
        }

    def decisions(self) -> Columns:
        """Each PAUSE exit: what the spinner waited for, whom KVM nominated, who ran, and what came of it."""
        stories = self._recording.stories
        spinners = np.array([self._number[one.spinner] for one in stories], np.int64)

        def column(value: Callable[[Any], Any]) -> list[Any]:
            return [value(one) for one in stories]

        def number(value: Callable[[Any], int | None]) -> NDArray[Any]:
            found = (value(one) for one in stories)
            return np.array([ABSENT if one is None else one for one in found], np.int64)

        return {
            "number": number(lambda one: one.number),
            "time_ns": number(lambda one: one.at_ns),
            "cpu": number(lambda one: one.pcpu),
            **self._vcpus(spinners),
            "guest_rip": np.array([one.rip for one in stories], np.uint64),
            "symbol": column(lambda one: one.symbol),
            "waits_for": column(lambda one: one.waits_for),
            "lock": np.array([one.lock or 0 for one in stories], np.uint64),
            "lock_symbol": column(lambda one: one.lock_symbol),
            "looked_at": number(lambda one: len(one.looked_at)),
            "useful": column(lambda one: " ".join(one.useful)),
            "target": column(lambda one: one.target or ""),
            "target_cpu": number(lambda one: one.target_pcpu),
            "verdict": column(lambda one: one.verdict),
            "accepted": np.array([one.accepted for one in stories], bool),
            "next": column(lambda one: one.next_here or ""),
            "honoured": np.array([_honoured(one) for one in stories], bool),
            "hint": column(lambda one: one.hint),
            "distance_ns": [one.distance_ns for one in stories],  # may be negative
            "limit_ns": [one.limit_ns for one in stories],
            "ran_after_ns": number(lambda one: one.ran_after_ns),
            "moved_after_ns": number(lambda one: one.moved_after_ns),
            "over_after_ns": number(lambda one: one.over_after_ns),
        }

    def switches(self) -> Columns:
        """Each sched_switch."""
        rows, _ = self._of(of.SCHED_SWITCH)
        return {
            "time_ns": self._ns(rows["cycle"]),
            "cpu": rows["pcpu"],
            "prev": self._names[rows["a"]],
            "prev_state": np.array(of.STATE_NAMES, object)[rows["c"]],
            "next": self._names[rows["b"]],
        }

    def migrations(self) -> Columns:
        """Each sched_migrate_task: from one run queue to another, and what for."""
        rows, _ = self._of(of.SCHED_MIGRATE)
        return {
            "time_ns": self._ns(rows["cycle"]),
            "thread": self._names[rows["a"]],
            "orig_cpu": rows["b"],
            "dest_cpu": rows["c"] & of.PCPU_MASK,
            "cause": np.array(MIGRATIONS, object)[rows["c"] >> of.CAUSE_SHIFT],
        }

    def operations(self) -> Columns:
        """Each operation that a guest has reported."""
        rows, _ = self._of(of.PROBE)
        rows = rows[rows["a"] == PROBE_OPERATION_DONE]
        return {"time_ns": self._ns(rows["cycle"]), **self._where(rows)}

    def windows(self) -> Columns:
        """Each kvm_ple_window_update: in TSC ticks, on AMD in PAUSEs."""
        rows, _ = self._of(of.PLE_WINDOW)
        return {"time_ns": self._ns(rows["cycle"]), **self._where(rows), "old": rows["a"], "new": rows["b"]}

    def yields(self) -> Columns:
        """Each directed yield; `hypercall` is the number of the one that asked for it, 0: kvm_vcpu_on_spin."""
        rows, _ = self._of(of.YIELD_TO)
        return {
            "time_ns": self._ns(rows["cycle"]),
            **self._where(rows),
            "target": self._names[rows["a"]],
            "result": rows["b"],
            "hypercall": rows["c"],
        }

    def vruntimes(self) -> Columns:
        """Each change of a thread's vruntime: by what it was charged, or if that is 0 by placement, or migration.

        What Debooster adds or a yield forfeits comes with what the yield charged. Only those of one `cpu` compare: it
        is that of the run queue.
        """
        rows, _ = self._of(of.STAT_RUNTIME)
        return {
            "time_ns": self._ns(rows["cycle"]),
            "cpu": rows["a"] >> of.QUEUE_SHIFT,
            "thread": self._names[rows["a"] & of.THREAD_MASK],
            "vruntime_ns": rows["b"],
            "charged_ns": rows["c"],
        }

    def spans(self) -> Columns:
        """Each wait and each critical section, by what the guests' probes say; those open at the end last until then.

        `object` is the symbol of the lock or barrier at `address`, or the vCPU whose answer is awaited.
        """
        rows, _ = self._of(of.PROBE)
        names = ("cycle", "vcpu", "a", "b")
        probes = zip(*(rows[name].tolist() for name in names), strict=True)
        found = spans_of(probes, self._vm.tolist(), self._recording.until)
        begin, vcpu, end = (
            np.array([getattr(one, name) for one in found], np.int64) for name in ("begin", "vcpu", "end")
        )
        answers = [one.what == FOR_ANSWER for one in found]
        address = np.array([0 if answer else one.object for one, answer in zip(found, answers, strict=True)], np.int64)
        symbols = self._symbols(vcpu, address)
        objects = [
            self._names[one.object] if answer else symbol
            for one, answer, symbol in zip(found, answers, symbols, strict=True)
        ]
        return {
            "time_ns": self._ns(begin),
            **self._vcpus(vcpu),
            "what": [one.what for one in found],
            "address": address.astype(np.uint64),
            "object": objects,
            "duration_ns": self._ns(end) - self._ns(begin),
        }

    def _of(self, kind: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the events of a kind, and where they are."""
        (index,) = np.nonzero(self._events["kind"] == kind)
        return self._events[index], index

    def _ns(self, cycles: Any) -> Any:
        return self._recording.ns(cycles)

    def _where(self, rows: NDArray[Any]) -> Columns:
        return {"cpu": rows["pcpu"], **self._vcpus(rows["vcpu"])}

    def _vcpus(self, vcpu: NDArray[Any]) -> Columns:
        return {"vm": self._vm_names[self._vm[vcpu]], "vcpu_id": self._ids[vcpu]}

    def _symbols(self, vcpus: NDArray[Any], addresses: NDArray[Any]) -> list[str]:
        images = self._recording.images

        @cache
        def symbol(vm: int, address: int) -> str:
            return images[vm].symbol_at(address)

        pairs = zip(self._vm[vcpus].tolist(), addresses.tolist(), strict=True)
        return [symbol(vm, address) for vm, address in pairs]

    def _entries_around(self, rows: NDArray[Any], index: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the cycles of the kvm_entry before and behind each exit, or ABSENT."""
        entries, entry_index = self._of(of.KVM_ENTRY)
        before, after = np.full(len(rows), ABSENT), np.full(len(rows), ABSENT)
        for vcpu in range(len(self._vm)):
            mine = rows["vcpu"] == vcpu
            cycles = entries["cycle"][entries["vcpu"] == vcpu]
            place = np.searchsorted(entry_index[entries["vcpu"] == vcpu], index[mine])
            padded = np.concatenate(([ABSENT], cycles, [ABSENT]))
            before[mine], after[mine] = padded[place], padded[place + 1]
        return before, after

    def _window_at(self, rows: NDArray[Any], index: NDArray[Any]) -> NDArray[Any]:
        """Return the PLE window that was in force at each exit: growth follows it."""
        first = self._first_window()
        updates, update_index = self._of(of.PLE_WINDOW)
        window = np.full(len(rows), first)
        for vcpu in range(len(self._vm)):
            mine, its = rows["vcpu"] == vcpu, updates["vcpu"] == vcpu
            news = np.concatenate(([first], updates["b"][its]))
            window[mine] = news[np.searchsorted(update_index[its], index[mine])]
        return window

    def _first_window(self) -> int:
        """Return the window that a vCPU begins with."""
        kvm = self._recording.scenario.kvm_under(self._recording.policy)
        return int(kvm.pause_filter_count if self._amd else kvm.ple_window)


def continuous_runs(exits: Columns) -> Columns:
    """Return the runs of PAUSE exits: same vCPU, same RIP, at most 1 ms from one kvm_exit to the next."""
    (pause,) = np.nonzero(np.asarray(exits["number"]) >= 0)
    vm, vcpu = np.asarray(exits["vm"], object)[pause].astype(str), np.asarray(exits["vcpu_id"])[pause]
    time, rip = np.asarray(exits["time_ns"])[pause], np.asarray(exits["guest_rip"])[pause]
    order = np.lexsort((time, vcpu, vm))
    breaks = (
        (vm[order][1:] != vm[order][:-1])
        | (vcpu[order][1:] != vcpu[order][:-1])
        | (rip[order][1:] != rip[order][:-1])
        | (np.diff(time[order]) > RUN_GAP_NS)
    )
    firsts = np.concatenate(([0], np.nonzero(breaks)[0] + 1)) if len(order) else np.zeros(0, np.int64)
    lasts = np.concatenate((firsts[1:], [len(order)])) - 1 if len(order) else firsts
    begins, ends = pause[order[firsts]], pause[order[lasts]]
    chronological = np.argsort(begins)
    begins, ends, length = begins[chronological], ends[chronological], (lasts - firsts + 1)[chronological]
    taken = {name: np.asarray(exits[name], object)[begins] for name in ("vm", "symbol")}
    numbers = {
        name: np.asarray(exits[name]) for name in ("number", "time_ns", "cpu", "vcpu_id", "guest_rip", "ple_window")
    }
    span = numbers["time_ns"][ends] - numbers["time_ns"][begins]
    return {
        "first": numbers["number"][begins],
        "time_ns": numbers["time_ns"][begins],
        "cpu": numbers["cpu"][begins],
        "vm": taken["vm"],
        "vcpu_id": numbers["vcpu_id"][begins],
        "guest_rip": numbers["guest_rip"][begins],
        "symbol": taken["symbol"],
        "length": length,
        "duration_ns": span,
        "period_ns": np.where(length > 1, span / np.maximum(length - 1, 1), np.nan),
        "first_window": numbers["ple_window"][begins],
        "last_window": numbers["ple_window"][ends],
    }


def _honoured(story: Any) -> bool:
    """Did the target's scheduler pick it the next time that it chose?"""
    picked = story.next_here if story.target_pcpu == story.pcpu else story.next_there
    return bool(story.accepted) and picked == story.target
