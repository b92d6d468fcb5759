"""The instruction subset: each mnemonic of SDM 2 that a guest may use, and what it becomes.

This table is the whole answer to "does pleemu run it?". The roles say where the operands go,
in Intel order. Whatever is not here, and every operand that `operands.py` cannot express,
is refused when the guest is read.
"""

from __future__ import annotations

import attrs
from iced_x86 import Mnemonic

from pleemu.hardware import isa


@attrs.frozen
class Form:
    """How one mnemonic is decoded."""

    op: int
    roles: tuple[str, ...] = ()  # of the operands: 'dst', 'src', 'branch'
    cost_class: int = isa.COST_SIMPLE
    condition: int = 0
    falls_through: bool = True
    only_size: int = 0  # the one operand size that is supported; 0: any
    implicit: tuple[int, int] = (0, 0)  # RAX is both operands, of these sizes


_BOTH = ("dst", "src")

# Condition codes by the name in the mnemonic (SDM 1 appendix B), as iced spells them.
CONDITIONS = {
    "O": isa.CC_O, "NO": isa.CC_NO, "B": isa.CC_B, "AE": isa.CC_AE,
    "E": isa.CC_E, "NE": isa.CC_NE, "BE": isa.CC_BE, "A": isa.CC_A,
    "S": isa.CC_S, "NS": isa.CC_NS, "P": isa.CC_P, "NP": isa.CC_NP,
    "L": isa.CC_L, "GE": isa.CC_GE, "LE": isa.CC_LE, "G": isa.CC_G,
}  # fmt: skip

SUBSET: dict[int, Form] = {
    # Moves.
    Mnemonic.MOV: Form(isa.OP_MOV, _BOTH),
    Mnemonic.MOVZX: Form(isa.OP_MOVZX, _BOTH),
    Mnemonic.MOVSX: Form(isa.OP_MOVSX, _BOTH),
    Mnemonic.MOVSXD: Form(isa.OP_MOVSX, _BOTH),
    Mnemonic.CBW: Form(isa.OP_MOVSX, implicit=(2, 1)),
    Mnemonic.CWDE: Form(isa.OP_MOVSX, implicit=(4, 2)),
    Mnemonic.CDQE: Form(isa.OP_MOVSX, implicit=(8, 4)),
    Mnemonic.LEA: Form(isa.OP_LEA, _BOTH),
    Mnemonic.PUSH: Form(isa.OP_PUSH, ("src",), only_size=8),
    Mnemonic.POP: Form(isa.OP_POP, ("dst",), only_size=8),
    # Arithmetic and logic.
    Mnemonic.ADD: Form(isa.OP_ADD, _BOTH),
    Mnemonic.ADC: Form(isa.OP_ADC, _BOTH),
    Mnemonic.SUB: Form(isa.OP_SUB, _BOTH),
    Mnemonic.SBB: Form(isa.OP_SBB, _BOTH),
    Mnemonic.CMP: Form(isa.OP_CMP, _BOTH),
    Mnemonic.AND: Form(isa.OP_AND, _BOTH),
    Mnemonic.OR: Form(isa.OP_OR, _BOTH),
    Mnemonic.XOR: Form(isa.OP_XOR, _BOTH),
    Mnemonic.TEST: Form(isa.OP_TEST, _BOTH),
    Mnemonic.INC: Form(isa.OP_INC, ("dst",)),
    Mnemonic.DEC: Form(isa.OP_DEC, ("dst",)),
    Mnemonic.NEG: Form(isa.OP_NEG, ("dst",)),
    Mnemonic.NOT: Form(isa.OP_NOT, ("dst",)),
    Mnemonic.SHL: Form(isa.OP_SHL, _BOTH),
    Mnemonic.SAL: Form(isa.OP_SHL, _BOTH),
    Mnemonic.SHR: Form(isa.OP_SHR, _BOTH),
    Mnemonic.SAR: Form(isa.OP_SAR, _BOTH),
    Mnemonic.IMUL: Form(isa.OP_IMUL, _BOTH),  # two operands only
    # Read-modify-write, the stuff of locks.
    Mnemonic.XCHG: Form(isa.OP_XCHG, _BOTH),
    Mnemonic.CMPXCHG: Form(isa.OP_CMPXCHG, _BOTH),
    Mnemonic.XADD: Form(isa.OP_XADD, _BOTH),
    Mnemonic.BT: Form(isa.OP_BT, _BOTH),
    Mnemonic.BTS: Form(isa.OP_BTS, _BOTH),
    Mnemonic.BTR: Form(isa.OP_BTR, _BOTH),
    Mnemonic.BTC: Form(isa.OP_BTC, _BOTH),
    # Control flow.
    Mnemonic.JMP: Form(isa.OP_JMP, ("branch",), falls_through=False),
    Mnemonic.CALL: Form(isa.OP_CALL, ("branch",)),
    Mnemonic.RET: Form(isa.OP_RET, falls_through=False),
    **{getattr(Mnemonic, f"J{name}"): Form(isa.OP_JCC, ("branch",), condition=cc) for name, cc in CONDITIONS.items()},
    **{getattr(Mnemonic, f"SET{name}"): Form(isa.OP_SETCC, ("dst",), condition=cc) for name, cc in CONDITIONS.items()},
    **{getattr(Mnemonic, f"CMOV{name}"): Form(isa.OP_CMOVCC, _BOTH, condition=cc) for name, cc in CONDITIONS.items()},
    # Waiting, interrupts, the local APIC by its MSRs, time and order.
    Mnemonic.PAUSE: Form(isa.OP_PAUSE, cost_class=isa.COST_PAUSE),
    Mnemonic.HLT: Form(isa.OP_HLT),
    Mnemonic.CLI: Form(isa.OP_CLI),
    Mnemonic.STI: Form(isa.OP_STI),
    Mnemonic.IRETQ: Form(isa.OP_IRETQ, cost_class=isa.COST_IRET, falls_through=False),
    Mnemonic.SYSCALL: Form(isa.OP_SYSCALL, cost_class=isa.COST_IRET),
    Mnemonic.SYSRETQ: Form(isa.OP_SYSRET, cost_class=isa.COST_IRET, falls_through=False),
    Mnemonic.WRMSR: Form(isa.OP_WRMSR),
    Mnemonic.RDMSR: Form(isa.OP_RDMSR),
    Mnemonic.RDTSC: Form(isa.OP_RDTSC, cost_class=isa.COST_RDTSC),
    Mnemonic.MFENCE: Form(isa.OP_FENCE, cost_class=isa.COST_FENCE),
    Mnemonic.LFENCE: Form(isa.OP_FENCE, cost_class=isa.COST_FENCE),
    Mnemonic.SFENCE: Form(isa.OP_FENCE, cost_class=isa.COST_FENCE),
    Mnemonic.NOP: Form(isa.OP_NOP),  # every length; its operand is ignored
    Mnemonic.ENDBR64: Form(isa.OP_NOP),
    # What compilers and our linker put where nothing may run: a fault when it is reached.
    Mnemonic.UD2: Form(isa.OP_UNSUPPORTED, falls_through=False),
    Mnemonic.INT3: Form(isa.OP_UNSUPPORTED, falls_through=False),
}

# The forms of JMP and CALL whose operand is a register or memory.
INDIRECT = {
    Mnemonic.JMP: Form(isa.OP_JMP_INDIRECT, ("src",), falls_through=False, only_size=8),
    Mnemonic.CALL: Form(isa.OP_CALL_INDIRECT, ("src",), only_size=8),
}

# MOV with CR8, the task priority; there are no other control registers.
CR8_READ = Form(isa.OP_CR8_READ, _BOTH)
CR8_WRITE = Form(isa.OP_CR8_WRITE, _BOTH)
