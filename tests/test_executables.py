"""Static executables: memory, entry and code as another linker left them."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st
from made_c_guests import MAIN_C, build_executable, needs_gcc, run_guest
from made_guests import write_guest
from made_machines import GUESTS

from pleemu.cli import main
from pleemu.errors import GuestError, GuestFault
from pleemu.guest import load
from pleemu.guest.build import build
from pleemu.hardware import isa

pytestmark = needs_gcc

TICKET = (GUESTS / "ticket_lock.c").read_text()
SWITCH = """
volatile int x;
void guest_main(long n)
{
    switch (n & 7) {
    case 0: x = 3; break;
    case 1: x = 9; break;
    case 2: x = 27; break;
    case 3: x += 5; break;
    case 4: x -= 7; break;
    case 5: x ^= 8; break;
    case 6: x |= 1; break;
    default: x = 1;
    }
}
"""


def test_executable_is_loaded_as_its_segments_say(tmp_path: Path) -> None:
    """Each byte of each segment is in memory at its address, the rest is zero; the stub has a page of its own below."""
    path = build_executable(tmp_path, TICKET + "int filled[100] = {1, 2, 3}; const int fixed[9] = {4, 5};\n")
    image = load(path)
    elf = ELFFile(io.BytesIO(path.read_bytes()))
    segments = [segment for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD"]
    assert image.base == min(segment["p_vaddr"] for segment in segments) - 4096
    for segment in segments:
        held = image.memory[segment["p_vaddr"] - image.base :][: segment["p_memsz"]].tobytes()
        assert held == segment.data().ljust(segment["p_memsz"], b"\0")
        end = segment["p_vaddr"] + segment["p_memsz"] - image.base
        is_writable = bool(segment["p_flags"] & 2)
        assert (segment["p_vaddr"] - image.base >= image.readonly_size) == is_writable
        assert is_writable or end <= image.readonly_size
    symbols = {symbol.name: symbol["st_value"] for symbol in elf.get_section_by_name(".symtab").iter_symbols()}
    assert {image.address_of(name) for name in ("filled", "fixed")} == {symbols["filled"], symbols["fixed"]}
    assert int(image.instructions[image.entry].address) == symbols["guest_main"]
    files = {str(image.source_at(int(record.address))).partition(":")[0] for record in image.instructions[1:]}
    assert files == {"guest.c", "pleemu.h"}


@pytest.mark.parametrize("flags", [(), ("-O3",), ("-Wl,-Ttext-segment=0x10000",), ("-Wl,-z,noseparate-code",), ("-s",)])
def test_executable_runs_as_its_object_does(flags: tuple[str, ...], tmp_path: Path) -> None:
    """A lock in an executable, wherever it is linked and with or without symbols, keeps its counter exact."""
    path = build_executable(tmp_path, TICKET, *flags)
    result = run_guest(path, vcpus=4, pcpus=2, duration="60ms")
    assert result.ended == "all vCPUs have returned from guest_main"
    assert result.vms[0].operations == 1


def test_executable_decodes_what_its_disassembly_shows(tmp_path: Path) -> None:
    """Every instruction of every function is in the table, as objdump has them, jump tables' targets included."""
    path = build_executable(tmp_path, SWITCH + "void unused(void) { x = 5; }\n")
    image = load(path)
    shown = subprocess.run(["objdump", "-d", path], capture_output=True, text=True, check=True).stdout
    addresses = {
        int(match[1], 16)
        for match in re.finditer(r"^ +([0-9a-f]+):\t.*\t(?!(?:data16|cs )*nop|xchg +%ax)", shown, re.MULTILINE)
    }
    assert addresses
    assert addresses <= {int(record.address) for record in image.instructions}


@pytest.mark.parametrize("flags", [(), ("-s",), ("-fpie", "-O2"), ("-Wl,--emit-relocs",)])
def test_jump_table_of_an_executable_is_followed(flags: tuple[str, ...], tmp_path: Path) -> None:
    """A switch runs through tables of addresses, and through tables of offsets where symbols give the function."""
    path = build_executable(tmp_path, SWITCH, *flags)
    assert run_guest(path, vcpus=8, duration="5ms").ended == "all vCPUs have returned from guest_main"


def test_code_that_nothing_shows_is_a_fault(tmp_path: Path) -> None:
    """Without symbols an address that is computed cannot be known: jumping there is a fault with its address."""
    text = "void guest_main(void); void hidden(void) { __builtin_ia32_pause(); }\n"
    text += "static volatile long offset = (long)16;\n"
    text += '__asm__(".text\\n.balign 4096\\n.byte 0x90\\n.balign 16\\nfar: pause\\nret\\n");\n'
    text += 'void guest_main(void) { long at = 0x400000 + (offset << 8) + 0x1010; __asm__("call *%0" : : "r"(at)); }\n'
    path = build_executable(tmp_path, text, "-s", "-Wl,-Ttext-segment=0x400000")
    with pytest.raises(GuestFault, match=r"jump to 0x402010, where no instruction begins|jump to 0x[0-9a-f]+"):
        run_guest(path, vcpus=1, duration="5ms")


def test_unsupported_code_is_refused_where_it_surely_runs_and_faults_elsewhere(tmp_path: Path) -> None:
    """What guest_main reaches directly is refused at once; what only a pointer leads to is a fault when it runs."""
    text = 'void vector(void) {{ __asm__("movaps %xmm0, %xmm1"); }} void (*volatile f)(void) = vector;\n'
    text += "void guest_main(unsigned long vcpu) {{ {call} }}\n"
    with pytest.raises(GuestError, match=r"guest\.c:1: 'movaps xmm1, xmm0' at vector"):
        load(build_executable(tmp_path, text.format(call="vector();"), "-fno-inline"))
    idle = build_executable(tmp_path, text.format(call="if (vcpu > 100) f();"))
    assert run_guest(idle, duration="5ms").ended == "all vCPUs have returned from guest_main"
    running = build_executable(tmp_path, text.format(call="f();"))
    with pytest.raises(GuestFault, match=r"guest\.c:1: guest fault in vm0 vCPU \d: .*vector"):
        run_guest(running, duration="5ms")


def test_handlers_of_an_executable_answer(tmp_path: Path) -> None:
    """The vectors of an executable are those of its section, with addresses applied."""
    path = build_executable(tmp_path, (GUESTS / "interrupt.c").read_text())
    assert run_guest(path, duration="200ms").vms[0].operations == 20


def test_executable_without_guest_main_begins_at_its_entry_point(tmp_path: Path) -> None:
    """Where no symbol says where vCPUs start, the ELF header does."""
    path = build_executable(tmp_path, "void start(void) { __builtin_ia32_pause(); }\n", "-Wl,-e,start")
    image = load(path)
    assert image.symbol_at(int(image.instructions[image.entry].address)) == "start"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            ("-static-pie", "-fpie"),
            "position-independent executable; compile with -fno-pie and link with -static -no-pie",
        ),
        (("-shared", "-fpic"), "is a shared library or a position-independent executable"),
        (("-Wl,-N",), "both writable and executable"),
        (("-Wl,-Ttext-segment=0x1000",), "is too low; link it at 0x2000 or above"),
        (("-Wl,-Tbss=0x300000",), "lies below read-only ones"),
        (("-Wl,-Tbss=0x40000000",), "link them nearer together"),
    ],
)
def test_executable_that_no_guest_can_be_is_refused(
    flags: tuple[str, ...], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be loaded is told with the way out, exit code 2."""
    text = "int counter; void guest_main(void) { counter++; }\n"
    command = [
        "gcc",
        "-O2",
        "-nostdlib",
        "-no-pie",
        "-static",
        "-fno-asynchronous-unwind-tables",
        "-Wl,--build-id=none",
    ]
    if flags[0] in ("-static-pie", "-shared"):
        command = ["gcc", "-O2", "-nostdlib"]
    path = tmp_path / "guest"
    source = write_guest(tmp_path, text, "guest.c")
    link = [*command, "-Wl,-e,guest_main", *flags, "-o", str(path), str(source)]
    subprocess.run(link, check=True, capture_output=True, text=True)
    assert main(["run", str(path)]) == 2
    assert expected in capsys.readouterr().err


def test_dynamic_executable_is_refused(tmp_path: Path) -> None:
    """A program that needs a loader is told to be linked statically."""
    source = write_guest(tmp_path, "int main(void) { return 0; }\n", "main.c")
    path = tmp_path / "dynamic"
    subprocess.run(["gcc", "-no-pie", "-o", str(path), str(source)], check=True)
    with pytest.raises(GuestError, match="is a dynamic executable, and a guest has no libraries; link it with -static"):
        load(path)


def test_executable_stands_alone(tmp_path: Path) -> None:
    """What is linked already cannot be linked again."""
    path = build_executable(tmp_path, MAIN_C)
    with pytest.raises(GuestError, match=r"guest: is linked already; run it alone"):
        load(path, tmp_path / "guest.c")


@given(data=st.data())
def test_damaged_executable_or_archive_is_an_error_or_an_image(data: st.DataObject, whole_files: list[bytes]) -> None:
    """Whatever bytes are damaged, nothing but GuestError comes out."""
    damaged = bytearray(data.draw(st.sampled_from(whole_files)))
    for _ in range(data.draw(st.integers(1, 4))):
        # Headers, where everything hangs, as often as the rest.
        last = data.draw(st.sampled_from((64 + 56 * 5, len(damaged)))) - 1
        damaged[data.draw(st.integers(0, last))] = data.draw(st.integers(0, 255))
    length = data.draw(st.one_of(st.just(len(damaged)), st.integers(0, len(damaged))))
    with contextlib.suppress(GuestError):
        build([bytes(damaged[:length])], source=Path("guest"))


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """An executable, an object of C and an archive of it."""
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed")
    folder = tmp_path_factory.mktemp("whole")
    executable = build_executable(folder, TICKET).read_bytes()
    include = f"-I{GUESTS.parent.parent / 'guest_programs/include'}"
    flags = ["-O2", "-g", "-fno-pic", "-mcmodel=kernel", "-fno-asynchronous-unwind-tables", include]
    subprocess.run(["gcc", "-c", *flags, "guest.c"], cwd=folder, check=True)
    subprocess.run(["ar", "rc", "lib.a", "guest.o"], cwd=folder, check=True)
    return [executable, (folder / "guest.o").read_bytes(), (folder / "lib.a").read_bytes()]


def test_whole_files_are_images(whole_files: list[bytes]) -> None:
    """The files that are damaged above are good as they are."""
    for content in whole_files:
        image = build([content], source=Path("guest"))
        assert sum(image.instructions.op == isa.OP_PROBE) == 6
