"""C to a run: what compilers make runs, and what they refuse reaches the user in the user's own terms."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_c_guests import COMPILERS, LEVELS, MAIN_C, load_c, needs_gcc, run_guest
from made_guests import write_guest
from made_machines import GUESTS

from pleemu import catalogue
from pleemu.cli import main
from pleemu.compiler import check_compiler, check_flags
from pleemu.errors import GuestError, ScenarioError
from pleemu.guest import compile as compiling
from pleemu.guest import load
from pleemu.hardware import isa
from pleemu.overrides import Overrides
from pleemu.scenario import from_dict

LOCK = GUESTS / "ticket_lock.c"
TABLES = (
    "volatile int x; void guest_main(long n) { switch (n & 7) { case 0: x = 3; break; case 1: x = 9; break; "
    "case 2: x = 27; break; case 3: x += 5; break; case 4: x -= 7; break; case 5: x ^= 8; break; "
    "case 6: x |= 1; break; default: x = 1; } }"
)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_lock_in_c_keeps_its_counter_exact(compiler: str, level: str) -> None:
    """However it is compiled, on 2 to 8 vCPUs, one or several a pCPU, no increment is lost."""
    for vcpus, pcpus in ((2, 2), (5, 2), (8, 4)):
        result = run_guest(LOCK, cc=compiler, cflags=level, vcpus=vcpus, pcpus=pcpus, duration="60ms")
        assert result.ended == "all vCPUs have returned from guest_main"
        assert result.vms[0].operations == 1


@pytest.mark.parametrize("compiler", COMPILERS)
def test_broken_lock_in_c_loses_increments(compiler: str) -> None:
    """The guest's own check can fail: without waiting for its turn the counter is wrong."""
    result = run_guest(LOCK, cc=compiler, cflags="-DBROKEN", vcpus=4, pcpus=4, duration="60ms")
    assert result.ended == "all vCPUs have returned from guest_main"
    assert result.vms[0].operations == 0


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_interrupt_handler_in_c_answers_every_ipi(compiler: str, level: str) -> None:
    """A handler that the compiler ends with iretq wakes a sleeper, on its own pCPU or on the sender's."""
    for pcpus in (1, 2):
        result = run_guest(GUESTS / "interrupt.c", cc=compiler, cflags=level, pcpus=pcpus, duration="200ms")
        assert result.ended == "all vCPUs have returned from guest_main"
        assert result.vms[0].operations == 20


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_every_instruction_of_c_knows_its_line(compiler: str, level: str, tmp_path: Path) -> None:
    """The line table, of whichever DWARF version, gives each line of code, and no line that has none."""
    text = "int a;\nvoid f(void)\n{\n    a = 1;\n}\nvoid guest_main(void)\n{\n    f();\n}\n"
    image = load_c(tmp_path, text, cc=compiler, cflags=f"{level} -fno-omit-frame-pointer")
    addresses = [int(record.address) for record in image.instructions[1:]]
    nops = {int(record.address) for record in image.instructions if record.op == isa.OP_NOP}
    lines = {image.source_at(address) for address in addresses if address not in nops}
    assert "guest.c:4" in lines
    assert lines <= {f"guest.c:{number}" for number in range(2, 10)}


@pytest.mark.parametrize("compiler", COMPILERS)
def test_included_lines_are_those_of_the_included_file(compiler: str, tmp_path: Path) -> None:
    """Code from a header beside the source, or below it, is named by the way to that header."""
    (tmp_path / "inner").mkdir()
    write_guest(tmp_path / "inner", "static inline void spin(void)\n{\n    __builtin_ia32_pause();\n}\n", "spin.h")
    image = load_c(tmp_path, '#include "inner/spin.h"\nvoid guest_main(void) { spin(); }\n', cc=compiler)
    pauses = [int(record.address) for record in image.instructions if record.op == isa.OP_PAUSE]
    assert [image.source_at(address) for address in pauses] == ["inner/spin.h:3"]


@pytest.mark.parametrize("compiler", COMPILERS)
def test_jump_table_is_followed(compiler: str, tmp_path: Path) -> None:
    """The cases of a switch are reached through its table, in data that names them."""
    image = load_c(tmp_path, TABLES, cc=compiler)
    stored = [
        image.text_of(index) for index, record in enumerate(image.instructions) if record.op == isa.OP_JMP_INDIRECT
    ]
    if stored:
        assert image.linked.code_pointers
        assert all(image.index_of[target - image.base] >= 0 for target in image.linked.code_pointers)
    for vcpus in (2, 8):
        write_guest(tmp_path, TABLES, "guest.c")
        assert run_guest(tmp_path / "guest.c", cc=compiler, vcpus=vcpus, duration="5ms").ended.startswith("all vCPUs")


@needs_gcc
@pytest.mark.parametrize(
    ("text", "flags", "expected"),
    [
        ("void guest_main(void) {\n  x = 1;\n}\n", "", "guest.c:2:3: error: 'x' undeclared"),
        ('#include "absent.h"\n', "", "guest.c:1:10: fatal error: absent.h: No such file"),
        ("#error no\n" * 100, "", "more lines"),
        ("", "", "guest.c: is empty"),
        ("void main(void) {}\n", "", "guest.c: has no guest_main"),
        (
            'void guest_main(void) {\n  __asm__("movaps %xmm0, %xmm1");\n}\n',
            "",
            "guest.c:2: 'movaps xmm1, xmm0' at guest_main",
        ),
        ("double d;\nvoid guest_main(void) { d = 2 * d; }\n", "-msse2", "guest.c:2"),
        ("void take(void); void tame(void) {}\nvoid guest_main(void) { take(); }\n", "", "did you mean 'tame'?"),
        ("_Thread_local int x = 1; int guest_main(void) { return x; }\n", "", "is thread-local"),
        (
            "__attribute__((constructor)) void f(void) { __builtin_ia32_pause(); }\nvoid guest_main(void) {}\n",
            "",
            "no start-up code",
        ),
        (MAIN_C, "-march=nonsense", "bad value"),
        (MAIN_C, "-fplugin=x.so", "cflags: compiler flag '-fplugin=x.so' is not possible"),
        (MAIN_C, "'", "cannot be split into flags"),
    ],
)
def test_what_is_wrong_with_c_is_one_clear_message(
    text: str,
    flags: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Compiler, linker and decoder speak of the user's own file and line; exit code 2, no traceback."""
    write_guest(tmp_path, text, "guest.c")
    monkeypatch.chdir(tmp_path)
    assert main(["run", "guest.c", "--cc", "gcc", f"--cflags={flags}"]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("pleemu: error: ")
    assert expected in printed.err
    assert not printed.out


@needs_gcc
def test_errors_in_a_folder_elsewhere_are_named_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler runs in the source's folder, but its messages name files as the user did."""
    (tmp_path / "locks").mkdir()
    write_guest(tmp_path / "locks", "int f(void) { return y; }\n", "bad.h")
    write_guest(tmp_path / "locks", '#include "bad.h"\n', "guest.c")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GuestError) as error:
        load(Path("locks/guest.c"))
    assert "In file included from locks/guest.c:1:" in str(error.value)
    assert "locks/bad.h:1:22: error: 'y' undeclared" in str(error.value)


def test_missing_compiler_is_told_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any compiler, or without the one that is named, the message says what would help."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda _: None)
    for name, expected in (("auto", "no C compiler was found; install gcc"), ("gcc-99", "'gcc-99' was not found")):
        with pytest.raises(GuestError, match=expected):
            load_c(tmp_path, MAIN_C, cc=name)


@pytest.mark.skipif(not shutil.which("ps"), reason="ps is not installed")
def test_endless_compiler_is_ended_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that takes too long is stopped, and so is what it started."""
    (tmp_path / "bin").mkdir()
    fake = write_guest(tmp_path / "bin", f"#!/bin/sh\necho $$ >{tmp_path}/pid\nsleep 100 &\nwait\n", "gcc")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(compiling, "TIME_LIMIT", 0.3)
    with pytest.raises(GuestError, match="to compile; is an include"):
        load_c(tmp_path, MAIN_C, cc="gcc")
    listed = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
    alive = {line.split()[0] for line in listed.splitlines() if "Z" not in line}
    assert (tmp_path / "pid").read_text().strip() not in alive


@needs_gcc
def test_endless_include_ends_in_an_error(tmp_path: Path) -> None:
    """A source that includes what has no end is an error of its own, not of the machine."""
    with pytest.raises(GuestError, match=r"guest\.c"):
        load_c(tmp_path, '#include "guest.c"\n')


@pytest.mark.parametrize(
    "flags", ["-O0", "-O3 -DN=9 '-DTEXT=a b'", "-I../include -std=gnu11 -Wall -Wextra -g3", "-mtune=native -fno-inline"]
)
def test_flags_that_translate_are_taken(flags: str) -> None:
    """What changes the translation alone is allowed."""
    check_flags(flags)


@pytest.mark.parametrize(
    "flag",
    [
        *(
            "-fplugin=x.so",
            "-fpass-plugin=x",
            "-B.",
            "-wrapper",
            "-specs=x",
            "@file",
            "-o",
            "x.c",
            "-fdump-tree-all=/tmp/x",
        ),
        *("-Wl,-x", "-Wa,-x", "-Wp,-MD,x", "-MD", "-save-temps", "-Xclang", "-mllvm", "-fuse-ld=x", "-ftime-trace=/x"),
        *(
            "-E",
            "-S",
            "-x",
            "-include",
            "-imacros",
            "-flto",
            "-fpie",
            "-fPIC",
            "-gz",
            "-fprofile-use=x",
            "--sysroot=/",
            "-",
        ),
    ],
)
def test_flags_that_do_more_are_refused(flag: str) -> None:
    """A scenario cannot load code into the compiler, call a program, read options or write files by its flags."""
    with pytest.raises(ScenarioError, match="is not possible here"):
        check_flags(flag)


@given(name=st.text(max_size=20) | st.from_regex(r"[./]*(gcc|clang|sh)[ /;-]*[a-z0-9]*", fullmatch=True))
def test_compiler_is_a_name_and_never_a_path(name: str) -> None:
    """Whatever a scenario calls its compiler, nothing is taken that has a separator, a space or an option."""
    try:
        check_compiler(name)
    except ScenarioError:
        return
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-")
    assert not name.startswith((".", "-"))


def test_compiler_flags_and_files_are_part_of_the_scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's JSON holds the files, the compiler and the flags, so that the run can be repeated."""
    (tmp_path / "sub").mkdir()
    for name in ("main.c", "sub/lock.S"):
        write_guest(tmp_path, "", name)
    monkeypatch.chdir(tmp_path)
    scenario = Overrides(cc="gcc-12", cflags="-O0 -DX=1").apply(catalogue.find("main.c", "sub/lock.S"))
    vm = scenario.vm[0]
    assert (vm.program, vm.cc, vm.cflags) == (("main.c", "sub/lock.S"), "gcc-12", "-O0 -DX=1")
    assert scenario.program_of(vm).paths == (Path("main.c"), Path("sub/lock.S"))
    assert from_dict(scenario.to_dict(), folder=scenario.folder) == scenario
    assert Overrides(fields={"vm.0.program": "b.c, c.o"}).apply(scenario).vm[0].program == ("b.c", "c.o")


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("[]", "neither a file's name"),
        ("[1]", "neither a file's name"),
        ('["a.c", ""]', "is empty"),
        ("7", "neither a file's name"),
    ],
)
def test_program_is_a_name_or_a_list_of_names(program: str, expected: str, tmp_path: Path) -> None:
    """A program field of another kind is told with its place."""
    path = write_guest(tmp_path, f'[[vm]]\nname = "a"\nprogram = {program}\n', "a.toml")
    with pytest.raises(ScenarioError, match=rf"vm\.0\.program: .*{expected}"):
        catalogue.find(str(path))


OBJECTS = {
    "main.c": "void acquire(void); extern int shared;\nvoid guest_main(void)\n{\n    acquire(); shared++;\n}\n",
    "lock.S": ".globl acquire\nacquire:\n    pause\n    ret\n",
    "data.c": "int shared = 5;\n",
}


@needs_gcc
@settings(max_examples=6)
@given(order=st.permutations(sorted(OBJECTS)))
def test_files_of_a_guest_are_linked_in_any_order(order: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Assembly, C and objects make one guest, and each instruction knows its own file."""
    folder = tmp_path_factory.mktemp("files")
    for name, text in OBJECTS.items():
        write_guest(folder, text, name)
    image = load(*(folder / name for name in order))
    sources = {image.source_at(int(record.address)) for record in image.instructions}
    assert {"main.c:4", "lock.S:3", "lock.S:4"} <= sources
    assert image.address_of("shared") is not None


@needs_gcc
def test_archive_gives_what_is_needed_of_it(tmp_path: Path) -> None:
    """Of a library's members only those are linked that something refers to, also through each other."""
    members = {
        "a_member_with_a_long_name.c": "void inner(void); void outer(void) { inner(); }\n",
        "inner.c": "void inner(void) { __builtin_ia32_pause(); }\n",
        "unused.c": "void absent(void); void unused(void) { absent(); }\n",
    }
    for name, text in members.items():
        write_guest(tmp_path, text, name)
    subprocess.run(["gcc", "-c", "-O2", "-fno-pic", *members], cwd=tmp_path, check=True)
    objects = [name.replace(".c", ".o") for name in members]
    subprocess.run(["ar", "rc", "lib.a", *objects], cwd=tmp_path, check=True)
    subprocess.run(["ar", "rcT", "thin.a", *objects], cwd=tmp_path, check=True)
    main_c = write_guest(tmp_path, "void outer(void); void guest_main(void) { outer(); }\n", "main.c")
    image = load(main_c, tmp_path / "lib.a")
    assert image.address_of("inner") is not None
    assert image.address_of("unused") is None
    with pytest.raises(GuestError, match=r"thin\.a: is a thin archive"):
        load(main_c, tmp_path / "thin.a")
    whole = (tmp_path / "lib.a").read_bytes()
    (tmp_path / "lib.a").write_bytes(whole[:-200])
    with pytest.raises(GuestError, match=r"lib\.a.*not a readable"):
        load(main_c, tmp_path / "lib.a")


def test_local_names_in_probes_are_those_of_their_own_object(tmp_path: Path) -> None:
    """Two objects with a variable of one name each have probes that read their own."""
    probe = '.include "pleemu.inc"\n.globl {f}\n{f}: probe_operand work, "8@mine(%rip)"\nret\n.data\nmine: .quad {n}\n'
    for name, value in (("one", 100), ("two", 200)):
        write_guest(tmp_path, probe.format(f=name, n=value), f"{name}.S")
    write_guest(tmp_path, ".globl guest_main\nguest_main: call one\ncall two\nret\n", "main.S")
    image = load(tmp_path / "main.S", tmp_path / "one.S", tmp_path / "two.S")
    probes = [int(r.displacement) % (1 << 64) for r in image.instructions if r.op == isa.OP_PROBE]
    values = [int.from_bytes(image.memory[at - image.base :][:8].tobytes(), "little") for at in probes]
    assert values == [100, 200]


LIBRARY_CALLS = r"""
#include "pleemu.h"
void *memcpy(void *, const void *, unsigned long);
void *memmove(void *, const void *, unsigned long);
void *memset(void *, int, unsigned long);
int memcmp(const void *, const void *, unsigned long);
int bcmp(const void *, const void *, unsigned long);
unsigned long strlen(const char *);
int __popcountdi2(unsigned long);
static char text[80] = "0123456789abcdefghijklmnopqrstuvwxyz", copy[80];

void guest_main(void)
{
    int right = memcpy(copy, text, 37) == copy && strlen(copy) == 36 && strlen("") == 0;
    right = right && memcmp(copy, text, 80) == 0 && memcmp(copy, text, 0) == 0;
    right = right && memmove(copy + 3, copy, 37) == copy + 3 && memcmp(copy, "0120123456789abc", 16) == 0;
    right = right && memmove(copy, copy + 3, 37) == copy && memcmp(copy, text, 37) == 0;
    right = right && memset(copy + 1, 0x180, 5) == copy + 1 && copy[0] == '0' && (unsigned char)copy[5] == 0x80;
    right = right && copy[6] == '6' && memcmp("\200", "a", 1) > 0 && memcmp("ab", "ac", 2) < 0 && bcmp("x", "y", 1);
    right = right && __popcountdi2(0xf0f0000000000001) == 9 && __popcountdi2(0) == 0;
    if (right)
        operation_done();
}
"""


@needs_gcc
@pytest.mark.parametrize("level", LEVELS)
def test_functions_that_compilers_call_are_there(tmp_path: Path, level: str) -> None:
    """Memcpy and its kin do what ISO C says, whether they are called or expanded."""
    path = write_guest(tmp_path, LIBRARY_CALLS, "guest.c")
    assert run_guest(path, cc="gcc", cflags=f"{level} -fno-builtin").vms[0].operations == 1


@needs_gcc
def test_own_definition_of_a_library_function_is_taken(tmp_path: Path) -> None:
    """A guest that brings its memset keeps it, even where another function comes from the library."""
    own = LIBRARY_CALLS.replace(
        "void guest_main", "void *memset(void *to, int v, unsigned long n) { return 0; }\nvoid guest_main"
    )
    path = write_guest(tmp_path, own, "guest.c")
    assert run_guest(path, cc="gcc", cflags="-fno-builtin").vms[0].operations == 0


HANDLED = r"""
#include "pleemu.h"
static volatile unsigned long seen[4];
static pleemu_handler(handler)
{
    seen[this_vcpu()]++;
    eoi();
}
pleemu_vector(0x50, handler);

void guest_main(unsigned long vcpu, unsigned long vcpus)
{
    (void)vcpus;
    enable_interrupts();
    self_ipi(0x50);
    while (seen[vcpu] != 1)
        cpu_relax();
    operation_done();
    if (vcpu == 0) {
        while (seen[1] != 1 || seen[2] != 1)
            cpu_relax();
        send_ipis(3 << 18 | 0x50); /* all but self */
    } else {
        while (seen[vcpu] != 2)
            cpu_relax();
        operation_done();
    }
}
"""


@needs_gcc
def test_a_handler_knows_its_vcpu(tmp_path: Path) -> None:
    """Self IPIs and a broadcast from C reach their vCPUs, which know their own numbers."""
    found = run_guest(write_guest(tmp_path, HANDLED, "guest.c"), vcpus=3, pcpus=3, duration="5ms")
    assert found.ended == "all vCPUs have returned from guest_main"
    assert found.vms[0].operations == 5
