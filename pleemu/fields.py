"""Fields of what the user describes: a value, its unit, its range and where its default comes from.

Each function makes an attrs field whose validator names the bad value and what would be right.
The same metadata becomes the list of fields in ``pleemu run --help``. `parse` in it reads a value
from the command line; what it cannot read it passes on as text, for the validator to complain.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any

import attrs
from attrs import NOTHING, Attribute

from pleemu.errors import ScenarioError, nearest

REQUIRED = NOTHING  # a field without a default
_Check = Callable[[Any, "Attribute[Any]", Any], None]


class FieldError(ScenarioError):
    """A field with a bad value; whoever holds the field puts its own name in front."""

    def __init__(self, path: str, problem: str) -> None:
        path = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in path)
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path
        self.problem = problem

    def within(self, outer: str) -> FieldError:
        """Return the same error, seen from the table called ``outer``."""
        return FieldError(f"{outer}.{self.path}" if self.path else outer, self.problem)


def show(value: Any) -> str:
    """Return a value as it can stand in a message: on one line, not too long."""
    try:
        shown = repr(value)
    except ValueError:  # an int of more digits than Python is willing to print
        return "a number of thousands of digits"
    return shown if len(shown) <= 60 else shown[:57] + "..."


def plain(value: Any) -> Any:
    """Return a number or truth value of NumPy's, or a like one, as Python's own, and anything else as it is."""
    if type(value) in (bool, int, float, str):
        return value
    if isinstance(value, numbers.Integral):
        return operator.index(value)
    if isinstance(value, numbers.Real):
        return float(value)
    return bool(value) if type(value).__module__ == "numpy" and type(value).__name__.startswith("bool") else value


def integer(default: Any, low: int, high: int, help: str, *, unit: str = "", origin: str = "", none: str = "") -> Any:
    """Make a whole-number field; ``none`` says what None stands for, if None is allowed."""
    right = f"use {low} to {high}" + (", or nothing" if none else "")

    def check(_: Any, attribute: Attribute[Any], value: Any) -> None:
        if value is None and none:
            return
        if type(value) is not int:
            raise FieldError(attribute.name, f"{show(value)} is not a whole number; {right}")
        if not low <= value <= high:
            raise FieldError(attribute.name, f"{show(value)} is out of range; {right}")

    parse = _parse_optional_integer if none else parse_integer
    return _field(default, check, converter=plain, help=help, unit=unit, origin=origin, none=none, parse=parse)


def number(default: Any, low: float, high: float, help: str, *, unit: str = "") -> Any:
    """Make a field for any number in the range; a whole number will do."""
    right = f"use {low:g} to {high:g}"

    def check(_: Any, attribute: Attribute[Any], value: Any) -> None:
        if type(value) is not float:
            raise FieldError(attribute.name, f"{show(value)} is not a number; {right}")
        if math.isnan(value) or not low <= value <= high:
            raise FieldError(attribute.name, f"{value!r} is out of range; {right}")

    return _field(default, check, converter=_float_of_int, help=help, unit=unit, parse=_parse_number)


def choice(default: Any, known: Collection[Any], help: str, *, what: str = "", unit: str = "", none: str = "") -> Any:
    """Make a field that takes one of the known values; ``what`` is what a value is called.

    ``none`` says what None stands for, if None is allowed.
    """
    by_text = {str(one): one for one in known}
    one_of = f"use one of {', '.join(by_text)}"

    def check(_: Any, attribute: Attribute[Any], value: Any) -> None:
        if (value is None and none) or any(type(value) is type(one) and value == one for one in known):
            return
        if what and isinstance(value, str):
            raise FieldError(attribute.name, f"unknown {what} {show(value)}{nearest(value, by_text)}")
        raise FieldError(attribute.name, f"{show(value)} is not possible; {one_of}")

    def parse(given: str) -> Any:
        return None if none and given.lower() == "none" else by_text.get(given, given)

    return _field(default, check, converter=plain, help=help, unit=unit, none=none, parse=parse)


def switch(default: Any, help: str, *, none: str = "") -> Any:
    """Make a field that is on or off; ``none`` says what None stands for, if None is allowed."""

    def check(_: Any, attribute: Attribute[Any], value: Any) -> None:
        if type(value) is not bool and not (value is None and none):
            raise FieldError(attribute.name, f"{show(value)} is not a truth value; use true or false")

    def parse(given: str) -> Any:
        return None if none and given.lower() == "none" else _TRUTH.get(given.lower(), given)

    return _field(default, check, converter=plain, help=help, none=none, parse=parse)


def text(default: Any, help: str, *, lines: bool = False, check: Callable[[str], object] | None = None) -> Any:
    """Make a field for a printable text; ``check`` raises a ScenarioError if it makes no sense.

    One with ``lines`` may be empty and may have line breaks; any other is a name.
    """

    def check_text(_: Any, attribute: Attribute[Any], value: Any) -> None:
        if not isinstance(value, str):
            raise FieldError(attribute.name, f"{show(value)} is not a text; put it in quotes")
        if not value.strip() and not lines:
            raise FieldError(attribute.name, "is empty; give it a name")
        if not all(letter.isprintable() or (lines and letter in "\n\t") for letter in value):
            raise FieldError(attribute.name, f"{show(value)} has unprintable characters; leave them out")
        if check is not None:
            try:
                check(value)
            except ScenarioError as error:
                raise FieldError(attribute.name, str(error)) from None

    return _field(default, check_text, help=help, parse=str)


def custom(
    default: Any,
    check: _Check,
    help: str,
    *,
    converter: Any = None,
    parse: Callable[[str], Any] = str,
    none: str = "",
) -> Any:
    """Make a field with a validator of its own; ``none`` says what None stands for, if None is allowed."""
    return _field(default, check, converter=converter, help=help, none=none, parse=parse)


def entries(check: _Check, help: str, *, parse: Callable[[str], Any] = str) -> Any:
    """Make a field that holds values by names that the user chooses, by default none."""
    metadata = {"entries": True, "help": help, "parse": parse}
    return attrs.field(factory=dict, validator=check, converter=_plain_entries, hash=False, metadata=metadata)


def table(cls: type) -> Any:
    """Make a field that holds one object of ``cls``, by default one with all its defaults."""
    return attrs.field(factory=cls, validator=attrs.validators.instance_of(cls), metadata={"table": cls})


def tables(cls: type, *, default: Any = REQUIRED) -> Any:
    """Make a field that holds objects of ``cls``, at least one unless there is a default."""

    def check(_: Any, attribute: Attribute[Any], value: Any) -> None:
        if not value and default is REQUIRED:
            raise FieldError(attribute.name, f"there is none; add a table [[{attribute.name}]]")
        if not all(isinstance(one, cls) for one in value):
            raise FieldError(attribute.name, f"{show(value)} does not consist of {cls.__name__} objects")

    return attrs.field(default=default, converter=tuple, validator=check, metadata={"tables": cls})


def _field(default: Any, check: _Check, *, converter: Any = None, **metadata: Any) -> Any:
    return attrs.field(default=default, validator=check, converter=converter, metadata=metadata)


def tuple_of_list(value: Any) -> Any:
    """Return a list as a tuple of plain values, and anything else as it is: a converter."""
    return tuple(map(plain, value)) if isinstance(value, list | tuple) else value


def _plain_entries(value: Any) -> Any:
    return {name: plain(one) for name, one in value.items()} if isinstance(value, Mapping) else value


_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def parse_integer(given: str) -> Any:
    """Return a whole number, decimal or as 0x10, or the text that is none."""
    for base in (10, 0):
        try:
            return int(given, base)
        except ValueError:
            continue
    return given


def _parse_optional_integer(given: str) -> Any:
    return None if given.lower() == "none" else parse_integer(given)


def _parse_number(given: str) -> Any:
    try:
        return float(given)
    except ValueError:
        return given


def _float_of_int(value: Any) -> Any:
    value = plain(value)
    try:
        return float(value) if type(value) is int else value
    except OverflowError:
        return math.inf
