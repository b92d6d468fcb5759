"""What KVM and the scheduler made of each PAUSE exit, judged by the ground truth.

    begin_decision   before the search: who would be useful; nothing of it reaches KVM, except by a policy's rule
    end_decision     behind it: the verdict on whom it nominated
    note_pick        the next pick on the spinner's pCPU, and on that of the target
    note_run         a vCPU is switched to: for whom is that useful?

The verdict on a nomination (the latest yield_to of the search, whatever its answer):

    useful       the target is in frontier(me): it can act, and needs a pCPU for it
    wasted       it is in C(me), but waits itself: it will spin, too
    irrelevant   ``me`` does not wait for it
    nobody       no nomination
    unknown      the probes do not say that ``me`` waits for anything
"""

from pleemu.hypervisor.records import NOT_ASKED
from pleemu.jit import compiled
from pleemu.machine.attribution import attribute_exit
from pleemu.machine.frontier import CAN_ACT, IN_CLOSURE, is_awaited, mark_closure, mark_of
from pleemu.observe.records import (
    IRRELEVANT,
    NOBODY,
    TOLD_ANSWER,
    TOLD_ASK,
    TOLD_EXIT,
    TOLD_HOLDER,
    TOLD_LOCK,
    TOLD_LOOK,
    TOLD_PICK,
    TOLD_RAN,
    TOLD_SINK,
    TOLD_VERDICT,
    TOLD_WHY,
    UNKNOWN,
    USEFUL,
    WAIT_DEPTH,
    WASTED,
)
from pleemu.observe.tale import tell
from pleemu.observe.waits import is_waiting, watch_for_move
from pleemu.scheduler.distance import hint_distance, hint_test


@compiled
def begin_decision(m, p, me, now):
    """The search of ``me`` is about to begin."""
    vm = m.vm[m.vcpu[me].vm]
    spinner, waiting = m.vcpu[me], m.waiting[me]
    spinner.asked = -1
    waiting.exit = spinner.exit_number
    watch_for_move(m, me, spinner.exited_at)
    mark_closure(m, me)
    for v in range(vm.first_vcpu, vm.first_vcpu + vm.vcpus):
        vcpu = m.vcpu[v]
        vcpu.useful = 1 if is_awaited(m, v) else 0
        vcpu.visit[:] = 0
    if m.journal[0].telling == 1:
        tell_wait(m, p, me, now)


@compiled
def end_decision(m, p, me, now, accepted):
    """The search is over; ``accepted``: the scheduler was asked to run its target, and ``me`` gives way."""
    vm = m.vm[m.vcpu[me].vm]
    row = m.judged[m.vcpu[me].vm]
    number, target = m.vcpu[me].exit_number, m.vcpu[me].asked
    attribute_exit(m, me)
    useful = 0
    for v in range(vm.first_vcpu, vm.first_vcpu + vm.vcpus):
        vcpu = m.vcpu[v]
        useful += vcpu.useful
        for round_ in range(2):
            if vcpu.visit[round_] > 0 and vcpu.refused[round_] > 0:
                m.refusals[vcpu.refused[round_]].count += 1
                m.refusals[vcpu.refused[round_]].useful += vcpu.useful
    verdict = verdict_on(m, me, target)
    row.verdict[verdict] += 1
    if row.first[verdict] == 0:
        row.first[verdict] = number
    if useful > 0:
        row.useful_possible += 1
    follow_useful(m, me, useful)
    if m.journal[0].telling == 1:
        tell_search(m, me, now)
        tell(m, number, TOLD_VERDICT, now, me, verdict, useful, target)
        if accepted:
            note_asked(m, p, me)


@compiled
def verdict_on(m, me, target):
    """What the ground truth says of boosting ``target`` for ``me``."""
    if not is_waiting(m, me):
        return UNKNOWN
    if target < 0:
        return NOBODY
    if m.vcpu[target].useful == 1:
        return USEFUL
    return WASTED if mark_of(m, target) & IN_CLOSURE != 0 else IRRELEVANT


# ---- How long until somebody useful runs ---------------------------------------------------------


@compiled
def follow_useful(m, me, useful):
    """From the first exit with somebody useful to boost, until one of these runs: the latest ones count."""
    vcpu, waiting = m.vcpu[me], m.waiting[me]
    if useful == 0:
        waiting.useful_from = -1
        return
    if waiting.useful_from < 0:
        waiting.useful_from = vcpu.exited_at
    vm = m.vm[vcpu.vm]
    m.wanted[me, :] = 0
    for v in range(vm.first_vcpu, vm.first_vcpu + vm.vcpus):
        if m.vcpu[v].useful == 1:
            number = v - vm.first_vcpu
            m.wanted[me, number >> 6] |= 1 << (number & 63)


@compiled
def note_run(m, p, v, now):
    """The scheduler has picked the thread of ``v``: for everyone to whom that is useful, the hand-over is done."""
    vm = m.vm[m.vcpu[v].vm]
    row = m.judged[m.vcpu[v].vm]
    number = m.vcpu[v].id
    for other in range(vm.first_vcpu, vm.first_vcpu + vm.vcpus):
        waiting = m.waiting[other]
        if waiting.useful_from >= 0 and (m.wanted[other, number >> 6] >> (number & 63)) & 1 == 1:
            after = now - waiting.useful_from
            row.hand_overs += 1
            row.ran_after += after
            row.ran_most = max(row.ran_most, after)
            waiting.useful_from = -1
            tell(m, waiting.exit, TOLD_RAN, now, other, v, p, 0)


# ---- The story -------------------------------------------------------------------------------


@compiled
def tell_wait(m, p, me, now):
    """Where it spins, for what, and who could end that."""
    vcpu, waiting, cpu = m.vcpu[me], m.waiting[me], m.cpu[me]
    vm = m.vm[vcpu.vm]
    number = vcpu.exit_number
    tell(m, number, TOLD_EXIT, vcpu.exited_at, me, cpu.pc, p, waiting.first_exit if is_waiting(m, me) else -1)
    for v in range(vm.first_vcpu, vm.first_vcpu + vm.vcpus):
        k = v - vm.first_vcpu
        if waiting.answers > 0 and (m.awaited[me, k >> 6] >> (k & 63)) & 1 == 1:
            tell(m, number, TOLD_ANSWER, now, me, v, is_on_pcpu(m, v), 0)
    if 0 < waiting.depth <= WAIT_DEPTH:
        lock = waiting.lock[waiting.depth - 1]
        row = m.lock[lock]
        manner = row.in_order | waiting.shared[waiting.depth - 1] << 1 | row.barrier << 2
        tell(m, number, TOLD_LOCK, now, me, row.address, row.holders, manner)
        for v in range(vm.first_vcpu, vm.first_vcpu + vm.vcpus):
            k = v - vm.first_vcpu
            if (m.holding[lock, k >> 6] >> (k & 63)) & 1 == 1:
                tell(m, number, TOLD_HOLDER, now, me, v, is_on_pcpu(m, v), 1 if is_waiting(m, v) else 0)
    for v in range(vm.first_vcpu, vm.first_vcpu + vm.vcpus):
        if mark_of(m, v) & CAN_ACT != 0:
            tell(m, number, TOLD_SINK, now, me, v, m.vcpu[v].useful, is_on_pcpu(m, v))


@compiled
def is_on_pcpu(m, v):
    """1: the vCPU's thread is current on its pCPU."""
    return 1 if m.rq[m.task[v].cpu].curr == v else 0


@compiled
def tell_search(m, me, now):
    """Each candidate in the order of the search, and why it was passed over; the asked ones with the answer."""
    vm = m.vm[m.vcpu[me].vm]
    number = m.vcpu[me].exit_number
    for round_ in range(2):
        for place in range(1, vm.vcpus + 1):
            for v in range(vm.first_vcpu, vm.first_vcpu + vm.vcpus):
                vcpu = m.vcpu[v]
                if vcpu.visit[round_] == place:
                    tell(m, number, TOLD_LOOK, now, me, v, vcpu.refused[round_], round_)
                    if vcpu.refused[round_] == 0 and vcpu.answer != NOT_ASKED:
                        tell(m, number, TOLD_ASK, now, me, v, vcpu.answer, m.task[v].cpu)


@compiled
def note_asked(m, p, me):
    """``me`` gives way on pCPU ``p`` and has named a vCPU, there or elsewhere: the next picks belong to its story."""
    number, target = m.vcpu[me].exit_number, m.vcpu[me].asked
    here = m.asked[p]
    here.left_by = number
    here.spinner = me
    there = m.asked[m.task[target].cpu]
    there.named_by = number
    there.namer = me
    there.target = target


@compiled
def note_pick(m, p, chosen, now):
    """Run queue ``p`` has picked."""
    asked = m.asked[p]
    if asked.left_by > 0:
        tell(m, asked.left_by, TOLD_PICK, now, asked.spinner, chosen, p, 0)
        asked.left_by = 0
    if asked.named_by > 0:
        tell(m, asked.named_by, TOLD_PICK, now, asked.namer, chosen, p, 1)
        if m.task[asked.target].cpu == p and m.task[asked.target].on_rq == 1:
            distance, limit = hint_distance(m, p, asked.target)
            tell(m, asked.named_by, TOLD_WHY, now, asked.namer, distance, limit, hint_test(m))
        asked.named_by = 0
