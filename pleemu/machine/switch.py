"""Context switches: a pCPU passes from one thread to another, or to idle and back.

schedule() is called by the thread that gives way (`host`); where it goes on when it is switched
in again is kept in `vcpu.resume`. A thread of the host goes on with its burst (`threads`).
"""

from pleemu.hardware.clock import cycles_to_ns
from pleemu.hardware.records import COMPUTING, ENTERING, HALTING, IDLE, RESCHEDULING, SWITCHING
from pleemu.hardware.spin import start_afresh
from pleemu.hypervisor.notifiers import kvm_sched_in, kvm_sched_out
from pleemu.hypervisor.on_spin import end_spin
from pleemu.hypervisor.own import ON_SCHED_IN, ON_SCHED_OUT, tell
from pleemu.hypervisor.records import RESUME_ENTER, RESUME_HALT, RESUME_SPIN
from pleemu.hypervisor.sleep import host_interrupt_seen
from pleemu.jit import compiled, inlined
from pleemu.machine.decisions import note_pick, note_run
from pleemu.machine.timers import set_next_tick, take_host_interrupts
from pleemu.observe.events import SCHED_SWITCH, STATE_PREEMPTED, STATE_RUNNING
from pleemu.observe.journal import record
from pleemu.observe.statistics import add_running
from pleemu.observe.virtual_time import tell_virtual_time
from pleemu.scheduler.balance import active_load_balance, finish_active_balance, newidle_balance
from pleemu.scheduler.core import pick_next_task
from pleemu.scheduler.preemption import arm


@compiled
def schedule(m, p, state, now):
    """schedule(): pick, and switch if it is another thread.

    DEVIATION: a pCPU that has just pushed its running thread away takes no other in its place: here the two are
    one step, and it could take back the very thread that it has not yet left.
    """
    pcpu = m.pcpu[p]
    prev = pcpu.vcpu
    pushed = -1
    if m.balance[p].active_balance == 1:
        pushed = active_load_balance(m, p, now, state == STATE_RUNNING or state == STATE_PREEMPTED)
    chosen = pick_next_task(m, p, cycles_to_ns(m.clock[0], now))
    if chosen < 0 and prev >= 0 and pushed < 0 and newidle_balance(m, p, now):
        chosen = pick_next_task(m, p, cycles_to_ns(m.clock[0], now))
    tell_virtual_time(m, p, prev, now)
    if m.journal[0].telling == 1:
        note_pick(m, p, chosen, now)
    if pcpu.hint_vcpu >= 0:
        if pcpu.hint_vcpu == chosen:
            m.boost[m.vcpu[chosen].vm, pcpu.hint_class].honoured += 1
        pcpu.hint_vcpu = -1
    if chosen == prev:
        if pushed >= 0:
            finish_active_balance(m, p, pushed, now)
        if prev < 0:
            sleep_idle(m, p, now)
        else:
            carry_on(m, p, prev, now)
        return
    tell_virtual_time(m, p, chosen, now)
    record(m, now, SCHED_SWITCH, p, prev, prev, chosen, state)
    if is_vcpu(m, prev):
        kvm_sched_out(m, p, prev, state == STATE_RUNNING or state == STATE_PREEMPTED, now)
        tell(m, ON_SCHED_OUT, prev, -1, 0, now)
    account(m, p, now)
    pcpu.vcpu = chosen
    if pushed >= 0:
        finish_active_balance(m, p, pushed, now)
    if chosen < 0:
        sleep_idle(m, p, now)
    else:
        if is_vcpu(m, chosen):
            note_run(m, p, chosen, now)
        go(m, p, SWITCHING, now + m.cost[0].context_switch)


@inlined
def is_vcpu(m, task):
    """Is it the thread of a vCPU, not one of the host nor idle?"""
    return 0 <= task and task < m.vcpu.shape[0]


@compiled
def account(m, p, now):
    """The time since the last switch belongs to the thread that has been current, or to idle."""
    pcpu = m.pcpu[p]
    task = pcpu.vcpu
    cycles = now - pcpu.since
    if task < 0:
        pcpu.idle_cycles += cycles
    else:
        add_running(m, task, pcpu.since, now)
        if is_vcpu(m, task):
            m.vcpu[task].thread_cycles += cycles
        else:
            m.thread[task - m.vcpu.shape[0]].thread_cycles += cycles
    pcpu.since = now


@compiled
def resume(m, p, now):
    """The context switch is complete."""
    task = m.pcpu[p].vcpu
    if is_vcpu(m, task):
        kvm_sched_in(m, p, task, now)
        tell(m, ON_SCHED_IN, task, -1, 0, now)
    carry_on(m, p, task, now)


@compiled
def carry_on(m, p, task, now):
    """A thread goes on."""
    if is_vcpu(m, task):
        go_on(m, p, task, m.vcpu[task].resume, now)
    else:
        m.thread[task - m.vcpu.shape[0]].computing_from = now
        arm(m, p, now)
        go(m, p, COMPUTING, now)


@compiled
def go_on(m, p, v, where, now):
    """The thread of a vCPU goes on where it called schedule()."""
    if where == RESUME_SPIN:
        end_spin(m, v)
        if m.kvm[0].skip_pause == 1:
            skip_emulated_instruction(m, v)
    # A wake-up ends kvm_vcpu_block only if it is for a kick or an interrupt that the vCPU can take: `halt` looks.
    phase = HALTING if where == RESUME_HALT else ENTERING
    m.vcpu[v].resume = RESUME_ENTER
    go(m, p, phase, now)


@compiled
def skip_emulated_instruction(m, v):
    """KVM has done the instruction for the guest."""
    cpu = m.cpu[v]
    cpu.pc += 1
    cpu.shadow = 0
    cpu.instructions += 1


@compiled
def sleep_idle(m, p, now):
    """Nothing to run: no tick, until an interrupt arrives."""
    pcpu = m.pcpu[p]
    if pcpu.interrupt_at <= now:
        host_interrupt_seen(m, p)  # schedule() has seen to it
    pcpu.phase = IDLE
    pcpu.cycle = min(pcpu.interrupt_at, max(pcpu.timer_at, now))


@compiled
def wake_from_idle(m, p):
    """The interrupt has arrived; the tick begins again."""
    now = m.pcpu[p].cycle
    set_next_tick(m, p, now)
    go(m, p, RESCHEDULING, now + m.cost[0].idle_exit + take_host_interrupts(m, p, now))


@compiled
def go(m, p, phase, cycle):
    """Pass to ``phase``, which acts at ``cycle``."""
    start_afresh(m, p)
    m.pcpu[p].phase = phase
    m.pcpu[p].cycle = cycle
