"""Guests made for tests: from assembly text, through the whole room."""

from __future__ import annotations

from pathlib import Path

from pleemu.guest import load
from pleemu.guest.image import Image

MAIN = ".globl guest_main\nguest_main:\n"


def write_guest(folder: Path, text: str, name: str = "guest.S") -> Path:
    """Write ``text`` as a guest's source."""
    path = folder / name
    path.write_text(text)
    return path


def make_guest(folder: Path, text: str) -> Image:
    """Assemble, link and decode ``text``; `guest_main` begins it unless it is defined there."""
    if "guest_main:" not in text:
        text = MAIN + text
    return load(write_guest(folder, text))


def operations(image: Image, first: str = "guest_main") -> list[tuple[int, ...]]:
    """Return the instructions from symbol ``first`` on."""
    address = image.address_of(first)
    assert address is not None
    return list(image.instructions[image.index_of[address - image.base] :])
