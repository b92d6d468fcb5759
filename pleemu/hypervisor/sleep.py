"""KVM's first answer to a spinning vCPU: it sleeps (v2.6.33 kvm_vcpu_on_spin), and nobody is nominated.

It puts itself on its wait queue, as if halted, and starts a timer of 100 us. An interrupt wakes it sooner;
one that is pending already does not keep it from sleeping.

The timer is a host interrupt of the pCPU it sleeps on. A pCPU has room for one host interrupt on its way, the
earliest: whoever has seen to that calls `host_interrupt_seen`, which puts the next timer in its place.
"""

from pleemu.hardware.clock import ns_to_cycles
from pleemu.hardware.interrupts import send_host_interrupt
from pleemu.hardware.records import NEVER
from pleemu.hypervisor.ipi import kvm_vcpu_wake_up
from pleemu.hypervisor.ipi_virtualisation import pi_wakeup_handler
from pleemu.jit import compiled

SLEEP_NS = 100_000


@compiled
def sleep_on_spin(m, p, v, now):
    """``v`` goes to sleep on pCPU ``p``; its thread must call schedule()."""
    vcpu = m.vcpu[v]
    vcpu.on_wait_queue = vcpu.blocking = 1
    vcpu.wakes_at = now + ns_to_cycles(m.clock[0], SLEEP_NS)
    send_host_interrupt(m, p, vcpu.wakes_at)


@compiled
def host_interrupt(m, p, now):
    """What a host interrupt on pCPU ``p`` does beside rescheduling: returns how many threads it wakes."""
    woken = 0
    if m.kvm[0].ipiv == 1:
        woken += pi_wakeup_handler(m, p, now)
    if m.kvm[0].sleeps == 1:
        woken += wake_sleepers(m, p, now)
    return woken


@compiled
def wake_sleepers(m, p, now):
    """Timers of pCPU ``p`` expire; returns how many."""
    woken = 0
    for v in range(m.vcpu.shape[0]):
        if m.vcpu[v].wakes_at <= now and m.task[v].cpu == p and m.vcpu[v].on_wait_queue == 1:
            kvm_vcpu_wake_up(m, p, v, now)
            woken += 1
    return woken


@compiled
def host_interrupt_seen(m, p):
    """No host interrupt is on its way to pCPU ``p`` but its timers."""
    m.pcpu[p].interrupt_at = NEVER
    if m.kvm[0].sleeps == 1:
        for v in range(m.vcpu.shape[0]):
            if m.task[v].cpu == p and m.vcpu[v].on_wait_queue == 1:
                m.pcpu[p].interrupt_at = min(m.pcpu[p].interrupt_at, m.vcpu[v].wakes_at)
