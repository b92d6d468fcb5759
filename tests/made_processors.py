"""One vCPU that runs a sequence of instructions: bytes, registers, flags and memory in, the same out."""

from __future__ import annotations

import functools
from pathlib import Path

import attrs
import numpy as np
from iced_x86 import Decoder, OpKind
from made_guests import make_guest
from made_machines import prepare_core

from pleemu.guest.image import Image
from pleemu.guest.operands import UnsupportedError, empty_record, record_of
from pleemu.hardware import flags, isa
from pleemu.jit import callable_alone
from pleemu.machine.build import build
from pleemu.machine.loop import run_machine
from pleemu.policy import policy
from pleemu.scenario import Scenario, Vm

MASK = 2**64 - 1
BASE, CODE, MEMORY = 0x3000, 0x4000, 0x10000  # the exit stub, the code, the memory to work on
MEMORY_SIZE = 512
STATUS_FLAGS = flags.CF | flags.PF | flags.AF | flags.ZF | flags.SF | flags.DF | flags.OF

_rflags = callable_alone(flags.rflags)
_set_rflags = callable_alone(flags.set_rflags)
_SCENARIO = Scenario(name="made", vm=(Vm(name="vm0", program="made.S", vcpus=1),), duration_ms=1.0)


@attrs.define
class State:
    """Architecture that the instructions see."""

    registers: list[int]
    flags: int
    memory: bytearray
    fault: tuple[int, int] = (0, 0)  # its kind, and the address of the instruction


def table_of(code: bytes) -> list[dict[str, int]]:
    """Decode ``code`` at its address; raises UnsupportedError for what lies outside the subset."""
    ends = CODE + len(code)
    records = [{"op": isa.OP_END, "address": BASE, "length": 1}]
    for instruction in Decoder(64, code, ip=CODE):
        if instruction.is_invalid:
            raise UnsupportedError("no instruction")
        records.append(record_of(instruction))
        if instruction.op_count and instruction.op0_kind == OpKind.NEAR_BRANCH64:
            records[-1]["branch"] = instruction.near_branch_target
    records.append({"op": isa.OP_END, "address": ends, "length": 1})
    index = {record["address"]: number for number, record in enumerate(records)}
    for record in records:
        if "branch" in record:
            record["target"] = index[record.pop("branch")]
    return records


@functools.cache
def _blank(folder: Path) -> Image:
    prepare_core()
    return make_guest(folder, "ret")


def image_of(folder: Path, code: bytes) -> Image:
    """Return the image of a guest that is only ``code``, at CODE, with its end behind it."""
    records = table_of(code)
    empty = empty_record()
    table = np.array([tuple((empty | record).values()) for record in records], isa.INSTRUCTION).view(np.recarray)
    code_size = CODE - BASE + len(code) + 1
    index_of = np.full(code_size, -1, np.int32)
    index_of[table.address - BASE] = np.arange(len(table))
    return attrs.evolve(
        _blank(folder),
        base=BASE,
        memory=np.zeros(MEMORY + MEMORY_SIZE - BASE, np.uint8),
        readonly_size=code_size,
        code_size=code_size,
        instructions=table,
        index_of=index_of,
        entry=1,
        vectors=np.full(256, -1, np.int32),
    )


def execute(folder: Path, code: bytes, before: State) -> State:
    """Run ``code`` to its end, or to a fault."""
    path = _SCENARIO.program_path(_SCENARIO.vm[0])
    machine, _ = build(_SCENARIO, policy("vanilla"), {path: image_of(folder, code)}, recording=False)
    cpu = machine.cpu[0]
    cpu.registers[:16] = [signed(value) for value in before.registers]
    _set_rflags(cpu, before.flags)
    memory = machine.memory.view(np.uint8)[MEMORY - BASE :][:MEMORY_SIZE]
    memory[:] = np.frombuffer(before.memory, np.uint8)
    with np.errstate(over="ignore"):
        machine.run.progress = 1 << 62
        run_machine(machine)
    assert cpu.registers[isa.ZERO] == 0
    fault = machine.fault[0]
    return State(
        [value & MASK for value in cpu.registers[:16].tolist()],
        int(_rflags(cpu)) & STATUS_FLAGS,
        bytearray(memory.tobytes()),
        (int(fault.kind), int(machine.code[int(fault.pc)].address)) if fault.kind else (0, 0),
    )


def signed(value: int) -> int:
    """Return a 64-bit number as the records hold it."""
    return value - 2**64 if value >> 63 else value
