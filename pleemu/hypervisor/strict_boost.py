"""Strict Boost: a vCPU remembers who sent it an IPI while it was switched out.

A vCPU that was not preempted (halted and woken, or running) is a candidate only for such a sender; one in user
mode, too. There are three of it:

    V5_6   the authors' patch for v5.6 (sslab-keio/ple-kvm, patch 2)
    RFC    as posted for review (20210421150831.60133-3)
    IDEAL  as their talk describes it: no marks but by IPIs, and no limits

What the code does and the description does not say:
* V5_6, RFC: a refusal for not being preempted marks the vCPU as if ``me`` had sent an IPI: at the next
  PAUSE exit of ``me`` it is a candidate, unless it was switched in or entered meanwhile.
  So the rule is "skip once", not "never". RFC marks those refused for user mode, too.
* V5_6: running vCPUs, ``me`` among them, are marked likewise; their next VM entry clears that. In RFC
  the rules before pass over them.
* V5_6: the user-mode rule tests ``1 << vcpu_id`` as an int: it looks at the bit of vcpu_id modulo
  32, and for 31 at all bits from 31 up (C leaves this undefined; x86 compilers do this). RFC has an int everywhere.
* V5_6: the user-mode rule asks where the vCPU was when it was last preempted, even if it was
  not preempted this time.
* Both: the set has 64 bits; V5_6 takes vcpu_id modulo 64 where it does not take it modulo 32.

UNVERIFIED: that RFC shifts an int at each of its places; the review names the fault, not the places.
"""

from pleemu.jit import compiled

# kvm.strict_boost
NOT_STRICT, V5_6, RFC, IDEAL = range(4)


@compiled
def mark_ipi_receiver(m, sender, destination):
    """The guest of ``sender`` writes the ICR; before delivery."""
    vcpu = m.vcpu[destination]
    vcpu.ipi_any = 1  # the reviewers' variant does not ask whether it runs
    if vcpu.scheduled_out == 1:
        mark(m, sender, destination)


@compiled
def mark(m, sender, destination):
    """Put ``sender`` into the set of the destination."""
    number = m.vcpu[sender].id
    if m.kvm[0].strict_boost == IDEAL:
        m.vcpu[destination].ipi_senders[number >> 6] |= wide_bit(number)
    elif m.kvm[0].strict_boost == RFC:
        m.vcpu[destination].ipi_received |= narrow_bits(number)
    else:
        m.vcpu[destination].ipi_received |= wide_bit(number)


@compiled
def is_marked(m, sender, destination):
    """Is ``sender`` in the set of the destination?"""
    number = m.vcpu[sender].id
    if m.kvm[0].strict_boost == IDEAL:
        return m.vcpu[destination].ipi_senders[number >> 6] & wide_bit(number) != 0
    if m.kvm[0].strict_boost == RFC:
        return m.vcpu[destination].ipi_received & narrow_bits(number) != 0
    return m.vcpu[destination].ipi_received & wide_bit(number) != 0


@compiled
def forget_ipis(m, v):
    """The vCPU is switched in, or enters the guest."""
    m.vcpu[v].ipi_received = 0
    if m.kvm[0].strict_boost == IDEAL:
        m.vcpu[v].ipi_senders[:] = 0


@compiled
def wide_bit(number):
    """``1ull << vcpu_id``; x86 shifts modulo 64."""
    return 1 << (number & 63)


@compiled
def narrow_bits(number):
    """``1 << vcpu_id`` as an int, put into 64 bits: modulo 32, and the sign of bit 31 goes on."""
    shift = number & 31
    return -(1 << 31) if shift == 31 else 1 << shift


@compiled
def refuses_halted(m, me, candidate):
    """Not preempted, and not (ready and an IPI of mine pending): refuse, and mark. RFC has asked for ready before."""
    vcpu = m.vcpu[candidate]
    if vcpu.preempted == 1:
        return False
    if (vcpu.ready == 1 or m.kvm[0].strict_boost == RFC) and is_marked(m, me, candidate):
        return False
    if m.kvm[0].strict_boost != IDEAL:
        mark(m, me, candidate)
    return True


@compiled
def refuses_user_mode(m, me, candidate):
    """Last preempted in user mode and no IPI of mine pending: refuse."""
    vcpu = m.vcpu[candidate]
    if vcpu.preempted_in_kernel == 1:
        return False
    if m.kvm[0].strict_boost == V5_6:
        return vcpu.ipi_received & narrow_bits(m.vcpu[me].id) == 0
    if vcpu.preempted == 0 or is_marked(m, me, candidate):
        return False
    if m.kvm[0].strict_boost == RFC:
        mark(m, me, candidate)
    return True
