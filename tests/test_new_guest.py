"""`pleemu new guest`: what it writes is an experiment as it stands, in assembly and in C."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from made_c_guests import needs_gcc, run_guest

from pleemu.cli import main
from pleemu.guest import load
from pleemu.guest.parameters import parameters_of


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


FORMS = [
    pytest.param(("my_lock",), "my_lock.S", id="assembly"),
    pytest.param(("my_lock.S",), "my_lock.S", id="assembly by name"),
    pytest.param(("my-lock", "--c"), "my-lock.c", marks=needs_gcc, id="C"),
    pytest.param(("my_lock.c",), "my_lock.c", marks=needs_gcc, id="C by name"),
]


@pytest.mark.parametrize(("arguments", "file"), FORMS)
def test_template_runs_and_is_never_written_over_a_file(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], file: str
) -> None:
    """All rounds of all vCPUs, PAUSE exits of which each has a wait, and a parameter of its own."""
    assert main(["new", "guest", *arguments]) == 0
    assert f"{file} written; try: pleemu run {file}" in capsys.readouterr().out
    written = Path(file).read_text()
    assert parameters_of(load(Path(file)))["pauses"].default == 1
    rounds = {"vm.parameters.rounds": "40", "vm.parameters.pauses": "3", "vm.parameters.hold": "50us"}
    run = run_guest(file, vcpus=4, pcpus=2, fields=rounds)
    assert run.ended == "all vCPUs have returned from guest_main"
    assert run.vms[0].operations == 160
    assert run.causes.attributed == run.causes.exits > 0
    assert main(["new", "guest", *arguments]) == 2
    assert f"{file} is there already" in capsys.readouterr().err
    assert Path(file).read_text() == written


@pytest.mark.parametrize("file", ["my_lock.S", pytest.param("my_lock.c", marks=needs_gcc)])
def test_commands_in_the_template_work(capsys: pytest.CaptureFixture[str], file: str) -> None:
    """Each command that its comment names, for a moment."""
    assert main(["new", "guest", file]) == 0
    lines = re.findall(r"^ ?[#*]\s+pleemu (.*?)(?:\s{3,}.*)?$", Path(file).read_text(), re.MULTILINE)
    assert {line.split()[0] for line in lines} == {"run", "compare", "list"}
    for line in lines:
        short = [] if line.startswith("list") else ["--duration", "1ms"]
        assert main([*shlex.split(line), *short]) == 0, (line, capsys.readouterr().err)


@pytest.mark.parametrize(
    "arguments", [("",), ("a b",), ("--", "-x"), ("x.py",), ("no/such/folder/x",), ("x.S", "--c"), (".",)]
)
def test_bad_name_is_refused(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    """In one line, and nothing is written."""
    assert main(["new", "guest", *arguments]) == 2
    assert "guest" in capsys.readouterr().err
    assert not list(Path().iterdir())
