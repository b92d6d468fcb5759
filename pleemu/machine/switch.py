"""Context switches: a pCPU passes from one vCPU's thread to another, or to idle and back.

schedule() is called by the thread that gives way (`host`); where it goes on when it is switched
in again is kept in `vcpu.resume`.
"""

from pleemu.hardware.clock import cycles_to_ns
from pleemu.hardware.records import ENTERING, HALTING, IDLE, NEVER, RESCHEDULING, SWITCHING
from pleemu.hypervisor.ipi_virtualisation import pi_wakeup_handler
from pleemu.hypervisor.notifiers import kvm_sched_in, kvm_sched_out
from pleemu.hypervisor.on_spin import end_spin
from pleemu.hypervisor.records import RESUME_ENTER, RESUME_HALT, RESUME_SPIN
from pleemu.jit import compiled
from pleemu.machine.decisions import note_pick, note_run
from pleemu.observe.events import SCHED_SWITCH, STATE_PREEMPTED, STATE_RUNNING
from pleemu.observe.journal import record
from pleemu.observe.statistics import add_running
from pleemu.scheduler.core import pick_next_task


@compiled
def schedule(m, p, state, now):
    """schedule(): pick, and switch if it is another thread."""
    pcpu = m.pcpu[p]
    prev = pcpu.vcpu
    chosen = pick_next_task(m, p, cycles_to_ns(m.clock[0], now))
    if m.journal[0].telling == 1:
        note_pick(m, p, chosen, now)
    if pcpu.hint_vcpu >= 0:
        if pcpu.hint_vcpu == chosen:
            m.boost[m.vcpu[chosen].vm, pcpu.hint_class].honoured += 1
        pcpu.hint_vcpu = -1
    if chosen == prev:
        if prev < 0:
            sleep_idle(m, p, now)
        else:
            go_on(m, p, prev, m.vcpu[prev].resume, now)
        return
    record(m, now, SCHED_SWITCH, p, prev, prev, chosen, state)
    if prev >= 0:
        kvm_sched_out(m, prev, state == STATE_RUNNING or state == STATE_PREEMPTED)
        add_running(m, prev, pcpu.since, now)
        m.vcpu[prev].thread_cycles += now - pcpu.since
    pcpu.vcpu = chosen
    pcpu.since = now
    if chosen < 0:
        sleep_idle(m, p, now)
    else:
        note_run(m, p, chosen, now)
        go(m, p, SWITCHING, now + m.cost[0].context_switch)


@compiled
def resume(m, p, now):
    """The context switch is complete."""
    v = m.pcpu[p].vcpu
    kvm_sched_in(m, p, v, now)
    go_on(m, p, v, m.vcpu[v].resume, now)


@compiled
def go_on(m, p, v, where, now):
    """The thread goes on where it called schedule()."""
    if where == RESUME_SPIN:
        end_spin(m, v)
        if m.kvm[0].skip_pause == 1:
            skip_emulated_instruction(m, v)
    # A wake-up ends kvm_vcpu_block only if the vCPU can take the interrupt: `halt` looks again.
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
        pcpu.interrupt_at = NEVER  # schedule() has seen to it
    pcpu.phase = IDLE
    pcpu.cycle = pcpu.interrupt_at


@compiled
def wake_from_idle(m, p):
    """The interrupt has arrived; the tick begins again."""
    pcpu = m.pcpu[p]
    now = pcpu.cycle
    pcpu.interrupt_at = NEVER
    set_next_tick(m, p, now)
    spent = m.cost[0].idle_exit
    if m.kvm[0].ipiv == 1:
        spent += pi_wakeup_handler(m, p, now) * m.cost[0].wakeup
    go(m, p, RESCHEDULING, now + spent)


@compiled
def set_next_tick(m, p, now):
    """The first tick after ``now``; tick k is at k / HZ seconds, on all pCPUs in phase."""
    pcpu = m.pcpu[p]
    hertz = m.clock[0].core_khz * 1000
    while pcpu.next_tick <= now:
        pcpu.ticks += 1
        pcpu.next_tick = (
            pcpu.ticks // m.run[0].tick_hz * hertz + pcpu.ticks % m.run[0].tick_hz * hertz // m.run[0].tick_hz
        )


@compiled
def go(m, p, phase, cycle):
    """Pass to ``phase``, which acts at ``cycle``."""
    m.pcpu[p].phase = phase
    m.pcpu[p].cycle = cycle
