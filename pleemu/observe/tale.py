"""The tale of PAUSE exits, for whoever asks: rows of the buffer that Python empties."""

from pleemu.jit import compiled


@compiled
def tell(m, number, kind, now, vcpu, a, b, c):
    """One row about exit ``number``, if anybody wants to know. See `records.TALE` for what a, b and c are."""
    journal = m.journal[0]
    if journal.telling == 0:
        return
    row = m.tale[journal.told]
    row.number = number
    row.kind = kind
    row.cycle = now
    row.vcpu = vcpu
    row.a = a
    row.b = b
    row.c = c
    journal.told += 1
