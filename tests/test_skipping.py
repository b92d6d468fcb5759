"""Skipping the turns of a loop changes nothing: the run is the one in which each turn is executed."""

from __future__ import annotations

import os
from typing import Any
from unittest.mock import patch

import attrs
import numpy as np
import pytest
from hypothesis import currently_in_test_context, given, note, settings
from hypothesis import strategies as st
from made_machines import GUESTS, Command, prepare_core, programs_of
from made_spins import source_file, spinning_guests

from pleemu.checks.machines import commands
from pleemu.errors import GuestFault
from pleemu.hardware.spin import NOT_PARKED
from pleemu.kernel import HOST_SCHEDULERS
from pleemu.machine import run as running
from pleemu.machine.loop import FINISHED, PROGRESS, STUCK
from pleemu.machine.result import Run
from pleemu.scenario import Scenario

MACHINES = int(os.environ.get("PLEEMU_MACHINES", "150"))  # of each kind
SCHEDULERS = tuple(HOST_SCHEDULERS)


def outcome(command: Command, *, skip: bool) -> tuple[Any, dict[str, Any]]:
    """Run, and return what it has come to, and what everything was at the end of it.

    Without ``skip`` no memory is used ahead of the others, either.
    """
    machines: list[Any] = []
    events: list[np.ndarray] = []
    try:
        run = keep_machine(command.scenario(), machines, skip=skip, events=events.append)
    except GuestFault as fault:
        return str(fault), {"events": np.concatenate(events) if events else np.zeros(0)}
    found = attrs.asdict(run, recurse=False, filter=lambda field, _: field.name not in ("wall_seconds", "scenario"))
    (machine,) = machines
    assert np.all(machine.spin.parked == NOT_PARKED)
    return found, state_of(machine) | {"events": np.concatenate(events) if events else np.zeros(0)}


def keep_machine(scenario: Scenario, machines: list[Any], *, skip: bool, **more: Any) -> Run:
    """Run, and put the machine into ``machines``."""
    prepare_core()

    def build(*arguments: Any, **options: Any) -> Any:
        machine, layout = running_build(*arguments, **options)
        machine.run.ahead = skip
        machines.append(machine)
        return machine, layout

    running_build = running.build
    with patch.object(running, "build", build):
        return running.simulate(scenario, programs=programs_of(scenario), skip=skip, **more)


def state_of(machine: Any) -> dict[str, np.ndarray]:
    """All that a machine is, but for how it skips, and for where in its ring a store buffer has got to.

    A store that nobody can see before it commits does not go through the ring; whether anybody could
    depends on how far the others have come.
    """
    state = {name: np.asarray(part).copy() for name, part in machine._asdict().items() if name != "spin"}
    ring = state["buffer"]
    for pcpu, row in zip(state["pcpu"], ring, strict=True):
        row[:] = np.roll(row, -int(pcpu["oldest"]))
        row[int(pcpu["buffered"]) :] = np.zeros(1, ring.dtype)
    state["pcpu"]["oldest"] = state["pv"]["store_place"] = state["run"]["ahead"] = 0
    return state


def differences(name: str, stepped: np.ndarray, skipped: np.ndarray) -> str:
    """Return where two parts of a machine differ."""
    fields = stepped.dtype.names or (None,)
    found = []
    for field in fields:
        one, other = (part if field is None else part[field] for part in (stepped, skipped))
        found += [f"{name}{place.tolist()}.{field}" for place in np.argwhere(one != other)[:3]]
    return ", ".join(found[:20])


def assert_same(command: Command) -> tuple[Any, dict[str, Any]]:
    """Stepping and skipping come to the same."""
    if currently_in_test_context():
        note(f"replay: {command}")
    stepped, stepped_state = outcome(command, skip=False)
    skipped, skipped_state = outcome(command, skip=True)
    assert skipped == stepped
    assert skipped_state.keys() == stepped_state.keys()
    for name, part in stepped_state.items():
        assert np.array_equal(part, skipped_state[name]), differences(name, part, skipped_state[name])
    return skipped, skipped_state


SHIPPED = (
    *(str(path) for path in sorted(GUESTS.glob("*.S"))),
    *("ticket_lock", "queued_lock", "case_study", "barrier", "wake_up", "testbed", "shootdown", "grace_period"),
)


@settings(max_examples=MACHINES, deadline=None)
@given(commands(subjects=SHIPPED, schedulers=SCHEDULERS))
def test_skipping_changes_nothing_in_shipped_guests(command):
    """Events, results, and every register, line, counter and byte of memory at the end."""
    assert_same(command)


@settings(max_examples=MACHINES, deadline=None)
@given(spinning_guests(), commands(subjects=("ticket_lock",), schedulers=SCHEDULERS, cycles=(300_000, 1_000_000)))
def test_skipping_changes_nothing_in_loops_of_any_kind(text, command):
    """Loops that spin, that count, that give up, and that only look as if they did nothing."""
    note(text)
    assert_same(attrs.evolve(command, subject=source_file(text)))


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(("ticket_lock", "queued_lock", "testbed", "barrier")), st.integers(0, 2**32))
def test_skipping_skips(subject, seed):
    """The core gives the loop back to Python with nobody parked; in between some are."""
    prepare_core()
    command = Command(subject, {"duration": "20ms", "seed": seed, "policy": "no-ple"})
    scenario = command.scenario()
    machine, _ = running.build(
        scenario, running.policy_named("no-ple"), programs_of(scenario), recording=False, skipping=True
    )
    machine.run.progress = int(machine.run.until[0]) // 2
    assert running.run_machine(machine) in (PROGRESS, FINISHED, STUCK)
    assert np.all(machine.spin.parked == NOT_PARKED)
    assert np.any(machine.spin.period > 0)


COUNTING = """
.include "pleemu.inc"
.globl guest_main
guest_main:
    mov rcx, {turns}
1:  {body}
    {count}
    jnz 1b
    operation_done
    ret
"""


@pytest.mark.parametrize("count", ["dec ecx", "sub rcx, 1", "add ecx, -1", "sub rcx, 5"])
@pytest.mark.parametrize(
    ("body", "each"), [("nop", 1), ("pause; mov eax, [rsp]", 2), ("xor eax, eax; jnz guest_main", 2)]
)
def test_counted_loops_end_where_they_would(count, body, each):
    """Two thousand million turns are a matter of a moment, and each is counted."""
    turns = 2_000_000_000
    text = COUNTING.format(turns=turns, body=body, count=count)
    command = Command(source_file(text), {"duration": "600s", "vcpus": 1, "policy": "no-ple"})
    machines: list[Any] = []
    run = keep_machine(command.scenario(), machines, skip=True)
    turns //= 5 if count.endswith("5") else 1
    assert run.vms[0].operations == 1
    assert run.instructions == 1 + turns * (each + 2) + 2
    assert machines[0].cpu.registers[0][1] == 0


# vCPU 1 is parked on a word that vCPU 0 writes, and answers by an IPI; vCPU 0 has begun a long `work` meanwhile.
WOKEN_ANSWERS = """
.include "pleemu.inc"
.globl guest_main
guest_main:
    lea rbx, [rip + word]
    cmp edi, 1
    je 2f
    sti
1:  work 300000
    inc dword ptr [rbx]
    work 900000
    jmp 1b
2:  mov edx, [rbx]
3:  pause
    cmp edx, [rbx]
    je 3b
    send_ipi 0, 0xe0
    jmp 2b

    vector 0xe0, answered
answered:
    push rax
    push rcx
    push rdx
    eoi
    operation_done
    pop rdx
    pop rcx
    pop rax
    iretq
.data
.balign 64
word:
    .quad 0
"""

# vCPU 1 is parked on the place where the frame of an interrupt of vCPU 0 puts SS, which nobody fetches to write.
SEES_A_FRAME = """
.include "pleemu.inc"
.globl guest_main
guest_main:
    lea rbx, [rip + word]
    cmp edi, 1
    je 2f
    and rsp, -16
    mov [rbx], rsp
    sti
    work 300000
    self_ipi 0xe0
1:  pause
    jmp 1b
2:  pause
    mov rdx, [rbx]
    test rdx, rdx
    je 2b
3:  pause
    cmp qword ptr [rdx - 8], 0
    je 3b
    operation_done
4:  pause
    jmp 4b

    vector 0xe0, handler
handler:
    eoi
    iretq
.data
.balign 64
word:
    .quad 0
"""


@pytest.mark.parametrize(("text", "operations"), [(WOKEN_ANSWERS, 3), (SEES_A_FRAME, 1)])
def test_who_is_parked_sees_what_it_would(text, operations):
    """A store wakes a spinner, who interrupts the one that stored; a frame is seen without a line being fetched."""
    command = Command(source_file(text), {"duration": "2ms", "vcpus": 2, "pcpus": 2, "policy": "no-ple"})
    run, _ = assert_same(command)
    assert run["vms"][0].operations >= operations
