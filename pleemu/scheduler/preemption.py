"""Preemption points: where the chaos scheduler takes the CPU from one thread and gives it to another.

A point is (cycle, pCPU, thread). From its cycle on it strikes as a host interrupt would, between two
instructions of a guest or in a thread of the host, or in host code where KVM looks at need_resched: before
the next VM entry.
It has an effect if the thread waits there; then it is noted in `made`. A point without one is
as if it had never been: the points made, given to another run, make the same run.

    exact     the points are given, by pCPU and cycle
    random    each is drawn at the VM entry (or turn of a thread of the host) that follows the one before it: a
              slice of its time, and when that is over one of those that wait. Slices have all orders of
              magnitude alike: an octave of [least, most] is as likely as any other
"""

from pleemu.hardware.records import NEVER
from pleemu.jit import compiled
from pleemu.scheduler.chaos import is_queued

# What fits between two visits of Python, which takes the points away.
MADE_LIMIT = 1 << 12


@compiled
def strike(m, p, now):
    """A point of pCPU ``p`` is due; True: another thread is chosen, and ``p`` must reschedule."""
    own, rq = m.preemption[p], m.rq[p]
    if rq.chosen >= 0:
        return False  # one at a time: the one before it has yet to be obeyed
    thread = -1
    if m.draw[0].active == 1:
        thread = draw_thread(m, p)
        own.strike_at = NEVER  # until the next VM entry, or turn of a thread of the host
        if thread < 0:
            own.strike_at = now + draw_slice(m, p)
    else:
        while thread < 0 and own.given < own.given_end and m.given[own.given].cycle <= now:
            if may_choose(m, p, m.given[own.given].thread):
                thread = m.given[own.given].thread
            own.given += 1
        own.strike_at = m.given[own.given].cycle if own.given < own.given_end else NEVER
    if thread < 0:
        return False
    rq.chosen = thread
    rq.need_resched = 1
    made = m.made[m.draw[0].made]
    made.cycle, made.pcpu, made.thread = now, p, thread
    m.draw[0].made += 1
    return True


@compiled
def arm(m, p, now):
    """A guest or a thread of the host goes on on pCPU ``p`` at ``now``: draw the next point, if there is none yet."""
    if m.draw[0].active == 1 and m.preemption[p].strike_at == NEVER:
        m.preemption[p].strike_at = now + draw_slice(m, p)


# Whom a point may choose: who waits on the pCPU's own queue. The two belong together.


@compiled
def may_choose(m, p, thread):
    """Can pCPU ``p`` run ``thread`` now?"""
    return is_queued(m, p, thread)


@compiled
def draw_thread(m, p):
    """Any of those that pCPU ``p`` could run instead of its own thread, -1 if there is none."""
    waiting = m.rq[p].nr_running - 1
    if waiting <= 0:
        return -1
    thread = m.rq[p].mru_tail
    for _ in range(draw(m, p, waiting)):
        thread = m.task[thread].mru_prev
    return thread


@compiled
def draw_slice(m, p):
    """Cycles until the next point: an octave of [least, most], then any number in it."""
    least, most = m.draw[0].least, m.draw[0].most
    octaves = 1
    while least << octaves <= most:
        octaves += 1
    low = least << draw(m, p, octaves)
    high = min(2 * low - 1, most)
    return low + draw(m, p, high - low + 1)


@compiled
def draw(m, p, choices):
    """A random number below ``choices``, from pCPU ``p``'s own stream (Marsaglia's xorshift, Vigna's multiplier)."""
    own = m.preemption[p]
    state = own.stream
    state ^= (state >> 12) & 0xFFFFFFFFFFFFF
    state ^= state << 25
    state ^= (state >> 27) & 0x1FFFFFFFFF
    own.stream = state
    # Upper bits of the product; among 2^61 of them those left over by the remainder are too few to be seen.
    return ((state * 0x2545F4914F6CDD1D >> 3) & 0x1FFFFFFFFFFFFFFF) % choices
