"""The public way to execute a few bytes on one vCPU."""

import pytest
from hypothesis import given, note
from hypothesis import strategies as st
from iced_x86 import Decoder

from pleemu.errors import PleemuError
from pleemu.processor import PROCESSORS
from pleemu.testing import CODE_BASE, SPAN_LIMIT, Case, Processor, execute

MEMORY = 0x10000
ADD = bytes.fromhex("4801d8")  # add rax, rbx
LOOP = bytes.fromhex("ebfe")  # jmp $
PUSH = bytes.fromhex("50")  # push rax
LOAD = bytes.fromhex("488b03")  # mov rax, [rbx]
STORE = bytes.fromhex("488903")  # mov [rbx], rax


def test_registers_flags_memory_and_counts_are_those_after_the_code():
    """One sum, one store: every part of the answer."""
    done = execute(ADD + STORE, registers={"rax": -1, "rbx": MEMORY, "rflags": 2}, memory={MEMORY: bytes(16)})
    assert (done.ended, done.fault, done.rip) == ("end", None, CODE_BASE + 6)
    assert done.registers["rax"] == MEMORY - 1
    assert done.rflags == 0x07  # CF, PF
    assert done.writes == ((MEMORY, b"\xff\xff"),)
    assert (done.instructions, done.cycles) == (2, 2)
    assert done.read(MEMORY, 3) == b"\xff\xff\x00"


def test_what_differs_is_told_by_runs_and_what_is_written_as_it_was_is_not():
    """Two stores far from each other, one of which changes nothing."""
    code = STORE + bytes.fromhex("48894340") + bytes.fromhex("4889b380000000")  # mov [rbx+64], rax; mov [rbx+128], rsi
    done = execute(code, registers={"rax": 0x0102, "rbx": MEMORY}, memory={MEMORY: bytes(256)})
    assert done.writes == ((MEMORY, b"\x02\x01"), (MEMORY + 64, b"\x02\x01"))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 1000])
def test_max_instructions_is_exact(count):
    """Whatever instructions cost, exactly as many are executed."""
    code = bytes.fromhex("f390 f0480103 0faef0 90 ebf4")  # pause; lock add; mfence; nop; jmp
    done = execute(code, registers={"rbx": MEMORY}, memory={MEMORY: bytes(8)}, max_instructions=count)
    assert (done.ended, done.instructions) == ("max-instructions", count)
    assert done.cycles >= count
    assert execute(b"\x90" * count, max_instructions=count).ended == "end"


@pytest.mark.parametrize("prefix", ["", "fd"])
@pytest.mark.parametrize(
    ("string", "elements"), [("f3aa", 100), ("f348a5", 30), ("f3ac", 2), ("f2ae", 57), ("f3a6", 9)]
)
def test_a_repeated_instruction_is_one(string, elements, prefix):
    """Of three instructions behind a string one is executed if one is left, however many elements it has."""
    code = bytes.fromhex(prefix + string + "ffc0" * 3)  # inc eax
    middle = MEMORY + 512
    registers = {"rcx": elements, "rsi": middle, "rdi": middle, "rax": 1, "rbx": 0}
    first = 2 if prefix else 1
    for more in range(4):
        memory = {MEMORY: bytes(1024)}
        done = execute(code, registers=registers, memory=memory, max_instructions=first + more)
        assert (done.instructions, done.rip) == (first + more, CODE_BASE + len(code) - 2 * (3 - more))
        assert done.cycles == first + more + elements - 1
        assert done.registers["rcx"] == 0


def test_cycles_are_those_of_the_preset():
    """PAUSE costs what the processor's table says."""
    costs = {one.name: execute(b"\xf3\x90", processor=one.name).cycles for one in PROCESSORS}
    assert costs == {one.name: one.pause_cycles for one in PROCESSORS}


@pytest.mark.parametrize(
    ("code", "registers", "kind", "offset", "address"),
    [
        (b"\x90" + LOAD, {"rbx": MEMORY + 1}, "read", 1, MEMORY + 1),
        (b"\x90" + LOAD, {"rbx": 2**64 - 1}, "read", 1, 2**64 - 1),
        (STORE, {"rbx": 2**63}, "write", 0, 2**63),
        (STORE, {"rbx": CODE_BASE}, "readonly", 0, CODE_BASE),
        (PUSH, {}, "write", 0, 2**64 - 8),
        (bytes.fromhex("ffe0"), {"rax": CODE_BASE + 1}, "jump", 0, CODE_BASE + 1),
        (bytes.fromhex("48b89090909090909090 ebf7"), {}, "unsupported", 3, CODE_BASE + 3),
        (b"\x90\x06", {}, "unsupported", 1, CODE_BASE + 1),
        (b"\x90\x0f", {}, "unsupported", 1, CODE_BASE + 1),
        (bytes.fromhex("f3410f6f00"), {}, "unsupported", 0, CODE_BASE),
    ],
)
def test_a_fault_names_kind_instruction_and_address(code, registers, kind, offset, address):
    """What a guest does wrong ends it where it stands."""
    done = execute(code, registers=registers, memory={MEMORY: bytes(8)})
    assert done.ended == "fault"
    assert (done.fault.kind, done.fault.rip, done.fault.address) == (kind, CODE_BASE + offset, address)
    assert done.rip == done.fault.rip
    assert hex(done.fault.rip) in done.fault.message


def test_bytes_that_are_no_code_are_a_fault_only_where_they_are_reached():
    """Data behind a jump and an instruction that nobody calls do not matter."""
    assert execute(bytes.fromhex("eb02 0606 90")).ended == "end"
    assert execute(bytes.fromhex("eb03 c5fc77 90")).ended == "end"


def test_jumps_through_registers_find_code_that_nothing_else_reaches():
    """The address of the last nop goes to rax; behind the jump are two bytes of data."""
    code = bytes.fromhex("48b8") + (CODE_BASE + 14).to_bytes(8, "little") + bytes.fromhex("ffe0 0606 90")
    done = execute(code)
    assert (done.ended, done.instructions) == ("end", 3)


def test_hlt_halts():
    """Nothing wakes it."""
    done = execute(b"\x90\xf4\x90")
    assert (done.ended, done.rip, done.instructions) == ("halted", CODE_BASE + 2, 2)


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=8), st.integers(0, 50))
def test_cases_do_not_depend_on_each_other(codes, count):
    """A kept machine gives what a fresh one gives, whatever ran on it before."""
    registers = {"rax": 5, "rbx": MEMORY, "rsp": MEMORY + 64, "rflags": 0x8D7}
    memory = {MEMORY: bytes(range(64)), MEMORY + 100: b"\xff" * 28}
    cases = [Case(code, registers=registers, memory=memory, max_instructions=count) for code in codes]
    for case, done in zip(cases, Processor().execute_all(cases), strict=True):
        note(case.code.hex())
        assert done == Processor().execute(case)


@given(st.binary(min_size=1, max_size=60), st.integers(0, 3))
def test_straight_code_is_executed_as_a_disassembler_reads_it(code, count):
    """The next instruction is at the end of the one before, for code that branches nowhere."""
    code = b"\x90" * count + code
    lengths = [one.len for one in Decoder(64, b"\x90" * count)]
    done = execute(code, max_instructions=count)
    assert done.rip == CODE_BASE + sum(lengths)


@pytest.mark.parametrize(
    ("given_", "says"),
    [
        ({"registers": {"eax": 1}}, "unknown register 'eax'; did you mean 'rax'?"),
        ({"registers": {"rax": 2**64}}, "registers: rax: 0x10000000000000000 is out of range"),
        ({"registers": {"rax": "1"}}, "registers: rax: '1' is not an integer"),
        ({"memory": {CODE_BASE: b"x"}}, "memory: the region at 0x4000 begins before 0x4002"),
        ({"memory": {MEMORY: b"xyz", MEMORY + 2: b"x"}}, "begins before 0x10003, where the region before it ends"),
        ({"memory": {1 << 40: b"x"}}, f"use at most {SPAN_LIMIT:#x}, or another code_base"),
        ({"memory": {MEMORY: 5}}, "memory: int at 0x10000 is not bytes"),
        ({"max_instructions": -1}, "max_instructions: -0x1 is out of range"),
        ({"max_instructions": 1.5}, "max_instructions: 1.5 is not an integer"),
        ({"code_base": 2**64 - 1}, "code_base: 0xffffffffffffffff is out of range"),
        ({"processor": "haswel"}, "unknown processor 'haswel'; did you mean 'haswell'?"),
    ],
)
def test_bad_arguments_are_named(given_, says):
    """One sentence: which argument, what is wrong, what would be right."""
    with pytest.raises(PleemuError) as caught:
        execute(b"\x90", **given_)
    assert says in str(caught.value)
    with pytest.raises(PleemuError, match="code: str is not bytes"):
        execute("90")


def test_the_highest_addresses_work_like_all_others():
    """A space beyond 2^63, where addresses are negative numbers."""
    base = 2**64 - SPAN_LIMIT - 4096
    registers = {"rax": 7, "rbx": base + 64, "rsp": base + 88}
    done = execute(STORE + PUSH, registers=registers, memory={base + 64: bytes(32)}, code_base=base)
    assert (done.ended, done.writes) == ("end", ((base + 64, b"\x07"), (base + 80, b"\x07")))


@pytest.mark.parametrize("count", range(1, 5))
def test_stores_of_the_last_instruction_are_there(count):
    """Where the instructions run out the memory is as the vCPU itself sees it, store buffer included."""
    code = bytes.fromhex("488907" + "48894708" + "6689470f" + "50" + "90")  # mov [rdi], rax ... push rax; nop
    registers = {"rax": 0x8122334455667788, "rdi": 0x10000, "rsp": 0x10040}
    memory = bytearray(64)
    value = registers["rax"].to_bytes(8, "little")
    for place, size in ((0, 8), (8, 8), (15, 2), (56, 8))[:count]:
        memory[place : place + size] = value[:size]
    done = execute(code, registers=registers, memory={0x10000: bytes(64)}, max_instructions=count)
    assert (done.ended, done.instructions) == ("max-instructions", count)
    assert done.memory[-64:] == bytes(memory)
