"""What a run counts while it goes, and the ground truth of who waits for whom.

Nothing here is read by guest, hypervisor or scheduler.
"""

import numpy as np

JOURNAL = np.dtype(
    [
        ("digest", "i8"),    # over all events so far
        ("recording", "i8"),  # 1: events are kept, too
        ("recorded", "i8"),  # events in the buffer
        ("column_cycles", "i8"),  # width of a column of the timeline
        ("telling", "i8"),   # 1: PAUSE exits are told, too (TALE)
        ("told", "i8"),      # rows in that buffer
        ("pause_exits", "i8"),  # so far; the number of an exit, from 1
        ("stamp", "i8"),     # number of the latest closure, see `machine.frontier`
    ],
    align=True,
)

# Exits of one vCPU for one reason; those that have come to an entry are timed, from kvm_exit to kvm_entry.
EXITS = np.dtype([("count", "i8"), ("timed", "i8"), ("total", "i8"), ("least", "i8"), ("most", "i8")], align=True)

# PAUSE exits in a row: same vCPU, same instruction, at most 1 ms apart. One record is the
# run that a vCPU is in, others are the longest runs so far.
PAUSE_RUN = np.dtype(
    [
        ("vcpu", "i8"),
        ("pc", "i8"),
        ("length", "i8"),  # 0: none
        ("first", "i8"),   # kvm_exit of its first exit, in cycles
        ("last", "i8"),
        ("guest", "i8"),   # sum of kvm_entry -> kvm_exit over all but the first exit
        ("first_window", "i8"),
        ("last_window", "i8"),
        ("number", "i8"),  # of its first exit
    ],
    align=True,
)
RUN_GAP_NS = 1_000_000
LENGTH_BINS = 32  # run lengths by powers of two

# Why a thread is taken to another pCPU; where it begins is not a migration.
MIGRATE_WAKEUP, MIGRATE_NEW_IDLE, MIGRATE_IDLE, MIGRATE_BUSY, MIGRATE_ACTIVE = range(5)
MIGRATIONS = ("wake-up", "new idle", "idle", "busy", "active")

# Directed yields, by what the nominated vCPU was.
BOOST_KERNEL, BOOST_USER, BOOST_WOKEN = range(3)
BOOST_CLASSES = ("preempted in kernel mode", "preempted in user mode", "woken, not yet run")
BOOST = np.dtype(
    [
        ("attempts", "i8"),
        ("accepted", "i8"),
        ("honoured", "i8"),
        # from the first accepted yield that named a vCPU until its thread ran, in cycles
        ("ran", "i8"),     # how many of those waits ended
        ("waited", "i8"),  # their sum
        ("most", "i8"),    # the longest one
    ],
    align=True,
)

# Of each thread: its virtual time as last told (STAT_RUNTIME).
TOLD_TIME = np.dtype([("vruntime", "i8"), ("sum_exec_runtime", "i8")], align=True)

# ---- Who waits for whom, from the guests' probes (see `waits`) ----------------------------------

WAIT_DEPTH = 4  # waits of one vCPU at once: an interrupt handler may wait for a lock of its own
WAYS = 16       # places that a lock may have in the table of locks

# Of each vCPU. The innermost wait for a lock is the last one.
WAITING = np.dtype(
    [
        ("depth", "i8"),         # waits for locks; those beyond WAIT_DEPTH are only counted
        ("lock", "i8", (WAIT_DEPTH,)),     # index into the table of locks
        ("place", "i8", (WAIT_DEPTH,)),    # of the outer ones: `cpu.place` when the next one began
        ("handling", "i8", (WAIT_DEPTH,)),  # 1: began in an interrupt handler
        ("shared", "i8", (WAIT_DEPTH,)),   # 1: together with others that share it
        ("answers", "i8"),       # acknowledgements that it waits for
        ("holds", "i8"),         # locks that it has, barriers not counted
        ("probes", "i8"),        # that it has passed
        ("ended", "i8"),         # 1: guest_main has returned
        # until its next probe: a wait that another vCPU has ended, and that it may not have noticed
        ("over", "i8"),          # WAITS_*, 0 none
        ("over_at", "i8"),       # address of the barrier
        # of the wait that it is in: from no wait at all until there is none again
        ("exit", "i8"),          # number of its latest PAUSE exit
        ("first_exit", "i8"),    # cycle of its first PAUSE exit, -1 none yet
        ("unmoved_from", "i8"),  # cycle of the first exit since which what it waits for has not moved, -1 none
        ("unmoved_lock", "i8"),  # which lock that is, -1 an acknowledgement
        ("useful_from", "i8"),   # cycle of the first exit since which nobody useful has run, -1 none
        # time in the guest while it waits
        ("spin_from", "i8"),
        ("spin_cycles", "i8"),
        # the latest closure that it belongs to
        ("stamp", "i8"),
        ("mark", "i8"),          # see `machine.frontier`
    ],
    align=True,
)

LOCK = np.dtype(
    [
        ("vm", "i8"),
        ("address", "i8"),
        ("used", "i8"),      # 0: this row is free
        ("holders", "i8"),   # how many hold it; which ones: `holding`
        ("waiters", "i8"),   # how many wait for it
        ("in_order", "i8"),  # 1: it serves in the order in which the waiters took their places
        ("barrier", "i8"),   # 1: a barrier, whose holders have yet to arrive
        ("watched", "i8"),   # waits for it with `unmoved_from`
    ],
    align=True,
)

# ---- What became of PAUSE exits (see `machine.decisions`) ---------------------------------------

# The ground truth of a nomination. UNKNOWN: the probes do not say that the spinner waits for anything.
USEFUL, WASTED, IRRELEVANT, NOBODY, UNKNOWN = range(5)
VERDICTS = ("useful", "wasted", "irrelevant", "nobody", "unknown")
RULE_LIMIT = 64

# Of each VM.
JUDGED = np.dtype(
    [
        ("verdict", "i8", (len(VERDICTS),)),  # PAUSE exits by verdict
        ("first", "i8", (len(VERDICTS),)),    # number of the first one, 0 none
        ("useful_possible", "i8"),  # exits with somebody useful to boost
        ("hand_overs", "i8"),       # somebody useful to a spinner ran after its exit,
        ("ran_after", "i8"),        # in cycles from the first such exit, their sum
        ("ran_most", "i8"),
        ("releases", "i8"),         # what a spinner waited for moved after its exit,
        ("released_after", "i8"),   # in cycles from its first exit, their sum
        ("released_most", "i8"),
    ],
    align=True,
)

# ---- What PAUSE exits waited for, and why (see `machine.attribution`) -----------------------------

WAITS_UNKNOWN, WAITS_FOR_LOCK, WAITS_TO_SHARE, WAITS_FOR_ANSWER, WAITS_AT_BARRIER = range(5)
WAITS = ("unknown", "lock", "shared lock", "answer", "barrier")

# In the order in which they count where there are several.
(
    HOLDER_PREEMPTED, WAITER_PREEMPTED, TARGET_PREEMPTED, ABSENT, RUNS, HALTED, NOBODY_CAN_ACT, OWN_TURN,
    UNKNOWN_CAUSE,
) = range(9)
CAUSES = (
    "holder preempted", "waiter preempted", "target preempted", "absent", "running", "halted", "nobody can act",
    "own turn", "unknown",
)  # fmt: skip

PLACES = 4096      # rows of the table, a last one behind them takes what finds no room
PLACES_TRIED = 32  # from where its key points to
ATTRIBUTED = np.dtype(
    [
        ("vm", "i8"),
        ("pc", "i8"),       # index into `code` of the PAUSE
        ("wait", "i8"),     # WAITS_*
        ("address", "i8"),  # of the lock or barrier
        ("exits", "i8"),    # 0: this row is free
        ("cause", "i8", (len(CAUSES),)),  # of these, by cause
    ],
    align=True,
)

# Of each rule: whom it refused, and how many of these would have been useful.
REFUSAL = np.dtype([("count", "i8"), ("useful", "i8")], align=True)

# A PAUSE exit is told in several rows, some much later than others.
#
#   kind          vcpu       a                        b                       c
#   TOLD_EXIT     spinner    index of its instruction  pCPU                   when its wait's first exit was
#   TOLD_LOCK     spinner    address of the lock       holders                in order: 1, shared: 2, barrier: 4
#   TOLD_HOLDER   spinner    who holds it              1: it is on a pCPU     it waits itself: 1
#   TOLD_ANSWER   spinner    whose answer it awaits    1: it is on a pCPU     0
#   TOLD_SINK     spinner    who can act               1: runnable, off pCPU  it is on a pCPU: 1
#   TOLD_LOOK     spinner    candidate                 rule that refused      round
#   TOLD_ASK      spinner    target                    yield_to's answer      its pCPU
#   TOLD_VERDICT  spinner    verdict                   useful ones            target, -1 none
#   TOLD_PICK     spinner    who runs next, -1 idle    pCPU                   1: where the target is queued
#   TOLD_WHY      spinner    how far the target is     how far it may be      HINT_*: see `scheduler.distance`
#   TOLD_RAN      spinner    who of the useful ones    pCPU                   0
#   TOLD_MOVED    spinner    who did it                probe                  0
#   TOLD_OVER     spinner    0                         0                      0      the wait is over
#
# `number` is the exit's; of TOLD_RAN, TOLD_MOVED and TOLD_OVER the spinner's latest one: they concern all of its
# exits for which the same has not been told yet.
(
    TOLD_EXIT, TOLD_LOCK, TOLD_HOLDER, TOLD_ANSWER, TOLD_SINK, TOLD_LOOK, TOLD_ASK, TOLD_VERDICT, TOLD_PICK,
    TOLD_WHY, TOLD_RAN, TOLD_MOVED, TOLD_OVER,
) = range(13)

TALE = np.dtype(
    [
        ("number", "i8"),
        ("kind", "i8"),
        ("cycle", "i8"),
        ("vcpu", "i8"),
        ("a", "i8"),
        ("b", "i8"),
        ("c", "i8"),
    ],
    align=True,
)

# Of each pCPU: the latest exits whose stories its next pick is part of, and its vCPU's.
ASKED = np.dtype(
    [
        ("left_by", "i8"),  # number of the exit whose spinner gave way here, 0 none
        ("spinner", "i8"),
        ("named_by", "i8"),  # number of the exit that named somebody of this pCPU, 0 none
        ("namer", "i8"),
        ("target", "i8"),
    ],
    align=True,
)
