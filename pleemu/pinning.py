"""`vm.pinning`: on which pCPUs the vCPUs of a VM may run.

    "vcpu-to-pcpu"    vCPU i on pCPU i % pcpus
    "spread"          the same with the vCPUs numbered through all VMs
    "none"            anywhere: the host's scheduler places and moves them
    "0-3,6"           all vCPUs on these pCPUs, as in the kernel's lists of CPUs
    [0, 0, "2-3"]     each vCPU on its own pCPU or pCPUs

A vCPU that may run on one pCPU alone never moves.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from typing import Any

from attrs import Attribute

from pleemu.fields import FieldError, show

VCPU_TO_PCPU, SPREAD, NONE = WORDS = ("vcpu-to-pcpu", "spread", "none")
_RENAMED = {"round-robin": VCPU_TO_PCPU}
_RANGE = re.compile(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?", re.ASCII)

Pinning = str | tuple[int | str, ...]


def check_pinning(_: Any, attribute: Attribute[Any], value: Any) -> None:
    """Refuse what is no placement at all; whether the pCPUs exist is seen later."""
    if isinstance(value, tuple) and value and all(is_place(one) for one in value):
        return
    if value in WORDS or (isinstance(value, str) and is_place(value)):
        return
    shown = show(list(value) if isinstance(value, tuple) else value)
    if isinstance(value, str) and value in _RENAMED:
        raise FieldError(attribute.name, f"{shown} is called {_RENAMED[value]!r} now; use that")
    words = ", ".join(map(repr, WORDS))
    right = f"use {words}, pCPUs as in '0-3,6', or a list with those of each vCPU"
    raise FieldError(attribute.name, f"{shown} is not a placement; {right}")


def is_place(one: Any) -> bool:
    """A pCPU number or a list of them as text."""
    return type(one) is int or (isinstance(one, str) and ranges_of(one) is not None)


def ranges_of(text: str) -> list[tuple[int, int]] | None:
    """Return the first and last pCPU of each range in a text as ``0-3,6``; None if it is no such text."""
    found = [_RANGE.fullmatch(part) for part in text.split(",")]
    ranges = [(int(one[1]), int(one[2] or one[1])) for one in found if one is not None]
    return ranges if len(ranges) == len(found) and all(first <= last for first, last in ranges) else None


def parse_pinning(given: str) -> Any:
    """Return what is meant on the command line: ``none``, ``0-3``, ``0,0,1`` by vCPU, ``[0, "2-3"]`` by vCPU."""
    if given.strip().startswith("["):
        for text in (given, re.sub(r"[0-9]+\s*-\s*[0-9]+", r'"\g<0>"', given)):
            try:
                return tuple(tomllib.loads(f"places = {text}")["places"])
            except (tomllib.TOMLDecodeError, RecursionError):
                continue
    ranges = ranges_of(given)
    if ranges is None or "-" in given:
        return given.strip()
    return tuple(first for first, _ in ranges)


def allowed_of(pinning: Pinning, vcpu: int, number: int, pcpus: int) -> Sequence[int]:
    """Return the pCPUs of a vCPU in rising order; ``number``: its number through all VMs."""
    if pinning == VCPU_TO_PCPU:
        return (vcpu % pcpus,)
    if pinning == SPREAD:
        return (number % pcpus,)
    if pinning == NONE:
        return range(pcpus)
    place = pinning if isinstance(pinning, str) else pinning[vcpu]
    return (place,) if isinstance(place, int) else _numbers(place)


@cache
def _numbers(text: str) -> Sequence[int]:
    return tuple(sorted({pcpu for first, last in ranges_of(text) or [] for pcpu in range(first, last + 1)}))


def check_places(pinning: Pinning, *, where: str, count: int, field: str, pcpus: int) -> None:
    """Refuse pCPUs that do not exist, and a list that is not as long as there are threads (``field`` says how many)."""
    if isinstance(pinning, tuple) and len(pinning) != count:
        what = "vCPUs" if field == "vcpus" else "threads"
        raise FieldError(
            f"{where}.pinning",
            f"places {len(pinning)} {what}, but {where}.{field} is {count}; "
            f"name {count} pCPUs or use {VCPU_TO_PCPU!r} or {NONE!r}",
        )
    if pinning in WORDS:
        return
    for place in (pinning,) if isinstance(pinning, str) else pinning:
        for pcpu in [place] if isinstance(place, int) else [last for _, last in ranges_of(place) or []]:
            if not 0 <= pcpu < pcpus:
                right = f"use 0 to {pcpus - 1} or raise hardware.pcpus"
                raise FieldError(f"{where}.pinning", f"there is no pCPU {show(pcpu)}; {right}")
