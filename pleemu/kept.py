"""Files that are kept from run to run: whole and unharmed, or as good as not there."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path


def read_kept(path: Path) -> bytes | None:
    """Return what was kept there; None if nothing was, or if it is not what was written."""
    try:
        checksum, content = path.read_bytes().split(b"\n", 1)
    except (OSError, ValueError):
        return None
    return content if hashlib.sha256(content).hexdigest().encode() == checksum else None


def keep(path: Path, content: bytes) -> None:
    """Put it there whole or not at all; without it the next process makes it again."""
    with suppress(OSError):
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
        os.replace(file.name, path)


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Let one process make what belongs at ``path``; others wait, and find it there.

    Where nothing can be locked, all of them make it.
    """
    with ExitStack() as held:
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(held.enter_context(path.with_suffix(".lock").open("w")), fcntl.LOCK_EX)
        yield
