"""What is kept of a run: counts, as whole numbers of what was emulated, and nothing of how long that took."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import attrs
from attrs import frozen

from pleemu.errors import ScenarioError
from pleemu.machine.result import Run


@frozen(kw_only=True)
class Measures:
    """One run. `digest` is over all its events: whoever repeats it gets the same."""

    digest: str
    duration_ns: int  # emulated
    exits: int  # PAUSE exits
    continuous: int  # of these, in runs of two or more at one address
    longest: int  # of these runs
    waits: dict[str, int]  # PAUSE exits by what they waited for: lock, shared lock, answer, ...
    functions: dict[str, int]  # and by the function that they stood in
    attempts: int  # directed yields
    honoured: int
    operations: tuple[int, ...]  # by VM
    cpu_ns: tuple[int, ...]  # by VM: its vCPUs' threads on a pCPU
    guest_ns: tuple[int, ...]  # by VM: executing its instructions
    spin_ns: tuple[int, ...]  # by VM: of this, waiting for a lock or an answer


def measure(run: Run) -> Measures:
    """Return what is kept of a run."""
    pcpu_ns = run.scenario.hardware.pcpus * run.duration_ns
    waits: dict[str, int] = {}
    functions: dict[str, int] = {}
    for row in run.causes.rows:
        waits[row.wait] = waits.get(row.wait, 0) + row.exits
        functions[row.function] = functions.get(row.function, 0) + row.exits
    return Measures(
        digest=run.digest,
        duration_ns=run.duration_ns,
        exits=run.ple.exits,
        continuous=run.ple.continuous,
        longest=run.ple.longest_run,
        waits=waits,
        functions=functions,
        attempts=sum(one.attempts for one in run.boosts),
        honoured=sum(one.honoured for one in run.boosts),
        operations=tuple(vm.operations for vm in run.vms),
        cpu_ns=tuple(round(vm.cpu_share * pcpu_ns) for vm in run.vms),
        guest_ns=tuple(round(vm.guest_share * pcpu_ns) for vm in run.vms),
        spin_ns=tuple(vm.spin_ns for vm in run.decisions.vms),
    )


_CHECKED_BY = "sha256"


def measures_to_json(measures: Measures) -> str:
    """Return them as a JSON text with a digest of itself, the same for the same values."""
    values = attrs.asdict(measures)
    return json.dumps({**values, _CHECKED_BY: _digest(values)}, indent=1, sort_keys=True) + "\n"


def measures_from_json(text: str) -> Measures:
    """Return them from JSON; raises ScenarioError if it is not such a text, or has changed since it was written."""
    try:
        data = json.loads(text)
        if data.pop(_CHECKED_BY) != _digest(data):
            raise ScenarioError("not the record of a run as it was written: its digest is another")
        lists = {name: tuple(data[name]) for name in ("operations", "cpu_ns", "guest_ns", "spin_ns")}
        measures = Measures(**{**data, **lists})
        sound = isinstance(data["digest"], str) and _is_sound(measures)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ScenarioError(f"not the record of a run: {error}") from None
    if not sound:
        raise ScenarioError("not the record of a run: its values are not whole numbers")
    return measures


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _is_sound(measures: Measures) -> bool:
    counts: list[Any] = [measures.duration_ns, measures.exits, measures.continuous, measures.longest]
    counts += [measures.attempts, measures.honoured]
    counts += [*measures.operations, *measures.cpu_ns, *measures.guest_ns, *measures.spin_ns]
    counts += [*measures.waits.values(), *measures.functions.values()]
    return all(type(one) is int and one >= 0 for one in counts)
