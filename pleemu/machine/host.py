"""The life of a vCPU's thread on its pCPU, from VM exit to VM entry (v5.6 arch/x86/kvm/x86.c, vcpu_run).

    EXITING       kvm_exit; the handler of the reason decides what comes next
    SPINNING      kvm_vcpu_on_spin; schedule() if the scheduler took the hint
    HALTING       kvm_vcpu_block; POLLING, then schedule(), unless an interrupt or a kick is pending
    YIELDING      kvm_sched_yield; schedule() if the scheduler took the hint
    ENTERING      cond_resched(); kvm_entry
    SWITCHING     the next thread is in: preempt notifiers, then where it left off

Each phase acts at the cycle at which its host code is through. Of the host's own threads there is one
phase, COMPUTING.

DEVIATION: the timer interrupt and IPIs of the host wait for that, too, instead of striking in
the middle: at most 5 us, the longest stretch of host code, with the default costs.
"""

from pleemu.hardware.cpuid import cpuid
from pleemu.hardware.msr import move_cr8
from pleemu.hardware.pause import load_pause_controls
from pleemu.hardware.records import (
    COMPUTING,
    ENTERING,
    EXITING,
    GUEST,
    HALTING,
    POLLING,
    RESCHEDULING,
    SPINNING,
    SWITCHING,
    YIELDING,
)
from pleemu.hypervisor.hypercall import kvm_emulate_hypercall, kvm_sched_yield
from pleemu.hypervisor.icr import apic_send_ipi
from pleemu.hypervisor.ipi import sync_at_entry
from pleemu.hypervisor.msr import kvm_get_msr, kvm_set_msr
from pleemu.hypervisor.on_spin import kvm_vcpu_on_spin, search_cycles
from pleemu.hypervisor.own import ON_ENTRY, tell
from pleemu.hypervisor.records import RESUME_ENTER, RESUME_SPIN
from pleemu.hypervisor.sleep import host_interrupt, host_interrupt_seen, sleep_on_spin
from pleemu.hypervisor.steal_time import record_steal_time
from pleemu.hypervisor.strict_boost import forget_ipis
from pleemu.hypervisor.window import grow_ple_window
from pleemu.jit import compiled
from pleemu.machine.decisions import begin_decision, end_decision
from pleemu.machine.halting import halt, poll
from pleemu.machine.switch import account, go, go_on, resume, schedule, skip_emulated_instruction
from pleemu.machine.threads import compute
from pleemu.machine.timers import expire_timers, handle_tick, take_host_interrupts
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
    VMCALL,
)
from pleemu.observe.journal import record
from pleemu.observe.statistics import count_exit, count_pause_exit, finish_run, time_exit
from pleemu.observe.waits import count_spin, end_of_thread, is_waiting
from pleemu.scheduler.balance import nohz_idle_balance
from pleemu.scheduler.preemption import arm, strike
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
    """Do what the phase of pCPU ``p`` says; timers and a tick that are due come first."""
    pcpu = m.pcpu[p]
    now = pcpu.cycle
    phase = pcpu.phase
    if phase == EXITING:
        handle_exit(m, p, now)
        return
    if phase == POLLING:
        poll(m, p, now)
        return
    if phase == COMPUTING:
        compute(m, p, now)
        return
    woken = 0
    if pcpu.interrupt_at <= now:
        woken += host_interrupt(m, p, now)
    if pcpu.timer_at <= now:
        woken += expire_timers(m, p, now)
    if woken > 0:
        pcpu.cycle = now + woken * m.cost[0].wakeup
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
    elif phase == YIELDING:
        yield_for_hypercall(m, p, now)
    elif phase == RESCHEDULING:
        nohz_idle_balance(m, p, now)
        schedule(m, p, STATE_RUNNING, now)


@compiled
def tick(m, p, now):
    """The timer interrupt of the host, at the end of the host code that it struck in."""
    handle_tick(m, p, now)
    m.pcpu[p].cycle = now + m.cost[0].tick


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
    elif reason == VMCALL:
        extra = kvm_emulate_hypercall(m, p, v, now)
        skip_emulated_instruction(m, v)
        go(m, p, YIELDING if m.pv[v].yield_target >= 0 else ENTERING, now + cost.hypercall + extra)
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
        go(m, p, ENTERING, now + cost.interrupt_handler + take_host_interrupts(m, p, now))


@compiled
def spin(m, p, now):
    """kvm_vcpu_on_spin at the end of its search.

    DEVIATION: what a long search costs beyond pause_handler_ns is spent behind it, and not candidate by candidate.
    """
    v = m.pcpu[p].vcpu
    begin_decision(m, p, v, now)
    if m.kvm[0].sleeps == 1:
        end_decision(m, p, v, now, False)
        sleep_on_spin(m, p, v, now)
        m.vcpu[v].resume = RESUME_SPIN
        m.task[v].state = TASK_INTERRUPTIBLE
        schedule(m, p, STATE_SLEEPING, now)
        return
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
def yield_for_hypercall(m, p, now):
    """kvm_sched_yield at the end of a hypercall."""
    v = m.pcpu[p].vcpu
    if kvm_sched_yield(m, p, v, now):
        m.vcpu[v].resume = RESUME_ENTER
        schedule(m, p, STATE_RUNNING, now)
    else:
        go(m, p, ENTERING, now)


@compiled
def enter(m, p, now):
    """cond_resched(), then kvm_entry."""
    pcpu = m.pcpu[p]
    v = pcpu.vcpu
    vcpu, cpu = m.vcpu[v], m.cpu[v]
    if m.preemption[p].strike_at <= now:
        strike(m, p, now)
    if m.rq[p].need_resched == 1:
        vcpu.resume = RESUME_ENTER
        schedule(m, p, STATE_PREEMPTED, now)
        return
    if m.pv[v].steal_update == 1:
        when = record_steal_time(m, p, v, now)
        if when > now:
            pcpu.cycle = when
            return
    if pcpu.interrupt_at <= now:
        host_interrupt_seen(m, p)  # a kick or reschedule that the host code has already seen to
    sync_at_entry(m, v)
    record(m, now, KVM_ENTRY, p, v, 0, 0, vcpu.in_spin_loop)
    if vcpu.exited_at >= 0:
        time_exit(m, v, vcpu.exit_reason, now - vcpu.exited_at)
    forget_ipis(m, v)
    tell(m, ON_ENTRY, v, -1, 0, now)
    vcpu.ipi_any = 0
    vcpu.entered_at = now
    load_pause_controls(cpu, vcpu.ple_window)
    vcpu.guest_from = now + m.cost[0].entry
    arm(m, p, vcpu.guest_from)
    go(m, p, GUEST, vcpu.guest_from)


@compiled
def end_thread(m, p, now):
    """guest_main has returned: the vCPU's thread exits."""
    vcpu = m.vcpu[m.pcpu[p].vcpu]
    vcpu.guest_cycles += now - vcpu.guest_from
    end_of_thread(m, m.pcpu[p].vcpu, now)
    m.task[m.pcpu[p].vcpu].state = TASK_DEAD
    schedule(m, p, STATE_DEAD, now)


@compiled
def leave_open_intervals(m):
    """The run is over: count what was still going on."""
    end = m.run[0].until
    for p in range(m.pcpu.shape[0]):
        account(m, p, end)
        if m.pcpu[p].phase == GUEST:
            v = m.pcpu[p].vcpu
            if is_waiting(m, v):
                count_spin(m, v, end)
            m.vcpu[v].guest_cycles += max(end - m.vcpu[v].guest_from, 0)
    for v in range(m.vcpu.shape[0]):
        finish_run(m, v)
