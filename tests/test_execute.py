"""Instructions: against the manual in plain Python, and against what a real processor did."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from made_instructions import BASE_OFFSET, LOCKABLE, RBX, RSP, assembled, instructions, values
from made_processors import CODE, MEMORY, MEMORY_SIZE, STATUS_FLAGS, State, execute
from reference.x86 import DivideError, Processor

from pleemu.conform.x86 import memory_of, replay
from pleemu.hardware.records import FAULT_DIVIDE

VECTORS = Path(__file__).parent / "vectors" / "x86.json.gz"
DATA = json.loads(gzip.decompress(VECTORS.read_bytes()))
CASES = DATA["cases"]
CHUNK = 99


def test_all_ends_are_recorded():
    """There are sequences that run to their end and such that a divide error stops."""
    assert Counter(case["end"] for case in CASES) == {"end": 1570, "divide-error": 14}


@pytest.mark.parametrize("start", range(0, len(CASES), CHUNK))
def test_execution_is_what_a_processor_did(start):
    """Registers, defined flags and memory after each recorded sequence are those of an AMD Zen 4."""
    replayed = replay({**DATA, "cases": CASES[start : start + CHUNK]})
    assert [one.text for one in replayed if one is not None] == []


# ---- random sequences against the reference ----


@settings(max_examples=800)
@given(
    st.lists(st.tuples(instructions(), st.booleans()), min_size=1, max_size=12),
    st.lists(values, min_size=16, max_size=16),
    st.integers(0, 0xFFF).map(lambda flags: flags & STATUS_FLAGS),
    st.integers(0, 2**32 - 1),
)
def test_execution_is_what_the_manual_says(sequence, registers, flags, seed):
    """Any sequence of instructions of the subset leaves the registers, flags and memory of the reference."""
    registers[RBX], registers[RSP] = MEMORY + BASE_OFFSET, MEMORY + 400
    before = State(registers, flags, bytearray(memory_of(seed, MEMORY_SIZE)))
    processor = Processor(list(registers), flags, bytearray(before.memory), start=MEMORY)
    taken, fault = [], (0, 0)
    for instruction, iced, locked in ((*made, locked) for group, locked in sequence for made in group):
        if not processor.skip and (processor.reads_undefined(instruction) or processor.leaves_memory(instruction)):
            break
        if locked and instruction.name in LOCKABLE and instruction.operands[0][0] == "mem":
            iced.has_lock_prefix = True
        try:
            processor.step(instruction)
        except DivideError:
            fault = (FAULT_DIVIDE, CODE + len(assembled(taken)))
        taken.append((instruction, iced))
        if fault != (0, 0):
            break
    machine_code = assembled(taken)
    note(f"code: {machine_code.hex(' ')}")
    for instruction, _ in taken:
        note(str(instruction))
    after = execute(machine_code, before)
    assert [hex(value) for value in after.registers] == [hex(value) for value in processor.registers]
    assert (after.flags ^ processor.flags) & ~processor.undefined & STATUS_FLAGS == 0
    assert after.fault == fault
    assert after.memory == processor.memory
