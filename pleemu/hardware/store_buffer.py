"""The store buffer of x86-TSO: stores wait in order until their line is there.

    a store        goes into the buffer; if it is full, the instruction waits
    a load         sees the newest store of its own that holds all its bytes; a store that
                   holds some of them must first reach memory (no forwarding is possible)
    the buffer     commits its oldest store when the pCPU alone holds the line: at the
                   earliest in the cycle after the instruction, one a cycle
    LOCK, MFENCE, serialising instructions, interrupts and VM exits wait until it is empty

Owens, Sarkar, Sewell, "A Better x86 Memory Model: x86-TSO", 2009; SDM 3A 9.2 and 12.10 (when the buffer
is drained). A line is asked for when its store is the oldest: one request at a time.

Waiting is to leave `execute` and to come back at the cycle given, with nothing changed: the
instruction begins again. A buffer belongs to a pCPU; no vCPU leaves its guest before it is empty.
"""

from pleemu.hardware.cache import LINE_SHIFT, arrive, ask, may_read, may_write, promise
from pleemu.hardware.memory import load, mask_of, store
from pleemu.hardware.records import BUFFER_LIMIT, NEVER
from pleemu.hardware.spin import is_spun_on, wake_spinners
from pleemu.jit import compiled


@compiled
def fetch(m, p, byte, size, now):
    """Load ``size`` bytes: (the value, ``now``), or (0, the cycle at which to try again)."""
    pcpu = m.pcpu[p]
    for back in range(pcpu.buffered - 1, -1, -1):
        entry = m.buffer[p, (pcpu.oldest + back) % BUFFER_LIMIT]
        if entry.byte < byte + size and byte < entry.byte + entry.width:
            if entry.byte <= byte and byte + size <= entry.byte + entry.width:
                skipped = byte - entry.byte
                value = entry.value
                if skipped > 0:
                    value = (value >> (skipped * 8)) & mask_of(8 - skipped)
                return value & mask_of(size), now
            return 0, pcpu.commit_at
    if not may_read(m.holders, pcpu.word, pcpu.bit, byte, size):
        if pcpu.promised == 1 and lacks_line_of(m, p, m.buffer[p, pcpu.oldest], byte, size):
            return 0, pcpu.commit_at
        arrival = ask(m, p, byte, size, 0, now)
        if arrival > now:
            wait_for_line(pcpu, byte, size, 0, arrival)
            return 0, arrival
        arrive(m, p, byte, size, 0)
    return load(m.memory, 0, byte, size), now


@compiled
def lacks_line_of(m, p, entry, byte, size):
    """Is a line that these bytes lack on its way for a store?"""
    pcpu = m.pcpu[p]
    first, last = entry.byte >> LINE_SHIFT, (entry.byte + entry.width - 1) >> LINE_SHIFT
    for line in range(byte >> LINE_SHIFT, ((byte + size - 1) >> LINE_SHIFT) + 1):
        if first <= line <= last and not may_read(m.holders, pcpu.word, pcpu.bit, line << LINE_SHIFT, 1):
            return True
    return False


@compiled
def fetch_two(m, p, byte, other, size, now):
    """Load two operands, as CMPS does: (the values, ``now``), or (0, 0, when to try again).

    Where both lines are missing they are asked for together and come together: one
    that came first could be gone when the other comes, for ever.
    """
    pcpu = m.pcpu[p]
    value, when = fetch(m, p, byte, size, now)
    if when == now:
        second, when = fetch(m, p, other, size, now)
        if when == now:
            return value, second, now
        if pcpu.awaited_at == when:
            pcpu.awaited_too = byte
    elif pcpu.awaited_at == when and not may_read(m.holders, pcpu.word, pcpu.bit, other, size):
        arrival = ask(m, p, other, size, 0, now)
        pcpu.awaited_too = other
        pcpu.awaited_at = max(when, arrival)
        when = pcpu.awaited_at
    return 0, 0, when


@compiled
def take(m, p, byte, size, now):
    """Have these bytes alone, for a LOCKed instruction: ``now``, or the cycle at which to try again."""
    if may_write(m, p, byte, size):
        return now
    arrival = ask(m, p, byte, size, 1, now)
    if arrival > now:
        wait_for_line(m.pcpu[p], byte, size, 1, arrival)
        return arrival
    arrive(m, p, byte, size, 1)
    return now


@compiled
def wait_for_line(pcpu, byte, size, alone, arrival):
    """The instruction goes on when these bytes have arrived."""
    pcpu.awaited_byte = byte
    pcpu.awaited_size = size
    pcpu.awaited_alone = alone
    pcpu.awaited_at = arrival
    pcpu.awaited_too = -1


@compiled
def receive_line(m, p):
    """What the instruction waits for has arrived."""
    pcpu = m.pcpu[p]
    arrive(m, p, pcpu.awaited_byte, pcpu.awaited_size, pcpu.awaited_alone)
    if pcpu.awaited_too >= 0:
        arrive(m, p, pcpu.awaited_too, pcpu.awaited_size, 0)
    pcpu.awaited_at = NEVER


@compiled
def put(m, p, byte, size, value, now):
    """A store of the instruction at ``now`` enters the buffer, which has room."""
    pcpu = m.pcpu[p]
    entry = m.buffer[p, (pcpu.oldest + pcpu.buffered) % BUFFER_LIMIT]
    entry.byte = byte
    entry.width = size
    entry.value = value
    entry.at = now + 1
    pcpu.buffered += 1
    if pcpu.buffered == 1:
        prepare_commit(m, p, now, now)


@compiled
def prepare_commit(m, p, earliest, now):
    """When the oldest store will commit, at ``earliest`` or later; its line is asked for."""
    pcpu = m.pcpu[p]
    if pcpu.buffered == 0:
        pcpu.commit_at = NEVER
        return
    entry = m.buffer[p, pcpu.oldest]
    ready = max(earliest, entry.at)
    pcpu.promised = 0
    if not may_write(m, p, entry.byte, entry.width):
        ready = max(ready, ask(m, p, entry.byte, entry.width, 1, now))
        promise(m, entry.byte, entry.width, ready)
        pcpu.promised = 1
    pcpu.commit_at = ready


@compiled
def commit(m, p, now):
    """Commit the stores of pCPU ``p`` that are due at ``now``, in order.

    One that would take a line from somebody parked stays due: `make_way` comes first.
    """
    pcpu = m.pcpu[p]
    while pcpu.commit_at <= now:
        at = pcpu.commit_at
        entry = m.buffer[p, pcpu.oldest]
        if pcpu.promised == 1:
            if is_spun_on(m, entry.byte, entry.width):
                return
            arrive(m, p, entry.byte, entry.width, 1)
            pcpu.promised = 0
        elif not may_write(m, p, entry.byte, entry.width):
            prepare_commit(m, p, at, at)  # it was held when the store became the oldest, and has gone since
            continue
        commit_oldest(m, p)


@compiled
def commit_oldest(m, p):
    """The oldest store of pCPU ``p`` commits: it is due, and its line there."""
    pcpu = m.pcpu[p]
    at = pcpu.commit_at
    entry = m.buffer[p, pcpu.oldest]
    store(m.memory, 0, entry.byte, entry.width, entry.value)
    pcpu.oldest = (pcpu.oldest + 1) % BUFFER_LIMIT
    pcpu.buffered -= 1
    prepare_commit(m, p, at + 1, at)


@compiled
def make_way(m, p):
    """Unpark who reads the lines that pCPU ``p`` is about to take for itself; False if there is nobody."""
    pcpu = m.pcpu[p]
    found = False
    if pcpu.commit_at <= pcpu.cycle and pcpu.promised == 1:
        entry = m.buffer[p, pcpu.oldest]
        if is_spun_on(m, entry.byte, entry.width):
            wake_spinners(m, entry.byte, entry.width, pcpu.commit_at)
            found = True
    elif pcpu.awaited_at <= pcpu.cycle and pcpu.awaited_alone == 1:
        if is_spun_on(m, pcpu.awaited_byte, pcpu.awaited_size):
            wake_spinners(m, pcpu.awaited_byte, pcpu.awaited_size, pcpu.cycle)
            found = True
    return found
