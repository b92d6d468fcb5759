"""State of KVM: `struct kvm_vcpu`, `struct kvm`, module parameters, and the switches of a policy."""

import numpy as np

# Where a vCPU's thread goes on when it is switched in.
RESUME_ENTER, RESUME_SPIN, RESUME_HALT = range(3)

# What a search makes of -ESRCH: the scheduler has nobody else to run on either queue.
ESRCH_TRIES, ESRCH_UNKNOWN, ESRCH_IS_SUCCESS = range(3)

NOT_ASKED = -100  # no answer of yield_to

VCPU = np.dtype(
    [
        # preempt notifiers and wake-ups (v5.6 virt/kvm/kvm_main.c)
        ("preempted", "i8"),            # switched out while runnable
        ("ready", "i8"),                # preempted, or woken and not yet run
        ("preempted_in_kernel", "i8"),  # CPL 0 when it was last preempted; never cleared
        ("on_wait_queue", "i8"),        # it sleeps: halted and not yet woken
        ("blocking", "i8"),             # as others see it: rcuwait says so until the woken thread runs, swait does not
        ("pv_unhalted", "i8"),          # kicked by a hypercall, and has not left a HLT since
        # kvm_vcpu_on_spin
        ("in_spin_loop", "i8"),
        ("dy_eligible", "i8"),
        ("visited", "i8"),              # candidates that its latest search has looked at
        ("wakes_at", "i8"),             # of the sleep of 2009: cycle at which its timer expires, NEVER if it has none
        ("ple_window", "i8"),           # TSC ticks, on AMD PAUSEs; reaches VMCS or VMCB at the next entry
        # kvm_vcpu_block
        ("halt_poll_ns", "i8"),         # time that it polls before it sleeps
        ("blocked_from", "i8"),         # cycle at which the halt in progress began, -1 none
        ("poll_from", "i8"),            # the loop's turns begin here, one every cost.poll_turn
        ("poll_until", "i8"),           # no more turns from here on
        # Strict Boost
        ("scheduled_out", "i8"),
        ("ipi_received", "i8"),         # bit set of the senders' vcpu_id, as its patches have it
        ("ipi_senders", "i8", (16,)),   # the same without their limits
        ("ipi_any", "i8"),              # the reviewers' variant: an IPI has come since the latest entry
        # IPI-aware candidates
        ("last_ipi_sender", "i8"),      # vCPU, -1 none
        ("last_ipi_receiver", "i8"),    # vCPU, -1 none
        ("pending_ipi", "i8"),          # the receiver has not yet written its EOI register
        ("ipi_time_ns", "i8"),
        ("ipi_vector", "i8"),
        # what a policy of one's own is shown beside the flags above, brought up to date before each call (see `own`)
        ("now_ns", "i8"),
        ("vcpus", "i8"),                # of its VM
        ("last_boosted", "i8"),         # in its VM
        ("in_kernel", "i8"),            # the spinner: CPL 0 at its exit
        ("dy_runnable", "i8"),          # has an interrupt to take
        ("pending_irq", "i8"),          # has a posted one; without APICv never
        ("ipi_from_me", "i8"),          # candidate: the spinner has sent it an IPI since it was switched out
        ("mine", "i8", (64,)),          # the policy's, to keep what it likes
        # the thread
        ("resume", "i8"),
        ("exit_reason", "i8"),
        # constant
        ("vm", "i8"),
        ("id", "i8"),                   # vcpu_id = index in its VM = APIC ID
        # the latest search: what a policy `ideal` reads, and what is told of it (`machine.decisions`)
        ("exit_number", "i8"),          # of the PAUSE exit that it is for
        ("asked", "i8"),                # by the vCPU itself: the last one that it asked yield_to for, -1 nobody
        ("useful", "i8"),               # 1: ground truth: boosting it would help the searching vCPU
        ("visit", "i8", (2,)),          # by round: as the how-many-eth it was looked at, 0 not
        ("refused", "i8", (2,)),        # by round: by which rule
        ("answer", "i8"),               # of yield_to for it, NOT_ASKED
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
        ("halts", "i8"),                # HLTs without an interrupt to take or a kick
        ("polls", "i8"),                # of these, how many began with a poll (halt_attempted_poll)
        ("polled", "i8"),               # and how many of these an interrupt ended (halt_successful_poll)
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
        ("store_pcpu", "i8"),         # on which its store was put into the buffer, -1: it is in memory
        ("store_place", "i8"),        # the entry there
        ("store_at", "i8"),           # and its `at`
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
        ("ipiv", "i8"),
        ("halt_poll_ns", "i8"),       # of the module kvm: most that a vCPU polls
        ("halt_poll_ns_grow", "i8"),
        ("halt_poll_ns_grow_start", "i8"),
        ("halt_poll_ns_shrink", "i8"),
        # the policy (pleemu/generations.py)
        ("rules", "i8"),              # see `rules`: one a byte, from the lowest on, at most 7
        ("relaxed_rules", "i8"),      # of a second round, if the first boosted nobody; 0: there is none
        ("one_loop", "i8"),           # the search is one loop, not two passes
        ("from_zero", "i8"),          # with 0 as the one boosted last it begins at vCPU 0
        ("stores_count", "i8"),       # it keeps how many it has looked at, not whom it boosted
        ("esrch", "i8"),              # what -ESRCH of yield_to means to the search, ESRCH_*
        ("sleeps", "i8"),             # no search: the spinner sleeps
        ("rcuwait", "i8"),
        ("pending_irq", "i8"),
        ("strict_boost", "i8"),       # see `strict_boost`
        ("ipi_bool", "i8"),
        ("ipi_aware", "i8"),          # see `ipi_aware`
        ("pv_kick_yield", "i8"),      # see hypercall.py
        ("pv_yield_if_alone", "i8"),
        ("pv_enforce_cpuid", "i8"),
        ("forced", "i8"),             # policy `ideal`: the scheduler runs whom KVM nominates
        ("own", "i8", (8,)),          # addresses of the functions of a policy of one's own, 0: none; see `own`
        ("own_vcpus", "i8"),          # address of the vCPUs' records, for these functions
        ("own_failed", "i8", (4,)),   # one of them has failed: 1 + its number, and its arguments
    ],
    align=True,
)

# What host code costs, in core cycles.
COST = np.dtype(
    [
        ("exit", "i8"),               # guest instruction -> kvm_exit tracepoint
        ("entry", "i8"),              # kvm_entry tracepoint -> guest instruction
        ("pause_handler", "i8"),
        ("candidate", "i8"),          # each candidate of a search beyond CALIBRATED_CANDIDATES
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
        ("poll_turn", "i8"),
        ("delivery", "i8"),           # of an interrupt inside the guest
        ("hypercall", "i8"),
    ],
    align=True,
)
