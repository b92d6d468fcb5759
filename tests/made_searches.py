"""One host with its vCPUs and their flags, for tests of the search alone: no guest runs in it."""

from __future__ import annotations

from collections import namedtuple

import attrs
import numpy as np
from reference.on_spin import Vcpu

from pleemu.hardware.records import CLOCK, CPU, GUEST, IDLE, NEVER, PCPU, SPIN
from pleemu.hypervisor.on_spin import end_spin, kvm_vcpu_on_spin
from pleemu.hypervisor.records import COST, KVM, PV, VCPU, VM
from pleemu.jit import callable_alone
from pleemu.machine.build import agenda_of, load_search
from pleemu.observe.events import EVENT, YIELD_TO
from pleemu.observe.records import BOOST, JOURNAL, TOLD_TIME
from pleemu.policy import policy
from pleemu.scheduler import mru, tree
from pleemu.scheduler.records import RQ, TASK, TASK_DEAD, TASK_INTERRUPTIBLE, TASK_RUNNING, TUNABLES, sched_init

spin_alone = callable_alone(kvm_vcpu_on_spin)
end_alone = callable_alone(end_spin)
insert_alone = callable_alone(tree.insert)
list_add_alone = callable_alone(mru.list_add)

Pieces = namedtuple(
    "Pieces", "pcpu due winner cpu spin clock task rq tunables vcpu pv vm kvm cost journal event boost told_time"
)

RUNNING, QUEUED, ASLEEP, DEAD = "running", "queued", "asleep", "dead"
MS = 1_000_000


def records(count, dtype):
    return np.zeros(count, dtype).view(np.recarray)


def machine(threads, pcpus, *, first=0, named="vanilla"):
    """A host with one task per vCPU: ``threads`` is a list of (pCPU, life, vruntime); VM 1 begins at ``first``."""
    tasks = len(threads)
    due, winner = agenda_of(pcpus)
    m = Pieces(
        pcpu=records(pcpus, PCPU),
        due=due,
        winner=winner,
        spin=records(pcpus, SPIN),
        cpu=records(tasks, CPU),
        clock=records(1, CLOCK),
        task=records(tasks, TASK),
        rq=records(pcpus, RQ),
        tunables=records(1, TUNABLES),
        vcpu=records(tasks, VCPU),
        pv=records(tasks, PV),
        vm=records(2, VM),
        kvm=records(1, KVM),
        cost=records(1, COST),
        journal=records(1, JOURNAL),
        event=records(3 * tasks + 8, EVENT),
        boost=np.zeros((2, 3), BOOST).view(np.recarray),
        told_time=records(tasks, TOLD_TIME),
    )
    m.clock.core_khz = m.clock.tsc_khz = 1_000_000
    m.journal.recording = 1
    m.pcpu.interrupt_at = m.pcpu.cycle = NEVER
    m.pcpu.phase, m.pcpu.vcpu = IDLE, -1
    m.cpu.apicv = m.cpu.interrupt_flag = 1
    m.vcpu.last_ipi_sender = m.vcpu.last_ipi_receiver = -1
    load_search(m.kvm, policy(named).search)
    m.tunables.latency, m.tunables.min_granularity, m.tunables.nr_latency = 24 * MS, 3 * MS, 8
    m.tunables.wakeup_granularity = 4 * MS
    sched_init(m.rq)
    m.task.weight, m.task.inverse_weight = 1024, 4194304
    m.vm[0] = (0, first, 0, 0)
    m.vm[1] = (first, tasks - first, 0, 0)
    for number, (pcpu, life, vruntime) in enumerate(threads):
        task, rq = m.task[number], m.rq[pcpu]
        task.cpu, task.vruntime = pcpu, vruntime
        task.state = {ASLEEP: TASK_INTERRUPTIBLE, DEAD: TASK_DEAD}.get(life, TASK_RUNNING)
        m.vcpu[number].vm = 0 if number < first else 1
        m.vcpu[number].id = number if number < first else number - first
        if life in (RUNNING, QUEUED):
            task.on_rq = 1
            rq.nr_running += 1
            rq.load += 1024
            list_add_alone(m, pcpu, number)
        if life == RUNNING:
            assert rq.curr < 0
            rq.curr = number
    for pcpu in range(pcpus):
        queued = [k for k, (where, life, _) in enumerate(threads) if where == pcpu and life == QUEUED]
        for k in queued:
            insert_alone(m, pcpu, k)
    return m


FLAGS = (
    "ready", "preempted", "preempted_in_kernel", "blocking", "pv_unhalted", "in_spin_loop", "dy_eligible", "ipi_any",
)  # fmt: skip


def write_flags(m, number, vcpu):
    """Give vCPU ``number`` of the machine the flags of a reference vCPU."""
    row, cpu = m.vcpu[number], m.cpu[number]
    for name in FLAGS:
        setattr(row, name, int(getattr(vcpu, name)))
    row.ipi_received = signed(vcpu.ipi_received)
    for word in range(len(row.ipi_senders)):
        row.ipi_senders[word] = signed(sum(1 << one % 64 for one in vcpu.ipi_senders if one // 64 == word))
    if vcpu.awaited is not None:
        row.pending_ipi, row.last_ipi_receiver = 1, number - vcpu.id + vcpu.awaited
    cpu.irr[1] = 4 if vcpu.interrupt_pending else 0
    cpu.pir[1] = 4 if vcpu.posted else 0
    cpu.interrupt_flag = vcpu.interrupts_on
    if vcpu.in_guest:
        m.pcpu[m.task[number].cpu].vcpu, m.pcpu[m.task[number].cpu].phase = number, GUEST


def read_flags(m, number, vcpu):
    """The reference vCPU that has the flags of the machine's."""
    values = {name: bool(m.vcpu[number][name]) for name in FLAGS}
    words = enumerate(m.vcpu[number].ipi_senders.tolist())
    senders = frozenset(64 * word + bit for word, bits in words for bit in range(64) if bits >> bit & 1)
    received = int(m.vcpu[number].ipi_received) % 2**64
    return attrs.evolve(vcpu, **values, ipi_received=received, ipi_senders=senders)


def signed(value):
    return value - 2**64 if value >> 63 else value


def boostable(number):
    """A vCPU that no rule of v5.6 refuses."""
    return Vcpu(number, ready=True, preempted=True, preempted_in_kernel=True)


def yields(m):
    """The directed yields since events were last taken away."""
    happened = m.event[: int(m.journal.recorded[0])]
    return happened[happened.kind == YIELD_TO]


def tried(m):
    """The vCPUs that the scheduler has been asked to run since the last call, in order."""
    asked = yields(m).a.tolist()
    m.journal.recorded = 0
    return asked


def spin(m, me=0, *, p=0, now=0):
    """One PAUSE exit of vCPU ``me``: whether a yield was accepted. ``me`` goes on at once."""
    accepted = bool(spin_alone(m, p, me, now))
    end_alone(m, me)
    return accepted
