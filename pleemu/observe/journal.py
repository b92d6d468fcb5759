"""The journal: each event enters the digest and, if somebody wants them, the buffer."""

from pleemu.jit import compiled

# Odd 64-bit constants of a multiply-and-shift hash; any would do, but changing them changes all digests.
SEED = 0x2545F4914F6CDD1D
FACTOR = 0x1B873593CC9E2D51


@compiled
def mix(digest, value):
    """Take one number into a 64-bit digest."""
    digest = (digest ^ value) * FACTOR
    return digest ^ ((digest >> 32) & 0xFFFFFFFF)


@compiled
def record(m, now, kind, pcpu, vcpu, a, b, c):
    """An event happens. See `events` for what a, b and c are."""
    journal = m.journal[0]
    digest = mix(journal.digest, now)
    digest = mix(digest, kind | (pcpu << 8) | (vcpu << 32))
    digest = mix(digest, a)
    digest = mix(digest, b)
    journal.digest = mix(digest, c)
    if journal.recording == 1:
        event = m.event[journal.recorded]
        event.cycle = now
        event.kind = kind
        event.pcpu = pcpu
        event.vcpu = vcpu
        event.a = a
        event.b = b
        event.c = c
        journal.recorded += 1
