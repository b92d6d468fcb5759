"""What can happen in a machine, as records of one shape.

    kind            a                   b                c
    KVM_EXIT        reason              RIP              0
    KVM_ENTRY       0                   0                0
    PLE_WINDOW      old                 new              0
    SCHED_SWITCH    previous vCPU       next vCPU        state of the previous: R, R+, S or X
    SCHED_WAKEUP    woken vCPU          target pCPU      0
    APIC_IPI        destination APIC ID vector           0         (sent by `vcpu`)
    YIELD_TO        target vCPU         result (1,0,-3)  0
    PROBE           probe number        operand          RIP

vCPUs are numbered through all VMs; -1 is the idle task. `cycle` is in core cycles.
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
) = range(8)

# States of the task that is switched out, as sched_switch prints them.
STATE_RUNNING, STATE_PREEMPTED, STATE_SLEEPING, STATE_DEAD = range(4)
STATE_NAMES = ("R", "R+", "S", "X")

# Exit reasons by KVM's names and numbers (SDM 3 appendix C; v5.6 arch/x86/include/uapi/asm/vmx.h).
EXTERNAL_INTERRUPT, CPUID, HLT, MSR_WRITE, PAUSE_INSTRUCTION = 1, 10, 12, 32, 40
EXIT_REASONS = {
    EXTERNAL_INTERRUPT: "EXTERNAL_INTERRUPT",
    CPUID: "CPUID",
    HLT: "HLT",
    MSR_WRITE: "MSR_WRITE",
    PAUSE_INSTRUCTION: "PAUSE_INSTRUCTION",
}
EXIT_REASON_LIMIT = 64

EVENT = np.dtype(
    [
        ("cycle", "i8"),
        ("kind", "i8"),
        ("pcpu", "i8"),
        ("vcpu", "i8"),  # whose thread was current, -1 idle
        ("a", "i8"),
        ("b", "i8"),
        ("c", "i8"),
    ],
    align=True,
)
