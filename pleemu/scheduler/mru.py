"""rq->cfs_tasks: all tasks of a run queue, the one that ran or came most recently first.

A load balancer takes tasks from its tail. Doubly linked through the tasks; -1 is NULL.
"""

from pleemu.jit import compiled


@compiled
def list_add(m, q, task):
    """Put a task at the head."""
    rq, se = m.rq[q], m.task[task]
    se.mru_prev = -1
    se.mru_next = rq.mru_head
    if rq.mru_head >= 0:
        m.task[rq.mru_head].mru_prev = task
    else:
        rq.mru_tail = task
    rq.mru_head = task


@compiled
def list_del(m, q, task):
    """Take a task out."""
    rq, se = m.rq[q], m.task[task]
    if se.mru_prev >= 0:
        m.task[se.mru_prev].mru_next = se.mru_next
    else:
        rq.mru_head = se.mru_next
    if se.mru_next >= 0:
        m.task[se.mru_next].mru_prev = se.mru_prev
    else:
        rq.mru_tail = se.mru_prev


@compiled
def list_move(m, q, task):
    """Move a task to the head."""
    if m.rq[q].mru_head != task:
        list_del(m, q, task)
        list_add(m, q, task)
