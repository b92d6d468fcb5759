"""pleemu beside other emulators, on the same machine code, interleaved in one run: `python -m benchmarks.peers`.

A round measures each emulator once, in turn, so that what else the machine does meets all of them. Figures are
medians over the rounds, with the least and the largest; ratios are taken round by round.

Only pleemu accounts cycles, cache lines and store buffers, and only pleemu runs several vCPUs in an exact order; of
the others QEMU in user mode has several, as threads of the host in the order in which that happens to run them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from typing import Any

from attrs import frozen

from benchmarks import cases
from benchmarks.emulators import PEERS, Rate
from benchmarks.guests_for_peers import guest
from pleemu.scenario import Scenario

Measure = Callable[[], float]
INSTRUCTIONS, ACQUISITIONS = "million guest instructions/s", "million acquisitions/s"
EMULATED = "emulated seconds/wall second"


@frozen
class Case:
    """The same loop for all."""

    guest: str
    unit: str
    a_round: int  # how many of the unit's a round of the loop is
    vcpus: int = 1
    skip: tuple[bool, ...] = (False, True)

    def scenario(self, ms: float) -> Scenario:
        """Return it as pleemu runs it."""
        return cases.guest(self.guest, ms=ms, vcpus=self.vcpus, pcpus=self.vcpus)


LOOP, SPIN, TICKET, TESTBED = "ten-instruction loop", "PAUSE spin", "contended ticket lock", "two-VM testbed"
CASES = {
    LOOP: Case("loop.S", INSTRUCTIONS, 10, skip=(False,)),
    SPIN: Case("bounded_spin.S", INSTRUCTIONS, 6),
    TICKET: Case("bounded_ticket.S", ACQUISITIONS, 1, vcpus=2),
}


def pleemu(case: Case, *, ms: float, skip: bool) -> float:
    """Return pleemu's figure in a case, in the case's unit."""
    done = cases.run(case.scenario(ms), skip=skip)
    return cases.mips(done) if case.unit == INSTRUCTIONS else done.vms[0].operations / done.wall_seconds / 1e6


def ms_for(measure: Callable[[float], float], wall_seconds: float) -> float:
    """Return how many ms to emulate so that it takes so long; ``measure`` gives the wall seconds of so many ms."""
    ms = 1.0
    while (spent := measure(ms)) < wall_seconds / 4 and ms < 100_000:
        ms *= 4
    return ms * max(1.0, wall_seconds / spent) if ms < 100_000 else ms


def own(case: Case, *, skip: bool, wall_seconds: float) -> Measure:
    """Return pleemu's measurement, of about such a length."""
    ms = ms_for(lambda ms: cases.run(case.scenario(ms), skip=skip).wall_seconds, wall_seconds)
    return lambda: pleemu(case, ms=ms, skip=skip)


def emulators(
    name: str, *, wall_seconds: float, only: tuple[str, ...] = tuple(PEERS)
) -> tuple[dict[str, Measure], dict[str, str]]:
    """Return who runs a case, and who does not, with the reason."""
    case = CASES[name]
    code = guest(case.guest)
    found: dict[str, Measure] = {}
    skipped: dict[str, str] = {}
    for skip in case.skip:
        found["pleemu, skipping" if skip else "pleemu"] = own(case, skip=skip, wall_seconds=wall_seconds)
    for who in only:
        seconds, vcpus, is_there, how_to_get = PEERS[who]
        if not is_there():
            skipped[who] = f"not installed: {how_to_get}"
        elif case.vcpus > vcpus:
            skipped[who] = f"runs {vcpus} vCPU here, not {case.vcpus}"
        else:
            one = Rate(seconds, code, case.vcpus, wall_seconds)
            found[who] = lambda one=one: one() * case.a_round / 1e6
    return found, skipped


def interleaved(measures: dict[str, Measure], rounds: int) -> dict[str, list[float]]:
    """Measure all of them in turn, so often; they are warm, having found out how long to run."""
    figures: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            figures[name].append(measure())
    return figures


def ratios(figures: dict[str, list[float]], of: str, to: str) -> list[float]:
    """Return the ratios of two, round by round."""
    return [a / b for a, b in zip(figures[of], figures[to], strict=True)]


def spread(values: list[float]) -> tuple[float, float, float]:
    """Return the median, the least and the largest."""
    return statistics.median(values), min(values), max(values)


def compare(name: str, *, quick: bool, rounds: int) -> dict[str, Any]:
    """Measure one case with all emulators that are there."""
    if name == TESTBED:
        figures, skipped, unit = (
            testbed(quick=quick, rounds=rounds),
            dict.fromkeys(PEERS, "no host in it that schedules"),
            EMULATED,
        )
    else:
        found, skipped = emulators(name, wall_seconds=0.3 if quick else 1.0)
        figures, unit = interleaved(found, rounds), CASES[name].unit
    return {
        "case": name,
        "unit": unit,
        "figures": {who: spread(values) for who, values in figures.items()},
        "by": {
            mine: {who: spread(ratios(figures, mine, who)) for who in figures if not who.startswith("pleemu")}
            for mine in figures
            if mine.startswith("pleemu")
        },
        "skipped": skipped,
    }


def testbed(*, quick: bool, rounds: int) -> dict[str, list[float]]:
    """Emulated seconds a wall second, of pleemu alone."""
    scenario = cases.testbed(ms=200 if quick else 1000)
    cases.run(scenario)

    def measure(skip: bool) -> float:
        done = cases.run(scenario, skip=skip)
        return done.duration_ns / 1e9 / done.wall_seconds

    return interleaved({"pleemu": lambda: measure(False), "pleemu, skipping": lambda: measure(True)}, rounds)


def show(result: dict[str, Any]) -> None:
    """Print one case as a table in Markdown."""
    figures, by, skipped = result["figures"], result["by"], result["skipped"]
    mine = list(by)
    print(f"\n{result['case']}\n\n| | {result['unit']} | {' | '.join(f'{one} is' for one in mine)} |")
    print("|---|---|" + "---|" * len(mine))
    for who, figure in figures.items():
        cells = [f"{shown(by[one][who])} ×" if who in by[one] else "" for one in mine]
        print(f"| {who} | {shown(figure)} | {' | '.join(cells)} |")
    for who, why in skipped.items():
        print(f"| {who} | {why} |{' |' * len(mine)}")
    sys.stdout.flush()


def shown(values: tuple[float, float, float]) -> str:
    """Return a median with its spread."""
    return "{} ({}..{})".format(*(f"{one:,.0f}" if one >= 100 else f"{one:.3g}" for one in values))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--quick", action="store_true", help="short runs, three rounds")
    given = parser.parse_args()
    results = []
    for name in (*CASES, TESTBED):
        results.append(compare(name, quick=given.quick, rounds=3 if given.quick else 7))
        if not given.json:
            show(results[-1])
    if given.json:
        print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
