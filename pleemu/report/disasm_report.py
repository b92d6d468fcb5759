"""`pleemu disasm`: a guest's instructions, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
from rich.console import Group, RenderableType
from rich.text import Text

from pleemu.guest.costs import cycles_by_class
from pleemu.guest.image import Image
from pleemu.guest.listing import Gap, Row, listing
from pleemu.processor import Processor
from pleemu.report import units
from pleemu.report.disasm_keys import DISASM_KEYS

_SYMBOLS_SHOWN = 8
_MNEMONIC_STYLES = {"pause": "bold red", "hlt": "bold red", "lock": "bold yellow", "xchg": "bold yellow"}


def disasm_report(image: Image, processor: Processor) -> RenderableType:
    """Return the listing for a terminal or a pipe."""
    return Group(*_lines(image, processor))


def disasm_json(images: Sequence[Image], processor: Processor) -> str:
    """Return the guests as the JSON text that `pleemu disasm --json` prints."""
    return json.dumps({"guests": [_to_dict(image, processor) for image in images]}, indent=2)


def _lines(image: Image, processor: Processor) -> Iterator[Text]:
    listed = listing(image, cycles_by_class(processor))
    rows = [one for one in listed if isinstance(one, Row)]
    compilers = f", {', '.join(image.linked.producers)}" if image.linked.producers else ""
    yield Text.assemble((image.name, "bold"), (f"  {image.path}, {len(rows)} instructions{compilers}", "dim"))
    yield Text(f"cycles on {processor.name}, what they access in the first-level cache", "dim")
    bytes_width = max(len(row.code.hex(" ")) for row in rows)
    text_width = max(len(row.text) for row in rows)
    source = ""
    for one in listed:
        if isinstance(one, Gap):
            yield _gap(one)
            continue
        if one.symbols:
            yield Text()
            yield Text.assemble((", ".join(one.symbols) + ":", "bold cyan"))
        mnemonic, space, operands = one.text.partition(" ")
        line = Text.assemble(
            (f"{one.address:#018x}  ", "dim"),
            (f"{one.code.hex(' '):{bytes_width}}  ", "dim"),
            (mnemonic, _MNEMONIC_STYLES.get(mnemonic, "bold")),
            f"{space + operands:{text_width - len(mnemonic)}}",
            (f"  {one.cycles:>4}", "yellow" if one.cycles > 1 else ""),
        )
        if one.probe:
            line.append(f"  {one.probe}", "bold green")
        if one.source and one.source != source:
            line.append(f"  {one.source}", "dim italic")
        source = one.source
        line.rstrip()
        yield line


def _gap(gap: Gap) -> Text:
    names = ", ".join(gap.symbols[:_SYMBOLS_SHOWN])
    more = f" and {len(gap.symbols) - _SYMBOLS_SHOWN} more" if len(gap.symbols) > _SYMBOLS_SHOWN else ""
    return Text(
        f"{gap.address:#018x}  ... {units.count(gap.size)} byte{'s' * (gap.size > 1)} of {gap.kind}"
        + (f": {names}{more}" if names else ""),
        "dim",
    )


def _to_dict(image: Image, processor: Processor) -> dict[str, Any]:
    listed = listing(image, cycles_by_class(processor))
    values = {
        "name": image.name,
        "processor": processor.name,
        "compilers": list(image.linked.producers),
        "image": image.digest,
        "entry": f"{int(image.instructions[image.entry].address) % (1 << 64):#x}",
        "instructions": [_row(one) for one in listed if isinstance(one, Row)],
        "gaps": [attrs.asdict(one) | {"address": f"{one.address:#x}"} for one in listed if isinstance(one, Gap)],
    }
    return {key: values[key] for key in DISASM_KEYS}


def _row(row: Row) -> dict[str, Any]:
    return {
        "address": f"{row.address:#x}",
        "bytes": row.code.hex(" "),
        "text": row.text,
        "cycles": row.cycles,
        "symbols": list(row.symbols),
        "probe": row.probe or None,
        "source": row.source or None,
    }
