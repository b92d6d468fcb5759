"""Instructions as text, for messages: Intel syntax, addresses as symbols."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from iced_x86 import Formatter, FormatterSyntax, Instruction

# Without leading zeros only addresses and negative numbers have sixteen digits.
_ADDRESS = re.compile(r"(\+?)0x([0-9a-f]{16})")


@cache
def _formatter() -> Formatter:
    formatter = Formatter(FormatterSyntax.INTEL)
    formatter.hex_prefix, formatter.hex_suffix = "0x", ""
    formatter.uppercase_hex = False
    formatter.space_after_operand_separator = True
    formatter.show_branch_size = False
    formatter.rip_relative_addresses = False
    formatter.signed_memory_displacements = False
    return formatter


def text_of(instruction: Instruction, name_of: Callable[[int], str]) -> str:
    """Return ``instruction`` as text, with the names that ``name_of`` gives to addresses."""

    def named(match: re.Match[str]) -> str:
        plus, digits = match.groups()
        address = int(digits, 16)
        name = name_of(address)
        is_negative = plus and name.startswith("0x") and address >> 63
        return f"-{(1 << 64) - address:#x}" if is_negative else plus + name

    return _ADDRESS.sub(named, _formatter().format(instruction))
