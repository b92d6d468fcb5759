"""Sets of vCPUs that can never go on: found, told in a sentence, and never seen where somebody can."""

from __future__ import annotations

from pathlib import Path

import pytest

from pleemu.machine.result import Run
from pleemu.machine.run import simulate
from pleemu.policy import policy
from pleemu.report.json_form import run_to_dict
from pleemu.scenario import Hardware, Host, Scenario, Vm

GUESTS = Path(__file__).parent / "guests"
HEAD = '.include "pleemu.inc"\n.text\n.globl guest_main\nguest_main:\n lea rbx, [rip + lock]\n'
TAIL = "\n.data\n.balign 64\nlock: .long 0\n"
SPIN = "1: pause\n jmp 1b\n"


def run(guest: Path, vcpus: int, pcpus: int, *, duration_ms: float = 60, progress=None, **host: object) -> Run:
    scenario = Scenario(
        name="watched",
        duration_ms=duration_ms,
        hardware=Hardware(pcpus=pcpus),
        host=Host(**host),
        vm=(Vm(name="vm0", program=guest.name, vcpus=vcpus),),
        folder=guest.parent,
    )
    return simulate(scenario, policy=policy("vanilla"), progress=progress)


def run_text(folder: Path, body: str, vcpus: int, pcpus: int, **more: object) -> Run:
    (folder / "guest.S").write_text(HEAD + body + TAIL)
    return run(folder / "guest.S", vcpus, pcpus, **more)


@pytest.mark.parametrize("pcpus", [1, 2])
def test_requests_with_interrupts_off_deadlock_and_the_run_says_who_waits_for_whom(pcpus: int) -> None:
    """Even where the two take turns on one pCPU: the run ends early, in text and in JSON."""
    found = run(GUESTS / "broken" / "masked_answers.S", 2, pcpus)
    assert found.ended == (
        "deadlock: vm0/0 with interrupts off waits for the answer of vm0/1, and vm0/1 with interrupts off waits for "
        "the answer of vm0/0"
    )
    assert found.duration_ns < 60_000_000
    assert run_to_dict(found)["ended"] == found.ended
    assert found.causes.of("nobody can act") > found.causes.exits / 2


@pytest.mark.parametrize("pcpus", [2, 4])
def test_locks_taken_in_two_orders_deadlock_while_another_computes(pcpus: int) -> None:
    """ABBA: a vCPU that waits for nobody saves neither of them."""
    found = run(GUESTS / "broken" / "crossed_locks.S", 4, pcpus, duration_ms=200)
    assert found.ended.startswith(
        "deadlock: vm0/0 waits for the lock lock_b, which vm0/1 holds, and vm0/1 waits for the"
    )
    assert found.duration_ns < 200_000_000
    assert found.vms[0].operations > 0


def test_end_of_a_deadlocked_run_does_not_depend_on_who_watches() -> None:
    """With and without a progress callback: the same digest, the same end."""
    one = run(GUESTS / "broken" / "crossed_locks.S", 4, 2)
    other = run(GUESTS / "broken" / "crossed_locks.S", 4, 2, progress=lambda done, total: None)
    assert (one.digest, one.cycles, one.ended) == (other.digest, other.cycles, other.ended)


def test_lock_that_its_owner_wants_again_is_a_deadlock(tmp_path: Path) -> None:
    """AA: it waits for itself."""
    found = run_text(tmp_path, " lock_acquired rbx\n lock_wait rbx\n" + SPIN, 1, 1)
    assert found.ended == "deadlock: vm0/0 waits for the lock lock, which it holds itself"


def test_holder_that_returned_is_waited_for_in_vain(tmp_path: Path) -> None:
    """Whoever left with the lock will not release it."""
    body = " test edi, edi\n jne 2f\n lock_acquired rbx\n ret\n2: work 100000\n lock_wait rbx\n" + SPIN
    found = run_text(tmp_path, body, 2, 2)
    assert found.ended == "deadlock: vm0/1 waits for the lock lock, which vm0/0 holds, and vm0/0 has ended"


def test_lost_wakeup_of_the_next_in_line_is_seen_through_who_spins_behind_it(tmp_path: Path) -> None:
    """The lock is free, the next to have it sleeps, and nobody is left that would wake it."""
    place = " lock_wait rbx, in_order\n mov eax, 1\n lock xadd dword ptr [rbx], eax\n"
    body = f" test edi, edi\n jne 2f\n{place} hlt\n ud2\n2: work 100000\n{place}{SPIN}"
    found = run_text(tmp_path, body, 2, 2)
    assert found.ended.startswith(
        "deadlock: vm0/1 waits for the lock lock, in which vm0/0 is before it, and vm0/0, halted,"
    )


def test_all_asleep_is_told_at_once(tmp_path: Path) -> None:
    """Everybody is halted with interrupts off and nothing pending."""
    found = run_text(tmp_path, " hlt\n ud2\n", 3, 2)
    assert found.ended == "nothing can happen any more: 3 of 3 vCPUs are halted and nobody is left to wake them"


TRY = "3: mov eax, 1\n xchg dword ptr [rbx], eax\n test eax, eax\n je 4f\n pause\n jmp 3b\n"
TAKE = f" lock_wait rbx\n{TRY}4: lock_acquired rbx\n"


@pytest.mark.parametrize("seed", range(3))
def test_long_preempted_holder_is_no_deadlock(tmp_path: Path, seed: int) -> None:
    """Under chaos, and with a critical section much longer than the watchdog's patience."""
    give = " mov dword ptr [rbx], 0\n lock_released rbx\n operation_done\n"
    body = " mov r14d, 3\n2:" + TAKE + " work 6000000\n" + give + " dec r14\n jne 2b\n ret\n"
    (tmp_path / "guest.S").write_text(HEAD + body + TAIL)
    scenario = Scenario(
        name="watched", duration_ms=200, seed=seed, hardware=Hardware(pcpus=1), host=Host(scheduler="chaos"),
        vm=(Vm(name="vm0", program="guest.S", vcpus=3),), folder=tmp_path,
    )  # fmt: skip
    found = simulate(scenario, policy=policy("vanilla"))
    assert found.ended == "all vCPUs have returned from guest_main"
    assert found.vms[0].operations == 9


def test_crossed_waits_that_are_given_up_are_no_deadlock(tmp_path: Path) -> None:
    """Each wants what the other holds, spins for SPIN_THRESHOLD turns, gives up, and goes home."""
    body = (
        " lea rbp, [rbx + 64]\n test edi, edi\n je 2f\n xchg rbx, rbp\n2: lock_acquired rbx\n"
        " work 100000\n lock_wait rbp\n"
        " mov ecx, 1 << 15\n3: pause\n dec ecx\n jne 3b\n lock_wait_over rbp\n"
        " lock_released rbx\n operation_done\n ret\n"
    )
    found = run_text(tmp_path, body, 2, 2, duration_ms=1)
    assert found.ended == "all vCPUs have returned from guest_main"
    assert found.vms[0].operations == 2


def test_barrier_that_one_never_reaches_is_a_deadlock(tmp_path: Path) -> None:
    """The one that is missing waits for a lock of who is there already."""
    body = (
        " lea rbp, [rbx + 64]\n test edi, edi\n jne 2f\n lock_acquired rbx\n barrier_wait rbp\n"
        + SPIN
        + "2: work 100000\n lock_wait rbx\n"
        + SPIN
    )
    found = run_text(tmp_path, body, 2, 2)
    assert found.ended.startswith("deadlock: vm0/0 waits for vm0/1 at the barrier ")
    assert found.ended.endswith("and vm0/1 waits for the lock lock, which vm0/0 holds")
