"""Which pCPU comes next: the one with the smallest (cycle, number), without looking at all of them.

A tournament: `due` has the cycle of each pCPU's next thing, `winner` the pCPU that comes first in each part
of the agenda. Node 1 is the whole, the parts of node i are 2i and 2i + 1, and the leaves stand behind, by pCPU.
What changes a pCPU's `cycle` or `commit_at` while another has its turn calls `reschedule`.
"""

from pleemu.hardware.records import NEVER
from pleemu.jit import compiled, inlined


@inlined
def next_of(m, p):
    """The cycle at which pCPU ``p`` does its next thing, or its store buffer commits."""
    return min(m.pcpu[p].cycle, m.pcpu[p].commit_at)


@compiled
def reschedule(m, p):
    """The next thing of pCPU ``p`` has changed."""
    m.due[p] = next_of(m, p)
    node = (m.winner.shape[0] // 2 + p) // 2
    while node > 0:
        left, right = m.winner[2 * node], m.winner[2 * node + 1]
        m.winner[node] = left if m.due[left] <= m.due[right] else right
        node //= 2


@inlined
def earliest(m):
    """The pCPU with the smallest (cycle, number)."""
    return m.winner[1]


@compiled
def runner_up(m, first):
    """Of all pCPUs but ``first``, which is the earliest, the one with the smallest (cycle, number), and that cycle."""
    second, cycle = -1, NEVER
    node = m.winner.shape[0] // 2 + first
    while node > 1:
        other = m.winner[node ^ 1]
        if m.due[other] < cycle or (m.due[other] == cycle and (other < second or second < 0)):
            second, cycle = other, m.due[other]
        node //= 2
    return second, cycle
