"""Interrupts and kicks that a vCPU has not yet taken, as other vCPUs' threads see them."""

from pleemu.hardware.interrupts import any_posted, deliverable
from pleemu.jit import compiled


@compiled
def vcpu_dy_runnable(m, candidate):
    """A halted vCPU that has been kicked, or has an interrupt to take (here: posted, or accepted by its APIC)."""
    cpu = m.cpu[candidate]
    if m.vcpu[candidate].pv_unhalted == 1:
        return True
    return any_posted(cpu) or (cpu.irr[0] | cpu.irr[1] | cpu.irr[2] | cpu.irr[3]) != 0


@compiled
def vcpu_runnable(m, candidate):
    """kvm_arch_vcpu_runnable: a halted vCPU that has been kicked, or could take an interrupt now.

    DEVIATION: asked for another vCPU it could read the VMCS of the one that asks (17e433b54393), here it never does.
    What is posted but not yet in IRR counts whatever its priority.
    """
    cpu = m.cpu[candidate]
    if m.vcpu[candidate].pv_unhalted == 1:
        return True
    return cpu.interrupt_flag == 1 and (any_posted(cpu) or deliverable(cpu) >= 0)


@compiled
def has_pending_interrupt(m, candidate):
    """kvm_arch_dy_has_pending_interrupt: one is posted and not yet in IRR; without APICv never."""
    cpu = m.cpu[candidate]
    return cpu.apicv == 1 and any_posted(cpu)
