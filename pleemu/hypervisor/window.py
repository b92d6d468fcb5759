"""Control of PLE_Window (v5.6 arch/x86/kvm/x86.h, vmx.c): it grows on each exit, a real switch back in shrinks it.

On AMD the same functions control the VMCB's PauseFilterCount (svm.c), which has 16 bits.
"""

from pleemu.jit import compiled


@compiled
def grow_ple_window(m, v):
    """A PAUSE exit: the window grows, at most to its maximum; returns the old one."""
    vcpu, kvm = m.vcpu[v], m.kvm[0]
    old = vcpu.ple_window
    vcpu.ple_window = grown(old, kvm.ple_window, kvm.ple_window_grow, kvm.ple_window_max)
    return old


@compiled
def shrink_ple_window(m, v):
    """The vCPU's thread was switched out and in again: the window shrinks, by default to its base."""
    vcpu, kvm = m.vcpu[v], m.kvm[0]
    old = vcpu.ple_window
    vcpu.ple_window = shrunk(old, kvm.ple_window, kvm.ple_window_shrink, kvm.ple_window)
    if kvm.svm == 1:
        vcpu.ple_window &= 0xFFFF  # a shrinking that wrapped around is cut to the VMCB's field
    return old


@compiled
def grown(value, base, modifier, maximum):
    """__grow_ple_window: modifier < 1 resets, < base multiplies, otherwise adds."""
    if modifier < 1:
        return base
    if modifier < base:  # the kernel multiplies in 64 unsigned bits
        return maximum if value > maximum // modifier else value * modifier
    return min(value + modifier, maximum)


@compiled
def shrunk(value, base, modifier, minimum):
    """__shrink_ple_window: modifier < 1 resets, < base divides, otherwise subtracts.

    The kernel subtracts unsigned: a modifier beyond the value wraps around, and the
    maximum of the two is then the wrapped one.
    """
    if modifier < 1:
        return base
    if modifier < base:
        return max(value // modifier, minimum)
    return max((value - modifier) & 0xFFFFFFFF, minimum)
