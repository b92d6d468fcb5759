"""Skipping: what a loop will do for a while is known, so it need not be executed.

    watch     after a few backward branches: is the vCPU, at some later one to the same place, in the same
              state, with nothing stored, nothing told, and all loads from lines that it holds? Or in one that
              differs in a counter alone (`counted`)?
    park      then it repeats itself until a line that it reads is lost to a writer, an interrupt arrives, or
              a PAUSE exits. The pCPU does its next thing where the last whole turn before all that ends.
    unpark    add up the turns that have passed. From there on it is executed again.

So whatever happens is executed; only turns in which nothing does are added up. Who takes a line that
somebody parked reads must first let it come up to that moment: it is unparked, and the writer's turn comes
again after it has (`wake_spinners`). A `work` probe is parked likewise: a loop of one cycle.
"""

from pleemu.hardware import isa as OP
from pleemu.hardware.agenda import reschedule
from pleemu.hardware.cache import LINE_SHIFT, may_read
from pleemu.hardware.clock import cycles_to_tsc
from pleemu.hardware.counted import NO_COUNTER, count, find_counter, turns_until_zero
from pleemu.hardware.isa import REGISTERS
from pleemu.hardware.records import NEVER, SPUN_LINES
from pleemu.jit import compiled, inlined

# spin.parked
NOT_PARKED, IN_LOOP, AT_WORK = range(3)

# What becomes of a watch.
GIVEN_UP, GOES_ON, REPEATS = range(3)

# Backward branches before the first watch, and instructions that it takes at most. A watch in vain doubles
# both, up to these: then it costs less than one instruction in a hundred.
SOON, SHORT = 4, 64
LATE, LONG = 1 << 14, 1 << 9

# How PAUSEs relate to the counters of the hardware.
UNSEEN, JOINED, APART, MIXED = range(4)


@compiled
def start_afresh(m, p):
    """Something has happened on pCPU ``p``: what follows is another loop, and worth a watch soon."""
    spin = m.spin[p]
    spin.watching = 0
    if spin.active == 1:
        spin.patience = spin.wait = SOON
        spin.effort = SHORT


@compiled
def begin_watch(m, p, v, head, now, instructions):
    """Remember the state at ``head``, to which a branch goes back; returns 1 if the watch has begun."""
    spin, cpu = m.spin[p], m.cpu[v]
    if m.pcpu[p].buffered > 0:
        spin.patience = SOON
        return 0
    spin.watching = 1
    spin.head = head
    spin.head_cycle = now
    spin.head_instructions = instructions
    spin.head_pauses = cpu.pauses
    for number in range(REGISTERS):
        spin.registers[number] = cpu.registers[number]
    spin.flag_result = cpu.flag_result
    spin.flag_carry = cpu.flag_carry
    spin.first_pause = -1
    spin.narrowest = NEVER
    spin.widest = 0
    spin.lines = 0
    return 1


@compiled
def give_up(spin):
    """Watch again later, and longer."""
    spin.watching = 0
    spin.patience = spin.wait
    spin.wait = min(spin.wait * 2, LATE)
    spin.effort = min(spin.effort * 2, LONG)
    return GIVEN_UP


@compiled
def watch(m, p, v, pc, byte, following, now, instructions):
    """Look at the instruction at ``pc``, which has just been executed: one of GIVEN_UP, GOES_ON and REPEATS."""
    spin, cpu = m.spin[p], m.cpu[v]
    i = m.code[pc]
    if i.steady == 0 or instructions - spin.head_instructions > spin.effort:
        return give_up(spin)
    if i.access_size != 0 and not note_load(m, p, byte, i.access_size):
        return give_up(spin)
    if i.op == OP.OP_PAUSE:
        note_pause(spin, now - i.cycles)
    if following == spin.head and following <= pc:
        if is_as_before(spin, cpu):
            spin.counter = NO_COUNTER
            return REPEATS
        straight = instructions - spin.head_instructions == pc - spin.head + 1
        if straight and find_counter(m, spin, cpu, pc):
            return REPEATS
    return GOES_ON


@compiled
def note_load(m, p, byte, size):
    """Remember the lines of a load; False if it was not simply from the cache, or there are too many."""
    spin, pcpu = m.spin[p], m.pcpu[p]
    if pcpu.buffered > 0 or not may_read(m.holders, pcpu.word, pcpu.bit, byte, size):
        return False
    for line in range(byte >> LINE_SHIFT, ((byte + size - 1) >> LINE_SHIFT) + 1):
        known = False
        for place in range(spin.lines):
            known = known or spin.line[place] == line
        if not known:
            if spin.lines == SPUN_LINES:
                return False
            spin.line[spin.lines] = line
            spin.lines += 1
    return True


@compiled
def note_pause(spin, began):
    """Remember when PAUSEs began, and how far they lie apart."""
    if spin.first_pause < 0:
        spin.first_pause = began
    else:
        note_distance(spin, began - spin.latest_pause)
    spin.latest_pause = began


@inlined
def note_distance(spin, distance):
    """Remember the distance between two PAUSEs."""
    spin.narrowest = min(spin.narrowest, distance)
    spin.widest = max(spin.widest, distance)


@compiled
def is_as_before(spin, cpu):
    """Are registers and flags as they were when the watch began?"""
    if cpu.flag_result != spin.flag_result or cpu.flag_carry != spin.flag_carry:
        return False
    for number in range(REGISTERS):
        if cpu.registers[number] != spin.registers[number]:
            return False
    return True


@compiled
def park(m, p, v, limit):
    """The watch has found a loop. Let the pCPU sleep through it, at most until ``limit``, if that is worth it."""
    spin, pcpu, cpu = m.spin[p], m.pcpu[p], m.cpu[v]
    now = pcpu.cycle
    spin.watching = 0
    spin.patience = SOON
    spin.period = now - spin.head_cycle
    spin.instructions = cpu.instructions - spin.head_instructions
    spin.pauses = cpu.pauses - spin.head_pauses
    if spin.period == 0 or pcpu.awaited_at != NEVER or not are_held(m, p):
        return
    turns = (limit - now) // spin.period
    if spin.pauses > 0:
        spin.last_pause = spin.latest_pause - spin.head_cycle
        note_distance(spin, spin.period - (spin.latest_pause - spin.first_pause))
        turns = min(turns, turns_without_exit(m, cpu, spin, now))
    if spin.counter != NO_COUNTER:
        turns = min(turns, turns_until_zero(m, spin, cpu))
    if turns >= 2:
        spin.parked = IN_LOOP
        spin.since = now
        pcpu.cycle = now + turns * spin.period
        for place in range(spin.lines):
            m.line[spin.line[place]].spinners += 1


@compiled
def are_held(m, p):
    """Does pCPU ``p`` still hold all lines of the loop?"""
    spin, pcpu = m.spin[p], m.pcpu[p]
    for place in range(spin.lines):
        if m.holders[spin.line[place], pcpu.word] & pcpu.bit == 0:
            return False
    return True


@compiled
def park_at_work(m, p, until):
    """The `work` in progress goes on until it is done, or until ``until``."""
    spin, pcpu = m.spin[p], m.pcpu[p]
    spin.watching = 0
    spin.lines = 0
    spin.period = 1
    spin.parked = AT_WORK
    spin.since = pcpu.cycle
    pcpu.cycle = until


@compiled
def turns_without_exit(m, cpu, spin, now):
    """How many turns from ``now`` on contain no PAUSE that exits: not more than that, perhaps one less."""
    manner = manner_of_pauses(m.clock[0], cpu, spin)
    if manner == UNSEEN or manner == APART:
        return NEVER
    if manner == MIXED:
        return 0
    if cpu.pause_filter == 1:
        return cpu.pause_filter_left // spin.pauses
    # The latest cycle at which the loop is not older than PLE_Window.
    clock, tsc = m.clock[0], cpu.first_pause_tsc + cpu.ple_window
    last = tsc // clock.tsc_khz * clock.core_khz + tsc % clock.tsc_khz * clock.core_khz // clock.tsc_khz
    return (last - now - spin.last_pause) // spin.period + 1


@compiled
def manner_of_pauses(clock, cpu, spin):
    """Are all PAUSEs of a turn unseen by the hardware, joined to one loop, or each a first one? Or is it MIXED?"""
    if cpu.pause_filter == 1:
        if cpu.pause_filter_threshold == 0:
            return JOINED
        gap = cpu.pause_filter_threshold
        manner = APART if cpu.pause_filter_count > 0 else MIXED
    elif cpu.ple == 0 or cpu.cpl > 0:
        return UNSEEN
    else:
        gap = cpu.ple_gap
        manner = APART
    rounded = 0 if clock.tsc_khz == clock.core_khz else 1
    if cycles_to_tsc(clock, spin.widest) + rounded <= gap:
        return JOINED
    return manner if cycles_to_tsc(clock, spin.narrowest) > gap else MIXED


@compiled
def unpark(m, p, by):
    """Execute again: from the end of the last whole turn that is not later than ``by``, at ``cycle``."""
    spin, pcpu = m.spin[p], m.pcpu[p]
    cpu = m.cpu[pcpu.vcpu]
    turns = max(0, min(by, pcpu.cycle) - spin.since) // spin.period
    pcpu.cycle = spin.since + turns * spin.period
    if spin.parked == AT_WORK:
        cpu.work_left[cpu.work_depth - 1] -= turns
    elif turns > 0:
        cpu.instructions += turns * spin.instructions
        if spin.counter != NO_COUNTER:
            count(m, spin, cpu, turns)
        if spin.pauses > 0:
            pass_pauses(m, cpu, spin, turns)
    for place in range(spin.lines):
        m.line[spin.line[place]].spinners -= 1
    spin.parked = NOT_PARKED
    reschedule(m, p)
    start_afresh(m, p)


@compiled
def pass_pauses(m, cpu, spin, turns):
    """The PAUSEs of so many turns, and what the hardware remembers of them."""
    cpu.pauses += turns * spin.pauses
    clock = m.clock[0]
    manner = manner_of_pauses(clock, cpu, spin)
    if manner == UNSEEN:
        return
    last = cycles_to_tsc(clock, spin.since + (turns - 1) * spin.period + spin.last_pause)
    cpu.last_pause_tsc = last
    if manner == APART:
        cpu.loop_pauses_from = cpu.pauses - 1
    if cpu.pause_filter == 1:
        left = cpu.pause_filter_count - 1 if manner == APART else cpu.pause_filter_left - turns * spin.pauses
        cpu.pause_filter_left = left
    elif manner == APART:
        cpu.first_pause_tsc = last


@compiled
def hasten(m, p, arrival):
    """An interrupt will reach pCPU ``p``: if it is parked, it is executed again by then."""
    spin, pcpu = m.spin[p], m.pcpu[p]
    if spin.parked != NOT_PARKED:
        turns = max(0, arrival - spin.since) // spin.period
        pcpu.cycle = min(pcpu.cycle, spin.since + turns * spin.period)
        reschedule(m, p)


@inlined
def is_spun_on(m, byte, size):
    """Does anybody parked read the lines of these bytes?"""
    return m.line[byte >> LINE_SHIFT].spinners > 0 or m.line[(byte + size - 1) >> LINE_SHIFT].spinners > 0


@compiled
def wake_spinners(m, byte, size, at):
    """Unpark who reads the lines of these bytes, which another will take or change at cycle ``at``."""
    first, last = byte >> LINE_SHIFT, (byte + size - 1) >> LINE_SHIFT
    for p in range(m.pcpu.shape[0]):
        spin = m.spin[p]
        if spin.parked == IN_LOOP:
            reads = False
            for place in range(spin.lines):
                reads = reads or first <= spin.line[place] <= last
            if reads:
                unpark(m, p, at)
