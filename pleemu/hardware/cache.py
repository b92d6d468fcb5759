"""Cache lines: who holds one, who wrote it last, and what it takes to get it.

A pCPU reads a line that it holds, and writes one that it alone holds, at once (MESI; SDM 3A
12.4). For all else it asks, and goes on when the line has arrived: a transfer after it asked, or
after the writer before it got it. Until then the line is where it was.

    the others hold it          to read           to write
    nobody has written it       at once           a transfer: theirs are invalidated
    one of them alone           a transfer        a transfer
    some of them                a transfer        a transfer
    nobody holds it             at once           at once

What costs is communication. Caches are taken as large enough: a line is lost to a writer only,
and the first fetch from memory is free. The transfer is from within the LLC's domain if a
holder is there (to write: if all holders are), otherwise from far.
"""

from pleemu.jit import compiled, inlined

LINE_SHIFT = 6
LINE_SIZE = 1 << LINE_SHIFT


@inlined
def may_read(holders, word, bit, byte, size):
    """Does the pCPU with this place in the sets hold the line, or both, in which ``size`` bytes at ``byte`` lie?"""
    return (holders[byte >> LINE_SHIFT, word] & bit) != 0 and (
        (byte & (LINE_SIZE - 1)) + size <= LINE_SIZE or (holders[(byte + size - 1) >> LINE_SHIFT, word] & bit) != 0
    )


@inlined
def may_write(m, p, byte, size):
    """Does pCPU ``p`` alone hold the line, or both, in which ``size`` bytes at ``byte`` lie?"""
    return m.line[byte >> LINE_SHIFT].owner == p + 1 and (
        (byte & (LINE_SIZE - 1)) + size <= LINE_SIZE or m.line[(byte + size - 1) >> LINE_SHIFT].owner == p + 1
    )


@compiled
def ask(m, p, byte, size, alone, now):
    """Ask for the lines of ``size`` bytes at ``byte``; return when they are there, ``now`` if at once."""
    first, last = byte >> LINE_SHIFT, (byte + size - 1) >> LINE_SHIFT
    arrival = arrival_of(m, p, first, alone, now)
    if last != first:
        arrival = max(arrival, arrival_of(m, p, last, alone, now))
    m.line[first].asked_until = max(m.line[first].asked_until, arrival)
    m.line[last].asked_until = max(m.line[last].asked_until, arrival)
    if alone == 1:
        promise(m, byte, size, arrival)
    return arrival


@compiled
def promise(m, byte, size, arrival):
    """From ``arrival`` on these lines are a new writer's: whoever asks from now on comes after it."""
    first, last = byte >> LINE_SHIFT, (byte + size - 1) >> LINE_SHIFT
    for number in range(first, last + 1):
        line = m.line[number]
        line.promised_until = arrival
        line.asked_until = max(line.asked_until, arrival)


@compiled
def arrival_of(m, p, number, alone, now):
    """When a line can be at pCPU ``p``."""
    line, pcpu = m.line[number], m.pcpu[p]
    held = m.holders[number, pcpu.word] & pcpu.bit
    near, far = 0, 0
    for word in range(m.holders.shape[1]):
        others = m.holders[number, word]
        if word == pcpu.word:
            others &= ~pcpu.bit
        near |= others & m.domain[p, word]
        far |= others & ~m.domain[p, word]
    from_now = max(now, line.promised_until)
    if alone == 1:
        if near == 0 and far == 0 and from_now == now:
            return now
        return from_now + (m.timing[0].transfer if far == 0 else m.timing[0].far_transfer)
    if (held != 0 or line.written == 0 or (near == 0 and far == 0)) and from_now == now:
        return now
    return from_now + (m.timing[0].transfer if near != 0 else m.timing[0].far_transfer)


@compiled
def arrive(m, p, byte, size, alone):
    """The lines of ``size`` bytes at ``byte`` are there: held by pCPU ``p``, alone or with others."""
    for number in range(byte >> LINE_SHIFT, ((byte + size - 1) >> LINE_SHIFT) + 1):
        line, pcpu = m.line[number], m.pcpu[p]
        if alone == 1:
            for word in range(m.holders.shape[1]):
                m.holders[number, word] = 0
            line.owner = p + 1
            line.written = 1
        elif line.owner != p + 1:
            line.owner = 0
        m.holders[number, pcpu.word] |= pcpu.bit
