"""Preempt notifiers: what KVM does when a vCPU's thread is switched out and in.

v5.6 virt/kvm/kvm_main.c kvm_sched_out and kvm_sched_in, arch/x86/kvm/x86.c kvm_arch_vcpu_put.
"""

from pleemu.hypervisor.run_delay import begin_run_delay, end_run_delay
from pleemu.hypervisor.steal_time import kvm_steal_time_set_preempted
from pleemu.hypervisor.strict_boost import forget_ipis
from pleemu.hypervisor.window import shrink_ple_window
from pleemu.jit import compiled
from pleemu.observe.events import PLE_WINDOW
from pleemu.observe.journal import record
from pleemu.observe.statistics import time_boost


@compiled
def kvm_sched_out(m, p, v, runnable, now):
    """The thread leaves pCPU ``p``; ``runnable``: its state is TASK_RUNNING."""
    vcpu = m.vcpu[v]
    if runnable:
        vcpu.preempted = 1
        vcpu.ready = 1
        vcpu.preempted_in_kernel = 1 if m.cpu[v].cpl == 0 else 0
        begin_run_delay(m, v, now)
    vcpu.scheduled_out = 1
    kvm_steal_time_set_preempted(m, p, v, now)


@compiled
def kvm_sched_in(m, p, v, now):
    """The thread is back on a pCPU."""
    vcpu = m.vcpu[v]
    vcpu.preempted = 0
    vcpu.ready = 0
    vcpu.scheduled_out = 0
    vcpu.blocking = 0  # finish_rcuwait
    forget_ipis(m, v)
    end_run_delay(m, v, m.pcpu[p].since)
    m.pv[v].steal_update = 1  # kvm_arch_vcpu_load
    time_boost(m, v, now)
    if m.kvm[0].window_control == 1:
        old = shrink_ple_window(m, v)
        if old != vcpu.ple_window:
            record(m, now, PLE_WINDOW, p, v, old, vcpu.ple_window, 0)
