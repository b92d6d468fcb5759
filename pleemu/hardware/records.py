"""State of the hardware: physical CPUs, virtual CPUs as their guest sees them, address spaces.

Fields are grouped by who writes them. Times are in core cycles unless a name says `tsc` or `ns`.
"""

import numpy as np

from pleemu.hardware.isa import REGISTERS

NEVER = 1 << 62  # a time that does not come

BUFFER_LIMIT = 128  # stores that a store buffer can be made to hold

# Nested `work` probes: one per level of interrupt nesting is enough.
WORK_DEPTH = 8

# What a pCPU does next, at its `cycle`.
(
    IDLE,      # nothing, until a host interrupt arrives
    GUEST,     # executes the instruction at the vCPU's pc
    EXITING,   # the VM exit is complete: handle it
    SPINNING,  # kvm_vcpu_on_spin looks for a candidate
    HALTING,   # kvm_vcpu_block decides whether to sleep
    ENTERING,  # vcpu_enter_guest
    SWITCHING,  # the context switch is complete: the next thread goes on
    RESCHEDULING,  # the idle task calls schedule()
    POLLING,   # kvm_vcpu_block looks for an interrupt again and again
    COMPUTING,  # executes a thread of the host
    YIELDING,  # kvm_sched_yield: a hypercall ends with a directed yield
) = range(11)

PCPU = np.dtype(
    [
        # the event loop
        ("cycle", "i8"),         # time of what it does next; NEVER while idle without an interrupt
        ("phase", "i8"),
        ("vcpu", "i8"),          # whose thread is current; vCPUs and more: that of the host; -1 idle
        # timer and interrupts of the host
        ("ticks", "i8"),         # number of the next tick since time 0
        ("next_tick", "i8"),
        ("interrupt_at", "i8"),  # arrival of the earliest IPI on its way, NEVER if none
        ("timer_at", "i8"),      # earliest timer of a sleeping thread of the host, NEVER if none
        # the last directed yield that named a vCPU of this pCPU, until the next pick
        ("hint_vcpu", "i8"),     # -1 none
        ("hint_class", "i8"),
        ("exit_from", "i8"),     # when the VM exit in progress began
        # store buffer (store_buffer.py)
        ("oldest", "i8"),        # place of its oldest store
        ("buffered", "i8"),      # number of stores
        ("commit_at", "i8"),     # when the oldest one commits, NEVER if there is none
        ("promised", "i8"),      # 1: its line arrives then
        # the line that an instruction waits for (cache.py)
        ("awaited_at", "i8"),    # when it arrives, NEVER if there is none
        ("awaited_byte", "i8"),
        ("awaited_size", "i8"),
        ("awaited_alone", "i8"),
        ("awaited_too", "i8"),   # first byte of a second operand of that size, to read; -1: none
        # constant
        ("word", "i8"),          # its bit in the sets of pCPUs
        ("bit", "i8"),
        ("tick_offset", "i8"),   # its ticks come so much later than those of pCPU 0
        # statistics
        ("since", "i8"),         # when the current thread, or idle, was switched in
        ("idle_cycles", "i8"),   # no thread was current
    ],
    align=True,
)

STORE = np.dtype(
    [
        ("byte", "i8"),          # index of its first byte in `memory`
        ("width", "i8"),         # bytes
        ("value", "i8"),
        ("at", "i8"),            # commits at this cycle or later
    ],
    align=True,
)

# Of 64 bytes of `memory`. Together with `holders`, which has the set of pCPUs that hold each line.
LINE = np.dtype(
    [
        ("owner", "i8"),          # 1 + the pCPU that holds it alone and may write, 0: none
        ("written", "i8"),        # 1: by anybody
        ("promised_until", "i8"),  # a writer that asked gets it then; who asks later comes after it
        ("asked_until", "i8"),    # who asked for it, to read or to write, has it by then
        ("spinners", "i8"),       # parked pCPUs that read it (spin.py)
    ],
    align=True,
)

SPUN_LINES = 8  # cache lines that a loop may read to be skipped

# A loop of which a pCPU may skip whole turns (spin.py).
SPIN = np.dtype(
    [
        ("active", "i8"),        # 1: loops are skipped
        ("parked", "i8"),        # NOT_PARKED, IN_LOOP, AT_WORK
        # while parked
        ("since", "i8"),         # cycle at which its first turn begins
        ("period", "i8"),        # cycles of a turn
        ("instructions", "i8"),  # of a turn
        ("pauses", "i8"),        # of a turn
        ("last_pause", "i8"),    # cycles from the beginning of a turn to its last PAUSE
        ("counter", "i8"),       # register that counts the turns (counted.py), NO_COUNTER if none does
        ("counting", "i8"),      # table index of the instruction that does
        ("step", "i8"),          # what it adds
        ("sets_flags", "i8"),    # 1: the flags at the end of a turn are its own
        ("lines", "i8"),         # number of lines that it reads
        ("line", "i8", (SPUN_LINES,)),
        # while watched
        ("watching", "i8"),
        ("head", "i8"),          # table index of the instruction at which the watch began
        ("head_cycle", "i8"),
        ("head_instructions", "i8"),
        ("head_pauses", "i8"),
        ("registers", "i8", (REGISTERS,)),
        ("flag_result", "i8"),
        ("flag_carry", "i8"),
        ("first_pause", "i8"),   # cycle of the first PAUSE since, -1 none
        ("latest_pause", "i8"),
        ("narrowest", "i8"),     # least distance between two PAUSEs, in cycles
        ("widest", "i8"),
        # when to watch
        ("patience", "i8"),      # backward branches until the next watch
        ("wait", "i8"),          # after the next one in vain
        ("effort", "i8"),        # instructions of a watch
    ],
    align=True,
)

# What memory costs, in core cycles, and how large store buffers are.
TIMING = np.dtype(
    [
        ("transfer", "i8"),
        ("far_transfer", "i8"),
        ("lookahead", "i8"),  # nobody gets a line of another sooner than this
        ("store_buffer", "i8"),
        ("places", "i8"),  # taken so far, see `cpu.place`
    ],
    align=True,
)

CPU = np.dtype(
    [
        # architecture: written by `execute` and by interrupt delivery
        ("registers", "i8", (REGISTERS,)),
        ("pc", "i8"),            # index of the next instruction in the table
        ("flag_result", "i8"),   # see flags.py
        ("flag_carry", "i8"),
        ("interrupt_flag", "i8"),  # RFLAGS.IF
        ("direction", "i8"),     # RFLAGS.DF
        ("shadow", "i8"),        # 1: STI blocks interrupts for one more instruction
        ("cpl", "i8"),
        ("work_pc", "i8", (WORK_DEPTH,)),  # `work` in progress, innermost last
        ("work_rsp", "i8", (WORK_DEPTH,)),
        ("work_left", "i8", (WORK_DEPTH,)),
        ("work_depth", "i8"),
        ("popped", "i8"),        # what the last pop read
        ("probe_value", "i8"),   # operand of the probe at pc
        ("instructions", "i8"),
        # ground truth of a lock that serves in order (observe/waits.py)
        ("watched", "i8"),       # 1 + number of the 64-bit word of the lock that it waits for, 0 none
        ("place", "i8"),         # that its latest LOCKed change of that word took, 0 none yet
        # local APIC, one bit a vector
        ("irr", "i8", (4,)),
        ("isr", "i8", (4,)),
        ("pir", "i8", (4,)),     # posted-interrupt requests (SDM 3 29.6), also used without APICv
        ("pir_at", "i8"),        # when the notification arrives, NEVER if there is none
        ("tpr", "i8"),
        ("svr", "i8"),
        ("icr", "i8"),           # as last written
        ("injected", "i8"),      # without APICv: the VM entry brings an interrupt
        # MSRs of SYSCALL
        ("star", "i8"),
        ("lstar", "i8"),         # RIP of the entry point
        ("fmask", "i8"),
        # VMCS fields of pause-loop exiting, and what the processor remembers (SDM 3C 25.1.3)
        ("pause_exiting", "i8"),  # "PAUSE exiting" control: every PAUSE exits
        ("ple", "i8"),           # "PAUSE-loop exiting" control
        ("ple_gap", "i8"),       # TSC ticks
        ("ple_window", "i8"),    # TSC ticks
        ("pause_armed", "i8"),   # 1: no PAUSE at CPL 0 since the latest VM entry
        ("first_pause_tsc", "i8"),
        ("last_pause_tsc", "i8"),
        # VMCB fields of the pause filter, and its counter (APM 2 15.14.4)
        ("pause_filter", "i8"),  # 1: AMD, PAUSE is intercepted
        ("pause_filter_count", "i8"),  # PAUSEs
        ("pause_filter_threshold", "i8"),  # TSC ticks, 0: simple mode
        ("pause_filter_left", "i8"),  # PAUSEs that still pass
        # statistics
        ("pauses", "i8"),        # executed without an exit
        ("loop_pauses_from", "i8"),  # `pauses` when the present loop of them began
        # constant
        ("space", "i8"),         # its address space = its VM
        ("rsp0", "i8"),          # stack for interrupts from CPL 3 (TSS.RSP0)
        ("apic_id", "i8"),
        ("apicv", "i8"),         # virtual-interrupt delivery and posted interrupts
        ("ipiv", "i8"),          # IPI virtualization
        ("kvm_features", "i8"),  # EAX of CPUID leaf 0x40000001
    ],
    align=True,
)

SPACE = np.dtype(
    [
        ("start", "i8"),          # guest address of its first byte
        ("bytes", "i8"),          # of memory, a multiple of 8
        ("stacks", "i8"),         # bytes from start to the stacks, which end the memory
        ("readonly_size", "i8"),  # bytes from start that may not be written
        ("code_size", "i8"),      # bytes from start that may be jumped into
        ("first_word", "i8"),     # index of its first 8 bytes in `memory`
        ("first_index", "i8"),    # index of its first byte in `index_of`
        ("writable_code", "i8"),  # 1: below readonly_size only instructions may not be written
    ],
    align=True,
)

CLOCK = np.dtype([("core_khz", "i8"), ("tsc_khz", "i8")], align=True)

# Why a guest was stopped for good.
(
    NO_FAULT,
    FAULT_READ,         # outside the guest's memory
    FAULT_WRITE,
    FAULT_READONLY,     # a write to code or constants
    FAULT_JUMP,         # to an address that is no instruction
    FAULT_UNSUPPORTED,  # an instruction outside the subset, or the end of the code
    FAULT_PRIVILEGE,    # CPL 0 only
    FAULT_MSR,
    FAULT_VECTOR,       # an interrupt without a handler
    FAULT_DESTINATION,  # an IPI to an APIC that does not exist
    FAULT_SELECTOR,     # IRETQ to a selector that the built-in GDT does not have
    FAULT_DIVIDE,       # #DE
    FAULT_ALIGNMENT,    # #GP: cmpxchg16b of what is not aligned to 16 bytes
    FAULT_MSR_VALUE,    # WRMSR of a value with reserved bits, or that the machine cannot take
    FAULT_DELIVERY,     # an IPI of a kind outside the subset
    FAULT_SYSCALL,      # SYSCALL without an entry point
    FAULT_CR8,          # MOV to CR8 of more than 15
    FAULT_HYPERCALL,    # a hypercall whose arguments are outside the subset
) = range(18)

FAULT = np.dtype(
    [
        ("kind", "i8"),
        ("vcpu", "i8"),
        ("pc", "i8"),
        ("address", "i8"),
        ("width", "i8"),
        ("cycle", "i8"),
        ("rflags", "i8"),  # of the vCPU, for the report
    ],
    align=True,
)
