"""One vCPU that runs a sequence of instructions: bytes, registers, flags and memory in, the same out."""

from __future__ import annotations

import functools

import attrs
from made_machines import prepare_core

from pleemu.conform.x86 import STATUS_FLAGS
from pleemu.testing import CODE_BASE, REGISTERS, Case, Processor

MASK = 2**64 - 1
CODE, MEMORY = CODE_BASE, 0x10000  # the code, the memory to work on
MEMORY_SIZE = 512

__all__ = ["CODE", "MASK", "MEMORY", "MEMORY_SIZE", "STATUS_FLAGS", "State", "execute", "processor"]


@attrs.define
class State:
    """Architecture that the instructions see."""

    registers: list[int]
    flags: int
    memory: bytearray


@functools.cache
def processor() -> Processor:
    """Return the one processor of this process."""
    prepare_core()
    return Processor()


def execute(code: bytes, before: State) -> State:
    """Run ``code`` to its end."""
    registers = dict(zip(REGISTERS, before.registers, strict=True)) | {"rflags": before.flags}
    done = processor().execute(Case(code, registers=registers, memory={MEMORY: bytes(before.memory)}))
    assert done.ended == "end", done
    return State(list(done.registers.values()), done.rflags & STATUS_FLAGS, bytearray(done.read(MEMORY, MEMORY_SIZE)))
