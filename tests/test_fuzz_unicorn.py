"""Random instruction sequences: the emulator against Unicorn, an x86 that is not ours."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import attrs
import pytest
from iced_x86 import Decoder
from made_machines import prepare_core
from made_processors import processor
from made_sequences import DF, FORMS, MEMORY, SIZE, STATUS, Sequence, image, sequence
from made_unicorn import Emulator, run

from pleemu.cli import main
from pleemu.guest.checked import NOT_COMPARED, mnemonic_of, recorded_forms, table
from pleemu.guest.forms import form_text, forms
from pleemu.testing import CODE_BASE, REGISTERS, Case, execute

SEQUENCES = int(os.environ.get("PLEEMU_CASES", "25000"))
CHUNK = 1_000
VECTORS = Path(__file__).parent / "vectors" / "x86.json.gz"


def case_of(made: Sequence, code: bytes) -> Case:
    registers = dict(zip(REGISTERS, made.registers, strict=True)) | {"rflags": made.rflags}
    return Case(code, registers=registers, memory={MEMORY: made.memory()}, max_instructions=1000)


def differences(made: Sequence, code: bytes, ours) -> list[str]:
    """What the emulator makes of a sequence otherwise than Unicorn."""
    theirs = run(code, made.registers, made.rflags, made.memory())
    found = []
    ends = ("divide error" if ours.fault and ours.fault.kind == "divide" else ours.ended, hex(ours.rip))
    their_end = (
        "divide error" if theirs.exception == 0 else f"exception {theirs.exception}" if theirs.exception else "end"
    )
    if ends != (theirs.error or their_end, hex(theirs.rip)):
        found.append(f"end: {ends}, Unicorn {theirs.error or their_end} at {theirs.rip:#x} {ours.fault or ''}")
    for (name, value), other in zip(ours.registers.items(), theirs.registers, strict=True):
        if value != other:
            found.append(f"{name}: {value:#x}, Unicorn {other:#x}")
    flags = (ours.rflags ^ theirs.rflags) & (STATUS | DF) & ~made.undefined
    if flags and ours.ended == "end":  # a divide error leaves them undefined
        found.append(f"flags {flags:#x}: {ours.rflags:#x}, Unicorn {theirs.rflags:#x}")
    memory = ours.read(MEMORY, SIZE)
    if memory != theirs.memory:
        offset = next(k for k in range(SIZE) if memory[k] != theirs.memory[k])
        found.append(f"memory {MEMORY + offset:#x}: {memory[offset]:#x}, Unicorn {theirs.memory[offset]:#x}")
    return found


def shrunk(made: Sequence) -> Sequence:
    """The sequence without the units that the difference does not need."""
    smaller = True
    while smaller:
        smaller = False
        for number in range(len(made.units)):
            less = attrs.evolve(made, units=made.units[:number] + made.units[number + 1 :])
            if less.units and less.is_defined():
                code, _ = less.assembled()
                if differences(less, code, processor().execute(case_of(less, code))):
                    made, smaller = less, True
                    break
    return made


def explain(seed: int) -> str:
    """A failing case, as small as it gets: assembly, what differs, and Python that runs it."""
    made = shrunk(sequence(seed))
    code, lines = made.assembled()
    found = differences(made, code, processor().execute(case_of(made, code)))
    registers = ", ".join(f"{name}={value:#x}" for name, value in zip(REGISTERS, made.registers, strict=True))
    return "\n".join(
        [
            f"sequence {seed}, code {code.hex()}",
            *(f"    {line}" for line in lines),
            *(f"  differs: {one}" for one in found),
            "  replay, in tests/:",
            "    from pleemu.testing import execute; from made_sequences import image",
            f"    execute(bytes.fromhex({code.hex()!r}), registers=dict({registers}, rflags={made.rflags:#x}), "
            f"memory={{{MEMORY:#x}: image({made.memory_seed})}})",
        ]
    )


@pytest.mark.parametrize("chunk", range(SEQUENCES // CHUNK))
def test_every_sequence_ends_as_on_unicorn(chunk):
    """Registers, defined flags and memory are equal, and so is where a divide error strikes."""
    seeds = range(chunk * CHUNK, (chunk + 1) * CHUNK)
    made = [sequence(seed) for seed in seeds]
    codes = [one.assembled()[0] for one in made]
    cases = [case_of(one, code) for one, code in zip(made, codes, strict=True)]
    done = processor().execute_all(cases)
    failing = [
        seed for seed, one, code, ours in zip(seeds, made, codes, done, strict=True) if differences(one, code, ours)
    ]
    assert not failing, f"{len(failing)} of {CHUNK} differ, the first of them:\n{explain(failing[0])}"


def test_every_form_is_in_a_sequence():
    """The fuzz leaves out nothing but what is named; dropping no unit changes nothing."""
    for seed, form in enumerate(FORMS):
        made = sequence(seed)
        assert str(form) in {unit.form for unit in made.units}
        undefined = made.undefined
        assert made.is_defined()
        assert made.undefined == undefined


def test_what_is_not_compared_is_in_the_subset():
    """No reason is given for what there is not."""
    assert set(NOT_COMPARED) <= {mnemonic_of(form) for form in forms()}
    assert sum(len(one) for evidence in table().values() for one in evidence.values()) == len({*map(str, forms())})


def test_recorded_forms_are_those_that_the_processor_ran():
    """The committed list is what the recorded sequences execute, instruction by instruction.

    To renew it: write `executed_forms()`, sorted, into pleemu/guest/recorded_forms.txt.
    """
    assert recorded_forms() == executed_forms()


def executed_forms() -> set[str]:
    """The forms that run in the recorded sequences."""
    data = json.loads(gzip.decompress(VECTORS.read_bytes()))
    found = set()
    emulator = Emulator()
    executed = emulator.watch()
    for case in data["cases"]:
        code = bytes.fromhex(case["code"])
        executed.clear()
        outcome = emulator.run(code, [int(one, 16) for one in case["regs"]], case["rflags"], bytes(SIZE))
        found |= {form_text(one) for one in Decoder(64, code, ip=CODE_BASE) if one.ip in executed}
        if outcome.exception is not None or outcome.error:
            emulator = Emulator()
            executed = emulator.watch()
    return found


def test_the_list_of_instructions_shows_every_form(capsys):
    """`pleemu list instructions` has a line for each mnemonic and names each form, with what checked it."""
    assert main(["list", "instructions"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "cpuid simple neither - (a VM exit" in out
    words = set(out.split())
    for mnemonic, evidence in table().items():
        assert mnemonic in words
        for form in (one for forms_of in evidence.values() for one in forms_of if one.operands):
            assert ":".join(filter(None, (form.prefix, ",".join(form.operands)))) in words


def test_a_difference_is_found_shrunk_and_shown(monkeypatch):
    """Had Unicorn's BSWAP another result, a sequence with one would fail and shrink to it."""
    prepare_core()
    unspoiled = run
    seed = next(seed for seed, form in enumerate(FORMS) if str(form) == "bswap r64")

    def spoiled(code, registers, rflags, memory):
        outcome = unspoiled(code, registers, rflags, memory)
        has_bswap = any(one.mnemonic == FORMS[seed].mnemonic for one in Decoder(64, code))
        return attrs.evolve(outcome, rflags=outcome.rflags ^ DF) if has_bswap else outcome

    monkeypatch.setitem(globals(), "run", spoiled)
    text = explain(seed)
    assert "differs: flags 0x400" in text
    instructions = [line for line in text.splitlines() if line.startswith("    ") and "import" not in line]
    assert len(instructions) == 2  # and the line that replays it
    assert instructions[0].strip().startswith("bswap r")
    replayed = eval(instructions[1], {"execute": execute, "image": image})
    assert (replayed.ended, replayed.instructions) == ("end", 1)


# ---- Unicorn 2.1.4's own faults: each a case where it is not what the manual says, and we are ----

RBX_AT_MEMORY = {"rbx": MEMORY}
NOT_EQUAL = RBX_AT_MEMORY | {"rax": 5, "rdx": 1, "rsi": 2**64 - 1}  # cmp esi, edi and the pair after it
ALL_FLAGS = STATUS | 2
KNOWN_FAULTS = {
    # name: code, registers, flags before, flags after, other registers after, bytes of memory after
    "lock neg sets flags otherwise than neg": (
        "f0f71b", RBX_AT_MEMORY, 2, 0x93, {}, {0: (-5).to_bytes(4, "little", signed=True)},
    ),
    "cmpxchg8b behind a comparison changes more than ZF": (
        "39fe 0fc70b", NOT_EQUAL, 2, 0x86, {"rax": 5, "rdx": 0}, {},
    ),
    "cmpxchg16b behind a comparison changes more than ZF": (
        "39fe 480fc70b", NOT_EQUAL, 2, 0x86, {"rax": 5, "rdx": 0}, {},
    ),
    "cmpxchg with a 32-bit register that is not equal zeroes its upper half": (
        "0fb1cb", {"rbx": 0xDEADBEEF00000001, "rax": 1 << 32}, 2, None, {"rbx": 0xDEADBEEF00000001, "rax": 1}, {},
    ),
    "cmpxchg of 32 bits that is equal zeroes the upper half of RAX": (
        "0fb10b", RBX_AT_MEMORY | {"rax": (1 << 63) + 5}, 2, 0x46, {"rax": (1 << 63) + 5}, {0: b"\0"},
    ),
    "shrd with an immediate and a RIP-relative operand is off by one byte": (
        "480fac05 f8bf0000 08", {"rax": 0xAB}, 2, None, {}, {1: b"\0" * 7 + b"\xab"},
    ),
    "shld with an immediate and a RIP-relative operand is off by one byte": (
        "480fa405 f8bf0000 08", {"rax": 0xAB << 56}, 2, None, {}, {1: b"\xab" + b"\0" * 7},
    ),
    "test by /1 of group 3 is no instruction": ("f6c8ff", {"rax": 0}, 2, 0x46, {"rax": 0}, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN_FAULTS)
def test_unicorn_still_has_the_faults_that_are_excepted(name):
    """The emulator does what the manual says, Unicorn does not: otherwise the exception is to be removed."""
    text, registers, before, flags, after, written = KNOWN_FAULTS[name]
    code = bytes.fromhex(text)
    memory = bytearray(SIZE)
    memory[0] = 5
    expected = bytearray(memory)
    for offset, content in written.items():
        expected[offset : offset + len(content)] = content
    ours = execute(code, registers=registers | {"rflags": before}, memory={MEMORY: bytes(memory)})
    theirs = run(code, [registers.get(one, 0) for one in REGISTERS], before, bytes(memory))

    def is_right(values, rflags, content, *, ended):
        right = all(values[one] == value for one, value in after.items())
        return ended and right and flags in (None, rflags & ALL_FLAGS) and content == expected

    assert is_right(ours.registers, ours.rflags, ours.read(MEMORY, SIZE), ended=ours.ended == "end")
    values = dict(zip(REGISTERS, theirs.registers, strict=True))
    assert not is_right(values, theirs.rflags, theirs.memory, ended=not theirs.error)
