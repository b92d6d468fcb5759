"""pleemu beside other emulators, on the same machine code, interleaved in one run: `python -m benchmarks.peers`.

A round runs each emulator once, in turn, so that what else the machine does meets all of them. Figures are
medians over the rounds, with the least and the largest. Unicorn runs without hooks. QEMU is qemu-x86_64, in user
mode: the whole process, on enough rounds of the loop that its start is small beside them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import cases
from benchmarks.guests_for_peers import Guest, guest

BASE, STACK, RETURN = 0x400000, 0x800000, 0xA00000

Measure = Callable[[], float]  # one measurement, in millions of guest instructions a second

# The same loop for all, and how often it goes round: PAUSE costs other emulators more.
CASES = {
    "ten-instruction loop": ("loop.S", 10, 10_000_000),
    "PAUSE spin, stepping": ("bounded_spin.S", 6, 2_000_000),
}


def unicorn(code: Guest, rounds: int) -> float:
    """Run a guest to its end in Unicorn."""
    from unicorn import UC_ARCH_X86, UC_MODE_64, Uc
    from unicorn.x86_const import UC_X86_REG_ECX, UC_X86_REG_RSP

    machine = Uc(UC_ARCH_X86, UC_MODE_64)
    for start in (BASE, STACK, RETURN):
        machine.mem_map(start, 0x10000)
    machine.mem_write(BASE, code.counting(rounds))
    machine.mem_write(STACK + 0x8000, RETURN.to_bytes(8, "little"))
    machine.reg_write(UC_X86_REG_RSP, STACK + 0x8000)
    began = time.perf_counter()
    machine.emu_start(BASE + code.entry, RETURN)
    seconds = time.perf_counter() - began
    assert machine.reg_read(UC_X86_REG_ECX) == 0, "the loop has not ended"
    return rounds * code.instructions_a_round / seconds / 1e6


def qemu_user(code: Guest, rounds: int) -> float:
    """Run a guest to its end in qemu-x86_64."""
    rounds *= 20
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "guest"
        path.write_bytes(code.executable(rounds))
        path.chmod(0o755)
        began = time.perf_counter()
        subprocess.run(["qemu-x86_64", str(path)], check=True)
    return rounds * code.instructions_a_round / (time.perf_counter() - began) / 1e6


def emulators(name: str, *, quick: bool) -> tuple[dict[str, Measure], dict[str, str]]:
    """Return who runs a case, and who does not, with the reason."""
    source, instructions, rounds = CASES[name]
    code = guest(source, instructions)
    rounds //= 10 if quick else 1
    scenario = cases.guest(source, ms=20 if quick else 200)
    found: dict[str, Measure] = {"pleemu": lambda: cases.mips(cases.run(scenario))}
    skipped = {"Bochs": "no boot image for it yet"}
    if importlib.util.find_spec("unicorn"):
        found["Unicorn"] = lambda: unicorn(code, rounds)
    else:
        skipped["Unicorn"] = "not installed: pip install unicorn"
    if shutil.which("qemu-x86_64"):
        found["QEMU"] = lambda: qemu_user(code, rounds)
    else:
        skipped["QEMU"] = "not installed: apt install qemu-user"
    return found, skipped


def interleaved(measures: dict[str, Measure], rounds: int) -> dict[str, list[float]]:
    """Measure all of them in turn, so often; the first turn warms up and is not counted."""
    figures: dict[str, list[float]] = {name: [] for name in measures}
    for turn in range(rounds + 1):
        for name, measure in measures.items():
            figure = measure()
            if turn:
                figures[name].append(figure)
    return figures


def ratios(figures: dict[str, list[float]], of: str, to: str) -> list[float]:
    """Return the ratios of two, round by round."""
    return [a / b for a, b in zip(figures[of], figures[to], strict=True)]


def spread(values: list[float]) -> tuple[float, float, float]:
    """Return the median, the least and the largest."""
    return statistics.median(values), min(values), max(values)


def compare(name: str, *, quick: bool, rounds: int) -> dict[str, Any]:
    """Measure one case with all emulators that are there."""
    found, skipped = emulators(name, quick=quick)
    figures = interleaved(found, rounds)
    return {
        "case": name,
        "unit": "million guest instructions/s",
        "figures": {who: spread(values) for who, values in figures.items()},
        "pleemu_by": {who: spread(ratios(figures, "pleemu", who)) for who in figures if who != "pleemu"},
        "skipped": skipped,
    }


def show(result: dict[str, Any]) -> None:
    """Print one case as a table."""
    figures, by, skipped = result["figures"], result["pleemu_by"], result["skipped"]
    print(f"\n{result['case']}: {result['unit']}, median (least..largest)")
    for who, (median, least, most) in figures.items():
        line = f"  {who:<8}{median:>10.1f}  ({least:.1f}..{most:.1f})"
        if who in by:
            line += "   pleemu is {:.2f} x ({:.2f}..{:.2f})".format(*by[who])
        print(line)
    for who, why in skipped.items():
        print(f"  {who:<8}   skipped: {why}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--quick", action="store_true", help="short runs, three rounds")
    given = parser.parse_args()
    results = []
    for name in CASES:
        results.append(compare(name, quick=given.quick, rounds=3 if given.quick else 7))
        if not given.json:
            show(results[-1])
    if given.json:
        print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
