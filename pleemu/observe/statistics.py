"""Counters kept during a run: exits, PAUSE exits in a row, boosts, the timeline."""

from pleemu.jit import compiled
from pleemu.observe.events import CAUSE_SHIFT, SCHED_MIGRATE
from pleemu.observe.journal import record
from pleemu.observe.records import LENGTH_BINS
from pleemu.observe.virtual_time import tell_virtual_time


@compiled
def count_exit(m, v, reason):
    """A kvm_exit."""
    m.exits[v, reason].count += 1


@compiled
def time_exit(m, v, reason, cycles):
    """The kvm_entry behind it, ``cycles`` later."""
    row = m.exits[v, reason]
    row.least = cycles if row.timed == 0 else min(row.least, cycles)
    row.most = max(row.most, cycles)
    row.timed += 1
    row.total += cycles


@compiled
def count_pause_exit(m, v, pc, now, guest_cycles, window, gap_cycles):
    """A PAUSE exit at ``pc`` continues the vCPU's run of exits or begins another."""
    m.pause_at[v, pc] += 1
    vcpu, cpu = m.vcpu[v], m.cpu[v]
    if vcpu.paused_at < 0:
        vcpu.paused_at = now
        vcpu.paused_after = cpu.pauses - cpu.loop_pauses_from
    vcpu.pausing_cycles += guest_cycles
    column = now // m.journal[0].column_cycles
    if column < m.pause_columns.shape[1]:
        m.pause_columns[v, column] += 1
    run = m.pause_run[v]
    if run.length > 0 and (run.pc != pc or now - run.last > gap_cycles):
        finish_run(m, v)
    if run.length == 0:
        run.vcpu = v
        run.pc = pc
        run.first = now
        run.number = vcpu.exit_number
        run.guest = 0
        run.first_window = window
    else:
        run.guest += guest_cycles
    run.length += 1
    run.last = now
    run.last_window = window


@compiled
def name_for_boost(m, v, boosted, now):
    """A directed yield that names ``v`` has been accepted; the first one since it last ran starts the clock."""
    vcpu = m.vcpu[v]
    if vcpu.named_at < 0:
        vcpu.named_at = now
        vcpu.named_class = boosted


@compiled
def time_boost(m, v, now):
    """The thread of ``v`` runs: how long that took since it was named."""
    vcpu = m.vcpu[v]
    if vcpu.named_at < 0:
        return
    row = m.boost[vcpu.vm, vcpu.named_class]
    waited = now - vcpu.named_at
    row.ran += 1
    row.waited += waited
    row.most = max(row.most, waited)
    vcpu.named_at = -1


@compiled
def finish_run(m, v):
    """The vCPU's run of exits is over: count it, and keep it if it is one of the longest."""
    run = m.pause_run[v]
    if run.length == 0:
        return
    bin_number = 0
    while run.length >> (bin_number + 1) > 0 and bin_number < LENGTH_BINS - 1:
        bin_number += 1
    m.run_lengths[bin_number] += 1
    if run.length > 1:
        m.continuous[0] += run.length
    # `longest` is sorted; among equals the earlier one stays.
    place = m.longest.shape[0]
    while place > 0 and m.longest[place - 1].length < run.length:
        place -= 1
    if place < m.longest.shape[0]:
        for k in range(m.longest.shape[0] - 1, place, -1):
            m.longest[k] = m.longest[k - 1]
        m.longest[place] = run
    run.length = 0


@compiled
def add_running(m, v, begin, end):
    """The thread of ``v`` was on a pCPU from cycle ``begin`` to ``end``."""
    width = m.journal[0].column_cycles
    columns = m.running_columns.shape[1]
    while begin < end:
        column = begin // width
        if column >= columns:
            return
        boundary = min((column + 1) * width, end)
        m.running_columns[v, column] += boundary - begin
        begin = boundary


@compiled
def count_migration(m, p, task, origin, destination, cause, now):
    """A thread is taken to another pCPU, on behalf of pCPU ``p``; those of the host are counted together."""
    tell_virtual_time(m, p, task, now)
    record(m, now, SCHED_MIGRATE, p, m.pcpu[p].vcpu, task, origin, destination | cause << CAUSE_SHIFT)
    owner = m.vcpu[task].vm if task < m.vcpu.shape[0] else m.vm.shape[0]
    m.migrations[owner, cause] += 1
