"""The shipped experiments show what they promise, and a bad guest is stopped with a sentence."""

from __future__ import annotations

import functools

import pytest
from made_guests import MAIN, write_guest
from made_machines import Command, observe, prepare_core

from pleemu.cli import main
from pleemu.errors import GuestFault
from pleemu.machine.run import simulate
from pleemu.observe.events import KVM_EXIT, PAUSE_INSTRUCTION, PLE_WINDOW, SCHED_SWITCH, STATE_PREEMPTED


@functools.cache
def observed(name, policy):
    return observe(Command(name, {"policy": policy}))


def run(name, policy):
    return observed(name, policy).run


def boosts(result, target, what="attempts"):
    """Directed yields of a run at vCPUs in one state."""
    return sum(getattr(row, what) for row in result.boosts if row.target == target)


def test_worst_case_is_the_trace_of_the_talk():
    """One vCPU exits over 100 times at one address, every 26 us, 4 to 5 us of it in the guest, its window at 4096."""
    longest = run("worst_case", "vanilla").ple.runs[0]
    assert longest.length > 100
    assert 24_000 <= longest.period_ns <= 28_000
    assert 4_000 <= longest.guest_ns <= 5_000
    assert (longest.first_window, longest.last_window) == (4096, 4096)


def test_worst_case_switches_at_every_exit_of_its_longest_run():
    """A real context switch lies between any two of these exits: that is why the window does not grow."""
    seen = observed("worst_case", "vanilla")
    (longest, *_) = seen.run.ple.runs
    vcpu = longest.vcpu + (2 if longest.vm == "vm1" else 0)
    begins = longest.start_ns * seen.run.scenario.hardware.core_rate_khz // 1_000_000
    mine = seen.events[(seen.events["vcpu"] == vcpu) & (seen.events["cycle"] >= begins)]
    kinds = []
    for event in mine[(mine["kind"] == KVM_EXIT) | (mine["kind"] == SCHED_SWITCH)]:
        if event["kind"] == SCHED_SWITCH or event["a"] == PAUSE_INSTRUCTION:
            kinds.append(int(event["kind"]))
        if kinds.count(KVM_EXIT) == 100:
            break
    assert kinds == [KVM_EXIT, SCHED_SWITCH] * 99 + [KVM_EXIT]


@pytest.mark.parametrize("policy", ["debooster", "strict-boost+debooster"])
def test_worst_case_is_cured_by_debooster(policy):
    """With Debooster no vCPU exits more than 3 times in a row, and the guests do more."""
    cured, vanilla = run("worst_case", policy), run("worst_case", "vanilla")
    assert cured.ple.longest_run <= 3
    assert sum(vm.operations for vm in cured.vms) > sum(vm.operations for vm in vanilla.vms)


def test_worst_case_needs_ple():
    """Without pause-loop exiting there are no such exits at all."""
    assert run("worst_case", "no-ple").ple.exits == 0


def test_case_study_doubles_the_window_at_each_exit():
    """The spinner is picked again each time: within the longest run the window is 4096, 8192, 16384, ..."""
    seen = observed("case_study", "vanilla")
    (longest, *_) = seen.run.ple.runs
    begins = longest.start_ns * seen.run.scenario.hardware.core_rate_khz // 1_000_000
    windows = seen.of_kind(PLE_WINDOW)
    windows = windows[(windows["vcpu"] == longest.vcpu) & (windows["cycle"] >= begins)][: longest.length]
    assert longest.length >= 5
    assert windows["a"].tolist() == [4096 << k for k in range(longest.length)]
    assert windows["b"].tolist() == [8192 << k for k in range(longest.length)]
    assert (longest.first_window, longest.last_window) == (4096, 4096 << (longest.length - 1))


def test_lost_opportunity_is_seized_by_strict_boost():
    """Vanilla KVM never nominates the receiver that was preempted in user mode, Strict Boost does."""
    target = "preempted in user mode"
    assert run("lost_opportunity", "vanilla").ple.exits > 0
    assert boosts(run("lost_opportunity", "vanilla"), target) == 0
    assert boosts(run("lost_opportunity", "strict-boost"), target) > 0
    assert boosts(run("lost_opportunity", "strict-boost+debooster"), target, "honoured") > 0


def test_overboost_becomes_less_by_strict_boost():
    """Strict Boost nominates fewer woken vCPUs than vanilla KVM; fewer, not none: its patch skips once."""
    target = "woken, not yet run"
    strict, vanilla = (boosts(run("overboost", policy), target) for policy in ("strict-boost", "vanilla"))
    assert 0 < strict < vanilla


@pytest.mark.parametrize("name", ["ticket_lock", "queued_lock"])
def test_lock_experiments_have_preempted_vcpus_and_exits(name):
    """Twice as many vCPUs as pCPUs: threads are preempted, waiters exit, and both VMs get their share."""
    seen = observed(name, "vanilla")
    switches = seen.of_kind(SCHED_SWITCH)
    assert (switches["c"] == STATE_PREEMPTED).sum() > 20
    assert seen.run.ple.continuous > 100
    assert all(0.3 < vm.cpu_share < 0.7 for vm in seen.run.vms)


TAIL = "\n.data\n.balign 64\nword: .quad 0\n"
FAULTS = {
    "jumps out of memory": (
        "mov rax, 0x12345678\n jmp rax",
        ("jump to 0x12345678", "where no instruction begins", "jmp rax"),
    ),
    "returns to nowhere": ("push 5\n ret", ("jump to 0x5", "ret")),
    "jumps into data": ("lea rax, [rip + word]\n jmp rax", ("jump to 0x", "where no instruction begins")),
    "jumps into an instruction": (
        "lea rax, [rip + guest_main]\n inc rax\n jmp rax",
        ("jump to 0x", "no instruction begins"),
    ),
    "reaches a ud2": ("ud2", ("invalid opcode at 0x", "`ud2`")),
    "reads far out of memory": (
        "mov rax, 0x7fffffffffffffff\n mov ecx, [rax]",
        ("read of 4 bytes at 0x7fffffffffffffff", "outside the guest's memory"),
    ),
    "reads at the edge": (
        "lea rax, [rip + word]\n or rax, 0x3ffff\n and rax, -4096\n add rax, 0x100000\n mov rcx, [rax]",
        ("read of 8 bytes", "outside the guest's memory"),
    ),
    "writes out of memory": ("xor eax, eax\n mov qword ptr [rax], 1", ("write of 8 bytes at 0x0, outside",)),
    "writes before its memory": (
        "mov rax, -8\n lock inc qword ptr [rax]",
        ("write of 8 bytes at 0xfffffffffffffff8, outside",),
    ),
    "writes to code": (
        "lea rax, [rip + guest_main]\n mov byte ptr [rax], 0",
        ("write of 1 bytes", "(guest_main)", "read-only"),
    ),
    "pushes out of memory": ("mov rsp, 16\n push rax", ("write of 8 bytes at 0x8, outside",)),
    "pops out of memory": ("mov rsp, 16\n pop rax", ("read of 8 bytes at 0x10, outside",)),
    "privileged at CPL 3": (
        '.include "pleemu.inc"\n mov rax, rsp\n enter_user user, rax\nuser: hlt',
        ("privileged instruction at CPL 3", "user", "hlt"),
    ),
    "unknown MSR": ("mov ecx, 0x1b\n rdmsr", ("read of MSR 0x1b; readable are", "rdmsr")),
    "vector without handler": (
        '.include "pleemu.inc"\n send_ipi 0, 0x77\n sti\n nop\n nop\n ret',
        ("interrupt vector 0x77 has no handler",),
    ),
    "IPI to a missing vCPU": ('.include "pleemu.inc"\n send_ipi 9, 0x77\n ret', ("destination 0x9", "0-1", "wrmsr")),
    "IPI of another kind": ('.include "pleemu.inc"\n send_ipi 1, 0x400\n ret', ("write of 0x400 to MSR 0x830: only",)),
    "iretq to ring 1": (
        "push 0\n push rsp\n push 2\n push 1\n lea rax, [rip + guest_main]\n push rax\n iretq",
        ("iretq to CS 0x1; the built-in GDT has",),
    ),
}


@pytest.mark.parametrize("bad", FAULTS)
def test_bad_guest_is_stopped_with_a_sentence(bad, tmp_path, capsys):
    """What the guest did is named with address, instruction, RIP, symbol, line and vCPU; exit code 2."""
    prepare_core()
    body, said = FAULTS[bad]
    includes = [line for line in body.split("\n") if ".include" in line]
    body = "\n".join(line for line in body.split("\n") if ".include" not in line)
    path = write_guest(tmp_path, "\n".join((*includes, MAIN + body + TAIL)))
    with pytest.raises(GuestFault) as fault:
        simulate(Command(str(path)).scenario())
    message = str(fault.value)
    assert all(part in message for part in said), message
    assert "guest fault in vm0 vCPU 0:" in message or "guest fault in vm0 vCPU 1:" in message
    assert "; RIP 0x" in message
    assert "guest.S:" in message
    assert main(["run", str(path)]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert "Traceback" not in printed.err
