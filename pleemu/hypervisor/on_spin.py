"""kvm_vcpu_on_spin (virt/kvm/kvm_main.c): a vCPU spins, whom shall it boost?

    1  start behind the vCPU that was boosted last and go round once
    2  pass over everyone that a rule refuses (`rules`)
    3  yield to the first that is left; give up after three -ESRCH

One search for all generations of KVM; what differs is in the KVM record, and why in `pleemu/generations.py`.
vCPUs are numbered through all VMs; the candidates are those of the spinner's own VM.
"""

from pleemu.hardware.clock import cycles_to_ns
from pleemu.hardware.interrupts import send_host_interrupt
from pleemu.hypervisor.own import ON_YIELD, STARTS_AT, own_start, tell
from pleemu.hypervisor.records import ESRCH_IS_SUCCESS, ESRCH_UNKNOWN, NOT_ASKED
from pleemu.hypervisor.rules import NO_RULE, rule_that_refuses
from pleemu.jit import compiled
from pleemu.observe.events import YIELD_TO
from pleemu.observe.journal import record
from pleemu.observe.records import BOOST_KERNEL, BOOST_USER, BOOST_WOKEN
from pleemu.observe.statistics import name_for_boost
from pleemu.observe.virtual_time import tell_virtual_time
from pleemu.scheduler.core import yield_to
from pleemu.scheduler.records import TASK_DEAD

# The talk's trace, by which pause_handler_ns is calibrated, is from VMs with 8 vCPUs: it contains as many candidates.
CALIBRATED_CANDIDATES = 8


@compiled
def kvm_vcpu_on_spin(m, p, me, now):
    """Look for a vCPU to boost; True: the scheduler was asked, and ``me`` must call schedule().

    The caller ends the spin (`end_spin`) when ``me`` goes on, which may be much later:
    until then others see it in its spin loop.
    """
    vcpu = m.vcpu[me]
    vcpu.visited = 0
    if m.kvm[0].one_loop == 1 and m.vm[vcpu.vm].vcpus < 2:
        return False
    vcpu.in_spin_loop = 1
    return search(m, p, me, now)


@compiled
def search(m, p, me, now):
    """Visit the candidates until one is boosted; True: the scheduler was asked to run it."""
    kvm = m.kvm[0]
    vm = m.vm[m.vcpu[me].vm]
    accepted = False
    yielded = 0
    tries = 3
    for round_, rules in enumerate((kvm.rules, kvm.relaxed_rules)):
        if yielded > 0 or rules == 0:
            break
        yielded = 0
        ended = False
        count = 0  # looked at in this round
        last = own_start(m, me, vm.last_boosted_vcpu, now)
        for half in range(2):
            # Between two passes, too, an -ESRCH ends the search, if it was the last try of the first.
            if ended or (kvm.one_loop == 0 and (yielded != 0 or tries == 0)):
                break
            first, end = (0, last + 1) if half == 1 else (last + 1, vm.vcpus)
            if half == 0 and last == 0 and kvm.from_zero == 1 and kvm.own[STARTS_AT] == 0:
                first = 0
            for i in range(first, end):
                candidate = vm.first_vcpu + i
                count += 1
                rule = rule_that_refuses(m, rules, me, candidate, now)
                m.vcpu[candidate].visit[round_] = count
                m.vcpu[candidate].refused[round_] = rule
                m.vcpu[candidate].answer = NOT_ASKED
                if rule != NO_RULE:
                    continue
                answer = kvm_vcpu_yield_to(m, p, me, candidate, now)
                tell(m, ON_YIELD, me, candidate, answer, now)
                accepted = answer > 0
                yielded = as_understood(kvm.esrch, answer)
                if yielded > 0:
                    vm.last_boosted_vcpu = count - 1 if kvm.stores_count == 1 else i
                    ended = True
                    break
                if yielded < 0:
                    tries -= 1
                    if tries == 0:
                        ended = True
                        break
        m.vcpu[me].visited += count
    return accepted


@compiled
def as_understood(esrch, answer):
    """What the search makes of yield_to's answer.

    DEVIATION: before v3.9 yield_to knew no -ESRCH. Here its answer then is 0: the target is asleep or already
    runs; that it might be about to run, on a queue of its own, makes no difference to it.
    """
    if answer < 0 and esrch == ESRCH_UNKNOWN:
        return 0
    if answer < 0 and esrch == ESRCH_IS_SUCCESS:
        return 1
    return answer


@compiled
def end_spin(m, me):
    """``me`` runs again behind its kvm_vcpu_on_spin."""
    m.vcpu[me].in_spin_loop = 0
    m.vcpu[me].dy_eligible = 0


@compiled
def search_cycles(m, me):
    """What the latest search of ``me`` has cost beyond pause_handler_ns."""
    return max(m.vcpu[me].visited - CALIBRATED_CANDIDATES, 0) * m.cost[0].candidate


@compiled
def kvm_vcpu_yield_to(m, p, me, candidate, now):
    """Ask the scheduler; 1 accepted, 0 not possible, -3 (-ESRCH) nobody else to run."""
    task = m.task[candidate]
    if task.state == TASK_DEAD:  # no thread any more
        return 0
    result = yield_to(m, p, candidate, cycles_to_ns(m.clock[0], now))
    tell_virtual_time(m, p, me, now)
    tell_virtual_time(m, p, candidate, now)
    record(m, now, YIELD_TO, p, me, candidate, result, 0)
    m.vcpu[me].asked = candidate
    m.vcpu[candidate].answer = result
    if result > 0 and m.kvm[0].forced == 1:
        m.rq[task.cpu].forced = candidate + 1
    boosted = BOOST_WOKEN
    if m.vcpu[candidate].preempted == 1:
        boosted = BOOST_KERNEL if m.vcpu[candidate].preempted_in_kernel == 1 else BOOST_USER
    row = m.boost[m.vcpu[me].vm, boosted]
    row.attempts += 1
    if result > 0:
        row.accepted += 1
        name_for_boost(m, candidate, boosted, now)
        m.pcpu[task.cpu].hint_vcpu = candidate
        m.pcpu[task.cpu].hint_class = boosted
        if task.cpu != p:
            send_host_interrupt(m, task.cpu, now + m.cost[0].ipi)
    return result
