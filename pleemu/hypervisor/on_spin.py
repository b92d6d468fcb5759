"""kvm_vcpu_on_spin of Linux v5.6 (virt/kvm/kvm_main.c): a vCPU spins, whom shall it boost?

    1  start behind the vCPU that was boosted last and go round once, in two passes
    2  pass over everyone that a rule refuses
    3  yield to the first that is left; give up after three -ESRCH

vCPUs are numbered through all VMs; the candidates are those of the spinner's own VM.
"""

from pleemu.hardware.clock import cycles_to_ns
from pleemu.hardware.interrupts import any_posted, send_host_interrupt
from pleemu.hypervisor.strict_boost import refuses_halted, refuses_user_mode
from pleemu.jit import compiled
from pleemu.observe.events import YIELD_TO
from pleemu.observe.journal import record
from pleemu.observe.records import BOOST_KERNEL, BOOST_USER, BOOST_WOKEN
from pleemu.observe.statistics import name_for_boost
from pleemu.scheduler.core import yield_to
from pleemu.scheduler.records import TASK_DEAD


@compiled
def kvm_vcpu_on_spin(m, p, me, now):
    """Look for a vCPU to boost; True: the scheduler was asked, and ``me`` must call schedule().

    The caller ends the spin (`end_spin`) when ``me`` goes on, which may be much later:
    until then others see it in its spin loop.
    """
    vm = m.vm[m.vcpu[me].vm]
    last = vm.last_boosted_vcpu
    m.vcpu[me].in_spin_loop = 1
    yielded = 0
    tries = 3
    for first, end in ((last + 1, vm.vcpus), (0, last + 1)):
        # A pass ends the search by success, by three -ESRCH, and also if its last try was an -ESRCH.
        if yielded != 0 or tries == 0:
            break
        for i in range(first, end):
            candidate = vm.first_vcpu + i
            if is_refused(m, me, candidate):
                continue
            yielded = kvm_vcpu_yield_to(m, p, me, candidate, now)
            if yielded > 0:
                vm.last_boosted_vcpu = i
                break
            if yielded < 0:
                tries -= 1
                if tries == 0:
                    break
    return yielded > 0


@compiled
def end_spin(m, me):
    """``me`` runs again behind its kvm_vcpu_on_spin."""
    m.vcpu[me].in_spin_loop = 0
    m.vcpu[me].dy_eligible = 0


@compiled
def is_refused(m, me, candidate):
    """The rules, in the order of the source; the last one has a side effect on whom it sees."""
    vcpu = m.vcpu[candidate]
    strict = m.kvm[0].strict_boost == 1
    if strict:
        if refuses_halted(m, me, candidate):
            return True
    elif vcpu.ready == 0:
        return True
    if candidate == me:
        return True
    if vcpu.on_wait_queue == 1 and not vcpu_dy_runnable(m, candidate):
        return True
    if yield_to_kernel_mode(m, me):
        if strict:
            if refuses_user_mode(m, me, candidate):
                return True
        elif vcpu.preempted == 1 and vcpu.preempted_in_kernel == 0:
            return True
    return not is_eligible_for_directed_yield(m, candidate)


@compiled
def yield_to_kernel_mode(m, me):
    """Whether only who was preempted at CPL 0 is wanted: always on VMX, on SVM if the spinner is at CPL 0, too.

    UNVERIFIED: that Strict Boost, whose patch was written for VMX, keeps to it on SVM.
    """
    return m.kvm[0].svm == 0 or m.cpu[me].cpl == 0


@compiled
def is_eligible_for_directed_yield(m, candidate):
    """Of those that spin themselves only every other query finds one eligible."""
    vcpu = m.vcpu[candidate]
    eligible = vcpu.in_spin_loop == 0 or vcpu.dy_eligible == 1
    if vcpu.in_spin_loop == 1:
        vcpu.dy_eligible = 1 - vcpu.dy_eligible
    return eligible


@compiled
def vcpu_dy_runnable(m, candidate):
    """A halted vCPU that has been kicked, or has an interrupt to take (here: posted, or accepted by its APIC)."""
    cpu = m.cpu[candidate]
    if m.vcpu[candidate].pv_unhalted == 1:
        return True
    return any_posted(cpu) or (cpu.irr[0] | cpu.irr[1] | cpu.irr[2] | cpu.irr[3]) != 0


@compiled
def kvm_vcpu_yield_to(m, p, me, candidate, now):
    """Ask the scheduler; 1 accepted, 0 not possible, -3 (-ESRCH) nobody else to run."""
    task = m.task[candidate]
    if task.state == TASK_DEAD:  # no thread any more
        return 0
    result = yield_to(m, p, candidate, cycles_to_ns(m.clock[0], now))
    record(m, now, YIELD_TO, p, me, candidate, result, 0)
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
