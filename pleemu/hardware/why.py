"""Why `execute` returned: the events inside a guest that its caller must see to."""

(
    STOPPED,     # a limit was reached
    PAUSE_EXIT,  # pc is at the PAUSE that exits
    HLT_EXIT,
    WRMSR_EXIT,
    PROBED,      # pc is at a probe: record it and step over it
    WINDOW,      # an interrupt may have become deliverable
    ENDED,       # guest_main has returned
    FAULTED,     # see the fault record
    CPUID_EXIT,
    RDMSR_EXIT,
    ICR_WRITTEN,  # pc is at a WRMSR whose IPI the processor may send without an exit
    CR8_EXIT,
    VMCALL_EXIT,
    SPINS,       # pc is where a loop begins that has come back to the same state
) = range(14)
