"""Objects or an executable → Image: link, decode, then what the guest says about itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pleemu.errors import GuestError
from pleemu.guest.archive import is_archive, needed_members, undefined
from pleemu.guest.assemble import assemble
from pleemu.guest.elf import ObjectFile, read_object
from pleemu.guest.executable import load_executable
from pleemu.guest.image import Image
from pleemu.guest.link import BASE, link
from pleemu.guest.linked import Linked
from pleemu.guest.probes import apply_probes
from pleemu.guest.source import LIBRARY
from pleemu.guest.sweep import decode_all
from pleemu.guest.vectors import read_vectors

ENTRY = "guest_main"

# What compilers call on their own, and the assembly that defines it.
COMPILERS_CALL = ("memcpy", "memmove", "memset", "memcmp", "bcmp", "strlen", "__popcountdi2")
FREESTANDING = LIBRARY / "freestanding.S"

# What stands on a spinlock and brings none gets this one.
SPINLOCK = LIBRARY.parent / "locks" / "qspinlock.S"

# A guest without an entry that defines these functions is a lock, and gets the main of such locks.
MAINS = {
    ("read_lock", "read_unlock", "write_lock", "write_unlock"): LIBRARY / "rwlock_main.S",
    ("read_seqbegin", "read_seqretry", "write_seqlock", "write_sequnlock"): LIBRARY / "seqlock_main.S",
    ("acquire", "release"): LIBRARY / "lock_main.S",
}


def build(contents: Sequence[bytes], *, source: Path, sources: Sequence[Path] = (), base: int = BASE) -> Image:
    """Make the image of ELF files and archives.

    ``source`` is the path that messages about the whole name, ``sources`` those of the contents.
    """
    linked = _link(contents, source, sources or [source] * len(contents), base)
    base = linked.base
    entry = _entry(linked)
    decoded = decode_all(linked)
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


def _link(contents: Sequence[bytes], source: Path, sources: Sequence[Path], base: int) -> Linked:
    named = list(zip(contents, sources, strict=True))
    objects = [read_object(content, name) for content, name in named if not is_archive(content)]
    executable = next((one for one in objects if one.is_executable), None)
    if executable is not None:
        if len(contents) > 1:
            raise GuestError(f"{executable.source}: is linked already; run it alone, or give its objects instead")
        return load_executable(executable)
    archives = [(content, name) for content, name in named if is_archive(content)]
    objects += needed_members(archives, objects, ENTRY)
    if main := _main_for(objects, archives):
        objects.append(read_object(assemble(main), main))
        objects += needed_members(archives, objects)
    if {"acquire", "release"} <= undefined(objects):
        objects.append(read_object(assemble(SPINLOCK), SPINLOCK))
    if not undefined(objects).isdisjoint(COMPILERS_CALL):
        objects.append(read_object(assemble(FREESTANDING), FREESTANDING))
    return link(objects, source=source, base=base)


def _main_for(objects: Sequence[ObjectFile], archives: Sequence[tuple[bytes, Path]]) -> Path | None:
    """Return the main that a lock without one is given."""
    if ENTRY not in undefined(objects, ENTRY):
        return None
    for functions, main in MAINS.items():
        found = [*objects, *needed_members(archives, objects, *functions)]
        if undefined(found, *functions).isdisjoint(functions):
            return main
    return None


def _entry(linked: Linked) -> int:
    if linked.entry is not None:
        return linked.entry
    symbol = linked.symbols.find(ENTRY)
    if symbol is None:
        raise GuestError(f"{linked.source}: {_without_entry(linked)}")
    if not symbol.is_code or symbol.is_object:
        raise GuestError(f"{linked.place(symbol.address)}: {ENTRY} is data, not code; put it into .text")
    return symbol.address


def _without_entry(linked: Linked) -> str:
    """Say what a guest lacks: the other functions of a lock if it has some of them, or else its entry."""
    defined = {symbol.name for symbol in linked.symbols.symbols if symbol.is_code and symbol.is_global}
    for functions in MAINS:
        has = [one for one in functions if one in defined]
        lacks = [one for one in functions if one not in defined]
        if has:
            return (
                f"defines {_listed(has)} but not {_listed(lacks)}; a lock is {_listed(functions)}, global functions, "
                f"and then needs no {ENTRY}"
            )
    return (
        f"has no {ENTRY}, where every vCPU starts; in C write `void {ENTRY}(unsigned long vcpu, unsigned long vcpus, "
        f"unsigned long seed)`, in assembly `.globl {ENTRY}` and `{ENTRY}:` before the first instruction (rdi, rsi, "
        "rdx = the same three); or define a lock's two functions, `acquire` and `release`"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else names[0]
