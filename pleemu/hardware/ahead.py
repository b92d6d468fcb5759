"""Running ahead of the others with memory, as far as nobody can tell.

A line that a pCPU holds it keeps for at least a transfer after anybody asks for it. So from the earliest
cycle of the others, ``horizon``, until a transfer later it may read what it holds, and write what it owns,
before they have come that far, unless somebody has asked already. Faults stay in order, since the first one
ends the run; so do probes, and all that is not in the cache.
"""

from pleemu.hardware.cache import LINE_SHIFT, LINE_SIZE
from pleemu.hardware.isa import AHEAD_CALL, AHEAD_PUSH, AHEAD_READ, AHEAD_RET, RSP
from pleemu.hardware.memory import STACK_SLOT, load, readable
from pleemu.hardware.records import BUFFER_LIMIT
from pleemu.hardware.store_buffer import commit_oldest
from pleemu.hardware.system import index_at
from pleemu.jit import compiled, inlined


@inlined
def is_left_alone(m, byte, size, writes, horizon):
    """Are these bytes in one line, and has nobody asked to write it, or, if this ``writes``, asked for it at all?"""
    line = m.line[byte >> LINE_SHIFT]
    asked = line.asked_until if writes else line.promised_until
    return asked < horizon and (byte & (LINE_SIZE - 1)) + size <= LINE_SIZE


@inlined
def keeps(m, pcpu, byte, size, horizon):
    """Does the pCPU hold these bytes, in one line, and has nobody asked to write them?"""
    held = m.holders[byte >> LINE_SHIFT, pcpu.word] & pcpu.bit != 0
    return held and is_left_alone(m, byte, size, False, horizon)


@inlined
def keeps_alone(m, p, byte, size, horizon):
    """Does pCPU ``p`` own these bytes, in one line, and has nobody asked for them?"""
    return m.line[byte >> LINE_SHIFT].owner == p + 1 and is_left_alone(m, byte, size, True, horizon)


@inlined
def is_common(cpu, space, offset):
    """Is it not the stack of another vCPU, which gets the frames of its interrupts without anybody asking?"""
    return offset < space.stacks or (space.bytes - 1 - offset) // STACK_SLOT == cpu.apic_id


@compiled
def may_go_ahead(m, p, cpu, i, now, horizon):
    """Can the instruction ``i``, which others could see, be executed before them all the same?"""
    pcpu, space, registers = m.pcpu[p], m.space[cpu.space], cpu.registers
    if i.ahead == 0 or not commit_ahead(m, p, now, horizon):
        return False
    first = space.first_word * 8
    if i.access_size != 0:
        size = i.access_size
        address = registers[i.base_register] + registers[i.index_register] * i.scale + i.displacement
        offset = readable(space, address, size)
        if offset < 0 or not is_common(cpu, space, offset):
            return False
        if i.ahead == AHEAD_READ:
            return pcpu.buffered == 0 and keeps(m, pcpu, first + offset, size, horizon)
        return (
            offset >= space.readonly_size
            and (cpu.watched == 0 or i.locked == 0)
            and (pcpu.buffered == 0 or (i.locked == 0 and i.reads == 0 and pcpu.buffered < m.timing[0].store_buffer))
            and keeps_alone(m, p, first + offset, size, horizon)
        )
    size = 8 if i.ahead == AHEAD_CALL or i.ahead == AHEAD_RET else i.width
    if i.ahead == AHEAD_PUSH or i.ahead == AHEAD_CALL:
        offset = readable(space, registers[RSP] - size, size)
        return (
            offset >= space.readonly_size
            and is_common(cpu, space, offset)
            and pcpu.buffered < m.timing[0].store_buffer
            and keeps_alone(m, p, first + offset, size, horizon)
        )
    offset = readable(space, registers[RSP], size)
    if offset < 0 or pcpu.buffered > 0 or not is_common(cpu, space, offset):
        return False
    if i.ahead == AHEAD_RET and index_at(m, space, load(m.memory, 0, first + offset, 8)) < 0:
        return False
    return keeps(m, pcpu, first + offset, size, horizon)


@compiled
def commit_ahead(m, p, now, horizon):
    """Commit what is due at ``now`` if nobody can tell; False if something is left that is."""
    pcpu = m.pcpu[p]
    while pcpu.commit_at <= now:
        entry = m.buffer[p, pcpu.oldest]
        if pcpu.promised == 1 or not keeps_alone(m, p, entry.byte, entry.width, horizon):
            return False
        if pcpu.buffered > 1:
            following = m.buffer[p, (pcpu.oldest + 1) % BUFFER_LIMIT]
            if not keeps_alone(m, p, following.byte, following.width, horizon):
                return False  # its line would be asked for
        commit_oldest(m, p)
    return True
