"""The PLE window of KVM: how it grows and shrinks, and what each generation gives it to do so."""

from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.window import grow, shrink

from pleemu.generations import GENERATIONS
from pleemu.hypervisor.records import KVM, VCPU
from pleemu.hypervisor.window import grow_ple_window, grown, shrink_ple_window, shrunk
from pleemu.jit import callable_alone
from pleemu.machine.build import _kvm as kvm_record
from pleemu.policy import policy
from pleemu.scenario import Hardware, Kvm, Scenario, Vm

Pieces = namedtuple("Pieces", "vcpu kvm")
U32_MAX = 2**32 - 1
grown_alone, shrunk_alone = callable_alone(grown), callable_alone(shrunk)
grow_alone, shrink_alone = callable_alone(grow_ple_window), callable_alone(shrink_ple_window)

words = st.integers(0, U32_MAX) | st.integers(0, 10_000) | st.integers(U32_MAX - 3, U32_MAX)


@given(words, words, words, words)
def test_window_grows_and_shrinks_as_the_kernel_computes(value, base, modifier, bound):
    """Any unsigned ints, sensible or not, give what the kernel's C gives."""
    assert grown_alone(value, base, modifier, bound) == grow(value, base, modifier, bound)
    assert shrunk_alone(value, base, modifier, bound) == shrink(value, base, modifier, bound)


@given(st.data(), words, words, st.lists(st.booleans(), max_size=50))
def test_window_stays_between_base_and_maximum(data, base, grow_by, steps):
    """Growing and shrinking in any order keep the window in [base, maximum], if shrinking divides or resets."""
    maximum = data.draw(st.integers(base, U32_MAX))
    shrink_by = data.draw(st.integers(0, max(base - 1, 0)))
    value = base
    for grows in steps:
        value = grown_alone(value, base, grow_by, maximum) if grows else shrunk_alone(value, base, shrink_by, base)
        assert base <= value <= maximum


def test_window_doubles_to_its_maximum_in_twenty_exits():
    """With KVM's defaults: 4096, 8192, ... 2^31, 4294967295, and back to 4096 by one switch."""
    windows = [4096]
    for _ in range(21):
        windows.append(grown_alone(windows[-1], 4096, 2, U32_MAX))
    assert windows == [4096 << k for k in range(20)] + [U32_MAX, U32_MAX]
    assert shrunk_alone(U32_MAX, 4096, 0, 4096) == 4096


@given(words, st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 65535), st.booleans())
def test_count_of_amd_stays_in_its_16_bits(value, base, modifier, maximum, amd):
    """What kvm_amd stores in the VMCB is what the kernel computes, cut to the field; Intel's window is not cut."""
    m = Pieces(np.zeros(1, VCPU).view(np.recarray), np.zeros(1, KVM).view(np.recarray))
    m.kvm.svm, m.kvm.ple_window, m.kvm.ple_window_shrink, m.kvm.ple_window_grow = amd, base, modifier, modifier
    m.kvm.ple_window_max = maximum
    field = 0xFFFF if amd else U32_MAX
    m.vcpu.ple_window = value & field
    assert shrink_alone(m, 0) == value & field
    assert m.vcpu.ple_window[0] == shrink(value & field, base, modifier, base) & field
    m.vcpu.ple_window = value & field
    grow_alone(m, 0)
    assert m.vcpu.ple_window[0] == grow(value & field, base, modifier, maximum)


@pytest.mark.parametrize(("modifier", "expected"), [(1, 5000), (2, 4096), (4096, 4096), (6000, 2**32 - 1000)])
def test_window_that_shrinks_below_zero_wraps_around(modifier, expected):
    """A modifier from the base on is subtracted, unsigned: beyond the value the window becomes huge."""
    assert shrunk_alone(5000, 4096, modifier, 4096) == expected


def windows(named, exits, *, processor="broadwell", **given):
    """The windows of a vCPU at its PAUSE exits in a row, under a policy and the parameters that are given."""
    scenario = Scenario(
        name="made", vm=(Vm(name="vm0", program="none.S"),), hardware=Hardware(processor=processor), kvm=Kvm(**given)
    )
    m = Pieces(np.zeros(1, VCPU).view(np.recarray), kvm_record(scenario, policy(named)))
    found = [int(m.kvm.ple_window[0])]
    m.vcpu.ple_window = found
    for _ in range(exits if m.kvm.window_control[0] else 0):
        grow_alone(m, 0)
        found.append(int(m.vcpu.ple_window[0]))
    return list(dict.fromkeys(found))


DOUBLED = [4096 << k for k in range(30)]


@pytest.mark.parametrize(
    ("named", "intel", "amd"),
    [
        ("sleep-2009", [4096], [3000]),
        ("directed-yield-2011", [4096], [3000]),
        ("preempted-2013", [4096], [3000]),
        ("in-kernel-2017", [*DOUBLED[:18], 1073741822], [3000]),
        ("vanilla", [*DOUBLED[:20], U32_MAX], [3000, 6000, 12000, 24000, 48000, 65535]),
        ("kvm-6.19", [*DOUBLED[:20], U32_MAX], [3000, 6000, 12000, 24000, 48000, 65535]),
    ],
)
def test_window_moves_as_its_generation_has_it(named, intel, amd):
    """Fixed until v3.18 (AMD: v4.17), then doubling; v4.14 ends one below its maximum of INT_MAX/2, at step 18."""
    assert windows(named, 30) == intel
    assert windows(named, 30, processor="zen4") == amd


def kernel_4_14(value, window, grow_by, most):
    """v4.14 arch/x86/kvm/vmx.c: clamp to what still leaves room for one step, then take it."""
    if grow_by < 1:
        return window
    most = max(most, window)
    room = most // grow_by if grow_by < window else most - grow_by
    return min(value, room) * grow_by if grow_by < window else min(value, room) + grow_by


@given(st.integers(1, 10_000), st.integers(0, 12_000), st.integers(0, 100_000))
def test_clamp_of_2017_is_a_ceiling(base, grow_by, more):
    """That v4.14 clamps before it grows is the same as a smaller maximum, for any parameters."""
    most, value = base + more, base
    found = windows("in-kernel-2017", 12, ple_window=base, ple_window_grow=grow_by, ple_window_max=most)
    expected = [base]
    for _ in range(12):
        value = kernel_4_14(value, base, grow_by, most)
        expected.append(value)
    assert found == list(dict.fromkeys(expected))


def test_parameters_that_are_given_stay_in_every_generation():
    """What the user sets holds under any policy, whatever its kernel's default, and lets any window move."""
    for named in GENERATIONS:
        assert windows(named, 3, ple_window=1000, ple_window_grow=3, ple_window_max=6000) == [1000, 3000, 6000]
        assert windows(named, 3, processor="zen4", pause_filter_thresh=9, pause_filter_count_grow=2)[1] == 6000


def test_gap_was_41_in_2009_and_skip_came_with_v5_14():
    """Defaults that are no window: 41 TSC ticks until v2.6.33, and AMD's completed PAUSE."""
    scenario = Scenario(name="made", vm=(Vm(name="vm0", program="none.S"),))
    under = {name: scenario.kvm_under(policy(name)) for name in GENERATIONS}
    assert [name for name, kvm in under.items() if kvm.ple_gap != 128] == ["sleep-2009"]
    assert under["sleep-2009"].ple_gap == 41
    assert [name for name, kvm in under.items() if kvm.skip_pause] == ["pending-irq-2021", "kvm-6.13", "kvm-6.19"]
