"""Names that fit: the middle of a long one gives way, so that a vCPU keeps its number."""

from __future__ import annotations


def shortened(name: str, most: int) -> str:
    """Return a name of at most so many letters: of ``web-frontend/0`` the number stays, as in ``web-fr…/0``."""
    if len(name) <= most:
        return name
    whose, slash, number = name.rpartition("/")
    tail = slash + number if whose and len(slash + number) < most // 2 else ""
    return f"{name[: most - 1 - len(tail)]}…{tail}"
