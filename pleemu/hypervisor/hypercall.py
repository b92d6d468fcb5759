"""Hypercalls: what a guest asks of KVM by VMCALL, on AMD VMMCALL (v5.6 arch/x86/kvm/x86.c, kvm_emulate_hypercall).

    RAX                         arguments                                  what KVM does
    1   KVM_HC_VAPIC_POLL_IRQ                                              nothing: the exit was all that was wanted
    5   KVM_HC_KICK_CPU         RCX: APIC ID                               ends its HLT, this or the next; yields to it
    9   KVM_HC_CLOCK_PAIRING                                               -KVM_EOPNOTSUPP, as without a TSC clock
    10  KVM_HC_SEND_IPI         RBX, RCX: bitmap; RDX: APIC ID of its      a vector to up to 128 vCPUs; returns how
                                lowest bit; RSI: low half of an ICR        many of them took it
    11  KVM_HC_SCHED_YIELD      RBX: APIC ID                               yields to it if it is `ready`
    any other                                                              -KVM_ENOSYS

RAX has the result. At CPL 3 all of them are -KVM_EPERM. CPUID tells a guest which ones there are, but
v5.6 does them all whether CPUID has them or not; KVM_CAP_ENFORCE_PV_FEATURE_CPUID (v5.10) changes that.

A kick latches: `pv_unhalted` stays until the vCPU next leaves a HLT, so one that comes before the HLT
is not lost, and one that nobody waited for makes a later HLT end early.

The directed yield asks the scheduler without any search; v5.6 does not count it, v5.14 does, under the names that
the statistics here bear.

DEVIATION: KVM answers the other vendor's opcode by patching the guest's code, at the cost of one more exit; here
either opcode is the native one from the beginning.
DEVIATION: a PV IPI of a delivery mode other than fixed and lowest priority is a fault here, as by the ICR.
UNVERIFIED: that Strict Boost and the IPI-aware candidates, whose patches see ICR writes, do not see PV IPIs.
"""

from pleemu.hardware.apic import BROADCAST, FIXED, ICR_LEVEL, ICR_LOGICAL, ICR_MODE, ICR_VECTOR, SVR_ENABLED
from pleemu.hardware.apic import LOWEST_PRIORITY as LOWEST
from pleemu.hardware.clock import cycles_to_ns
from pleemu.hardware.cpuid import KVM_FEATURE_PV_SCHED_YIELD, KVM_FEATURE_PV_SEND_IPI, KVM_FEATURE_PV_UNHALT
from pleemu.hardware.interrupts import send_host_interrupt, set_fault
from pleemu.hardware.isa import RAX, RBX, RCX, RDX, RSI
from pleemu.hardware.records import FAULT_HYPERCALL
from pleemu.hypervisor.ipi import accept_irq, kvm_vcpu_kick
from pleemu.jit import compiled
from pleemu.observe.events import HYPERCALL, HYPERCALL_MORE, YIELD_TO
from pleemu.observe.journal import record
from pleemu.observe.virtual_time import tell_virtual_time
from pleemu.scheduler.core import yield_to
from pleemu.scheduler.records import TASK_DEAD

# v5.6 include/uapi/linux/kvm_para.h
KVM_HC_VAPIC_POLL_IRQ, KVM_HC_KICK_CPU, KVM_HC_CLOCK_PAIRING, KVM_HC_SEND_IPI, KVM_HC_SCHED_YIELD = 1, 5, 9, 10, 11
KVM_ENOSYS, KVM_EPERM, KVM_EINVAL, KVM_EOPNOTSUPP = 1000, 1, 22, 95

SHORTHAND = 0b11 << 18
CLUSTER = 64  # APIC IDs that each half of the bitmap covers


@compiled
def kvm_emulate_hypercall(m, p, v, now):
    """Do what acts at once and set RAX; returns the host cycles of wake-ups and of further destinations.

    A directed yield follows when the handler is through: `yield_target` then names the vCPU.
    """
    registers = m.cpu[v].registers
    pv = m.pv[v]
    nr = registers[RAX]
    record(m, now, HYPERCALL, p, v, nr, registers[RBX], registers[RCX])
    record(m, now, HYPERCALL_MORE, p, v, registers[RDX], registers[RSI], 0)
    pv.hypercalls += 1
    pv.yield_target = -1
    spent = 0
    result = -KVM_ENOSYS
    if m.cpu[v].cpl != 0:
        result = -KVM_EPERM
    elif nr == KVM_HC_VAPIC_POLL_IRQ:
        result = 0
    elif nr == KVM_HC_CLOCK_PAIRING:
        result = -KVM_EOPNOTSUPP
    elif nr == KVM_HC_KICK_CPU and guest_pv_has(m, v, KVM_FEATURE_PV_UNHALT):
        spent = kvm_pv_kick_cpu_op(m, p, v, registers[RCX] & 0xFFFFFFFF, now)
        if m.kvm[0].pv_kick_yield == 1:
            name_yield_target(m, v, registers[RCX], nr)
        result = 0
    elif nr == KVM_HC_SEND_IPI and guest_pv_has(m, v, KVM_FEATURE_PV_SEND_IPI):
        result, spent = kvm_pv_send_ipi(m, p, v, now)
    elif nr == KVM_HC_SCHED_YIELD and guest_pv_has(m, v, KVM_FEATURE_PV_SCHED_YIELD):
        name_yield_target(m, v, registers[RBX], nr)
        result = 0
    registers[RAX] = result
    return spent


@compiled
def guest_pv_has(m, v, feature):
    """Does KVM do it for this guest: always, or (v5.10, if enforced) only what CPUID says."""
    return m.kvm[0].pv_enforce_cpuid == 0 or (m.cpu[v].kvm_features >> feature) & 1 == 1


@compiled
def kvm_pv_kick_cpu_op(m, p, v, apic_id, now):
    """A message without a vector to an APIC ID, or to all; one that is nobody's goes nowhere. Returns cycles."""
    vm = m.vm[m.vcpu[v].vm]
    first, end = 0, vm.vcpus
    if apic_id != BROADCAST:
        first, end = apic_id, min(apic_id + 1, vm.vcpus)
    spent = 0
    for target in range(vm.first_vcpu + first, vm.first_vcpu + end):
        m.vcpu[target].pv_unhalted = 1
        m.pv[target].kicks += 1
        spent += kvm_vcpu_kick(m, p, target, now, 0)
    return spent


@compiled
def kvm_pv_send_ipi(m, p, v, now):
    """A vector to all whose bit is set; returns (how many APICs took it or the error, cycles)."""
    registers = m.cpu[v].registers
    icr = registers[RSI]
    mode = icr & ICR_MODE
    if icr & (ICR_LOGICAL | SHORTHAND) != 0:
        return -KVM_EINVAL, 0
    if (mode != FIXED and mode != LOWEST) or icr & ICR_LEVEL != 0 or icr & ICR_VECTOR < 16:
        set_fault(m.fault[0], FAULT_HYPERCALL, v, m.cpu[v].pc, KVM_HC_SEND_IPI, icr, now)
        return 0, 0
    vm = m.vm[m.vcpu[v].vm]
    lowest = registers[RDX] & 0xFFFFFFFF
    sent = 0
    wakeups = 0
    for half in range(2):
        bits = registers[RBX] if half == 0 else registers[RCX]
        for place in range(min(CLUSTER, vm.vcpus - lowest)):
            target = vm.first_vcpu + lowest + place
            if (bits >> place) & 1 == 1 and m.cpu[target].svr & SVR_ENABLED != 0:
                wakeups += accept_irq(m, p, target, icr & ICR_VECTOR, now, sent * m.cost[0].ipi_target)
                sent += 1
        lowest = (lowest + CLUSTER) & 0xFFFFFFFF  # a u32 that may wrap around
    m.pv[v].ipis += sent
    return sent, wakeups + max(sent - 1, 0) * m.cost[0].ipi_target


@compiled
def name_yield_target(m, v, apic_id, nr):
    """The hypercall shall end with a directed yield, if the APIC ID is somebody's."""
    vm = m.vm[m.vcpu[v].vm]
    m.pv[v].directed_yield_attempted += 1
    if 0 <= apic_id < vm.vcpus:
        m.pv[v].yield_target = vm.first_vcpu + apic_id
        m.pv[v].yield_nr = nr


@compiled
def kvm_sched_yield(m, p, v, now):
    """Yield to the vCPU that the hypercall named; True: the scheduler was asked, and ``v`` must call schedule()."""
    pv = m.pv[v]
    target = pv.yield_target
    pv.yield_target = -1
    if m.vcpu[target].ready == 0 or m.task[target].state == TASK_DEAD or target == v:
        return False
    if m.kvm[0].pv_yield_if_alone == 0 and m.rq[p].nr_running == 1:  # single_task_running
        return False
    result = yield_to(m, p, target, cycles_to_ns(m.clock[0], now))
    tell_virtual_time(m, p, v, now)
    tell_virtual_time(m, p, target, now)
    record(m, now, YIELD_TO, p, v, target, result, pv.yield_nr)
    if result <= 0:
        return False
    pv.directed_yield_successful += 1
    home = m.task[target].cpu
    if home != p:
        send_host_interrupt(m, home, now + m.cost[0].ipi)
    return True
