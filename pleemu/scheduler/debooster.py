"""Debooster: the yielder of a directed yield falls back in virtual time, so that the scheduler can follow the hint.

    V5_6        the authors' patch for v5.6 (sslab-keio/ple-kvm, patch 1)
    RFC         as they posted it (20210421150831.60133-2)
    PENALTY_V1  "sched/kvm: Semantics-aware vCPU scheduling" (20251110033232.12538-1, patches 1-5), for EEVDF
    PENALTY_V2  its second version (20251219035334.39790-1)

All act in yield_to_task_fair, behind set_next_buddy and before yield_task_fair, and change nobody but the yielder,
which is the current task and so in no tree. With one flat queue a CPU, the search for a common
level of two cgroups always ends where it begins.
"""

from pleemu.jit import compiled
from pleemu.scheduler.eevdf import avg_vruntime, update_min_vruntime
from pleemu.scheduler.weights import calc_delta_fair

# tunables.debooster
NO_DEBOOSTER, V5_6, RFC, PENALTY_V1, PENALTY_V2 = range(5)

RATE_LIMIT = 6_000_000  # ns from one penalty of a run queue to the next
REVERSE_PAIR = 600_000  # ns in which a yield back counts as ping-pong (a comment of v1 says 300 us)


@compiled
def deboost(m, q, task, now):
    """The running task of ``q`` yields to ``task``: what that costs it, besides the yield."""
    version = m.tunables[0].debooster
    if version == V5_6 or version == RFC:
        raise_to_granularity(m, q, task)
    elif version != NO_DEBOOSTER:
        add_penalty(m, q, task, now)


@compiled
def raise_to_granularity(m, q, task):
    """Debooster of 2021: push the yielder to where ``task`` is no longer too unfair to it.

    Both must be on the same queue. The yielder is judged on its vruntime before update_curr
    charges what it has run since. Both versions ask whether the target is more than a granularity
    of the yielder ahead; RFC leaves that, v5.6 one of the target. With equal weights they are the
    same, and the yielder only ever rises. With a light target v5.6 can lower it, and so help it.
    """
    if m.task[task].cpu != q:
        return
    tunables = m.tunables[0]
    target, yielder = m.task[task], m.task[m.rq[q].curr]
    own = calc_delta_fair(tunables.wakeup_granularity, yielder)
    if target.vruntime - yielder.vruntime > own:
        left = own if tunables.debooster == RFC else calc_delta_fair(tunables.wakeup_granularity, target)
        yielder.vruntime = target.vruntime - left


@compiled
def add_penalty(m, q, task, now):
    """Debooster of 2025: raise the yielder's vruntime by a bounded penalty; its deadline follows.

    DEVIATION: v1 reads a clock that may be as old as the last update; here it is always fresh.
    The vruntime is that of the last update_curr, as in the patches, which only call it for
    a group that is not current. v1 also keeps lag and min_vruntime up to date; v2 leaves both
    to whoever needs them next.
    """
    if is_limited(m, q, now):
        return
    rq = m.rq[q]
    yielder, target = m.task[rq.curr], m.task[task]
    if target.cpu != q:
        return
    gran = calc_delta_fair(m.tunables[0].base_slice, yielder)
    behind = max(target.vruntime - yielder.vruntime, 0)
    penalty = gran + behind + behind // 10
    if rq.deboost_yielder == task and rq.deboost_target == rq.curr and now - rq.deboost_pair_at <= REVERSE_PAIR:
        penalty = min(penalty, max(behind, gran))
    rq.deboost_yielder, rq.deboost_target, rq.deboost_pair_at = rq.curr, task, now
    yielder.vruntime += max(min(penalty, most(gran, rq.nr_running)), gran)
    yielder.deadline = yielder.vruntime + calc_delta_fair(yielder.slice, yielder)
    if m.tunables[0].debooster == PENALTY_V1:
        yielder.vlag = avg_vruntime(m, q) - yielder.vruntime
        update_min_vruntime(m, q)


@compiled
def is_limited(m, q, now):
    """At most one penalty in 6 ms; v1 also begins anew with each yield that it turns down.

    So v1 is silent for as long as the yields of a CPU follow each other within 6 ms.
    The time is used up even if the penalty is refused for another reason.
    """
    rq = m.rq[q]
    last = rq.deboosted_at
    limited = last != 0 and now - last <= RATE_LIMIT
    if not limited or m.tunables[0].debooster == PENALTY_V1:
        rq.deboosted_at = now
    return limited


@compiled
def most(gran, queued):
    """Return the largest penalty: the fewer tasks are queued, the more; rounded down as in the patches."""
    if queued == 2:
        return gran * 6
    if queued == 3:
        return gran * 4
    if queued <= 6:
        return gran * 5 // 2
    if queued <= 8:
        return gran * 2
    if queued <= 12:
        return gran * 3 // 2
    return gran
