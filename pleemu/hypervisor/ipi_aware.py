"""IPI-aware candidates: "sched/kvm: Semantics-aware vCPU scheduling", the KVM part.

    V1_V2  20251110033232.12538-1 and 20251219035334.39790-1: both have these rules
    V3     20260612013355.59231-1: only the EOI of the IPI's own vector ends the wait for it

Each vCPU remembers whom it sent its latest IPI to, and who sent it one; a sender that spins within
50 ms, with no EOI of the receiver in between, prefers nobody but lets its receiver pass. Only a
fixed IPI without a shorthand that reached exactly one other vCPU counts, and only one that KVM has sent:
IPI virtualisation leaves no trace. With APICv the EOI does not reach KVM either, so the window ends the wait.

What the code does and its cover letter does not say:
* The three "priorities" are one filter: the first vCPU in the round that passes any of them is boosted.
* A vCPU that was woken and not preempted passes only by an IPI or a pending interrupt, unlike in v6.19.
* V1_V2: the EOI of any vector ends the wait, and the receiver's own wait for its own IPI with it.

UNVERIFIED: of V3 that on a matching EOI the receiver's own wait is kept. Its changelog only says that the vector
counts.
"""

from pleemu.hardware.clock import cycles_to_ns
from pleemu.hardware.interrupts import highest
from pleemu.jit import compiled

# kvm.ipi_aware
NOT_AWARE, V1_V2, V3 = range(3)

IPI_WINDOW_NS = 50_000_000  # ipi_window_ns


@compiled
def is_good(m, me, candidate, pending, in_kernel, now):
    """kvm_vcpu_is_good_yield_candidate: any of the three reasons to let it pass."""
    if is_ipi_receiver(m, me, candidate, now) or pending:
        return True
    return m.vcpu[candidate].preempted == 1 and in_kernel


@compiled
def is_ipi_receiver(m, sender, receiver, now):
    """Does ``sender`` wait for its latest IPI, a recent one to ``receiver``?"""
    vcpu = m.vcpu[sender]
    if vcpu.pending_ipi == 0 or vcpu.last_ipi_receiver != receiver:
        return False
    return cycles_to_ns(m.clock[0], now) - vcpu.ipi_time_ns <= IPI_WINDOW_NS


@compiled
def track_ipi(m, sender, receiver, vector, now):
    """A unicast IPI has been delivered; a later one takes its place."""
    if m.kvm[0].ipi_aware == NOT_AWARE or sender == receiver:
        return
    vcpu = m.vcpu[sender]
    vcpu.last_ipi_receiver = receiver
    vcpu.pending_ipi = 1
    vcpu.ipi_time_ns = cycles_to_ns(m.clock[0], now)
    vcpu.ipi_vector = vector
    m.vcpu[receiver].last_ipi_sender = sender


@compiled
def clear_ipi_on_eoi(m, v, now):
    """``v`` writes its EOI register, and KVM sees it; before the vector leaves service."""
    aware = m.kvm[0].ipi_aware
    if aware == NOT_AWARE:
        return
    vcpu = m.vcpu[v]
    sender = vcpu.last_ipi_sender
    if aware == V3:
        if sender < 0 or m.vcpu[sender].ipi_vector != highest(m.cpu[v].isr):
            return
    else:
        vcpu.pending_ipi = 0
        vcpu.last_ipi_receiver = -1
    vcpu.last_ipi_sender = -1
    if sender >= 0 and is_ipi_receiver(m, sender, v, now):
        m.vcpu[sender].pending_ipi = 0
