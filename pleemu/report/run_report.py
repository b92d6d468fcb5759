"""The report of one run: what an engineer looks for first, first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from pleemu.machine.result import ExitStatistics, Run
from pleemu.observe.events import PAUSE_EXIT_NAMES
from pleemu.observe.records import MIGRATIONS
from pleemu.report import units
from pleemu.report.cause_report import cause_table
from pleemu.report.decision_report import verdict_table
from pleemu.report.grid import Column, Grid
from pleemu.scenario import Scenario
from pleemu.schedule import how_to_replay

_RUNS_SHOWN = 5
_SEEDS_SHOWN = 4


def run_report(run: Run, *, hint: str = "") -> RenderableType:
    """Return the report; ``hint`` is the next command to try."""
    return Group(*_with_gaps(_sections(run, hint)))


def _with_gaps(sections: Iterator[RenderableType]) -> Iterator[RenderableType]:
    for section in sections:
        yield section
        yield Text()


def _sections(run: Run, hint: str) -> Iterator[RenderableType]:
    yield header(run)
    yield exit_table(run)
    if run.ple.exits:
        yield cause_table(run)
        yield continuous_table(run)
    if run.boosts:
        yield boost_table(run)
    if run.migrations:
        yield migration_table(run)
    elif any(len(allowed) > 1 for allowed in run.scenario.allowed_pcpus()):
        yield Text("No migrations: every thread has stayed on the pCPU that it began on.")
    if any(vm.halts for vm in run.vms):
        yield halt_table(run)
    if run.ple.exits and run.decisions.vms:
        yield verdict_table(run)
    if run.paravirtual:
        yield paravirtual_table(run)
    yield vm_table(run)
    if run.threads:
        yield thread_table(run)
    yield from profile_notes([run.scenario])
    if run.scenario.look_for:
        yield paragraph("Look for", run.scenario.look_for)
    if hint:
        yield Text.assemble(("next: ", "dim"), (hint, "bold"))


def header(run: Run) -> Text:
    """Return what ran, where and for how long."""
    scenario = run.scenario
    work = (
        f"emulated {units.time(run.duration_ns)} in {run.wall_seconds:.2f} s, "
        f"{units.count(run.instructions)} instructions, digest {run.digest[:16]}"
    )
    lines = Text.assemble((scenario.name, "bold"), "  policy ", (run.policy, "bold"), f"  seed {run.seed}\n")
    if scenario.summary:
        lines.append(f"{scenario.summary.strip()}\n", "italic")
    lines.append(f"{machine_line(scenario)}\n{work}\nended: {run.ended}", "dim")
    return lines


def machine_line(scenario: Scenario) -> str:
    """Return the host, and who is on it."""
    hardware = scenario.hardware
    clock = f"{hardware.core_rate_khz / 1e6:g} GHz"
    if hardware.core_rate_khz != hardware.tsc_rate_khz:
        clock += f" (TSC {hardware.tsc_rate_khz / 1e6:g} GHz)"
    threads = sum(thread.count for thread in scenario.thread)
    scheduler = " ".join([scenario.host.scheduler, *scenario.host.features.split()])
    return (
        f"{hardware.pcpus} x {hardware.processor} at {clock}, {scheduler} at {scenario.host.hz} Hz, "
        + ", ".join(f"{vm.name} ({vm.vcpus} vCPUs)" for vm in scenario.vm[:4])
        + (f" and {len(scenario.vm) - 4} more VMs" if len(scenario.vm) > 4 else "")
        + (f", {threads} host thread{'s' if threads > 1 else ''}" if threads else "")
    )


def seeds_of(runs: Iterable[Run]) -> str:
    """Return the seeds of some runs, in order; of many the first few."""
    seeds = list(dict.fromkeys(run.seed for run in runs))
    shown = ", ".join(str(seed) for seed in seeds[:_SEEDS_SHOWN])
    more = len(seeds) - _SEEDS_SHOWN
    return f"seed{'s' if len(seeds) > 1 else ''} {shown}" + (f" and {more} more" if more > 0 else "")


def schedule_line(run: Run) -> Text:
    """Return how to repeat the preemptions of the chaos scheduler, for a line as long as it is."""
    preemptions, given = run.preemptions or 0, len(run.scenario.points or ())
    idle = ""
    if preemptions < given:
        idle = f"{given - preemptions} of the {given} points given had no effect: their thread did not wait there\n"
    replay = how_to_replay(run.schedule, preemptions, "--json has the token")
    what, _, how = replay.partition(": ")
    return Text.assemble(idle, (f"{what}: ", "dim"), (how, "bold"))


def exit_table(run: Run) -> Grid:
    """Return the VM exits by reason, in the manner of `perf kvm stat`."""
    grid = Grid(
        "VM exits, as `perf kvm stat` counts them",
        (
            Column("VM-EXIT", left=True, shrinks=True),
            Column("Samples"),
            Column("Samples%"),
            Column("Time%"),
            Column("Min Time", minor=2),
            Column("Max Time", minor=1),
            Column("Avg time"),
        ),
        note="Time is from kvm_exit to kvm_entry, other threads' turns on the pCPU included.",
    )
    merged = [_merged(run, reason) for reason in run.exits_by_reason()]
    samples, total_ns = sum(row.count for row in merged), sum(row.total_ns for row in merged)
    for row in merged:
        grid.add(
            row.reason,
            units.count(row.count),
            units.percent(row.count, samples),
            units.percent(row.total_ns, total_ns),
            units.microseconds(row.min_ns),
            units.microseconds(row.max_ns),
            units.microseconds(row.total_ns / row.timed) if row.timed else "-",
            style="red" if row.reason in PAUSE_EXIT_NAMES else "",
        )
    if not merged:
        grid.add("none", "0", "-", "-", "-", "-", "-", style="dim")
    return grid


def _merged(run: Run, reason: str) -> ExitStatistics:
    rows = [row for row in run.exits if row.reason == reason]
    return ExitStatistics(
        vm="",
        reason=reason,
        count=sum(row.count for row in rows),
        timed=sum(row.timed for row in rows),
        total_ns=sum(row.total_ns for row in rows),
        min_ns=min((row.min_ns for row in rows if row.timed), default=0),
        max_ns=max(row.max_ns for row in rows),
    )


def continuous_table(run: Run) -> Grid:
    """Return the longest runs of PAUSE exits at one address."""
    grid = Grid(
        f"Continuous PAUSE exits: {units.count(run.ple.continuous)} of {units.count(run.ple.exits)} "
        f"({units.percent(run.ple.continuous, run.ple.exits)}), longest run {units.count(run.ple.longest_run)}",
        (
            Column("length"),
            Column("vCPU", left=True, shrinks=True),
            Column("address", left=True, minor=4),
            Column("symbol", left=True, shrinks=True),
            Column("period"),
            Column("guest", minor=1),
            Column(f"window, {'PAUSEs' if run.scenario.hardware.is_amd else 'ticks'}", minor=2),
            Column("at", minor=3),
        ),
        note="A run: same vCPU, same RIP, at most 1 ms from exit to exit. "
        "Period: kvm_exit to kvm_exit; guest: kvm_entry to kvm_exit.",
    )
    for one in run.ple.runs[:_RUNS_SHOWN]:
        grid.add(
            units.count(one.length),
            f"{one.vm}/{one.vcpu}",
            f"{one.address:#x}",
            one.symbol,
            units.time(one.period_ns) if one.length > 1 else "-",
            units.time(one.guest_ns) if one.length > 1 else "-",
            units.window(one.first_window, one.last_window),
            units.time(one.start_ns),
        )
    return grid


def boost_table(run: Run) -> Grid:
    """Return what became of the directed yields, by the state of the vCPU that was nominated."""
    several = len(run.scenario.vm) > 1
    grid = Grid(
        "Directed yields, by state of the nominated vCPU",
        (
            Column("target", left=True),
            *((Column("VM", left=True, shrinks=True),) if several else ()),
            Column("attempts"),
            Column("accepted", minor=1),
            Column("honoured"),
            Column("honoured%", minor=2),
            Column("ran after"),
            Column("at most", minor=3),
        ),
        note="Accepted: yield_to returned 1. Honoured: the scheduler then really ran the nominated vCPU. "
        "Ran after: mean time from the first accepted yield until the nominated vCPU ran.",
    )
    for one in run.boosts:
        grid.add(
            one.target,
            *((one.vm,) if several else ()),
            units.count(one.attempts),
            units.count(one.accepted),
            units.count(one.honoured),
            units.percent(one.honoured, one.attempts),
            units.time(one.waited_ns / one.ran) if one.ran else "-",
            units.time(one.most_ns) if one.ran else "-",
        )
    return grid


def migration_table(run: Run) -> Grid:
    """Return how often the scheduler took threads to other pCPUs, and why."""
    counts = {(row.vm, row.cause): row.count for row in run.migrations}
    grid = Grid(
        "Migrations, by cause",
        (Column("VM", left=True, shrinks=True), *(Column(cause) for cause in MIGRATIONS)),
        note="New idle: pulled by a pCPU that ran out of work; idle and busy: by periodic balancing; "
        "active: taken while it ran.",
    )
    for vm in run.vms:
        if any((vm.name, cause) in counts for cause in MIGRATIONS):
            grid.add(vm.name, *(units.count(counts.get((vm.name, cause), 0)) for cause in MIGRATIONS))
    return grid


def paravirtual_table(run: Run) -> Grid:
    """Return what the VMs did with KVM's paravirtual interface."""
    grid = Grid(
        "Paravirtual interface",
        (
            Column("VM", left=True, shrinks=True),
            Column("hypercalls"),
            Column("kicks"),
            Column("PV IPIs", minor=3),
            Column("yields tried", minor=1),
            Column("yields taken"),
            Column("steal time", minor=2),
            Column("TLB flushes", minor=4),
        ),
        note="Yields are directed yields by hypercall; taken: yield_to returned 1. Steal time: as the guest was told.",
    )
    for one in run.paravirtual:
        grid.add(
            one.vm,
            units.count(one.hypercalls),
            units.count(one.kicks),
            units.count(one.ipis),
            units.count(one.directed_yield_attempted),
            units.count(one.directed_yield_successful),
            units.time(one.steal_ns) if one.steal_updates else "-",
            units.count(one.tlb_flushes),
        )
    return grid


def vm_table(run: Run) -> Grid:
    """Return what each VM got of the host and did with it."""
    niced = any(vm.nice for vm in run.scenario.vm)
    grid = Grid(
        "Virtual machines",
        (
            Column("VM", left=True, shrinks=True),
            Column("vCPUs", minor=1),
            *((Column("nice", minor=1),) if niced else ()),
            Column("CPU share"),
            Column("in guest", minor=2),
            Column("operations"),
            Column("per second", minor=3),
            Column("PAUSE exits"),
        ),
        note="Shares are of all pCPU time. Operations: `operation_done` probes."
        + (f" Fairness (Jain's index of the CPU shares): {run.fairness:.3f}." if len(run.vms) > 1 else ""),
    )
    for vm, given in zip(run.vms, run.scenario.vm, strict=True):
        pauses = sum(row.count for row in run.exits if row.vm == vm.name and row.reason in PAUSE_EXIT_NAMES)
        grid.add(
            vm.name,
            str(vm.vcpus),
            *((str(given.nice),) if niced else ()),
            units.percent(vm.cpu_share),
            units.percent(vm.guest_share),
            units.count(vm.operations),
            units.count(round(vm.operations * 1e9 / run.duration_ns)) if run.duration_ns else "-",
            units.count(pauses),
        )
    return grid


def thread_table(run: Run) -> Grid:
    """Return what the host's own threads got."""
    grid = Grid(
        "Threads of the host",
        (
            Column("thread", left=True, shrinks=True),
            Column("count", minor=1),
            Column("nice", minor=1),
            Column("CPU share"),
            Column("bursts"),
        ),
        note=f"Shares are of all pCPU time; the pCPUs were idle for {units.percent(run.idle_share)} of it.",
    )
    for one, given in zip(run.threads, run.scenario.thread, strict=True):
        grid.add(
            one.name,
            str(one.count),
            str(given.nice),
            units.percent(one.cpu_share),
            units.count(one.bursts) if given.period_us else "-",
        )
    return grid


def halt_table(run: Run) -> Grid:
    """Return how vCPUs waited in HLT."""
    grid = Grid(
        "HLT, and what halt polling made of it",
        (
            Column("VM", left=True, shrinks=True),
            Column("halts"),
            Column("polls", minor=1),
            Column("ended by an interrupt"),
            Column("of halts", minor=2),
        ),
        note="A poll keeps the pCPU for up to kvm.halt_poll_ns; all other halts put the thread to sleep.",
    )
    for vm in run.vms:
        if vm.halts:
            grid.add(
                vm.name,
                units.count(vm.halts),
                units.count(vm.polls),
                units.count(vm.polled),
                units.percent(vm.polled, vm.halts),
            )
    return grid


def profile_notes(scenarios: Iterable[Scenario]) -> Iterator[Text]:
    """Yield where the figures of the applications come from, if there are any."""
    chosen = {vm.profile: one for scenario in scenarios for vm in scenario.vm if (one := scenario.profile_of(vm))}
    if chosen:
        notes = (f"{one.name}: {one.summary}. {one.origin.strip()}" for one in chosen.values())
        yield paragraph("Profiles", "\n\n".join(notes))


def paragraph(title: str, text: str) -> Text:
    """Return a titled paragraph; line breaks inside it are the terminal's, empty lines the author's."""
    paragraphs = [" ".join(one.split()) for one in text.strip().split("\n\n")]
    return Text.assemble((f"{title}\n", "bold"), "\n".join(paragraphs))
