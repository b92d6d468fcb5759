"""A guest as a listing: its instructions in order of their addresses, and what lies between them."""

from __future__ import annotations

import attrs
import numpy as np

from pleemu.guest.image import Image
from pleemu.guest.link import EXIT_STUB
from pleemu.guest.probes import PROVIDER, read_notes
from pleemu.hardware import isa

_MASK = (1 << 64) - 1


@attrs.frozen(kw_only=True)
class Row:
    """One decoded instruction."""

    address: int
    code: bytes
    text: str  # Intel syntax
    cycles: int  # on the processor of the listing, its memory operand in the first-level cache
    symbols: tuple[str, ...]  # that stand at its address
    probe: str  # name and operand as in its note; empty where it is none
    source: str  # file:line, empty where the object does not tell


@attrs.frozen(kw_only=True)
class Gap:
    """Bytes that are not decoded: padding, constants among the code, or data."""

    address: int
    size: int
    kind: str  # unreached code | read-only data | data
    symbols: tuple[str, ...] = ()  # of data


def listing(image: Image, cycles: tuple[int, ...]) -> list[Row | Gap]:
    """Return the whole guest by address; ``cycles`` are those of the cost classes."""
    table = image.instructions.copy().view(np.recarray)
    isa.prepare(table, cycles)
    probes = {note.address: note for note in read_notes(image.linked) if note.provider == PROVIDER}
    symbols: dict[int, list[str]] = {}
    for symbol in image.linked.symbols.symbols:
        if not symbol.name.startswith((".L", "_.stapsdt")):
            symbols.setdefault(symbol.address, []).append(symbol.name)
    listed: list[Row | Gap] = []
    end = image.base
    for index, record in enumerate(table):
        address = int(record.address) & _MASK
        _gap(listed, end, address, "unreached code")
        note = probes.get(address)
        listed.append(
            Row(
                address=address,
                code=image.memory[address - image.base :][: int(record.length)].tobytes(),
                text=image.text_of(index),
                cycles=int(record.cycles),
                symbols=tuple(dict.fromkeys(symbols.get(address, ()))),
                probe=f"{note.name} {note.arguments}".strip() if note else "",
                source=image.source_at(address) or "",
            )
        )
        end = address + int(record.length)
        if index == 0:
            end = image.base + max(len(EXIT_STUB), image.linked.code_start)
    _gap(listed, end, image.base + image.code_size, "unreached code")
    end = image.base + image.code_size
    for kind, limit in (("read-only data", image.readonly_size), ("data", len(image.memory))):
        limit = min(image.base + limit, image.base + len(image.memory))
        inside = [name for at, names in sorted(symbols.items()) if end <= at < limit for name in names]
        _gap(listed, end, limit, kind, tuple(dict.fromkeys(inside)))
        end = max(end, limit)
    return listed


def _gap(listed: list[Row | Gap], start: int, end: int, kind: str, symbols: tuple[str, ...] = ()) -> None:
    if end > start:
        listed.append(Gap(address=start, size=end - start, kind=kind, symbols=symbols))
