"""What a guest did wrong: one sentence with address, instruction, symbol and vCPU, then the registers."""

from __future__ import annotations

from typing import Any

from pleemu.hardware import flags
from pleemu.hardware.records import (
    FAULT_ALIGNMENT,
    FAULT_DESTINATION,
    FAULT_DIVIDE,
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

REGISTER_NAMES = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{number}" for number in range(8, 16)))
FLAG_NAMES = {
    "CF": flags.CF, "PF": flags.PF, "AF": flags.AF, "ZF": flags.ZF,
    "SF": flags.SF, "IF": flags.IF, "DF": flags.DF, "OF": flags.OF,
}  # fmt: skip
_COLUMNS = 4


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
        FAULT_DIVIDE: f"divide error: a divisor of 0, or a quotient of more than {8 * size} bits",
        FAULT_ALIGNMENT: f"access of {size} bytes at {address:#x}, which must be a multiple of {size}",
    }[int(fault.kind)]
    vm = scenario.vm[number]
    where = f"{image.symbol_at(rip)}"
    source = image.source_at(rip)
    shown = "" if int(fault.kind) == FAULT_UNSUPPORTED else f" `{image.text_of(local)}`"
    return (
        f"{source or scenario.program_path(vm)}: guest fault in {vm.name} vCPU {int(machine.vcpu[v].id)}: {what}; "
        f"RIP {rip:#x} ({where}){shown}\n{registers_of(machine.cpu[v], int(fault.rflags))}"
    )


def registers_of(cpu: Any, rflags: int) -> str:
    """Return the registers and flags of a vCPU as a block of lines."""
    values = [f"{name:>3} {int(cpu.registers[number]) & MASK:016x}" for number, name in enumerate(REGISTER_NAMES)]
    lines = ["  " + "  ".join(values[start : start + _COLUMNS]) for start in range(0, len(values), _COLUMNS)]
    names = "".join(f" {name}" for name, flag in FLAG_NAMES.items() if rflags & flag)
    return "\n".join([*lines, f"  rflags {rflags:#x}{names}  CPL {int(cpu.cpl)}"])
