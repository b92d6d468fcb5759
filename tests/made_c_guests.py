"""C guests for tests, and what compiles them here."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest
from made_guests import write_guest
from made_machines import prepare_core

from pleemu import catalogue
from pleemu.guest import load
from pleemu.guest.compile import FLAGS
from pleemu.guest.source import LIBRARY
from pleemu.machine.result import Run
from pleemu.machine.run import simulate
from pleemu.overrides import Overrides

GCC = pytest.param("gcc", marks=pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is not installed"))
ZIGLANG = pytest.param(
    "ziglang", marks=pytest.mark.skipif(not importlib.util.find_spec("ziglang"), reason="ziglang is not installed")
)
CLANG = pytest.param("clang", marks=pytest.mark.skipif(not shutil.which("clang"), reason="clang is not installed"))
COMPILERS = (GCC, CLANG, ZIGLANG)
LEVELS = ("-O0", "-O1", "-O2", "-O3", "-Os")
needs_gcc = GCC.marks[0]

MAIN_C = "void guest_main(void) { for (;;) __builtin_ia32_pause(); }\n"


def run_guest(*names: str | Path, fields: dict[str, str] | None = None, **changes: object) -> Run:
    """Run a guest of one file or several as the command line does."""
    prepare_core()
    scenario = Overrides(**changes, fields=fields or {}).apply(catalogue.find(*map(str, names)))
    return simulate(scenario)


def load_c(folder: Path, text: str, **more: str):
    """Compile, link and decode C source."""
    return load(write_guest(folder, text, "guest.c"), **more)


def build_executable(folder: Path, text: str, *flags: str, name: str = "guest") -> Path:
    """Link C source with gcc to an executable that begins at guest_main."""
    source = write_guest(folder, text, f"{name}.c")
    given = [flag for flag in FLAGS if flag not in ("-mcmodel=kernel", "-static")]
    link = ["-nostdlib", "-no-pie", "-Wl,-e,guest_main", "-Wl,--build-id=none", "-Wl,-z,max-page-size=4096"]
    command = ["gcc", *given, f"-I{LIBRARY}", *link, "-static", *flags, "-o", str(folder / name), str(source)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return folder / name
