"""All state of one machine, held together by one named tuple of record arrays.

Index letters: v vCPU (through all VMs), t thread of the host, p pCPU, j VM.
The task of vCPU v is task v; those of the host's own threads come behind: thread t is task vCPUs + t.
"""

from typing import NamedTuple

import numpy as np

BIRTH = np.dtype([("cycle", "i8"), ("task", "i8")], align=True)

THREAD = np.dtype(
    [
        ("left", "i8"),            # cycles of its burst that are still to do
        ("computing_from", "i8"),  # since when they are counted
        ("timer_at", "i8"),        # wakes it at this cycle, NEVER if it is awake
        ("timer_cpu", "i8"),       # on this pCPU
        # constant
        ("busy", "i8"),            # cycles of a burst, NEVER: without an end
        ("period_ns", "i8"),
        ("born", "i8"),            # cycle at which it starts
        # statistics
        ("bursts", "i8"),          # finished
        ("thread_cycles", "i8"),   # it was current on a pCPU
    ],
    align=True,
)

RUN = np.dtype(
    [
        ("started", "i8"),     # threads that exist so far, in the order of `births`
        ("next_birth", "i8"),  # cycle at which the next one starts, NEVER if there is none
        ("until", "i8"),       # the run ends at this cycle
        ("run_gap", "i8"),     # cycles between PAUSE exits that still belong together
        ("tick_hz", "i8"),
        ("room", "i8"),        # events that fit into the buffer before a step must not begin
        ("tale_room", "i8"),   # and rows of the tale
        ("ahead", "i8"),       # 1: memory may be used before the others have come that far (`hardware.ahead`)
        ("progress", "i8"),    # return to Python at this cycle, to show progress
    ],
    align=True,
)


class Machine(NamedTuple):
    """The records of every room; see `records.py` of each."""

    # hardware
    pcpu: np.recarray  # [p]
    due: np.ndarray  # [p, and as many as make a power of two] see `agenda`
    winner: np.ndarray  # [node]
    cpu: np.recarray  # [v]
    space: np.recarray  # [j]
    code: np.recarray  # instruction tables of all programs
    index_of: np.ndarray  # code byte -> index into `code` of what begins there, of all VMs; see `protection`
    vectors: np.ndarray  # [j, 256] index into `code` of the handler, -1 none
    memory: np.ndarray  # 64-bit words of all VMs
    line: np.recarray  # [line of memory]
    holders: np.ndarray  # [line of memory, word] set of pCPUs that hold it
    domain: np.ndarray  # [p, word] set of pCPUs that share p's last-level cache
    buffer: np.recarray  # [p, place] store buffers
    spin: np.recarray  # [p]
    timing: np.recarray  # [1]
    clock: np.recarray  # [1]
    fault: np.recarray  # [1]
    # scheduler
    task: np.recarray  # [v and t]
    rq: np.recarray  # [p]
    tunables: np.recarray  # [1]
    preemption: np.recarray  # [p]
    draw: np.recarray  # [1]
    given: np.recarray  # preemption points that the scenario gives, in the order of pCPU and cycle
    made: np.recarray  # [buffer] those that had an effect, in the order in which they had it
    allowed: np.ndarray  # [v, word] set of pCPUs that the task may run on
    placement: np.recarray  # [v, then p: the idle task]
    balance: np.recarray  # [p]
    balancer: np.recarray  # [1]
    sd: np.recarray  # [p, level] scheduling domains, from the lowest on
    sg: np.recarray  # [3] groups that a balancing pass compares
    lb_env: np.recarray  # [1]
    # hypervisor
    vcpu: np.recarray  # [v]
    pv: np.recarray  # [v]
    vm: np.recarray  # [j]
    kvm: np.recarray  # [1]
    cost: np.recarray  # [1]
    # observation
    journal: np.recarray  # [1]
    event: np.recarray  # [buffer]
    exits: np.recarray  # [v, reason]
    pause_at: np.ndarray  # [v, index into `code`] PAUSE exits
    pause_run: np.recarray  # [v] the run that each vCPU is in
    longest: np.recarray  # the longest runs, longest first
    run_lengths: np.ndarray  # number of runs, by powers of two
    continuous: np.ndarray  # [1] exits that belong to a run of two or more
    boost: np.recarray  # [j, class]
    migrations: np.ndarray  # [j, cause]
    told_time: np.recarray  # [v and t]
    pause_columns: np.ndarray  # [v, column]
    running_columns: np.ndarray  # [v and t, column]
    # ground truth; sets of vCPUs are bits by vcpu_id, 64 a word
    waiting: np.recarray  # [v]
    lock: np.recarray  # the table of locks
    holding: np.ndarray  # [lock, word] who holds it
    sharing: np.ndarray  # [lock, word] of these, who shares it
    awaited: np.ndarray  # [v, word] whose answers it awaits
    answered: np.ndarray  # [v, word] who has answered and was not awaited
    wanted: np.ndarray  # [v, word] who was useful to it at its latest PAUSE exit
    todo: np.ndarray  # [v] scratch of a closure
    judged: np.recarray  # [j]
    attributed: np.recarray  # PAUSE exits by place and wait
    waiter_at: np.ndarray  # [j, index into `code`] PAUSE exits for whom the preempted next waiter stood there
    refusals: np.recarray  # [rule]
    asked: np.recarray  # [p]
    tale: np.recarray  # [buffer]
    # the run
    thread: np.recarray  # [t] threads of the host beside the vCPUs'
    births: np.recarray  # [v and t] when the threads start, in order
    run: np.recarray  # [1]
