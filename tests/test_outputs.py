"""What a run writes: it overwrites nothing that a run reads, and what cannot be written is said before the run."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from made_runs import scenario_of

import pleemu
from pleemu.cli import main
from pleemu.errors import PleemuError
from pleemu.experiment.outputs import check_outputs, files_read
from pleemu.machine import run as machine_run
from pleemu.policy import policy
from pleemu.template import new_guest, new_policy
from pleemu.whole_file import check_output

SCENARIO = '[[vm]]\nname = "a"\nprogram = ["guest.S", "part.c"]\n[[vm]]\nname = "b"\nprofile = "mine-profile.toml"\n'
PROFILE = 'name = "mine"\norigin = "mine"\nprogram = "applied.S"\n'
FILES = {
    "mine.toml": SCENARIO,
    "mine-profile.toml": PROFILE,
    "guest.S": '.include "first.inc"\nguest_main: ret\n',
    "first.inc": '  .include "second.inc"\n',
    "second.inc": '.include "guest.S"\n',
    "part.c": '#include <pleemu.h>\n# include "part.h"\n#include "absent.h"\n',
    "part.h": "",
    "applied.S": "guest_main: ret\n",
    "pol.py": "def refuses(me, candidate):\n    return 0\n",
}
OPTIONS = ("--report", "--trace", "--plot")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a scenario and all that belongs to it; nothing is ever run."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)

    def refuse(*_: object, **__: object) -> Any:
        raise AssertionError("there is a run")

    monkeypatch.setattr(machine_run, "prepare", lambda announce: None)
    monkeypatch.setattr(machine_run, "load_programs", refuse)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line that the command ends with."""
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert not printed.out
    assert printed.err.startswith("pleemu: error: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_every_file_of_a_run_is_known() -> None:
    """Also what is included by what is included, be it in a circle."""
    read = files_read([(pleemu.load_scenario("mine.toml", vcpus=3), policy("./pol.py+debooster"))])
    assert {one.name for one in read} == set(FILES)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("option", OPTIONS)
def test_what_is_read_is_not_overwritten(
    folder: Path, capsys: pytest.CaptureFixture[str], option: str, name: str
) -> None:
    """By whichever name and option; the file stays."""
    (folder / "inner").mkdir()
    (folder / "link.svg").symlink_to(name)
    os.link(folder / name, folder / "hard.svg")
    for given in (name, f"inner/../{name}", str(folder / name), "link.svg", "hard.svg"):
        told = refused(capsys, "run", "mine.toml", "--policy", "./pol.py", option, given)
        assert f"{option} {given}: that would overwrite what is to be run" in told
    assert (folder / name).read_text() == FILES[name]


def test_comparison_overwrites_no_policy_of_its_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """Nor the scenario."""
    for name in ("pol.py", "mine.toml"):
        told = refused(capsys, "compare", "mine.toml", "--policies", "vanilla,./pol.py", "--report", name)
        assert "would overwrite" in told


def test_scenario_in_a_folder_and_a_bare_guest_are_not_overwritten(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those have no name of their own on the command line, or no scenario."""
    (folder / "own").mkdir()
    (folder / "own" / "scenario.toml").write_text('[[vm]]\nname = "a"\nprogram = "../guest.S"\n')
    assert "would overwrite" in refused(capsys, "run", "own", "--report", "own/scenario.toml")
    assert "would overwrite" in refused(capsys, "run", "guest.S", "part.c", "--report", "part.c")


def test_python_overwrites_nothing_either() -> None:
    """`pleemu.run` writes a trace."""
    with pytest.raises(PleemuError, match="would overwrite"):
        pleemu.run("mine.toml", trace="mine.toml")


def test_two_outputs_are_two_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One would be lost; whether it is there already or not, and however it is spelled."""
    (folder / "inner").mkdir()
    (folder / "link.png").symlink_to("out.png")
    for _ in range(2):
        for same in ("out.png", "inner/../out.png", str(folder / "out.png"), "link.png"):
            for one, other in (("--report", "--trace"), ("--report", "--plot"), ("--trace", "--plot")):
                assert "are one file; name two" in refused(capsys, "run", "mine.toml", one, "out.png", other, same)
        (folder / "out.png").write_text("")


def test_device_takes_everything() -> None:
    """It is not overwritten."""
    check_outputs({"--trace": Path("/dev/null"), "--report": Path("/dev/null")}, [])


def test_other_outputs_pass_and_leave_nothing(folder: Path) -> None:
    """A file that is there is kept until its run is over."""
    (folder / "old.html").write_text("old")
    before = {one.name for one in folder.iterdir()}
    runs = [(pleemu.load_scenario("mine.toml"), policy("vanilla"))]
    check_outputs({"--trace": folder / "new.txt", "--report": folder / "old.html", "--plot": None}, runs)
    assert {one.name for one in folder.iterdir()} == before
    assert (folder / "old.html").read_text() == "old"


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("absent/out.svg", "there is no folder absent"),
        ("inner", "that is a folder"),
        ("x" * 300 + ".svg", "File name too long"),
        ("x" * 250 + ".svg", "File name too long"),  # with what stands behind it until it is whole
        ("x" * 300 + "/out.svg", "File name too long"),
        ("/proc/out.svg", "cannot be written"),
        ("dangling.svg", "No such file"),
    ],
)
@pytest.mark.parametrize("option", OPTIONS)
def test_what_cannot_be_written_is_said_before_the_run(
    folder: Path, capsys: pytest.CaptureFixture[str], option: str, path: str, problem: str
) -> None:
    """In one line, with the option and the path."""
    (folder / "inner").mkdir()
    (folder / "dangling.svg").symlink_to("nowhere/out.svg")
    told = refused(capsys, "run", "mine.toml", option, path)
    assert f"{option} {path}: " in told
    assert problem in told


def test_links_in_a_circle_are_written_over(folder: Path) -> None:
    """They are no file, and nothing else goes wrong."""
    (folder / "circle.html").symlink_to("circle.html")
    check_output("--report", folder / "circle.html")


def test_folder_that_one_may_not_enter_or_change_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs these tests may be root, who may do everything."""

    def denied(*_: object, **__: object) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    for name in ("tempfile.mkstemp", "pathlib.Path.is_dir"):
        with monkeypatch.context() as patched:
            patched.setattr(name, denied)
            with pytest.raises(PleemuError, match=r"^--report out.html: cannot be written: Permission denied; name"):
                check_output("--report", Path("out.html"))
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(PleemuError, match="Permission denied"):
        check_output("--report", Path("/dev/null"))


@pytest.mark.parametrize("write", [new_guest, new_policy])
@pytest.mark.parametrize("path", ["x" * 300, "absent/mine", "/proc/mine"])
def test_template_that_cannot_be_written_is_one_line(write: Any, path: str) -> None:
    """Beside it there is nothing to run."""
    with pytest.raises(PleemuError, match=r"^new (guest|policy): [^\n]*$"):
        write(path)


def test_files_of_no_run_are_none() -> None:
    """A scenario that comes from no file has but its guests."""
    assert list(files_read([])) == []
    assert [str(one) for one in files_read([(scenario_of(vms=2), policy("vanilla"))])] == ["/made/guest.S"]
