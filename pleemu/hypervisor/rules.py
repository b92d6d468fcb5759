"""The rules by which kvm_vcpu_on_spin passes over a candidate; a policy is a list of them, in its kernel's order.

`pleemu/generations.py` has the lists. The number of a rule is its place in RULES; 0 is no rule. A list is one
number, a rule a byte.
"""

from pleemu.hypervisor.ipi import is_in_guest
from pleemu.hypervisor.ipi_aware import is_good
from pleemu.hypervisor.own import own_refuses
from pleemu.hypervisor.pending import has_pending_interrupt, vcpu_dy_runnable, vcpu_runnable
from pleemu.hypervisor.strict_boost import refuses_halted, refuses_user_mode
from pleemu.jit import compiled

# What makes a rule refuse, by number.
RULES = {
    "": "accepted",
    "itself": "the spinner itself",
    "not-preempted": "not preempted",
    "not-ready": "neither preempted nor woken since it ran",
    "halted": "halted",
    "cannot-run": "halted, not kicked, and without an interrupt that it could take",
    "no-interrupt": "halted, not kicked, and without an interrupt",
    "in-guest": "executes guest code",
    "user-mode": "preempted in user mode",
    "spins": "spins itself, and it is not its turn",
    "no-ipi": "not preempted, and no IPI from the spinner",
    "user-mode-no-ipi": "preempted in user mode, and no IPI from the spinner",
    "not-good": "no IPI from the spinner, no interrupt, and not preempted in the kernel",
    "not-useful": "the spinner does not wait for it, it waits itself, or it runs already (ground truth)",
    "own": "refused by a policy of one's own",
}
(
    NO_RULE,
    ITSELF,
    NOT_PREEMPTED,
    NOT_READY,
    HALTED,
    CANNOT_RUN,
    NO_INTERRUPT,
    IN_GUEST,
    USER_MODE,
    SPINS,
    NO_IPI,
    USER_MODE_NO_IPI,
    NOT_GOOD,
    NOT_USEFUL,
    OWN,
) = range(len(RULES))


@compiled
def rule_that_refuses(m, rules, me, candidate, now):
    """The first of ``rules`` that refuses ``candidate``, NO_RULE if none does; asking may change its flags."""
    while rules != 0:
        rule = rules & 0xFF
        if refuses(m, rule, me, candidate, now):
            return rule
        rules >>= 8
    return NO_RULE


@compiled
def refuses(m, rule, me, candidate, now):
    """Does this rule refuse the candidate?"""
    vcpu = m.vcpu[candidate]
    if rule == ITSELF:
        return candidate == me
    if rule == NOT_PREEMPTED:
        return vcpu.preempted == 0
    if rule == NOT_READY:
        return vcpu.ready == 0
    if rule == HALTED:
        return vcpu.blocking == 1
    if rule == CANNOT_RUN:
        return vcpu.blocking == 1 and not vcpu_runnable(m, candidate)
    if rule == NO_INTERRUPT:
        return vcpu.blocking == 1 and not vcpu_dy_runnable(m, candidate)
    if rule == IN_GUEST:
        return is_in_guest(m, m.task[me].cpu, m.task[candidate].cpu, candidate, now)
    if rule == USER_MODE:
        return (
            vcpu.preempted == 1
            and yield_to_kernel_mode(m, me)
            and vcpu.preempted_in_kernel == 0
            and not is_spared(m, candidate)
        )
    if rule == SPINS:
        return not is_eligible_for_directed_yield(m, candidate)
    if rule == NO_IPI:
        return refuses_halted(m, me, candidate)
    if rule == USER_MODE_NO_IPI:
        return (
            yield_to_kernel_mode(m, me)
            and not is_spared(m, candidate)
            and refuses_user_mode(m, me, candidate)
        )  # fmt: skip
    if rule == NOT_GOOD:
        in_kernel = not yield_to_kernel_mode(m, me) or vcpu.preempted_in_kernel == 1
        return not is_good(m, me, candidate, has_pending_interrupt(m, candidate), in_kernel, now)
    if rule == NOT_USEFUL:
        return vcpu.useful == 0
    if rule == OWN:
        return own_refuses(m, me, candidate, now)
    return False


@compiled
def yield_to_kernel_mode(m, me):
    """Whether only who was preempted at CPL 0 is wanted: always on VMX, on SVM if the spinner is at CPL 0, too.

    UNVERIFIED: that Strict Boost, whose patch was written for VMX, keeps to it on SVM.
    """
    return m.kvm[0].svm == 0 or m.cpu[me].cpl == 0


@compiled
def is_spared(m, candidate):
    """User mode does not count: an interrupt is pending, or (reviewers' variant of Strict Boost) an IPI has come."""
    kvm = m.kvm[0]
    if kvm.pending_irq == 1 and has_pending_interrupt(m, candidate):
        return True
    return kvm.ipi_bool == 1 and m.vcpu[candidate].ipi_any == 1


@compiled
def is_eligible_for_directed_yield(m, candidate):
    """Of those that spin themselves only every other query finds one eligible."""
    vcpu = m.vcpu[candidate]
    eligible = vcpu.in_spin_loop == 0 or vcpu.dy_eligible == 1
    if vcpu.in_spin_loop == 1:
        vcpu.dy_eligible = 1 - vcpu.dy_eligible
    return eligible
