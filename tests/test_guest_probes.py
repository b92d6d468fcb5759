"""Probes and vectors: what a guest says about itself."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st
from made_guests import MAIN, make_guest, operations, write_guest

from pleemu.errors import GuestError
from pleemu.guest.assemble import assemble
from pleemu.guest.operands import REGISTERS_BY_NAME
from pleemu.guest.probes import parse_operand
from pleemu.hardware import isa

INCLUDE = '.include "pleemu.inc"\n'
NOTE = """.section .note.stapsdt, "", @note
.4byte 8, 2f-1f, 3
.asciz "stapsdt"
1: .8byte guest_main, 0, 0
.asciz "{provider}"
.asciz "work"
.asciz "{arguments}"
2: .balign 4
"""
WIDE = sorted(name for name, (kind, _, size) in REGISTERS_BY_NAME.items() if kind == isa.REGISTER and size == 8)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lock_wait rdi", (isa.PROBE_LOCK_WAIT, 8, isa.REGISTER, 7, 0)),
        ("lock_acquired r12", (isa.PROBE_LOCK_ACQUIRED, 8, isa.REGISTER, 12, 0)),
        ("lock_released rbp", (isa.PROBE_LOCK_RELEASED, 8, isa.REGISTER, 5, 0)),
        ("ipi_wait edx", (isa.PROBE_IPI_WAIT, 4, isa.REGISTER, 2, 0)),
        ("ipi_acked 3", (isa.PROBE_IPI_ACKED, 8, isa.IMMEDIATE, 0, 3)),
        ("work 2000", (isa.PROBE_WORK, 8, isa.IMMEDIATE, 0, 2000)),
        (".set HOLD, 100\nwork HOLD * 2 + 1\n.set HOLD, 7", (isa.PROBE_WORK, 8, isa.IMMEDIATE, 0, 201)),
        ("operation_done", (isa.PROBE_OPERATION_DONE, 0, isa.NONE, 0, 0)),
        ('probe_operand work, "-4@%eax"', (isa.PROBE_WORK, 4, isa.REGISTER, 0, 0)),
    ],
)
def test_probe_macros_make_probes(tmp_path: Path, text: str, expected: tuple[int, ...]) -> None:
    """Each macro of pleemu.inc is one instruction, a probe with the operand that it was given."""
    first, second = operations(make_guest(tmp_path, f"{INCLUDE}{MAIN}{text}\nret\n"))[:2]
    assert first.op == isa.OP_PROBE
    assert (first.probe, first["width"], first.src_kind, first.src, first.immediate) == expected
    assert first.condition == ("-4@" in text)
    assert first.length == 1
    assert second.op == isa.OP_RET


@pytest.mark.parametrize(
    ("text", "manner"),
    [
        ("lock_wait rdi", 0),
        ("lock_wait rdi, in_order", 1),
        ("lock_wait r9, in_order", 1),
        ("lock_wait edi, in_order", 1),
        ("lock_wait 0x1000, in_order", 1),
        ("lock_wait rdi, shared", 2),
        ("lock_wait edi, in_order_shared", 3),
        ('probe_operand lock_wait, "8@16(%rdi) 8@$0"', 0),
        ('probe_operand lock_wait, "8@16(%rdi) 8@$1"', 1),
    ],
)
def test_lock_wait_says_how_the_lock_serves(tmp_path: Path, text: str, manner: int) -> None:
    """The second argument is order and sharing; the probe is the same one nop with the same operand."""
    first = operations(make_guest(tmp_path, f"{INCLUDE}{MAIN}{text}\nret\n"))[0]
    plain = text.partition(",")[0] if "probe" not in text else 'probe_operand lock_wait, "8@16(%rdi)"'
    same = operations(make_guest(tmp_path, f"{INCLUDE}{MAIN}{plain}\nret\n"))[0]
    assert first.manner == manner
    first.manner = 0
    assert first == same


def test_probe_operands_name_symbols(tmp_path: Path) -> None:
    """An operand may be the address of a symbol or the memory there."""
    probes = 'probe_operand lock_wait, "8@$lock"\nprobe_operand work, "4@lock+4(%rip)"\n'
    image = make_guest(tmp_path, f"{INCLUDE}{MAIN}{probes}ret\n.data\nlock: .quad 0\n")
    address, memory = operations(image)[:2]
    assert (address.src_kind, int(address.immediate) % 2**64) == (isa.IMMEDIATE, image.address_of("lock"))
    assert (memory.src_kind, memory["base_register"], int(memory.displacement) % 2**64) == (
        isa.MEMORY, isa.ZERO, image.address_of("lock") + 4)  # fmt: skip


@given(
    base=st.sampled_from(WIDE), index=st.sampled_from(WIDE), scale=st.sampled_from([1, 2, 4, 8]),
    displacement=st.integers(-(1 << 31), (1 << 31) - 1),
)  # fmt: skip
def test_probe_memory_operands_are_read_as_written(base: str, index: str, scale: int, displacement: int) -> None:
    """An AT&T memory operand becomes the same base, index, scale and displacement."""
    record = parse_operand(f"{displacement}(%{base},%{index},{scale})", 8, {})
    assert record == {
        "src_kind": isa.MEMORY,
        "base_register": REGISTERS_BY_NAME[base][1],
        "index_register": REGISTERS_BY_NAME[index][1],
        "scale": scale,
        "displacement": displacement,
    }


@given(text=st.text(alphabet="%$()+-,0123456789abcdersxl ", max_size=20), size=st.sampled_from([1, 2, 4, 8]))
def test_probe_operands_that_make_no_sense_are_value_errors(text: str, size: int) -> None:
    """Whatever an operand's text is, it is read or refused, never a traceback."""
    with contextlib.suppress(ValueError):
        assert parse_operand(text, size, {"ebx": 1})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("probe lock_wai, rdi", "probe 'lock_wai': no such probe; did you mean 'lock_wait'?"),
        ('probe_operand work, ""', "probe 'work': takes exactly 1 argument, has 0"),
        ('probe_operand work, "8@%rdi 8@%rsi"', "takes exactly 1 argument, has 2"),
        ('probe_operand lock_wait, "8@%rdi 8@$1 8@$1"', "takes 1 or 2 arguments, has 3"),
        (
            'probe_operand lock_wait, "8@%rdi 8@$4"',
            "says how the lock serves, 8@$0 to 8@$3 (1: in order, 2: shared), not 8@$4",
        ),
        ('probe_operand lock_wait, "8@%rdi 8@%rsi"', "8@$0 to 8@$3 (1: in order, 2: shared), not 8@%rsi"),
        ('probe_operand work, "16@%rdi"', "cannot read argument '16@%rdi'"),
        ('probe_operand work, "8@%rzx"', "unknown register %rzx"),
        ('probe_operand work, "8@%eax"', "%eax has fewer than 8 bytes"),
        ('probe_operand work, "8@$lok"', "unknown symbol 'lok'; did you mean 'lock'?"),
        ('probe_operand work, "8@(%eax)"', "%eax cannot be part of an address"),
    ],
)
def test_probe_errors_name_the_line_and_the_fix(tmp_path: Path, text: str, expected: str) -> None:
    """A probe that pleemu cannot read is refused with its line."""
    with pytest.raises(GuestError) as error:
        make_guest(tmp_path, f"{INCLUDE}{MAIN}{text}\nret\n.data\nlock: .quad 0\n")
    assert str(error.value).startswith(f"{tmp_path}/guest.S:4: ")
    assert expected in str(error.value)


def test_lock_wait_knows_two_manners(tmp_path: Path) -> None:
    """Any other word is refused with the line and those that would be right."""
    with pytest.raises(GuestError, match=r"guest\.S:4:1: lock_wait LOCK, in_order: or shared, or in_order_shared; "):
        make_guest(tmp_path, f"{INCLUDE}{MAIN}lock_wait rdi, in_ordre\nret\n")


def test_probes_of_other_providers_stay_nops(tmp_path: Path) -> None:
    """A guest may carry anybody's SDT probes."""
    image = make_guest(tmp_path, "nop\nret\n" + NOTE.format(provider="libc", arguments=""))
    assert operations(image)[0].op == isa.OP_NOP


def test_probes_stand_at_a_nop(tmp_path: Path) -> None:
    """A note of ours that points at another instruction is refused."""
    with pytest.raises(GuestError, match=r"guest\.S:3: probe 'work': the instruction at guest_main is not a nop"):
        make_guest(tmp_path, "ret\n" + NOTE.format(provider="pleemu", arguments="8@%rdi"))


def test_probe_notes_are_read_by_others(tmp_path: Path) -> None:
    """An ELF reader that is not ours finds each probe's note, its owner and strings."""
    content = assemble(write_guest(tmp_path, f"{INCLUDE}{MAIN}lock_wait rdi\nwork 2000\nret\n"))
    notes = list(ELFFile(io.BytesIO(content)).get_section_by_name(".note.stapsdt").iter_notes())
    assert [note["n_name"] for note in notes] == ["stapsdt"] * 2
    assert [note["n_descdata"][24:].decode("latin-1").split("\0")[:3] for note in notes] == [
        ["pleemu", "lock_wait", "8@%rdi"],
        ["pleemu", "work", "8@$2000"],
    ]


def test_vector_macro_names_handlers(tmp_path: Path) -> None:
    """A vector's entry is the table index of its handler, all others are -1."""
    image = make_guest(tmp_path, f"{INCLUDE}{MAIN}ret\nhandler: push rax\neoi\npop rax\niretq\nvector 0xfd, handler\n")
    assert image.symbol_at(image.instructions[image.vectors[0xFD]].address) == "handler"
    assert (image.vectors >= 0).sum() == 1
    assert len(image.memory) == image.readonly_size  # the table is not in the guest's memory


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vector 31, guest_main", "guest.S:4: vector 0x1f of 'guest_main' is not in 0x20 to 0xff"),
        ("vector 256, guest_main", "is not in 0x20 to 0xff"),
        ("vector 48, guest_main\nvector 48, guest_main", "vector 0x30 has two handlers"),
        ("vector 48, data\n.data\ndata: .quad 0", "the handler of vector 0x30, 'data', is not code"),
    ],
)
def test_vector_errors_name_the_vector(tmp_path: Path, text: str, expected: str) -> None:
    """A vector that cannot be is refused with its number."""
    with pytest.raises(GuestError) as error:
        make_guest(tmp_path, f"{INCLUDE}{MAIN}ret\n{text}\n")
    assert expected in str(error.value)
