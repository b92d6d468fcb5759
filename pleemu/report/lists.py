"""What `pleemu list` shows: everything that has a name."""

from __future__ import annotations

import math
from pathlib import Path

from pleemu import catalogue
from pleemu.generations import CURES, GENERATIONS, VANILLA, Generation, Search
from pleemu.hardware import isa
from pleemu.kernel import HOST_SCHEDULERS, factor
from pleemu.policy import ALL, POLICIES, policy
from pleemu.processor import FIGURES, PROCESSORS, Processor
from pleemu.profile import profile, shipped_profiles
from pleemu.report.grid import Column, Grid
from pleemu.report.guest_lists import programs
from pleemu.scenario import load

_NAME = Column("name", left=True)
_SUMMARY = Column("what", left=True, wraps=True)
COST_NAMES = {
    number: name.removeprefix("COST_").lower()
    for name, number in vars(isa).items()
    if name.startswith("COST_") and name != "COST_CLASSES"
}
_GAP = GENERATIONS[VANILLA].parameters["ple_gap"]  # AMD: pause_filter_thresh, the same
_MANY = 8  # CPUs from which on the tunables grow no more


def scenarios() -> Grid:
    """Return the shipped experiments."""
    grid = Grid(
        "Scenarios",
        (_NAME, Column("VMs"), Column("vCPUs"), Column("pCPUs"), _SUMMARY),
        note="pleemu run NAME, or pleemu compare NAME",
    )
    for name, path in catalogue.experiments().items():
        scenario = load(path)
        vcpus = sum(vm.vcpus for vm in scenario.vm)
        grid.add(
            name,
            str(len(scenario.vm)),
            str(vcpus),
            str(scenario.hardware.pcpus),
            catalogue.first_sentence(scenario.summary),
        )
    return grid


def profiles() -> Grid:
    """Return the application profiles."""
    grid = Grid(
        "Application profiles",
        (_NAME, _SUMMARY),
        note="In a scenario: profile = NAME in place of program, in [[vm]]; pleemu run testbed --vm.0.profile NAME. "
        "All times and rates are proposed but for what a profile's file names as reported.",
    )
    for name in shipped_profiles():
        grid.add(name, catalogue.first_sentence(profile(name, Path()).summary))
    return grid


def policies() -> Grid:
    """Return the yield policies."""
    grid = Grid(
        "Policies",
        (_NAME, _SUMMARY),
        note="Join parts with +, as in kvm-6.19+strict-boost: at most one generation (the rows down to kvm-6.19; "
        f"without one it is {VANILLA}), cures, and one debooster. compare runs "
        + ", ".join(one.name for one in POLICIES)
        + "; --policies all runs all. pleemu list generations shows their rules.",
    )
    for one in ALL:
        grid.add(one.name, one.summary)
    return grid


def generations() -> Grid:
    """Return KVM's search year by year, and what each cure makes of vanilla's."""
    # Only here: it brings the compiler.
    from pleemu.hypervisor.rules import RULES

    grid = Grid(
        "kvm_vcpu_on_spin, year by year, and cures",
        (
            _NAME,
            Column("kernel", left=True),
            Column("window", left=True),
            Column("loop", left=True),
            Column("-ESRCH", left=True),
            Column("passes over who is, in this order", left=True, wraps=True),
        ),
        note="Window: Intel's factor, and what it ends at. Loop: <: it begins with vCPU 0 if that was last; i: it "
        "keeps the number of its steps, not whom it boosted. -ESRCH: what `nobody else to run` means; with 2 "
        "passes and 3 tries the last of the first pass ends it, too. Rules: "
        + "; ".join(f"{name}: {what}" for name, what in RULES.items() if name)
        + ". Cures are shown with vanilla's search; | begins a second round.",
    )
    for name, one in GENERATIONS.items():
        grid.add(name, one.kernel, _window(one), *_loop(one.search), _rules(one.search))
    for name in CURES:
        search = policy(name).search
        grid.add(f"+ {name}", "", "", *_loop(search), _rules(search))
    return grid


def _window(one: Generation) -> str:
    base, grow = one.parameters["ple_window"], one.parameters["ple_window_grow"]
    most = one.window_ceiling(base, grow, one.parameters["ple_window_max"])
    return f"x{grow}, 2^{most.bit_length()}" if grow else "fixed"


def _loop(search: Search) -> tuple[str, str]:
    if search.sleeps:
        return "-", "-"
    loop = "1 loop" if search.one_loop else "2 passes"
    return loop + " <" * search.from_zero + ", i" * search.stores_count, search.esrch.replace("tries", "3 tries")


def _rules(search: Search) -> str:
    """The rules in words, with what else passes in user mode."""
    if search.sleeps:
        return "everybody is: it sleeps"
    spared = " or ".join(filter(None, ("interrupt" * search.pending_irq, "IPI" * search.ipi_bool)))
    rounds = []
    for rules in filter(None, (search.rules, search.relaxed_rules)):
        names = [f"{rule} (no {spared})" if rule.startswith("user-mode") and spared else rule for rule in rules]
        rounds.append(", ".join(names))
    return " | ".join(rounds)


def schedulers() -> Grid:
    """Return the models of the host scheduler, side by side: what each has, and what is on."""
    versions = HOST_SCHEDULERS.values()
    columns = [Column("", left=True, shrinks=True), *(Column(name, left=True) for name in HOST_SCHEDULERS)]
    grid = Grid(
        "Host schedulers",
        columns,
        note="--host.scheduler NAME; features by --host.features 'NEXT_BUDDY NO_RUN_TO_PARITY'. Tunables in ms, "
        f"on 1 CPU and on {_MANY} or more.\n"
        + "\n".join(f"{name}: {one.summary}" for name, one in HOST_SCHEDULERS.items()),
    )
    grid.add("Linux", *(version.kernel for version in versions))
    for name in dict.fromkeys(name for version in versions for name in version.base_ns):
        spans = [version.base_ns.get(name) for version in versions]
        grid.add(name, *("" if ns is None else f"{_ms(ns)} - {_ms(ns * factor(_MANY))}" for ns in spans))
    grid.add("a yield", *(version.yields for version in versions))
    grid.add("yield_to", *(version.hint for version in versions))
    for name in dict.fromkeys(name for version in versions for name in version.defaults):
        states = [version.defaults.get(name) for version in versions]
        grid.add(name, *("" if on is None else "on" if on else "off" for on in states))
    return grid


def _ms(ns: int) -> str:
    return f"{ns / 1_000_000:g}"


def processors() -> Grid:
    """Return the processor presets, in core cycles."""
    grid = Grid(
        "Processors",
        (
            _NAME,
            Column("vendor", left=True),
            Column("TSC"),
            Column("PAUSE"),
            Column("LOCK", minor=1),
            Column("RDTSC", minor=3),
            Column("MFENCE", minor=2),
            Column("spin exits", left=True),
            _SUMMARY,
        ),
        note="Costs in core cycles, TSC in GHz. Spin exits: whether a bare spin loop (pause; cmp; jne) can exit "
        f"at KVM's gap of {_GAP} TSC ticks, or from which core clock on. --hardware.processor NAME; "
        "pleemu list figures has all figures and their sources.",
    )
    for one in PROCESSORS:
        costs = (one.pause_cycles, one.locked_cycles, one.rdtsc_cycles, one.fence_cycles)
        shown = (str(cost) for cost in costs)
        grid.add(one.name, one.vendor, f"{one.tsc_khz / 1e6:g}", *shown, _spin_exits(one), one.summary)
    return grid


def _spin_exits(one: Processor) -> str:
    """Whether the PAUSEs of a bare spin loop are near enough to each other, at the TSC's own rate or with turbo."""
    if one.spin_loop_ticks(one.tsc_khz, one.tsc_khz) <= _GAP:
        return "yes"
    needed = one.spin_loop_ticks(one.tsc_khz, one.tsc_khz) / _GAP * one.tsc_khz / 1e6
    return f"from {math.ceil(needed * 100) / 100:g} GHz"


def figures() -> Grid:
    """Return every figure of every processor preset with its source."""
    columns = (_NAME, Column("figure", left=True), Column("value"), Column("source", left=True, wraps=True))
    grid = Grid("Figures of the processors", columns, note="--hardware.FIGURE VALUE overrides one")
    for one in PROCESSORS:
        for figure in FIGURES:
            name = one.name if figure == FIGURES[0] else ""
            grid.add(name, figure, f"{getattr(one, figure):,}", one.sources[figure])
    return grid


def instructions() -> Grid:
    """Return every form of every instruction that a guest may use, and what has checked it."""
    # Only here: reading iced's whole table takes a third of a second.
    from pleemu.guest.checked import NEITHER, table
    from pleemu.guest.subset import SUBSET

    grid = Grid(
        "Instructions",
        (_NAME, Column("cost", left=True), Column("checked by", left=True), Column("forms", left=True, wraps=True)),
        note=(
            "r8h: ah ch dh bh; lock:m8,r8 has a LOCK prefix. Checked by processor: in sequences recorded on one; "
            "Unicorn: in random sequences, against that emulator; neither: by tests of this project alone, and why."
        ),
    )
    for mnemonic, evidence in table().items():
        shown = mnemonic
        for checked, forms in sorted(evidence.items(), key=lambda item: -len(item[1])):
            reason = f" ({checked[1]})" if checked[0] == NEITHER else ""
            texts = [":".join(filter(None, (one.prefix, ",".join(one.operands)))) or "-" for one in forms]
            cost = COST_NAMES[SUBSET[forms[0].mnemonic].cost_class]
            who = checked[0] if reason else " and ".join(checked)
            grid.add(shown, cost, who, "  ".join(texts) + reason)
            shown = ""
    return grid


LISTS = {
    "instructions": instructions,
    "programs": programs,
    "scenarios": scenarios,
    "profiles": profiles,
    "policies": policies,
    "generations": generations,
    "schedulers": schedulers,
    "processors": processors,
    "figures": figures,
}
