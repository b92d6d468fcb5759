"""Names of addresses: the symbols of a linked guest."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from functools import cached_property

import attrs


@attrs.frozen
class Symbol:
    """A name for an address in the guest's memory."""

    name: str
    address: int
    size: int = 0
    is_global: bool = False
    is_code: bool = False
    is_object: bool = False  # STT_OBJECT: data, even where it stands among code
    is_function: bool = False  # STT_FUNC: code from `address` on, for `size` bytes, whatever labels are in it


@attrs.frozen(slots=False)
class SymbolTable:
    """Symbols sorted by address; of several at one, a global one gives the name, and a function's before others."""

    symbols: tuple[Symbol, ...]

    @classmethod
    def of(cls, symbols: Iterable[Symbol]) -> SymbolTable:
        """Sort ``symbols``, the preferred one of each address first."""
        order = sorted(
            symbols, key=lambda symbol: (symbol.address, not symbol.is_global, not symbol.is_function, symbol.name)
        )
        return cls(tuple(order))

    @cached_property
    def _named(self) -> dict[bool, tuple[list[int], list[Symbol]]]:
        """Per kind (code or not): addresses and the symbol that names each."""
        tables = {}
        for is_code in (False, True):
            first: dict[int, Symbol] = {}
            for symbol in self.symbols:
                if symbol.is_code == is_code and not symbol.name.startswith(".L"):
                    first.setdefault(symbol.address, symbol)
            tables[is_code] = (list(first), list(first.values()))
        return tables

    def find(self, name: str) -> Symbol | None:
        """Return the symbol of that name, a global one if there are several."""
        found = [symbol for symbol in self.symbols if symbol.name == name]
        return min(found, key=lambda symbol: not symbol.is_global, default=None)

    @cached_property
    def _functions(self) -> tuple[list[int], list[Symbol]]:
        found = [symbol for symbol in self.symbols if symbol.is_function and symbol.is_code and symbol.size]
        return [symbol.address for symbol in found], found

    def function_around(self, address: int) -> Symbol | None:
        """Return the function that ``address`` is in, by type and size of its symbol."""
        addresses, functions = self._functions
        position = bisect.bisect_right(addresses, address)
        while position and addresses[position - 1] == addresses[max(position - 2, 0)] and position > 1:
            position -= 1  # of several names the preferred one
        function = functions[position - 1] if position else None
        return function if function and address < function.address + function.size else None

    def name_of(self, address: int, *, is_code: bool) -> str:
        """Return ``address`` relative to the last symbol before it, or in hexadecimal."""
        symbol = self.nearest(address, is_code=is_code)
        if symbol is None:
            return f"{address:#x}"
        return f"{symbol.name}+{address - symbol.address:#x}" if address > symbol.address else symbol.name

    def nearest(self, address: int, *, is_code: bool) -> Symbol | None:
        """Return the last symbol of that kind at or before ``address``."""
        addresses, symbols = self._named[is_code]
        position = bisect.bisect_right(addresses, address)
        return symbols[position - 1] if position else None
