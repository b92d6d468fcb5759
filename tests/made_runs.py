"""Runs built by hand and by hypothesis, for tests of everything that comes after a run."""

from __future__ import annotations

from pathlib import Path

import attrs
from hypothesis import strategies as st

from pleemu.machine.result import (
    BoostStatistics,
    ContinuousRun,
    ExitStatistics,
    MigrationStatistics,
    PleStatistics,
    Run,
    ThreadResult,
    Timeline,
    VmResult,
)
from pleemu.observe.records import MIGRATIONS
from pleemu.policy import POLICIES
from pleemu.scenario import IDLE, Hardware, Scenario, Thread, Variant, Vm

COLUMNS = 128


def scenario_of(vms: int = 2, vcpus: int = 2, **more: object) -> Scenario:
    """Return a scenario whose programs need not exist."""
    machines = tuple(Vm(name=f"vm{number}", program="guest.S", vcpus=vcpus) for number in range(vms))
    values = {"name": "made", "hardware": Hardware(pcpus=1), "vm": machines, "folder": Path("/made")}
    return Scenario(**{**values, **more})


def storm(policy: str = "vanilla", longest: int = 101, *, scenario: Scenario | None = None) -> Run:
    """Return a run in the manner of the talk's trace: two spinners that alternate on one pCPU."""
    scenario = scenario or scenario_of(summary="spinner and holder from each of two VMs on one pCPU")
    exits = longest * 12
    symbols = {"acquire+0x12": exits - 5, "send_ipi+0x40": 5} if exits > 5 else {}
    busy = tuple(0.5 if 20 <= column % 64 < 60 else 0.02 for column in range(COLUMNS))
    holder = tuple(0.0 if 20 <= column % 64 < 60 else 0.45 for column in range(COLUMNS))
    hits = tuple(longest // 3 if 20 <= column % 64 < 60 else 0 for column in range(COLUMNS))
    names = tuple(f"{vm.name}/{vcpu}" for vm in scenario.vm for vcpu in range(vm.vcpus))
    names += tuple(f"{one.name}/{copy}" for one in scenario.thread for copy in range(one.count))
    return Run(
        scenario=scenario,
        policy=policy,
        seed=scenario.seed,
        digest="0123456789abcdef" * 4,
        cycles=210_000_000,
        duration_ns=scenario.duration_ns,
        instructions=48_611_204,
        wall_seconds=0.31,
        ended="The time to emulate is over.",
        exits=tuple(
            row
            for vm in scenario.vm
            for row in (
                ExitStatistics(
                    vm=vm.name,
                    reason="PAUSE_INSTRUCTION",
                    count=exits // 2,
                    timed=exits // 2,
                    total_ns=exits * 10_800,
                    min_ns=4_500,
                    max_ns=35_000_000,
                ),
                ExitStatistics(
                    vm=vm.name,
                    reason="EXTERNAL_INTERRUPT",
                    count=25,
                    timed=25,
                    total_ns=25 * 3_000,
                    min_ns=2_100,
                    max_ns=9_000,
                ),
            )
            if row.count
        ),
        ple=PleStatistics(
            exits=exits,
            pauses=exits * 341,
            pauses_before_first=341 if exits else None,
            guest_ns=4_480.0 if exits else None,
            continuous=exits - 5,
            longest_run=longest,
            by_symbol=symbols,
            runs=tuple(
                ContinuousRun(
                    vm="vm0",
                    vcpu=1,
                    address=-0x48D1D61D & (2**64 - 1),
                    symbol="acquire+0x12",
                    length=longest,
                    start_ns=20_310_000,
                    period_ns=26_004.0,
                    guest_ns=4_480.0,
                    first_window=4096,
                    last_window=4096 if longest > 20 else 4096 << longest,
                )
                for _ in range(min(longest, 3))
            ),
            run_lengths={1: 5, 64: 12},
        ),
        boosts=tuple(
            BoostStatistics(
                vm=vm.name,
                target="preempted in kernel mode",
                attempts=exits // 2,
                accepted=exits // 2,
                honoured=exits // 2 if "debooster" in policy else 12,
                ran=1 + exits // 3,
                waited_ns=exits * 40_000,
                most_ns=12_000_000,
            )
            for vm in scenario.vm
            if exits
        ),
        vms=tuple(
            VmResult(
                name=vm.name, vcpus=vm.vcpus, cpu_share=0.5, guest_share=0.21, operations=5_000 // (1 + longest // 10)
            )
            for vm in scenario.vm
        ),
        migrations=tuple(
            MigrationStatistics(vm=vm.name, cause=cause, count=longest * 1000)
            for vm in scenario.vm
            for cause in MIGRATIONS[1:]
            if longest % 2
        ),
        threads=tuple(
            ThreadResult(name=one.name, count=one.count, cpu_share=0.1, bursts=12_345) for one in scenario.thread
        ),
        idle_share=0.25,
        timeline=Timeline(
            column_ns=scenario.duration_ns // COLUMNS,
            vcpu_names=names,
            running=tuple((busy, holder)[number % 2] for number in range(len(names))),
            pause_exits=tuple((hits, (0,) * COLUMNS)[number % 2] for number in range(len(names))),
        ),
    )


def storms() -> tuple[Run, ...]:
    """Return one such run for each shipped policy."""
    lengths = {"vanilla": 101, "strict-boost": 100, "debooster": 2, "strict-boost+debooster": 1, "no-ple": 0}
    return tuple(storm(policy.name, lengths[policy.name]) for policy in POLICIES)


_counts = st.integers(0, 10**12)
_times = st.integers(0, 600 * 10**9)
_shares = st.floats(0, 1)
any_name = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=30).filter(
    lambda name: name.isprintable() and name.strip() != ""
)
_nices = st.just(0) | st.integers(-20, 19)
_settings = st.lists(any_name.map("host.hz={}".format), min_size=1, max_size=2)
_comms = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/"), min_size=1, max_size=15
).filter(lambda name: name != IDLE)
_threads = st.builds(
    Thread,
    name=_comms,
    count=st.integers(1, 5),
    busy_us=st.integers(1, 1000),
    period_us=st.sampled_from((0, 5000)),
    nice=st.integers(-20, 19),
)
_variants = st.builds(Variant, name=any_name, set=_settings)


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Any small scenario with a name, VMs and texts in any script."""
    names = draw(st.lists(any_name, min_size=1, max_size=5, unique=True))
    return Scenario(
        name=draw(any_name),
        summary=draw(any_name),
        look_for=draw(any_name),
        policy=draw(st.sampled_from(POLICIES)).name,
        seed=draw(st.integers(0, 2**63 - 1)),
        duration_ms=draw(st.floats(1e-6, 600_000)),
        hardware=Hardware(pcpus=draw(st.integers(1, 1024))),
        vm=tuple(
            Vm(name=name, program=draw(any_name), vcpus=draw(st.integers(1, 5)), nice=draw(_nices)) for name in names
        ),
        thread=draw(
            st.lists(_threads.filter(lambda one: one.name not in names), max_size=2, unique_by=lambda one: one.name)
        ),
        variant=draw(st.lists(_variants, max_size=2, unique_by=lambda one: one.name)),
    )


@st.composite
def runs(draw: st.DrawFn, scenario: Scenario | None = None) -> Run:
    """Any run that a machine could report, with numbers far beyond the usual."""
    scenario = scenario or draw(scenarios())
    base = storm(draw(st.sampled_from(POLICIES)).name, draw(st.integers(0, 300)), scenario=scenario)
    lanes = len(base.timeline.vcpu_names)
    row = draw(st.lists(st.tuples(_shares, st.integers(0, 10**6)), max_size=20))
    turned = [row[lane % len(row) :] + row[: lane % len(row)] if row else [] for lane in range(lanes)]
    spans = st.one_of(st.floats(0, 1e12), st.just(float("nan")))
    changes = {
        "symbol": draw(any_name),
        "period_ns": draw(spans),
        "guest_ns": draw(spans),
        "last_window": draw(_counts),
    }
    found = tuple(attrs.evolve(one, **changes) for one in base.ple.runs)
    return attrs.evolve(
        base,
        digest=draw(st.text("0123456789abcdef", min_size=1, max_size=64)),
        cycles=draw(_counts),
        instructions=draw(_counts),
        wall_seconds=draw(st.floats(0, 1e6)),
        ple=attrs.evolve(
            base.ple,
            exits=draw(_counts),
            continuous=draw(_counts),
            by_symbol=draw(st.dictionaries(any_name, _counts, max_size=12)),
            runs=found,
        ),
        vms=tuple(
            attrs.evolve(
                vm,
                cpu_share=draw(_shares),
                guest_share=draw(_shares),
                operations=draw(_counts),
                halts=draw(_counts),
                polls=draw(_counts),
                polled=draw(_counts),
            )
            for vm in base.vms
        ),
        timeline=Timeline(
            column_ns=draw(_times),
            vcpu_names=base.timeline.vcpu_names,
            running=tuple(tuple(share for share, _ in lane) for lane in turned),
            pause_exits=tuple(tuple(exits for _, exits in lane) for lane in turned),
        ),
    )
