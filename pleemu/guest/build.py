"""Objects → Image: link, decode, then what the guest says about itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pleemu.errors import GuestError
from pleemu.guest.decode import decode
from pleemu.guest.image import Image
from pleemu.guest.link import BASE, link
from pleemu.guest.linked import Linked
from pleemu.guest.probes import apply_probes
from pleemu.guest.vectors import read_vectors

ENTRY = "guest_main"


def build(objects: Sequence[bytes], *, source: Path, base: int = BASE) -> Image:
    """Make the image of ``objects``; ``source`` is the path that messages name."""
    linked = link(objects, source=source, base=base)
    entry = _entry(linked)
    decoded = decode(linked)
    apply_probes(linked, decoded)
    return Image(
        name=source.stem,
        path=source,
        base=base,
        memory=linked.memory,
        readonly_size=linked.readonly_size,
        code_size=linked.code_size,
        instructions=decoded.instructions,
        index_of=decoded.index_of,
        entry=int(decoded.index_of[entry - base]),
        vectors=read_vectors(linked, decoded),
        linked=linked,
    )


def _entry(linked: Linked) -> int:
    symbol = linked.symbols.find(ENTRY)
    if symbol is None:
        raise GuestError(
            f"{linked.source}: has no {ENTRY}, where every vCPU starts; write `.globl {ENTRY}` and "
            f"`{ENTRY}:` before the first instruction (rdi = this vCPU, rsi = number of vCPUs, rdx = seed)"
        )
    if not symbol.is_code or symbol.is_object:
        raise GuestError(f"{linked.place(symbol.address)}: {ENTRY} is data, not code; put it into .text")
    return symbol.address
