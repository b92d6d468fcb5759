"""Planted bugs in the shipped locks: a bounded search under the chaos scheduler finds each, and none in the locks."""

from __future__ import annotations

import functools
from pathlib import Path
from random import Random

import pytest
from attrs import evolve, frozen
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from made_locks import LOCKS, PROGRAMS, Setting, broken

EXAMPLES = 80  # machines that a search makes


@frozen
class Mutant:
    """A lock with one text in its file replaced by another."""

    lock: str
    old: str
    new: str

    def files(self, folder: Path) -> tuple[Path, ...]:
        """Write the mutant; its other files are those that are shipped."""
        first, *others = PROGRAMS[self.lock]
        text = (LOCKS / first).read_text()
        assert text.count(self.old) == 1, f"{first} has changed: {self.old!r} is there {text.count(self.old)} times"
        path = folder / first
        path.write_text(text.replace(self.old, self.new))
        return (path, *(LOCKS / name for name in others))


HALT = "    xchg dword ptr [r8 + Q_NODE_STATE], eax     # running -> halted"
MUTANTS = {
    "xchg dropped from test and set": Mutant(
        "test_and_set",
        "    xchg dword ptr [rdi], eax ",
        "    mov ecx, eax\n    mov eax, dword ptr [rdi]\n    mov dword ptr [rdi], ecx ",
    ),
    "ticket without xadd": Mutant(
        "ticket",
        "    lock xadd dword ptr [rdi], eax ",
        "    mov ecx, eax\n    mov eax, dword ptr [rdi]\n    add dword ptr [rdi], ecx ",
    ),
    "ticket's xadd without LOCK": Mutant("ticket", "    lock xadd dword", "    xadd dword"),
    "MCS unlock that does not wait for next": Mutant(
        "mcs", "    pause\n    jmp mcs_next_wait\n", "    lock_wait_over rdx\n    lock_released rdi\n    ret\n"
    ),
    "MCS node with an old next": Mutant("mcs", "    mov qword ptr [rdx + NEXT], 0\n", ""),
    "CLH node that is not locked": Mutant("clh", "1:  mov dword ptr [rdx], 1 ", "1:  mov dword ptr [rdx], 0 "),
    "pending bit not cleared": Mutant(
        "qspinlock", "1:  mov word ptr [rdi], Q_LOCKED ", "1:  mov byte ptr [rdi], Q_LOCKED "
    ),
    "pending bit not undone": Mutant("qspinlock", "    mov byte ptr [rdi + 1], 0  ", "    nop  "),
    "no hand-off": Mutant("qspinlock", "    mov dword ptr [rdx + Q_NODE_LOCKED], 1\n", ""),
    "head ignores pending": Mutant(
        "qspinlock", "    test eax, Q_LOCKED_MASK | Q_PENDING_MASK\n", "    test eax, Q_LOCKED_MASK\n"
    ),
    "PV: halted is a plain store": Mutant("pv_qspinlock", HALT, HALT.replace("xchg", "mov")),
    "PV: the unlocker does not kick": Mutant("pv_qspinlock", "    kick r8d\n", ""),
    "reader does not look for a writer": Mutant("qrwlock", "    jne queued_read_lock_slowpath\n", ""),
    "writer does not wait for readers": Mutant(
        "qrwlock", "    cmp dword ptr [rdi], WAITING\n    jne 3f\n", "    mov dword ptr [rdi], WAITING\n"
    ),
    "seqlock's reader does not look again": Mutant("seqlock", "    xor eax, esi\n", "    xor eax, eax\n"),
}


@st.composite
def machines(draw: st.DrawFn, lock: str) -> Setting:
    """Machines on which short critical sections meet: at least 3 vCPUs and 2 rounds (stale nodes need that).

    Those of the paravirtual lock have more, which halt soon: who loses a wake-up shares its node's cache line with the
    one behind it.
    """
    halts = lock == "pv_qspinlock"
    fields = {
        "host.chaos_max_ns": draw(st.sampled_from(("100000", "1000000") if halts else ("3000", "100000", "1000000"))),
        "hardware.transfer_ns": draw(st.sampled_from(("200", "1000") if halts else ("200", "1000", "3000"))),
        "vm.parameters.objects": "1",
        "hardware.locked_cycles": str(draw(st.integers(1, 40))),
    }
    if halts:
        fields["vm.parameters.spin_threshold"] = str(draw(st.sampled_from((16, 64, 256, 512))))
    if lock in ("qrwlock", "seqlock"):
        fields["vm.parameters.readers"] = "50"
    return Setting(
        lock=lock,
        vcpus=draw(st.integers(4, 8) if halts else st.integers(3, 5)),
        pcpus=draw(st.integers(3, 6) if halts else st.integers(2, 4)),
        rounds=draw(st.sampled_from((60, 200) if halts else (2, 20, 60))),
        seed=draw(st.integers(0, 2**32)),
        hold=draw(st.sampled_from(("0..2us", "0..20us", "0..100us"))),
        think=draw(st.sampled_from(("0..2us", "0..20us", "0..100us"))),
        fields=tuple(fields.items()),
    )


def search(lock: str, files: tuple[Path, ...] = (), **fields: str) -> tuple[Setting | None, int]:
    """Look for a machine on which the lock is broken: it, if there is one, and how many were looked at."""
    looked_at = 0

    def is_broken(setting: Setting) -> bool:
        nonlocal looked_at
        looked_at += 1
        chosen = dict(setting.fields) | {name.replace("__", "."): value for name, value in fields.items()}
        return broken(evolve(setting, files=files, fields=tuple(chosen.items()))) != ""

    how = settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    try:
        return find(machines(lock), is_broken, settings=how, random=Random(1)), looked_at
    except NoSuchExample:
        return None, looked_at


@functools.cache
def search_of_the_lock_itself(lock: str) -> tuple[Setting | None, int]:
    return search(lock)


@pytest.mark.parametrize("name", MUTANTS)
def test_planted_bug_is_found_and_the_lock_has_none(name: str, tmp_path: Path) -> None:
    """The search that finds the mutant's bug finds nothing in the lock as it is shipped."""
    mutant = MUTANTS[name]
    found, looked_at = search(mutant.lock, mutant.files(tmp_path))
    assert found, f"not found in {looked_at} machines"
    itself, looked_at = search_of_the_lock_itself(mutant.lock)
    assert itself is None, f"the lock itself is broken: {itself.command()}"
    assert looked_at == EXAMPLES


def test_lost_wake_up_needs_the_store_buffer(tmp_path: Path) -> None:
    """Halted as a plain store is no bug if a store reaches memory in the next cycle, no line being on its way."""
    plain = MUTANTS["PV: halted is a plain store"]
    assert search(plain.lock, plain.files(tmp_path))[0]
    assert search(plain.lock, plain.files(tmp_path), hardware__transfer_ns="0")[0] is None


def test_lost_wake_up_is_cured_by_a_fence(tmp_path: Path) -> None:
    """Halted as a plain store is no bug with an MFENCE behind it."""
    fenced = Mutant("pv_qspinlock", HALT, HALT.replace("xchg", "mov").replace("#", "\n    mfence #"))
    assert search(fenced.lock, fenced.files(tmp_path))[0] is None
