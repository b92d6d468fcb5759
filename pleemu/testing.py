"""Execute machine code on one vCPU: bytes, registers and memory in, what they became out.

    from pleemu.testing import execute

    done = execute(bytes.fromhex("4801d8"), registers={"rax": 1, "rbx": 2})  # add rax, rbx
    assert done.registers["rax"] == 3

The code runs at CPL 0 from its first byte until it reaches the byte behind its last, a fault, HLT
with nothing to wake it, or ``max_instructions``. Nothing interrupts it and no PAUSE exits. What is
no instruction, or one that guests cannot have, is a fault when it is reached.

`shrink_schedule` reduces what `host.scheduler = "chaos"` has found to the preemptions that matter.

What `pleemu check` asks of a policy, for tests of one's own (see `pleemu.checks`):

    from hypothesis import given
    from pleemu.testing import PROPERTIES, commands, observe

    @given(commands(policies=["strict-boost"]))
    def test_my_rule(command):
        observed = observe(command)  # its events: observed.rows
        for one in PROPERTIES: ...   # one.about(observed), one.check(observed)

`commands`, `policies`, `pinnings`, `schedules` and `check_policy` need hypothesis, the extra `check`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import attrs
import numpy as np

from pleemu.checks.finding import PropertyError
from pleemu.checks.observed import Command, Observed, observe
from pleemu.checks.properties import PROPERTIES
from pleemu.errors import PleemuError, nearest
from pleemu.guest.image import Image
from pleemu.guest.raw import RawCode, decode_raw, image_of, table_of
from pleemu.hardware import flags, isa
from pleemu.hardware import records as hardware
from pleemu.jit import callable_once
from pleemu.machine.build import Layout, build, code_of
from pleemu.machine.faults import REGISTER_NAMES, describe
from pleemu.machine.loop import FAULT, FINISHED, run_machine
from pleemu.machine.state import Machine
from pleemu.policy import policy
from pleemu.processor import processor as processor_named
from pleemu.scenario import Cost, Hardware, Scenario, Vm
from pleemu.scheduler.records import TASK_DEAD
from pleemu.shrinking import shrink_schedule

if TYPE_CHECKING:
    from pleemu.checks.kit import check_policy
    from pleemu.checks.machines import commands, pinnings, policies, schedules

__all__ = [
    "PROPERTIES",
    "Case",
    "Command",
    "ExecuteError",
    "Execution",
    "Fault",
    "Observed",
    "Processor",
    "PropertyError",
    "check_policy",
    "commands",
    "execute",
    "observe",
    "pinnings",
    "policies",
    "schedules",
    "shrink_schedule",
]

_OF_HYPOTHESIS = {
    "check_policy": "kit",
    "commands": "machines",
    "pinnings": "machines",
    "policies": "machines",
    "schedules": "machines",
}


def __getattr__(name: str) -> Any:
    """Import what needs hypothesis when it is asked for."""
    if name in _OF_HYPOTHESIS:
        return getattr(importlib.import_module(f"pleemu.checks.{_OF_HYPOTHESIS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


CODE_BASE = 0x4000
SPAN_LIMIT = 64 << 20  # bytes from the code to the end of the last region
CODE_LIMIT = 1 << 20
INSTRUCTION_LIMIT = 1 << 40
DEFAULT_PROCESSOR = "broadwell"

REGISTERS = REGISTER_NAMES
RFLAGS_AT_RESET = 2

_MASK = (1 << 64) - 1
_FAULTS = {
    value: name.removeprefix("FAULT_").lower().replace("_", "-")
    for name, value in vars(hardware).items()
    if name.startswith("FAULT_")
}
_STACKS_KIB = 16  # that `build` asks for behind the memory
_PAGE = 4096

_rflags = callable_once(flags.rflags)
_set_rflags = callable_once(flags.set_rflags)

Ended = Literal["end", "fault", "halted", "max-instructions"]


class ExecuteError(PleemuError):
    """An argument of `execute` that makes no sense."""


@attrs.frozen(kw_only=True)
class Fault:
    """Why the processor stopped, and where."""

    kind: str  # as in the constants FAULT_* of pleemu.hardware.records: read, write, readonly, jump, ...
    rip: int  # of the instruction that did it
    address: int  # that it reached for; for other kinds what the message names
    instruction: str  # in Intel syntax, empty where none begins
    message: str


@attrs.frozen(kw_only=True)
class Execution:
    """What became of the vCPU and its memory."""

    ended: Ended
    fault: Fault | None
    rip: int  # of the next instruction: behind the code, that of the fault, behind the HLT
    registers: dict[str, int]  # rax ... r15, unsigned
    rflags: int
    writes: tuple[tuple[int, bytes], ...]  # address, new bytes: wherever memory differs from before
    instructions: int  # completed
    cycles: int  # of the core, spent in guest code
    memory: bytes = attrs.field(repr=False)  # of all of the vCPU's address space, which begins at `memory_base`
    memory_base: int

    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes of memory at ``address``."""
        offset = address - self.memory_base
        if not 0 <= offset <= len(self.memory) - size:
            raise ExecuteError(f"read: {size} bytes at {address:#x} are outside of the memory that was given")
        return self.memory[offset : offset + size]


def execute(
    code: bytes,
    *,
    registers: Mapping[str, int] | None = None,
    memory: Mapping[int, bytes] | None = None,
    max_instructions: int = 100_000,
    code_base: int = CODE_BASE,
    processor: str = DEFAULT_PROCESSOR,
) -> Execution:
    """Run ``code`` on one vCPU.

    ``registers`` by name, ``rflags`` included; all others are 0, ``rsp`` too: who uses the stack
    gives one. ``memory`` maps addresses above the code to bytes; what lies between them is zero.
    The code cannot be written. ``processor`` is the preset that gives the cycles.
    """
    case = Case(
        code, registers=registers or {}, memory=memory or {}, max_instructions=max_instructions, code_base=code_base
    )
    return Processor(processor).execute(case)


@attrs.frozen
class Case:
    """What `execute` takes, checked."""

    code: bytes
    registers: Mapping[str, int] = attrs.field(factory=dict, kw_only=True)
    memory: Mapping[int, bytes] = attrs.field(factory=dict, kw_only=True)
    max_instructions: int = attrs.field(default=100_000, kw_only=True)
    code_base: int = attrs.field(default=CODE_BASE, kw_only=True)
    span: int = attrs.field(init=False)  # bytes from the code to the end of the last region

    def __attrs_post_init__(self) -> None:
        _check_registers(self.registers)
        _check_number("max_instructions", self.max_instructions, 0, INSTRUCTION_LIMIT)
        object.__setattr__(self, "span", _checked_span(self.code, self.code_base, self.memory))


class Processor:
    """A vCPU that executes case after case, each from its own initial state.

    It keeps its machine for as long as code and memory fit, and prepares many cases in one go:
    a hundred thousand take seconds.
    """

    def __init__(self, preset: str = DEFAULT_PROCESSOR) -> None:
        self._preset = processor_named(preset).name
        self._made: _Made | None = None

    def execute(self, case: Case) -> Execution:
        """Run one case."""
        return next(self.execute_all((case,)))

    def execute_all(self, cases: Sequence[Case]) -> Iterator[Execution]:
        """Run many cases, one after the other."""
        raws = [decode_raw(bytes(case.code), case.code_base) for case in cases]
        table = table_of([row for raw in raws for row in raw.rows])
        if raws:
            table, _ = code_of(_scenario(self._preset, 0), (image_of(raws[0], table),))
        first = 0
        for case, raw in zip(cases, raws, strict=True):
            if self._made is None or not self._made.fits(case, raw):
                self._made = _Made.of(self._preset, case, raw)
            yield self._made.execute(case, raw, table[first : first + len(raw.rows)])
            first += len(raw.rows)


@attrs.define
class _Made:
    """A machine of one vCPU that is about to execute its first instruction, and how to come back to that."""

    scenario: Scenario
    layout: Layout
    machine: Machine
    at_start: list[tuple[np.ndarray, np.ndarray]]  # the bytes of each array of the machine, and what they were
    start: int
    memory: np.ndarray  # the vCPU's, as bytes
    code_room: int  # bytes
    instruction_room: int

    @classmethod
    def of(cls, preset: str, case: Case, raw: RawCode) -> _Made:
        """Build a machine with some room for longer code."""
        code_room = max(256, 2 * (len(raw.code) + 1))
        instruction_room = max(64, 2 * len(raw.rows))
        size = -(-max(case.span, code_room) // _PAGE) * _PAGE
        scenario = _scenario(preset, size // 1024)
        image = _padded(image_of(raw, table_of(raw.rows)), size, code_room, instruction_room)
        programs = {scenario.program_of(scenario.vm[0]): image}
        machine, layout = build(scenario, policy("no-ple"), programs, recording=False)
        _go_to_first_instruction(machine)
        machine.space.bytes = machine.space.stacks = case.span
        at_start = [
            (_bytes_of(array), _bytes_of(array).copy())
            for name, array in zip(Machine._fields, machine, strict=True)
            if name not in ("memory", "code", "index_of")
        ]
        memory = machine.memory.view(np.uint8)[: case.span]
        return cls(scenario, layout, machine, at_start, raw.base, memory, code_room, instruction_room)

    def fits(self, case: Case, raw: RawCode) -> bool:
        """Whether the machine has room for this code and exactly this address space."""
        return (
            case.code_base == self.start
            and case.span == len(self.memory)
            and len(raw.code) < self.code_room
            and len(raw.rows) <= self.instruction_room
        )

    def execute(self, case: Case, raw: RawCode, rows: np.ndarray) -> Execution:
        """Run ``case``, whose instructions are ``rows``."""
        machine = self.machine
        for array, held in self.at_start:
            array[...] = held
        size = len(raw.code) + 1
        machine.code[: len(rows)] = rows
        machine.index_of[:] = -1
        machine.index_of[:size] = raw.index_of
        machine.space.code_size = machine.space.readonly_size = size
        machine.memory[:] = 0
        self.memory[: size - 1] = np.frombuffer(raw.code, np.uint8)
        for address, content in case.memory.items():
            offset = address - self.start
            self.memory[offset : offset + len(content)] = np.frombuffer(content, np.uint8)
        cpu = machine.cpu[0]
        cpu.pc = raw.index_of[0]
        _load_registers(cpu, case.registers)
        before = self.memory.copy()
        ended = _run(machine, raw.end, case.max_instructions)
        _commit_stores(machine)
        return _result(self, raw, ended, before)

    def image(self, raw: RawCode) -> Image:
        """Return what is in the machine, for messages."""
        return attrs.evolve(image_of(raw, table_of(raw.rows)), memory=self.memory)


def _bytes_of(array: np.ndarray) -> np.ndarray:
    return array.view(np.ndarray).reshape(-1).view(np.uint8)


def _scenario(preset: str, memory_kib: int) -> Scenario:
    """One VM on one pCPU, whose host costs nothing, but for the VM entry (see `_go_to_first_instruction`)."""
    costs = dict.fromkeys(attrs.fields_dict(Cost), 0) | {"ipi_ns": 1, "poll_turn_ns": 1, "entry_ns": 1000}
    return Scenario(
        name="execute",
        hardware=Hardware(processor=preset),
        cost=Cost(**costs),
        vm=(Vm(name="vm0", program="code", vcpus=1, memory_kib=memory_kib + _STACKS_KIB),),
    )


def _padded(image: Image, size: int, code_room: int, instruction_room: int) -> Image:
    """Return the image with so many bytes of memory and room for more code and instructions."""
    index_of = np.full(code_room, -1, np.int32)
    index_of[: len(image.index_of)] = image.index_of
    more = instruction_room - len(image.instructions)
    spare = np.repeat(image.instructions[-1:], more)
    spare["op"] = isa.OP_UNSUPPORTED
    table = np.concatenate((image.instructions, spare)).view(np.recarray)
    memory = np.zeros(size, np.uint8)
    return attrs.evolve(image, memory=memory, index_of=index_of, code_size=code_room, instructions=table)


def _go_to_first_instruction(machine: Machine) -> None:
    """Have the host start the vCPU's thread, then take away whatever could interrupt it."""
    pcpu, run = machine.pcpu[0], machine.run[0]
    run.progress = 1
    with np.errstate(over="ignore"):
        while pcpu.phase != hardware.GUEST:
            run_machine(machine)
            run.progress += 1
    run.progress = run.until = hardware.NEVER
    pcpu.next_tick = hardware.NEVER
    machine.cost.entry = 0
    machine.vcpu.guest_cycles = 0
    machine.journal.column_cycles = hardware.NEVER  # no columns of time


def _load_registers(cpu: Any, values: Mapping[str, int]) -> None:
    cpu.registers[:16] = np.array([values.get(name, 0) & _MASK for name in REGISTERS], np.uint64).view(np.int64)
    rflags = values.get("rflags", RFLAGS_AT_RESET)
    _set_rflags(cpu, np.int64(rflags))
    cpu.interrupt_flag = int(rflags & flags.IF != 0)


def _run(machine: Machine, end: int, max_instructions: int) -> Ended:
    """Go on until something ends it. An instruction takes at least a cycle: n of them begin within n cycles."""
    cpu, pcpu, vcpu, run = machine.cpu[0], machine.pcpu[0], machine.vcpu[0], machine.run[0]
    with np.errstate(over="ignore"):
        while True:
            left = max_instructions - int(cpu.instructions)
            in_guest, at_end = pcpu.phase == hardware.GUEST, cpu.pc == end
            if in_guest and left <= 0 and not at_end:
                return "max-instructions"
            run.until = (
                hardware.NEVER if at_end else int(pcpu.cycle) + max(left, 1) + _elements_before_the_last(machine)
            )
            why = run_machine(machine)
            if why == FAULT:
                return "fault"
            if why != FINISHED:
                return "end" if machine.task.state[0] == TASK_DEAD else "halted"
            if pcpu.phase == hardware.GUEST:  # not yet: the end of a run closes the interval
                vcpu.guest_cycles -= max(int(run.until) - int(vcpu.guest_from), 0)


def _commit_stores(machine: Machine) -> None:
    """Put what is still in the store buffer into memory: the vCPU itself sees it there."""
    pcpu, memory = machine.pcpu[0], machine.memory.view(np.uint8)
    for number in range(int(pcpu.buffered)):
        entry = machine.buffer[0, (int(pcpu.oldest) + number) % hardware.BUFFER_LIMIT]
        value = int(entry.value).to_bytes(8, "little", signed=True)[: int(entry.width)]
        memory[int(entry.byte) : int(entry.byte) + len(value)] = np.frombuffer(value, np.uint8)


def _elements_before_the_last(machine: Machine) -> int:
    """How many elements a repeated string instruction does for sure before it is one instruction more."""
    cpu = machine.cpu[0]
    i = machine.code[cpu.pc]
    if i.op not in (isa.OP_MOVS, isa.OP_STOS, isa.OP_LODS) or i.condition == isa.ONCE:
        return 0
    count = int(cpu.registers[isa.RCX]) & _MASK
    return max(0, min(count, int(machine.space.bytes[0])) - 1)  # beyond the memory there is a fault


def _commit_all_stores(machine: Machine) -> None:
    """Empty the store buffer of a vCPU that executes nothing more."""
    pcpu, fault = machine.pcpu[0], machine.fault.copy()
    machine.fault.kind = hardware.NO_FAULT
    pcpu.cycle = machine.run.until[0] = hardware.NEVER
    with np.errstate(over="ignore"):
        run_machine(machine)
    machine.fault[:] = fault


def _result(made: _Made, raw: RawCode, ended: Ended, before: np.ndarray) -> Execution:
    machine = made.machine
    cpu, pcpu, vcpu = machine.cpu[0], machine.pcpu[0], machine.vcpu[0]
    cycles = int(vcpu.guest_cycles)
    if ended == "fault":
        cycles += int(machine.fault.cycle[0]) - int(vcpu.guest_from)
    elif ended == "max-instructions":
        cycles += int(pcpu.cycle) - int(vcpu.guest_from)
    _commit_all_stores(machine)
    pc = int(machine.fault.pc[0]) if ended == "fault" else int(cpu.pc)
    return Execution(
        ended=ended,
        fault=_fault(made, raw) if ended == "fault" else None,
        rip=int(machine.code.address[pc]) & _MASK,
        registers=dict(zip(REGISTERS, (value & _MASK for value in cpu.registers[:16].tolist()), strict=True)),
        rflags=int(_rflags(cpu)),
        writes=_writes(made.start, before, made.memory),
        instructions=int(cpu.instructions),
        cycles=cycles,
        memory=made.memory.tobytes(),
        memory_base=made.start,
    )


def _fault(made: _Made, raw: RawCode) -> Fault:
    fault = made.machine.fault[0]
    rip = int(made.machine.code.address[int(fault.pc)]) & _MASK
    image = made.image(raw)
    report = describe(made.machine, attrs.evolve(made.layout, images=(image,)), made.scenario)
    message = report.partition("\n")[0]  # without the registers, which the result has
    if rip in raw.unsupported:
        message += f": {raw.unsupported[rip]}"
    return Fault(
        kind=_FAULTS[int(fault.kind)],
        rip=rip,
        address=int(fault.address) & _MASK,
        instruction="" if rip in raw.unsupported else image.text_of(int(fault.pc)),
        message=message,
    )


def _writes(start: int, before: np.ndarray, after: np.ndarray) -> tuple[tuple[int, bytes], ...]:
    """Return what differs, as runs of neighbouring bytes."""
    different = np.flatnonzero(before != after)
    if len(different) == 0:
        return ()
    runs = np.split(different, np.flatnonzero(np.diff(different) > 1) + 1)
    return tuple((start + int(run[0]), after[run[0] : run[-1] + 1].tobytes()) for run in runs)


def _checked_span(code: bytes, code_base: int, regions: Mapping[int, bytes]) -> int:
    """Return the bytes from the code to the end of the last region."""
    if not isinstance(code, bytes | bytearray | memoryview):
        raise ExecuteError(f"code: {type(code).__name__} is not bytes; use bytes.fromhex for hexadecimal text")
    if len(code) > CODE_LIMIT:
        raise ExecuteError(f"code: {len(code)} bytes are too many; use at most {CODE_LIMIT}")
    _check_number("code_base", code_base, 0, _MASK - SPAN_LIMIT)
    end = code_base + len(code) + 1  # what marks the end of the code takes a byte
    for address, content in sorted(regions.items()):
        _check_number("memory: address", address, 0, _MASK)
        if not isinstance(content, bytes | bytearray | memoryview):
            raise ExecuteError(f"memory: {type(content).__name__} at {address:#x} is not bytes")
        if address < end:
            what = "the code and the byte behind it" if end == code_base + len(code) + 1 else "the region before it"
            raise ExecuteError(f"memory: the region at {address:#x} begins before {end:#x}, where {what} ends")
        end = address + len(content)
        if end - code_base > SPAN_LIMIT:
            raise ExecuteError(
                f"memory: the region at {address:#x} ends {end - code_base:#x} bytes from the code at {code_base:#x}; "
                f"use at most {SPAN_LIMIT:#x}, or another code_base"
            )
    return end - code_base


def _check_registers(given: Mapping[str, int]) -> None:
    for name, value in given.items():
        if name not in REGISTERS and name != "rflags":
            raise ExecuteError(f"registers: unknown register {name!r}{nearest(name, (*REGISTERS, 'rflags'))}")
        _check_number(f"registers: {name}", value, -(1 << 63), _MASK)


def _check_number(what: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ExecuteError(f"{what}: {value!r} is not an integer")
    if not low <= value <= high:
        raise ExecuteError(f"{what}: {value:#x} is out of range; use {low:#x} to {high:#x}")
