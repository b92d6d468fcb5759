"""What a VM and a profile both say of a guest: its program, and the values of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import Attribute

from pleemu.distribution import parse_distribution
from pleemu.errors import ScenarioError
from pleemu.fields import FieldError, custom, entries, show, tuple_of_list

PROGRAM_HELP = (
    "guest: .S, .c, .o, .a or a static executable, from the scenario's folder on; several are linked: a.c,b.S"
)


def program_field(default: Any) -> Any:
    """Make a field for the files of a guest."""
    return custom(default, _check_program, PROGRAM_HELP, converter=tuple_of_list, parse=_parse_program)


def parameters_field() -> Any:
    """Make a field for the values of a guest's parameters."""
    return entries(
        _check_parameters,
        "what the guest lets a scenario set: a number, or times such as 2us, 0..125us, exponential(60us), "
        "lognormal(400ns, 0.8) max 2us",
        parse=_parse_parameter,
    )


def _check_program(_: Any, attribute: Attribute[Any], value: Any) -> None:
    if value == "" and attribute.default == "":
        return
    given = value if isinstance(value, tuple) else (value,)
    if not given or not all(isinstance(one, str) for one in given):
        raise FieldError(attribute.name, f"{show(value)} is neither a file's name in quotes nor a list of them")
    for one in given:
        if not one.strip():
            raise FieldError(attribute.name, "is empty; give it a name")
        if not one.isprintable():
            raise FieldError(attribute.name, f"{show(one)} has unprintable characters; leave them out")


def _parse_program(given: str) -> Any:
    names = [one.strip() for one in given.strip("[] ").split(",")]
    return tuple(names) if len(names) > 1 else given


def _check_parameters(_: Any, attribute: Attribute[Any], value: Any) -> None:
    if not isinstance(value, Mapping):
        raise FieldError(attribute.name, f"{show(value)} is not a table of values by name")
    for name, one in value.items():
        where = f"{attribute.name}.{name}"
        if type(one) is int and -(1 << 63) <= one < 1 << 63:
            continue
        if not isinstance(one, str):
            raise FieldError(where, f'{show(one)} is neither a whole number of 64 bits nor a text such as "2us"')
        try:
            parse_distribution(one)
        except ScenarioError as error:
            raise FieldError(where, str(error)) from None


def _parse_parameter(given: str) -> Any:
    return int(given) if given.strip().lstrip("-").isdecimal() else given
