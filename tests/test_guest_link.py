"""Objects to an image: the layout, the relocations, the names."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_guests import MAIN, make_guest, write_guest

from pleemu.errors import GuestError
from pleemu.guest.assemble import assemble
from pleemu.guest.build import build
from pleemu.guest.elf import ObjectSymbol, Relocation, Section
from pleemu.guest.image import Image
from pleemu.guest.link import BASE, PAGE
from pleemu.guest.relocate import KINDS, apply
from pleemu.hardware import isa

QUADS = ".data\nlock: .quad 1\nhandlers: .quad guest_main, lock, handlers + 8\n.bss\n.balign 64\nstack: .zero 100\n"


def quad(image: Image, name: str, index: int = 0) -> int:
    """Return the unsigned quad at symbol ``name``."""
    address = image.address_of(name)
    assert address is not None
    offset = address - image.base + 8 * index
    return int.from_bytes(image.memory[offset : offset + 8].tobytes(), "little")


def test_link_lays_sections_out_in_the_documented_order(tmp_path: Path) -> None:
    """Exit stub, code, read-only data, then from a page on writable data and zeros."""
    image = make_guest(tmp_path, "ret\n" + QUADS + '.section .rodata\ntext: .quad 5\n.section .text.b,"ax"\nb: ret\n')
    offsets = [image.address_of(name) - BASE for name in ("pleemu_exit", "guest_main", "b", "text", "lock", "stack")]
    assert offsets == sorted(offsets)
    assert offsets[:2] == [0, 16]
    assert image.memory[0] == 0xF4
    assert offsets[2] < image.code_size <= offsets[3] < image.readonly_size == PAGE == offsets[4]
    assert offsets[5] % 64 == 0
    assert len(image.memory) == offsets[5] + 100
    assert not image.memory[offsets[5] :].any()


def test_link_relocates_data(tmp_path: Path) -> None:
    """Addresses stored in data are those of the symbols they name."""
    image = make_guest(tmp_path, "ret\n" + QUADS)
    stored = [quad(image, "handlers", index) for index in range(3)]
    assert stored == [image.address_of("guest_main"), image.address_of("lock"), image.address_of("handlers") + 8]


@given(
    kind=st.sampled_from(sorted(KINDS)),
    symbol=st.one_of(
        st.integers(0, 1 << 33), st.integers(BASE, BASE + (1 << 26)), st.integers((1 << 64) - 300, (1 << 64) - 1)
    ),
    place=st.integers(BASE, BASE + (1 << 26)),
    addend=st.integers(-(1 << 16), 1 << 16),
)
def test_relocation_stores_the_psabi_formula_or_says_that_it_overflows(
    kind: int, symbol: int, place: int, addend: int
) -> None:
    """A field reads back, extended as its type says, as S + A or S + A - P modulo 2**64, or is refused."""
    section = Section(".data", "SHT_PROGBITS", 3, 1, 16, bytearray(16), 0, address=place - 4)
    named = ObjectSymbol("x", symbol, 0, "STB_GLOBAL", "STT_NOTYPE", "SHN_ABS", None)
    problem = apply(section, Relocation(4, kind, named, addend), symbol)
    name, size = KINDS[kind].name, KINDS[kind].size
    value = (symbol + addend - (place if "PC" in name or "PLT" in name else 0)) % (1 << 64)
    field = bytes(section.data[4 : 4 + size])
    signed = int.from_bytes(field, "little", signed=True) % (1 << 64)
    unsigned = int.from_bytes(field, "little")
    reads = {"R_X86_64_32": [unsigned], "R_X86_64_16": [signed, unsigned], "R_X86_64_8": [signed, unsigned]}
    if size and not problem:
        assert value in reads.get(name, [signed])
    if problem:
        assert "overflows " + name in problem
        low = value % (1 << (8 * size))
        extended = low - (1 << (8 * size)) if low >> (8 * size - 1) else low
        assert value not in ([low] if name == "R_X86_64_32" else [extended % (1 << 64)])
    assert section.data[:4] == bytes(4)
    assert section.data[4 + size :] == bytes(12 - size)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("call acquir\nret\nacquire: ret\n", "undefined symbol 'acquir'; did you mean 'acquire'?"),
        ("mov edi, offset lock\nret\n.data\nlock: .quad 0\n", "guest.S:3: .text+0x1: 'lock' overflows R_X86_64_32"),
        ("ret\n.data\nlock: .quad 0\n.byte lock\n", "guest.S:6: .data+0x8: 'lock' overflows R_X86_64_8"),
        ("mov rax, lock@GOTPCREL[rip]\nret\n.data\nlock: .quad 0\n", "reached through a GOT"),
        ('ret\n.section .tdata,"awT",@progbits\n.quad 1\n', "section .tdata is thread-local"),
        ('ret\n.section .x,"awx",@progbits\n.quad 1\n', "section .x is both writable and executable"),
        ('ret\n.section .init_array,"aw",@init_array\n.quad 1\n', "no start-up code"),
        ("ret\n.bss\n.space 1<<40\n", "more than the 67,108,864 of a guest"),
        (".globl pleemu_exit\npleemu_exit: ret\n", "symbol 'pleemu_exit' is pleemu's own"),
    ],
)
def test_link_refuses_with_the_name_of_what_is_wrong(tmp_path: Path, text: str, expected: str) -> None:
    """Each way in which a guest cannot be linked has one message that names the culprit."""
    with pytest.raises(GuestError) as error:
        make_guest(tmp_path, text)
    assert expected in str(error.value)
    assert "guest.S" in str(error.value)


def test_link_asks_for_guest_main(tmp_path: Path) -> None:
    """A guest without an entry is told what to write, and one whose entry is data where it is."""
    with pytest.raises(GuestError, match=r"has no guest_main.*\.globl guest_main"):
        build([assemble(write_guest(tmp_path, "main: ret\n"))], source=tmp_path / "guest.S")
    with pytest.raises(GuestError, match=r"guest\.S:3: guest_main is data"):
        make_guest(tmp_path, ".data\nguest_main:\n.quad 0\n")


def test_link_joins_objects_and_keeps_their_local_names_apart(tmp_path: Path) -> None:
    """Globals bind across objects, weak ones yield, COMMON ones merge, and locals stay at home."""
    one = assemble(write_guest(tmp_path, MAIN + "call other\nlocal: ret\n.comm shared, 8, 8\n.weak f\nf: nop\nret\n"))
    two = assemble(
        write_guest(tmp_path, ".globl other, f\nother: call local\nlocal: ret\nf: ret\n.comm shared, 64, 64\n", "b.S")
    )
    image = build([one, two], source=tmp_path / "guest.S")
    calls = [record for record in image.instructions if record.op == isa.OP_CALL]
    assert [image.symbol_at(image.instructions[call.target].address) for call in calls] == ["other", "local"]
    assert calls[1].target > calls[0].target
    assert image.address_of("shared") % 64 == 0
    assert len(image.memory) == image.address_of("shared") - BASE + 64
    with pytest.raises(GuestError, match="'other' is defined twice"):
        build([one, two, two], source=tmp_path / "guest.S")


@given(data=st.data())
def test_link_of_a_damaged_object_is_an_error_or_an_image(data: st.DataObject, whole_object: bytes) -> None:
    """Whatever bytes of an object are damaged, nothing but GuestError comes out."""
    damaged = bytearray(whole_object)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    length = data.draw(st.one_of(st.just(len(damaged)), st.integers(0, len(damaged))))
    with contextlib.suppress(GuestError):
        build([bytes(damaged[:length])], source=Path("guest.o"))


@pytest.fixture(scope="module")
def whole_object(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An object with every kind of section that the room reads."""
    text = f'.include "pleemu.inc"\n{MAIN}work rdi\nlea rax, [rip + lock]\ncall f\nret\nf: ret\nvector 0x30, f\n{QUADS}'
    return assemble(write_guest(tmp_path_factory.mktemp("object"), text))
