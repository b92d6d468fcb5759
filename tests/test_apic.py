"""The local APIC and the ICR against sets and plain loops."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
from hypothesis import given, note, settings
from hypothesis import strategies as st
from reference.apic import ALLOWED, READABLE, Apic, is_sendable, named, receivers

from pleemu.hardware import interrupts, msr
from pleemu.hardware.apic import is_destination
from pleemu.hardware.isa import RAX, RCX, RDX
from pleemu.hardware.records import (
    CLOCK,
    CPU,
    FAULT,
    FAULT_DELIVERY,
    FAULT_DESTINATION,
    GUEST,
    NEVER,
    PCPU,
    SPACE,
    SPIN,
)
from pleemu.hardware.why import FAULTED, STOPPED, WINDOW
from pleemu.hypervisor import icr as icr_module
from pleemu.hypervisor import ipi_virtualisation
from pleemu.hypervisor.records import COST, KVM, PV, VCPU, VM
from pleemu.jit import callable_alone
from pleemu.machine.build import agenda_of
from pleemu.observe.events import EVENT
from pleemu.observe.records import JOURNAL, MIGRATIONS, TOLD_TIME
from pleemu.scheduler.domains import BALANCE, PLACEMENT, SCHED_DOMAIN
from pleemu.scheduler.records import RQ, TASK, TUNABLES

write_alone, read_alone = callable_alone(msr.write_msr), callable_alone(msr.read_msr)
deliverable_alone, begin_alone = callable_alone(interrupts.deliverable), callable_alone(interrupts.begin_service)
take_over_alone, set_alone = callable_alone(interrupts.take_over_posted), callable_alone(interrupts.set_vector)
priority_alone = callable_alone(interrupts.processor_priority)
is_destination_alone = callable_alone(is_destination)
send_alone = callable_alone(icr_module.apic_send_ipi)
virtualise_alone = callable_alone(ipi_virtualisation.virtualise_ipi)

Pieces = namedtuple(
    "Pieces",
    "pcpu due winner cpu spin space index_of clock fault task rq tunables allowed placement balance sd vcpu pv vm kvm "
    "cost journal event migrations told_time",
)
MASK = 2**64 - 1
IPI, EACH, POSTED = 700, 50, 900


def records(count, dtype):
    return np.zeros(count, dtype).view(np.recarray)


def machine(vcpus, *, first=0):
    """A VM, behind another of ``first`` vCPUs, each vCPU in the guest on a pCPU of its own."""
    count = first + vcpus
    due, winner = agenda_of(count)
    m = Pieces(
        pcpu=records(count, PCPU),
        due=due,
        winner=winner,
        spin=records(count, SPIN),
        cpu=records(count, CPU),
        space=records(1, SPACE),
        index_of=np.zeros(1, np.int64),
        clock=records(1, CLOCK),
        fault=records(1, FAULT),
        task=records(count, TASK),
        rq=records(count, RQ),
        tunables=records(1, TUNABLES),
        allowed=np.zeros((count, 1), np.int64),
        placement=records(2 * count, PLACEMENT),
        balance=records(count, BALANCE),
        sd=np.zeros((count, 0), SCHED_DOMAIN).view(np.recarray),
        vcpu=records(count, VCPU),
        pv=records(count, PV),
        vm=records(2, VM),
        kvm=records(1, KVM),
        cost=records(1, COST),
        journal=records(1, JOURNAL),
        event=records(8, EVENT),
        migrations=np.zeros((2, len(MIGRATIONS)), np.int64),
        told_time=records(count, TOLD_TIME),
    )
    m.clock.core_khz = m.clock.tsc_khz = 1_000_000
    m.journal.recording = 1
    m.cost.ipi, m.cost.ipi_target, m.cost.posted = IPI, EACH, POSTED
    m.pcpu.phase, m.pcpu.interrupt_at = GUEST, NEVER
    m.pcpu.vcpu = m.task.cpu = np.arange(count)
    m.placement.nr_cpus_allowed = 1
    m.cpu.apicv, m.cpu.svr, m.cpu.pir_at = 1, 0x1FF, NEVER
    m.cpu.apic_id = m.vcpu.id = [*range(first), *range(vcpus)]
    m.vcpu.vm = [0] * first + [1] * vcpus
    m.vm[0], m.vm[1] = (0, first, 0, 0), (first, vcpus, 0, 0)
    return m


def signed(value):
    return value - 2**64 if value >> 63 else value


def vectors_in(register):
    """The vectors whose bits are set, as a set."""
    return {vector for vector in range(256) if int(register[vector >> 6]) >> (vector & 63) & 1}


def point_at(m, v, number, value=0):
    """ECX and EDX:EAX, with rubbish in the upper halves."""
    registers = m.cpu[v].registers
    registers[RCX] = signed(number | 0xABCD << 48)
    registers[RAX] = signed(value & 0xFFFFFFFF | 0x8765 << 48)
    registers[RDX] = value >> 32


near = st.sampled_from((0x31, 0x35, 0x3F, 0x40, 0x41, 0x52))  # so that classes meet
vectors = near | st.integers(16, 255)
numbers = st.sampled_from((*ALLOWED, *ALLOWED, 0x80A, 0x80D, 0x802, 0x801, 0x840, 0x7FF, 0x809))
steps = st.one_of(
    st.tuples(st.just("post"), vectors),
    st.tuples(st.just("notify"), st.just(0)),
    st.tuples(st.just("take"), st.just(0)),
    st.tuples(st.just("take"), st.just(0)),
    st.tuples(st.just("eoi"), st.just(0)),
    st.tuples(st.just("tpr"), near | st.integers(0, 255)),
    st.tuples(st.just("self"), vectors),
    st.tuples(numbers, st.integers(0, 0x1FF) | st.integers(0, MASK)),
)
NAMES = {"eoi": 0x80B, "tpr": 0x808, "self": 0x83F}


@given(st.integers(0, 40), st.lists(steps, max_size=40))
def test_apic_is_the_manuals(apic_id, events):
    """After any sequence of posts, notifications, deliveries and MSR writes every register reads the same."""
    m = machine(1)
    cpu = m.cpu[0]
    cpu.apic_id = apic_id
    reference = Apic(apic_id)
    for kind, value in events:
        note(f"{kind} {value:#x}")
        if kind == "post":
            set_alone(cpu.pir, value)
            reference.posted.add(value)
        elif kind == "notify":
            take_over_alone(cpu)
            reference.notify()
        elif kind == "take":
            vector = int(deliverable_alone(cpu))
            if vector >= 0:
                begin_alone(cpu, vector)
            assert (vector if vector >= 0 else None) == reference.take()
        else:
            number = NAMES.get(kind, kind)
            cpu.apicv = 1
            point_at(m, 0, number, value)
            why = write_alone(m, 0, 0, 0)
            if number == 0x80F or number == 0x830:  # the hypervisor's part
                assert (why != FAULTED) == (not value & ~ALLOWED[number])
                continue
            assert (why == WINDOW) == reference.write(number, value)
            assert why in (WINDOW, FAULTED)
        assert vectors_in(cpu.pir) == reference.posted
        assert priority_alone(cpu) == reference.ppr
    for number in range(0x7FF, 0x841):
        point_at(m, 0, number)
        why = read_alone(m, 0, 0, 0)
        assert (why == STOPPED) == (number in READABLE)
        if number in READABLE:
            assert (int(cpu.registers[RDX]) << 32 | int(cpu.registers[RAX])) == reference.read(number), hex(number)


destinations = (
    st.integers(0, 40)
    | st.just(0xFFFFFFFF)
    | st.builds(lambda cluster, members: cluster << 16 | members, st.integers(0, 3), st.integers(0, 0xFFFF))
    | st.integers(0, 2**32 - 1)
)
modes = st.sampled_from((0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 4, 7))
icrs = st.builds(
    lambda destination, vector, mode, logical, assertion, level, short: (
        destination << 32 | short << 18 | level << 15 | assertion << 14 | logical << 11 | mode << 8 | vector
    ),
    destinations,
    st.integers(16, 255) | st.integers(0, 255),
    modes,
    st.sampled_from((0, 0, 1)),
    st.integers(0, 1),
    st.sampled_from((0, 0, 0, 1)),
    st.sampled_from((0, 0, 0, 1, 2, 3)),
)


@given(icrs, st.integers(1, 40), st.data())
def test_icr_names_whom_the_manual_says(icr, count, data):
    """Physical and logical destinations, broadcasts and shorthands, for any ICR value and number of vCPUs."""
    sender = data.draw(st.integers(0, count - 1))
    found = [one for one in range(count) if is_destination_alone(one, sender, np.int64(signed(icr)))]
    assert found == named(icr, sender, count)


@given(icrs, st.integers(1, 40), st.integers(0, 3), st.booleans(), st.data())
def test_ipi_reaches_its_receivers(icr, count, first, apicv, data):
    """Exactly the receivers get the vector and Strict Boost's mark; one event; each further one costs and waits."""
    sender = data.draw(st.integers(0, count - 1))
    enabled = data.draw(st.just([True] * count) | st.lists(st.booleans(), min_size=count, max_size=count))
    m = machine(count, first=first)
    now = 1000
    m.cpu.apicv = apicv
    m.vcpu.scheduled_out = 1
    m.cpu[first + sender].icr = signed(icr)
    m.cpu.svr[first:] = [0x1FF if one else 0xFF for one in enabled]
    m.kvm.ipi_aware = 1
    m.vcpu.last_ipi_receiver = -1
    m.pcpu[first + sender].phase = 0  # it has exited
    cost = send_alone(m, first + sender, first + sender, 0, now)
    low, everyone = icr & 0xFFFFFFFF, named(icr, sender, count)
    if not is_sendable(icr):
        assert (m.fault[0].kind, m.fault[0].width) == (FAULT_DELIVERY, low)
    elif not everyone and low >> 18 & 3 != 3:
        assert (m.fault[0].kind, m.fault[0].width) == (FAULT_DESTINATION, low)
    else:
        assert m.fault[0].kind == 0
        expected = receivers(icr, sender, enabled)
        got = [one - first for one in range(first + count) if vectors_in(m.cpu[one].pir)]
        assert got == expected
        assert all(vectors_in(m.cpu[first + one].pir) == {icr & 0xFF} for one in got)
        sent = expected if low >> 8 & 7 else everyone
        marked = [one - first for one in range(first + count) if m.vcpu[one].ipi_received]
        assert marked == sent
        assert all(int(m.vcpu[first + one].ipi_received) == 1 << sender for one in marked)
        unicast = low & 0xC0700 == 0 and len(expected) == 1 and expected != [sender]
        assert m.vcpu[first + sender].last_ipi_receiver == (first + expected[0] if unicast else -1)
        assert cost == max(len(sent) - 1, 0) * EACH
        assert m.journal[0].recorded == 1
        assert (m.event[0].a, m.event[0].b, m.event[0].c) == (icr >> 32, icr & 0xFF, low)
        for one in expected:
            due = now + sent.index(one) * EACH + IPI
            notified = m.cpu[first + one].pir_at if apicv else m.pcpu[first + one].interrupt_at
            assert notified == (NEVER if one == sender else due + POSTED * apicv)


@settings(max_examples=500)
@given(icrs, st.integers(1, 40), st.integers(0, 3), st.data())
def test_processor_sends_plain_ipis_alone(icr, count, first, data):
    """IPI virtualisation does what is fixed, physical, edge-triggered and for one that exists, and nothing else."""
    sender = data.draw(st.integers(0, count - 1))
    sleeping = data.draw(st.booleans())
    m = machine(count, first=first)
    m.vcpu.scheduled_out = 1
    m.vcpu.on_wait_queue = sleeping
    m.cpu[first + sender].icr = signed(icr)
    done = virtualise_alone(m, first + sender, first + sender, 1000)
    low, destination = icr & 0xFFFFFFFF, icr >> 32
    assert done == (low & 0xC8F00 == 0 and low & 0xFF >= 16 and destination < count)
    got = [one - first for one in range(first + count) if vectors_in(m.cpu[one].pir)]
    assert got == ([destination] if done else [])
    assert not m.journal[0].recorded
    assert not np.any(m.vcpu.ipi_received)
    noticed = m.pcpu.interrupt_at if sleeping else m.cpu.pir_at
    expected = np.full(first + count, NEVER)
    if done:
        expected[first + destination] = 1000 + IPI + (0 if sleeping else POSTED)
    assert noticed.tolist() == expected.tolist()
