"""The instruction table: what `guest` decodes and `execute` runs.

One record per instruction. Operands are resolved as far as they can be before the run:
RIP-relative addresses are absolute, branch targets are indexes into the table, an absent
base or index register is `ZERO`, which always holds 0. So an address is always
``registers[base_register] + registers[index_register] * scale + displacement``.

    kind         operand is
    NONE         absent
    REGISTER     registers[register], its low `width` bytes
    HIGH         bits 15..8 of registers[register] (ah, ch, dh, bh)
    MEMORY       `width` bytes at the instruction's address
    IMMEDIATE    `immediate`, already sign-extended

Every field is a 64-bit integer, here and in all records of the numba rooms, so that compiled
and plain Python do the same arithmetic. Only NumPy is imported here: reading a guest needs
no compiler.
"""

import numpy as np

# Operand kinds.
NONE, REGISTER, HIGH, MEMORY, IMMEDIATE = range(5)

# Registers by their encoding (SDM 2 table 2-2), then one that reads as zero.
RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)
ZERO = 16
REGISTERS = 17

# Operations. `dst` and `src` name the two operands of an instruction in Intel order.
(
    OP_UNSUPPORTED,  # decodable, outside the subset: faults if it is ever reached
    OP_END,          # the address that guest_main returns to: the vCPU is done
    OP_NOP,
    OP_MOV,          # dst = src
    OP_MOVZX,        # dst = src zero-extended from `src_width`
    OP_MOVSX,        # dst = src sign-extended from `src_width`; movsxd and movsx
    OP_LEA,          # dst = address
    OP_ADD,
    OP_ADC,
    OP_SUB,
    OP_SBB,
    OP_CMP,
    OP_AND,
    OP_OR,
    OP_XOR,
    OP_TEST,
    OP_INC,
    OP_DEC,
    OP_NEG,
    OP_NOT,
    OP_SHL,          # count in src: an immediate or CL
    OP_SHR,
    OP_SAR,
    OP_ROL,          # rotate.py
    OP_ROR,
    OP_RCL,
    OP_RCR,
    OP_SHLD,         # dst = dst:src shifted; count in `immediate`, or in CL
    OP_SHRD,
    OP_XCHG,
    OP_CMPXCHG,
    OP_CMPXCHG_PAIR,  # cmpxchg8b and cmpxchg16b: `width` is that of one half
    OP_XADD,
    OP_BT,
    OP_BTS,
    OP_BTR,
    OP_BTC,
    OP_BSF,          # bits.py: dst = what is found in src
    OP_BSR,
    OP_TZCNT,
    OP_LZCNT,
    OP_POPCNT,
    OP_BSWAP,
    OP_JMP,          # to `target`
    OP_JCC,          # to `target` if `condition`
    OP_JRCXZ,        # to `target` if the low `width` bytes of RCX are 0
    OP_LOOP,         # RCX - 1; to `target` unless RCX is 0 or ZF is not as `condition` says
    OP_JMP_INDIRECT,  # to the address in src
    OP_CALL,
    OP_CALL_INDIRECT,
    OP_RET,          # pops the address, then `immediate` more bytes
    OP_PUSH,         # src
    OP_POP,          # dst
    OP_LEAVE,        # RSP = RBP; pops dst
    OP_PUSHFQ,
    OP_POPFQ,
    OP_SETCC,        # dst = condition
    OP_CMOVCC,       # dst = src if condition
    OP_IMUL,         # dst = dst * src
    OP_IMUL_CONSTANT,  # dst = src * immediate
    OP_MUL_WIDE,     # wide.py: RDX:RAX = RAX * src, or AX = AL * src
    OP_IMUL_WIDE,
    OP_DIV,          # wide.py: RAX, RDX = RDX:RAX / src, or AL, AH = AX / src
    OP_IDIV,
    OP_SIGN,         # dst = all bits the sign of src; cwd, cdq, cqo
    OP_CLC,          # flags.py
    OP_STC,
    OP_CMC,
    OP_CLD,
    OP_STD,
    OP_LAHF,
    OP_SAHF,
    OP_MOVS,         # string.py: elements of `width` bytes; `condition` is one of ONCE, REP, REPNE
    OP_STOS,
    OP_LODS,
    OP_SCAS,
    OP_CMPS,
    OP_PAUSE,
    OP_HLT,
    OP_CLI,
    OP_STI,
    OP_IRETQ,
    OP_WRMSR,
    OP_RDMSR,
    OP_RDTSC,
    OP_RDTSCP,
    OP_CPUID,
    OP_INVLPG,       # nothing is translated: nothing to forget
    OP_FENCE,        # lfence, sfence: x86-TSO has nothing for them to do
    OP_MFENCE,
    OP_PROBE,        # a nop with an SDT note: `probe` says which, src is its operand
    OP_SYSCALL,
    OP_SYSRET,       # its 64-bit form
    OP_CR8_READ,     # dst = CR8
    OP_CR8_WRITE,    # CR8 = src
    OP_VMCALL,       # and VMMCALL
) = range(96)

# Which repetition a string instruction has; LOOP uses them for loop, loope and loopne.
ONCE, REP, REPNE = range(3)

# Condition codes as encoded in the low four bits of Jcc, SETcc and CMOVcc (SDM 1 appendix B).
CC_O, CC_NO, CC_B, CC_AE, CC_E, CC_NE, CC_BE, CC_A, CC_S, CC_NS, CC_P, CC_NP, CC_L, CC_GE, CC_LE, CC_G = range(16)

# Probes, by the name in the note (provider `pleemu`).
PROBES = (
    "work",            # spend the operand's number of cycles: computing, without the instructions
    "lock_wait",       # operand: address of the lock
    "lock_acquired",
    "lock_released",
    "ipi_wait",        # operand: the vCPU whose acknowledgement is awaited
    "ipi_acked",       # operand: the vCPU whose request is acknowledged
    "operation_done",  # one unit of the guest's own work is finished
    "lock_wait_over",  # operand: address of the lock; the wait for it has ended without it
    "barrier_wait",    # operand: address of the barrier; the vCPU has arrived at it, and waits for the others
    "barrier_passed",  # the last one has arrived
)
(
    PROBE_WORK,
    PROBE_LOCK_WAIT,
    PROBE_LOCK_ACQUIRED,
    PROBE_LOCK_RELEASED,
    PROBE_IPI_WAIT,
    PROBE_IPI_ACKED,
    PROBE_OPERATION_DONE,
    PROBE_LOCK_WAIT_OVER,
    PROBE_BARRIER_WAIT,
    PROBE_BARRIER_PASSED,
) = range(10)

# Second argument of lock_wait and lock_acquired: a set of
LOCK_IN_ORDER = 1  # the lock serves its waiters in order
LOCK_SHARED = 2    # several may have it at once, as readers do; who shares keeps out, and waits for, who does not

# Cost classes: `execute` charges the processor preset's cycles for the class.
(
    COST_SIMPLE,    # ALU, moves, branches, L1 loads and stores
    COST_LOCKED,    # LOCK-prefixed, and xchg with memory
    COST_PAUSE,
    COST_RDTSC,
    COST_FENCE,
    COST_IRET,      # and SYSCALL, SYSRET: another privilege level
    COST_DIVIDE,    # div, idiv
) = range(7)
COST_CLASSES = 7

# Forms that make up nearly all of a loop; 4 and 8 bytes wide. 0: the general way. Those from QUICK_LOAD on use
# memory. The source is always ``registers[src] + immediate``, of which one is 0.
QUICK_JCC, QUICK_JMP, QUICK_PAUSE, QUICK_NOP, QUICK_MOVE, QUICK_LEA, QUICK_ALU = range(1, 8)
QUICK_LOAD, QUICK_ALU_LOAD, QUICK_STORE = range(8, 11)

# What may come before its turn: a plain read or write of memory, push, call, pop and ret.
AHEAD_READ, AHEAD_WRITE, AHEAD_PUSH, AHEAD_CALL, AHEAD_POP, AHEAD_RET = range(1, 7)

INSTRUCTION = np.dtype(
    [
        ("op", "i8"),
        ("width", "i8"),        # operand size in bytes: 1, 2, 4, 8
        ("src_width", "i8"),    # MOVZX and MOVSX: that of the source; otherwise = width
        ("dst_kind", "i8"),
        ("dst", "i8"),          # register number
        ("src_kind", "i8"),
        ("src", "i8"),
        ("base_register", "i8"),
        ("index_register", "i8"),
        ("scale", "i8"),        # 1, 2, 4, 8
        ("condition", "i8"),    # CC_*; of string instructions and LOOP: ONCE, REP, REPNE
        ("count_in_cl", "i8"),  # 1: SHLD and SHRD by CL
        ("target", "i8"),       # table index of a direct branch, -1 where it is no instruction
        ("probe", "i8"),        # OP_PROBE: which
        ("manner", "i8"),       # OP_PROBE: set of LOCK_*
        ("cost_class", "i8"),
        ("locked", "i8"),       # 1: LOCK prefix, or xchg with memory
        ("length", "i8"),       # bytes
        # derived by `prepare`
        ("cycles", "i8"),       # core cycles, from the processor preset
        ("access_size", "i8"),  # bytes of its memory operand, 0: none
        ("reads", "i8"),        # 1: reads the memory operand, or a string
        ("writes", "i8"),       # 1: writes the memory operand, or a string
        ("bit_string", "i8"),   # 1: bt and kin with memory and a register offset: beyond the operand
        ("stores", "i8"),       # 1: needs room in the store buffer
        ("drains", "i8"),       # 1: waits until the store buffer is empty
        ("ordered", "i8"),      # 1: others can see it, it sees others, or it can end the run
        ("ahead", "i8"),        # one of AHEAD_*: how it may come before its turn (ahead.py), 0: it may not
        ("steady", "i8"),       # 1: changes registers and flags alone, the same way at any time
        ("quick", "i8"),        # one of QUICK_*: a common form that needs no general operands
        ("displacement", "i8"),
        ("immediate", "i8"),
        ("address", "i8"),      # RIP of the instruction, as a signed 64-bit number
    ],
    align=True,
)

# Operations by what they do with their operands. STRINGS reach memory through RSI and RDI alone.
_STRINGS = (OP_MOVS, OP_STOS, OP_LODS, OP_SCAS, OP_CMPS)
_READ_DST_ONLY = (OP_CMP, OP_TEST, OP_BT)
_WRITE_DST_ONLY = (OP_MOV, OP_MOVZX, OP_MOVSX, OP_SETCC, OP_POP)
_STACK = (OP_CALL, OP_CALL_INDIRECT, OP_RET, OP_PUSH, OP_POP, OP_LEAVE, OP_PUSHFQ, OP_POPFQ, OP_IRETQ)
# What can fault or end the vCPU, be it only at CPL 3: the first fault of a run is the one to report.
_MAY_STOP = (
    OP_END, OP_UNSUPPORTED, OP_JMP_INDIRECT, OP_DIV, OP_IDIV, OP_INVLPG, OP_WRMSR, OP_RDMSR, OP_HLT, OP_CLI, OP_STI,
    OP_SYSCALL, OP_SYSRET, OP_CR8_READ, OP_CR8_WRITE,
)
_DIRECT = (OP_JMP, OP_JCC, OP_JRCXZ, OP_LOOP)
# LOCK, serialising instructions (SDM 3A 9.3), and what leaves the guest: when the store buffer is drained.
_DRAINS = (OP_MFENCE, OP_IRETQ, OP_CPUID, OP_INVLPG, OP_HLT, OP_VMCALL, OP_END)
_PUSHES = (OP_CALL, OP_CALL_INDIRECT, OP_PUSH, OP_PUSHFQ)
_BIT_TESTS = (OP_BT, OP_BTS, OP_BTR, OP_BTC)
# If they do not write to memory: what a loop may consist of that is skipped. PAUSE has a time, but `spin` knows it.
_STEADY = (
    OP_NOP, OP_MOV, OP_MOVZX, OP_MOVSX, OP_LEA, *range(OP_ADD, OP_XCHG + 1), *range(OP_BT, OP_LOOP + 1),
    OP_SETCC, OP_CMOVCC, OP_IMUL, OP_IMUL_CONSTANT, OP_MUL_WIDE, OP_IMUL_WIDE, OP_SIGN, OP_CLC, OP_STC, OP_CMC,
    OP_LAHF, OP_SAHF, OP_PAUSE, OP_FENCE, OP_MFENCE,
)  # fmt: skip


def prepare(table: np.recarray, cycles: tuple[int, ...]) -> None:
    """Fill in the derived fields of an instruction table, given the cycles of each cost class."""
    in_memory = ((table.dst_kind == MEMORY) | (table.src_kind == MEMORY)) & (table.op != OP_LEA)
    # POP computes its address with RSP already incremented (SDM 2 POP).
    pops_to_stack = (table.op == OP_POP) & (table.dst_kind == MEMORY) & (table.base_register == RSP)
    table.displacement += table.width * pops_to_stack
    table.cycles = np.asarray(cycles, np.int64)[table.cost_class]
    table.access_size = np.where(in_memory, np.where(table.src_kind == MEMORY, table.src_width, table.width), 0)
    table.access_size *= np.where(table.op == OP_CMPXCHG_PAIR, 2, 1)
    exchanges = (table.op == OP_XCHG) & in_memory
    to_memory = table.dst_kind == MEMORY
    strings = np.isin(table.op, _STRINGS)
    table.writes = (to_memory & ~np.isin(table.op, _READ_DST_ONLY)) | exchanges | np.isin(table.op, (OP_MOVS, OP_STOS))
    reads_string = strings & (table.op != OP_STOS)
    table.reads = (to_memory & ~np.isin(table.op, _WRITE_DST_ONLY)) | (table.src_kind == MEMORY) | reads_string
    table.bit_string = to_memory & np.isin(table.op, _BIT_TESTS) & (table.src_kind == REGISTER)
    # Both halves of a pair at once: as if it were always LOCKed.
    table.locked |= table.op == OP_CMPXCHG_PAIR
    table.stores = ((table.writes == 1) | np.isin(table.op, _PUSHES)) & (table.locked == 0)
    table.drains = (table.locked == 1) | np.isin(table.op, _DRAINS)
    visible = np.isin(table.op, (*_STACK, OP_PROBE)) & ~((table.op == OP_PROBE) & (table.probe == PROBE_WORK))
    may_stop = np.isin(table.op, _MAY_STOP) | (np.isin(table.op, _DIRECT) & (table.target < 0))
    table.ordered = in_memory | strings | visible | may_stop | (table.drains == 1)
    table.ahead = _ahead(table, in_memory & ~strings & ~may_stop & (table.bit_string == 0))
    table.steady = np.isin(table.op, _STEADY) & (table.writes == 0) & (table.locked == 0)
    table.quick = _quick(table)


def _ahead(table: np.recarray, plain: np.ndarray) -> np.ndarray:
    plain &= ~np.isin(table.op, (*_STACK, OP_PROBE, OP_CMPXCHG_PAIR))
    ahead = np.zeros(len(table), np.int64)
    ahead[plain & (table.writes == 0) & (table.locked == 0)] = AHEAD_READ
    ahead[plain & (table.writes == 1)] = AHEAD_WRITE
    ahead[(table.op == OP_PUSH) & (table.access_size == 0)] = AHEAD_PUSH
    ahead[(table.op == OP_CALL) & (table.target >= 0)] = AHEAD_CALL
    ahead[(table.op == OP_POP) & (table.access_size == 0)] = AHEAD_POP
    ahead[table.op == OP_RET] = AHEAD_RET
    return ahead


def _quick(table: np.recarray) -> np.ndarray:
    quick = np.zeros(len(table), np.int64)
    for op, form in ((OP_JCC, QUICK_JCC), (OP_JMP, QUICK_JMP), (OP_PAUSE, QUICK_PAUSE), (OP_NOP, QUICK_NOP)):
        quick[(table.op == op) & ((table.target >= 0) | (op in (OP_PAUSE, OP_NOP)))] = form
    wide = (table.width >= 4) & (table.locked == 0)
    to_register = (table.dst_kind == REGISTER) & wide
    simple = np.isin(table.src_kind, (REGISTER, IMMEDIATE, NONE))
    arithmetic = (table.op >= OP_ADD) & (table.op <= OP_NEG)
    reads_memory = (table.src_kind == MEMORY) & (table.src_width == table.width)
    quick[to_register & (table.op == OP_LEA)] = QUICK_LEA
    quick[to_register & (table.op == OP_MOV) & simple] = QUICK_MOVE
    quick[to_register & (table.op == OP_MOV) & reads_memory] = QUICK_LOAD
    quick[to_register & arithmetic & simple] = QUICK_ALU
    quick[to_register & arithmetic & reads_memory] = QUICK_ALU_LOAD
    quick[(table.dst_kind == MEMORY) & wide & (table.op == OP_MOV) & simple] = QUICK_STORE
    one_source = np.isin(quick, (QUICK_MOVE, QUICK_ALU, QUICK_STORE))
    table.src[one_source & (table.src_kind != REGISTER)] = ZERO
    table.immediate[one_source & (table.src_kind != IMMEDIATE)] = 0
    return quick
