"""AMD's pause filter: by the manual's rule, and as measured on a Zen 4."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st
from made_guests import MAIN, write_guest
from made_machines import Command, observe
from reference.pause_filter import PauseFilter

from pleemu.hardware.pause import load_pause_controls, pause_exits
from pleemu.hardware.records import CPU
from pleemu.jit import callable_alone
from pleemu.observe.events import KVM_ENTRY, KVM_EXIT, PAUSE_INSTRUCTION, PLE_WINDOW

load_alone = callable_alone(load_pause_controls)
exits_alone = callable_alone(pause_exits)


class Modelled:
    """The emulator's rule with the interface of the reference."""

    def __init__(self, pause_exiting=0):
        self.cpu = np.zeros(1, CPU).view(np.recarray)[0]
        self.cpu.pause_filter, self.cpu.pause_exiting = 1, pause_exiting

    def enter(self, count, threshold):
        self.cpu.pause_filter_threshold = threshold
        load_alone(self.cpu, count)

    def exits(self, now, cpl):
        self.cpu.cpl = cpl
        return bool(exits_alone(self.cpu, now))


@st.composite
def lives(draw):
    """What a processor sees: VMRUNs with new counts and thresholds, PAUSEs at any distance and level."""
    counts = st.integers(0, 6) | st.sampled_from((7, 8, 65535))
    threshold = draw(st.sampled_from((0, 1, 128, 65535)))
    near = [threshold + step for step in (-1, 0, 1) if threshold + step >= 0]
    distances = st.sampled_from(near) | st.integers(0, max(near)) | st.integers(0, 2**40)
    events = [("enter", draw(counts), threshold)]
    now = draw(st.integers(0, 2**61))
    for _ in range(draw(st.integers(1, 60))):
        now += draw(distances)
        if draw(st.integers(0, 9)) == 0:
            events.append(("enter", draw(counts), draw(st.sampled_from((0, threshold)))))
        else:
            events.append(("exits", now, draw(st.sampled_from((0, 0, 3)))))
    return events


@given(lives())
def test_filter_counts_the_pauses_of_a_row(events):
    """For any count, threshold, times, levels and VMRUNs the same PAUSEs exit as by rows of PAUSEs kept in full."""
    model, reference = Modelled(), PauseFilter(0, 0)
    exited = False
    for kind, *arguments in events:
        note(f"{kind}{tuple(arguments)}")
        if exited and kind == "exits":  # nothing is executed between an exit and the next VMRUN
            continue
        found = getattr(model, kind)(*arguments)
        assert found == getattr(reference, kind)(*arguments)
        exited = kind == "exits" and found


@given(st.integers(0, 300), st.sampled_from((0, 65, 128)), st.integers(0, 2**61), st.sampled_from((0, 3)))
def test_exactly_count_pauses_of_a_tight_loop_pass(count, threshold, now, cpl):
    """Right behind VMRUN ``count`` PAUSEs 65 ticks apart pass and the next one exits, at CPL 3, too."""
    model = Modelled()
    model.enter(count, threshold)
    assert [model.exits(now + 65 * k, cpl) for k in range(count + 1)] == [False] * count + [True]


@pytest.mark.parametrize(("spacing", "passed"), [(127, 4), (128, 4), (129, 1000)])
def test_threshold_decides_what_a_row_is(spacing, passed):
    """PAUSEs 128 ticks apart are a row for KVM's threshold of 128, 129 apart they never exit."""
    model = Modelled()
    model.enter(4, 128)
    assert next((k for k in range(1000) if model.exits(k * spacing, 0)), 1000) == passed


@given(st.integers(0, 1000), st.integers(0, 3))
def test_every_pause_exits_if_pause_exiting_says_so(count, cpl):
    """Whatever the count and the level."""
    model = Modelled(pause_exiting=1)
    model.enter(count, 128)
    assert all(model.exits(1000 * k, cpl) for k in range(5))


# A tight loop of PAUSEs in user mode, which nobody ends: 66 cycles each, with Zen's 65.
USER_LOOP = """
.include "pleemu.inc"
.globl guest_main
guest_main:
    mov rax, rsp
    enter_user spin, rax
spin:
    pause
    jmp spin
"""


def pauses_between_exits(folder, **fields):
    """How many PAUSEs of the loop are executed from one exit to the next, by the times of all entries and exits."""
    guest = write_guest(folder, USER_LOOP)
    quiet = {"hardware.processor": "zen4", "host.hz": "100", "cost.exit_ns": "0", "cost.entry_ns": "0"}
    changes = {"duration": "9ms", "vcpus": 1}
    observed = observe(Command(str(guest), changes, quiet | {f"kvm.{name}": value for name, value in fields.items()}))
    entered, passed = None, []
    for cycle, kind, _, _, a, _, _ in observed.events.tolist():
        if kind == KVM_ENTRY:
            entered = cycle
        elif kind == KVM_EXIT and entered is not None:
            assert a == PAUSE_INSTRUCTION
            passed.append((cycle - entered) // 66)
    return passed, observed


def test_machine_stalls_where_a_zen_4_did(tmp_path):
    """The 3001st PAUSE of a user-mode loop exits, after it the 6001st, the 12001st, ... up to the 65536th: as measured.

    The kernel of that host completes the PAUSE that exited.
    """
    passed, observed = pauses_between_exits(tmp_path, skip_pause="true")
    assert passed[:7] == [3000, 6000, 12000, 24000, 48000, 65535, 65535]
    assert observed.of_kind(PLE_WINDOW)["b"].tolist() == [6000, 12000, 24000, 48000, 65535]
    assert observed.run.ple.pauses_before_first == 3000
    assert observed.run.exits_by_reason() == {"pause": len(passed)}


@pytest.mark.parametrize(
    ("skip", "pauses", "exits"), [("false", 9000, 1), ("false", 9001, 2), ("true", 9001, 1), ("true", 9002, 2)]
)
def test_machine_repeats_the_pause_that_exited_with_the_kernel_of_v5_6(tmp_path, skip, pauses, exits):
    """v5.6 does not skip it: the guest executes it again, as the first of the next row, which is one shorter."""
    guest = write_guest(tmp_path, f"{MAIN} mov ecx, {pauses}\n1: pause\n dec ecx\n jne 1b\n ret\n")
    fields = {"hardware.processor": "zen4", "kvm.skip_pause": skip}
    run = observe(Command(str(guest), {"duration": "3ms", "vcpus": 1}, fields)).run
    assert run.ple.exits == exits
    assert run.ple.pauses == pauses - (exits if skip == "true" else 0)


def test_machine_without_a_threshold_has_a_fixed_count(tmp_path):
    """`pause_filter_thresh=0`: KVM does not adapt, every 3001st PAUSE exits."""
    passed, observed = pauses_between_exits(tmp_path, pause_filter_thresh="0")
    assert len(passed) > 20
    assert set(passed) == {3000}
    assert not len(observed.of_kind(PLE_WINDOW))


def test_machine_without_a_count_has_no_exits(tmp_path):
    """`pause_filter_count=0`: PAUSE is not intercepted."""
    passed, observed = pauses_between_exits(tmp_path, pause_filter_count="0")
    assert not passed
    assert observed.run.ple.pauses > 100_000
