"""The image: names, lines and texts of its addresses, and the shipped macros."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from made_guests import MAIN, make_guest, operations

from pleemu.hardware import isa

LOCK = """.macro spin
    pause
.endm
.globl guest_main
guest_main:
    call acquire
    ret
.globl acquire
local_name:
acquire:
    mov eax, 1
again:
    spin
    jmp again
.data
lock: .quad 0
"""


def test_image_names_addresses_by_the_label_before(tmp_path: Path) -> None:
    """An address is its label plus offset, a global label before a local one, and else a number."""
    image = make_guest(tmp_path, LOCK)
    acquire = image.address_of("acquire")
    assert image.symbol_at(acquire) == "acquire"
    assert image.symbol_at(acquire + 2) == "acquire+0x2"
    assert image.function_at(acquire + 2) == "acquire"
    assert image.symbol_at(acquire - 2**64) == "acquire"
    assert image.symbol_at(image.address_of("lock") + 4) == "lock+0x4"
    assert image.symbol_at(0x1000) == image.function_at(0x1000) == "0x1000"
    assert [address for _, address in image.symbols] == sorted(address for _, address in image.symbols)


def test_image_knows_source_lines_in_and_out_of_macros(tmp_path: Path) -> None:
    """Every instruction has the line that it is written on, in a macro the macro's."""
    image = make_guest(tmp_path, LOCK)
    lines = [image.source_at(record.address) for record in image.instructions[1:]]
    assert lines == [f"guest.S:{line}" for line in (6, 7, 11, 2, 14)]
    assert image.source_at(image.address_of("lock")) == "guest.S:16"
    assert image.source_at(image.base) is None


def test_image_gives_shipped_macros_the_line_that_uses_them(tmp_path: Path) -> None:
    """A trace names the guest's own line, not the library's."""
    image = make_guest(tmp_path, f'.include "pleemu.inc"\n{MAIN}    lock_wait rdi\n    send_ipi 1, 0xfd\n    ret\n')
    assert [image.source_at(r.address) for r in operations(image)] == [f"guest.S:{n}" for n in (4, *[5] * 6, 6)]


def test_image_writes_instructions_with_symbols(tmp_path: Path) -> None:
    """Texts are Intel syntax, with the names of what addresses point to."""
    image = make_guest(
        tmp_path, "lea rdi, [rip + lock + 8]\nmov eax, [rbp - 8]\njmp [lock + rax*8]\n.data\nlock: .quad 0, 0\n"
    )
    assert [image.text_of(index) for index in range(4)] == [
        "hlt", "lea rdi, [lock+0x8]", "mov eax, [rbp-0x8]", "jmp qword ptr [rax*8+lock]"]  # fmt: skip


def test_macro_library_decodes_whole(tmp_path: Path) -> None:
    """Everything that pleemu.inc offers is inside the subset, and two includes are as one."""
    text = f"""
.include "pleemu.inc"
.include "pleemu.inc"
{MAIN}
    random_init rbx
    random rbx, rax
    lea rcx, [rip + stack_top]
    enter_user user, rcx
user:
    work 100
    jmp user
handler:
    eoi
    iretq
.bss
    .zero 256
stack_top:
"""
    image = make_guest(tmp_path, text)
    pushed = [int(r.immediate) for r in image.instructions if r.op == isa.OP_PUSH and r.src_kind == isa.IMMEDIATE]
    assert pushed == [0x2B, 0x202, 0x33, image.address_of("user") - 2**64]


def test_importing_the_room_is_cheap() -> None:
    """Nothing heavy is imported before a guest is loaded."""
    code = "import sys, pleemu.guest; print({'numpy', 'iced_x86', 'elftools', 'llvmlite', 'numba'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
