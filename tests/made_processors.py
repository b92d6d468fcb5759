"""One vCPU that runs a sequence of instructions: bytes, registers, flags and memory in, the same out."""

from __future__ import annotations

import functools

import attrs
from made_machines import prepare_core

from pleemu.conform.x86 import STATUS_FLAGS
from pleemu.hardware import records
from pleemu.testing import CODE_BASE, REGISTERS, Case, Processor

MASK = 2**64 - 1
BASE = CODE = CODE_BASE  # where the address space begins
MEMORY = 0x10000  # the memory to work on
MEMORY_SIZE = 512
END = MEMORY + MEMORY_SIZE + 64  # of the address space: zeros behind the memory

__all__ = ["BASE", "CODE", "END", "MASK", "MEMORY", "MEMORY_SIZE", "STATUS_FLAGS", "State", "execute", "processor"]


@attrs.define
class State:
    """Architecture that the instructions see."""

    registers: list[int]
    flags: int
    memory: bytearray
    fault: tuple[int, int] = (0, 0)  # its kind, and the address of the instruction


@functools.cache
def processor() -> Processor:
    """Return the one processor of this process."""
    prepare_core()
    return Processor()


def execute(code: bytes, before: State) -> State:
    """Run ``code`` to its end, or to a fault."""
    registers = dict(zip(REGISTERS, before.registers, strict=True)) | {"rflags": before.flags}
    memory = bytes(before.memory).ljust(END - MEMORY, b"\0")
    done = processor().execute(Case(code, registers=registers, memory={MEMORY: memory}))
    assert done.ended in ("end", "fault"), done
    fault = (0, 0)
    if done.fault is not None:
        kind = getattr(records, "FAULT_" + done.fault.kind.upper().replace("-", "_"))
        fault = (kind, done.fault.rip)
    after = bytearray(done.read(MEMORY, MEMORY_SIZE))
    return State(list(done.registers.values()), done.rflags & STATUS_FLAGS, after, fault)
