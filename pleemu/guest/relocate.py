"""x86-64 relocations (psABI table 4.9), with the overflow checks of a static linker."""

from __future__ import annotations

import attrs

from pleemu.guest.elf import Relocation, Section


@attrs.frozen
class Kind:
    """How one type of relocation computes and stores its value."""

    name: str
    size: int  # bytes of the field
    relative: bool = False  # S + A - P instead of S + A
    minimum: int = -(1 << 63)
    maximum: int = (1 << 64) - 1


def _signed(name: str, size: int, *, relative: bool = False) -> Kind:
    return Kind(name, size, relative, -(1 << (8 * size - 1)), (1 << (8 * size - 1)) - 1)


def _either(name: str, size: int) -> Kind:
    """A field that may hold a signed or an unsigned number."""
    return Kind(name, size, False, -(1 << (8 * size - 1)), (1 << (8 * size)) - 1)


KINDS = {
    0: Kind("R_X86_64_NONE", 0),
    1: Kind("R_X86_64_64", 8),
    2: _signed("R_X86_64_PC32", 4, relative=True),
    4: _signed("R_X86_64_PLT32", 4, relative=True),  # no PLT in a static image: as PC32
    10: Kind("R_X86_64_32", 4, False, 0, (1 << 32) - 1),
    11: _signed("R_X86_64_32S", 4),
    12: _either("R_X86_64_16", 2),
    13: _signed("R_X86_64_PC16", 2, relative=True),
    14: _either("R_X86_64_8", 1),
    15: _signed("R_X86_64_PC8", 1, relative=True),
    24: Kind("R_X86_64_PC64", 8, True),
}
RELATIVE = frozenset(number for number, kind in KINDS.items() if kind.relative)
ABSOLUTE = frozenset(number for number, kind in KINDS.items() if kind.size >= 4 and not kind.relative)

_GOT = {9: "GOTPCREL", 41: "GOTPCRELX", 42: "REX_GOTPCRELX", 3: "GOT32", 26: "GOTPC32"}
_ADVICE = {
    10: "; the address does not fit in 32 bits: use `lea reg, [rip + symbol]` or `mov r64, offset symbol`",
}


def apply(section: Section, relocation: Relocation, symbol_address: int) -> str:
    """Relocate one field of ``section`` in place; return what is wrong with it, or nothing."""
    kind = KINDS.get(relocation.type)
    if kind is None:
        if relocation.type in _GOT:
            return "is reached through a GOT, which a static guest has not; compile with -fno-pic"
        return f"needs relocation type {relocation.type}, which is not supported"
    if kind.size == 0:
        return ""
    if relocation.offset + kind.size > len(section.data):
        return f"has its {kind.name} outside of the section"
    value = symbol_address + relocation.addend
    if kind.relative:
        value -= section.address + relocation.offset
    # The processor's address arithmetic wraps at 64 bits, and most fields are sign-extended.
    value %= 1 << 64
    if kind.minimum < 0 and value > kind.maximum:
        value -= 1 << 64
    if not kind.minimum <= value <= kind.maximum:
        return f"overflows {kind.name}: {value:#x}{_ADVICE.get(relocation.type, '')}"
    field = (value & ((1 << (8 * kind.size)) - 1)).to_bytes(kind.size, "little")
    section.data[relocation.offset : relocation.offset + kind.size] = field
    return ""
