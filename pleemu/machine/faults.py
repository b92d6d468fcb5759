"""What a guest did wrong, in one sentence with address, instruction, symbol and vCPU."""

from __future__ import annotations

from pleemu.hardware.records import (
    FAULT_DESTINATION,
    FAULT_JUMP,
    FAULT_MSR,
    FAULT_PRIVILEGE,
    FAULT_READ,
    FAULT_READONLY,
    FAULT_SELECTOR,
    FAULT_UNSUPPORTED,
    FAULT_VECTOR,
    FAULT_WRITE,
)
from pleemu.machine.build import Layout
from pleemu.machine.state import Machine
from pleemu.scenario import Scenario

MASK = (1 << 64) - 1


def describe(machine: Machine, layout: Layout, scenario: Scenario) -> str:
    """Return the message for the fault that ended a run."""
    fault = machine.fault[0]
    v = int(fault.vcpu)
    number = int(machine.vcpu[v].vm)
    image, space = layout.images[number], machine.space[number]
    local = int(fault.pc) - layout.first_code[number]
    rip = int(machine.code[int(fault.pc)].address) & MASK
    address, size = int(fault.address) & MASK, int(fault.width)
    low, high = image.base, image.base + int(space.bytes) - 1
    what = {
        FAULT_READ: f"read of {size} bytes at {address:#x}, outside the guest's memory {low:#x}-{high:#x}",
        FAULT_WRITE: f"write of {size} bytes at {address:#x}, outside the guest's memory {low:#x}-{high:#x}",
        FAULT_READONLY: f"write of {size} bytes at {address:#x} ({image.symbol_at(address)}), which is read-only",
        FAULT_JUMP: f"jump to {address:#x}, where no instruction begins",
        FAULT_UNSUPPORTED: f"execution reached {address:#x}, where the code ends or an undefined instruction stands",
        FAULT_PRIVILEGE: "privileged instruction at CPL 3",
        FAULT_MSR: f"access to MSR {address:#x}; known are 0x802 (APIC ID), 0x80b (EOI) and 0x830 (ICR)",
        FAULT_VECTOR: f"interrupt vector {address:#x} has no handler; name one with the macro `vector`",
        FAULT_DESTINATION: (
            f"ICR write {size:#x} to APIC ID {address}: only fixed IPIs with a vector from 16 to "
            f"the physical APIC IDs 0-{int(machine.vm[number].vcpus) - 1} are modelled"
        ),
        FAULT_SELECTOR: f"iretq to privilege level {address}; use a selector with RPL 0 or 3",
    }[int(fault.kind)]
    vm = scenario.vm[number]
    where = f"{image.symbol_at(rip)}"
    source = image.source_at(rip)
    shown = "" if int(fault.kind) == FAULT_UNSUPPORTED else f" `{image.text_of(local)}`"
    return (
        f"{source or scenario.program_path(vm)}: guest fault in {vm.name} vCPU {int(machine.vcpu[v].id)}: {what}; "
        f"RIP {rip:#x} ({where}){shown}"
    )
