"""What a guest did wrong: one sentence with address, instruction, symbol and vCPU, then the registers."""

from __future__ import annotations

from typing import Any

from pleemu.hardware import flags
from pleemu.hardware.apic import MSR_EOI, MSR_ICR, MSR_SELF_IPI, MSR_SVR, MSR_TPR
from pleemu.hardware.memory import INTERRUPT_STACK, KERNEL_STACK, STACK_SLOT
from pleemu.hardware.msr import MSR_FMASK, MSR_KVM_STEAL_TIME, MSR_LSTAR, MSR_STAR
from pleemu.hardware.records import (
    FAULT_ALIGNMENT,
    FAULT_CR8,
    FAULT_DELIVERY,
    FAULT_DESTINATION,
    FAULT_DIVIDE,
    FAULT_HYPERCALL,
    FAULT_JUMP,
    FAULT_MSR,
    FAULT_MSR_VALUE,
    FAULT_PRIVILEGE,
    FAULT_READ,
    FAULT_READONLY,
    FAULT_SELECTOR,
    FAULT_SYSCALL,
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
_SYSCALL = "STAR, LSTAR and FMASK (0xc0000081, 82, 84)"
_KVM = "; with kvm.steal_time KVM's own, too (0x4b564d03)"
_READABLE = (
    "readable are, of the x2APIC, ID, version, TPR, PPR, LDR, SVR (0x802, 3, 8, a, d, f), ISR, TMR, IRR (0x810-0x827) "
    f"and ICR (0x830), and {_SYSCALL}{_KVM}"
)
_WRITABLE = (
    f"writable are, of the x2APIC, TPR, EOI, SVR (0x808, b, f), ICR (0x830) and SELF IPI (0x83f), and {_SYSCALL}{_KVM}"
)
_RIGHT_VALUES = {
    MSR_TPR: "TPR is 0 to 0xff",
    MSR_EOI: "write 0",
    MSR_SVR: "SVR has a vector in bits 7:0, and bit 8 enables the APIC",
    MSR_ICR: "bits 13:12, 17:16 and 31:20 of the ICR are reserved",
    MSR_SELF_IPI: "write a vector, 16 to 0xff",
    MSR_STAR: "use 0x0023001000000000, the selectors of the built-in GDT",
    MSR_LSTAR: "the address is not canonical",
    MSR_FMASK: "bits 63:32 are reserved",
    MSR_KVM_STEAL_TIME: "write the address of 64 bytes that the guest may write, a multiple of 64, plus 1; or 0",
}


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
    outside = _stack_overflow(space, address) or f"outside the guest's memory {low:#x}-{high:#x}"
    what = {
        FAULT_READ: f"read of {size} bytes at {address:#x}, {outside}",
        FAULT_WRITE: f"write of {size} bytes at {address:#x}, {outside}",
        FAULT_READONLY: (
            f"write of {size} bytes at {address:#x} ({image.symbol_at(address)}), {_readonly(int(space.writable_code))}"
        ),
        FAULT_JUMP: f"jump to {address:#x}, where no instruction begins",
        FAULT_UNSUPPORTED: f"invalid opcode at {address:#x}, or the end of the code",
        FAULT_PRIVILEGE: "privileged instruction at CPL 3",
        FAULT_MSR: f"{'write to' if size else 'read of'} MSR {address:#x}; {_WRITABLE if size else _READABLE}",
        FAULT_MSR_VALUE: f"write of {size & MASK:#x} to MSR {address:#x}; {_RIGHT_VALUES.get(address)}",
        FAULT_CR8: f"write of {address:#x} to cr8; use 0 to 15",
        FAULT_DELIVERY: (
            f"write of {size & MASK:#x} to MSR {address or MSR_ICR:#x}: only edge-triggered IPIs of delivery mode "
            "fixed or lowest priority are modelled, with a vector from 16"
        ),
        FAULT_HYPERCALL: (
            f"hypercall {address} (KVM_HC_SEND_IPI) with {size & MASK:#x} for an ICR: only edge-triggered IPIs of "
            "delivery mode fixed or lowest priority are modelled, with a vector from 16"
        ),
        FAULT_SYSCALL: "syscall without an entry point: IA32_LSTAR is 0; name one with the macro `syscall_entry`",
        FAULT_VECTOR: f"interrupt vector {address:#x} has no handler; name one with the macro `vector`",
        FAULT_DESTINATION: (
            f"ICR write {size:#x} to destination {address:#x}, which names nobody; this VM has the APIC IDs "
            f"0-{int(machine.vm[number].vcpus) - 1}, and as a logical ID i is 1 << (i & 15) in cluster i >> 4"
        ),
        FAULT_SELECTOR: f"iretq to CS {address:#x}; the built-in GDT has 0x10 for CPL 0 and 0x33 for CPL 3",
        FAULT_DIVIDE: f"divide error: a divisor of 0, or a quotient of more than {8 * size} bits",
        FAULT_ALIGNMENT: f"access of {size} bytes at {address:#x}, which must be a multiple of {size}",
    }[int(fault.kind)]
    vm = scenario.vm[number]
    where = f"{image.symbol_at(rip)}"
    source = image.source_at(rip)
    shown = f" `{image.text_of(local)}`"
    return (
        f"{source or scenario.program_path(vm)}: guest fault in {vm.name} vCPU {int(machine.vcpu[v].id)}: {what}; "
        f"RIP {rip:#x} ({where}){shown}\n{registers_of(machine.cpu[v], int(fault.rflags))}"
    )


def _stack_overflow(space: Any, address: int) -> str:
    """Say whose stack has overflowed, if the address lies below one."""
    from_top = int(space.start) % (1 << 64) + int(space.bytes) - 1 - address
    if not 0 <= from_top < int(space.bytes) - int(space.stacks):
        return ""
    return (
        f"just below the stack of vCPU {from_top // STACK_SLOT}: stack overflow; guest_main has {KERNEL_STACK} bytes, "
        f"and interrupts that come at CPL 3 have {INTERRUPT_STACK}"
    )


def _readonly(writable_code: int) -> str:
    if writable_code:
        return "an instruction, which cannot change while the guest runs"
    return "which is read-only; vm.writable_code lets a guest write beside its instructions"


def registers_of(cpu: Any, rflags: int) -> str:
    """Return the registers and flags of a vCPU as a block of lines."""
    values = [f"{name:>3} {int(cpu.registers[number]) & MASK:016x}" for number, name in enumerate(REGISTER_NAMES)]
    lines = ["  " + "  ".join(values[start : start + _COLUMNS]) for start in range(0, len(values), _COLUMNS)]
    names = "".join(f" {name}" for name, flag in FLAG_NAMES.items() if rflags & flag)
    return "\n".join([*lines, f"  rflags {rflags:#x}{names}  CPL {int(cpu.cpl)}"])
