"""What each class of instructions costs on a processor, in core cycles, as `isa.prepare` takes it."""

from __future__ import annotations

from pleemu.hardware import isa
from pleemu.processor import Processor

IRET_CYCLES = 20  # proposed: the microcode of an IRETQ takes some tens of cycles
DIVIDE_CYCLES = 20  # proposed, between the 10 and 40 that processors take by model and operands


def cycles_by_class(costs: Processor) -> tuple[int, ...]:
    """Return the cycles of every cost class, in the order of `isa`."""
    cycles = {
        isa.COST_SIMPLE: 1,
        isa.COST_LOCKED: costs.locked_cycles,
        isa.COST_PAUSE: costs.pause_cycles,
        isa.COST_RDTSC: costs.rdtsc_cycles,
        isa.COST_FENCE: costs.fence_cycles,
        isa.COST_IRET: IRET_CYCLES,
        isa.COST_DIVIDE: DIVIDE_CYCLES,
    }
    return tuple(cycles[number] for number in range(isa.COST_CLASSES))
