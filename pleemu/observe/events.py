"""What can happen in a machine, as records of one shape.

    kind            a                   b                c
    KVM_EXIT        reason              RIP              0
    KVM_ENTRY       0                   0                in_spin_loop: 0, or KVM has forgotten that the spin is over
    PLE_WINDOW      old                 new              0
    SCHED_SWITCH    previous vCPU       next vCPU        state of the previous: R, R+, S or X
    SCHED_WAKEUP    woken vCPU          target pCPU      0
    APIC_IPI        destination field   vector           low half of the ICR (sent by `vcpu`)
    YIELD_TO        target vCPU         result (1,0,-3)  hypercall that asked for it, 0: kvm_vcpu_on_spin
    PROBE           probe number        operand          RIP
    SCHED_MIGRATE   moved vCPU          from pCPU        to pCPU | cause << CAUSE_SHIFT (`records.MIGRATIONS`)
    HALT_POLL       old halt_poll_ns    new              0
    HYPERCALL       number              a0 (RBX)         a1 (RCX)
    HYPERCALL_MORE  a2 (RDX)            a3 (RSI)         0; at once behind its HYPERCALL
    PV_TLB_FLUSH    1: asked for        0                0
    STAT_RUNTIME    thread, and << QUEUE_SHIFT the pCPU of its run queue
                                        its vruntime     ns that it has been charged since it was last told

vCPUs are numbered through all VMs, and threads of the host behind them; -1 is the idle task.
Where a vCPU's thread is switched or woken, one of the host may be. `cycle` is in core cycles.
"""

import numpy as np

(
    KVM_EXIT,
    KVM_ENTRY,
    PLE_WINDOW,
    SCHED_SWITCH,
    SCHED_WAKEUP,
    APIC_IPI,
    YIELD_TO,
    PROBE,
    SCHED_MIGRATE,
    HALT_POLL,
    HYPERCALL,
    HYPERCALL_MORE,
    PV_TLB_FLUSH,
    STAT_RUNTIME,
) = range(14)

PCPU_MASK = 0xFFFF  # of SCHED_MIGRATE's c
CAUSE_SHIFT = 16
THREAD_MASK = 0xFFFFFFFF  # of STAT_RUNTIME's a
QUEUE_SHIFT = 32

# States of the task that is switched out, as sched_switch prints them.
STATE_RUNNING, STATE_PREEMPTED, STATE_SLEEPING, STATE_DEAD = range(4)
STATE_NAMES = ("R", "R+", "S", "X")

# Exit reasons by KVM's names and numbers on VMX (SDM 3 appendix C; v5.6 arch/x86/include/uapi/asm/vmx.h).
EXTERNAL_INTERRUPT, INTERRUPT_WINDOW, CPUID, HLT, CR_ACCESS, MSR_READ, MSR_WRITE = 1, 7, 10, 12, 28, 31, 32
VMCALL, PAUSE_INSTRUCTION, APIC_WRITE = 18, 40, 56
EXIT_REASONS = {
    EXTERNAL_INTERRUPT: "EXTERNAL_INTERRUPT",
    INTERRUPT_WINDOW: "INTERRUPT_WINDOW",
    CPUID: "CPUID",
    HLT: "HLT",
    VMCALL: "VMCALL",
    CR_ACCESS: "CR_ACCESS",
    MSR_READ: "MSR_READ",
    MSR_WRITE: "MSR_WRITE",
    PAUSE_INSTRUCTION: "PAUSE_INSTRUCTION",
    APIC_WRITE: "APIC_WRITE",
}
EXIT_REASON_LIMIT = 64

# On SVM the events have the same numbers; KVM's names for them are others (v5.6 arch/x86/include/uapi/asm/svm.h).
SVM_EXIT_REASONS = EXIT_REASONS | {
    EXTERNAL_INTERRUPT: "interrupt",
    INTERRUPT_WINDOW: "vintr",
    CPUID: "cpuid",
    HLT: "hlt",
    VMCALL: "vmmcall",
    MSR_READ: "msr",
    MSR_WRITE: "msr",
    PAUSE_INSTRUCTION: "pause",
}
PAUSE_EXIT_NAMES = (EXIT_REASONS[PAUSE_INSTRUCTION], SVM_EXIT_REASONS[PAUSE_INSTRUCTION])


def exit_reasons(amd: bool) -> dict[int, str]:
    """Return the names of the exit reasons that KVM prints on such a host."""
    return SVM_EXIT_REASONS if amd else EXIT_REASONS


EVENT = np.dtype(
    [
        ("cycle", "i8"),
        ("kind", "i8"),
        ("pcpu", "i8"),
        ("vcpu", "i8"),  # whose thread was current, or which thread of the host; -1 idle
        ("a", "i8"),
        ("b", "i8"),
        ("c", "i8"),
    ],
    align=True,
)
