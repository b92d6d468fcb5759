"""Edges of the machine that are easily got wrong, each as a guest of a few lines."""

import attrs
import numpy as np
import pytest

from pleemu import catalogue, errors
from pleemu.errors import ScenarioError
from pleemu.machine.run import simulate
from pleemu.observe.events import KVM_EXIT, PROBE
from pleemu.overrides import Overrides
from pleemu.scenario import Cost, Hardware, Host, Kvm, Scenario, Vm

HEAD = '.include "pleemu.inc"\n.globl guest_main\nguest_main:\n'
HANDLER = "handler:\n push rax\n push rcx\n push rdx\n eoi\n pop rdx\n pop rcx\n pop rax\n iretq\n"


def run(folder, body, *, vcpus=1, pcpus=1, duration_ms=1.0, writable_code=False, **fields):
    """Run a guest of its own; its events come with what it found."""
    (folder / "guest.S").write_text(HEAD + body)
    vm = Vm(name="vm0", program="guest.S", vcpus=vcpus, writable_code=writable_code)
    scenario = Scenario(
        name="edge", duration_ms=duration_ms, hardware=Hardware(pcpus=pcpus), vm=(vm,), folder=folder, **fields
    )
    chunks = []
    found = simulate(scenario, events=chunks.append)
    return found, np.concatenate(chunks)


def test_probe_reads_the_size_of_its_operand(tmp_path):
    """A 4-byte register operand is its low 4 bytes, whatever stands above them."""
    found, events = run(tmp_path, " mov rbx, 0x100000001000\n work ebx\n lock_wait ebx\n ret\n")
    assert events[events["kind"] == PROBE]["b"].tolist() == [0x1000]
    assert found.ended == "all vCPUs have returned from guest_main"


def test_sti_holds_interrupts_off_for_one_instruction_only(tmp_path):
    """A posted interrupt strikes at the beginning of the work behind STI, not at its end."""
    body = " send_ipi 0, 0x40\n sti\n work 1000000000\n ret\n vector 0x40, handler\n" + HANDLER.replace(
        " push rax\n", " operation_done\n push rax\n", 1
    )
    found, _ = run(tmp_path, body)
    assert found.vms[0].operations == 1


def test_halt_ends_by_an_interrupt_that_is_delivered(tmp_path):
    """With a higher class in service a lower interrupt does not end HLT."""
    body = (
        " test edi, edi\n jne 2f\n send_ipi 0, 0x80\n sti\n nop\n"
        "1: hlt\n operation_done\n jmp 1b\n"
        "2: work 200000\n send_ipi 0, 0x21\n ret\n"
        " vector 0x80, open\n vector 0x21, open\nopen: iretq\n"
    )
    found, _ = run(tmp_path, body, vcpus=2, pcpus=2)
    assert found.vms[0].operations == 0


@pytest.mark.parametrize("vector", [0x3F, 0x7F, 0xBF, 0xFF])
def test_top_vector_of_a_word_is_delivered(tmp_path, vector):
    """The vectors in bit 63 of an APIC register's words work like all others."""
    handler = f" vector {vector}, handler\n" + HANDLER.replace(" push rax\n", " operation_done\n push rax\n", 1)
    found, _ = run(tmp_path, f" send_ipi 0, {vector}\n sti\n nop\n nop\n ret\n" + handler)
    assert found.vms[0].operations == 1


def test_events_of_an_ending_thread_keep_their_place(tmp_path):
    """A vCPU that returns far ahead of the others is switched out in the order of the cycles."""
    body = " test edi, edi\n jne 2f\n .rept 400\n nop\n .endr\n ret\n2: .rept 400\n operation_done\n .endr\n ret\n"
    _, events = run(tmp_path, body, vcpus=2, pcpus=2)
    assert (np.diff(events["cycle"]) >= 0).all()


def test_first_fault_is_the_one_reported(tmp_path):
    """A fault that another vCPU runs into later is not reported instead."""
    body = (
        " test edi, edi\n jne 2f\n .rept 900\n nop\n .endr\n mov rax, 0x1234\n jmp rax\n2: mov dword ptr [8], 1\n ret\n"
    )
    with pytest.raises(errors.GuestFault, match="vCPU 1: write of 4 bytes at 0x8"):
        run(tmp_path, body, vcpus=2, pcpus=2)


def test_kick_reaches_a_guest_that_has_yet_to_exit(tmp_path):
    """Without APICv an IPI to a vCPU in its guest code makes it exit, be the IPI's flight longer than the exit."""
    body = (
        " test edi, edi\n jne 2f\n1: work 3000\n send_ipi 1, 0x40\n jmp 1b\n"
        "2: sti\n3: nop\n pause\n jmp 3b\n vector 0x40, handler\n" + HANDLER
    )
    cost = attrs.evolve(Cost(), ipi_ns=9000, exit_ns=0, entry_ns=0)
    _, events = run(tmp_path, body, vcpus=2, pcpus=2, kvm=Kvm(apicv=False), cost=cost)
    kicks = (events["kind"] == KVM_EXIT) & (events["vcpu"] == 1) & (events["a"] == 1)
    assert kicks.sum() > 10


def test_run_ends_before_its_threads_start(tmp_path):
    """A run too short for any thread to start says truly that its time is over."""
    (tmp_path / "guest.S").write_text(HEAD + " ret\n")
    vm = Vm(name="vm0", program="guest.S")
    spread = Host(start_spread_ms=1000.0)
    found = simulate(Scenario(name="edge", duration_ms=0.001, host=spread, vm=(vm,), folder=tmp_path))
    assert found.ended == "the time is over"


def test_unclosed_bracket_is_an_error(tmp_path):
    """What LLVM would take for another instruction is refused, with its place."""
    with pytest.raises(errors.GuestError, match=r"guest\.S:4: \[ and \] do not match in 'mov eax, \[rbx'"):
        run(tmp_path, " mov eax, [rbx  # ]\n ret\n")


BESIDE = (
    " mov byte ptr [rip + beside], 7\n cmp byte ptr [rip + beside], 7\n jne 1f\n operation_done\n1: ret\n"
    ".type beside, @object\nbeside: .quad 0\n"
)
OVER = "1: jmp 2f\n2: mov byte ptr [rip + 1b + 1], 0\n ret\n"


def test_code_is_readonly_unless_asked(tmp_path):
    """Data among the code can be written where the scenario says so; an instruction never."""
    with pytest.raises(errors.GuestFault, match=r"beside\), which is read-only; vm.writable_code"):
        run(tmp_path, BESIDE)
    assert run(tmp_path, BESIDE, writable_code=True)[0].vms[0].operations == 1
    with pytest.raises(errors.GuestFault, match="an instruction, which cannot change"):
        run(tmp_path, OVER, writable_code=True)
    with pytest.raises(errors.GuestFault, match="an instruction, which cannot change"):
        run(tmp_path, " lea rsp, [rip + 1f + 9]\n push rax\n1: nop\n .skip 16, 0x90\n ret\n", writable_code=True)


CROSSING = {
    "lock inc dword ptr [rbx + 62]": "lock inc qword ptr [rbx + 60]",
    "mov rax, [rbx + 60]": "lock inc qword ptr [rbx + 60]",
    "mov [rbx + 62], eax\n mov rax, [rbx + 60]": "lock inc qword ptr [rbx + 48]",
    "lea rsp, [rbx + 60]\n pop rax": "mov [rbx + 60], rax",
}


@pytest.mark.parametrize("ours", CROSSING)
def test_access_to_two_lines_ends(tmp_path, ours):
    """Whoever waits for two lines gets both, however many others want them."""
    body = (
        f" lea rbx, [rip + line]\n mov r12, rsp\n mov ecx, 20\n test edi, edi\n je 2f\n1: {CROSSING[ours]}\n jmp 1b\n"
        f"2: {ours}\n operation_done\n dec ecx\n jne 2b\n mov rsp, r12\n ret\n.data\n.balign 64\nline: .space 128\n"
    )
    assert run(tmp_path, body, vcpus=5, pcpus=5)[0].vms[0].operations == 20


def test_work_of_a_memory_operand_takes_its_time(tmp_path):
    """The operand is read once: others who write its line do not lengthen the work."""
    body = (
        " lea rbx, [rip + cycles]\n test edi, edi\n jne 1f\n operation_done\n"
        ' probe_operand work, "8@(%rbx)"\n operation_done\n ret\n'
        "1: lock inc qword ptr [rbx + 8]\n jmp 1b\n.data\n.balign 64\ncycles: .quad 200000, 0\n"
    )
    _, events = run(tmp_path, body, vcpus=2, pcpus=2)
    first, last = events[events["kind"] == PROBE]["cycle"].tolist()
    assert 200_000 <= last - first < 200_500


def test_a_broadcast_does_not_hold_up_other_ipis(tmp_path):
    """An IPI to a vCPU that a broadcast will reach much later arrives as soon as without the broadcast."""
    body = (
        " cmp edi, 1\n je 1f\n cmp edi, 39\n je 2f\n test edi, edi\n jne 4f\n"
        " work 60000\n send_ipis 0, ICR_TO_ALL_BUT_SELF | 0x50\n jmp 4f\n"
        "1: work 75000\n operation_done\n send_ipi 39, 0x60\n jmp 4f\n"
        "2: sti\n3: pause\n jmp 3b\n4: cli\n5: pause\n jmp 5b\n"
        " vector 0x50, handler\n vector 0x60, answer\nanswer: operation_done\n" + HANDLER
    )
    _, events = run(tmp_path, body, vcpus=40, pcpus=40, kvm=Kvm(ple_gap=0))
    probes = events[events["kind"] == PROBE]
    sent, received = probes["cycle"].tolist()[:2]
    assert probes["vcpu"].tolist()[:2] == [1, 39]
    assert received - sent < 15_000


def test_a_stack_that_overflows_is_noticed(tmp_path):
    """A vCPU that goes beyond its stack does not reach that of another, which holds its own."""
    deep = "1: sub rsp, 64\n mov byte ptr [rsp], 0x55\n dec ecx\n jne 1b\n"
    body = f" mov ecx, COUNT\n cmp edi, WHO\n jne 2f\n mov rax, rsp\n{deep} mov rsp, rax\n2: operation_done\n ret\n"
    for who in (0, 1, 2):
        fits = body.replace("COUNT", "63").replace("WHO", str(who))
        assert run(tmp_path, fits, vcpus=3, pcpus=3)[0].vms[0].operations == 3
        with pytest.raises(
            errors.GuestFault, match=rf"below the stack of vCPU {who}: stack overflow; guest_main has 4096"
        ):
            run(tmp_path, fits.replace("63", "70"), vcpus=3, pcpus=3)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (" ud2\n", "invalid opcode at .* RIP 0xffffffff81000010 .* `ud2`"),
        (" nop\n", "or the end of the code; .* `int3`"),
        (
            " push 0\n push rsp\n push 2\n push 0x1230\n push 0\n iretq\n",
            "iretq to CS 0x1230; the built-in GDT has 0x10",
        ),
        (" push 0\n push rsp\n push 2\n push 0\n push 0\n iretq\n", "iretq to CS 0x0; the built-in GDT"),
    ],
)
def test_a_fault_shows_its_instruction(tmp_path, body, message):
    """Invalid opcodes and selectors that there are not end the run, with the instruction and the registers."""
    with pytest.raises(errors.GuestFault, match=message) as fault:
        run(tmp_path, body)
    assert "rflags" in str(fault.value)


def test_comparing_strings_that_others_write_ends(tmp_path):
    """CMPS gets both its lines at a time: two writers, who never stop, cannot keep it from going on."""
    body = (
        " test edi, edi\n je 2f\n lea rbx, [rip + left]\n cmp edi, 1\n je 1f\n lea rbx, [rip + right]\n"
        "1: lock inc qword ptr [rbx]\n jmp 1b\n"
        "2: mov ebx, 20\n3: lea rsi, [rip + left]\n lea rdi, [rip + right]\n cmpsq\n operation_done\n"
        " dec ebx\n jne 3b\n ret\n.data\n.balign 64\nleft: .quad 0\n.balign 64\nright: .quad 0\n"
    )
    assert run(tmp_path, body, vcpus=3, pcpus=3)[0].vms[0].operations == 20


def test_more_vcpus_than_a_guest_has_room_for_are_refused():
    """The tables of the small kernels end at 32 vCPUs: one more is an error, in one line, and 32 are none."""
    make = Overrides(duration="50us", vcpus=33).apply
    with pytest.raises(ScenarioError, match=r"vm\.0\.vcpus: 33 are more than main has room for; use at most 32"):
        simulate(make(catalogue.find("barrier")))
    assert simulate(Overrides(duration="50us", vcpus=32).apply(catalogue.find("barrier"))).instructions > 0
