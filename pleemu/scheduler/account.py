"""What every fair class does alike when a task joins or leaves a run queue (account_entity_enqueue and _dequeue)."""

from pleemu.jit import compiled
from pleemu.scheduler.mru import list_add, list_del

# Why a task joins or leaves; sums of these, 0: a new request on the same queue (fork, load balancer).
ENQUEUE_WAKEUP = 1  # it slept
ENQUEUE_MIGRATED = 2  # it comes from another queue
ENQUEUE_INITIAL = 4  # it is new
DEQUEUE_SLEEP = 1  # it goes to sleep
DEQUEUE_DELAYED = 2  # it has slept for a while, and leaves the queue now
DEQUEUE_SPECIAL = 4  # it dies: no delay


@compiled
def account_entity_enqueue(m, q, task):
    """Count a task in."""
    rq = m.rq[q]
    rq.load += m.task[task].weight
    rq.nr_running += 1
    m.task[task].on_rq = 1
    list_add(m, q, task)


@compiled
def account_entity_dequeue(m, q, task):
    """Count a task out."""
    rq = m.rq[q]
    rq.load -= m.task[task].weight
    rq.nr_running -= 1
    m.task[task].on_rq = 0
    list_del(m, q, task)


@compiled
def clear_buddies(m, q, task):
    """Forget that a task is next, last or skip."""
    rq = m.rq[q]
    if rq.next == task:
        rq.next = -1
    if rq.last == task:
        rq.last = -1
    if rq.skip == task:
        rq.skip = -1
