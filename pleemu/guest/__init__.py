"""Guest programs: source → ELF object → linked image → decoded instructions.

``load`` is the way in. Nothing is imported before it is called, so that a run without a
guest (listing presets, printing help) does not pay for LLVM, iced and pyelftools.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pleemu.guest.image import Image

__all__ = ["load"]

_BINARY = (b"\x7fELF", b"!<arch>\n", b"!<thin>\n")


def load(*paths: Path, cc: str = "auto", cflags: str = "") -> Image:
    """Read the guest that ``paths`` make together.

    A path is assembly source, C source (``.c``, for the compiler ``cc`` with ``cflags``), an ELF object, an
    archive of objects, or, alone, a static executable.

    :raises pleemu.errors.GuestError: if it cannot be read, compiled, assembled, linked or decoded.
    """
    paths = tuple(Path(path) for path in paths)
    contents = [_content(path, cc, cflags) for path in paths]

    from pleemu.guest.build import build

    return build(contents, source=paths[0], sources=paths)


def _content(path: Path, cc: str, cflags: str) -> bytes:
    from pleemu.guest.assemble import assemble
    from pleemu.guest.source import read_bytes

    content = read_bytes(path)
    if content.startswith(_BINARY):
        return content
    if path.suffix == ".c":
        from pleemu.guest.compile import compile_c

        return compile_c(path, cc=cc, cflags=cflags)
    return assemble(path)
