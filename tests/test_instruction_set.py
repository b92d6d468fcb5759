"""Instructions in a guest, where registers and memory alone do not show all: time, interrupts, exits, faults."""

from __future__ import annotations

import re

import pytest
from made_processors import BASE, CODE, END, MEMORY, MEMORY_SIZE, State, execute
from test_edges import run

from pleemu import errors
from pleemu.hardware.records import FAULT_ALIGNMENT, FAULT_DIVIDE, FAULT_READ, FAULT_READONLY, FAULT_WRITE
from pleemu.observe.events import CPUID, KVM_EXIT, PROBE

RAX, RCX = 0, 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the one guest lies that all sequences replace."""
    return tmp_path_factory.mktemp("guest")


def state(**registers):
    values = [0] * 16
    values[4] = MEMORY + 400
    for number, value in registers.items():
        values[int(number[1:])] = value
    return State(values, 0, bytearray(range(256)) * (MEMORY_SIZE // 256))


def test_repetition_without_elements_touches_no_memory():
    """With RCX = 0 a repeated string instruction does nothing, wherever its addresses lead."""
    before = state(r1=0, r6=0xDEAD, r7=1 << 63)
    for code in ("f3a4", "f3aa", "f2ae", "f3a7"):
        after = execute(bytes.fromhex(code), before)
        assert (after.registers, after.memory, after.fault) == (before.registers, before.memory, (0, 0))


@pytest.mark.parametrize(
    ("code", "source", "destination", "fault", "left"),
    [
        ("f348a5", MEMORY, END - 24, FAULT_WRITE, 97),  # rep movsq
        ("f3a4", END - 5, MEMORY, FAULT_READ, 95),
        ("f3aa", 0, CODE, FAULT_READONLY, 100),
        ("f3ab", 0, (1 << 64) - 2, FAULT_WRITE, 100),  # wraps around at 2^64
        ("f2ae", 0, END - 7, FAULT_READ, 93),
        ("fdf348ad", BASE + 16, 0, FAULT_READ, 97),  # std; rep lodsq runs down over the start
    ],
)
def test_string_stops_at_the_element_that_faults(code, source, destination, fault, left):
    """What came before it is done, it is not, and the registers say where it stands."""
    before = state(r0=0x1FF, r1=100, r6=source, r7=destination)
    after = execute(bytes.fromhex(code), before)
    assert (after.fault[0], after.registers[RCX]) == (fault, left)


def test_divide_error_changes_nothing():
    """#DE leaves RAX and RDX as they were."""
    for code in ("48f7f1", "48f7f9", "f6f1", "66f7f9"):
        before = state(r0=0x1234567890ABCDEF, r2=99, r1=0)
        after = execute(bytes.fromhex(code), before)
        assert (after.registers, after.fault) == (before.registers, (FAULT_DIVIDE, CODE))


def test_most_negative_number_has_no_quotient_by_minus_one():
    """Idiv of -2^63 by -1 is #DE; by 1 it is -2^63."""
    low = 1 << 63
    fails = execute(bytes.fromhex("4899" + "48f7f9"), state(r0=low, r1=2**64 - 1))
    works = execute(bytes.fromhex("4899" + "48f7f9"), state(r0=low, r1=1))
    assert (fails.fault, works.fault, works.registers[RAX]) == ((FAULT_DIVIDE, CODE + 2), (0, 0), low)


def test_cmpxchg16b_must_be_aligned():
    """An operand that is not aligned to 16 bytes is #GP (SDM 2 CMPXCHG16B); cmpxchg8b takes any."""
    before = state(r7=MEMORY + 8)
    assert execute(bytes.fromhex("f0480fc70f"), before).fault == (FAULT_ALIGNMENT, CODE)
    assert execute(bytes.fromhex("f00fc70f"), state(r7=MEMORY + 3)).fault == (0, 0)


def test_string_is_one_instruction_and_costs_its_elements(tmp_path):
    """1000 elements more take 1000 cycles more, and are one instruction."""
    body = """
        lea rdi, [rip + buffer]
        mov ecx, {count}
        rdtsc
        mov r8d, eax
        rep stosb
        rdtsc
        sub eax, r8d
        lock_wait eax
        ret
        .data
        buffer: .skip 4096
    """
    one, first = run(tmp_path, body.format(count=1))
    many, second = run(tmp_path, body.format(count=1001))
    ticks = [int(events[events["kind"] == PROBE]["b"][0]) for events in (first, second)]
    assert (one.instructions, ticks[1] - ticks[0]) == (many.instructions, 1000)


def test_interrupts_strike_within_a_string_instruction(tmp_path):
    """A long rep stosb is interrupted again and again, and still writes all its bytes."""
    body = """
        test edi, edi
        jne 2f
        sti
        lea rdi, [rip + buffer]
        mov ecx, 120000
        mov eax, 7
        rep stosb
        cmp byte ptr [rip + buffer + 119999], 7
        jne 1f
        cmp dword ptr [rip + strikes], 5
        jb 1f
        operation_done
    1:  ret
    2:  mov ebx, 6
    3:  send_ipi 0, 0x40
        work 8000
        dec ebx
        jne 3b
        ret
        vector 0x40, handler
    handler:
        push rax
        push rcx
        push rdx
        inc dword ptr [rip + strikes]
        eoi
        pop rdx
        pop rcx
        pop rax
        iretq
        .data
        strikes: .quad 0
        buffer: .skip 120000
    """
    found, _ = run(tmp_path, body, vcpus=2, pcpus=2)
    assert found.vms[0].operations == 1


def test_popfq_at_cpl_0_opens_the_window(tmp_path):
    """An interrupt that waits is delivered behind a POPFQ that sets IF."""
    body = """
        send_ipi 0, 0x40
        pushfq
        or qword ptr [rsp], 0x200
        popfq
        cmp dword ptr [rip + strikes], 1
        jne 1f
        operation_done
    1:  ret
        vector 0x40, handler
    handler:
        inc dword ptr [rip + strikes]
        push rax
        push rcx
        push rdx
        eoi
        pop rdx
        pop rcx
        pop rax
        iretq
        .data
        strikes: .quad 0
    """
    found, _ = run(tmp_path, body)
    assert found.vms[0].operations == 1


def test_cpuid_exits_and_answers(tmp_path):
    """CPUID is a VM exit of its own reason; it names the hypervisor bit, the vCPU and the TSC's rate."""
    body = """
        mov r12d, edi
        mov eax, 1
        cpuid
        bt ecx, 31
        jnc 1f
        shr ebx, 24
        cmp ebx, r12d
        jne 1f
        mov eax, 0x15
        cpuid
        cmp eax, 1
        jne 1f
        test ebx, ebx
        je 1f
        operation_done
    1:  ret
    """
    found, events = run(tmp_path, body, vcpus=2, pcpus=2)
    exits = events[(events["kind"] == KVM_EXIT) & (events["a"] == CPUID)]
    assert (found.vms[0].operations, len(exits), found.exits_by_reason()["CPUID"]) == (2, 4, 4)


def test_fault_report_shows_the_registers(tmp_path):
    """One line with place, instruction and reason, then the 16 registers and RFLAGS as they are."""
    body = " mov r15, -2\n xor ecx, ecx\n stc\n std\n mov eax, 7\n cdq\n div rcx\n ret\n"
    with pytest.raises(errors.GuestFault) as fault:
        run(tmp_path, body)
    first, *block = str(fault.value).splitlines()
    assert re.search(
        r"guest\.S:\d+: guest fault in vm0 vCPU 0: divide error: a divisor of 0, or a quotient of more than 64 bits; "
        r"RIP 0x[0-9a-f]+ \(guest_main\+0x\w+\) `div rcx`$",
        first,
    )
    shown = dict(re.findall(r"(r\w\w?) ([0-9a-f]{16})", "\n".join(block)))
    assert len(shown) == 16
    assert (shown["rax"], shown["rcx"], shown["r15"]) == (f"{7:016x}", "0" * 16, "f" * 15 + "e")
    assert block[-1].strip() == "rflags 0x447 CF PF ZF DF  CPL 0"
