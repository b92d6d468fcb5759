"""Guests that try to leave their memory or their code: each ends in a report, and nothing else is touched."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from iced_x86 import Encoder, Register
from made_machines import prepare_core
from made_processors import processor
from made_sequences import FORMS

from pleemu.guest.forms import example
from pleemu.hardware.isa import ZERO
from pleemu.machine.state import Machine
from pleemu.testing import CODE_BASE, REGISTERS, Case, Processor, _bytes_of

MEMORY, SIZE = 0x6000, 512
END = MEMORY + SIZE
LIMIT = 200  # instructions
CASES = int(os.environ.get("PLEEMU_CASES", "1000"))  # of each kind
PLAIN_CASES = 40  # of each kind, without numba
FEW = 300
GUARD = 4096  # bytes on each side of an array
EDGES = tuple(
    (edge + step) % 2**64
    for edge in (0, MEMORY, END, CODE_BASE, 1 << 31, 1 << 32, 1 << 62, 1 << 63, 2**64 - 1, 2**64 - SIZE)
    for step in (-64, -16, -9, -8, -7, -4, -2, -1, 0, 1, 2, 4, 7, 8, 9, 16, 64)
)
CANARY = 0xA5
STACK = tuple(range(MEMORY, END, 8))


def random_registers(rng):
    return {
        name: rng.choice((rng.choice(EDGES), MEMORY + rng.randrange(SIZE), rng.getrandbits(64), rng.randrange(64)))
        for name in REGISTERS
    } | {"rflags": rng.getrandbits(12)}


def random_bytes(rng):
    """Code that nobody wrote."""
    return rng.randbytes(rng.randint(1, 60))


def random_instructions(rng):
    """Instructions of the subset, whose operands reach anywhere and whose jumps lead anywhere."""
    code = bytearray()
    encoder = Encoder(64)
    for _ in range(rng.randint(1, 12)):
        form = rng.choice(FORMS)
        instruction = example(form)
        for number, operand in enumerate(form.operands):
            if operand == "r64":
                instruction.set_op_register(number, Register.RAX + rng.randrange(16))
        if instruction.memory_base == Register.RBX:
            if "r8h" not in form.operands:
                instruction.memory_base = Register.RAX + rng.randrange(16)
            instruction.memory_displacement = rng.choice((0, 8, -8 % 2**64, 0x7FFFFFFF, -(2**31) % 2**64))
            instruction.memory_displ_size = 8
        if any(operand.startswith("rel") for operand in form.operands):
            instruction.near_branch64 = CODE_BASE + rng.randrange(-20, 100)
        try:
            encoder.encode(instruction, CODE_BASE + len(code))
        except ValueError:  # a jump that does not reach
            continue
        code += encoder.take_buffer()
    return bytes(code) or b"\x90"


def random_strings(rng):
    """A repeated string instruction with a count up to 2^64."""
    repetition, width = rng.choice((b"\xf3", b"\xf2")), rng.choice((b"", b"\x66", b"\x48"))
    which = rng.choice((0xA4, 0xA6, 0xAA, 0xAC, 0xAE)) + rng.randrange(2)
    return rng.choice((b"", b"\xfd")) + repetition + width + bytes((which,))


def random_stack(rng):
    """Pushes, pops, calls and returns in a loop, until the stack is at its end."""
    bodies = (
        b"\x50",
        b"\x58",
        b"\x66\x50",
        b"\x9c",
        b"\xe8\xfb\xff\xff\xff",
        b"\xc3",
        b"\xc9",
        b"\xff\x34\x24",
        b"\x5c",
    )
    body = b"".join(rng.choice(bodies) for _ in range(rng.randint(1, 4)))
    return body + bytes((0xEB, -len(body) - 2 & 0xFF))


MAKERS = {maker.__name__: maker for maker in (random_bytes, random_instructions, random_strings, random_stack)}


def cases_of(maker, count):
    """The same cases in every process."""
    rng = random.Random(maker)
    memory = rng.randbytes(SIZE)
    made = []
    for _ in range(count):
        registers = random_registers(rng)
        if maker == "random_stack":
            registers["rsp"] = rng.choice((*STACK, *EDGES))
        made.append(
            Case(
                MAKERS[maker](rng),
                registers=registers,
                memory={MEMORY: memory},
                max_instructions=rng.choice((3, LIMIT)),
            )
        )
    return made


class Guarded:
    """A processor all of whose arrays stand between guard bytes."""

    def __init__(self):
        prepare_core()
        self.processor = Processor()
        warm = Case(b"\x90" * 100, memory={MEMORY: bytes(SIZE)})
        self.processor.execute(warm)
        made = self.processor._made
        arrays, self.buffers = {}, {}
        for name, array in zip(Machine._fields, made.machine, strict=True):
            buffer = np.full(2 * GUARD + array.nbytes, CANARY, np.uint8)
            inside = buffer[GUARD : GUARD + array.nbytes]
            inside[:] = _bytes_of(array)
            arrays[name] = inside.view(array.dtype).reshape(array.shape).view(type(array))
            self.buffers[name] = buffer
        made.machine = Machine(**arrays)
        held = (before for _, before in made.at_start)
        kept = [array for name, array in arrays.items() if name not in ("memory", "code", "index_of")]
        made.at_start = [(_bytes_of(array), before) for array, before in zip(kept, held, strict=True)]
        made.memory = made.machine.memory.view(np.uint8)[: warm.span]
        self.made = made

    def run(self, cases):
        for case, done in zip(cases, self.processor.execute_all(cases), strict=True):
            assert self.processor._made is self.made
            yield case, done

    def touched(self):
        """The arrays beside which something was written."""
        ends = {name: np.concatenate((one[:GUARD], one[-GUARD:])) for name, one in self.buffers.items()}
        return [name for name, guards in ends.items() if (guards != CANARY).any()]


@pytest.fixture(scope="module")
def guarded():
    return Guarded()


@pytest.mark.parametrize("maker", MAKERS)
def test_nothing_leaves_the_guest(guarded, maker):
    """Every case ends by itself or at its limit, with a report, its code unchanged, and nothing else written."""
    ends = Counter()
    for case, done in guarded.run(cases_of(maker, CASES)):
        ends[done.fault.kind if done.fault else done.ended] += 1
        assert done.ended in ("end", "fault", "max-instructions", "halted")
        assert done.instructions <= case.max_instructions
        assert done.read(CODE_BASE, len(case.code)) == case.code
        assert guarded.made.machine.cpu.registers[0, ZERO] == 0
        if done.fault:
            assert done.fault.message.startswith("code: guest fault in vm0 vCPU 0: ")
            assert hex(done.rip) in done.fault.message
    assert guarded.touched() == []
    assert ends["write"] + ends["read"] > CASES // 20, ends


def test_guards_notice_a_write_beside_an_array(guarded):
    """A write one byte before or behind is seen."""
    for place in (GUARD - 1, -GUARD):
        guarded.buffers["memory"][place] ^= 1
        assert guarded.touched() == ["memory"]
        guarded.buffers["memory"][place] ^= 1
    assert guarded.touched() == []


ACCESSES = {
    "mov rax, [rbx]": ("488b03", 8, "read"), "mov [rbx], rax": ("488903", 8, "write"),
    "mov al, [rbx]": ("8a03", 1, "read"), "mov [rbx], ax": ("668903", 2, "write"),
    "lock add [rbx], eax": ("f00103", 4, "write"), "cmpxchg8b [rbx]": ("0fc70b", 8, "write"),
    "push [rbx]": ("ff33", 8, "read"), "jmp [rbx]": ("ff23", 8, "read"), "xchg [rbx], rax": ("488703", 8, "write"),
    "bts [rbx], 5": ("0fba2b05", 4, "write"), "div qword ptr [rbx]": ("48f733", 8, "read"),
}  # fmt: skip


@settings(max_examples=FEW)
@given(st.sampled_from(sorted(ACCESSES)), st.sampled_from(EDGES) | st.integers(0, 2**64 - 1))
def test_an_access_is_possible_exactly_inside(name, address):
    """One byte outside of the memory, at either end or around 2^64, is a fault that names the address."""
    text, size, kind = ACCESSES[name]
    note(f"{name} at {address:#x}")
    registers = {"rbx": address, "rsp": MEMORY + 256, "rax": 1}
    case = Case(bytes.fromhex(text), registers=registers, memory={MEMORY: bytes(SIZE)}, max_instructions=1)
    done = processor().execute(case)
    inside = CODE_BASE <= address <= END - size
    in_code = address <= CODE_BASE + len(case.code) and kind == "write" and inside
    if not inside or in_code:
        expected = ("readonly" if in_code else kind, address)
        assert (done.fault.kind, done.fault.address) == expected
        assert hex(address) in done.fault.message
    else:
        assert done.fault is None or done.fault.kind in ("jump", "divide")


SCRIPT = """
import json, sys
sys.path.insert(0, "tests")
from test_escapes import MAKERS, PLAIN_CASES, outcomes
print(json.dumps({maker: outcomes(maker, PLAIN_CASES) for maker in MAKERS}))
"""


def outcomes(maker, count):
    """What became of the cases, as plain values."""
    return [
        [done.ended, done.fault and done.fault.message, list(done.registers.values()), done.rflags, done.instructions,
         done.cycles, [[address, content.hex()] for address, content in done.writes]]
        for done in processor().execute_all(cases_of(maker, count))
    ]  # fmt: skip


def test_plain_python_ends_every_case_alike():
    """With NUMBA_DISABLE_JIT=1 each case has the same end, registers, flags, writes and cycles."""
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=300, env=environment,
        cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {maker: outcomes(maker, PLAIN_CASES) for maker in MAKERS}
