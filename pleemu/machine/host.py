"""The life of a vCPU's thread on its pCPU, from VM exit to VM entry (v5.6 arch/x86/kvm/x86.c, vcpu_run).

    EXITING       kvm_exit; the handler of the reason decides what comes next
    SPINNING      kvm_vcpu_on_spin; schedule() if the scheduler took the hint
    HALTING       kvm_vcpu_block; schedule() unless an interrupt is pending
    ENTERING      cond_resched(); kvm_entry
    SWITCHING     the next thread is in: preempt notifiers, then where it left off

Each phase acts at the cycle at which its host code is through.

DEVIATION: the timer interrupt and IPIs of the host wait for that, too, instead of striking in
the middle: at most 5 us, the longest stretch of host code, with the default costs.
"""

from pleemu.hardware.clock import cycles_to_ns
from pleemu.hardware.cpuid import cpuid
from pleemu.hardware.interrupts import deliverable, take_over_posted
from pleemu.hardware.msr import move_cr8
from pleemu.hardware.pause import load_pause_controls
from pleemu.hardware.records import (
    ENTERING,
    EXITING,
    GUEST,
    HALTING,
    NEVER,
    RESCHEDULING,
    SPINNING,
    SWITCHING,
)
from pleemu.hypervisor.icr import apic_send_ipi
from pleemu.hypervisor.ipi import sync_at_entry
from pleemu.hypervisor.ipi_virtualisation import pi_wakeup_handler
from pleemu.hypervisor.msr import kvm_get_msr, kvm_set_msr
from pleemu.hypervisor.on_spin import kvm_vcpu_on_spin, search_cycles
from pleemu.hypervisor.records import RESUME_ENTER, RESUME_HALT, RESUME_SPIN
from pleemu.hypervisor.strict_boost import forget_ipis
from pleemu.hypervisor.window import grow_ple_window
from pleemu.jit import compiled
from pleemu.machine.decisions import begin_decision, end_decision
from pleemu.machine.switch import go, go_on, resume, schedule, set_next_tick, skip_emulated_instruction
from pleemu.observe.events import (
    APIC_WRITE,
    CPUID,
    CR_ACCESS,
    HLT,
    INTERRUPT_WINDOW,
    KVM_ENTRY,
    KVM_EXIT,
    MSR_READ,
    MSR_WRITE,
    PAUSE_INSTRUCTION,
    PLE_WINDOW,
    STATE_DEAD,
    STATE_PREEMPTED,
    STATE_RUNNING,
    STATE_SLEEPING,
)
from pleemu.observe.journal import record
from pleemu.observe.statistics import add_running, count_exit, count_pause_exit, finish_run, time_exit
from pleemu.observe.waits import count_spin, is_waiting
from pleemu.scheduler.core import scheduler_tick
from pleemu.scheduler.records import TASK_DEAD, TASK_INTERRUPTIBLE


@compiled
def begin_exit(m, p, reason, now):
    """The guest stops before its next instruction; kvm_exit follows when the processor is through."""
    vcpu = m.vcpu[m.pcpu[p].vcpu]
    vcpu.guest_cycles += now - vcpu.guest_from
    if is_waiting(m, m.pcpu[p].vcpu):
        count_spin(m, m.pcpu[p].vcpu, now)
    vcpu.exit_reason = reason
    m.pcpu[p].exit_from = now
    go(m, p, EXITING, now + m.cost[0].exit)


@compiled
def host_step(m, p):
    """Do what the phase of pCPU ``p`` says; a tick that is due comes first."""
    pcpu = m.pcpu[p]
    now = pcpu.cycle
    phase = pcpu.phase
    woken = 0
    if m.kvm[0].ipiv == 1 and phase != EXITING and pcpu.interrupt_at <= now:
        woken = pi_wakeup_handler(m, p, now)
    if woken > 0:
        pcpu.cycle = now + woken * m.cost[0].wakeup
    elif phase == EXITING:
        handle_exit(m, p, now)
    elif pcpu.next_tick <= now:
        tick(m, p, now)
    elif phase == SPINNING:
        spin(m, p, now)
    elif phase == HALTING:
        halt(m, p, now)
    elif phase == ENTERING:
        enter(m, p, now)
    elif phase == SWITCHING:
        resume(m, p, now)
    elif phase == RESCHEDULING:
        schedule(m, p, STATE_RUNNING, now)


@compiled
def tick(m, p, now):
    """The timer interrupt of the host, at the end of the host code that it struck in."""
    pcpu = m.pcpu[p]
    scheduler_tick(m, p, cycles_to_ns(m.clock[0], now))
    set_next_tick(m, p, now)
    pcpu.cycle = now + m.cost[0].tick


@compiled
def handle_exit(m, p, now):
    """kvm_exit, and the part of its handler that acts at once."""
    pcpu = m.pcpu[p]
    if pcpu.buffered > 0:
        pcpu.cycle = pcpu.commit_at  # the exit is complete when all stores are in memory
        return
    cost = m.cost[0]
    v = pcpu.vcpu
    vcpu, cpu = m.vcpu[v], m.cpu[v]
    reason = vcpu.exit_reason
    record(m, now, KVM_EXIT, p, v, reason, m.code[cpu.pc].address, 0)
    count_exit(m, v, reason)
    vcpu.exited_at = now
    if reason == PAUSE_INSTRUCTION:
        m.journal[0].pause_exits += 1
        vcpu.exit_number = m.journal[0].pause_exits
        count_pause_exit(m, v, cpu.pc, now, now - vcpu.entered_at, vcpu.ple_window, m.run[0].run_gap)
        if m.kvm[0].window_control == 1:
            old = grow_ple_window(m, v)
            if old != vcpu.ple_window:
                record(m, now, PLE_WINDOW, p, v, old, vcpu.ple_window, 0)
        go(m, p, SPINNING, now + cost.pause_handler)
    elif reason == HLT:
        skip_emulated_instruction(m, v)
        go(m, p, HALTING, now + cost.hlt_handler)
    elif reason == MSR_WRITE:
        extra = kvm_set_msr(m, p, v, now)
        skip_emulated_instruction(m, v)
        go(m, p, ENTERING, now + cost.msr_write + extra)
    elif reason == CPUID:
        cpuid(m, v)
        skip_emulated_instruction(m, v)
        go(m, p, ENTERING, now + cost.msr_write)  # proposed: its handler takes as long as WRMSR's
    elif reason == APIC_WRITE:  # the instruction is done, the IPI is not
        go(m, p, ENTERING, now + cost.msr_write + apic_send_ipi(m, p, v, cpu.pc - 1, now))
    elif reason == MSR_READ or reason == CR_ACCESS:
        if reason == MSR_READ:
            kvm_get_msr(m, v)
        else:
            move_cr8(m, v, cpu.pc, now)
        skip_emulated_instruction(m, v)
        go(m, p, ENTERING, now + cost.msr_write)
    elif reason == INTERRUPT_WINDOW:  # the entry behind it injects
        go(m, p, ENTERING, now)
    else:
        if pcpu.interrupt_at <= now:
            pcpu.interrupt_at = NEVER
        spent = cost.interrupt_handler
        if m.kvm[0].ipiv == 1:
            spent += pi_wakeup_handler(m, p, now) * cost.wakeup
        if pcpu.next_tick <= now:
            scheduler_tick(m, p, cycles_to_ns(m.clock[0], now))
            set_next_tick(m, p, now)
            spent += cost.tick
        go(m, p, ENTERING, now + spent)


@compiled
def spin(m, p, now):
    """kvm_vcpu_on_spin at the end of its search.

    DEVIATION: what a long search costs beyond pause_handler_ns is spent behind it, and not candidate by candidate.
    """
    v = m.pcpu[p].vcpu
    begin_decision(m, p, v, now)
    accepted = kvm_vcpu_on_spin(m, p, v, now)
    end_decision(m, p, v, now, accepted)
    searched = now + search_cycles(m, v)
    if not accepted:
        go_on(m, p, v, RESUME_SPIN, searched)
        return
    m.vcpu[v].resume = RESUME_SPIN
    if searched > now:
        go(m, p, RESCHEDULING, searched)
    else:
        schedule(m, p, STATE_RUNNING, now)


@compiled
def halt(m, p, now):
    """kvm_vcpu_block: sleep until an interrupt wakes the vCPU, unless it can take one already."""
    v = m.pcpu[p].vcpu
    if can_take_interrupt(m, v):
        go(m, p, ENTERING, now)
        return
    m.vcpu[v].on_wait_queue = m.vcpu[v].blocking = 1
    m.vcpu[v].resume = RESUME_HALT
    m.task[v].state = TASK_INTERRUPTIBLE
    schedule(m, p, STATE_SLEEPING, now)


@compiled
def can_take_interrupt(m, v):
    """kvm_arch_vcpu_runnable: an interrupt is pending and RFLAGS.IF lets it in."""
    cpu = m.cpu[v]
    take_over_posted(cpu)
    return cpu.interrupt_flag == 1 and deliverable(cpu) >= 0


@compiled
def enter(m, p, now):
    """cond_resched(), then kvm_entry."""
    pcpu = m.pcpu[p]
    v = pcpu.vcpu
    vcpu, cpu = m.vcpu[v], m.cpu[v]
    if m.rq[p].need_resched == 1:
        vcpu.resume = RESUME_ENTER
        schedule(m, p, STATE_PREEMPTED, now)
        return
    if pcpu.interrupt_at <= now:
        pcpu.interrupt_at = NEVER  # a kick or reschedule that the host code has already seen to
    sync_at_entry(m, v)
    record(m, now, KVM_ENTRY, p, v, 0, 0, 0)
    if vcpu.exited_at >= 0:
        time_exit(m, v, vcpu.exit_reason, now - vcpu.exited_at)
    forget_ipis(m, v)
    vcpu.ipi_any = 0
    vcpu.entered_at = now
    load_pause_controls(cpu, vcpu.ple_window)
    vcpu.guest_from = now + m.cost[0].entry
    go(m, p, GUEST, vcpu.guest_from)


@compiled
def end_thread(m, p, now):
    """guest_main has returned: the vCPU's thread exits."""
    vcpu = m.vcpu[m.pcpu[p].vcpu]
    vcpu.guest_cycles += now - vcpu.guest_from
    m.task[m.pcpu[p].vcpu].state = TASK_DEAD
    schedule(m, p, STATE_DEAD, now)


@compiled
def leave_open_intervals(m):
    """The run is over: count what was still going on."""
    end = m.run[0].until
    for p in range(m.pcpu.shape[0]):
        pcpu = m.pcpu[p]
        v = pcpu.vcpu
        if v >= 0:
            add_running(m, v, pcpu.since, end)
            m.vcpu[v].thread_cycles += end - pcpu.since
            if pcpu.phase == GUEST:
                if is_waiting(m, v):
                    count_spin(m, v, end)
                m.vcpu[v].guest_cycles += max(end - m.vcpu[v].guest_from, 0)
    for v in range(m.vcpu.shape[0]):
        finish_run(m, v)
