"""Source → ELF object, by LLVM in a child process; LLVM's messages → the user's own lines.

LLVM stops at its first error and does not say which line invoked the macro that the error is
in. So, once the source is known to be wrong, it is assembled again with each line printing its
index first: the last index printed is the line at fault. That line is left out and the rest
assembled again, up to `ERRORS_SHOWN` times.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import attrs

from pleemu.errors import GuestError
from pleemu.guest.assembled import CHILD as _CHILD
from pleemu.guest.assembled import assembled_before, keep_assembled
from pleemu.guest.llvm_child import EXIT_NO_ASSEMBLER
from pleemu.guest.source import Line, Source, read_source

ERRORS_SHOWN = 10
TIME_LIMIT = 20  # seconds
MESSAGES_READ = 1 << 20  # bytes of LLVM's messages that are looked at

# "error: <inline asm>:2:14: unknown token in expression", then the line, then a caret.
_ERROR = re.compile(r"^error: (?:<([^>\n]*)>:(\d+):(\d+): )?(.*)(?:\n(.*)\n( *)\^)?", re.MULTILINE)
_TRACE = re.compile(r"^@(\d+)$", re.MULTILINE)
_OWN_TRACE = re.compile(r'\.print "@(\d+)";')
_PREFIX = re.compile(r'^(?:\.print "@\d+";)?(?:\.loc \d+ \d+ 0; )?')
_STRUCTURE = re.compile(r"\s*\.(macro|endm|endmacro|rept|rep|irp|irpc|endr|if\w*|else\w*|endif)\b")


def assemble(path: Path) -> bytes:
    """Return the ELF object that LLVM makes of the assembly source at ``path``."""
    source = read_source(path)
    prefixes = source.prefixes()
    data = assembled_before(_text(source, prefixes, frozenset()))
    if data is None:
        result = _run(source, prefixes, frozenset())
        if result.data is None:
            raise GuestError(_explain(source, result))
        data = result.data
        keep_assembled(_text(source, prefixes, frozenset()), data)
    unclosed = source.unclosed_brackets()
    if unclosed:
        raise GuestError("\n".join(unclosed[:10]))
    return data


@attrs.frozen
class _Result:
    """What the child made: an object, or messages."""

    data: bytes | None
    messages: str = ""
    failure: str = ""  # of the process as a whole, where no line is to blame


def _text(source: Source, prefixes: list[str], without: frozenset[int]) -> bytes:
    """Return what LLVM is given."""
    lines = [
        "" if index in without else prefix + line.text
        for index, (prefix, line) in enumerate(zip(prefixes, source.lines, strict=True))
    ]
    return "\n".join([source.header(), *lines, ""]).encode(errors="replace")


def _run(source: Source, prefixes: list[str], without: frozenset[int]) -> _Result:
    """Assemble ``source`` without the lines whose indexes are given."""
    text = _text(source, prefixes, without)
    with tempfile.TemporaryFile() as messages_file:
        child = subprocess.Popen(
            [sys.executable, "-I", str(_CHILD), str(TIME_LIMIT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages_file,
        )
        # Reading its object takes longer to import than to do: import while the child works.
        import pleemu.guest.decode  # noqa: F401

        try:
            data, _ = child.communicate(text, timeout=TIME_LIMIT)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            return _Result(None, failure=_too_long())
        messages_file.seek(0)
        messages = messages_file.read(MESSAGES_READ).decode(errors="replace")
    if child.returncode == 0:
        return _Result(data)
    return _Result(None, messages, _failure(child.returncode, messages))


def _too_long() -> str:
    return f"takes more than {TIME_LIMIT} s to assemble; is a .rept or a macro too large?"


def _failure(status: int, messages: str) -> str:
    """Say why the child as a whole failed, or nothing where its messages tell."""
    if status == 1 and _ERROR.search(messages):
        return ""
    if status == -signal.SIGXCPU:
        return _too_long()
    if status == EXIT_NO_ASSEMBLER:
        return f"cannot assemble x86-64 on this machine: {messages.strip()}"
    return "is too large to assemble; is a .rept, .fill, .space or .org too large?"


def _explain(source: Source, result: _Result) -> str:
    """Return all that is wrong, one entry per error."""
    if result.failure:
        return f"{source.path}: {result.failure}"
    prefixes = source.prefixes(traced=True)
    without: frozenset[int] = frozenset()
    problems: list[str] = []
    first = result.messages
    while len(problems) < ERRORS_SHOWN:
        result = _run(source, prefixes, without)
        error = _ERROR.search(result.messages) if not result.failure else None
        if result.data is not None or error is None:
            break
        index, problem = _describe(source, prefixes, result.messages, error)
        problems.append(problem)
        if index is None or index in without or _STRUCTURE.match(source.lines[index].text):
            break
        without |= {index}
    return "\n".join(dict.fromkeys(problems)) or f"{source.path}: {first.strip()}"


def _describe(source: Source, prefixes: list[str], messages: str, error: re.Match[str]) -> tuple[int | None, str]:
    """Return the index of the line at fault and the error in the user's terms."""
    buffer, row, column, message, shown, caret = error.groups()
    if buffer is None:
        return None, f"{source.path}: {message}"
    # All that was traced came before the error, though LLVM may write it out after.
    trace = [int(index) for index in _TRACE.findall(messages)]
    if buffer == "inline asm":
        # Row 1 is the header.
        index = min(max(int(row) - 2, 0), len(source.lines) - 1)
        line = source.lines[index]
        position = max(int(column) - len(prefixes[index]), 1)
        return index, _entry(line, position, message, line.text, position - 1)
    # In an expansion: the line shown begins with its own index, the invoking line was traced before.
    own = _OWN_TRACE.match(shown or "")
    index = int(own[1]) if own else trace[-1] if trace else 0
    invoking = next((source.lines[i] for i in reversed(trace) if not source.lines[i].in_body), source.lines[index])
    inner = source.lines[index]
    if inner is not invoking:
        message += f" (in the expansion of {source.display_name(inner.file)}:{inner.number})"
    prefix = _PREFIX.match(shown or "")
    cut = prefix.end() if prefix else 0
    start = len(invoking.text) - len(invoking.text.lstrip()) + 1
    return index, _entry(invoking, start, message, (shown or "")[cut:], max(len(caret or "") - cut, 0))


def _entry(line: Line, column: int, message: str, shown: str, caret: int) -> str:
    """Return one error: where, what, the text and a caret under the place."""
    padding = "".join("\t" if character == "\t" else " " for character in shown[:caret].ljust(caret))
    return f"{line.file}:{line.number}:{column}: {message}\n    {shown}\n    {padding}^"
