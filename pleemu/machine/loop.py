"""The event loop: every pCPU does its next thing, in the order (cycle, pCPU).

    the earliest pCPU is     it
    IDLE                     wakes by the interrupt that has arrived and reschedules
    that has a store due     commits it
    in the GUEST             executes instructions, until another pCPU is earlier, its
                             timer ticks, or something takes it out of the guest
    anywhere in the host     takes a tick that is due, then does what its phase says (`host`)

The loop stops at the end of the run, when nothing can happen any more, when a guest faults,
and whenever Python is wanted: to empty a buffer or to show progress. All state is
in the records, so calling it again goes on.
"""

from pleemu.handle import pointer_to
from pleemu.hardware.agenda import earliest, reschedule, runner_up
from pleemu.hardware.clock import cycles_to_ns
from pleemu.hardware.execute import execute
from pleemu.hardware.flags import rflags
from pleemu.hardware.interrupts import (
    deliver,
    deliverable,
    make_way_for_frame,
    send_host_interrupt,
    take_over_posted,
)
from pleemu.hardware.isa import PROBE_OPERATION_DONE
from pleemu.hardware.records import GUEST, IDLE, NEVER, NO_FAULT
from pleemu.hardware.spin import NOT_PARKED, park, park_at_work, start_afresh, unpark
from pleemu.hardware.store_buffer import commit, make_way, receive_line
from pleemu.hardware.system import is_at_work
from pleemu.hardware.why import (
    CPUID_EXIT,
    CR8_EXIT,
    ENDED,
    HLT_EXIT,
    ICR_WRITTEN,
    PAUSE_EXIT,
    PROBED,
    RDMSR_EXIT,
    SPINS,
    VMCALL_EXIT,
    WRMSR_EXIT,
)
from pleemu.hypervisor.halt_poll import poll_sees
from pleemu.hypervisor.ipi_virtualisation import virtualise_ipi
from pleemu.hypervisor.run_delay import begin_run_delay
from pleemu.jit import compiled, entry_point
from pleemu.machine.host import begin_exit, end_thread, host_step, leave_open_intervals
from pleemu.machine.switch import wake_from_idle
from pleemu.machine.timers import next_host_interrupt
from pleemu.observe.events import (
    APIC_WRITE,
    CPUID,
    CR_ACCESS,
    EXTERNAL_INTERRUPT,
    HLT,
    INTERRUPT_WINDOW,
    MSR_READ,
    MSR_WRITE,
    PAUSE_INSTRUCTION,
    PROBE,
    VMCALL,
)
from pleemu.observe.journal import record
from pleemu.observe.waits import follow_probe
from pleemu.scheduler.core import wake_up_new_task
from pleemu.scheduler.placement import select_idlest_rq
from pleemu.scheduler.preemption import MADE_LIMIT, strike

# Probes that one step may pass: the buffers of events and of the tale have room for so many.
TOLD_IN_A_ROW = 8

# Why `run_machine` returned.
FINISHED, STUCK, FAULT, BUFFER_FULL, PROGRESS, OWN_FAILED = range(6)


@entry_point
def run_machine(machine):
    """Begin at cycle 0 or go on, until the end or until Python is wanted; return why."""
    m = pointer_to(machine)
    why = advance(m)
    if why == FINISHED or why == PROGRESS:
        settle(m)
    if why == FINISHED or why == STUCK:
        leave_open_intervals(m)
    return why


@compiled
def advance(m):
    """Take step after step; return why it stopped."""
    run = m.run[0]
    while True:
        journal = m.journal[0]
        if journal.recorded > run.room or journal.told > run.tale_room or m.draw[0].made == MADE_LIMIT:
            return BUFFER_FULL
        p = earliest(m)
        now = m.due[p]
        if run.next_birth <= now and run.next_birth < run.until:
            start_thread(m)
            continue
        if now >= run.until:
            return STUCK if now == NEVER and run.next_birth == NEVER else FINISHED
        if now >= run.progress:
            return PROGRESS
        if make_way(m, p):
            continue
        if m.pcpu[p].commit_at <= m.pcpu[p].cycle:
            commit(m, p, now)
            reschedule(m, p)
            continue
        phase = m.pcpu[p].phase
        if phase == GUEST:
            other, limit = runner_up(m, p)
            # Equal cycles: the pCPU with the smaller number comes first.
            guest_step(m, p, limit + 1 if p < other else limit, min(limit, run.next_birth))
        elif phase == IDLE:
            wake_from_idle(m, p)
        else:
            host_step(m, p)
        reschedule(m, p)
        if m.fault[0].kind != NO_FAULT:
            m.fault[0].rflags = rflags(m.cpu[m.fault[0].vcpu])
            return FAULT
        if m.kvm[0].own_failed[0] != 0:
            return OWN_FAILED


@compiled
def settle(m):
    """What Python may look at now is as if nothing had been skipped: nobody is parked for longer."""
    for p in range(m.pcpu.shape[0]):
        if m.spin[p].parked != NOT_PARKED:
            unpark(m, p, m.pcpu[p].cycle)


@compiled
def start_thread(m):
    """The next thread comes into being, on its pCPU or on the idlest."""
    run = m.run[0]
    now = run.next_birth
    task = m.births[run.started].task
    p = select_idlest_rq(m, task)
    wake_up_new_task(m, p, task, cycles_to_ns(m.clock[0], now))
    begin_run_delay(m, task, now)
    if m.rq[p].need_resched == 1:
        send_host_interrupt(m, p, now + m.cost[0].ipi)
    poll_sees(m, p, now + m.cost[0].ipi)
    run.started += 1
    run.next_birth = m.births[run.started].cycle if run.started < m.births.shape[0] else NEVER


@compiled
def guest_step(m, p, ordered_until, others):
    """Execute on pCPU ``p`` what comes before all others, whose earliest is at cycle ``others``."""
    pcpu = m.pcpu[p]
    v = pcpu.vcpu
    cpu = m.cpu[v]
    if m.spin[p].parked != NOT_PARKED:
        unpark(m, p, pcpu.cycle)
    now = pcpu.cycle
    if pcpu.awaited_at <= now:
        receive_line(m, p)
        start_afresh(m, p)
    host_interrupt = next_host_interrupt(pcpu)
    if now >= host_interrupt or (now >= m.preemption[p].strike_at and strike(m, p, now)):
        begin_exit(m, p, EXTERNAL_INTERRUPT, now)
        return
    host_interrupt = min(host_interrupt, m.preemption[p].strike_at)
    if now >= cpu.pir_at:
        take_over_posted(cpu)
    if cpu.interrupt_flag == 1 and cpu.shadow == 0:
        vector = deliverable(cpu)
        if vector >= 0:
            if cpu.apicv == 0 and cpu.injected == 0:
                begin_exit(m, p, INTERRUPT_WINDOW, now)
                return
            if pcpu.buffered > 0:
                pcpu.cycle = pcpu.commit_at  # interrupts wait for the stores before them
                return
            if make_way_for_frame(m, v, now):
                return
            cpu.injected = 0
            start_afresh(m, p)
            if deliver(m, v, vector, now) == NO_FAULT:
                pcpu.cycle = now + m.cost[0].delivery
            return
    # Nobody can interrupt this pCPU sooner than one IPI after the earliest of the others.
    end = min(m.run[0].until, m.run[0].progress)
    certain_until = min(host_interrupt, cpu.pir_at, end)
    free_until = min(certain_until, min(others, pcpu.commit_at) + m.cost[0].ipi)
    if m.spin[p].active == 1 and cpu.shadow == 0 and pcpu.buffered == 0 and is_at_work(cpu, cpu.pc):
        # Its last cycle and the nop behind it are one step, which an interrupt may not divide.
        done = min(certain_until, now + cpu.work_left[cpu.work_depth - 1] - 1)
        if done > free_until:
            park_at_work(m, p, done)
            return
    # Stores that would commit behind the end are still in the buffer there.
    horizon = min(others, end - m.timing[0].lookahead) if m.run[0].ahead == 1 else -NEVER
    ordered_until = min(ordered_until, end)
    why, now = execute(m, p, v, now, ordered_until, free_until, horizon)
    told = 0
    while why == PROBED and told < TOLD_IN_A_ROW and now < ordered_until:
        pass_probe(m, p, v, now)
        told += 1
        now = pcpu.cycle
        free_until = min(certain_until, min(others, pcpu.commit_at) + m.cost[0].ipi)
        why, now = execute(m, p, v, now, ordered_until, free_until, horizon)
    pcpu.cycle = now
    if why == SPINS:
        park(m, p, v, certain_until)
        return
    if why == PAUSE_EXIT:
        begin_exit(m, p, PAUSE_INSTRUCTION, now)
    elif why == HLT_EXIT:
        begin_exit(m, p, HLT, now)
    elif why == WRMSR_EXIT:
        begin_exit(m, p, MSR_WRITE, now)
    elif why == CPUID_EXIT:
        begin_exit(m, p, CPUID, now)
    elif why == VMCALL_EXIT:
        begin_exit(m, p, VMCALL, now)
    elif why == RDMSR_EXIT:
        begin_exit(m, p, MSR_READ, now)
    elif why == CR8_EXIT:
        begin_exit(m, p, CR_ACCESS, now)
    elif why == ICR_WRITTEN:
        now = step_over(m, p, v, now)
        if not virtualise_ipi(m, p, v, now - m.code[cpu.pc - 1].cycles):
            begin_exit(m, p, APIC_WRITE, now)
    elif why == PROBED:
        pass_probe(m, p, v, now)
    elif why == ENDED:
        end_thread(m, p, now)


@compiled
def pass_probe(m, p, v, now):
    """The guest says what it does: record it, and step over the nop that carries the probe."""
    cpu = m.cpu[v]
    i = m.code[cpu.pc]
    record(m, now, PROBE, p, v, i.probe, cpu.probe_value, i.address)
    follow_probe(m, v, i, cpu.probe_value, now)
    if i.probe == PROBE_OPERATION_DONE:
        m.vm[m.vcpu[v].vm].operations += 1
    step_over(m, p, v, now)


@compiled
def step_over(m, p, v, now):
    """The instruction at pc is done; returns the cycle at which it is."""
    cpu = m.cpu[v]
    now += m.code[cpu.pc].cycles
    cpu.pc += 1
    cpu.instructions += 1
    cpu.shadow = 0
    m.pcpu[p].cycle = now
    return now
