"""The ICR in software: whom an IPI is for, and its delivery to each (v5.6 arch/x86/kvm/lapic.c).

apic_send_ipi, kvm_irq_delivery_to_apic, kvm_apic_match_dest. Of those that a lowest-priority IPI
names, KVM chooses the one whose place among them is the vector modulo their number (vector
hashing, the default; kvm_vector_to_index).

DEVIATION: KVM drops an IPI that names nobody; here it is a fault, since no guest means that.
DEVIATION: Strict Boost's patch takes the destination field for a vcpu_id, whatever the mode: with
a logical ID, a broadcast or a shorthand it marks another vCPU or none, or crashes the host.
Here it marks everyone that the IPI is for, as its authors describe it.
"""

from pleemu.hardware.apic import (
    BROADCAST,
    DESTINATION,
    FIXED,
    ICR_LEVEL,
    ICR_LOGICAL,
    ICR_MODE,
    ICR_VECTOR,
    LOWEST_PRIORITY,
    SVR_ENABLED,
    TO_ALL_BUT_SELF,
    TO_SELF,
    destination_of,
    is_destination,
    shorthand,
)
from pleemu.hardware.interrupts import set_fault
from pleemu.hardware.records import FAULT_DELIVERY, FAULT_DESTINATION
from pleemu.hypervisor.ipi import accept_irq, is_accepting
from pleemu.hypervisor.ipi_aware import track_ipi
from pleemu.hypervisor.own import ON_IPI, tell
from pleemu.hypervisor.strict_boost import mark_ipi_receiver
from pleemu.jit import compiled
from pleemu.observe.events import APIC_IPI
from pleemu.observe.journal import record


@compiled
def apic_send_ipi(m, p, sender, pc, now):
    """Send what the ICR says; returns the host cycles of further destinations and of wake-ups, 0 with a fault.

    DEVIATION: all destinations have the vector at once; only the notifications leave one after the other.
    """
    icr = m.cpu[sender].icr
    low = icr & 0xFFFFFFFF
    vector = icr & ICR_VECTOR
    mode = icr & ICR_MODE
    if (mode != FIXED and mode != LOWEST_PRIORITY) or icr & ICR_LEVEL != 0 or vector < 16:
        set_fault(m.fault[0], FAULT_DELIVERY, sender, pc, 0, low, now)
        return 0
    first, end = candidates(m, sender, icr)
    named, able = count_destinations(m, sender, icr, first, end)
    if named == 0 and shorthand(icr) != TO_ALL_BUT_SELF:
        set_fault(m.fault[0], FAULT_DESTINATION, sender, pc, destination_of(icr), low, now)
        return 0
    record(m, now, APIC_IPI, p, sender, destination_of(icr), vector, low)
    chosen = vector % able if mode == LOWEST_PRIORITY and able > 0 else -1
    sent = 0
    receiver = -1  # of the last one that was accepted, and how many were
    accepted = 0
    wakeups = 0
    place = 0  # among those that are able
    for target in range(first, end):
        if not is_destination(m.cpu[target].apic_id, m.cpu[sender].apic_id, icr):
            continue
        if mode == FIXED or (m.cpu[target].svr & SVR_ENABLED != 0 and place == chosen):
            mark_ipi_receiver(m, sender, target)
            tell(m, ON_IPI, sender, target, 0, now)
            if is_accepting(m, target):
                receiver = target
                accepted += 1
            wakeups += accept_irq(m, p, target, vector, now, sent * m.cost[0].ipi_target)
            sent += 1
        if m.cpu[target].svr & SVR_ENABLED != 0:
            place += 1
    if accepted == 1 and mode == FIXED and shorthand(icr) == DESTINATION:
        track_ipi(m, sender, receiver, vector, now)
    return wakeups + max(sent - 1, 0) * m.cost[0].ipi_target


@compiled
def candidates(m, sender, icr):
    """Range of the vCPUs among which the destinations are: one vCPU where the ICR says which, otherwise the VM."""
    vm = m.vm[m.vcpu[sender].vm]
    short = shorthand(icr)
    destination = destination_of(icr)
    if short == TO_SELF:
        return sender, sender + 1
    if short == DESTINATION and icr & ICR_LOGICAL == 0 and destination != BROADCAST:
        one = vm.first_vcpu + min(destination, vm.vcpus)
        return one, one + (1 if destination < vm.vcpus else 0)
    return vm.first_vcpu, vm.first_vcpu + vm.vcpus


@compiled
def count_destinations(m, sender, icr, first, end):
    """How many APICs the ICR names, and how many of them are software-enabled."""
    named = 0
    able = 0
    for target in range(first, end):
        if is_destination(m.cpu[target].apic_id, m.cpu[sender].apic_id, icr):
            named += 1
            if m.cpu[target].svr & SVR_ENABLED != 0:
                able += 1
    return named, able
