"""Steal time: 64 bytes of guest memory that KVM keeps up to date (v5.6 arch/x86/kvm/x86.c).

    offset  size
    0       8     steal: ns that the vCPU was runnable and did not run (sched_info.run_delay of its thread)
    8       4     version: even; it grows by 2 with each update
    12      4     flags: 0
    16      1     preempted: 1 KVM_VCPU_PREEMPTED, 2 KVM_VCPU_FLUSH_TLB

A guest names the place by MSR_KVM_STEAL_TIME: its address, which is a multiple of 64, with bit 0 set.

    the thread is switched out      preempted = 1, by a plain store of the pCPU that it leaves; once
    the entry after it came back    preempted = 0 by an xchg, which finds a FLUSH_TLB that another vCPU has set
                                    meanwhile; then steal and version

That store is in memory before the thread runs anywhere: on another pCPU, to which it has been moved, the update
waits for it (as finish_task does before it clears on_cpu).

v5.6 calls every vCPU preempted that is switched out, one that halts, too. Nothing is translated here, so a
flush has nothing to do: it is counted.

DEVIATION: the three stores of an update, version odd, steal, version even, happen in one cycle: no guest
sees an odd version.
UNVERIFIED: that the first update has what the thread waited before the MSR was written.
"""

from pleemu.hardware.clock import cycles_to_ns
from pleemu.hardware.cpuid import KVM_FEATURE_PV_TLB_FLUSH
from pleemu.hardware.memory import load, store
from pleemu.hardware.msr import KVM_MSR_ENABLED, STEAL_TIME_SIZE
from pleemu.hardware.records import BUFFER_LIMIT
from pleemu.hardware.store_buffer import put, receive_line, take
from pleemu.hypervisor.hypercall import guest_pv_has
from pleemu.jit import compiled
from pleemu.observe.events import PV_TLB_FLUSH
from pleemu.observe.journal import record

KVM_VCPU_PREEMPTED, KVM_VCPU_FLUSH_TLB = 1, 2
STEAL, VERSION, PREEMPTED = 0, 8, 16  # offsets


@compiled
def first_byte(m, v):
    """Index in `memory` of the first of the 64 bytes; WRMSR has seen to it that all of them are the guest's."""
    space = m.space[m.cpu[v].space]
    return space.first_word * 8 + (m.pv[v].steal_msr & -STEAL_TIME_SIZE) - space.start


@compiled
def record_steal_time(m, p, v, now):
    """Before a VM entry on pCPU ``p``: ``now`` if it is done, or the cycle at which to try again."""
    pv, pcpu = m.pv[v], m.pcpu[p]
    if pv.steal_msr & KVM_MSR_ENABLED == 0:
        pv.steal_update = 0
        return now
    if pcpu.buffered > 0:
        return pcpu.commit_at  # the xchg waits for the store of the thread that left
    if pv.store_pcpu >= 0:
        if is_stored_later(m, pv):
            return max(now + 1, m.pcpu[pv.store_pcpu].commit_at)
        pv.store_pcpu = -1
    if pcpu.awaited_at <= now:
        receive_line(m, p)
    byte = first_byte(m, v)
    when = take(m, p, byte, STEAL_TIME_SIZE, now)
    if when > now:
        return when
    pv.steal_update = 0
    if guest_pv_has(m, v, KVM_FEATURE_PV_TLB_FLUSH):
        flush = load(m.memory, 0, byte + PREEMPTED, 1) & KVM_VCPU_FLUSH_TLB
        record(m, now, PV_TLB_FLUSH, p, v, 1 if flush != 0 else 0, 0, 0)
        pv.tlb_flushes += 1 if flush != 0 else 0
    store(m.memory, 0, byte + PREEMPTED, 1, 0)
    pv.steal_preempted = 0
    version = load(m.memory, 0, byte + VERSION, 4)
    store(m.memory, 0, byte + VERSION, 4, version + (version & 1) + 2)
    run_delay = cycles_to_ns(m.clock[0], pv.run_delay)
    steal = load(m.memory, 0, byte + STEAL, 8)
    store(m.memory, 0, byte + STEAL, 8, steal + run_delay - pv.last_steal)
    pv.last_steal = run_delay
    pv.steal_updates += 1
    return now


@compiled
def kvm_steal_time_set_preempted(m, p, v, now):
    """The thread leaves pCPU ``p``, whose store buffer is empty: every exit, and every update, waits for that."""
    pv = m.pv[v]
    if pv.steal_msr & KVM_MSR_ENABLED == 0 or pv.steal_preempted == 1:
        return
    pv.store_pcpu = p
    pv.store_place = (m.pcpu[p].oldest + m.pcpu[p].buffered) % BUFFER_LIMIT
    put(m, p, first_byte(m, v) + PREEMPTED, 1, KVM_VCPU_PREEMPTED, now)
    pv.store_at = m.buffer[p, pv.store_place].at
    pv.steal_preempted = 1


@compiled
def is_stored_later(m, pv):
    """Is the latest preempted = 1 still in the store buffer that it was put into?"""
    pcpu = m.pcpu[pv.store_pcpu]
    if (pv.store_place - pcpu.oldest) % BUFFER_LIMIT >= pcpu.buffered:
        return False
    return m.buffer[pv.store_pcpu, pv.store_place].at == pv.store_at  # later stores may have taken its place
