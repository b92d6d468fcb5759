"""Objects of sources that were assembled before: LLVM's own start takes longer than all else about a small guest.

Beside the machine code of the core (`jit`), named after a digest of all that LLVM was given, macros and included
files in it. Only what was assembled without an error is kept.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from pleemu.jit import cache_folder
from pleemu.kept import keep, read_kept

CHILD = Path(__file__).with_name("llvm_child.py")
OBJECTS_KEPT = 256
LARGEST_KEPT = 1 << 20  # bytes


def assembled_before(text: bytes) -> bytes | None:
    """Return the object that LLVM has made of ``text``, if that is kept."""
    path = _path(text)
    return None if path is None else read_kept(path)


def keep_assembled(text: bytes, data: bytes) -> None:
    """Keep the object of ``text``; the oldest go."""
    path = _path(text)
    if path is None or len(data) > LARGEST_KEPT:
        return
    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        kept = list(path.parent.glob("*.o"))
        if len(kept) >= OBJECTS_KEPT:
            for old in sorted(kept, key=lambda one: one.stat().st_mtime)[: OBJECTS_KEPT // 4]:
                old.unlink(missing_ok=True)
    keep(path, data)


def _path(text: bytes) -> Path | None:
    folder = cache_folder()
    return None if folder is None else folder / "guests" / f"{hashlib.sha256(_assembler() + text).hexdigest()[:32]}.o"


@cache
def _assembler() -> bytes:
    """Return what stands for LLVM's version and for how it is called."""
    found = find_spec("llvmlite")
    version = Path(found.origin).with_name("_version.py") if found and found.origin else None
    return CHILD.read_bytes() + (version.read_bytes() if version and version.exists() else b"")
