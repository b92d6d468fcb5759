"""An evaluation that is stopped, killed and started again repeats no finished run, and ends the same."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import attrs
import pytest
from made_evaluations import made_measures

from pleemu.cli import EXIT_INTERRUPTED, main
from pleemu.errors import PleemuError
from pleemu.reproduce.evaluate import evaluate
from pleemu.reproduce.outcome import FILES, check_outcome
from pleemu.reproduce.plan import Job, parts, plan
from pleemu.reproduce.pool import run_jobs
from pleemu.reproduce.store import Store, key
from pleemu.scenario import Scenario, Vm

# Short runs, but enough of them to be stopped midway.
PLAN = ("reproduce", "locks", "--quick", "--seeds", "8", "--jobs", "2", "--json")
PATIENCE = 120  # seconds


def started(folder: Path) -> subprocess.Popen[str]:
    """The evaluation, as a program of its own, in a group of its own, as a shell would have it.

    Ctrl-C reaches it even where these tests run in the background, which ignores it, and hands that down.
    """
    command = [sys.executable, "-m", "pleemu", *PLAN, "--output", str(folder)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, text=True, start_new_session=True, preexec_fn=listen, **pipes)


def records(folder: Path) -> dict[str, int]:
    """The records that there are, and when each was written."""
    return {path.name: path.stat().st_mtime_ns for path in (folder / "runs").glob("[!.]*.json")}


def until_records(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until there are so many."""
    end = time.monotonic() + PATIENCE
    while len(records(folder)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def group_is_gone(process: subprocess.Popen[str]) -> bool:
    """Whether no process of the program's group is left, within some seconds."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 0)
            time.sleep(0.05)
            continue
        return True
    return False


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The same evaluation in one go, and what it printed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    process = started(folder)
    printed, said = process.communicate(timeout=2 * PATIENCE)
    assert process.returncode == 0, said
    return folder, printed


def test_stopped_and_killed_it_goes_on_and_ends_the_same(tmp_path: Path, undisturbed: tuple[Path, str]) -> None:
    """Ctrl-C, then SIGKILL, then to the end: no record is written twice, and every file is the same, byte for byte."""
    process = started(tmp_path)
    until_records(tmp_path, 2, process)
    os.killpg(process.pid, signal.SIGINT)
    printed, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == EXIT_INTERRUPTED
    assert printed == ""
    assert f"finished runs are kept in {tmp_path}" in said
    assert "Traceback" not in said
    assert group_is_gone(process)
    after_interrupt = records(tmp_path)

    process = started(tmp_path)
    until_records(tmp_path, len(after_interrupt) + 2, process)
    process.kill()
    process.communicate(timeout=PATIENCE)
    assert group_is_gone(process), "its processes outlive it"
    after_kill = records(tmp_path)
    assert after_interrupt.items() <= after_kill.items()
    assert not any((tmp_path / name).exists() for name in FILES)

    process = started(tmp_path)
    printed, said = process.communicate(timeout=2 * PATIENCE)
    assert process.returncode == 0, said
    assert after_kill.items() <= records(tmp_path).items()
    folder, expected = undisturbed
    assert printed == expected
    assert records(tmp_path).keys() == records(folder).keys()
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_finished_evaluation_runs_nothing(
    undisturbed: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its tables come from the records alone, also of fewer seeds and in another form."""
    folder, printed = undisturbed
    monkeypatch.setattr("pleemu.reproduce.evaluate.run_jobs", _refuse)
    assert main([*PLAN, "--output", str(folder)]) == 0
    assert capsys.readouterr().out == printed
    assert main([*PLAN[:-1], "--markdown", "--output", str(folder)]) == 0
    assert capsys.readouterr().out.startswith("| evaluation | setting |")


def _refuse(jobs: Sequence[Job], *_: object, **__: object) -> Iterator[Job]:
    assert not jobs
    yield from ()


def test_broken_record_is_run_again(undisturbed: tuple[Path, str]) -> None:
    """Cut off, or of another kind: it comes back as it was."""
    folder, printed = undisturbed
    whole = {name: (folder / "runs" / name).read_bytes() for name in sorted(records(folder))[:2]}
    for number, (name, content) in enumerate(whole.items()):
        (folder / "runs" / name).write_bytes(content[: len(content) // 2] if number else b"[1]")
    process = started(folder)
    assert process.communicate(timeout=PATIENCE)[0] == printed
    assert {name: (folder / "runs" / name).read_bytes() for name in whole} == whole


def test_run_that_two_parts_share_is_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the same, so its record is."""
    asked: list[Job] = []

    def made(jobs: Sequence[Job], folder: Path, **_: object) -> Iterator[Job]:
        for job in jobs:
            asked.append(job)
            Store(folder).write(job, made_measures(job))
            yield job

    monkeypatch.setattr("pleemu.reproduce.evaluate.run_jobs", made)
    chosen = plan(["ready-2019", "wait-early"], quick=True)
    results = evaluate(chosen, tmp_path, processes=1)
    assert len({key(job) for job in asked}) == len(asked) < len(list(chosen.jobs())) == len(results.runs)


def test_run_that_fails_is_named(tmp_path: Path) -> None:
    """With its guest's fault; the processes end."""
    (tmp_path / "broken.S").write_text(".globl guest_main\nguest_main:\n    mov rax, [0]\n    ret\n")
    scenario = Scenario(name="x", duration_ms=1.0, vm=(Vm(name="vm0", program="broken.S"),), folder=tmp_path)
    job = Job(part="mine", setting="broken", policy="vanilla", seed=7, scenario=scenario)
    with pytest.raises(PleemuError, match=r"mine: broken, vanilla, seed 7: .*guest fault"):
        list(run_jobs([job], tmp_path, processes=2))
    assert Store(tmp_path).read(job) is None


def test_no_jobs_need_no_process(tmp_path: Path) -> None:
    """Nor does one job need two."""
    assert list(run_jobs([], tmp_path, processes=2)) == []
    assert plan(["locks"], quick=True).parts


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["tlak"], "unknown part 'tlak'; did you mean 'talk'?"),
        (["talk", "talk"], "part 'talk' is named twice"),
        (["--seeds", "1"], "--seeds 1 is out of range; use 2 (for an interval) to 1000"),
        (["--jobs", "0"], "--jobs 0 is out of range; use 1 to 1024"),
        (["--markdown", "--json"], "--markdown and --json both say what to print"),
        (["--output", "file/x"], "file/x: cannot be a folder for results: Not a directory"),
        (["--output", "x" * 300], "cannot be a folder for results: File name too long"),
        (["--output", "/proc/x"], "/proc/x: cannot be a folder for results"),
        (["--output", "taken"], "--output taken/report.html: that is a folder; name a file"),
    ],
)
def test_wrong_words_are_told_in_a_line(
    arguments: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Exit code 2, and nothing is run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "taken" / "report.html").mkdir(parents=True)
    monkeypatch.setattr("pleemu.reproduce.evaluate.run_jobs", _refuse)
    assert main(["reproduce", *arguments]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", ["runs/record.json", *FILES])
def test_folder_that_takes_no_results_is_refused_before_the_runs(tmp_path: Path, name: str) -> None:
    """Neither records nor what they show; who may write leaves nothing there by that."""
    check_outcome(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["runs"]
    (tmp_path / name).mkdir()
    with pytest.raises(PleemuError, match=f"--output .*{name}: that is a folder"):
        check_outcome(tmp_path)


def test_help_names_every_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    """So that one can ask for it."""
    assert main(["reproduce", "--help"]) == 0
    printed = capsys.readouterr().out
    assert all(part.name in printed for part in parts())


def test_record_goes_by_its_own_scenario(tmp_path: Path) -> None:
    """What one run leaves is not taken for another's."""
    first, second = list(plan(["locks"], quick=True).jobs())[:2]
    store = Store(tmp_path)
    store.write(first, made_measures(first))
    assert store.read(first) == made_measures(first)
    assert store.read(second) is None
    longer = attrs.evolve(first, scenario=attrs.evolve(first.scenario, duration_ms=31.0))
    assert store.read(longer) is None
