"""The instruction subset: each mnemonic of SDM 2 that a guest may use, and what it becomes.

This table is the whole answer to "does pleemu run it?": the integer instructions of 64-bit mode
that compilers emit for freestanding C, and the system instructions that a small kernel needs.
The roles say where the operands go, in Intel order. Whatever is not here, and every operand that
`operands.py` cannot express, is refused when the guest is read.

Deliberately not here:
    x87, MMX, SSE, AVX, AMX    there are no such registers; compile with -mgeneral-regs-only
    BMI1 (but tzcnt), BMI2, ADX, movbe, crc32, rdrand, movnti, clflush: only by an option of their own
    enter, xlatb, bound, into, salc, BCD    compilers do not emit them
    segment registers, fs: and gs:, far calls and returns    one flat address space, one thread a stack
    in, out, ins, outs    there is no device but the local APIC
    control and debug registers, lgdt, ltr, swapgs, wbinvd, ...    nothing is translated or cached by tables
    XBEGIN and kin    no transactions
    16-bit leave, pushf, popf and bswap; 32-bit addresses
LOCK stands only where SDM 2 allows it, and with an operand in memory; elsewhere it is #UD.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from iced_x86 import Mnemonic

from pleemu.hardware import isa


@attrs.frozen
class Form:
    """How one mnemonic is decoded."""

    op: int
    roles: tuple[str, ...] = ()  # of the operands: 'dst', 'src', 'factor', 'count', 'branch'; () ignores them
    cost_class: int = isa.COST_SIMPLE
    condition: int = 0
    falls_through: bool = True
    sizes: tuple[int, ...] = ()  # of the operand, in bytes, where not every one that can be encoded is supported
    implicit: Mapping[str, int] = attrs.Factory(dict)  # fields of operands that are not written down
    is_string: bool = False
    locked: bool = False  # atomic without a LOCK prefix, too


_BOTH = ("dst", "src")
_STACK_SIZES = (8, 2)


def _of_rax(destination: int, width: int, src_width: int) -> dict[str, int]:
    """Operands of the conversions: ``destination`` from RAX."""
    registers = {"dst_kind": isa.REGISTER, "dst": destination, "src_kind": isa.REGISTER, "src": isa.RAX}
    return registers | {"width": width, "src_width": src_width}


def _strings(names: str, op: int) -> dict[int, Form]:
    return {getattr(Mnemonic, name): Form(op, is_string=True) for name in names.split()}


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
    Mnemonic.CBW: Form(isa.OP_MOVSX, implicit=_of_rax(isa.RAX, 2, 1)),
    Mnemonic.CWDE: Form(isa.OP_MOVSX, implicit=_of_rax(isa.RAX, 4, 2)),
    Mnemonic.CDQE: Form(isa.OP_MOVSX, implicit=_of_rax(isa.RAX, 8, 4)),
    Mnemonic.CWD: Form(isa.OP_SIGN, implicit=_of_rax(isa.RDX, 2, 2)),
    Mnemonic.CDQ: Form(isa.OP_SIGN, implicit=_of_rax(isa.RDX, 4, 4)),
    Mnemonic.CQO: Form(isa.OP_SIGN, implicit=_of_rax(isa.RDX, 8, 8)),
    Mnemonic.LEA: Form(isa.OP_LEA, _BOTH),
    Mnemonic.BSWAP: Form(isa.OP_BSWAP, ("dst",), sizes=(4, 8)),
    Mnemonic.PUSH: Form(isa.OP_PUSH, ("src",), sizes=_STACK_SIZES),
    Mnemonic.POP: Form(isa.OP_POP, ("dst",), sizes=_STACK_SIZES),
    Mnemonic.LEAVE: Form(isa.OP_LEAVE, implicit={"dst_kind": isa.REGISTER, "dst": isa.RBP, "width": 8}),
    Mnemonic.PUSHFQ: Form(isa.OP_PUSHFQ),
    Mnemonic.POPFQ: Form(isa.OP_POPFQ),
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
    Mnemonic.ROL: Form(isa.OP_ROL, _BOTH),
    Mnemonic.ROR: Form(isa.OP_ROR, _BOTH),
    Mnemonic.RCL: Form(isa.OP_RCL, _BOTH),
    Mnemonic.RCR: Form(isa.OP_RCR, _BOTH),
    Mnemonic.SHLD: Form(isa.OP_SHLD, (*_BOTH, "count")),
    Mnemonic.SHRD: Form(isa.OP_SHRD, (*_BOTH, "count")),
    Mnemonic.IMUL: Form(isa.OP_IMUL, _BOTH),  # one and three operands: BY_OPERANDS
    Mnemonic.MUL: Form(isa.OP_MUL_WIDE, ("src",)),
    Mnemonic.DIV: Form(isa.OP_DIV, ("src",), cost_class=isa.COST_DIVIDE),
    Mnemonic.IDIV: Form(isa.OP_IDIV, ("src",), cost_class=isa.COST_DIVIDE),
    # Looking for bits and counting them.
    Mnemonic.BSF: Form(isa.OP_BSF, _BOTH),
    Mnemonic.BSR: Form(isa.OP_BSR, _BOTH),
    Mnemonic.TZCNT: Form(isa.OP_TZCNT, _BOTH),
    Mnemonic.LZCNT: Form(isa.OP_LZCNT, _BOTH),
    Mnemonic.POPCNT: Form(isa.OP_POPCNT, _BOTH),
    # Flags.
    Mnemonic.CLC: Form(isa.OP_CLC),
    Mnemonic.STC: Form(isa.OP_STC),
    Mnemonic.CMC: Form(isa.OP_CMC),
    Mnemonic.CLD: Form(isa.OP_CLD),
    Mnemonic.STD: Form(isa.OP_STD),
    Mnemonic.LAHF: Form(isa.OP_LAHF),
    Mnemonic.SAHF: Form(isa.OP_SAHF),
    # Strings, each alone or with rep, repe or repne.
    **_strings("MOVSB MOVSW MOVSD MOVSQ", isa.OP_MOVS),
    **_strings("STOSB STOSW STOSD STOSQ", isa.OP_STOS),
    **_strings("LODSB LODSW LODSD LODSQ", isa.OP_LODS),
    **_strings("SCASB SCASW SCASD SCASQ", isa.OP_SCAS),
    **_strings("CMPSB CMPSW CMPSD CMPSQ", isa.OP_CMPS),
    # Read-modify-write, the stuff of locks.
    Mnemonic.XCHG: Form(isa.OP_XCHG, _BOTH),
    Mnemonic.CMPXCHG: Form(isa.OP_CMPXCHG, _BOTH),
    Mnemonic.CMPXCHG8B: Form(isa.OP_CMPXCHG_PAIR, ("dst",), locked=True),
    Mnemonic.CMPXCHG16B: Form(isa.OP_CMPXCHG_PAIR, ("dst",), locked=True),
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
    Mnemonic.JRCXZ: Form(isa.OP_JRCXZ, ("branch",), implicit={"width": 8}),
    Mnemonic.JECXZ: Form(isa.OP_JRCXZ, ("branch",), implicit={"width": 4}),
    Mnemonic.LOOP: Form(isa.OP_LOOP, ("branch",), condition=isa.ONCE),
    Mnemonic.LOOPE: Form(isa.OP_LOOP, ("branch",), condition=isa.REP),
    Mnemonic.LOOPNE: Form(isa.OP_LOOP, ("branch",), condition=isa.REPNE),
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
    Mnemonic.RDTSCP: Form(isa.OP_RDTSCP, cost_class=isa.COST_RDTSC),
    Mnemonic.CPUID: Form(isa.OP_CPUID),
    Mnemonic.VMCALL: Form(isa.OP_VMCALL),
    Mnemonic.VMMCALL: Form(isa.OP_VMCALL),  # AMD's
    Mnemonic.INVLPG: Form(isa.OP_INVLPG),
    Mnemonic.MFENCE: Form(isa.OP_MFENCE, cost_class=isa.COST_FENCE),
    Mnemonic.LFENCE: Form(isa.OP_FENCE, cost_class=isa.COST_FENCE),
    Mnemonic.SFENCE: Form(isa.OP_FENCE, cost_class=isa.COST_FENCE),
    Mnemonic.NOP: Form(isa.OP_NOP),  # every length; its operand is ignored
    Mnemonic.ENDBR64: Form(isa.OP_NOP),
    Mnemonic.PREFETCHT0: Form(isa.OP_NOP),  # a hint that is not taken
    Mnemonic.PREFETCHT1: Form(isa.OP_NOP),
    Mnemonic.PREFETCHT2: Form(isa.OP_NOP),
    Mnemonic.PREFETCHNTA: Form(isa.OP_NOP),
    Mnemonic.PREFETCHW: Form(isa.OP_NOP),
    # What compilers and our linker put where nothing may run: a fault when it is reached.
    Mnemonic.UD2: Form(isa.OP_UNSUPPORTED, falls_through=False),
    Mnemonic.UD1: Form(isa.OP_UNSUPPORTED, falls_through=False),
    Mnemonic.UD0: Form(isa.OP_UNSUPPORTED, falls_through=False),
    Mnemonic.INT3: Form(isa.OP_UNSUPPORTED, falls_through=False),
}

# The forms of JMP and CALL whose operand is a register or memory.
INDIRECT = {
    Mnemonic.JMP: Form(isa.OP_JMP_INDIRECT, ("src",), falls_through=False, sizes=(8,)),
    Mnemonic.CALL: Form(isa.OP_CALL_INDIRECT, ("src",), sizes=(8,)),
}

# The forms that have another number of operands.
BY_OPERANDS = {
    (Mnemonic.IMUL, 1): Form(isa.OP_IMUL_WIDE, ("src",)),
    (Mnemonic.IMUL, 3): Form(isa.OP_IMUL_CONSTANT, (*_BOTH, "factor")),
}

# MOV with CR8, the task priority; there are no other control registers.
CR8_READ = Form(isa.OP_CR8_READ, _BOTH)
CR8_WRITE = Form(isa.OP_CR8_WRITE, _BOTH)
