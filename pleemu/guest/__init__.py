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


def load(path: Path) -> Image:
    """Read the guest at ``path``: assembly source, or an ELF object that a compiler made.

    :raises pleemu.errors.GuestError: if it cannot be read, assembled, linked or decoded.
    """
    from pleemu.guest.assemble import assemble
    from pleemu.guest.source import read_bytes

    path = Path(path)
    content = read_bytes(path)
    is_object = content.startswith(b"\x7fELF")
    data = content if is_object else assemble(path)

    from pleemu.guest.build import build

    return build([data], source=path)
