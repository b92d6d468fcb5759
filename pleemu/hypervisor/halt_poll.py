"""Halt polling (v5.6 virt/kvm/kvm_main.c, kvm_vcpu_block): look for an interrupt for a while before going to sleep.

Waking a thread takes longer than looking, so a vCPU that is soon interrupted gains, at the cost of its pCPU.
The loop looks whether the vCPU has been kicked or can take an interrupt, until its poll time is over or another
thread is runnable on this pCPU. How long it polls, each vCPU learns from how long its halts last:

    the halt lasted                              its poll time
    no longer than that                          stays
    longer than the module's halt_poll_ns        shrinks
    less than that                               grows

The thread stays current meanwhile: neither `preempted` nor `ready` changes, and who sends an interrupt wakes nobody.

On x86 every wake-up is a valid one (kvm_vcpu_is_valid_wakeup is of s390 alone); a guest that polls for itself
and asks KVM not to (MSR_KVM_POLL_CONTROL) is not modelled.
"""

from pleemu.hardware.agenda import reschedule
from pleemu.hardware.clock import cycles_to_ns
from pleemu.hardware.records import POLLING
from pleemu.jit import compiled
from pleemu.observe.events import HALT_POLL
from pleemu.observe.journal import record


@compiled
def end_block(m, p, v, now):
    """The vCPU has slept and its HLT is over: its poll time follows how long that took."""
    vcpu, kvm = m.vcpu[v], m.kvm[0]
    block_ns = cycles_to_ns(m.clock[0], now) - cycles_to_ns(m.clock[0], vcpu.blocked_from)
    vcpu.blocked_from = -1
    old = vcpu.halt_poll_ns
    most = kvm.halt_poll_ns
    if most == 0 or block_ns <= old:
        return
    if old > 0 and block_ns > most:
        vcpu.halt_poll_ns = shrunk_poll(old, kvm.halt_poll_ns_shrink)
    elif old < most and block_ns < most:
        vcpu.halt_poll_ns = grown_poll(old, kvm.halt_poll_ns_grow, kvm.halt_poll_ns_grow_start, most)
    if vcpu.halt_poll_ns != old:
        record(m, now, HALT_POLL, p, v, old, vcpu.halt_poll_ns, 0)


@compiled
def grown_poll(poll_ns, grow, start, most):
    """grow_halt_poll_ns: a multiple, in 32 bits, at least ``start`` and at most ``most``."""
    if grow == 0:
        return poll_ns
    return min(max(poll_ns * grow & 0xFFFFFFFF, start), most)


@compiled
def shrunk_poll(poll_ns, shrink):
    """shrink_halt_poll_ns: a part, or no polling at all."""
    return 0 if shrink == 0 else poll_ns // shrink


@compiled
def poll_sees(m, q, visible):
    """What a poll loop looks at has changed; if pCPU ``q`` polls, its next turn from ``visible`` on sees it."""
    pcpu = m.pcpu[q]
    if pcpu.phase == POLLING:
        pcpu.cycle = min(pcpu.cycle, next_turn(m, pcpu.vcpu, visible))
        reschedule(m, q)


@compiled
def next_turn(m, v, cycle):
    """The first turn of the poll loop of ``v`` that begins at ``cycle`` or later."""
    begin, turn = m.vcpu[v].poll_from, m.cost[0].poll_turn
    return begin + max(0, (cycle - begin + turn - 1) // turn) * turn
