"""PAUSE in a guest: which rule decides whether it exits.

"PAUSE exiting" (SVM: the intercept with a count of 0)   every PAUSE exits, at any CPL
Intel                                                    pause-loop exiting, `ple`
AMD                                                      the pause filter, `pause_filter`
"""

from pleemu.hardware.pause_filter import load_pause_counter, pause_filter_exits
from pleemu.hardware.ple import arm, pause_loop_exits
from pleemu.jit import compiled, inlined


@compiled
def load_pause_controls(cpu, window):
    """A VM entry with ``window`` as PLE_Window or as PauseFilterCount."""
    if cpu.pause_filter == 1:
        cpu.pause_filter_count = window
        load_pause_counter(cpu)
    else:
        cpu.ple_window = window
        arm(cpu)


@inlined
def pause_exits(cpu, tsc):
    """Decide on a PAUSE at TSC time ``tsc``, and remember it; True means VM exit, and the PAUSE is not executed."""
    if cpu.pause_exiting == 1:
        return True
    if cpu.pause_filter == 1:
        if pause_filter_exits(cpu, tsc):
            return True
    elif pause_loop_exits(cpu, tsc):
        return True
    cpu.pauses += 1
    return False
