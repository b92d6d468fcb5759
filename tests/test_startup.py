"""What a start imports: the compiler only where something is to be compiled."""

from __future__ import annotations

import subprocess
import sys

import pytest

SHOWN = "import sys; print(sorted({'numba', 'llvmlite'} & set(sys.modules)), file=sys.stderr)"


def compilers_after(*arguments):
    """Which of numba and llvmlite a command has imported."""
    program = f"from pleemu.cli import main; assert main({list(arguments)}) == 0; {SHOWN}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("command", ["--help", "run --help", "list policies", "list programs", "disasm case_study"])
def test_a_command_that_does_not_emulate_imports_no_compiler(command):
    """Neither numba nor LLVM; assembling has them in a process of its own."""
    assert compilers_after(*command.split()) == "[]"


def test_the_numba_rooms_import_without_numba():
    """The event loop and all that it calls; numba comes when something must be compiled."""
    done = subprocess.run(
        [sys.executable, "-c", f"import pleemu.machine.run, pleemu.machine.own; {SHOWN}"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == "[]"
