"""Hypothesis strategies: any small machine, its placements, guests, schedules and policies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from pleemu import catalogue
from pleemu.checks.observed import Command
from pleemu.errors import ScenarioError
from pleemu.kernel import HOST_SCHEDULERS, SCHEDULERS
from pleemu.policy import ALL, check_policy
from pleemu.policy import policy as policy_named
from pleemu.processor import AMD, INTEL, PROCESSORS
from pleemu.schedule import Point, format_schedule

CHECKS = catalogue.programs_folder() / "checks"
SHARES = str(CHECKS / "shares.toml")

# What waits in every way there is: for locks of all kinds, for the answer to an IPI, for an interrupt.
GUESTS = (
    str(CHECKS / "counter.S"),
    str(CHECKS / "calls.S"),
    "ticket_lock",
    "queued_lock",
    "case_study",
    "overboost",
    "lost_opportunity",
)

# Every policy there is, and sums.
POLICIES = tuple(one.name for one in ALL)


def fitting_schedulers(policy: str, schedulers: Sequence[str] = tuple(HOST_SCHEDULERS)) -> list[str]:
    """Return those of some host schedulers that a policy goes with."""
    fitting = []
    for scheduler in sorted(schedulers):
        try:
            check_policy(policy_named(policy), scheduler)
        except ScenarioError:
            continue
        fitting.append(scheduler)
    return fitting


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


def policies() -> st.SearchStrategy[str]:
    """Any built-in policy, by name."""
    return st.sampled_from(POLICIES)


@st.composite
def schedules(draw: st.DrawFn, cycles: int, pcpus: int, threads: int, most: int = 30) -> str:
    """Any preemption points of the chaos scheduler before ``cycles``, as `host.schedule` takes them."""
    points = st.builds(Point, st.integers(0, cycles), st.integers(0, pcpus - 1), st.integers(0, threads - 1))
    return format_schedule(draw(st.lists(points, max_size=most).map(sorted)))


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


@st.composite
def commands(
    draw: st.DrawFn,
    policies: Sequence[str] = POLICIES,
    subjects: Sequence[str] = GUESTS,
    schedulers: Sequence[str] = tuple(SCHEDULERS),
    cycles: Sequence[int] = (300_000, 1_000_000, 4_000_000),
) -> Command:
    """Any small machine: guests, VMs, placements, policies, costs, PLE parameters, seeds.

    Most are slow machines: then many time slices fit into few instructions. ``cycles`` are those that
    runs take, about.
    """
    pcpus = draw(st.integers(1, 4))
    vms = draw(st.sampled_from((1, 2, 2)))
    vcpus = draw(st.integers(2, 6))
    subject = draw(st.sampled_from(subjects))
    if "overboost" in subject:
        vcpus = max(vcpus, 4)
    khz = draw(st.sampled_from((50_000, 100_000, 200_000, 2_100_000)))
    policy = draw(st.sampled_from(sorted(policies)))
    scheduler = draw(st.sampled_from(fitting_schedulers(policy, schedulers)))
    changes = {
        "policy": policy,
        "seed": draw(st.integers(0, 2**32)),
        "duration": f"{draw(st.sampled_from(tuple(cycles))) / khz}ms",
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
    if scheduler == "chaos":
        fields["host.chaos_max_ns"] = str(draw(st.sampled_from((100_000, 1_000_000, 10_000_000))))
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


@st.composite
def share_commands(draw: st.DrawFn, policies: Sequence[str], schedulers: Sequence[str]) -> Command:
    """Two VMs on two pCPUs, one that spins and one that computes, for as long as shares can be told from chance."""
    policy = draw(st.sampled_from(sorted(policies)))
    fields = {"host.scheduler": draw(st.sampled_from(fitting_schedulers(policy, schedulers)))}
    return Command(SHARES, {"policy": policy, "seed": draw(st.integers(0, 2**32))}, fields)
