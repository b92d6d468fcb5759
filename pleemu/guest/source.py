"""Assembly source: one text from a file and what it includes, with the way back to each line.

``.include`` is expanded here and not by LLVM: LLVM would open any file of the host, and knows
only one search path. Each line gets a ``.loc`` of its own, so that the assembler writes a line
table (DWARF 5, 6.2) and a trace can name `ticket_lock.S:23`. Lines of pleemu's own include
files get none: what their macros emit belongs to the line that invokes them.
"""

from __future__ import annotations

import re
from pathlib import Path

import attrs

from pleemu.errors import GuestError
from pleemu.shipped import programs_folder

SOURCE_LIMIT = 4 << 20  # bytes of one source file
DEPTH_LIMIT = 20  # nested includes

LIBRARY = programs_folder() / "include"

_INCLUDE = re.compile(r'\.include\s+"([^"]*)"')
_FILE_DIRECTIVE = re.compile(r"(?:^|[;:])\s*\.(include|incbin)\b")
_PREPROCESSOR = re.compile(r"#(include|define|undef|if|ifdef|ifndef|else|elif|endif|pragma|error|warning)\b")
_PREPROCESSOR_ADVICE = {"include": ".include", "define": ".set or .macro", "undef": ".set or .purgem"}
_OWN_LINE_TABLE = re.compile(r"\.(loc\s|file\s+\d)")
_BODY_BEGINS = re.compile(r"\.(macro|rept|rep|irp|irpc)\b")
_BODY_ENDS = re.compile(r"\.(endm|endmacro|endr)\b")
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"|\'\\?.')


@attrs.frozen
class Line:
    """One line of the expanded text and where it stands."""

    text: str
    file: Path
    number: int
    in_body: bool = False  # inside .macro or .rept: assembled when it is expanded
    in_comment: bool = False  # begins inside /* ... */


@attrs.frozen
class Source:
    """A guest's whole source, includes expanded."""

    path: Path
    lines: list[Line]
    has_own_line_table: bool

    def files(self) -> list[Path]:
        """Return the files that lines come from, in the order of their ``.file`` numbers (from 1)."""
        return list(dict.fromkeys(line.file for line in self.lines))

    def display_name(self, file: Path) -> str:
        """Return ``file`` as messages and the line table name it: relative to the guest's folder."""
        try:
            return file.relative_to(self.path.parent).as_posix()
        except ValueError:
            return file.name

    def prefixes(self, *, traced: bool = False) -> list[str]:
        """Return what is put before each line: its ``.loc``, and for a trace a ``.print`` of its index."""
        numbers = {file: number for number, file in enumerate(self.files(), 1)}
        return [self._prefix(index, line, numbers[line.file], traced) for index, line in enumerate(self.lines)]

    def _prefix(self, index: int, line: Line, file_number: int, traced: bool) -> str:
        if line.in_comment or not line.text.strip():
            return ""
        trace = f'.print "@{index}";' if traced else ""
        if self.has_own_line_table or line.file.parent == LIBRARY:
            return trace
        return f"{trace}.loc {file_number} {line.number} 0; "

    def unclosed_brackets(self) -> list[str]:
        """Return a message for each line whose ``[`` and ``]`` do not match.

        LLVM's Intel syntax takes ``mov eax, [rbx`` without a word, and as another instruction.
        """
        messages = []
        in_comment = False
        for line in self.lines:
            code, in_comment = strip_comments(line.text, in_comment)
            code = _QUOTED.sub("", code)
            if code.count("[") != code.count("]"):
                messages.append(f"{line.file}:{line.number}: [ and ] do not match in {code.strip()!r}")
        return messages

    def header(self) -> str:
        """Return the one line that precedes all others: the syntax and the table of files."""
        header = ".intel_syntax noprefix"
        if not self.has_own_line_table:
            for number, file in enumerate(self.files(), 1):
                name = self.display_name(file).replace("\\", "\\\\").replace('"', '\\"')
                header += f'; .file {number} "{name}"'
        return header


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a regular file, or say why there are none."""
    try:
        if path.is_dir():
            raise GuestError(f"{path}: is a folder; name the guest's .S file in it")
        if not path.exists():
            raise GuestError(f"{path}: no such file")
        if not path.is_file():
            raise GuestError(f"{path}: is not a regular file")
        if path.stat().st_size > 64 << 20:
            raise GuestError(f"{path}: is larger than 64 MiB")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise GuestError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file."""
    content = read_bytes(path)
    if len(content) > SOURCE_LIMIT:
        raise GuestError(f"{path}: is larger than {SOURCE_LIMIT >> 20} MiB, too large for assembly source")
    if not content.strip():
        raise GuestError(f"{path}: is empty")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise GuestError(f"{path}:{line}: byte {content[error.start]:#04x} is not UTF-8; save as UTF-8") from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise GuestError(f"{path}:{line}: has a NUL byte, so it is not assembly source")
    return [line.rstrip("\r") for line in text.split("\n")]


def read_source(path: Path) -> Source:
    """Read ``path`` and everything that it includes."""
    expander = _Expander()
    expander.add(path, ())
    if expander.problems:
        raise GuestError("\n".join(expander.problems[:10]))
    own = any(_OWN_LINE_TABLE.match(line.text.strip()) for line in expander.lines)
    return Source(path, expander.lines, own)


class _Expander:
    """Collects lines depth first, keeping track of comments and of macro bodies."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.problems: list[str] = []
        self.depth = 0  # of .macro and .rept bodies

    def add(self, path: Path, including: tuple[Path, ...]) -> None:
        in_comment = False
        for number, text in enumerate(read_lines(path), 1):
            begins_in_comment = in_comment
            code, in_comment = strip_comments(text, in_comment)
            code = code.strip()
            problem = self._forbidden(code, text.strip() if not begins_in_comment else "")
            if problem:
                self.problems.append(f"{path}:{number}: {problem}")
            elif code.startswith(".include"):
                self._include(code, path, number, including)
            else:
                if _BODY_ENDS.match(code):
                    self.depth = max(0, self.depth - 1)
                self.lines.append(Line(text, path, number, self.depth > 0, begins_in_comment))
                if _BODY_BEGINS.match(code):
                    self.depth += 1

    @staticmethod
    def _forbidden(code: str, text: str) -> str:
        """Say what is wrong with a line that the assembler would misread or must not see."""
        preprocessor = _PREPROCESSOR.match(text)
        if preprocessor:
            word = preprocessor[1]
            advice = _PREPROCESSOR_ADVICE.get(
                word, ".if, .else and .endif" if word[:2] in ("if", "el", "en") else ".error"
            )
            return f"#{word} is a comment here: guests have no C preprocessor; use {advice}"
        directive = _FILE_DIRECTIVE.search(code)
        if directive and directive[1] == "incbin":
            return ".incbin is not supported: a guest holds its own data; use .byte or .quad"
        if directive and not code.startswith(".include"):
            return ".include must stand on a line of its own"
        return ""

    def _include(self, code: str, path: Path, number: int, including: tuple[Path, ...]) -> None:
        where = f"{path}:{number}"
        match = _INCLUDE.fullmatch(code)
        if match is None:
            self.problems.append(f'{where}: expected .include "file"')
            return
        chain = (*including, path)
        for folder in (path.parent, LIBRARY):
            found = folder / match[1]
            if found.is_file():
                break
        else:
            self.problems.append(f'{where}: cannot find "{match[1]}" in {path.parent} or {LIBRARY}')
            return
        if any(found.samefile(earlier) for earlier in chain):
            self.problems.append(f'{where}: "{match[1]}" includes itself, through {" and ".join(map(str, chain))}')
        elif len(chain) >= DEPTH_LIMIT:
            self.problems.append(f"{where}: more than {DEPTH_LIMIT} nested includes")
        else:
            self.add(found, chain)


def strip_comments(text: str, in_comment: bool) -> tuple[str, bool]:
    """Return ``text`` without comments, and whether its end is inside ``/* ... */``."""
    kept = ""
    position = 0
    while position < len(text):
        if in_comment:
            end = text.find("*/", position)
            if end < 0:
                return kept, True
            position, in_comment = end + 2, False
        elif text.startswith("/*", position):
            position, in_comment = position + 2, True
            kept += " "
        elif text[position] == "#" or text.startswith("//", position):
            break
        elif text[position] == '"':
            end = position + 1
            while end < len(text) and text[end] != '"':
                end += 2 if text[end] == "\\" else 1
            kept += text[position : end + 1]
            position = end + 1
        else:
            kept += text[position]
            position += 1
    return kept, in_comment
