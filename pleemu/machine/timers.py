"""What interrupts a pCPU of the host: IPIs, the timers of its sleeping threads, and its tick."""

from pleemu.hardware.clock import cycles_to_ns
from pleemu.hardware.records import NEVER
from pleemu.hypervisor.sleep import host_interrupt, host_interrupt_seen
from pleemu.hypervisor.wake_up import wake_thread
from pleemu.jit import compiled, inlined
from pleemu.observe.virtual_time import tell_virtual_time
from pleemu.scheduler.balance import trigger_load_balance
from pleemu.scheduler.core import scheduler_tick


@inlined
def next_host_interrupt(pcpu):
    """The cycle at which this pCPU is interrupted, NEVER if nothing is on its way."""
    return min(pcpu.next_tick, pcpu.interrupt_at, pcpu.timer_at)


@compiled
def take_host_interrupts(m, p, now):
    """Serve all interrupts that have arrived; returns the cycles of what they make the host do."""
    pcpu, cost = m.pcpu[p], m.cost[0]
    spent = host_interrupt(m, p, now) * cost.wakeup
    if pcpu.interrupt_at <= now:
        host_interrupt_seen(m, p)
    if pcpu.timer_at <= now:
        spent += expire_timers(m, p, now) * cost.wakeup
    if pcpu.next_tick <= now:
        handle_tick(m, p, now)
        spent += cost.tick
    return spent


@compiled
def interrupt_host_code(m, p, now):
    """As `take_host_interrupts`, if there are any, where the pCPU executes what can be interrupted; the cycles of all.

    The tick's cost is that of its timer interrupt, too.
    """
    pcpu = m.pcpu[p]
    if next_host_interrupt(pcpu) > now:
        return 0
    entry = m.cost[0].interrupt_handler if min(pcpu.interrupt_at, pcpu.timer_at) <= now else 0
    return entry + take_host_interrupts(m, p, now)


@compiled
def expire_timers(m, p, now):
    """The timer of one or more threads that went to sleep on this pCPU: wake them; returns their number."""
    vcpus = m.vcpu.shape[0]
    pcpu = m.pcpu[p]
    pcpu.timer_at = NEVER
    woken = 0
    for t in range(m.thread.shape[0]):
        thread = m.thread[t]
        if thread.timer_cpu != p:
            continue
        if thread.timer_at <= now:
            thread.timer_at = NEVER
            thread.left = thread.busy
            wake_thread(m, p, vcpus + t, now)
            woken += 1
        else:
            pcpu.timer_at = min(pcpu.timer_at, thread.timer_at)
    return woken


@compiled
def handle_tick(m, p, now):
    """scheduler_tick, and the load balancing that it sets off."""
    scheduler_tick(m, p, cycles_to_ns(m.clock[0], now))
    tell_virtual_time(m, p, m.pcpu[p].vcpu, now)
    trigger_load_balance(m, p, now)
    set_next_tick(m, p, now)


@compiled
def set_next_tick(m, p, now):
    """The first tick after ``now``; tick k is at k / HZ seconds, on all pCPUs in phase unless they are skewed."""
    pcpu = m.pcpu[p]
    hertz = m.clock[0].core_khz * 1000
    while pcpu.next_tick <= now:
        pcpu.ticks += 1
        pcpu.next_tick = (
            pcpu.tick_offset
            + pcpu.ticks // m.run[0].tick_hz * hertz
            + pcpu.ticks % m.run[0].tick_hz * hertz // m.run[0].tick_hz
        )
