"""Cost and memory against the machine's size: `python -m benchmarks.scale`, one process for each size."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator

SIZES = ((16, 8, 2), (64, 16, 4), (256, 64, 16), (1000, 128, 20))  # vCPUs, pCPUs, VMs


def measure(vcpus: int, pcpus: int, vms: int, ms: float) -> dict[str, float]:
    """Run one size; an event is what the digest is over, counted in a first run."""
    from benchmarks import cases
    from pleemu.machine.run import load_programs, simulate

    scenario = cases.contended(vcpus, pcpus, ms=ms, vms=vms)
    programs = load_programs(scenario)
    events = 0

    def count(some: object) -> None:
        nonlocal events
        events += len(some)  # type: ignore[arg-type]

    done = simulate(scenario, programs=programs)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = sorted([done.wall_seconds, *(simulate(scenario, programs=programs).wall_seconds for _ in range(4))])[2]
    traced = simulate(scenario, programs=programs, events=count)
    assert traced.digest == done.digest
    return {
        "vcpus": vcpus, "pcpus": pcpus, "vms": vms, "events": events, "us_an_event": seconds / events * 1e6,
        "emulated_ms": ms, "wall_s": seconds, "peak_mb": peak_mb,
    }  # fmt: skip


def curve(ms: float, sizes: tuple[tuple[int, int, int], ...] = SIZES) -> Iterator[dict[str, float]]:
    """Measure sizes, one after the other."""
    for size in sizes:
        command = [sys.executable, "-m", "benchmarks.scale", "--one", *map(str, (*size, ms))]
        yield json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["--one"]:
        vcpus, pcpus, vms = map(int, sys.argv[2:5])
        print(json.dumps(measure(vcpus, pcpus, vms, float(sys.argv[5]))))
        return
    print(f"{'vCPUs':>6}{'pCPUs':>6}{'VMs':>5}{'events':>9}{'us/event':>10}{'wall s':>9}{'peak MB':>9}")
    for row in curve(100.0 if "--quick" in sys.argv else 300.0):
        print(
            f"{row['vcpus']:>6}{row['pcpus']:>6}{row['vms']:>5}{row['events']:>9}{row['us_an_event']:>10.2f}"
            f"{row['wall_s']:>9.2f}{row['peak_mb']:>9.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
