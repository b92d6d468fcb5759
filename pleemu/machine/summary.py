"""From the counters of a finished machine to the `Run` that is printed, compared and kept."""

from __future__ import annotations

from typing import Any

import numpy as np

from pleemu.machine.build import Layout
from pleemu.machine.causes import causes_of
from pleemu.machine.judgement import decisions_of, jain_index
from pleemu.machine.result import (
    BoostStatistics,
    ContinuousRun,
    ExitStatistics,
    MigrationStatistics,
    PleStatistics,
    PvStatistics,
    Run,
    ThreadResult,
    Timeline,
    VmResult,
)
from pleemu.machine.state import Machine
from pleemu.observe.events import exit_reasons
from pleemu.observe.records import BOOST_CLASSES, MIGRATIONS
from pleemu.policy import Policy
from pleemu.scenario import Scenario

MASK = (1 << 64) - 1


def summarise(
    machine: Machine,
    layout: Layout,
    scenario: Scenario,
    policy: Policy,
    *,
    ended: str,
    wall_seconds: float,
    preemptions: int | None,
    schedule: str | None,
) -> Run:
    """Collect what a run found. the loop has closed the open intervals."""
    vms = _vms(machine, layout, scenario)
    return Run(
        scenario=scenario,
        policy=policy.name,
        policy_file=None if policy.own is None else policy.own.identity(),
        seed=scenario.seed,
        digest=f"{int(machine.journal.digest[0]) & MASK:016x}",
        cycles=int(machine.run.until[0]),
        duration_ns=min(scenario.duration_ns, _ns(machine, machine.run.until[0])),
        instructions=int(np.sum(machine.cpu.instructions)),
        wall_seconds=wall_seconds,
        ended=ended,
        exits=_exits(machine, scenario),
        ple=_ple(machine, layout, scenario),
        boosts=_boosts(machine, scenario),
        vms=vms,
        threads=_threads(machine, scenario),
        idle_share=int(np.sum(machine.pcpu.idle_cycles)) / _total(machine, scenario),
        timeline=_timeline(machine, scenario),
        paravirtual=_paravirtual(machine, scenario),
        migrations=_migrations(machine, scenario),
        decisions=decisions_of(machine, scenario),
        causes=causes_of(machine, layout, scenario),
        fairness=jain_index(vm.cpu_share for vm in vms),
        preemptions=preemptions,
        schedule=schedule,
    )


def _ns(machine: Machine, cycles: Any) -> int:
    return int(cycles) * 1_000_000 // int(machine.clock.core_khz[0])


def _exits(machine: Machine, scenario: Scenario) -> tuple[ExitStatistics, ...]:
    rows = []
    for number, vm in enumerate(scenario.vm):
        first = int(machine.vm[number].first_vcpu)
        for reason, name in exit_reasons(scenario.hardware.is_amd).items():
            cells = machine.exits[first : first + vm.vcpus, reason]
            cells = cells[cells["count"] > 0]
            timed = cells[cells["timed"] > 0]
            if len(cells):
                rows.append(
                    ExitStatistics(
                        vm=vm.name,
                        reason=name,
                        count=int(np.sum(cells["count"])),
                        timed=int(np.sum(cells["timed"])),
                        total_ns=_ns(machine, np.sum(cells["total"])),
                        min_ns=_ns(machine, np.min(timed["least"]) if len(timed) else 0),
                        max_ns=_ns(machine, np.max(timed["most"], initial=0)),
                    )
                )
    return tuple(rows)


def _ple(machine: Machine, layout: Layout, scenario: Scenario) -> PleStatistics:
    by_symbol: dict[str, int] = {}
    for v, pc in zip(*np.nonzero(machine.pause_at), strict=True):
        image = layout.images[int(machine.vcpu[v].vm)]
        symbol = image.function_at(int(machine.code[pc].address))
        by_symbol[symbol] = by_symbol.get(symbol, 0) + int(machine.pause_at[v, pc])
    lengths = {1 << k: int(count) for k, count in enumerate(machine.run_lengths) if count}
    runs = tuple(_run(machine, layout, scenario, run) for run in machine.longest if run["length"] > 0)
    exits = int(np.sum(machine.pause_at))
    stopped = machine.vcpu[machine.vcpu.paused_at >= 0]
    first: Any = stopped[np.argmin(stopped.paused_at)] if len(stopped) else None
    return PleStatistics(
        exits=exits,
        pauses=int(np.sum(machine.cpu.pauses)),
        pauses_before_first=None if first is None else int(first.paused_after),
        guest_ns=_ns(machine, np.sum(machine.vcpu.pausing_cycles)) / exits if exits else None,
        continuous=int(machine.continuous[0]),
        longest_run=runs[0].length if runs else 0,
        by_symbol=dict(sorted(by_symbol.items(), key=lambda item: (-item[1], item[0]))),
        runs=runs,
        run_lengths=lengths,
    )


def _run(machine: Machine, layout: Layout, scenario: Scenario, run: Any) -> ContinuousRun:
    vcpu = machine.vcpu[int(run["vcpu"])]
    number, length = int(vcpu.vm), int(run["length"])
    address = int(machine.code[int(run["pc"])].address) & MASK
    gaps = max(length - 1, 1)
    return ContinuousRun(
        vm=scenario.vm[number].name,
        vcpu=int(vcpu.id),
        address=address,
        symbol=layout.images[number].symbol_at(address),
        length=length,
        start_ns=_ns(machine, run["first"]),
        period_ns=_ns(machine, run["last"] - run["first"]) / gaps,
        guest_ns=_ns(machine, run["guest"]) / gaps,
        first_window=int(run["first_window"]),
        last_window=int(run["last_window"]),
        first_exit=int(run["number"]),
    )


def _boosts(machine: Machine, scenario: Scenario) -> tuple[BoostStatistics, ...]:
    return tuple(
        BoostStatistics(
            vm=vm.name,
            target=target,
            attempts=int(cell["attempts"]),
            accepted=int(cell["accepted"]),
            honoured=int(cell["honoured"]),
            ran=int(cell["ran"]),
            waited_ns=_ns(machine, cell["waited"]),
            most_ns=_ns(machine, cell["most"]),
        )
        for number, vm in enumerate(scenario.vm)
        for target, cell in zip(BOOST_CLASSES, machine.boost[number], strict=True)
        if cell["attempts"]
    )


def _migrations(machine: Machine, scenario: Scenario) -> tuple[MigrationStatistics, ...]:
    return tuple(
        MigrationStatistics(vm=owner, cause=cause, count=int(count))
        for owner, counts in zip((*(vm.name for vm in scenario.vm), "host"), machine.migrations, strict=True)
        for cause, count in zip(MIGRATIONS, counts, strict=True)
        if count
    )


def _paravirtual(machine: Machine, scenario: Scenario) -> tuple[PvStatistics, ...]:
    rows = []
    for number, vm in enumerate(scenario.vm):
        first = int(machine.vm[number].first_vcpu)
        pv: Any = machine.pv[first : first + vm.vcpus]
        row = PvStatistics(
            vm=vm.name,
            hypercalls=int(np.sum(pv.hypercalls)),
            kicks=int(np.sum(pv.kicks)),
            ipis=int(np.sum(pv.ipis)),
            directed_yield_attempted=int(np.sum(pv.directed_yield_attempted)),
            directed_yield_successful=int(np.sum(pv.directed_yield_successful)),
            steal_updates=int(np.sum(pv.steal_updates)),
            steal_ns=int(np.sum(pv.last_steal)),
            tlb_flushes=int(np.sum(pv.tlb_flushes)),
        )
        if row.hypercalls or row.steal_updates:
            rows.append(row)
    return tuple(rows)


def _vms(machine: Machine, layout: Layout, scenario: Scenario) -> tuple[VmResult, ...]:
    total = _total(machine, scenario)
    rows = []
    for number, vm in enumerate(scenario.vm):
        first = int(machine.vm[number].first_vcpu)
        vcpus: Any = machine.vcpu[first : first + vm.vcpus]
        rows.append(
            VmResult(
                name=vm.name,
                vcpus=vm.vcpus,
                cpu_share=int(np.sum(vcpus.thread_cycles)) / total,
                guest_share=int(np.sum(vcpus.guest_cycles)) / total,
                operations=int(machine.vm[number].operations),
                halts=int(np.sum(vcpus.halts)),
                polls=int(np.sum(vcpus.polls)),
                polled=int(np.sum(vcpus.polled)),
                image=layout.images[number].digest,
                compilers=layout.images[number].linked.producers,
            )
        )
    return tuple(rows)


def _total(machine: Machine, scenario: Scenario) -> int:
    """Cycles of all pCPUs together."""
    return scenario.hardware.pcpus * int(machine.run.until[0])


def _threads(machine: Machine, scenario: Scenario) -> tuple[ThreadResult, ...]:
    rows = []
    first = 0
    for given in scenario.thread:
        copies: Any = machine.thread[first : first + given.count]
        first += given.count
        rows.append(
            ThreadResult(
                name=given.name,
                count=given.count,
                cpu_share=int(np.sum(copies.thread_cycles)) / _total(machine, scenario),
                bursts=int(np.sum(copies.bursts)),
            )
        )
    return tuple(rows)


def _timeline(machine: Machine, scenario: Scenario) -> Timeline:
    width = int(machine.journal.column_cycles[0])
    names = [f"{vm.name}/{index}" for vm in scenario.vm for index in range(vm.vcpus)]
    names += [
        f"{one.name}/{copy}" if one.count > 1 else one.name for one in scenario.thread for copy in range(one.count)
    ]
    no_exits = np.zeros((len(machine.thread), machine.pause_columns.shape[1]), np.int64)
    return Timeline(
        column_ns=_ns(machine, width),
        vcpu_names=tuple(names),
        running=tuple(tuple(row) for row in (machine.running_columns / width).tolist()),
        pause_exits=tuple(tuple(row) for row in np.concatenate((machine.pause_columns, no_exits)).tolist()),
    )
