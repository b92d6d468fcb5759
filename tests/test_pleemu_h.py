"""pleemu.h in real programs: it compiles without a warning, its probes are nops, and tools read their notes."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from made_c_guests import COMPILERS, load_c
from made_guests import make_guest, write_guest

from pleemu.guest.probes import read_notes
from pleemu.guest.source import LIBRARY
from pleemu.hardware import isa

ZIG = [sys.executable, "-m", "ziglang"]
NATIVE = [
    pytest.param(command, marks=pytest.mark.skipif(not found, reason=f"{command[0]} is not installed"), id=name)
    for name, command, found in (
        ("gcc", ["gcc"], shutil.which("gcc")),
        ("g++", ["g++", "-x", "c++"], shutil.which("g++")),
        ("clang", ["clang"], shutil.which("clang")),
        ("zig cc", [*ZIG, "cc"], importlib.util.find_spec("ziglang")),
        ("zig c++", [*ZIG, "c++", "-x", "c++"], importlib.util.find_spec("ziglang")),
    )
]

PROGRAM = r"""
#include <stdio.h>
#include "pleemu.h"

static unsigned int lock;
static unsigned char small = 7;
static long far = -3;
PLEEMU_PARAMETER(rounds, 100);
PLEEMU_DISTRIBUTION(hold, 4200);

static inline void all(int number, unsigned long *state)
{
    lock_wait(&lock);
    lock_acquired(&lock);
    work(number);
    work(small);
    work(far);
    work(1000UL);
    work(-1);
    lock_released(&lock);
    ipi_wait(number);
    ipi_acked(2u);
    operation_done();
    cpu_relax();
    pleemu_random(state);
}

int main(int argc, char **argv)
{
    unsigned long state = pleemu_random_init(0, 1);
    unsigned long before = rdtsc();

    all(argc, &state);
    all(argc + 1, &state);
    printf("%d %lu %s\n", rdtsc() >= before, state, argv[1]);
    return pleemu_parameter(rounds) != 100 || pleemu_draw(hold, &state) != 4200;
}
"""
NAMES = ["lock_wait", "lock_acquired", *["work"] * 5, "lock_released", "ipi_wait", "ipi_acked", "operation_done"]


def xorshift64(state: int) -> int:
    for shift in (13, -7, 17):
        state ^= (state << shift if shift > 0 else state >> -shift) & (1 << 64) - 1
    return state


@pytest.mark.parametrize("level", ["-O0", "-O2", "-O3"])
@pytest.mark.parametrize("command", NATIVE)
def test_real_program_runs_with_probes_that_readelf_lists(command: list[str], level: str, tmp_path: Path) -> None:
    """An ordinary program, position-independent as it is, compiles without warnings, runs, and has its notes."""
    source = write_guest(tmp_path, PROGRAM, "program.c")
    flags = ["-Wall", "-Wextra", "-Werror", "-pedantic", level, f"-I{LIBRARY}"]
    program = tmp_path / "program"
    subprocess.run([*command, *flags, "-o", str(program), str(source)], check=True, capture_output=True, text=True)
    done = subprocess.run([program, "text"], capture_output=True, text=True, check=True)
    first = 0x9E3779B97F4A7C15 & (1 << 64) - 1 | 1
    assert done.stdout == f"1 {xorshift64(xorshift64(first))} text\n"
    if not shutil.which("readelf"):
        return
    notes = subprocess.run(["readelf", "-n", program], capture_output=True, text=True, check=True).stdout
    names = re.findall(r"Provider: pleemu\n\s+Name: (\w+)", notes)
    assert sorted(set(names)) == sorted(set(NAMES))
    assert len(names) % len(NAMES) == 0
    arguments = re.findall(r"Provider: pleemu\n\s+Name: (\w+)\n.*\n\s+Arguments: ?(.*)", notes)
    sizes = {"lock_wait": "8", "lock_acquired": "8", "lock_released": "8", "ipi_wait": "-4", "ipi_acked": "4"}
    for name, argument in arguments:
        assert name == "work" or argument.partition("@")[0].strip() == sizes.get(name, ""), (name, argument)
    works = {argument.partition("@")[0] for name, argument in arguments if name == "work"}
    assert works == {"-4", "8", "-8"}


@pytest.mark.parametrize("level", ["-O1", "-O2", "-O3", "-Os"])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_probes_of_c_are_those_of_assembly(compiler: str, level: str, tmp_path: Path) -> None:
    """In a guest each probe becomes what the macro of pleemu.inc becomes, with the operand's size and sign."""
    plain = ("lock_wait", "lock_acquired", "lock_released", "lock_wait_over", "barrier_wait", "barrier_passed")
    names = (*plain, "ipi_wait", "ipi_acked", "work")
    manners = ("lock_wait_in_order", "lock_wait_shared", "lock_wait_in_order_shared", "lock_acquired_shared")
    body = "".join(f"{name}(n);" for name in (*names, *manners))
    text = f'#include "pleemu.h"\nvoid guest_main(long n) {{ {body} operation_done(); work(5); work((int)n); }}\n'
    in_c = load_c(tmp_path, text, cc=compiler, cflags=level)
    macros = "\n".join(f"{name} rdi" for name in names)
    signed = 'probe_operand work, "-4@$5"\nprobe_operand work, "-4@%edi"\n'
    further = (
        "lock_wait rdi, in_order\nlock_wait rdi, shared\nlock_wait rdi, in_order_shared\nlock_acquired rdi, shared"
    )
    text = f'.include "pleemu.inc"\n{macros}\n{further}\noperation_done\n{signed}ret\n'
    in_assembly = make_guest(tmp_path, text)
    found = [
        [(int(one.probe), int(one.width), int(one.manner)) for one in image.instructions if one.op == isa.OP_PROBE]
        for image in (in_c, in_assembly)
    ]
    assert found[0] == found[1]
    assert all(note.provider == "pleemu" for note in read_notes(in_c.linked))
    immediates = [
        int(one.immediate) for one in in_c.instructions if one.op == isa.OP_PROBE and one.src_kind == isa.IMMEDIATE
    ]
    assert immediates == [5]


def test_prefix_only_leaves_short_names_alone(tmp_path: Path) -> None:
    """A program with names of its own can have the header's long names only."""
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed")
    text = '#define PLEEMU_PREFIX_ONLY\n#include "pleemu.h"\nint work(int x) { pleemu_work(x); return x; }\n'
    source = write_guest(tmp_path, text, "own.c")
    command = ["gcc", "-Wall", "-Wextra", "-Werror", "-c", f"-I{LIBRARY}", "-o", str(tmp_path / "own.o"), str(source)]
    subprocess.run(command, check=True)
