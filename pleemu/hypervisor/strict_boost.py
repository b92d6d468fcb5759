"""Strict Boost, as the authors' patch for v5.6 does it (sslab-keio/ple-kvm, patch 2).

A vCPU remembers who sent it an IPI while it was switched out. A vCPU that was not preempted
(halted and woken, or running) is a candidate only for such a sender; one in user mode, too.

What the code does and the description does not say:
* A refusal for not being preempted marks the vCPU as if ``me`` had sent an IPI: at the next
  PAUSE exit of ``me`` it is a candidate, unless it was switched in or entered meanwhile.
  So the rule is "skip once", not "never".
* Running vCPUs, ``me`` among them, are marked likewise; their next VM entry clears that.
* The user-mode rule tests ``1 << vcpu_id`` as an int: it looks at the bit of vcpu_id modulo
  32, and for 31 at all bits from 31 up (C leaves this undefined; x86 compilers do this).
* The user-mode rule asks where the vCPU was when it was last preempted, even if it was
  not preempted this time.
"""

from pleemu.jit import compiled


@compiled
def mark_ipi_receiver(m, sender, destination):
    """The guest of ``sender`` writes the ICR; before delivery."""
    if m.vcpu[destination].scheduled_out == 1:
        m.vcpu[destination].ipi_received |= sender_bit(m, sender)


@compiled
def sender_bit(m, sender):
    """``1ull << vcpu_id``; x86 shifts modulo 64."""
    return 1 << (m.vcpu[sender].id & 63)


@compiled
def refuses_halted(m, me, candidate):
    """Not preempted, and not (ready and an IPI of mine pending): refuse, and mark."""
    vcpu = m.vcpu[candidate]
    if vcpu.preempted == 1:
        return False
    if vcpu.ready == 1 and vcpu.ipi_received & sender_bit(m, me) != 0:
        return False
    vcpu.ipi_received |= sender_bit(m, me)
    return True


@compiled
def refuses_user_mode(m, me, candidate):
    """Last preempted in user mode and no IPI of mine pending: refuse."""
    vcpu = m.vcpu[candidate]
    if vcpu.preempted_in_kernel == 1:
        return False
    shift = m.vcpu[me].id & 31
    narrow = -(1 << 31) if shift == 31 else 1 << shift
    return vcpu.ipi_received & narrow == 0
