"""The shipped cross-CPU programs keep their promises on any machine, and planted bugs in them are found."""

from __future__ import annotations

import functools
from pathlib import Path
from random import Random

import pytest
from attrs import evolve, frozen
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis.errors import NoSuchExample
from made_cross_cpu import PROGRAMS, Setting, broken, check, settings_of
from made_machines import Command, observe

EXAMPLES = 60  # machines that a search makes
SEARCH_MS = 250  # of each at most
CHAOS = (("vanilla", "chaos"),)


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_keeps_its_promises_everywhere(program: str) -> None:
    """Whatever the policy, scheduler, machine and parameters: no check in the guest fails, and all vCPUs return."""

    @settings(max_examples=25)
    @given(settings_of(program))
    def keeps_its_promises(setting: Setting) -> None:
        check(setting)

    keeps_its_promises()


# ---- Planted bugs ---------------------------------------------------------------------------


@frozen
class Mutant:
    """A program with one text in one of its files replaced by another."""

    program: str
    file: str  # the end of its path
    old: str
    new: str
    says: str  # how the guest says what is wrong: the label of its ud2; or how the run ends

    def files(self, folder: Path) -> tuple[Path, ...]:
        """Write the mutant; its other files are those that are shipped."""
        files = list(PROGRAMS[self.program])
        (place,) = (number for number, path in enumerate(files) if str(path).endswith(self.file))
        text = files[place].read_text()
        assert text.count(self.old) == 1, f"{self.file} has changed: {self.old!r} is there {text.count(self.old)} times"
        files[place] = folder / files[place].name
        files[place].write_text(text.replace(self.old, self.new))
        return tuple(files)


CALLS = "cross_cpu/smp_call.S"
WAKE = "cross_cpu/try_to_wake_up.S"
TLB = "cross_cpu/tlb.S"
BACK = "    lock btr qword ptr [rip + lazy_cpus], r13\n    jmp switch_mm_irqs_off\n"
USED = "1:  lock bts qword ptr [rip + mm_cpumask], r13\n    jmp switch_mm_irqs_off\n"
READ = "    draw read, r12, rcx, rax\n    work rcx\n"
STALE = "(a_stale_tlb_is_used)"
STUCK = "not all vCPUs return"
MUTANTS = {
    "csd unlocked before a function that is waited for": Mutant(
        "calls",
        CALLS,
        "    call qword ptr [rbx + CSD_FUNC]\n",
        "    mov r8, qword ptr [rbx + CSD_FUNC]\n    mov dword ptr [rbx + CSD_FLAGS], 0\n    call r8\n",
        "(a_call_is_not_done)",
    ),
    "csd used again while it is locked": Mutant("calls", CALLS, "    csd_lock csd_lock_many\n", "", ""),
    "csd on the stack of who does not wait": Mutant(
        "calls", CALLS, "    test ebx, ebx\n    jne 3f\n", "    jmp 3f\n", ""
    ),
    "push without LOCK": Mutant(
        "calls", CALLS, "    lock cmpxchg qword ptr [r10], r8 ", "    cmpxchg qword ptr [r10], r8 ", ""
    ),
    "list taken without xchg": Mutant(
        "calls",
        CALLS,
        "    xchg qword ptr [r10 + rax], rbx ",
        "    mov rbx, qword ptr [r10 + rax]\n    mov qword ptr [r10 + rax], 0 ",
        STUCK,
    ),
    "list not turned round": Mutant(
        "calls",
        CALLS,
        "    xor ebp, ebp\n1:  test rbx, rbx ",
        "    mov rbp, rbx\n    xor ebx, ebx\n1:  test rbx, rbx ",
        "(a_call_is_out_of_order)",
    ),
    "next read after the csd is unlocked": Mutant(
        "calls",
        CALLS,
        "5:  call r8\n    jmp 2b\n",
        "5:  call r8\n    mov rbp, qword ptr [rbx + CSD_NEXT]\n    jmp 2b\n",
        "",
    ),
    "caller waits for its last target alone": Mutant(
        "calls", CALLS, "6:  test rbx, rbx\n    jne 7b\n", "6:\n", "(a_call_is_not_done)"
    ),
    "IPI to the first target alone": Mutant(
        "calls",
        CALLS,
        "    send_ipi r9d, CALL_FUNCTION_VECTOR\n    test r12, r12\n    jne 5b\n",
        "    send_ipi r9d, CALL_FUNCTION_VECTOR\n",
        STUCK,
    ),
    "generation raised without LOCK": Mutant(
        "shootdown",
        TLB,
        "    lock xadd qword ptr [rip + tlb_generation]",
        "    xadd qword ptr [rip + tlb_generation]",
        "(a_generation_is_lost)",
    ),
    "shootdown that does not wait": Mutant(
        "shootdown", TLB, "    mov ecx, 1\n", "    xor ecx, ecx\n", "(a_tlb_is_stale)"
    ),
    "flush that stops at a generation before": Mutant(
        "shootdown",
        TLB,
        "    cmp rax, rcx\n    je 3f ",
        "    inc rax\n    cmp rax, rcx\n    je 3f ",
        "(a_tlb_is_stale)",
    ),
    "lazy vCPU that does not catch up": Mutant(
        "shootdown", TLB, BACK, BACK.replace("jmp switch_mm_irqs_off", "ret"), STALE
    ),
    "lazy vCPU that catches up first and is back then": Mutant(
        "shootdown", TLB, BACK, f"    call switch_mm_irqs_off\n{BACK}".replace("jmp switch_mm_irqs_off", "ret"), STALE
    ),
    "address space used without its generation": Mutant(
        "shootdown", TLB, USED, USED.replace("jmp switch_mm_irqs_off", "ret"), STALE
    ),
    "no look at on_cpu": Mutant(
        "wake_up", WAKE, "    cmp dword ptr [rdi + ON_CPU], 0\n    je 2f\n", "    jmp 2f\n", "(a_task_runs_twice)"
    ),
    "on_cpu cleared before the task is switched out": Mutant(
        "wake_up",
        "main.S",
        "    draw switch, r12, rcx, rax\n",
        "    mov dword ptr [rbx + ON_CPU], 0\n    draw switch, r12, rcx, rax\n",
        "(a_task_runs_twice)",
    ),
    "put onto a run queue without LOCK": Mutant(
        "wake_up",
        "main.S",
        "    lock bts qword ptr [r8], rax\n",
        "    bts qword ptr [r8], rax\n",
        "(a_wake_up_is_lost)",
    ),
    "sense turned before the count is back": Mutant(
        "barrier",
        "main.S",
        "2:  mov qword ptr [rdi], 0  ",
        "2:  mov edx, ecx\n    xor edx, 1\n    mov [rdi + SENSE], edx\n    work 500\n    mov qword ptr [rdi], 0  ",
        STUCK,
    ),
    "count without LOCK": Mutant(
        "barrier", "main.S", "    lock xadd qword ptr [rdi], rax ", "    xadd qword ptr [rdi], rax ", STUCK
    ),
    "barrier for one less": Mutant(
        "barrier",
        "main.S",
        "    inc rax\n    cmp rax, r15\n    je 2f\n",
        "    add rax, 2\n    cmp rax, r15\n    je 2f\n",
        "(passed_too_early)",
    ),
    "quiescent before the read is over": Mutant(
        "grace_period", "main.S", READ, f"{READ}    call rcu_qs\n{READ}", "(read_after_free)"
    ),
    "grace period without the last reader": Mutant(
        "grace_period",
        "main.S",
        "    cmp r9, r15\n    jae 4f\n",
        "    inc r9\n    cmp r9, r15\n    jae 4f\n    dec r9\n",
        "(read_after_free)",
    ),
    "published after the grace period": Mutant(
        "grace_period",
        "main.S",
        "    mov qword ptr [rip + published], rbx\n    call synchronize_rcu\n",
        "    call synchronize_rcu\n    mov qword ptr [rip + published], rbx\n",
        "(read_after_free)",
    ),
}


def search(program: str, files: tuple[Path, ...], says: str) -> tuple[str, int]:
    """Look for a machine on which the program is broken: what it says there, and how many were looked at."""
    looked_at = 0

    def is_broken(setting: Setting) -> bool:
        nonlocal looked_at
        looked_at += 1
        wrong = broken(evolve(setting, files=files, bound_ms=SEARCH_MS))
        return wrong != "" and says in wrong

    how = settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    try:
        found = find(settings_of(program, CHAOS), is_broken, settings=how, random=Random(1))
    except NoSuchExample:
        return "", looked_at
    return broken(evolve(found, files=files, bound_ms=SEARCH_MS)), looked_at


@functools.cache
def search_of_the_program_itself(program: str) -> tuple[str, int]:
    return search(program, (), "")


@pytest.mark.parametrize("name", MUTANTS)
def test_planted_bug_is_found_and_the_program_has_none(name: str, tmp_path: Path) -> None:
    """The search that finds the mutant's bug, by the check that is there for it, finds nothing in what is shipped."""
    mutant = MUTANTS[name]
    found, looked_at = search(mutant.program, mutant.files(tmp_path), mutant.says)
    assert found, f"not found in {looked_at} machines"
    assert search_of_the_program_itself(mutant.program) == ("", EXAMPLES)


# ---- What the experiments show --------------------------------------------------------------

FUNCTIONS = {
    "shootdown": {"smp_call_function_many", "smp_call_function_single"},
    "wake_up": {"try_to_wake_up", "native_queued_spin_lock_slowpath"},
    "barrier": {"user_barrier"},
    "grace_period": {"synchronize_rcu"},
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_experiment_shows_its_functions_and_needs_overcommitment(name: str) -> None:
    """All PAUSE exits but 1 % have a function and a wait; with a pCPU for each vCPU an operation costs few of them."""
    duration = "100ms" if name == "grace_period" else "20ms"
    shown = observe(Command(name, {"duration": duration})).run
    assert shown.causes.exits > 20
    assert shown.causes.attributed >= 0.99 * shown.causes.exits
    assert {row.function for row in shown.causes.rows} == FUNCTIONS[name]
    alone = observe(Command(name, {"duration": duration, "pcpus": 8})).run
    shown_cost, cost = (run.ple.exits / sum(vm.operations for vm in run.vms) for run in (shown, alone))
    assert cost < 0.2 * shown_cost  # who spins for a pi_lock whose holder runs stays


def test_paravirtual_flush_spares_the_wait_for_preempted_targets() -> None:
    """KVM flushes for those that have no pCPU: far fewer PAUSE exits, and more shootdowns."""
    by_ipi, by_kvm = (
        observe(Command("shootdown", {"duration": "50ms"}, {"vm.parameters.pv_flush": switch})).run for switch in "01"
    )
    assert by_kvm.ple.exits < 0.3 * by_ipi.ple.exits
    assert by_kvm.vms[0].operations > by_ipi.vms[0].operations


def test_barrier_in_user_mode_has_no_exits() -> None:
    """PLE counts PAUSEs at CPL 0 alone."""
    assert observe(Command("barrier", {"duration": "20ms"}, {"vm.parameters.user": "1"})).run.ple.exits == 0


def test_masked_shootdown_ends_with_who_waits_for_whom() -> None:
    """The initiators themselves are what makes it a deadlock: with interrupts on the same machine goes on."""
    masked = observe(Command("masked_shootdown")).run
    assert masked.ended.startswith("deadlock: vm0/0 with interrupts off waits for the answer of vm0/1")
    assert masked.cycles < observe(Command("masked_shootdown", {}, {"vm.parameters.masked": "0"})).run.cycles
