"""What shows that each form of the instruction set does what it should: which evidence there is.

Two kinds are independent of this project: sequences recorded on a real processor (the forms in
them are listed in `recorded_forms.txt`) and the differential fuzz against Unicorn, which
generates every form but those named here. Tests hold both lists to what is really done.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pleemu.guest.forms import InstructionForm, forms
from pleemu.guest.subset import SUBSET
from pleemu.hardware import isa

PROCESSOR, UNICORN, NEITHER = "processor", "Unicorn", "neither"

# Mnemonic -> why a second implementation is not asked.
NOT_COMPARED = {
    "cpuid": "a VM exit, and no two processors answer alike",
    "rdtsc": "reads a clock",
    "rdtscp": "reads a clock",
    "hlt": "ends in an exit",
    "vmcall": "ends in an exit: a hypercall",
    "vmmcall": "ends in an exit: a hypercall",
    "wrmsr": "reaches the local APIC",
    "rdmsr": "reaches the local APIC",
    "invlpg": "changes nothing that can be seen",
    "iretq": "needs a frame and selectors",
    "syscall": "changes the privilege level",
    "sysretq": "changes the privilege level",
    "cli": "changes how interrupts come, and none come",
    "sti": "changes how interrupts come, and none come",
}
_FAULTS = "a fault"

_RECORDED = Path(__file__).with_name("recorded_forms.txt")


def mnemonic_of(form: InstructionForm) -> str:
    """Return the mnemonic without prefix and operands."""
    text = str(form)
    return text.removeprefix(form.prefix).split()[0] if form.prefix else text.split()[0]


def reason_not_compared(form: InstructionForm) -> str | None:
    """Why the fuzz leaves a form out, or None."""
    if SUBSET[form.mnemonic].op == isa.OP_UNSUPPORTED:
        return _FAULTS
    if "cr8" in form.operands:
        return NOT_COMPARED["wrmsr"]
    return NOT_COMPARED.get(mnemonic_of(form))


@cache
def recorded_forms() -> frozenset[str]:
    """Return the forms in the sequences that a processor has run."""
    return frozenset(_RECORDED.read_text(encoding="utf-8").splitlines())


def checked_by(form: InstructionForm) -> tuple[str, ...]:
    """Return the evidence for a form; with NEITHER comes the reason."""
    recorded = (PROCESSOR,) if str(form) in recorded_forms() else ()
    reason = reason_not_compared(form)
    compared = (UNICORN,) if reason is None else ()
    return (*recorded, *compared) or (NEITHER, str(reason))


def table() -> dict[str, dict[tuple[str, ...], list[InstructionForm]]]:
    """Return mnemonic -> evidence -> forms, each form once, by name."""
    found: dict[str, dict[tuple[str, ...], list[InstructionForm]]] = {}
    seen = set()
    for form in forms():
        if str(form) not in seen:
            seen.add(str(form))
            found.setdefault(mnemonic_of(form), {}).setdefault(checked_by(form), []).append(form)
    return dict(sorted(found.items()))
