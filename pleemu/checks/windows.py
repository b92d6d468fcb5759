"""When a PAUSE exits, and what KVM makes of the window."""

from __future__ import annotations

from pleemu.checks.finding import at
from pleemu.checks.observed import Observed
from pleemu.generations import GENERATIONS
from pleemu.machine.build import cycles_of
from pleemu.observe.events import (
    KVM_ENTRY,
    KVM_EXIT,
    PAUSE_INSTRUCTION,
    PLE_WINDOW,
    SCHED_SWITCH,
    SCHED_WAKEUP,
    STAT_RUNTIME,
)


def window_parameters(observed: Observed) -> tuple[int, int, int, int, bool]:
    """KVM's base, growth, shrinking and maximum of the window or count, and whether it changes at all."""
    chosen, scenario = observed.policy, observed.scenario
    kvm = scenario.kvm_under(chosen)
    controlled = chosen.ple and not kvm.pause_exiting
    if scenario.hardware.is_amd:
        numbers = (kvm.pause_filter_count, kvm.pause_filter_count_grow, kvm.pause_filter_count_shrink)
        adapts = kvm.pause_filter_thresh > 0 and kvm.pause_filter_count > 0
        return *numbers, kvm.pause_filter_count_max, controlled and adapts
    numbers = (kvm.ple_window, kvm.ple_window_grow, kvm.ple_window_shrink)
    most = GENERATIONS[chosen.generation].window_ceiling(kvm.ple_window, kvm.ple_window_grow, kvm.ple_window_max)
    return *numbers, most, controlled and kvm.ple_gap > 0


def grow(value: int, base: int, modifier: int, maximum: int) -> int:
    """__grow_ple_window (v5.6 arch/x86/kvm/x86.h): multiply if the modifier is below the base, else add, in 64 bits."""
    if modifier < 1:
        return base
    grown = value * modifier if modifier < base else value + modifier
    return min(grown % 2**64, maximum)


def shrink(value: int, base: int, modifier: int, minimum: int) -> int:
    """__shrink_ple_window: divide if the modifier is below the base, else subtract, in 32 bits."""
    if modifier < 1:
        return base
    shrunk = value // modifier if modifier < base else (value - modifier) % 2**32
    return max(shrunk, minimum)


def check_windows(observed: Observed) -> None:
    """The window grows at each PAUSE exit and shrinks at each switch back in, and at no other time (P2).

    It stays between its base and its maximum (v5.6 arch/x86/kvm/vmx/vmx.c grow_ple_window, shrink_ple_window).
    """
    base, grow_by, shrink_by, most, controlled = window_parameters(observed)
    window = dict.fromkeys(range(len(observed.vm_of)), base)
    expected: dict[int, int] = {}  # vCPU -> the window that its next event must announce
    switched_in: set[int] = set()
    for row in observed.rows:
        _, kind, _, vcpu, a, b, _ = row
        if kind in (SCHED_WAKEUP, STAT_RUNTIME):
            continue  # in a host interrupt, perhaps, that strikes before the switch is complete
        if vcpu in switched_in:
            switched_in.remove(vcpu)
            shrunk = shrink(window[vcpu], base, shrink_by, base)
            if controlled and shrunk != window[vcpu]:
                expected[vcpu] = shrunk
        if kind == PLE_WINDOW:
            right = expected.pop(vcpu, None)
            if (a, b) != (window[vcpu], right):
                raise at(row, f"window {a} -> {b}, not {window[vcpu]} -> {right}")
            if not (base <= b <= most):
                raise at(row, f"window {b} is outside of {base} to {most}")
            window[vcpu] = b
        if vcpu in expected:
            raise at(row, f"the window stays at {window[vcpu]}, not {expected.get(vcpu)}")
        if kind == KVM_EXIT and a == PAUSE_INSTRUCTION:
            grown = grow(window[vcpu], base, grow_by, most)
            if controlled and grown != window[vcpu]:
                expected[vcpu] = grown
        elif kind == SCHED_SWITCH and 0 <= b < len(window):
            switched_in.add(b)


def check_pause_exits(observed: Observed) -> int:
    """PLE exits only at CPL 0, and only if the loop took longer than the window; returns how many it has (P2).

    SDM 3C 25.1.3: the time from the loop's first PAUSE, which is at or behind the entry, to the PAUSE that exits must
    exceed PLE_Window. On AMD, and with "PAUSE exiting", neither holds: 0.
    """
    scenario = observed.scenario
    kvm = scenario.kvm_under(observed.policy)
    if scenario.hardware.is_amd or kvm.pause_exiting:
        return 0
    tsc, core = scenario.hardware.tsc_rate_khz, scenario.hardware.core_rate_khz
    transitions = cycles_of(scenario, scenario.cost.entry_ns) + cycles_of(scenario, scenario.cost.exit_ns)
    window = dict.fromkeys(range(len(observed.vm_of)), kvm.ple_window)
    entered: dict[int, tuple[int, int]] = {}  # vCPU -> cycle and window of its entry
    exits = 0
    for row in observed.rows:
        cycle, kind, _, vcpu, a, b, _ = row
        if kind == PLE_WINDOW:
            window[vcpu] = b
        elif kind == KVM_ENTRY:
            entered[vcpu] = (cycle, window[vcpu])
        elif kind == KVM_EXIT and a == PAUSE_INSTRUCTION:
            exits += 1
            since, allowed = entered[vcpu]
            ticks = (cycle - since - transitions) * tsc / core
            if ticks <= allowed:
                raise at(row, f"exits by PAUSE after {ticks:.0f} TSC ticks in the guest; its window is {allowed}")
            if observed.in_user_mode(vcpu, b):
                raise at(row, f"exits by PLE at CPL 3, at {observed.function_at(vcpu, b)}")
    return exits
