"""Runs as JSON: the keys, what they mean, and the values."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import attrs

from pleemu.conform.replay import Conformance
from pleemu.machine.causes import Causes
from pleemu.machine.judgement import Decisions, Judgement
from pleemu.machine.result import Run

if TYPE_CHECKING:
    from pleemu.machine.story import Story

# The keys of a run's object, as `pleemu run --help` documents them.
RUN_KEYS = {
    "scenario": "the full scenario, as in its TOML file",
    "folder": "where the scenario's guest programs are",
    "policy": "the policy's name",
    "policy_file": "of a policy of your own: path, and SHA-256 digest of its content; else null",
    "seed": "seed of all random choices",
    "digest": "over all events, in order",
    "cycles": "core cycles emulated on each pCPU",
    "duration_ns": "time emulated",
    "instructions": "guest instructions executed",
    "wall_seconds": "time that the run took",
    "ended": "why the run stopped",
    "preemptions": "host.scheduler chaos: points that had an effect; else null",
    "schedule": "their token, which host.schedule takes; null if they are more than 250,000, or none can be",
    "exits": "count of VM exits by KVM's reason name",
    "exit_times": "per VM and reason: count, timed, total_ns, min_ns, max_ns from kvm_exit to kvm_entry",
    "ple": "PAUSE exits: exits, continuous, longest_run, by_symbol, runs, run_lengths; pauses executed without one, "
    "pauses_before_first: in the loop that led to the first one, guest_ns: mean kvm_entry to kvm_exit",
    "boosts": "directed yields per VM and state of the target: attempts, accepted, honoured; ran: targets that "
    "ran at last, waited_ns, most_ns: after the first accepted yield that named them",
    "migrations": "threads taken to another pCPU, per VM and cause: count",
    "paravirtual": "per VM that uses it: hypercalls, kicks, ipis, directed_yield_attempted and _successful (of "
    "hypercalls), steal_updates, steal_ns, tlb_flushes",
    "decisions": "PAUSE exits judged by the ground truth, per VM and in total: useful, wasted, irrelevant, nobody, "
    "unknown; useful_possible, precision, recall, hand_overs, exits_per_hand_over, ran_ns, ran_most_ns, releases, "
    "released_ns, released_most_ns, spin_ns; refusals by rule, first_exits by verdict",
    "causes": "what PAUSE exits waited for: exits, attributed: those with function and wait; rows: vm, function, "
    "loop (label inside it), wait (lock, shared lock, answer, barrier, unknown), object, exits, "
    "causes: exits by cause; waiters: exits at which the next to have a free lock was preempted, by where it stood",
    "fairness": "Jain's index of the VMs' CPU shares: 1 all the same, 1/n one has all",
    "vms": "per VM: name, vcpus, cpu_share, guest_share (of all pCPU time, 0..1), operations, image, compilers; "
    "halts, polls: halts that began with a poll, polled: polls that an interrupt ended",
    "threads": "per table [[thread]], threads of the host: name, count, cpu_share, bursts finished",
    "idle_share": "of all pCPU time, 0..1: no thread was on the pCPU",
}

# The keys of a file's object, as `pleemu conform --help` documents them.
CONFORM_KEYS = {
    "path": "the file",
    "format": "its format",
    "what": "what is replayed, in words",
    "source": "what the cases were recorded from",
    "cases": "how many there are",
    "agreeing": "how many agree",
    "different": "the cases that do not, in order",
    "first": "the first of those: case, text; or null",
}


def run_to_dict(run: Run) -> dict[str, Any]:
    """Return a run as plain values."""
    values = {
        "scenario": run.scenario.to_dict(),
        "folder": str(run.scenario.folder.absolute()),
        "exits": run.exits_by_reason(),
        "exit_times": [attrs.asdict(row) for row in run.exits],
        "ple": attrs.asdict(run.ple),
        "boosts": [attrs.asdict(row) for row in run.boosts],
        "migrations": [attrs.asdict(row) for row in run.migrations],
        "paravirtual": [attrs.asdict(row) for row in run.paravirtual],
        "decisions": decisions_to_dict(run.decisions),
        "causes": causes_to_dict(run.causes),
        "vms": [attrs.asdict(vm) for vm in run.vms],
        "threads": [attrs.asdict(thread) for thread in run.threads],
    }
    plain = {key: values[key] if key in values else getattr(run, key) for key in RUN_KEYS}
    return {key: _finite(value) for key, value in plain.items()}


def decisions_to_dict(decisions: Decisions) -> dict[str, Any]:
    """Return the judgement of a run as plain values."""
    return {
        "vms": [_judgement(vm) for vm in decisions.vms],
        "total": _judgement(decisions.total),
        "refusals": [attrs.asdict(one) for one in decisions.refusals],
        "first_exits": dict(decisions.first_exits),
    }


def causes_to_dict(causes: Causes) -> dict[str, Any]:
    """Return what the PAUSE exits of a run waited for as plain values."""
    return {"exits": causes.exits, "attributed": causes.attributed, **attrs.asdict(causes)}


def _judgement(one: Judgement) -> dict[str, Any]:
    derived = {name: getattr(one, name) for name in ("precision", "recall", "exits_per_hand_over")}
    return {**attrs.asdict(one), **derived}


def run_json(run: Run) -> str:
    """Return a run as the JSON text that `pleemu run --json` prints."""
    return json.dumps(run_to_dict(run), indent=2, allow_nan=False)


def compare_json(runs: Iterable[tuple[str, Run]]) -> str:
    """Return named runs as the JSON text that `pleemu compare --json` prints."""
    rows = [{"name": name, **run_to_dict(run)} for name, run in runs]
    return json.dumps({"runs": rows}, indent=2, allow_nan=False)


def conform_json(files: Iterable[Conformance]) -> str:
    """Return replayed files as the JSON text that `pleemu conform --json` prints."""
    rows = []
    for one in files:
        values = {**attrs.asdict(one), "agreeing": one.agreeing}
        rows.append({key: values[key] for key in CONFORM_KEYS})
    return json.dumps({"files": rows}, indent=2)


def _finite(value: Any) -> Any:
    """Return a value without NaN and infinities, which JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value


# The keys of an exit's object, as `pleemu explain --help` documents them.
EXPLAIN_KEYS = {
    "scenario": "the scenario's name",
    "policy": "the policy's name",
    "seed": "seed of all random choices",
    "digest": "over all events of the run, in order",
    "exits": "number of PAUSE exits of the run: those that can be explained are 1 to this",
    "decisions": "as in a run's object",
    "explained": "the exits that were asked for, in order: number, at_ns, spinner, pcpu, rip, symbol; waits_for "
    "(lock, shared lock, answer, barrier or empty), waiting_since_ns, lock, lock_symbol, in_order, holders, can_act, "
    "useful; looked_at: "
    "vcpu, round, rule that refused it, answer of yield_to; target, verdict, accepted, next_here, target_pcpu, "
    "next_there; hint: what its scheduler asks of a target (close, eligible; ignored, obeyed: nothing), distance_ns "
    "and limit_ns of the target in virtual time, from the first in line or the average; slept; ran, ran_after_ns, "
    "moved_by, moved, moved_after_ns, over_after_ns",
    "pending": "numbers of those that were asked for and have no story: the run ended before KVM had decided",
}


def explain_json(run: Run, stories: Iterable[Story], pending: Iterable[int]) -> str:
    """Return stories as the JSON text that `pleemu explain --json` prints."""
    values = {
        "scenario": run.scenario.name,
        "policy": run.policy,
        "seed": run.seed,
        "digest": run.digest,
        "exits": run.ple.exits,
        "decisions": decisions_to_dict(run.decisions),
        "explained": [attrs.asdict(story) for story in stories],
        "pending": list(pending),
    }
    return json.dumps({key: values[key] for key in EXPLAIN_KEYS}, indent=2, allow_nan=False)
