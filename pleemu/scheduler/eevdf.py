"""Earliest Eligible Virtual Deadline First (Linux v6.6 to v6.12, kernel/sched/fair.c), one flat queue a CPU.

    a task requests a slice; its deadline is the vruntime at which that will be used up
    V, the average vruntime of a queue by weight, is where all would be if all were equal
    a task is eligible if it is not ahead of V; of those, the one with the first deadline runs
    its lag, V - vruntime, goes along when it leaves the queue, and comes back with it

All versions are here; `m.tunables[0]` says what this one does, `pleemu.kernel` which does what.
``q`` is the number of a run queue, tasks are numbers too, -1 is NULL, and ``now`` is
rq->clock_task in nanoseconds. `rq.min_vruntime` is what the sums count from.
"""

from pleemu.jit import compiled
from pleemu.scheduler import tree
from pleemu.scheduler.account import (
    DEQUEUE_DELAYED,
    DEQUEUE_SLEEP,
    DEQUEUE_SPECIAL,
    ENQUEUE_INITIAL,
    ENQUEUE_MIGRATED,
    account_entity_dequeue,
    account_entity_enqueue,
    clear_buddies,
)
from pleemu.scheduler.tree import LEFT, RIGHT
from pleemu.scheduler.weights import calc_delta_fair

# The average, and who is eligible.


@compiled
def sums(m, q):
    """Sum of (vruntime - min_vruntime) * weight, and of weight, over the tree and the running task."""
    rq = m.rq[q]
    total, load = rq.avg_vruntime, rq.avg_load
    if rq.curr >= 0 and m.task[rq.curr].on_rq == 1:
        curr = m.task[rq.curr]
        total += (curr.vruntime - rq.min_vruntime) * curr.weight
        load += curr.weight
    return total, load


@compiled
def avg_vruntime(m, q):
    """V, rounded down; with zero_vruntime the sums count from there from now on."""
    rq = m.rq[q]
    total, load = sums(m, q)
    delta = total // load if load > 0 else 0
    if m.tunables[0].zero_vruntime == 1:
        if rq.avg_load == 0 and load > 0:
            delta = m.task[rq.curr].vruntime - rq.min_vruntime  # alone it is the average: no product, none overflows
        count_from(m, q, rq.min_vruntime + delta)
        return rq.min_vruntime
    return rq.min_vruntime + delta


@compiled
def count_from(m, q, vruntime):
    """Move the point that the sums of the queue count from."""
    rq = m.rq[q]
    rq.avg_vruntime -= rq.avg_load * (vruntime - rq.min_vruntime)
    rq.min_vruntime = vruntime


@compiled
def vruntime_eligible(m, q, vruntime):
    """Is ``vruntime`` not ahead of V? Without a division, so exactly."""
    total, load = sums(m, q)
    return total >= (vruntime - m.rq[q].min_vruntime) * load


@compiled
def entity_eligible(m, q, task):
    """Is the task owed something, or even?"""
    return vruntime_eligible(m, q, m.task[task].vruntime)


@compiled
def update_entity_lag(m, q, task):
    """Keep what the task is owed, but no more than two slices or a tick, either way."""
    se = m.task[task]
    limit = calc_delta_fair(max(2 * se.slice, m.tunables[0].tick_nsec), se)
    se.vlag = min(max(avg_vruntime(m, q) - se.vruntime, -limit), limit)


@compiled
def is_protected(m, task):
    """Does the running task have its request of when it was picked still (`set_next_entity`)?"""
    return m.task[task].vlag == m.task[task].deadline


# Time passes.


@compiled
def update_curr(m, q, now):
    """Charge the running task for the time since it was last charged; a used-up request ends its turn."""
    rq = m.rq[q]
    curr = rq.curr
    if curr < 0:
        return
    se = m.task[curr]
    delta = now - se.exec_start
    if delta <= 0:
        return
    se.exec_start = now
    se.sum_exec_runtime += delta
    se.vruntime += calc_delta_fair(delta, se)
    renewed = update_deadline(m, q, curr)
    update_min_vruntime(m, q)
    if rq.nr_running > 1 and (renewed or did_preempt_short(m, q, curr)):
        rq.need_resched = 1
        clear_buddies(m, q, curr)


@compiled
def update_deadline(m, q, task):
    """A new request if the old one is used up; was it?"""
    se, tunables = m.task[task], m.tunables[0]
    if se.vruntime < se.deadline:
        return False
    se.slice = tunables.base_slice
    se.deadline = se.vruntime + calc_delta_fair(se.slice, se)
    if tunables.zero_vruntime == 1:
        avg_vruntime(m, q)
    return True


@compiled
def did_preempt_short(m, q, curr):
    """Has a shorter request taken the running task's protection, and is it ahead of V?"""
    return m.tunables[0].preempt_short == 1 and not is_protected(m, curr) and not entity_eligible(m, q, curr)


@compiled
def update_min_vruntime(m, q):
    """Follow the smallest vruntime of the queue, never back; zero_vruntime moves by itself (`avg_vruntime`)."""
    rq, tunables = m.rq[q], m.tunables[0]
    if tunables.zero_vruntime == 1:
        return
    has_curr = rq.curr >= 0 and m.task[rq.curr].on_rq == 1
    if rq.root < 0 and not has_curr:
        return
    smallest = m.task[rq.curr].vruntime if has_curr else m.task[rq.leftmost].vruntime
    if rq.root >= 0:
        first = m.task[rq.root].smallest if tunables.deadline_order == 1 else m.task[rq.leftmost].vruntime
        smallest = min(smallest, first)
    if smallest > rq.min_vruntime:
        count_from(m, q, smallest)


# Joining and leaving.


@compiled
def insert(m, q, task):
    """Into the tree and its sums (__enqueue_entity)."""
    rq, se = m.rq[q], m.task[task]
    rq.avg_vruntime += (se.vruntime - rq.min_vruntime) * se.weight
    rq.avg_load += se.weight
    tree.insert(m, q, task)


@compiled
def remove(m, q, task):
    """Out of the tree and its sums (__dequeue_entity)."""
    rq, se = m.rq[q], m.task[task]
    tree.remove(m, q, task)
    rq.avg_vruntime -= (se.vruntime - rq.min_vruntime) * se.weight
    rq.avg_load -= se.weight


@compiled
def place_entity(m, q, task, initial):
    """Put a task where it has the lag that it left with, and give it a request; half a slice for a new one."""
    rq, se, tunables = m.rq[q], m.task[task], m.tunables[0]
    average = avg_vruntime(m, q)
    se.slice = tunables.base_slice
    request = calc_delta_fair(se.slice, se)
    lag = 0
    if tunables.place_lag == 1 and rq.nr_running > 0:
        # Joining moves V towards the task, by its share of the weight: more lag now, so that it is right then.
        load = rq.avg_load
        if rq.curr >= 0 and m.task[rq.curr].on_rq == 1:
            load += m.task[rq.curr].weight
        lag = truncated(se.vlag * (load + se.weight), max(load, 1))
    se.vruntime = average - lag
    if tunables.place_rel_deadline == 1 and se.rel_deadline == 1:
        se.deadline += se.vruntime
        se.rel_deadline = 0
        return
    if initial and tunables.place_deadline_initial == 1:
        request //= 2
    se.deadline = se.vruntime + request


@compiled
def truncated(dividend, divisor):
    """Divide as C does: towards zero."""
    return dividend // divisor if dividend >= 0 else -(-dividend // divisor)


@compiled
def task_fork_fair(m, q, task, now):
    """A new task joins the queue.

    6.6 places it twice: as new, which has no effect, and then as one that was there before.
    """
    if m.tunables[0].fork_places_twice == 1:
        update_curr(m, q, now)
        place_entity(m, q, task, True)
        enqueue_entity(m, q, task, 0, now)
    else:
        enqueue_entity(m, q, task, ENQUEUE_INITIAL, now)


@compiled
def enqueue_entity(m, q, task, flags, now):
    """Queue a task."""
    update_curr(m, q, now)
    place_entity(m, q, task, flags & ENQUEUE_INITIAL != 0)
    account_entity_enqueue(m, q, task)
    if flags & ENQUEUE_MIGRATED != 0:
        m.task[task].exec_start = 0
    insert(m, q, task)


@compiled
def dequeue_entity(m, q, task, flags, now):
    """Take a task off the queue; who is to sleep ahead of V stays until V has caught up (DELAY_DEQUEUE)."""
    rq, se, tunables = m.rq[q], m.task[task], m.tunables[0]
    update_curr(m, q, now)
    clear_buddies(m, q, task)
    delay = flags & (DEQUEUE_SLEEP | DEQUEUE_DELAYED | DEQUEUE_SPECIAL) == DEQUEUE_SLEEP
    if delay and tunables.delay_dequeue == 1 and not entity_eligible(m, q, task):
        se.sched_delayed = 1
        return
    update_entity_lag(m, q, task)
    if flags & DEQUEUE_SLEEP == 0 and tunables.place_rel_deadline == 1:
        se.deadline -= se.vruntime
        se.rel_deadline = 1
    if task != rq.curr:
        remove(m, q, task)
    account_entity_dequeue(m, q, task)
    update_min_vruntime(m, q)
    if flags & DEQUEUE_DELAYED != 0:
        se.sched_delayed = 0
        if tunables.delay_zero == 1:
            se.vlag = min(se.vlag, 0)


@compiled
def requeue_delayed_entity(m, q, task):
    """A sleeper wakes before it has left the queue: it stays, but has earned nothing by sleeping."""
    rq, se = m.rq[q], m.task[task]
    if m.tunables[0].delay_zero == 1:
        update_entity_lag(m, q, task)
        if se.vlag > 0:
            rq.nr_running -= 1
            if task != rq.curr:
                remove(m, q, task)
            se.vlag = 0
            place_entity(m, q, task, False)
            if task != rq.curr:
                insert(m, q, task)
            rq.nr_running += 1
    se.sched_delayed = 0


# Picking.


@compiled
def pick_task_fair(m, q, now):
    """Choose who runs, -1 nobody; sleepers that come up on the way leave the queue."""
    rq = m.rq[q]
    while rq.nr_running > 0:
        if rq.curr >= 0 and m.task[rq.curr].on_rq == 1:
            update_curr(m, q, now)
        chosen = pick_next_entity(m, q)
        if m.task[chosen].sched_delayed == 0:
            return chosen
        dequeue_entity(m, q, chosen, DEQUEUE_SLEEP | DEQUEUE_DELAYED, now)
    return -1


@compiled
def pick_next_entity(m, q):
    """The next buddy if it counts and is eligible, else by deadline."""
    rq = m.rq[q]
    if m.tunables[0].pick_buddy == 1 and rq.next >= 0 and entity_eligible(m, q, rq.next):
        return rq.next  # the only place where a directed yield's hint is honoured
    return pick_eevdf(m, q)


@compiled
def pick_eevdf(m, q):
    """The running task as long as it is protected, else of the eligible the one with the first deadline."""
    rq, tunables = m.rq[q], m.tunables[0]
    curr = rq.curr
    if curr >= 0 and (m.task[curr].on_rq == 0 or not entity_eligible(m, q, curr)):
        curr = -1
    if curr >= 0 and tunables.run_to_parity == 1 and is_protected(m, curr):
        return curr
    best = pick_by_deadline(m, q, curr) if tunables.deadline_order == 1 else pick_by_vruntime(m, q, curr)
    # Somebody is always at or behind the average. Should the sums ever overflow, the leftmost runs, as in 6.6.
    return best if best >= 0 else rq.leftmost


@compiled
def pick_by_deadline(m, q, curr):
    """6.12: the tree is ordered by deadline, so the first eligible task of it, unless ``curr`` is before that."""
    best = -1
    node = m.rq[q].root
    while node >= 0:
        left = m.task[node].child[LEFT]
        if left >= 0 and vruntime_eligible(m, q, m.task[left].smallest):
            node = left
        elif entity_eligible(m, q, node):
            best = node
            break
        else:
            node = m.task[node].child[RIGHT]
    if best < 0 or (curr >= 0 and m.task[curr].deadline < m.task[best].deadline):
        best = curr
    return best


@compiled
def pick_by_vruntime(m, q, curr):
    """6.6: the tree is ordered by vruntime, so the eligible are its left part; find the first deadline there.

    The way down passes subtrees that are eligible as a whole: the best of these, and the best
    node of the way, are candidates. Where deadlines are equal the shape of the tree decides,
    here as there: every recorded tie comes out as the kernel chose.
    """
    best, best_left = curr, -1
    node = m.rq[q].root
    while node >= 0:
        se = m.task[node]
        left = se.child[LEFT]
        if not entity_eligible(m, q, node):
            node = left
            continue
        if best < 0 or m.task[best].deadline > se.deadline:
            best = node
        if left >= 0:
            if best_left < 0 or m.task[best_left].smallest > m.task[left].smallest:
                best_left = left
            if m.task[left].smallest == se.smallest:
                break
        if se.deadline == se.smallest:
            break
        node = se.child[RIGHT]
    if best_left < 0 or m.task[best_left].smallest > m.task[best].deadline:
        return best
    node = best_left
    while m.task[node].deadline != m.task[node].smallest:
        left = m.task[node].child[LEFT]
        if left >= 0 and m.task[left].smallest == m.task[node].smallest:
            node = left
        else:
            node = m.task[node].child[RIGHT]
    return node


@compiled
def set_next_entity(m, q, task, now):
    """Make a task the running one."""
    se = m.task[task]
    clear_buddies(m, q, task)
    if se.on_rq == 1:
        remove(m, q, task)
        se.vlag = se.deadline  # the lag is of no use until it leaves; see `is_protected`
    se.exec_start = now
    m.rq[q].curr = task
    se.prev_sum_exec_runtime = se.sum_exec_runtime


@compiled
def put_prev_entity(m, q, task, now):
    """The running task runs no more; back into the tree if it is on the queue."""
    if m.task[task].on_rq == 1:
        update_curr(m, q, now)
        insert(m, q, task)
    m.rq[q].curr = -1


# Preemption and yields.


@compiled
def check_preempt_wakeup_fair(m, q, task, fork, now):
    """A task has become runnable: would it be picked now?"""
    rq, tunables = m.rq[q], m.tunables[0]
    curr = rq.curr
    # DEVIATION: 6.12.0 takes a delayed sleeper, too, which only a load balancer moves here; it would run it asleep.
    if tunables.next_buddy == 1 and not fork and m.task[task].sched_delayed == 0:
        rq.next = task
    if rq.need_resched == 1 or tunables.wakeup_preemption == 0:
        return
    update_curr(m, q, now)
    if do_preempt_short(m, q, task, curr) and is_protected(m, curr):
        m.task[curr].vlag = m.task[curr].deadline + 1
    if pick_eevdf(m, q) == task:
        rq.need_resched = 1


@compiled
def do_preempt_short(m, q, task, curr):
    """Does ``task`` ask for less than the running task, and may it go first?"""
    new, old = m.task[task], m.task[curr]
    if m.tunables[0].preempt_short == 0 or new.slice >= old.slice or not entity_eligible(m, q, task):
        return False
    return new.deadline < old.deadline or not entity_eligible(m, q, curr)


@compiled
def yield_task_fair(m, q, now):
    """The running task gives way, unless it is alone.

    Up to 6.12.0 its deadline moves on by a slice. Later it forfeits the rest of its request
    if it is eligible; if it is not, nothing happens.
    """
    rq, tunables = m.rq[q], m.tunables[0]
    if rq.nr_running == 1:
        return
    curr = rq.curr
    se = m.task[curr]
    clear_buddies(m, q, curr)
    update_curr(m, q, now)
    if tunables.yield_forfeits == 0:
        se.deadline += calc_delta_fair(se.slice, se)
    elif entity_eligible(m, q, curr):
        se.vruntime = se.deadline
        update_deadline(m, q, curr)
