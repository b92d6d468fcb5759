"""What all formats of recorded vectors share: how a case is read, and what one that differs is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NewType, TypeVar

import cattrs
from attrs import frozen

from pleemu.errors import PleemuError

HexBytes = NewType("HexBytes", bytes)
HexNumber = NewType("HexNumber", int)
Word = NewType("Word", int)  # a 64-bit number, signed

T = TypeVar("T")


class ConformError(PleemuError):
    """A file that is no recorded vectors."""


@frozen
class Difference:
    """A case that the model does not agree with."""

    case: str  # as in `case 12 (window edges)`
    text: str  # what was recorded, what came out; several lines


# One result a case, in order: None if it agrees.
Results = Iterator[Difference | None]


@frozen
class Format:
    """How the files of one format are replayed."""

    name: str
    what: str  # one line
    cases_key: str
    replay: Callable[[Mapping[str, Any]], Results]  # of the whole file as read


def _integer(value: Any, low: int, high: int) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} is not an integer")
    if not low <= value <= high:
        raise ValueError(f"{value} is out of range; {low} to {high} is right")
    return value


def _hexadecimal(value: Any, what: str) -> Any:
    try:
        return bytes.fromhex(value) if what == "bytes" else int(value, 16)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is not {what} in hexadecimal") from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text")
    return value


_CONVERTER = cattrs.Converter()
_CONVERTER.register_structure_hook(int, lambda value, _: _integer(value, -(2**63), 2**64 - 1))
_CONVERTER.register_structure_hook(str, lambda value, _: _text(value))
_CONVERTER.register_structure_hook(Word, lambda value, _: _integer(value, -(2**63), 2**63 - 1))
_CONVERTER.register_structure_hook(HexBytes, lambda value, _: _hexadecimal(value, "bytes"))
_CONVERTER.register_structure_hook(HexNumber, lambda value, _: _integer(_hexadecimal(value, "a number"), 0, 2**64 - 1))


def structure(what: type[T], value: Any, place: str) -> T:
    """Read one part of a file; ``place`` says which, for a message."""
    try:
        return _CONVERTER.structure(value, what)
    except (cattrs.BaseValidationError, KeyError, TypeError, ValueError, AttributeError) as error:
        reasons = cattrs.transform_error(error, path=place, format_exception=_explain)
        raise ConformError(reasons[0]) from None


def _explain(error: BaseException, _: type | None) -> str:
    if isinstance(error, KeyError):
        return f"the key {error.args[0]!r} is missing"
    return str(error) if isinstance(error, ValueError) else "it has another shape than the format's"
