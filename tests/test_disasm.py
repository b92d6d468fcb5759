"""`pleemu disasm`: nothing is left out, and what is shown is what memory holds and the machine charges."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from made_c_guests import build_executable, needs_gcc
from made_machines import GUESTS

from pleemu import catalogue
from pleemu.cli import main
from pleemu.guest import load
from pleemu.guest.costs import cycles_by_class
from pleemu.guest.image import Image
from pleemu.guest.listing import Gap, Row, listing
from pleemu.hardware import isa
from pleemu.processor import PROCESSORS
from pleemu.report.disasm_keys import DISASM_KEYS


def shipped() -> list[tuple[Path, ...]]:
    """Every guest: those of the experiments, of several files some, and each source that is part of none of them."""
    scenarios = [catalogue.find(name) for name in catalogue.experiments()]
    guests = {scenario.program_of(vm).paths for scenario in scenarios for vm in scenario.vm}
    used = {path.resolve() for paths in guests for path in paths}
    return sorted(guests) + [(path,) for path in catalogue.programs() if path.resolve() not in used]


@pytest.mark.parametrize("paths", shipped(), ids=lambda paths: f"{paths[0].parent.name}/{paths[0].name}")
def test_listing_covers_memory_once_and_in_order(paths: tuple[Path, ...]) -> None:
    """Instructions and gaps follow each other without overlap from the exit stub to the end of memory."""
    if any(path.suffix == ".c" for path in paths) and not shutil.which("gcc"):
        pytest.skip("gcc is not installed")
    check_listing(load(*paths))


@needs_gcc
def test_listing_of_an_executable_covers_its_memory(tmp_path: Path) -> None:
    """The same holds where another linker chose the addresses."""
    check_listing(load(build_executable(tmp_path, (GUESTS / "ticket_lock.c").read_text())))


def check_listing(image: Image) -> None:
    processor = PROCESSORS[0]
    listed = listing(image, cycles_by_class(processor))
    rows = [one for one in listed if isinstance(one, Row)]
    table = image.instructions
    assert [row.address for row in rows] == [int(record.address) % (1 << 64) for record in table]
    for row, record in zip(rows, table, strict=True):
        assert row.code == image.memory[row.address - image.base :][: int(record.length)].tobytes()
        assert bool(row.probe) == (record.op == isa.OP_PROBE)
        assert row.source == (image.source_at(row.address) or "")
        assert all(image.address_of(name) is not None for name in row.symbols)
        if record.op == isa.OP_PAUSE:
            assert row.cycles == processor.pause_cycles
    assert rows[0].symbols == ("pleemu_exit",)
    ends = [(one.address, one.address + (len(one.code) if isinstance(one, Row) else one.size)) for one in listed]
    stub_end = image.base + max(16, image.linked.code_start)
    for (_, end), (start, _) in pairwise([(0, stub_end), *ends[1:]]):
        assert start == end
    assert ends[-1][1] == image.base + len(image.memory)
    assert all(one.size > 0 for one in listed if isinstance(one, Gap))


@pytest.mark.parametrize("name", [processor.name for processor in PROCESSORS])
def test_cycles_are_those_that_the_machine_charges(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The cost of each instruction is the one that a run on that processor would use."""
    from pleemu.machine.build import build
    from pleemu.overrides import Overrides
    from pleemu.policy import policy

    assert main(["disasm", "worst_case", "--processor", name, "--json"]) == 0
    (guest,) = json.loads(capsys.readouterr().out)["guests"]
    scenario = Overrides(fields={"hardware.processor": name}).apply(catalogue.find("worst_case"))
    programs = {scenario.program_of(vm): load(scenario.program_path(vm)) for vm in scenario.vm}
    machine, _ = build(scenario, policy("vanilla"), programs, recording=False)
    assert [one["cycles"] for one in guest["instructions"]] == np.asarray(machine.code.cycles).tolist()
    assert list(guest) == list(DISASM_KEYS)


def test_disasm_names_symbols_probes_and_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe each instruction is one line, under its symbol, with its probe and its source."""
    assert main(["disasm", "worst_case"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("lock  ")
    assert "guest_main:" in lines
    assert "native_queued_spin_lock_slowpath:" in lines
    (pause,) = (line for line in lines if " pause" in line)
    assert pause.split()[:4] == ["0xffffffff8100001b", "f3", "90", "pause"]
    assert pause.split()[-1] == "10"
    assert any(line.endswith("1  lock_wait 8@%rbx  lock.S:17") for line in lines)
    assert lines[-1].endswith("... 4 bytes of data: lock")


def test_disasm_shows_each_program_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """VMs with one program share its listing; another program has its own."""
    monkeypatch.chdir(tmp_path)
    vm = '[[vm]]\nname = "{}"\nprogram = "{}.S"\n'
    Path("mine.toml").write_text(vm.format("a", "one") + vm.format("b", "two") + vm.format("c", "one"))
    for name in ("one", "two"):
        Path(f"{name}.S").write_text(f".globl guest_main\nguest_main: call {name}\n{name}: ret\n")
    assert main(["disasm", "mine.toml", "--json"]) == 0
    assert [guest["name"] for guest in json.loads(capsys.readouterr().out)["guests"]] == ["one", "two"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["absent.S"], "absent.S: no such file"),
        (["worst_case", "--processor", "haswel"], "did you mean 'haswell'?"),
        (["worst_case", "--cc", "/bin/sh"], "vm.0.cc: '/bin/sh' is not a compiler"),
        (["no_such"], "unknown scenario 'no_such'"),
    ],
)
def test_disasm_of_what_is_wrong_is_one_clear_message(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the user can mend is named, with exit code 2."""
    assert main(["disasm", *arguments]) == 2
    printed = capsys.readouterr()
    assert expected in printed.err
    assert not printed.out


def test_disasm_needs_no_compiled_core() -> None:
    """Showing a guest does not wait for numba."""
    code = "import sys; from pleemu.cli import main; main(['disasm', 'worst_case']); sys.exit('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
