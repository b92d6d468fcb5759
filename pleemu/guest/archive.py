"""Archives of objects (.a, gABI-style `ar`): a linker takes from them what it needs, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pleemu.errors import GuestError
from pleemu.guest.elf import ObjectFile, read_object

_MAGIC, _THIN = b"!<arch>\n", b"!<thin>\n"
_HEADER = 60  # bytes: name 16, date 12, uid 6, gid 6, mode 8, size 10, end 2
_END = b"`\n"


def is_archive(content: bytes) -> bool:
    """Whether a file is an archive."""
    return content.startswith((_MAGIC, _THIN))


def needed_members(
    archives: Sequence[tuple[bytes, Path]], objects: Sequence[ObjectFile], *more: str
) -> list[ObjectFile]:
    """Return the members that define ``more`` and what the objects, and then these members, leave undefined."""
    waiting = [member for content, path in archives for member in _members(content, path)]
    taken: list[ObjectFile] = []
    while True:
        wanted = undefined([*objects, *taken], *more)
        member = next((one for one in waiting if _defined(one) & wanted), None)
        if member is None:
            return taken
        waiting.remove(member)
        taken.append(member)


def undefined(objects: Sequence[ObjectFile], *more: str) -> set[str]:
    """Return the names that the objects need, and ``more``, but do not define."""
    wanted = {
        symbol.name for one in objects for symbol in one.symbols
        if symbol.place == "SHN_UNDEF" and symbol.binding == "STB_GLOBAL"
    }  # fmt: skip
    return wanted.union(more) - {name for one in objects for name in _defined(one)}


def _defined(one: ObjectFile) -> set[str]:
    return {
        symbol.name for symbol in one.symbols if symbol.is_global and symbol.place not in ("SHN_UNDEF", "SHN_COMMON")
    }


def _members(content: bytes, path: Path) -> Iterator[ObjectFile]:
    if content.startswith(_THIN):
        raise GuestError(f"{path}: is a thin archive, which only names its objects; make it without `ar --thin`")
    offset = len(_MAGIC)
    names = b""
    while offset < len(content):
        header = content[offset : offset + _HEADER]
        size = header[48:58].strip()
        if len(header) < _HEADER or header[58:] != _END or not size.isdigit():
            raise GuestError(f"{path}: is not a readable archive: no member's header at offset {offset:#x}")
        data = content[offset + _HEADER :][: int(size)]
        offset += _HEADER + int(size) + int(size) % 2
        name = header[:16].rstrip()
        if name == b"//":
            names = data
        elif name not in (b"/", b"/SYM64/"):
            member = _name(name, names)
            yield read_object(data, path.with_name(f"{path.name}({member})"))


def _name(name: bytes, names: bytes) -> str:
    """Return a member's name; GNU keeps long ones in a member of their own."""
    if name.startswith(b"/") and name[1:].isdigit():
        name = names[int(name[1:]) :].partition(b"\n")[0]
    text = name.decode(errors="replace").removesuffix("/").replace("/", "_")
    return "".join(letter for letter in text if letter.isprintable()) or "member"
