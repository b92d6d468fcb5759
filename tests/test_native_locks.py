"""The shipped locks in real programs: the objects that a guest is made of, linked to threads, run on this machine."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from made_c_guests import needs_gcc
from made_locks import LOCKS, PROGRAMS

from pleemu.guest.assemble import assemble
from pleemu.guest.source import LIBRARY

MAIN = Path(__file__).parent / "native" / "lock.c"
THREADS, ROUNDS = 4, 500
GCC = ["gcc", "-Wall", "-Wextra", "-Werror", "-O2", f"-I{LIBRARY}"]
# All but the paravirtual lock, which halts and calls KVM: instructions that a thread has no right to.
NATIVE = [name for name in PROGRAMS if name != "pv_qspinlock"]


def main_of(name: str) -> str:
    """Return the file of the harness that goes with a lock."""
    kinds = {"qrwlock": "rwlock_main.S", "seqlock": "seqlock_main.S"}
    return kinds.get(name.partition(" ")[0], "lock_main.S")


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def build(sources: list[Path], folder: Path) -> Path:
    """Link objects as pleemu's own assembler makes them, or gcc as for any program, with a main that starts threads."""
    objects = []
    for source in sources:
        made = folder / f"{source.stem}.o"
        if source.suffix == ".c":
            run(*GCC, "-c", "-o", made, source)
        else:
            made.write_bytes(assemble(source))
        objects.append(made)
    program = folder / "program"
    run(*GCC, "-pthread", "-no-pie", "-o", program, MAIN, *objects)
    return program


def probes_of(program: Path) -> dict[str, set[int]]:
    """Return the places of pleemu's probes in an executable, by name, as `readelf -n` lists them."""
    found: dict[str, set[int]] = {}
    with program.open("rb") as file:
        for note in ELFFile(file).get_section_by_name(".note.stapsdt").iter_notes():
            described = (
                note["n_descdata"].encode("latin-1") if isinstance(note["n_descdata"], str) else note["n_descdata"]
            )
            provider, name, _ = described[24:].split(b"\0")[:3]
            if provider == b"pleemu":
                found.setdefault(name.decode(), set()).add(int.from_bytes(described[:8], "little"))
    return found


def code_at(program: Path, address: int) -> int:
    """Return the byte of an executable's memory at an address."""
    with program.open("rb") as file:
        for segment in ELFFile(file).iter_segments("PT_LOAD"):
            offset = address - segment["p_vaddr"]
            if 0 <= offset < segment["p_filesz"]:
                return segment.data()[offset]
    raise AssertionError(f"{address:#x} is not in {program}")


@needs_gcc
@pytest.mark.parametrize("name", NATIVE)
def test_lock_runs_natively_with_its_probes(name: str, tmp_path: Path) -> None:
    """Real threads count exactly, and the executable has the probes, each of them at a nop."""
    program = build([*(LOCKS / file for file in PROGRAMS[name]), LIBRARY / main_of(name)], tmp_path)
    done = subprocess.run([program, str(THREADS), str(ROUNDS)], capture_output=True, text=True, check=True, timeout=240)
    written = int(done.stdout)
    if main_of(name) == "lock_main.S":
        assert written == THREADS * ROUNDS
    else:
        assert 0 < written < THREADS * ROUNDS  # the others have read
    probes = probes_of(program)
    assert {"lock_wait", "lock_acquired", "lock_released", "operation_done", "work"} <= probes.keys()
    assert {code_at(program, place) for places in probes.values() for place in places} == {0x90}


@needs_gcc
def test_broken_lock_is_found_natively(tmp_path: Path) -> None:
    """The same program with a lock that keeps nobody out is stopped at a ud2 of the harness."""
    nothing = tmp_path / "nothing.c"
    nothing.write_text(
        "void acquire(void *lock); void release(void *lock);\n"
        "void acquire(void *lock) { (void)lock; }\nvoid release(void *lock) { (void)lock; }\n"
    )
    program = build([nothing, LIBRARY / "lock_main.S"], tmp_path)
    done = subprocess.run([program, str(THREADS), "2000000"], capture_output=True, check=False, timeout=240)
    assert done.returncode == -signal.SIGILL
