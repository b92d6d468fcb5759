"""Files that appear under their name when they are whole."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path

from pleemu.errors import PleemuError


def check_output(option: str, path: Path) -> None:
    """Refuse, before a long run, a file that could not be written."""
    try:
        if not path.parent.is_dir():
            raise PleemuError(f"{option} {path}: there is no folder {path.parent}; make it, or name another")
        if path.is_dir():
            raise PleemuError(f"{option} {path}: that is a folder; name a file")
        _try_to_write(path)
    except (OSError, ValueError) as error:
        raise PleemuError(f"{option} {path}: cannot be written: {_reason(error)}; name another file") from None


def write_whole(path: Path, content: bytes, what: str) -> None:
    """Write a file so that it appears under its name when it is whole; a device is written as it is."""
    part = None
    try:
        if is_device(path):
            path.write_bytes(content)
            return
        final = final_place(path)
        descriptor, part = new_part(final)
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
        raise PleemuError(f"{path}: {what} cannot be written: {_reason(error)}") from None


def _try_to_write(path: Path) -> None:
    """Make the file that would be written first, and take it away again."""
    if is_device(path):
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return
    descriptor, part = new_part(final_place(path))
    os.close(descriptor)
    os.unlink(part)


def is_device(path: Path) -> bool:
    """Whether it is a pipe, a terminal or the like, which is written as it is; a folder counts, too."""
    return path.exists() and not path.is_file()


def final_place(path: Path) -> Path:
    """Return where a file will be, behind all links."""
    return Path(os.path.realpath(path))  # unlike resolve, not stopped by links in a circle


def new_part(final: Path) -> tuple[int, str]:
    """Make the file that is written first: its descriptor and its name."""
    return tempfile.mkstemp(prefix=f".{final.name}.", suffix=".part", dir=final.parent)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
