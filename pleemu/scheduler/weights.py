"""Load weights and the fixed-point arithmetic of CFS (v5.6 kernel/sched/core.c, fair.c).

`scale` is the kernel's __calc_delta: ``delta * weight / total`` through a 32-bit inverse,
rounded down.
"""

from pleemu.jit import compiled

NICE_0_WEIGHT = 1024

# sched_prio_to_weight and sched_prio_to_wmult, nice -20 .. 19.
WEIGHTS = (
    88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916,
    9548, 7620, 6100, 4904, 3906, 3121, 2501, 1991, 1586, 1277,
    1024, 820, 655, 526, 423, 335, 272, 215, 172, 137,
    110, 87, 70, 56, 45, 36, 29, 23, 18, 15,
)  # fmt: skip
INVERSE_WEIGHTS = (
    48388, 59856, 76040, 92818, 118348, 147320, 184698, 229616, 287308, 360437,
    449829, 563644, 704093, 875809, 1099582, 1376151, 1717300, 2157191, 2708050, 3363326,
    4194304, 5237765, 6557202, 8165337, 10153587, 12820798, 15790321, 19976592, 24970740, 31350126,
    39045157, 49367440, 61356676, 76695844, 95443717, 119304647, 148102320, 186737708, 238609294, 286331153,
)  # fmt: skip


@compiled
def inverse_of(total):
    """32-bit inverse of a sum of weights; from 2^32 - 1, as the kernel does it."""
    return 0xFFFFFFFF if total == 0 else 0xFFFFFFFF // total


@compiled
def scale(delta, weight, inverse):
    """``delta * weight * inverse >> 32`` for delta >= 0, in 128 bits.

    The factor fits 32 bits in every use of the fair class: weight is 1024 or at most the total.
    """
    factor = weight * inverse
    high = (delta >> 32) * factor
    low = delta & 0xFFFFFFFF
    upper = low * (factor >> 16)
    lower = low * (factor & 0xFFFF)
    return high + ((upper + (lower >> 16)) >> 16)


@compiled
def calc_delta_fair(delta, task):
    """Wall time -> virtual time of ``task``; exact for nice 0."""
    return delta if task.weight == NICE_0_WEIGHT else scale(delta, NICE_0_WEIGHT, task.inverse_weight)
