"""What `pleemu list` shows: everything that has a name."""

from __future__ import annotations

import math
from pathlib import Path

from pleemu import catalogue
from pleemu.hardware import isa
from pleemu.kernel import HOST_SCHEDULERS, factor
from pleemu.policy import DEBOOSTERS, POLICIES, policy
from pleemu.processor import FIGURES, PROCESSORS, Processor
from pleemu.report.grid import Column, Grid
from pleemu.scenario import Kvm, load

_NAME = Column("name", left=True)
_SUMMARY = Column("what", left=True, wraps=True)
COST_NAMES = {
    number: name.removeprefix("COST_").lower()
    for name, number in vars(isa).items()
    if name.startswith("COST_") and name != "COST_CLASSES"
}
_GAP = Kvm().ple_gap  # AMD: pause_filter_thresh, the same
_MANY = 8  # CPUs from which on the tunables grow no more
_HEAD = 4096  # characters of a source in which its first comment is


def programs() -> Grid:
    """Return the guest sources that come with pleemu."""
    folder = catalogue.programs_folder()
    grid = Grid(f"Guest programs in {folder}", (_NAME, _SUMMARY))
    for path in catalogue.programs():
        grid.add(str(path.relative_to(folder)), first_comment(path))
    return grid


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
        grid.add(name, str(len(scenario.vm)), str(vcpus), str(scenario.hardware.pcpus), _line(scenario.summary))
    return grid


def policies() -> Grid:
    """Return the yield policies."""
    grid = Grid("Policies", (_NAME, _SUMMARY), note="Join parts with +, as in strict-boost+debooster.")
    for one in dict.fromkeys((*POLICIES, *map(policy, DEBOOSTERS))):
        grid.add(one.name, one.summary)
    return grid


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
    "policies": policies,
    "schedulers": schedulers,
    "processors": processors,
    "figures": figures,
}


def first_comment(path: Path) -> str:
    """Return the first sentence of the comment that a source begins with, or nothing."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            lines = file.read(_HEAD).splitlines()
    except OSError:
        return ""
    words: list[str] = []
    for line in lines:
        text = line.strip()
        comment = text.lstrip("/*# ").removesuffix("*/").strip()
        if not text.startswith(("/", "*", "#")) or text.startswith("#include") or (words and not comment):
            break
        words += comment.split()
    return _line(" ".join(words))


def _line(text: str) -> str:
    """Return a text as one line, up to the end of its first sentence."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    sentence, stop, _ = line.partition(". ")
    return sentence if stop else line.removesuffix(".")
