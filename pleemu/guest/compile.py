"""C source → ELF object, by the compiler that the user has, in a process with little time and memory.

The compiler runs in the source's folder: `-I` is relative to it, and so are the names in the line
table. Its object is freestanding, static, kernel code: the model that Linux itself is compiled with.

C may name any file of the host that the user can read (`#include`, `.incbin` in an asm statement), as in
any compilation; it cannot write one or run a program.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from pleemu.compiler import AUTO, ZIGLANG, check_compiler, check_flags, split_flags
from pleemu.errors import GuestError, ScenarioError
from pleemu.guest.source import LIBRARY, read_bytes

TIME_LIMIT = 60  # seconds
MEMORY_LIMIT_KIB = 8 << 20  # of address space, which ziglang reserves more of than it uses
FILE_LIMIT_BLOCKS = 1 << 19  # of 512 bytes: 256 MiB
MESSAGES_READ = 1 << 20  # bytes of the compiler's messages that are looked at
LINES_SHOWN = 40

# What every guest needs; the user's own flags come after these.
FLAGS = (
    "-O2",
    "-g",
    "-ffreestanding",
    "-static",
    "-fno-pic",
    "-mcmodel=kernel",  # symbols are in the top 2 GiB
    "-mno-red-zone",  # interrupts at CPL 0 push onto the same stack
    "-mgeneral-regs-only",
    "-mcx16",
    "-fcf-protection=none",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fno-common",
)
# zig chooses the registers by its own name of the processor, whatever -mgeneral-regs-only says.
_ZIG_FLAGS = ("-target", "x86_64-freestanding-none", "-mcpu=x86_64-mmx-sse-sse2-x87+soft_float+cx16")
_CLANG_FLAGS = ("-fno-sanitize=all",)
_SUGGESTION = "install gcc or clang, or ziglang by `pip install 'pleemu[cc]'`"
_LIMITS = {"t": TIME_LIMIT, "c": 0, "f": FILE_LIMIT_BLOCKS, "v": MEMORY_LIMIT_KIB}
_LIMITED = "; ".join(f"ulimit -{name} {limit}" for name, limit in _LIMITS.items()) + '; exec "$@"'
_PLACE = re.compile(
    r"^(In file included from |\s+from )?(?!In file included from )([^\s/:<][^:\n]*)(?=:\d+[:,])", re.MULTILINE
)


def compile_c(path: Path, *, cc: str = AUTO, cflags: str = "") -> bytes:
    """Return the ELF object that the compiler makes of the C source at ``path``."""
    try:
        check_compiler(cc)
        check_flags(cflags)
    except ScenarioError as error:
        raise GuestError(str(error)) from None
    if not read_bytes(path).strip():
        raise GuestError(f"{path}: is empty")
    compiler = find_compiler(path, cc)
    with tempfile.TemporaryDirectory(prefix="pleemu-") as folder:
        made = Path(folder, "guest.o")
        name = f"./{path.name}" if path.name[0] in "-@" else path.name
        command = [*compiler, *FLAGS, f"-I{LIBRARY}", *split_flags(cflags), "-c", "-o", str(made), name]
        status, messages = _run(path, command, Path(folder))
        if status == 0 and made.is_file():
            return read_bytes(made)
    raise GuestError(_explain(path, cc if cc != AUTO else Path(compiler[0]).name, status, messages))


def find_compiler(path: Path, cc: str = AUTO) -> list[str]:
    """Return the command of a compiler for x86-64 by its name; ``path`` is what it is wanted for."""
    names = [cc]
    if cc == AUTO:
        is_x86 = platform.machine() in ("x86_64", "AMD64")
        names = ["cc", "gcc", "clang"] if is_x86 else ["x86_64-linux-gnu-gcc", "clang"]
        names.append(ZIGLANG)
    for name in names:
        if name == ZIGLANG and importlib.util.find_spec(ZIGLANG) is not None:
            return [sys.executable, "-m", ZIGLANG, "cc", *_ZIG_FLAGS, *_CLANG_FLAGS]
        found = shutil.which(name) if name != ZIGLANG else None
        if found is not None:
            return [found, "--target=x86_64-unknown-linux-gnu", *_CLANG_FLAGS] if "clang" in name else [found]
    if cc == AUTO:
        raise GuestError(f"{path}: no C compiler was found; {_SUGGESTION}")
    raise GuestError(f"{path}: the C compiler {cc!r} was not found; {_SUGGESTION}, or leave out the compiler's name")


def _run(path: Path, command: list[str], scratch: Path) -> tuple[int, str]:
    """Run the compiler in the source's folder; return its exit status and its messages."""
    environment = os.environ | {"LC_ALL": "C", "TMPDIR": str(scratch), "ZIG_LOCAL_CACHE_DIR": str(scratch)}
    with tempfile.TemporaryFile() as messages_file:
        process = subprocess.Popen(
            ["/bin/sh", "-c", _LIMITED, "sh", *command],
            cwd=path.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=messages_file,
            stderr=messages_file,
            start_new_session=True,
        )
        # Reading its object takes longer to import than to do: import while the compiler works.
        import pleemu.guest.build  # noqa: F401

        try:
            status = process.wait(timeout=TIME_LIMIT)
        except subprocess.TimeoutExpired:
            status = -signal.SIGXCPU
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # gcc has children, and all of them end here
            process.wait()
        messages_file.seek(0)
        return status, messages_file.read(MESSAGES_READ).decode(errors="replace")


def _explain(path: Path, name: str, status: int, messages: str) -> str:
    """Return the compiler's messages with the user's own paths."""
    if status in (-signal.SIGXCPU, 128 + signal.SIGXCPU):
        return f"{path}: takes more than {TIME_LIMIT} s to compile; is an include, a macro or a table too large?"
    shown = _PLACE.sub(lambda match: (match[1] or "") + str(path.parent / match[2]), messages.strip())
    lines = shown.splitlines()
    if len(lines) > LINES_SHOWN:
        lines = [*lines[:LINES_SHOWN], f"... and {len(lines) - LINES_SHOWN} more lines"]
    return "\n".join([f"{path}: {name} cannot compile it:", *(lines or [f"it ended with status {status}"])])
