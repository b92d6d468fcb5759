"""A thread is woken, be it a vCPU's or one of the host, and the pCPU that shall run it gets to know."""

from pleemu.hardware.clock import cycles_to_ns
from pleemu.hardware.interrupts import send_host_interrupt
from pleemu.hypervisor.halt_poll import poll_sees
from pleemu.hypervisor.run_delay import begin_run_delay
from pleemu.jit import compiled
from pleemu.observe.events import SCHED_WAKEUP
from pleemu.observe.journal import record
from pleemu.observe.records import MIGRATE_WAKEUP
from pleemu.observe.statistics import count_migration
from pleemu.observe.virtual_time import tell_arrival
from pleemu.scheduler.core import wake_up_process


@compiled
def wake_thread(m, p, task, now):
    """A sleeping thread is woken by pCPU ``p``, perhaps on another than it slept on."""
    slept_on = m.task[task].cpu
    home = wake_up_process(m, p, task, cycles_to_ns(m.clock[0], now))
    begin_run_delay(m, task, now)
    if home != slept_on:
        count_migration(m, p, task, slept_on, home, MIGRATE_WAKEUP, now)
    tell_arrival(m, p, home, task, now)
    record(m, now, SCHED_WAKEUP, p, m.pcpu[p].vcpu, task, home, 0)
    if home != p:
        if m.rq[home].need_resched == 1:
            send_host_interrupt(m, home, now + m.cost[0].ipi)
        poll_sees(m, home, now + 1)
