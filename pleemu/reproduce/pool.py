"""Runs in several processes at once.

Each process takes one run after the other and keeps its record before it says so. It ignores the keyboard: the
parent decides, and a process whose parent is gone ends at its next word to it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Generator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from attrs import define

from pleemu.errors import PleemuError
from pleemu.policy import policy as policy_named
from pleemu.reproduce.measures import measure
from pleemu.reproduce.plan import Job
from pleemu.reproduce.store import Store
from pleemu.scenario import from_dict

_SAYS, _AT, _DONE, _FAILED = range(4)  # what a process tells its parent
_PATIENCE = 5.0  # seconds for a process to end

Progress = Callable[[int, Job, float], None]  # process, its run, share of it that is done


@define
class _Process:
    """A process and what it works on."""

    number: int
    process: SpawnProcess
    pipe: Connection[Any, Any]
    job: Job | None = None


def run_jobs(
    jobs: Sequence[Job],
    folder: Path,
    *,
    processes: int,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Generator[Job, None, None]:
    """Run jobs and keep their records in ``folder``; each is given back when it is finished, in no order.

    ``say`` gets what a process has to say before its first run. Raises PleemuError for a run that fails, with its name.
    """
    waiting = list(reversed(jobs))
    running: dict[object, _Process] = {}
    started, at_work = 0, False
    try:
        while running or not started:
            # The first one compiles the core, if that must be: the others start when it is at work.
            while waiting and started < (processes if at_work else 1):
                one = _start(started, folder)
                running[one.pipe] = one
                started += 1
                _next(one, waiting)
            if not running:
                return
            for pipe in wait(one.pipe for one in running.values()):
                one = running[pipe]
                what, value = _hear(one)
                job = one.job
                at_work = at_work or what in (_AT, _DONE)
                if what == _FAILED or job is None:
                    raise PleemuError(f"{job.name if job else 'a run'}: {value}")
                if what == _SAYS and say is not None:
                    say(value)
                elif what == _AT and progress is not None:
                    progress(one.number, job, value)
                elif what == _DONE:
                    if not _next(one, waiting):
                        del running[pipe]
                        one.pipe.close()
                    yield job
    finally:
        for one in running.values():
            one.process.terminate()
        for one in running.values():
            one.process.join(_PATIENCE)


def _start(number: int, folder: Path) -> _Process:
    """Start a process that the keyboard does not interrupt."""
    context = multiprocessing.get_context("spawn")
    pipe, its_pipe = context.Pipe()
    process = context.Process(target=_work, args=(its_pipe, folder), daemon=True)
    resource_tracker.ensure_running()  # else the start would do it, and let the keyboard through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which the process inherits
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    its_pipe.close()
    return _Process(number, process, pipe)


def _next(one: _Process, waiting: list[Job]) -> bool:
    """Give a process its next run, if there is one."""
    one.job = waiting.pop() if waiting else None
    if one.job is None:
        return False
    job = one.job
    one.pipe.send((job.part, job.setting, job.policy, job.seed, job.scenario.to_dict(), job.scenario.folder))
    return True


def _hear(one: _Process) -> tuple[int, Any]:
    try:
        return one.pipe.recv()  # type: ignore[no-any-return]
    except (EOFError, OSError):
        one.process.join(_PATIENCE)
        return _FAILED, (
            f"its process ended by itself (exit code {one.process.exitcode}); is there enough memory? "
            f"Finished runs are kept: the same command goes on from there"
        )


def _work(pipe: Connection[Any, Any], folder: Path) -> None:
    """Run what the parent sends, until it sends no more."""
    from pleemu.machine.run import load_programs, prepare, simulate  # here, because it brings the compiler

    store = Store(folder)
    programs: dict[Any, Any] = {}
    with contextlib.suppress(EOFError, OSError):  # the parent is gone, or has no more to do
        prepare(lambda message: pipe.send((_SAYS, message)))
        while True:
            part, setting, policy, seed, data, guests = pipe.recv()
            scenario = from_dict(data, folder=guests)
            job = Job(part=part, setting=setting, policy=policy, seed=seed, scenario=scenario)
            try:
                if any(scenario.program_of(vm) not in programs for vm in scenario.vm):
                    programs |= load_programs(scenario)
                run = simulate(
                    scenario,
                    policy=policy_named(policy),
                    progress=lambda done, total: pipe.send((_AT, done / max(1, total))),
                    programs=programs,
                )
                store.write(job, measure(run))
            except PleemuError as error:
                pipe.send((_FAILED, str(error)))
                return
            pipe.send((_DONE, None))
