"""Every line of the table of targets in README.md, measured: `python -m benchmarks.targets [--quick]`."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks import cases, peers, scale

COMMAND = "python -m benchmarks.targets"
PROGRAM = "import sys; from pleemu.cli import main; sys.exit(main({!r}))"


def process(arguments: list[str], cache: str | None = None) -> tuple[float, float]:
    """Run a command as a whole process; its wall seconds and its peak memory in MB."""
    environment = os.environ | ({"PLEEMU_CACHE_DIR": cache} if cache else {})
    began = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(arguments)], stdout=subprocess.DEVNULL, env=environment
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def row(what: str, target: str, values: list[float], unit: str) -> None:
    """Print one line: median, and least to largest."""
    print(f"| {what} | {target} | {statistics.median(values):.3g} {unit} | {min(values):.3g}..{max(values):.3g} |")
    sys.stdout.flush()


def main() -> None:
    """Measure all of it; the cold start last, since it takes longest."""
    quick = "--quick" in sys.argv
    rounds, ms = (3, 20) if quick else (7, 200)
    print("| what | target | median | least..largest |\n|---|---|---|---|")
    for name, target in (("ten-instruction loop", "≥ 4"), ("PAUSE spin, stepping", "≥ 5")):
        found, _ = peers.emulators(name, quick=quick)
        if "Unicorn" not in found:
            print(f"| {name} | {target} | skipped: Unicorn is not installed | |")
            continue
        both = {who: found[who] for who in ("pleemu", "Unicorn")}
        row(name, target, peers.ratios(peers.interleaved(both, rounds), "pleemu", "Unicorn"), "× Unicorn")
    one, eight = cases.guest("loop.S", ms=ms), cases.guest("loop.S", ms=ms / 8, vcpus=8, pcpus=8)
    figures = peers.interleaved(
        {
            "one": lambda: cases.mips(cases.run(one, skip=False)),
            "eight": lambda: cases.mips(cases.run(eight, skip=False)),
        },
        rounds,
    )
    row("the same on 8 pCPUs, in total", "≥ 50 %", [100 * one for one in peers.ratios(figures, "eight", "one")], "%")
    found, _ = peers.emulators("PAUSE spin, stepping", quick=quick)
    if "Unicorn" in found:
        spin = cases.guest("spin.S", ms=100_000)
        both = {"pleemu": lambda: cases.mips(cases.run(spin)), "Unicorn": found["Unicorn"]}
        row("PAUSE spin, skipping", "≥ 1000", peers.ratios(peers.interleaved(both, rounds), "pleemu", "Unicorn"), "×")
    done = [cases.run(cases.exits(ms=10 * ms)) for _ in range(rounds)]
    row("PAUSE exits, PLE at 4096", "≥ 1e6", [one.ple.exits / one.wall_seconds for one in done], "a second")
    testbed = [cases.run(cases.testbed(ms=10 * ms)) for _ in range(rounds)]
    emulated = [one.duration_ns / 1e9 / one.wall_seconds for one in testbed]
    row("testbed, vanilla, trace off", "≥ 1", emulated, "emulated s a wall s")
    curves = [scale.curve(5.0 if quick else 50.0) for _ in range(1 if quick else 3)]
    row("256 on 64 by 16 on 8, an event", "≤ 1.5", [c[2]["us_an_event"] / c[0]["us_an_event"] for c in curves], "×")
    warm = [process(["run", "case_study"]) for _ in range(rounds + 1)][1:]
    row("warm start, whole process", "≤ 1.2", [seconds for seconds, _ in warm], "s")
    row("peak memory, testbed", "≤ 300", [process(["run", "testbed", "--duration", "400ms"])[1]], "MB")
    with tempfile.TemporaryDirectory() as cache:
        row("cold start, whole process", "≤ 30", [process(["run", "case_study"], cache)[0]], "s")


if __name__ == "__main__":
    main()
