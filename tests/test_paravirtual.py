"""The paravirtual interface of KVM: hypercalls, kicks that are never lost, steal time, and guests that misuse them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_c_guests import COMPILERS
from made_machines import GUESTS, Command, observe, pinnings, programs_of
from reference.kick import Kicks
from test_edges import run
from test_escapes import MEMORY, SIZE, Guarded, random_registers

from pleemu.errors import GuestFault
from pleemu.hardware.cpuid import KVM_FEATURE_PV_TLB_FLUSH
from pleemu.hardware.records import BUFFER_LIMIT
from pleemu.hardware.store_buffer import commit, put
from pleemu.hypervisor.hypercall import KVM_HC_KICK_CPU, KVM_HC_SCHED_YIELD, KVM_HC_SEND_IPI
from pleemu.hypervisor.steal_time import kvm_steal_time_set_preempted, record_steal_time
from pleemu.jit import callable_alone
from pleemu.machine.build import build
from pleemu.machine.run import simulate
from pleemu.observe.events import (
    HALT_POLL,
    HLT,
    HYPERCALL,
    KVM_ENTRY,
    KVM_EXIT,
    PROBE,
    PV_TLB_FLUSH,
    SCHED_SWITCH,
    SCHED_WAKEUP,
    STATE_PREEMPTED,
    STATE_RUNNING,
    STATE_SLEEPING,
    YIELD_TO,
)
from pleemu.policy import policy
from pleemu.scenario import Hardware, Host, Kvm, Scenario, Vm
from pleemu.testing import Case
from pleemu.trace.files import trace_file

MANY, FEW = 60, 25
SLOW = {"host.hz": "1000", "host.online_cpus": "1", "hardware.tsc_khz": "100000"}
LOST_KICK, PV_TICKET = (str(GUESTS / f"{name}.S") for name in ("lost_kick", "pv_ticket"))
NS = st.sampled_from((0, 1, 300, 3500, 50_000)) | st.integers(0, 50_000)


@st.composite
def pv_commands(draw, subject):
    """A small machine in which every timing that a kick or a HLT can have occurs: floating, polling, beside threads."""
    pcpus, vcpus = draw(st.integers(1, 3)), draw(st.integers(2, 5))
    names = ("exit", "entry", "hlt_handler", "hypercall", "wakeup", "context_switch", "idle_exit", "tick")
    fields = SLOW | {f"cost.{name}_ns": str(draw(NS)) for name in draw(st.sets(st.sampled_from(names)))}
    fields |= {
        "cost.ipi_ns": str(draw(st.integers(1, 20_000))),
        "kvm.pv_kick_yield": draw(st.sampled_from(("true", "false"))),
        "kvm.apicv": draw(st.sampled_from(("true", "false"))),
        "hardware.processor": draw(st.sampled_from(("broadwell", "zen3"))),
        "hardware.far_transfer_ns": str(draw(st.sampled_from((0, 100, 30_000)))),
        "hardware.llc_pcpus": "1",
        "hardware.transfer_ns": str(draw(st.sampled_from((60, 60, 2000)))),
        "vm.0.pinning": draw(pinnings(vcpus, pcpus)),
        "kvm.halt_poll_ns": str(draw(st.sampled_from((0, 200_000, 5_000_000)))),
        "cost.poll_turn_ns": str(draw(st.sampled_from((1, 50, 20_000)))),
        "host.scheduler": draw(st.sampled_from(("cfs-5.6", "cfs-5.6", "eevdf-6.12", "chaos"))),
    }
    if fields["host.scheduler"] == "chaos":
        fields |= {"host.chaos_min_ns": "1000", "host.chaos_max_ns": draw(st.sampled_from(("10000", "300000")))}
    if draw(st.booleans()):
        fields |= {"thread.0.name": "kw", "thread.0.count": "2", "thread.0.pinning": draw(pinnings(2, pcpus))}
        fields |= {"thread.0.busy_us": draw(st.sampled_from(("20", "900"))), "thread.0.period_us": "2000"}
    changes = {"vcpus": vcpus, "pcpus": pcpus, "duration": "10ms", "seed": draw(st.integers(0, 2**32))}
    cure = "strict-boost+debooster" if fields["host.scheduler"] == "cfs-5.6" else "strict-boost"
    changes["policy"] = draw(st.sampled_from(("vanilla", cure, "kvm-6.19", "no-ple")))
    return Command(subject, changes, fields)


def happenings(events):
    """What the reference reads."""
    for _, kind, _, vcpu, a, _, c in events.tolist():
        if kind == KVM_EXIT and a == HLT:
            yield "halt", vcpu
        elif kind == SCHED_SWITCH and vcpu >= 0 and c == STATE_SLEEPING:
            yield "sleep", vcpu
        elif kind == SCHED_WAKEUP:
            yield "wake", a
        elif kind == KVM_ENTRY:
            yield "enter", vcpu
        elif kind == HYPERCALL and a == KVM_HC_KICK_CPU:
            yield "kick", c


@settings(max_examples=MANY)
@given(pv_commands(LOST_KICK))
def test_every_halt_with_a_later_kick_ends(command):
    """P9: one HLT and one kick a round, in any order and distance: every HLT ends, by its kick, and rounds go on."""
    observed = observe(command)
    reference = Kicks()
    assert reference.problem(happenings(observed.events)) is None
    kicks = int(np.sum((observed.events["kind"] == HYPERCALL) & (observed.events["a"] == KVM_HC_KICK_CPU)))
    assert kicks - 1 <= reference.ended <= kicks
    assert observed.run.ended == "the time is over"


@settings(max_examples=FEW)
@given(pv_commands(PV_TICKET))
def test_halting_lock_excludes_and_goes_on(command):
    """A ticket lock whose waiters halt: one holder, no kick lost, nobody sleeps for ever."""
    observed = observe(command)
    assert Kicks().problem(happenings(observed.events)) is None
    assert observed.run.ended == "the time is over"


@pytest.mark.parametrize(
    ("story", "found"),
    [
        ("kick 1, halt 1, enter 1, halt 1, sleep 1, kick 1, wake 1, enter 1", False),
        ("kick 1, halt 1, sleep 1", True),
        ("halt 1, sleep 1, kick 1, halt 2, wake 1", True),
        ("halt 1, sleep 1, kick 1", True),
        ("halt 1, kick 1, kick 1, enter 1, halt 1, sleep 1", False),  # it latches, it does not count
    ],
)
def test_reference_notices_a_lost_kick(story, found):
    """The reference tells a kick that is lost from one that is not."""
    told = [(one.split()[0], int(one.split()[1])) for one in story.split(", ")]
    assert (Kicks().problem(told) is not None) == found


@pytest.mark.parametrize(("fence", "goes_on"), [("mfence", True), ("nop", False)])
def test_unlock_without_a_fence_loses_a_wake_up(tmp_path, fence, goes_on):
    """The owner looks for waiters before its store is seen: they halt for ever, by nothing but the store buffer."""
    text = Path(PV_TICKET).read_text().replace("SPIN_THRESHOLD, 64", "SPIN_THRESHOLD, 3")
    (tmp_path / "guest.S").write_text(text.replace("    mfence ", f"    {fence} "))
    vm = Vm(name="vm0", program="guest.S", vcpus=4)
    hardware = Hardware(pcpus=4, transfer_ns=500)
    found = simulate(Scenario(name="pv", duration_ms=5, vm=(vm,), folder=tmp_path, hardware=hardware))
    assert found.ended.startswith("the time is over") == goes_on


HEAD = '.include "pleemu.inc"\n.globl guest_main\nguest_main:\n'


def simulated(folder, body, *, vcpus=2, pinning="vcpu-to-pcpu", duration_ms=1, **fields):
    """As `run`, with any field of a scenario."""
    (folder / "guest.S").write_text(HEAD + body)
    vm = Vm(name="vm0", program="guest.S", vcpus=vcpus, pinning=pinning)
    chunks = []
    scenario = Scenario(name="pv", duration_ms=duration_ms, vm=(vm,), folder=folder, **fields)
    return simulate(scenario, events=chunks.append), np.concatenate(chunks)


KICK = """
    test edi, edi
    jne 1f
    work {first}
    kick 1
    test rax, rax
    jne 2f
    ret
1:  work {second}
    hlt
    operation_done
    ret
2:  ud2
"""


@pytest.mark.parametrize(("processor", "names"), [("broadwell", ("VMCALL", "HLT")), ("zen3", ("vmmcall", "hlt"))])
@pytest.mark.parametrize("opcode", ["vmcall", "vmmcall"])
@pytest.mark.parametrize(("first", "second", "sleeps"), [(90_000, 1, True), (1, 90_000, False)])
def test_kick_is_one_exit(tmp_path, processor, names, opcode, first, second, sleeps):
    """Kicked asleep or before: one VMCALL, one HLT; the one that is early keeps the HLT from sleeping. Any opcode."""
    body = KICK.format(first=first, second=second)
    if opcode == "vmmcall":
        body = body.replace("kick 1", "mov ecx, 1\n xor ebx, ebx\n mov eax, 5\n vmmcall")
    hardware = Hardware(pcpus=2, processor=processor)
    found, events = simulated(tmp_path, body, hardware=hardware, policy="no-ple")
    exits = found.exits_by_reason()
    exits.pop("interrupt" if processor == "zen3" else "EXTERNAL_INTERRUPT", None)
    assert exits == dict.fromkeys(names, 1)
    assert found.vms[0].operations == 1
    switches = events[(events["kind"] == SCHED_SWITCH) & (events["c"] == STATE_SLEEPING) & (events["a"] == 1)]
    assert len(switches) == int(sleeps)


def result_of(folder, setup, **fields):
    """RAX after a hypercall, as a signed number."""
    body = f" test edi, edi\n jne 1f\n{setup}\n vmcall\n lock_wait rax\n1: ret\n"
    _, events = run(folder, body, vcpus=3, pcpus=3, **fields)
    return int(events[events["kind"] == PROBE]["b"][0])


def call(nr, a0=0, a1=0, a2=0, a3=0):
    return f" movabs rax, {nr}\n movabs rbx, {a0}\n movabs rcx, {a1}\n movabs rdx, {a2}\n movabs rsi, {a3}"


@pytest.mark.parametrize(
    ("setup", "result"),
    [
        (call(1), 0),
        (call(0), -1000),
        (call(12), -1000),
        (call((1 << 32) + 5), -1000),
        (call(9), -95),
        (call(5, a1=2), 0),
        (call(5, a1=77), 0),  # nobody
        (call(5, a1=0xFFFFFFFF), 0),  # everybody
        (call(11, a0=1), 0),
        (call(11, a0=1 << 63), 0),
        (call(10, a0=0b110, a3=0x40), 2),
        (call(10, a0=0xFFFFFFFFFFFFFFFF, a1=0xFFFFFFFFFFFFFFFF, a3=0x40), 3),
        (call(10, a0=0b11, a2=2, a3=0x40), 1),
        (call(10, a1=0b101, a2=0xFFFFFFC0, a3=0x40), 2),  # the second half begins at 0: a u32 wraps around
        (call(10, a0=1, a2=3, a3=0x40), 0),
        (call(10, a0=1, a3=0x40 | 1 << 11), -22),
        (call(10, a0=1, a3=0x40 | 1 << 18), -22),
    ],
)
def test_hypercall_answers_as_kvm_does(tmp_path, setup, result):
    """RAX is the result, errors are Linux's numbers below 0."""
    assert result_of(tmp_path, setup) == result


@pytest.mark.parametrize(("nr", "switch"), [(5, "pv_unhalt"), (10, "pv_send_ipi"), (11, "pv_sched_yield")])
def test_feature_that_is_off_is_done_unless_enforced(tmp_path, nr, switch):
    """CPUID alone does not refuse a hypercall (v5.6); with KVM_CAP_ENFORCE_PV_FEATURE_CPUID it is -KVM_ENOSYS."""
    setup = call(nr, a3=0x40)
    assert result_of(tmp_path, setup, kvm=Kvm(**{switch: False})) == 0
    assert result_of(tmp_path, setup, kvm=Kvm(**{switch: False}, pv_enforce_cpuid=True)) == -1000
    assert result_of(tmp_path, setup, kvm=Kvm(pv_enforce_cpuid=True)) == 0


def test_hypercall_at_cpl_3_is_refused(tmp_path):
    """-KVM_EPERM, whatever it is."""
    body = " mov rbx, rsp\n enter_user user, rbx\nuser: mov eax, 1\n vmcall\n lock_wait rax\n1: pause\n jmp 1b\n"
    _, events = run(tmp_path, body)
    assert events[events["kind"] == PROBE]["b"].tolist() == [-1]


def test_cpuid_has_what_the_host_offers(tmp_path):
    """Leaf 0x40000000 is KVM's signature, 0x40000001 has the bits that the switches leave."""
    body = (
        " mov eax, 0x40000000\n cpuid\n lock_wait eax\n lock_wait ebx\n lock_wait ecx\n lock_wait edx\n"
        " mov eax, KVM_FEATURES\n cpuid\n lock_wait eax\n ret\n"
    )
    for off, missing in ((None, 0), ("steal_time", 5), ("pv_unhalt", 7), ("pv_tlb_flush", 9), ("pv_send_ipi", 11)):
        _, events = run(tmp_path, body, kvm=Kvm(**({off: False} if off else {})))
        leaf, *name, features = events[events["kind"] == PROBE]["b"].tolist()
        assert leaf == 0x40000001
        assert b"".join(part.to_bytes(4, "little") for part in name) == b"KVMKVMKVM\0\0\0"
        assert features == 0b10_1010_1010_0000 & ~(1 << missing)


IPIS = """
    test edi, edi
    jne 1f
    work 40000
    pv_send_ipi 0b1110, 0, 0, 0x40
    cmp eax, 3
    jne 2f
    operation_done
    ret
1:  sti
    hlt
    operation_done
    ret
2:  ud2
    vector 0x40, handler
handler:
    push rax
    push rcx
    push rdx
    eoi
    pop rdx
    pop rcx
    pop rax
    iretq
"""


@pytest.mark.parametrize("apicv", [True, False])
def test_one_hypercall_wakes_all_whose_bit_is_set(tmp_path, apicv):
    """PV IPIs: one exit of the sender, an interrupt in each receiver."""
    found, _ = run(tmp_path, IPIS, vcpus=4, pcpus=4, kvm=Kvm(apicv=apicv))
    assert found.vms[0].operations == 4
    assert found.exits_by_reason()["VMCALL"] == 1
    assert found.paravirtual[0].ipis == 3


YIELD = """
    cmp edi, 1
    je 2f
    ja 3f
1:  work 100000
    pv_sched_yield 1
    pv_sched_yield 2                    # it has ended
    pv_sched_yield 0
    jmp 1b
2:  work 1000000
    jmp 2b
3:  ret
"""


def test_sched_yield_goes_to_a_vcpu_that_is_ready(tmp_path):
    """A preempted vCPU of the same pCPU runs at once, if CFS agrees; a dead one and the caller are not asked for."""
    found, events = run(tmp_path, YIELD, vcpus=3, pcpus=1, duration_ms=60, host=Host(hz=1000, online_cpus=1))
    asked = np.flatnonzero(events["kind"] == YIELD_TO)
    assert {(one["vcpu"], one["a"], one["c"]) for one in events[asked]} == {(0, 1, KVM_HC_SCHED_YIELD)}
    row = found.paravirtual[0]
    assert row.directed_yield_successful == int(np.sum(events[asked]["b"] == 1)) > 5
    assert row.directed_yield_attempted in (row.hypercalls, row.hypercalls + 1)
    then = {tuple(one) for one in events[asked + 1][["kind", "a", "b", "c"]].tolist()}
    assert then <= {(SCHED_SWITCH, 0, 1, STATE_RUNNING), (KVM_ENTRY, 0, 0, 0)}  # CFS may find it too unfair
    assert len(then) == 2
    assert not found.boosts


@pytest.mark.parametrize("if_alone", [True, False])
def test_v5_14_does_not_yield_from_a_pcpu_of_its_own(tmp_path, if_alone):
    """single_task_running: v5.6 asks the scheduler all the same, if somebody waits on the target's pCPU."""
    body = (
        " test edi, edi\n jne 1f\n mov r12d, 400\n2: work 20000\n pv_sched_yield 1\n pv_sched_yield 2\n"
        " dec r12d\n jne 2b\n ret\n1: work 1000000000\n ret\n"
    )
    found, _ = simulated(
        tmp_path, body, vcpus=3, pinning=(0, 1, 1), duration_ms=10, hardware=Hardware(pcpus=2),
        kvm=Kvm(pv_yield_if_alone=if_alone), host=Host(hz=1000, online_cpus=1),
    )  # fmt: skip
    assert found.paravirtual[0].directed_yield_attempted > 500
    assert (found.paravirtual[0].directed_yield_successful > 0) == if_alone


@pytest.mark.parametrize("kick_yield", [True, False])
def test_kick_yields_from_v5_3_on(tmp_path, kick_yield):
    """A kick of a sleeper on the same pCPU ends with a directed yield to it, if the switch says so."""
    body = KICK.format(first=30_000_000, second=1)
    found, events = run(
        tmp_path, body, vcpus=2, pcpus=1, duration_ms=50, kvm=Kvm(pv_kick_yield=kick_yield), policy="no-ple"
    )
    assert found.vms[0].operations == 1
    yields = events[events["kind"] == YIELD_TO]
    assert [(one["a"], one["c"]) for one in yields] == ([(1, KVM_HC_KICK_CPU)] if kick_yield else [])


@pytest.mark.parametrize("apicv", ["true", "false"])
@pytest.mark.parametrize("turn_ns", [1, 50, 1000])
def test_kick_ends_a_poll_at_its_next_turn(apicv, turn_ns):
    """Who polls is neither woken nor interrupted: once the poll time has grown, each kick is seen by the next turn."""
    fields = {"kvm.apicv": apicv, "kvm.halt_poll_ns": "1000000", "cost.poll_turn_ns": str(turn_ns), "host.hz": "100"}
    found = observe(Command(LOST_KICK, {"vcpus": 2, "pcpus": 2, "duration": "5ms", "policy": "no-ple"}, fields))
    events = found.events[found.events["cycle"] > found.of_kind(HALT_POLL)["cycle"][-1]]
    assert not np.isin(events["kind"], (SCHED_WAKEUP, SCHED_SWITCH)).any()
    (vm,) = found.run.vms
    assert vm.polled > 0.8 * vm.halts > 50
    late = kicked = None
    seen = 0
    turn, handler = -(-turn_ns * 2100 // 1000), 2100  # cycles; cost.hlt_handler
    for cycle, kind, _, vcpu, a, _, _ in events.tolist():
        if kind == HYPERCALL:
            kicked = cycle
        elif kind == KVM_EXIT and vcpu == 1 and a == HLT:
            late = cycle + handler
        elif kind == KVM_ENTRY and vcpu == 1:
            if late and kicked and kicked >= late:
                assert (cycle - late) % turn == 0
                assert 0 < cycle - kicked <= turn
                seen += 1
            late = None
    assert seen > 50


set_preempted_alone = callable_alone(kvm_steal_time_set_preempted)
update_alone = callable_alone(record_steal_time)
commit_alone, put_alone = callable_alone(commit), callable_alone(put)


@pytest.mark.parametrize("later_stores", [0, BUFFER_LIMIT - 1])
def test_preempted_is_stored_before_the_thread_runs_elsewhere(later_stores):
    """A vCPU moved to another pCPU waits there for the store of the one that it has left, and for no later one."""
    scenario = Command(PV_TICKET, {"vcpus": 2, "pcpus": 2}).scenario()
    m, _ = build(scenario, policy("vanilla"), programs_of(scenario), recording=False)
    place = int(m.space.start[0] + m.space.bytes[0]) - 64 & -64
    m.pv.steal_msr[0] = place | 1
    byte = int(m.space.first_word[0]) * 8 + place - int(m.space.start[0]) + 16
    flag = m.memory.view(np.uint8)[byte : byte + 1]
    set_preempted_alone(m, 0, 0, 1000)
    assert (m.pcpu.commit_at[0], update_alone(m, 1, 0, 1000), flag[0]) == (1001, 1001, 0)
    commit_alone(m, 0, 1001)
    assert (m.pcpu.buffered[0], flag[0]) == (0, 1)
    for number in range(later_stores + 1 if later_stores else 0):  # the last of them has its place
        put_alone(m, 0, byte + 8, 1, number, 2000)
    now = 2000
    while (when := update_alone(m, 1, 0, now)) > now:
        now = when
    assert m.pcpu.buffered[0] == (later_stores + 1 if later_stores else 0)
    assert flag[0] == 0


@settings(max_examples=FEW)
@given(pv_commands(PV_TICKET), st.sampled_from(("1", "1000")))
def test_chaos_repeats_hypercalls_from_its_token(command, least):
    """Preempted anywhere, also between a kick and its HLT: the lock goes on, and the token repeats the run."""
    if command.changes["policy"] == "strict-boost+debooster":
        command = attrs.evolve(command, changes={**command.changes, "policy": "strict-boost"})
    chosen = {"host.scheduler": "chaos", "host.chaos_min_ns": least, "host.chaos_max_ns": "100000"}
    command = attrs.evolve(command, fields={**command.fields, **chosen})
    observed = observe(command)
    assert Kicks().problem(happenings(observed.events)) is None
    assert observed.run.ended == "the time is over"
    if observed.run.schedule:
        again = observe(attrs.evolve(command, fields={**command.fields, "host.schedule": observed.run.schedule}))
        assert again.run.digest == observed.run.digest
        assert again.run.paravirtual == observed.run.paravirtual


def told_steal(events, vcpus, khz):
    """By vCPU: ns that it was runnable without running, up to its latest entry; from the scheduler's events alone."""
    queued, waited, told = Counter(), Counter(), dict.fromkeys(range(vcpus), 0)
    for cycle, kind, _, vcpu, a, b, c in events.tolist():
        if kind == SCHED_SWITCH:
            if a >= 0 and c in (STATE_RUNNING, STATE_PREEMPTED):
                queued[a] = cycle
            if b >= 0:
                waited[b] += cycle - queued[b]
        elif kind == SCHED_WAKEUP:
            queued[a] = cycle
        elif kind == PV_TLB_FLUSH:
            told[vcpu] = waited[vcpu] * 1_000_000 // khz
    return told


@settings(max_examples=FEW)
@given(pv_commands(PV_TICKET))
def test_steal_time_is_the_time_on_the_runqueue(command):
    """What guests are told is what the scheduler's events give, to the ns; the flag is looked at with each update."""
    observed = observe(command)
    scenario = observed.run.scenario
    told = told_steal(observed.events, scenario.vm[0].vcpus, scenario.hardware.core_rate_khz)
    (row,) = observed.run.paravirtual
    assert row.steal_ns == sum(told.values())
    assert row.steal_updates == len(observed.of_kind(PV_TLB_FLUSH))
    assert row.hypercalls == len(observed.of_kind(HYPERCALL))


WATCH = """
    test edi, edi
    jne 3f
    lea rbx, [rip + place]
    xor r8d, r8d
1:  movzx eax, byte ptr [rbx + STEAL_TIME_PREEMPTED]
    mov ecx, eax
    and ecx, KVM_VCPU_PREEMPTED
    cmp ecx, r8d
    je 2f
    mov r8d, ecx
    lock_wait rcx
    test ecx, ecx
    je 2f
    mov ecx, KVM_VCPU_PREEMPTED | KVM_VCPU_FLUSH_TLB
    lock cmpxchg byte ptr [rbx + STEAL_TIME_PREEMPTED], cl
2:  pause
    jmp 1b
3:  cmp edi, 1
    jne 4f
    lea rbx, [rip + place]
    steal_time_at rbx
4:  work 1000000
    jmp 4b
    .bss
    .balign 64
place: .skip 64
"""


@pytest.mark.parametrize("transfer_ns", [0, 60, 20_000])
def test_others_see_when_a_vcpu_is_preempted(tmp_path, transfer_ns):
    """The byte follows the vCPU's switches, as late as its cache line; FLUSH_TLB set meanwhile is seen at the entry."""
    found, events = simulated(
        tmp_path, WATCH, vcpus=3, pinning=(0, 1, 1), duration_ms=120, policy="no-ple",
        hardware=Hardware(pcpus=2, transfer_ns=transfer_ns), host=Host(hz=1000, online_cpus=1),
    )  # fmt: skip
    entered = np.searchsorted(events["cycle"], events[events["kind"] == PV_TLB_FLUSH]["cycle"][0])
    switches = events[entered:][events[entered:]["kind"] == SCHED_SWITCH]
    out, back = switches[switches["a"] == 1]["cycle"], events[events["kind"] == PV_TLB_FLUSH]["cycle"][1:]
    seen = events[events["kind"] == PROBE]
    went, came = seen[seen["b"] == 1]["cycle"], seen[seen["b"] == 0]["cycle"]
    assert len(went) > 10
    assert len(out) - len(went) in (0, 1)
    late = 3 * transfer_ns * 2100 // 1000 + 5_000  # cycles: the watcher's own exits included
    assert np.all((went > out[: len(went)]) & (went - out[: len(went)] < late))
    assert np.all((came > back[: len(came)]) & (came - back[: len(came)] < late))
    needed = events[events["kind"] == PV_TLB_FLUSH]["a"]
    assert found.paravirtual[0].tlb_flushes == int(np.sum(needed)) >= len(went) - 1


@pytest.fixture(scope="module")
def guarded():
    return Guarded()


def test_no_steal_time_address_reaches_beyond_the_guest(guarded):
    """Any value of the MSR and any hypercall: a fault or 64 bytes of the guest's own, and no other array is touched."""
    rng = random.Random(5)
    cases = []
    for _ in range(1500):
        near = rng.choice((MEMORY, MEMORY + SIZE, 0x4000, 0, 1 << 63, 2**64 - 64)) + rng.randrange(-3, 3) * 64
        value = rng.choice((near | 1, near | 1, near, near | rng.randrange(64), rng.getrandbits(64))) % 2**64
        registers = random_registers(rng)
        registers |= {"rcx": 0x4B564D03, "rax": value & 0xFFFFFFFF, "rdx": value >> 32, "rbp": rng.randrange(14)}
        code = bytes.fromhex("0f304889e84889f90f01c190")  # wrmsr; mov rax, rbp; mov rcx, rdi; vmcall; nop
        cases.append((value, Case(code, registers=registers, memory={MEMORY: bytes(SIZE)}, max_instructions=9)))
    taken = 0
    for (value, _), (_, done) in zip(cases, guarded.run([case for _, case in cases]), strict=True):
        place = value & -64
        valid = value & 62 == 0 and (not value & 1 or (0x4040 <= place <= MEMORY + SIZE - 64))
        kind = done.fault.kind if done.fault else ""
        assert kind in (("", "hypercall", "vector") if valid else ("msr-value",)), hex(value)
        assert kind != "msr-value" or done.fault.address == 0x4B564D03
        assert all(place <= address and address + len(new) <= place + 64 for address, new in done.writes)
        taken += bool(value & 1 and valid and done.writes)
    assert taken > 100
    assert guarded.touched() == []


@settings(max_examples=FEW, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from((1, 5, 9, 10, 11, 2, 2**64 - 1)) | st.integers(0, 2**64 - 1),
            *[st.sampled_from((0, 1, 2, 3, 0x40, 2**32 - 1, 2**32 - 64, 2**63, 2**64 - 1)) | st.integers(0, 2**64 - 1)]
            * 4,
        ),
        min_size=1,
        max_size=12,
    )
)
def test_random_hypercalls_end_in_an_answer_or_a_report(tmp_path_factory, calls):
    """Any numbers and arguments, while the other vCPUs halt: the run ends, or one line says what was wrong."""
    folder = tmp_path_factory.mktemp("guest")
    one = "".join(f"{call(*numbers)}\n vmcall\n" for numbers in calls)
    handlers = "".join(f" vector {vector}, handler\n" for vector in range(32, 256))
    body = f" test edi, edi\n jne 1f\n{one} ret\n1: sti\n hlt\n ret\n{handlers}handler: iretq\n"
    try:
        found, _ = run(folder, body, vcpus=3, pcpus=2)
        assert found.paravirtual[0].hypercalls == len(calls)
    except GuestFault as fault:
        first = str(fault).partition("\n")[0]
        assert "hypercall 10 (KVM_HC_SEND_IPI)" in first or "interrupt vector" in first


def test_steal_time_that_is_not_offered_is_a_fault(tmp_path):
    """Without kvm.steal_time, or enforced by CPUID, there is no such MSR; what is not aligned is #GP."""
    body = " lea rbx, [rip + place]\n steal_time_at rbx\n ret\n .bss\n .balign 64\n .skip {skip}\nplace: .skip 64\n"
    run(tmp_path, body.format(skip=0))
    with pytest.raises(GuestFault, match="write to MSR 0x4b564d03; writable are"):
        run(tmp_path, body.format(skip=0), kvm=Kvm(steal_time=False))
    with pytest.raises(GuestFault, match="to MSR 0x4b564d03; write the address of 64 bytes"):
        run(tmp_path, body.format(skip=8))


def test_trace_has_the_lines_of_v5_6(tmp_path):
    """kvm_hypercall with its number and arguments, kvm_pv_tlb_flush with its flag."""
    body = " lea rbx, [rip + place]\n steal_time_at rbx\n" + call(11, -1 % 2**64, 2, 3, 4)
    body += "\n vmcall\n ret\n .bss\n .balign 64\nplace: .skip 64\n"
    (tmp_path / "guest.S").write_text(HEAD + body)
    made = Scenario(name="pv", duration_ms=1, vm=(Vm(name="vm0", program="guest.S", vcpus=1),), folder=tmp_path)
    with trace_file(made, tmp_path / "trace.txt") as sink:
        simulate(made, events=sink)
    lines = [line.partition(": ")[2] for line in (tmp_path / "trace.txt").read_text().splitlines()]
    assert "kvm:kvm_hypercall: nr 0xb a0 0xffffffffffffffff a1 0x2 a2 0x3 a3 0x4" in lines
    assert lines.count("kvm:kvm_pv_tlb_flush: vcpu 0 need_flush_tlb false") == 1
    assert sum("reason VMCALL" in line for line in lines) == 1


C_GUEST = """
#include "pleemu.h"

static struct pleemu_steal_time steal[2];
static volatile unsigned int turn;

void guest_main(unsigned long vcpu, unsigned long vcpus, unsigned long seed)
{
    (void)vcpus, (void)seed;
    if (!(kvm_features() >> PLEEMU_KVM_FEATURE_PV_UNHALT & 1))
        return;
    steal_time_at(&steal[vcpu]);
    for (unsigned int round = 0; round < 50; round++) {
        while (turn % 2 != vcpu)
            wait_for_kick();
        if (vcpu_is_preempted(&steal[vcpu]) || pv_sched_yield(9) != 0)
            return;
        operation_done();
        turn++;
        if (kick(1 - vcpu) != 0 || pv_send_ipi(0, 0, 0, 0x40) != 0)
            return;
    }
}
"""


@pytest.mark.parametrize("cc", COMPILERS)
def test_c_guest_takes_turns_by_kicks(tmp_path, cc):
    """The functions of pleemu.h, by each compiler: two vCPUs that halt until it is their turn."""
    (tmp_path / "guest.c").write_text(C_GUEST)
    vm = Vm(name="vm0", program="guest.c", vcpus=2, cc=cc)
    made = Scenario(name="pv", duration_ms=20, hardware=Hardware(pcpus=2), vm=(vm,), folder=tmp_path)
    found = simulate(made)
    assert (found.vms[0].operations, found.ended) == (100, "all vCPUs have returned from guest_main")
    assert found.paravirtual[0].kicks == 100


SCRIPT = """
import json, sys
sys.path.insert(0, "tests")
from test_paravirtual import digests
print(json.dumps(digests()))
"""


def digests():
    """Runs that use everything here, as plain values."""
    found = {}
    for subject, vcpus, pcpus in ((LOST_KICK, 3, 2), (PV_TICKET, 4, 2), (PV_TICKET, 3, 1)):
        one = Command(
            subject, {"vcpus": vcpus, "pcpus": pcpus, "duration": "4ms"}, SLOW | {"hardware.transfer_ns": "900"}
        )
        run_ = simulate(one.scenario())
        found[str(one)] = [run_.digest, run_.instructions, run_.paravirtual[0].steal_ns, run_.paravirtual[0].kicks]
    return found


def test_plain_python_gives_the_same_runs():
    """With NUMBA_DISABLE_JIT=1 the same digests, steal times and kicks."""
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=300, env=environment,
        cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == digests()


def test_numbers_are_linux_own():
    """v5.6 include/uapi/linux/kvm_para.h and arch/x86/include/uapi/asm/kvm_para.h."""
    assert (KVM_HC_KICK_CPU, KVM_HC_SEND_IPI, KVM_HC_SCHED_YIELD, KVM_FEATURE_PV_TLB_FLUSH) == (5, 10, 11, 9)
