"""The PLE window of KVM v5.6: how it grows and shrinks."""

from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.window import grow, shrink

from pleemu.hypervisor.records import KVM, VCPU
from pleemu.hypervisor.window import grow_ple_window, grown, shrink_ple_window, shrunk
from pleemu.jit import callable_alone

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
