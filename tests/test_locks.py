"""The shipped locks: right under every policy, and wrong as soon as one thing is missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from made_locks import ALL_RETURNED, FIFO, FOLDER, LOCKS, SHAPES, Trial, covering_trials, every_trial, outcome

from pleemu.checks.locks import check_fifo, check_mutual_exclusion
from pleemu.policy import policy

WHOLE = os.environ.get("PLEEMU_LOCKS") == "all"  # the whole matrix, some minutes
TRIALS = every_trial() if WHOLE else covering_trials()
SEARCHED = 60  # machines in which a mutant must show


def trials_of(lock: str) -> list[Trial]:
    if lock.endswith("in C") and not shutil.which("gcc"):
        pytest.skip("gcc is not installed")
    return [trial for trial in TRIALS if trial.lock == lock]


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_keeps_its_promises_under_every_policy(lock: str) -> None:
    """One owner at a time, nothing lost, all return, the lock free at the end; and in order where it is promised.

    The guest itself looks at counters and at the lock's words, and stops where one is wrong.
    """
    taken = in_line = 0
    for trial in trials_of(lock):
        observed = trial.run()
        assert observed.run.ended == ALL_RETURNED, trial
        assert observed.run.vms[0].operations == trial.vcpus * trial.rounds, trial
        if "rwlock" not in lock:
            taken += check_mutual_exclusion(observed)
        in_line += check_fifo(observed) if lock in FIFO else 0
    assert taken or "rwlock" in lock
    assert in_line or lock not in FIFO


def test_trials_cover_what_they_promise() -> None:
    """Each lock meets each policy under each scheduler, and every shape."""
    part, whole = covering_trials(), every_trial()
    assert {(one.lock, one.policy.name, one.scheduler) for one in part} == {
        (one.lock, one.policy.name, one.scheduler) for one in whole
    }
    assert {(one.lock, one.vcpus, one.pcpus) for one in part} == {(one, *shape) for one in LOCKS for shape in SHAPES}


# What each mutant is without: file, the text and what stands in its place.
MUTANTS = {
    "test and set without xchg": (
        "test_and_set.S",
        "xchg dword ptr [rdi], eax ",
        "mov ecx, dword ptr [rdi]\nmov dword ptr [rdi], eax\nmov eax, ecx ",
    ),
    "ticket without xadd": (
        "ticket.S",
        "lock xadd dword ptr [rdi], eax ",
        "mov ecx, dword ptr [rdi]\nadd eax, ecx\nmov dword ptr [rdi], eax\nmov eax, ecx ",
    ),
    "MCS unlock that does not wait for next": ("mcs.S", "    jmp mcs_next_wait\n", "    jmp 3f\n"),
    "pending bit not cleared": ("qspinlock.S", "mov word ptr [rdi], Q_LOCKED ", "mov byte ptr [rdi], Q_LOCKED "),
    "no hand-off": ("qspinlock.S", "    mov dword ptr [rdx + Q_NODE_LOCKED], 1\n", ""),
    "head ignoring pending": ("qspinlock.S", "test eax, Q_LOCKED_MASK | Q_PENDING_MASK\n", "test eax, Q_LOCKED_MASK\n"),
    "PV state halted as a plain store": (
        "pv_qspinlock.S",
        "xchg dword ptr [r8 + Q_NODE_STATE], eax ",
        "mov dword ptr [r8 + Q_NODE_STATE], eax ",
    ),
}
# So that the paravirtual lock sleeps soon.
SHORTER = {"pv_qspinlock.S": (".set SPIN_THRESHOLD, 1 << 15", ".set SPIN_THRESHOLD, 1 << 4")}


def variant(folder: Path, file: str, *changes: tuple[str, str]) -> Path:
    """Write a lock's file anew, with changes each of which must be possible once."""
    text = (FOLDER / file).read_text()
    for before, after in (*changes, *((SHORTER[file],) if file in SHORTER else ())):
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    path = folder / f"{len(list(folder.iterdir()))}_{file}"  # another name for each: guests are assembled once
    path.write_text(text)
    return path


def failure(path: Path) -> str | None:
    """How it first fails under random preemption, with three to five vCPUs, in different shapes; None: never."""
    for seed in range(1, SEARCHED + 1):
        vcpus, pcpus = ((3, 3), (3, 2), (4, 4), (5, 3))[seed % 4]
        trial = Trial("", policy("vanilla"), "chaos", vcpus, pcpus, rounds=10, seed=seed, duration_ms=8)
        if (ended := outcome(trial, path)) != ALL_RETURNED:
            return ended
    return None


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_found(name: str, tmp_path: Path) -> None:
    """Within the same machines in which the lock as shipped is right, the mutant breaks or stands still."""
    file, before, after = MUTANTS[name]
    assert failure(variant(tmp_path, file)) is None
    assert failure(variant(tmp_path, file, (before, after)))


def test_lost_wakeup_needs_the_store_buffer(tmp_path: Path) -> None:
    """With the plain store seen at once, by a fence behind it, the paravirtual lock loses no wake-up."""
    file, before, after = MUTANTS["PV state halted as a plain store"]
    assert "halted" in str(failure(variant(tmp_path, file, (before, after))))
    assert failure(variant(tmp_path, file, (before, f"{after}\nmfence "))) is None
