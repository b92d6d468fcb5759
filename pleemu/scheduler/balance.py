"""Load balancing between CPUs (v5.6 kernel/sched/fair.c): who balances, and when.

    newly idle    schedule() finds nothing: take a task from elsewhere, if some CPU has two
    busy          its tick, every 32 * balance_interval: take its share of the load
    idle          has no tick. The tick of a CPU with several tasks kicks one idle CPU, which balances for
                  all that are idle and due (nohz)
    active        where all that failed, the running task is pushed away (the kernel's stopper thread)

Load balancing takes no time of its own here, so the rules that weigh its cost against the expected
idle time (max_newidle_lb_cost) come down to one: no new-idle balancing if the CPU is idle for less
than 0.5 ms on average. Where no task may run on several CPUs nothing of this happens.
"""

from pleemu.hardware.clock import cycles_to_ns
from pleemu.hardware.interrupts import send_host_interrupt
from pleemu.jit import compiled
from pleemu.observe.records import MIGRATE_ACTIVE, MIGRATE_BUSY, MIGRATE_IDLE, MIGRATE_NEW_IDLE
from pleemu.observe.virtual_time import tell_virtual_time
from pleemu.scheduler import core
from pleemu.scheduler.busiest import CPU_IDLE, CPU_NEWLY_IDLE, CPU_NOT_IDLE, find_busiest_queue
from pleemu.scheduler.detach import can_migrate_task, detach_tasks, migrated
from pleemu.scheduler.domains import (
    SYSCTL_SCHED_MIGRATION_COST,
    end_of_group,
    first_of_group,
    is_allowed,
    is_idle,
    jiffies_of,
)

BUSY_FACTOR = 32
MAX_PINNED_INTERVAL = 512  # ms


@compiled
def newidle_balance(m, p, cycle):
    """schedule() has found nothing on ``p``: take a task from another CPU; True if there is one now."""
    balancer, balance = m.balancer[0], m.balance[p]
    if balancer.floating == 0:
        return False
    now = cycles_to_ns(m.clock[0], cycle)
    balance.idle_stamp = now
    willing = balance.avg_idle >= SYSCTL_SCHED_MIGRATION_COST and is_overloaded(m)
    next_balance = jiffies_of(m, cycle) + balancer.hz
    pulled = False
    for level in range(m.sd.shape[1]):
        if willing:
            begin_pass(m, p, p, cycle, CPU_NEWLY_IDLE)
            pulled = load_balance(m, level) > 0
        domain = m.sd[p, level]
        next_balance = min(next_balance, domain.last_balance + interval_of(m, domain, False))
        if pulled or not willing:  # the kernel updates next_balance by the lowest domain only if unwilling
            break
    balance.next_balance = min(balance.next_balance, next_balance)
    if pulled:
        balance.idle_stamp = -1
    return pulled


@compiled
def is_overloaded(m):
    """root_domain.overload: some CPU has two tasks."""
    for cpu in range(m.rq.shape[0]):
        if m.rq[cpu].nr_running >= 2:
            return True
    return False


@compiled
def trigger_load_balance(m, p, cycle):
    """The tick of ``p``: balance if that is due, and kick an idle CPU if there is something for it to take."""
    balancer = m.balancer[0]
    if balancer.floating == 0 or m.sd.shape[1] == 0:
        return
    jiffies = jiffies_of(m, cycle)
    idle = is_idle(m, p)
    if jiffies >= m.balance[p].next_balance:
        rebalance_domains(m, p, p, cycle, CPU_IDLE if idle else CPU_NOT_IDLE)
    if not idle and jiffies >= balancer.next_balance and (m.rq[p].nr_running >= 2 or has_busy_neighbour(m, p)):
        kick_ilb(m, cycle)


@compiled
def has_busy_neighbour(m, p):
    """Two busy CPUs with one last-level cache: another cache may be better for one of them."""
    busy = 0
    for cpu in range(m.balance[p].llc_first, m.balance[p].llc_end):
        if not is_idle(m, cpu):
            busy += 1
    return busy > 1


@compiled
def kick_ilb(m, cycle):
    """Have the first idle CPU balance for all that are idle."""
    balancer = m.balancer[0]
    for cpu in range(m.rq.shape[0]):
        if is_idle(m, cpu):
            balancer.next_balance += 1
            if m.balance[cpu].nohz_kick == 0:
                m.balance[cpu].nohz_kick = 1
                send_host_interrupt(m, cpu, cycle + balancer.ipi)
            return


@compiled
def nohz_idle_balance(m, p, cycle):
    """The idle CPU ``p`` may have been kicked: balance for the other idle ones that are due, then for itself."""
    balance, balancer = m.balance[p], m.balancer[0]
    if balance.nohz_kick == 0:
        return
    balance.nohz_kick = 0
    if not is_idle(m, p) or m.rq[p].need_resched == 1:
        return
    jiffies = jiffies_of(m, cycle)
    next_balance = jiffies + 60 * balancer.hz
    others = False
    for cpu in range(m.rq.shape[0]):
        if cpu == p or not is_idle(m, cpu):
            continue
        if jiffies >= m.balance[cpu].next_balance:
            rebalance_domains(m, p, cpu, cycle, CPU_IDLE)
        next_balance = min(next_balance, m.balance[cpu].next_balance)
        others = True
    rebalance_domains(m, p, p, cycle, CPU_IDLE)
    if others:
        balancer.next_balance = next_balance


@compiled
def rebalance_domains(m, this_cpu, cpu, cycle, idle):
    """Balance for ``cpu`` every domain that is due, from the lowest on; ``this_cpu`` executes that."""
    balancer = m.balancer[0]
    jiffies = jiffies_of(m, cycle)
    next_balance = jiffies + 60 * balancer.hz
    for level in range(m.sd.shape[1]):
        domain = m.sd[cpu, level]
        begin_pass(m, this_cpu, cpu, cycle, idle)
        interval = interval_of(m, domain, idle != CPU_IDLE)
        if jiffies >= domain.last_balance + interval:
            moved = load_balance(m, level)
            if moved > 0:
                idle = CPU_IDLE if is_idle(m, cpu) else CPU_NOT_IDLE
            domain.last_balance = jiffies
            interval = interval_of(m, domain, idle != CPU_IDLE)
            next_balance = min(next_balance, domain.last_balance + interval)
            if moved < 0:
                break  # another CPU of the group balances here, and so above
        else:
            next_balance = min(next_balance, domain.last_balance + interval)
    m.balance[cpu].next_balance = next_balance
    if idle == CPU_IDLE:
        balancer.next_balance = min(balancer.next_balance, next_balance)


@compiled
def interval_of(m, domain, busy):
    """get_sd_balance_interval: jiffies from pass to pass."""
    balancer = m.balancer[0]
    ms = domain.balance_interval * (BUSY_FACTOR if busy else 1)
    return min(max((ms * balancer.hz + 999) // 1000, 1), balancer.max_interval)


@compiled
def begin_pass(m, this_cpu, cpu, cycle, idle):
    """Set up lb_env for passes that ``this_cpu`` makes for ``cpu``."""
    env = m.lb_env[0]
    env.cycle = cycle
    env.now = cycles_to_ns(m.clock[0], cycle)
    env.this_cpu = this_cpu
    env.dst_cpu = cpu
    env.idle = idle
    env.cause = MIGRATE_NEW_IDLE
    if idle == CPU_IDLE:
        env.cause = MIGRATE_IDLE
    elif idle == CPU_NOT_IDLE:
        env.cause = MIGRATE_BUSY


@compiled
def load_balance(m, level):
    """One pass at one level, as lb_env says; returns how many tasks have moved, -1: it is not this CPU's turn."""
    env = m.lb_env[0]
    env.level = level
    domain = m.sd[env.dst_cpu, level]
    for cpu in range(domain.first, domain.end):
        m.balance[cpu].considered = 1
    env.all_pinned = 0
    if not should_we_balance(m):
        end_balanced(m)
        return -1
    while True:
        src = find_busiest_queue(m)
        if src < 0:
            end_balanced(m)
            return 0
        env.src_cpu = src
        moved = 0
        if m.rq[src].nr_running > 1:
            env.all_pinned = 1
            moved = detach_tasks(m)
            if env.all_pinned == 1:
                m.balance[src].considered = 0
                if others_left(m):
                    continue
                end_balanced(m)
                return 0
        break
    if moved > 0:
        domain.nr_balance_failed = 0
        domain.balance_interval = domain.min_interval
        return moved
    end_failed(m)
    return 0


@compiled
def should_we_balance(m):
    """One CPU balances for its group: the first idle one, else the first. Who becomes idle does so for itself."""
    env = m.lb_env[0]
    if env.idle == CPU_NEWLY_IDLE:
        return True
    domain = m.sd[env.dst_cpu, env.level]
    first = first_of_group(domain, env.dst_cpu)
    for cpu in range(first, end_of_group(domain, first)):
        if is_idle(m, cpu):
            return cpu == env.dst_cpu
    return first == env.dst_cpu


@compiled
def others_left(m):
    """Are there CPUs outside the local group from which to take instead?"""
    env = m.lb_env[0]
    domain = m.sd[env.dst_cpu, env.level]
    local = first_of_group(domain, env.dst_cpu)
    for cpu in range(domain.first, domain.end):
        if m.balance[cpu].considered == 1 and first_of_group(domain, cpu) != local:
            return True
    return False


@compiled
def end_balanced(m):
    """There was nothing to move: look less often."""
    env = m.lb_env[0]
    domain = m.sd[env.dst_cpu, env.level]
    domain.nr_balance_failed = 0
    lengthen_interval(m)


@compiled
def lengthen_interval(m):
    """Twice the interval, up to its maximum, or further if nothing could move for pinning."""
    env = m.lb_env[0]
    domain = m.sd[env.dst_cpu, env.level]
    if env.idle == CPU_NEWLY_IDLE:
        return
    pinned = env.all_pinned == 1 and domain.balance_interval < MAX_PINNED_INTERVAL
    if pinned or domain.balance_interval < domain.max_interval:
        domain.balance_interval *= 2


@compiled
def end_failed(m):
    """There was something to move, but nothing moved: after some such passes the running task is pushed."""
    env = m.lb_env[0]
    domain = m.sd[env.dst_cpu, env.level]
    if env.idle != CPU_NEWLY_IDLE:
        domain.nr_balance_failed += 1
    if domain.nr_balance_failed <= domain.cache_nice_tries + 2:
        domain.balance_interval = domain.min_interval
        return
    curr = m.rq[env.src_cpu].curr
    if curr < 0 or not is_allowed(m, curr, env.dst_cpu):
        env.all_pinned = 1
        lengthen_interval(m)
        return
    domain.nr_balance_failed = domain.cache_nice_tries + 1
    src = m.balance[env.src_cpu]
    if src.active_balance == 1:  # it is under way, for another CPU
        domain.balance_interval = domain.min_interval
        return
    src.active_balance = 1
    src.push_cpu = env.dst_cpu
    m.rq[env.src_cpu].need_resched = 1
    send_host_interrupt(m, env.src_cpu, env.cycle + m.balancer[0].ipi)
    if domain.balance_interval < domain.max_interval:
        domain.balance_interval *= 2


@compiled
def active_load_balance(m, p, cycle, runnable):
    """The stopper thread of ``p`` preempts the running one and pushes a task to push_cpu; returns it, or -1.

    `finish_active_balance` tells of the migration.
    DEVIATION: the stopper itself is not seen: no switch to it and back, no time of its own. And it gives
    up if the running thread is just going to sleep (``runnable`` is false).
    """
    env, balance, rq = m.lb_env[0], m.balance[p], m.rq[p]
    balance.active_balance = 0
    if not runnable or rq.nr_running < 1:
        return -1
    cpu = balance.push_cpu
    begin_push(m, p, cycle)
    env.level = 0
    while not m.sd[cpu, env.level].first <= p < m.sd[cpu, env.level].end:
        env.level += 1
    if rq.curr >= 0:
        core.put_prev_task(m, p, rq.curr, env.now)
        tell_virtual_time(m, p, rq.curr, cycle)
    task = rq.mru_tail
    while task >= 0 and not can_migrate_task(m, task):
        task = m.task[task].mru_prev
    if task >= 0:
        m.sd[cpu, env.level].nr_balance_failed = 0
        core.migrate_task(m, cpu, task, env.now)
    return task


@compiled
def begin_push(m, p, cycle):
    """Set up lb_env for a push from ``p``."""
    env = m.lb_env[0]
    begin_pass(m, p, m.balance[p].push_cpu, cycle, CPU_IDLE)
    env.cause = MIGRATE_ACTIVE
    env.src_cpu = p


@compiled
def finish_active_balance(m, p, task, cycle):
    """The thread that was pushed is off its CPU: tell, and make the other one run it."""
    begin_push(m, p, cycle)
    migrated(m, task)
    cpu = m.balance[p].push_cpu
    if m.rq[cpu].need_resched == 1:
        send_host_interrupt(m, cpu, cycle + m.balancer[0].ipi)
