"""Whole machines for tests: shipped guests and those of `tests/guests`, with the events of a run."""

from __future__ import annotations

import fcntl
import functools
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from attrs import field, frozen
from hypothesis import currently_in_test_context, note
from hypothesis import strategies as st

from pleemu import catalogue
from pleemu.guest import load
from pleemu.guest.image import Image
from pleemu.jit import sources_digest
from pleemu.kernel import CFS, EEVDF, SCHEDULERS
from pleemu.machine.result import Run
from pleemu.machine.run import simulate
from pleemu.observe.events import EVENT
from pleemu.overrides import Overrides
from pleemu.policy import ALL, DEBOOSTERS
from pleemu.processor import AMD, INTEL, PROCESSORS
from pleemu.scenario import Program, Scenario

GUESTS = Path(__file__).parent / "guests"


@functools.cache
def _image(program: Program) -> Image:
    """A guest is assembled once for all tests of a process."""
    return load(*program.paths, cc=program.cc, cflags=program.cflags)


@functools.cache
def prepare_core() -> None:
    """Load the compiled core; of several processes that miss it one compiles, the others wait."""
    with (Path(tempfile.gettempdir()) / f"pleemu-tests-{sources_digest()}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        simulate(attrs.evolve(catalogue.find("worst_case"), duration_ms=0.001))


def programs_of(scenario: Scenario) -> dict[Program, Image]:
    """Return the images of a scenario's programs."""
    return {program: _image(program) for program in map(scenario.program_of, scenario.vm)}


@frozen
class Command:
    """A run as the command line spells it, so that a failing one can be replayed."""

    subject: str  # a shipped scenario or a guest
    changes: Mapping[str, Any] = field(factory=dict)  # policy, seed, duration, vms, vcpus, pcpus
    fields: Mapping[str, str] = field(factory=dict)  # by dotted path

    def __str__(self) -> str:
        options = [f"--{name}={value}" for name, value in self.changes.items()]
        settings = [f"--set={path}={value}" for path, value in self.fields.items()]
        return shlex.join(["pleemu", "run", self.subject, *options, *settings])

    def scenario(self) -> Scenario:
        """Return the scenario that the command line runs."""
        return Overrides(**self.changes, fields=self.fields).apply(catalogue.find(self.subject))


@frozen
class Observed:
    """A run and all its events."""

    run: Run
    events: np.ndarray

    def of_kind(self, *kinds: int) -> np.ndarray:
        """Return the events of some kinds."""
        return self.events[np.isin(self.events["kind"], kinds)]


def observe(command: Command, **more: Any) -> Observed:
    """Run with events; a failing property prints the command line."""
    if currently_in_test_context():
        note(f"replay: {command}")
    prepare_core()
    scenario = command.scenario()
    chunks: list[np.ndarray] = []
    run = simulate(scenario, events=chunks.append, programs=programs_of(scenario), **more)
    return Observed(run, np.concatenate(chunks) if chunks else np.zeros(0, EVENT))


LOCKS = ("ticket_lock", "queued_lock")
SUBJECTS = (
    *(str(path) for path in sorted(GUESTS.glob("*.S"))),
    *LOCKS,
    "case_study",
    "overboost",
    "lost_opportunity",
)
HALTING = (
    *(str(GUESTS / f"{name}.S") for name in ("lost_kick", "ping", "ping_pong", "priorities", "pv_ticket")),
    "overboost",
)

_microseconds = st.sampled_from((0, 1, 300, 1000, 3500, 20_000)) | st.integers(0, 20_000)
_COSTS = {
    f"cost.{name}_ns": _microseconds
    for name in ("exit", "entry", "pause_handler", "context_switch", "hlt_handler", "msr_write", "interrupt_handler")
} | {
    "cost.tick_ns": _microseconds,
    "cost.wakeup_ns": _microseconds,
    "cost.posted_ns": _microseconds,
    "cost.ipi_target_ns": _microseconds,
    "cost.idle_exit_ns": _microseconds,
    "cost.ipi_ns": st.integers(1, 20_000) | st.sampled_from((1, 700)),
}
_FIELDS = _COSTS | {
    "host.hz": st.sampled_from((100, 250, 300)),
    "host.online_cpus": st.sampled_from((4, 8)),
    "kvm.ple_gap": st.sampled_from((0, 20, 41, 128, 128, 1000)),
    "kvm.ple_window": st.sampled_from((0, 1, 500, 4096, 4096, 20_000)),
    "kvm.ple_window_grow": st.sampled_from((0, 1, 2, 2, 3, 5000)),
    "kvm.ple_window_shrink": st.sampled_from((0, 0, 1, 2)),
    "kvm.apicv": st.sampled_from(("true", "false")),
    "kvm.ipiv": st.sampled_from(("true", "false")),
    "kvm.pause_exiting": st.sampled_from(("true", "false", "false")),
    "hardware.processor": st.sampled_from([one.name for one in PROCESSORS if one.vendor == INTEL]),
    "hardware.locked_cycles": st.integers(1, 40),
    "host.start_spread_ms": st.sampled_from(("0", "0.05", "1")),
    "host.skew_tick": st.sampled_from(("true", "false")),
    "vm.0.nice": st.integers(-20, 19),
    "kvm.halt_poll_ns_grow": st.sampled_from((0, 2, 50)),
    "kvm.halt_poll_ns_grow_start": st.sampled_from((0, 10_000, 1_000_000)),
    "kvm.halt_poll_ns_shrink": st.sampled_from((0, 2)),
    "cost.poll_turn_ns": st.sampled_from((1, 50, 20_000)),
}
_AMD_FIELDS = {path: drawn for path, drawn in _FIELDS.items() if not path.startswith("kvm.ple_")} | {
    "kvm.pause_filter_thresh": st.sampled_from((0, 20, 128, 128, 1000)),
    "kvm.pause_filter_count": st.sampled_from((0, 1, 20, 3000, 3000, 5000)),
    "kvm.pause_filter_count_grow": st.sampled_from((0, 1, 2, 2, 3, 5000)),
    "kvm.pause_filter_count_shrink": st.sampled_from((0, 0, 1, 2)),
    "kvm.skip_pause": st.sampled_from(("true", "false")),
    "hardware.processor": st.sampled_from([one.name for one in PROCESSORS if one.vendor == AMD]),
}


@st.composite
def pinnings(draw: st.DrawFn, vcpus: int, pcpus: int) -> str:
    """Any placement of a VM, as the command line spells it."""
    one = st.integers(0, pcpus - 1)
    several = st.tuples(one, one).map(lambda pair: f"{min(pair)}-{max(pair)}")
    mixed = st.lists(one | several.map('"{}"'.format), min_size=vcpus, max_size=vcpus)
    return draw(
        st.sampled_from(("vcpu-to-pcpu", "spread", "none", "none"))
        | st.lists(one, min_size=vcpus, max_size=vcpus).map(lambda places: ",".join(map(str, places)))
        | several
        | mixed.map(lambda places: f"[{','.join(map(str, places))}]")
    )


@st.composite
def _threads(draw: st.DrawFn, pcpus: int) -> dict[str, Any]:
    """A table [[thread]] without its name."""
    count = draw(st.integers(1, 3))
    busy_us = draw(st.sampled_from((1, 300, 1000, 20_000)) | st.integers(1, 3000))
    return {
        "count": count,
        "busy_us": busy_us,
        "period_us": draw(st.just(0) | st.integers(busy_us, 10 * busy_us)),
        "nice": draw(st.just(0) | st.integers(-20, 19)),
        "pinning": draw(pinnings(count, pcpus)),
    }


def fitted(policy: str, model: str) -> str:
    """Return the policy with a debooster that this kind of scheduler knows in place of another."""
    own = {CFS: "debooster", EEVDF: "debooster-2025-v2"}[model]
    return "+".join(own if DEBOOSTERS.get(part, model) != model else part for part in policy.split("+"))


@st.composite
def commands(
    draw: st.DrawFn,
    policies: tuple[str, ...] = tuple(one.name for one in ALL),
    subjects: tuple[str, ...] = SUBJECTS,
) -> Command:
    """Any small machine: guests, VMs, placements, policies, costs, PLE parameters, seeds.

    Most are slow machines: then many time slices fit into few instructions.
    """
    pcpus = draw(st.integers(1, 4))
    vms = draw(st.integers(1, 2))
    vcpus = draw(st.integers(2, 6))
    subject = draw(st.sampled_from(subjects))
    if "overboost" in subject:
        vcpus = max(vcpus, 4)
    khz = draw(st.sampled_from((50_000, 100_000, 200_000, 2_100_000)))
    scheduler = draw(st.sampled_from(sorted(SCHEDULERS)))
    policy = fitted(draw(st.sampled_from(policies)), SCHEDULERS[scheduler].model)
    changes = {
        "policy": policy,
        "seed": draw(st.integers(0, 2**32)),
        "duration": f"{draw(st.sampled_from((300_000, 1_000_000, 4_000_000))) / khz}ms",
        "vms": vms,
        "vcpus": vcpus,
        "pcpus": pcpus,
    }
    known = draw(st.sampled_from((_FIELDS, _FIELDS, _AMD_FIELDS)))
    changed = draw(st.sets(st.sampled_from(sorted(known)), max_size=8))
    if known is _AMD_FIELDS:
        changed.add("hardware.processor")
    fields = {"host.hz": "1000", "host.online_cpus": "1", "hardware.tsc_khz": str(khz)}
    fields["host.scheduler"] = scheduler
    fields["kvm.halt_poll_ns"] = str(draw(st.sampled_from((0, 200_000, 5_000_000, 50_000_000))))
    if draw(st.booleans()):
        fields["hardware.core_khz"] = str(khz * draw(st.sampled_from((5, 9, 10, 11, 17))) // 10)
    fields |= {path: str(draw(known[path])) for path in sorted(changed)}
    if fields.get("kvm.apicv") == "false":
        fields.pop("kvm.ipiv", None)
    for number in range(draw(st.sampled_from((0, 0, 1, 2)))):
        fields |= {f"thread.{number}.{name}": str(value) for name, value in draw(_threads(pcpus)).items()}
        fields[f"thread.{number}.name"] = ("kworker", "hog")[number]
    for vm in range(vms):
        fields[f"vm.{vm}.pinning"] = draw(pinnings(vcpus, pcpus))
    if pcpus > 2:
        fields["hardware.llc_pcpus"] = str(draw(st.sampled_from((0, 1, 2, 2))))
    return Command(subject, changes, fields)
