"""Files that appear under their name when they are whole."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from pleemu.errors import PleemuError


def check_folder(option: str, path: Path) -> None:
    """Refuse a file that has nowhere to go, before a long run."""
    if not path.parent.is_dir():
        raise PleemuError(f"{option} {path}: there is no folder {path.parent}; make it, or name another")
    if path.is_dir():
        raise PleemuError(f"{option} {path}: that is a folder; name a file")


def write_whole(path: Path, content: bytes, what: str) -> None:
    """Write a file so that it appears under its name when it is whole; a device is written as it is."""
    part = None
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
            return
        final = path.resolve()
        descriptor, part = tempfile.mkstemp(prefix=f".{final.name}.", suffix=".part", dir=final.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(part, 0o666 & ~umask)
        os.replace(part, final)
    except (OSError, ValueError) as error:
        if part is not None:
            with contextlib.suppress(OSError):
                os.unlink(part)
        raise PleemuError(f"{path}: {what} cannot be written: {getattr(error, 'strerror', None) or error}") from None
