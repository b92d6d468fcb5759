"""Source to object: what LLVM says reaches the user in the user's own terms."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from made_guests import MAIN, make_guest, write_guest

from pleemu.errors import GuestError
from pleemu.guest import assemble as assembler
from pleemu.guest import load
from pleemu.guest.assemble import assemble
from pleemu.guest.source import strip_comments


def message_of(folder: Path, text: str) -> str:
    """Return what is said of a guest that does not load."""
    with pytest.raises(GuestError) as error:
        load(write_guest(folder, text))
    return str(error.value)


def test_assemble_makes_a_relocatable_x86_64_object(tmp_path: Path) -> None:
    """A source becomes an ELF object of the one machine that guests run on."""
    elf = ELFFile(io.BytesIO(assemble(write_guest(tmp_path, MAIN + "ret\n"))))
    assert (elf["e_type"], elf["e_machine"]) == ("ET_REL", "EM_X86_64")


def test_assemble_reports_every_error_with_file_line_and_column(tmp_path: Path) -> None:
    """All errors of a source are told at once, each where it stands, with its text and a caret."""
    message = message_of(tmp_path, MAIN + "  mov rax, (\n  ret\n\tfoo bar\n")
    first, second = (part for part in message.split(str(tmp_path / "guest.S")) if part)
    assert first.startswith(":3:13: unknown token in expression\n      mov rax, (\n")
    assert second.startswith(":5:2: invalid instruction mnemonic 'foo'\n    \tfoo bar\n    \t^")


def test_assemble_shows_at_most_ten_errors(tmp_path: Path) -> None:
    """A hopeless source gives ten errors, not hundreds."""
    assert message_of(tmp_path, MAIN + "bad\n" * 30).count("invalid instruction") == 10


def test_assemble_blames_the_line_that_invokes_a_macro(tmp_path: Path) -> None:
    """An error inside an expansion names the invoking line and the macro's line."""
    macros = ".macro store to\n  mov \\to, \\to \\to\n.endm\n.macro outer\n  store rbx\n.endm\n"
    message = message_of(tmp_path, macros + MAIN + "  ret\n  outer\n")
    assert "guest.S:10:3: " in message
    assert "(in the expansion of guest.S:2)" in message
    assert "mov rbx, rbx rbx" in message


def test_assemble_keeps_lines_right_through_comments_and_includes(tmp_path: Path) -> None:
    """Block comments and includes before an error do not move it."""
    write_guest(tmp_path, "nop\nnop\n", "other.inc")
    message = message_of(tmp_path, MAIN + '/* one\n two */\n.include "other.inc"\n bad\n')
    assert "guest.S:6:2: invalid instruction" in message


def test_assemble_blames_the_included_file(tmp_path: Path) -> None:
    """An error in an included file is told with that file's name and line."""
    write_guest(tmp_path, "nop\n  bad\n", "other.inc")
    assert "other.inc:2:3: invalid instruction" in message_of(tmp_path, MAIN + '.include "other.inc"\n')


def test_assemble_ignores_warnings_and_prints(tmp_path: Path) -> None:
    """What LLVM only warns of, and what a source prints, leaves the object whole."""
    assert make_guest(tmp_path, 'ret\n.warning "careful"\n.print "hello"\n').entry == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#include <linux/spinlock.h>\n", "guest.S:1: #include is a comment here"),
        ("nop\n  #define X 1\n", "guest.S:2: #define is a comment here: guests have no C preprocessor; use .set"),
        ("#ifdef SMP\n", "use .if, .else and .endif"),
        ('.incbin "/etc/passwd"\n', "guest.S:1: .incbin is not supported"),
        ('x: .incbin "/etc/passwd"\n', "guest.S:1: .incbin is not supported"),
        ('nop; .include "a.inc"\n', "guest.S:1: .include must stand on a line of its own"),
        (".include a.inc\n", 'guest.S:1: expected .include "file"'),
        ('nop\n.include "none.inc"\n', 'guest.S:2: cannot find "none.inc"'),
        ('.include "guest.S"\n', 'guest.S:1: "guest.S" includes itself'),
        (".if 1\nnop\n", "unmatched .ifs"),
        (".macro m\nm\n.endm\nm\n", "guest.S:4:1: macros cannot be nested more than 20"),
    ],
)
def test_assemble_refuses_with_place_and_advice(tmp_path: Path, text: str, expected: str) -> None:
    """What a guest's source may not contain is refused with its line and what to write instead."""
    assert expected in message_of(tmp_path, text)


@pytest.mark.parametrize("directive", ["incbin", "include"])
def test_assemble_cannot_be_made_to_open_a_file(tmp_path: Path, directive: str) -> None:
    """A directive that a macro spells together still reads nothing of the host."""
    secret = write_guest(tmp_path, "secret\n", "secret")
    text = f'.macro m a, b\n.\\a\\b "{secret}"\n.endm\n{MAIN}ret\nm {directive[:3]}, {directive[3:]}\n'
    message = message_of(tmp_path, text)
    assert f"guest.S:7:1: Could not find {directive} file" in message


@pytest.mark.parametrize("text", [".rept 1000000000\nnop\n.endr\n", ".data\n.space 1<<40\n"])
def test_assemble_ends_a_source_without_end(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that would take all time or memory is one clear message."""
    monkeypatch.setattr(assembler, "TIME_LIMIT", 2)
    message = message_of(tmp_path, MAIN + text)
    assert "to assemble; is a .rept" in message
    assert message.count("\n") == 0


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"nop\n# \xff\n", "guest.S:2: byte 0xff is not UTF-8"),
        (b"nop\nn\0p\n", "guest.S:2: has a NUL byte"),
        (b"\x7fELF\2\1\1", "is not a readable ELF object"),
    ],
)
def test_load_says_what_is_wrong_with_a_file(tmp_path: Path, content: bytes, expected: str) -> None:
    """A file that is no source is named with the reason."""
    path = tmp_path / "guest.S"
    path.write_bytes(content)
    with pytest.raises(GuestError, match=expected):
        load(path)


def test_load_says_what_is_wrong_with_a_path(tmp_path: Path) -> None:
    """A path that is no file is named with the reason."""
    with pytest.raises(GuestError, match="no such file"):
        load(tmp_path / "none.S")
    with pytest.raises(GuestError, match="is a folder"):
        load(tmp_path)
    with pytest.raises(GuestError, match="not a regular file"):
        load(Path("/dev/null"))


@pytest.mark.parametrize(
    ("text", "code", "open_comment"),
    [
        ("mov rax, 1 # one", "mov rax, 1 ", False),
        ("mov rax, 1 // one", "mov rax, 1 ", False),
        ('.ascii "# // /*"', '.ascii "# // /*"', False),
        ('.ascii "\\"#" # c', '.ascii "\\"#" ', False),
        ("a /* b */ c", "a   c", False),
        ("a /* b", "a  ", True),
    ],
)
def test_strip_comments_leaves_code_and_strings(text: str, code: str, open_comment: bool) -> None:
    """Comments end where the assembler ends them, and strings are not comments."""
    assert strip_comments(text, False) == (code, open_comment)
