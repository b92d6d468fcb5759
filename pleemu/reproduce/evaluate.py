"""The whole evaluation: the runs that are missing, and what all of them show."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from attrs import frozen

from pleemu.errors import PleemuError
from pleemu.reproduce.measures import Measures
from pleemu.reproduce.plan import Job, Plan
from pleemu.reproduce.pool import run_jobs
from pleemu.reproduce.results import Results, results_of
from pleemu.reproduce.store import Store, key


@frozen(kw_only=True)
class Progress:
    """How far it is. Work is counted in ns emulated, times pCPUs."""

    runs: int
    finished: int
    work: float
    done: float
    at: tuple[str, ...]  # what each process is at


def evaluate(
    plan: Plan,
    folder: Path,
    *,
    processes: int,
    progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Results:
    """Run what has no record in ``folder`` yet, and return what all records of the plan show."""
    store = Store(folder)
    jobs = tuple(plan.jobs())
    different = {key(job): job for job in jobs}  # two parts may share a run
    missing = [job for job in different.values() if store.read(job) is None]
    _run(tuple(different.values()), missing, folder, processes, progress, say)
    return results_of(plan, list(_records(store, jobs)))


def _run(
    jobs: tuple[Job, ...],
    missing: list[Job],
    folder: Path,
    processes: int,
    progress: Callable[[Progress], None] | None,
    say: Callable[[str], None] | None,
) -> None:
    finished = len(jobs) - len(missing)
    work = sum(map(_work, jobs))
    done = work - sum(map(_work, missing))
    at: dict[int, tuple[Job, float]] = {}

    def show() -> None:
        if progress is not None:
            under_way = sum(_work(job) * share for job, share in at.values())
            names = tuple(job.name for _, (job, _) in sorted(at.items()))
            progress(Progress(runs=len(jobs), finished=finished, work=work, done=done + under_way, at=names))

    def goes_on(process: int, job: Job, share: float) -> None:
        at[process] = job, share
        show()

    show()
    with contextlib.closing(run_jobs(missing, folder, processes=processes, progress=goes_on, say=say)) as results:
        for job in results:
            finished, done = finished + 1, done + _work(job)
            for process in [process for process, (other, _) in at.items() if other is job]:
                del at[process]
            show()


def _work(job: Job) -> float:
    return float(job.scenario.duration_ns * job.scenario.hardware.pcpus)


def _records(store: Store, jobs: tuple[Job, ...]) -> Iterator[tuple[Job, Measures]]:
    for job in jobs:
        measures = store.read(job)
        if measures is None:
            raise PleemuError(f"{store.folder}: the record of {job.name!r} is gone; the same command runs it again")
        yield job, measures
