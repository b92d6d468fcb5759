"""What compilers make of C: every instruction is in the table, and the guest computes what a processor does."""

from __future__ import annotations

import functools
import importlib.util
import platform
import shutil
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from made_machines import prepare_core

from pleemu.guest import load
from pleemu.hardware import isa
from pleemu.machine.build import build
from pleemu.machine.loop import STUCK, run_machine
from pleemu.policy import policy
from pleemu.scenario import Scenario, Vm

SOURCE = Path(__file__).parent / "guests" / "compiled.c"
C = ("-ffreestanding", "-mgeneral-regs-only", "-fno-pic", "-mno-red-zone", "-fno-stack-protector", "-mcmodel=kernel")
# zig drops -mgeneral-regs-only and -mno-sse, and adds checks of its own.
ZIG = ("--target=x86_64-freestanding-none", "-mcpu=x86_64+cx16+soft_float-sse-sse2-mmx-x87", "-fno-sanitize=all")
LANGUAGE = ("-std=gnu11", "-fwrapv", "-mcx16", "-w")
LEVELS = ("-O0", "-O1", "-O2", "-O3", "-Os")
MORE = {
    "-O2 with counting": ("-O2", "-mlzcnt", "-mpopcnt"),
    "-O2 with sahf": ("-O2", "-msahf", "-mtune=generic", "-fcf-protection"),
    "-Os with strings": ("-Os", "-minline-all-stringops", "-mtune=core2"),
    "-O3 for nehalem": ("-O3", "-march=nehalem", "-mgeneral-regs-only"),
}


def compiler(name):
    """The command that compiles C, or skip."""
    if name == "gcc" and shutil.which("gcc"):
        return ["gcc"]
    if name == "clang" and shutil.which("clang"):
        return ["clang", "--target=x86_64-unknown-none"]
    if name == "clang" and importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc", *ZIG]
    pytest.skip(f"{name} is not installed")


def compiled(folder, name, options):
    """The guest's object."""
    target = folder / "compiled.o"
    command = [*compiler(name), *C, *LANGUAGE, *options, "-c", "-o", str(target), str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return target


@functools.cache
def native_answers():
    """The answers of the processor that runs the tests."""
    if platform.machine() != "x86_64":
        pytest.skip("this is no x86-64 processor to compare with")
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "native"
        subprocess.run([*compiler("gcc"), *LANGUAGE, "-O1", "-DNATIVE", "-o", str(binary), str(SOURCE)], check=True)
        shown = subprocess.run([str(binary)], capture_output=True, text=True, check=True).stdout
    return [int(line, 16) for line in shown.split()]


def answers(path):
    """Run the guest to its end and read what it left."""
    image = load(path)
    scenario = Scenario(name="made", vm=(Vm(name="vm0", program=str(path), vcpus=1),), duration_ms=100.0)
    machine, _ = build(scenario, policy("vanilla"), {scenario.program_of(scenario.vm[0]): image}, recording=False)
    prepare_core()
    with np.errstate(over="ignore"):
        machine.run.progress = 1 << 62
        why = run_machine(machine)
    assert (why, int(machine.fault[0].kind)) == (STUCK, 0)
    start = image.address_of("answers") - image.base
    return image, machine.memory.view(np.uint64)[start // 8 :][: len(native_answers())].tolist()


@pytest.mark.parametrize(("name", "level"), [*product(("gcc", "clang"), LEVELS), *(("gcc", more) for more in MORE)])
def test_compiled_code_computes_what_a_processor_does(tmp_path, name, level):
    """Arithmetic of all widths, switches, strings, structures, bits, atomics and calls, at every level."""
    expected = native_answers()
    image, found = answers(compiled(tmp_path, name, MORE.get(level, (level,))))
    assert [hex(value) for value in found] == [hex(value) for value in expected]
    if level in ("-O0", "-O2"):
        assert {isa.OP_CMPXCHG_PAIR, isa.OP_DIV, isa.OP_IDIV, isa.OP_MOVS} <= set(image.instructions.op.tolist())
