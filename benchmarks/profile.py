"""Where the core's time goes, by function: `python -m benchmarks.profile [loop | eight | testbed | spin]`.

Samples by Linux' perf (Debian: linux-perf) of one case run again and again, of which only the core's own machine code
is counted. perf learns the names of its functions from a map that is written when the code is loaded.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import cases
from pleemu import machine_code

SECONDS = 5.0
CASES: dict[str, Callable[[], Any]] = {
    "loop": lambda: cases.run(cases.guest("loop.S", ms=100), skip=False),
    "eight": lambda: cases.run(cases.guest("loop.S", ms=20, vcpus=8, pcpus=8), skip=False),
    "spin": lambda: cases.run(cases.guest("spin.S", ms=200), skip=False),
    "testbed": lambda: cases.run(cases.testbed(ms=200)),
}


def write_map(content: bytes, address_of: Callable[[str], int]) -> None:
    """Tell perf the names of the functions in an object that has been loaded (Linux, tools/perf jit-interface)."""
    from elftools.elf.elffile import ELFFile

    name, code = content.split(b"\n", 1)
    table: Any = ELFFile(io.BytesIO(code)).get_section_by_name(".symtab")
    functions = [one for one in table.iter_symbols() if one["st_info"]["type"] == "STT_FUNC"]
    (entry,) = (one for one in functions if one.name == name.decode())
    base = address_of(name.decode()) - entry["st_value"]
    with Path(f"/tmp/perf-{os.getpid()}.map").open("w") as file:
        for one in functions:
            if one["st_shndx"] == entry["st_shndx"]:
                file.write(f"{base + one['st_value']:x} {one['st_size']:x} core:{readable(one.name)}\n")


def readable(mangled: str) -> str:
    """Return module and function of numba's name for it: `hardware.execute.execute`."""
    parts, rest = [], mangled.removeprefix("_ZN")
    while (found := re.match(r"(\d+)", rest)) is not None:
        length, rest = int(found[1]), rest[found.end() :]
        parts.append(rest[:length])
        rest = rest[length:]
    return ".".join(parts[1:]) or mangled[:60]


def child(case: str) -> None:
    """Run the case for a while, with a map for perf."""
    import time

    load = machine_code._load

    def load_and_tell(content: bytes) -> Any:
        engine, function = load(content)
        write_map(content, engine.get_function_address)
        return engine, function

    machine_code._load = load_and_tell
    until = time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        CASES[case]()


def main() -> None:
    """Sample, and print the core's functions with one sample in two hundred or more."""
    case = sys.argv[1] if len(sys.argv) > 1 else "testbed"
    if case not in CASES:
        sys.exit(f"{case!r} is no case; use one of {', '.join(CASES)}")
    if shutil.which("perf") is None:
        sys.exit("perf is not installed: apt install linux-perf")
    CASES[case]()  # compiles
    with tempfile.TemporaryDirectory() as folder:
        data = f"{folder}/data"
        record = ["perf", "record", "-q", "-F", "2000", "-e", "cpu-clock", "-o", data]
        subprocess.run([*record, sys.executable, "-m", "benchmarks.profile", "--child", case], check=True)
        report = ["perf", "report", "-i", data, "--stdio", "--no-children", "-F", "sample,sym", "-q"]
        done = subprocess.run(report, check=True, capture_output=True, text=True)
    found = re.findall(r"^\s*(\d+)\s+\[\.\] core:(\S+)", done.stdout, re.MULTILINE)
    total = sum(int(count) for count, _ in found)
    print(f"{case}: {total} samples in the core")
    for count, name in found:
        if int(count) * 200 >= total:
            print(f"{100 * int(count) / total:6.1f} %  {name}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2])
    else:
        main()
