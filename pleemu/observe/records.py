"""What a run counts while it goes: nothing here is read by guest, hypervisor or scheduler."""

import numpy as np

JOURNAL = np.dtype(
    [
        ("digest", "i8"),    # over all events so far
        ("recording", "i8"),  # 1: events are kept, too
        ("recorded", "i8"),  # events in the buffer
        ("column_cycles", "i8"),  # width of a column of the timeline
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
