"""The pause filter of SVM (APM 2 15.14.4): an intercepted PAUSE exits only after many in a row.

VMRUN loads an internal counter with PauseFilterCount. Each PAUSE, at any CPL, takes one from it, and
the one that finds nothing left exits: of PAUSEs in a row ``count`` pass. A PAUSE that comes more than
PauseFilterThreshold after the previous one begins a new row: the counter is loaded again. With
a threshold of 0 (simple mode) nothing but VMRUN loads it.

What the manual leaves open, and what is done here:
* At a distance that equals the threshold the row goes on (so does Bochs).
* The PAUSE that reloads is the first of its row and takes one, too. Measured on Zen 4: exactly the
  (count + 1)th of a row exits. DEVIATION: Bochs does not count it, so that one more passes. With a count of 0
  it exits, as every PAUSE does then.
* So it makes no difference whether the first PAUSE behind VMRUN is compared with one before it: the counter is full.
* UNVERIFIED: the clock of the threshold. The manual says cycles; here they are TSC ticks (proposed). On the
  Zen 4, with KVM's threshold of presumably 128, rows went on up to about 160 ticks and no more from about 180 on.
"""

from pleemu.jit import compiled, inlined


@compiled
def load_pause_counter(cpu):
    """VMRUN: the filter begins with a full counter."""
    cpu.pause_filter_left = cpu.pause_filter_count
    cpu.loop_pauses_from = cpu.pauses


@inlined
def pause_filter_exits(cpu, tsc):
    """Decide on a PAUSE at TSC time ``tsc``, and remember it; True means #VMEXIT(PAUSE)."""
    if cpu.pause_filter_threshold > 0 and tsc - cpu.last_pause_tsc > cpu.pause_filter_threshold:
        cpu.pause_filter_left = cpu.pause_filter_count
        cpu.loop_pauses_from = cpu.pauses
    cpu.last_pause_tsc = tsc
    if cpu.pause_filter_left == 0:
        return True
    cpu.pause_filter_left -= 1
    return False
