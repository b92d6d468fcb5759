"""State of KVM: `struct kvm_vcpu`, `struct kvm`, module parameters, and the switches of a policy."""

import numpy as np

# Where a vCPU's thread goes on when it is switched in.
RESUME_ENTER, RESUME_SPIN, RESUME_HALT = range(3)

VCPU = np.dtype(
    [
        # preempt notifiers and wake-ups (v5.6 virt/kvm/kvm_main.c)
        ("preempted", "i8"),            # switched out while runnable
        ("ready", "i8"),                # preempted, or woken and not yet run
        ("preempted_in_kernel", "i8"),  # CPL 0 when it was last preempted; never cleared
        ("on_wait_queue", "i8"),        # swait_active: halted and not yet woken
        ("pv_unhalted", "i8"),          # kicked by a hypercall, and has not left a HLT since
        # kvm_vcpu_on_spin
        ("in_spin_loop", "i8"),
        ("dy_eligible", "i8"),
        ("ple_window", "i8"),           # TSC ticks, on AMD PAUSEs; reaches VMCS or VMCB at the next entry
        # Strict Boost
        ("scheduled_out", "i8"),
        ("ipi_received", "i8"),         # bit set of the senders' vcpu_id
        # the thread
        ("resume", "i8"),
        ("exit_reason", "i8"),
        # constant
        ("vm", "i8"),
        ("id", "i8"),                   # vcpu_id = index in its VM = APIC ID
        # statistics
        ("named_at", "i8"),             # first accepted yield that named it since it last ran, -1 none
        ("named_class", "i8"),          # BOOST_* that it was then
        ("exited_at", "i8"),            # latest kvm_exit
        ("entered_at", "i8"),           # latest kvm_entry
        ("guest_from", "i8"),           # when it last began to execute instructions
        ("guest_cycles", "i8"),         # executing instructions
        ("thread_cycles", "i8"),        # its thread was current on a pCPU
        ("paused_at", "i8"),            # its first PAUSE exit, -1 none yet
        ("paused_after", "i8"),         # PAUSEs of the loop that had passed before it
        ("pausing_cycles", "i8"),       # kvm_entry -> kvm_exit of all PAUSE exits
    ],
    align=True,
)

# What a vCPU has of the paravirtual interface: hypercall.py, steal_time.py.
PV = np.dtype(
    [
        ("yield_target", "i8"),       # the vCPU that the hypercall in progress yields to, -1 none
        ("yield_nr", "i8"),           # and which hypercall it is
        ("steal_msr", "i8"),          # MSR_KVM_STEAL_TIME
        ("steal_update", "i8"),       # KVM_REQ_STEAL_UPDATE: before the next entry
        ("steal_preempted", "i8"),    # st.preempted: KVM has marked it so since the last update
        ("last_steal", "i8"),         # run_delay at the last update, ns
        ("run_delay", "i8"),          # runnable without running, cycles
        ("queued_at", "i8"),          # when the latest such wait began
        # statistics
        ("hypercalls", "i8"),
        ("kicks", "i8"),              # received
        ("ipis", "i8"),               # sent by hypercall
        ("directed_yield_attempted", "i8"),  # by hypercall
        ("directed_yield_successful", "i8"),
        ("steal_updates", "i8"),
        ("tlb_flushes", "i8"),        # asked for by other vCPUs while it was switched out
    ],
    align=True,
)

VM = np.dtype(
    [
        ("first_vcpu", "i8"),
        ("vcpus", "i8"),
        ("last_boosted_vcpu", "i8"),  # index within the VM, 0 at creation
        ("operations", "i8"),         # statistics
    ],
    align=True,
)

# Module parameters of kvm_intel, or their counterparts of kvm_amd, and what the policy changes.
KVM = np.dtype(
    [
        ("svm", "i8"),                # 1: kvm_amd
        ("window_control", "i8"),     # the window grows and shrinks
        ("ple_window", "i8"),         # base; kvm_amd: pause_filter_count
        ("ple_window_grow", "i8"),
        ("ple_window_shrink", "i8"),
        ("ple_window_max", "i8"),
        ("skip_pause", "i8"),         # KVM completes the PAUSE that exited
        ("strict_boost", "i8"),
        ("ipiv", "i8"),
        ("pv_kick_yield", "i8"),      # see hypercall.py
        ("pv_yield_if_alone", "i8"),
        ("pv_enforce_cpuid", "i8"),
    ],
    align=True,
)

# What host code costs, in core cycles.
COST = np.dtype(
    [
        ("exit", "i8"),               # guest instruction -> kvm_exit tracepoint
        ("entry", "i8"),              # kvm_entry tracepoint -> guest instruction
        ("pause_handler", "i8"),
        ("hlt_handler", "i8"),
        ("msr_write", "i8"),
        ("interrupt_handler", "i8"),
        ("context_switch", "i8"),
        ("tick", "i8"),
        ("ipi", "i8"),
        ("ipi_target", "i8"),         # each further destination of one ICR write
        ("posted", "i8"),             # from the notification's arrival to the vector in IRR
        ("wakeup", "i8"),
        ("idle_exit", "i8"),
        ("delivery", "i8"),           # of an interrupt inside the guest
        ("hypercall", "i8"),
    ],
    align=True,
)
