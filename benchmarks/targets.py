"""Every line of the table of targets in README.md, measured: `python -m benchmarks.targets [--quick]`."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator

from attrs import frozen

from benchmarks import cases, peers, scale
from pleemu.scenario import Scenario

PROGRAM = "import sys; from pleemu.cli import main; sys.exit(main({!r}))"


@frozen
class Row:
    """One line: what the median shall be, and what was measured."""

    what: str
    bound: float
    at_least: bool
    unit: str
    values: list[float]
    alone: str  # the command that repeats it

    def shown(self) -> str:
        """Return it as a line of Markdown."""
        median = statistics.median(self.values)
        met = median >= self.bound if self.at_least else median <= self.bound
        cells = (
            self.what,
            f"{'≥' if self.at_least else '≤'} {self.bound:,g} {self.unit}",
            f"{number(median)} {self.unit}",
            f"{number(min(self.values))}..{number(max(self.values))}",
            "yes" if met else "**no**",
            self.alone,
        )
        return f"| {' | '.join(cells)} |"


def number(value: float) -> str:
    """Return three digits that mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def process(arguments: list[str], cache: str | None = None) -> tuple[float, float]:
    """Run pleemu as a whole process; its wall seconds and its peak memory in MB."""
    environment = os.environ | ({"PLEEMU_CACHE_DIR": cache} if cache else {})
    began = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, arguments
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def beside_unicorn(rounds: int, wall_seconds: float) -> Iterator[Row]:
    """The loop and the spin, by Unicorn."""
    alone = "`python -m benchmarks.peers`"
    for name, stepping in ((peers.LOOP, 4), (peers.SPIN, 5)):
        found, skipped = peers.emulators(name, wall_seconds=wall_seconds, only=("Unicorn",))
        if skipped:
            print(f"{name}: Unicorn is {skipped['Unicorn']}", file=sys.stderr)
            continue
        figures = peers.interleaved(found, rounds)
        yield Row(f"{name}, stepping", stepping, True, "× Unicorn", peers.ratios(figures, "pleemu", "Unicorn"), alone)
        if "pleemu, skipping" in figures:
            by = peers.ratios(figures, "pleemu, skipping", "Unicorn")
            yield Row(f"{name}, skipping, `no-ple`", 1000, True, "× Unicorn", by, alone)


def eight(rounds: int, wall_seconds: float) -> Iterator[Row]:
    """The loop on eight pCPUs by the loop on one: each on a cache line of its own, and all on the same."""

    def measure(guest: str, pcpus: int) -> peers.Measure:
        def made(ms: float) -> Scenario:
            return cases.guest(guest, ms=ms, vcpus=pcpus, pcpus=pcpus)

        ms = peers.ms_for(lambda ms: cases.run(made(ms), skip=False).wall_seconds, wall_seconds)
        return lambda: cases.mips(cases.run(made(ms), skip=False))

    figures = peers.interleaved(
        {"one": measure("loop.S", 1), "own": measure("loop.S", 8), "same": measure("one_line.S", 8)}, rounds
    )
    for which, what in (("own", "a cache line each"), ("same", "all on one cache line")):
        values = [100 * one for one in peers.ratios(figures, which, "one")]
        yield Row(f"the same on 8 pCPUs, {what}", 50, True, "% of one", values, "`python -m benchmarks.targets eight`")


def exits(rounds: int, wall_seconds: float) -> Iterator[Row]:
    """PAUSE exits handled, of a spinner whose window stays at 4096."""
    ms = peers.ms_for(lambda ms: cases.run(cases.pause_exits(ms=ms)).wall_seconds, wall_seconds)
    done = [cases.run(cases.pause_exits(ms=ms)) for _ in range(rounds)]
    rates = [one.ple.exits / one.wall_seconds for one in done]
    yield Row("PAUSE exits, PLE at 4096", 1e6, True, "a second", rates, "`python -m benchmarks.targets exits`")


def testbed(rounds: int, wall_seconds: float) -> Iterator[Row]:
    """The testbed's speed, and its memory as a process."""
    alone = "`python -m benchmarks.targets testbed`"
    ms = max(200.0, peers.ms_for(lambda ms: cases.run(cases.testbed(ms=ms)).wall_seconds, 3 * wall_seconds))
    done = [cases.run(cases.testbed(ms=ms)) for _ in range(rounds)]
    emulated = [one.duration_ns / 1e9 / one.wall_seconds for one in done]
    yield Row("two-VM testbed, `vanilla`, trace off", 1, True, "emulated s a wall s", emulated, alone)
    peaks = [process(["run", "testbed"])[1] for _ in range(2)]
    yield Row("its peak memory, whole process", 300, False, "MB", peaks, "`/usr/bin/time -v pleemu run testbed`")


def size(rounds: int, wall_seconds: float) -> Iterator[Row]:
    """Cost per event of a large machine by that of a small one."""
    ms = 100.0 if wall_seconds < 1 else 300.0
    curves = [list(scale.curve(ms, scale.SIZES[:3])) for _ in range(min(rounds, 3))]
    values = [curve[2]["us_an_event"] / curve[0]["us_an_event"] for curve in curves]
    yield Row(
        "256 vCPUs on 64 pCPUs by 16 on 8, cost per event", 1.5, False, "×", values, "`python -m benchmarks.scale`"
    )


def start(rounds: int, wall_seconds: float) -> Iterator[Row]:
    """Whole processes: warm, and with nothing in the cache, which takes longest."""
    alone = "`time pleemu run case_study`"
    warm = [process(["run", "case_study"]) for _ in range(rounds + 1)][1:]
    yield Row("warm `pleemu run case_study`, whole process", 1.2, False, "s", [seconds for seconds, _ in warm], alone)
    cold = []
    for _ in range(1 if wall_seconds < 1 else 3):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(process(["run", "case_study"], cache)[0])
    yield Row("cold, whole process", 30, False, "s", cold, f"`PLEEMU_CACHE_DIR=$(mktemp -d)`, {alone}")


PARTS = {"unicorn": beside_unicorn, "eight": eight, "exits": exits, "testbed": testbed, "size": size, "start": start}


def table(rows: Iterable[Row]) -> None:
    """Print the lines as they are measured."""
    print("| what | target | median | least..largest | met | alone |\n|---|---|---|---|---|---|")
    for row in rows:
        print(row.shown(), flush=True)


def main() -> None:
    """Measure all of it, or the parts that are named."""
    quick = "--quick" in sys.argv
    asked = [name for name in sys.argv[1:] if name != "--quick"] or list(PARTS)
    if unknown := set(asked) - PARTS.keys():
        sys.exit(f"benchmarks.targets: {', '.join(sorted(unknown))}: no such part; use {', '.join(PARTS)} or --quick")
    rounds, wall_seconds = (3, 0.3) if quick else (7, 1.0)
    cases.run(cases.guest("loop.S", ms=0.01))  # compiles
    table(row for name in asked for row in PARTS[name](rounds, wall_seconds))


if __name__ == "__main__":
    main()
