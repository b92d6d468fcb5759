"""The tree of a run queue: its tasks in the order of vruntime, equal ones first come first.

Only the order matters, never the shape of the kernel's red-black tree, so a sorted array
does: a queue has few tasks.
"""

from pleemu.jit import compiled


@compiled
def insert(m, cpu, task):
    """Put a task into the tree of run queue ``cpu``, behind those with the same vruntime."""
    rq = m.rq[cpu]
    position = rq.queued
    vruntime = m.task[task].vruntime
    while position > 0 and vruntime < m.task[m.tree[cpu, position - 1]].vruntime:
        m.tree[cpu, position] = m.tree[cpu, position - 1]
        position -= 1
    m.tree[cpu, position] = task
    rq.queued += 1


@compiled
def remove(m, cpu, task):
    """Take a task out of the tree."""
    rq = m.rq[cpu]
    position = position_of(m, cpu, task)
    rq.queued -= 1
    for k in range(position, rq.queued):
        m.tree[cpu, k] = m.tree[cpu, k + 1]


@compiled
def position_of(m, cpu, task):
    """Place of a task in the order of the tree."""
    position = 0
    while m.tree[cpu, position] != task:
        position += 1
    return position


@compiled
def leftmost(m, cpu):
    """First task of the tree, -1 if it is empty."""
    return m.tree[cpu, 0] if m.rq[cpu].queued > 0 else -1
