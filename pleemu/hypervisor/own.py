"""Where KVM asks and tells a policy of the user's own (`pleemu/own_policy.py` says what it looks like).

Its functions are shown the records of one or two vCPUs. What KVM would have to compute for them is computed
before each call: `show`. Of a policy without a function nothing is asked: its address is 0.
"""

from pleemu.hardware.clock import cycles_to_ns
from pleemu.hypervisor.call import call
from pleemu.hypervisor.pending import has_pending_interrupt, vcpu_dy_runnable
from pleemu.hypervisor.strict_boost import is_marked
from pleemu.jit import compiled

# Numbers of the functions: places in `kvm.own`, in the order of `own_policy.HOOKS`.
REFUSES, STARTS_AT, ON_ENTRY, ON_SCHED_IN, ON_SCHED_OUT, ON_IPI, ON_EOI, ON_YIELD = range(8)

FAILED = -(1 << 62)  # what a function returns that has raised an exception


@compiled
def own_refuses(m, me, candidate, now):
    """Does `refuses` say so?"""
    kvm = m.kvm[0]
    if kvm.own[REFUSES] == 0:
        return False
    show(m, me, now)
    show(m, candidate, now)
    m.vcpu[candidate].ipi_from_me = 1 if is_marked(m, me, candidate) else 0
    return ask(m, REFUSES, me, candidate, 0) != 0


@compiled
def own_start(m, me, last, now):
    """The vCPU of the VM behind which the search begins: before the one that `starts_at` names, or ``last``."""
    kvm = m.kvm[0]
    if kvm.own[STARTS_AT] == 0:
        return last
    show(m, me, now)
    return (ask(m, STARTS_AT, me, 0, 0) - 1) % m.vm[m.vcpu[me].vm].vcpus


@compiled
def tell(m, event, v, other, value, now):
    """Something has happened to ``v``, with ``other`` if not -1."""
    if m.kvm[0].own[event] == 0:
        return
    show(m, v, now)
    if other >= 0:
        show(m, other, now)
    ask(m, event, v, other, value)


@compiled
def show(m, v, now):
    """Bring up to date what the policy sees of ``v``."""
    vcpu, vm = m.vcpu[v], m.vm[m.vcpu[v].vm]
    vcpu.now_ns = cycles_to_ns(m.clock[0], now)
    vcpu.vcpus = vm.vcpus
    vcpu.last_boosted = vm.last_boosted_vcpu
    vcpu.in_kernel = 1 if m.cpu[v].cpl == 0 else 0
    vcpu.dy_runnable = 1 if vcpu_dy_runnable(m, v) else 0
    vcpu.pending_irq = 1 if has_pending_interrupt(m, v) else 0
    vcpu.ipi_from_me = 0


@compiled
def ask(m, function, a, b, c):
    """Call a function; the first failure is kept, and nothing is asked from then on."""
    kvm = m.kvm[0]
    if kvm.own_failed[0] != 0:
        return 0
    answer = call(kvm.own[function], kvm.own_vcpus, a, b, c)
    if answer == FAILED:
        kvm.own_failed[0] = 1 + function
        kvm.own_failed[1] = a
        kvm.own_failed[2] = b
        kvm.own_failed[3] = c
        return 0
    return answer
