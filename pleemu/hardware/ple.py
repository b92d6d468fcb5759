"""Pause-loop exiting of VMX (SDM 3C 25.1.3, and 24.6.13 for PLE_Gap and PLE_Window).

With "PAUSE-loop exiting" a PAUSE at CPL 0 starts a loop if it is the first since the VM entry
or comes more than PLE_Gap after the previous one; otherwise it exits if the loop is older than
PLE_Window. Both comparisons are strict. PAUSEs at CPL 3 are not seen at all.
"""

from pleemu.jit import compiled, inlined


@compiled
def arm(cpu):
    """A VM entry: the next PAUSE at CPL 0 is a first one, whatever happened before."""
    cpu.pause_armed = 1


@inlined
def pause_loop_exits(cpu, tsc):
    """Decide on a PAUSE at TSC time ``tsc``, and remember it; True means VM exit."""
    if cpu.ple == 0 or cpu.cpl > 0:
        return False
    if cpu.pause_armed == 1 or tsc - cpu.last_pause_tsc > cpu.ple_gap:
        cpu.first_pause_tsc = tsc
        cpu.pause_armed = 0
        cpu.loop_pauses_from = cpu.pauses
    elif tsc - cpu.first_pause_tsc > cpu.ple_window:
        return True
    cpu.last_pause_tsc = tsc
    return False
