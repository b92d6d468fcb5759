"""Tables to attrs objects and back: what a TOML file or the command line says, checked.

cattrs builds the objects and the validators of their fields find what is wrong; here its error
tree becomes one FieldError that names the place: ``vm.1.vcpus: 0 is out of range; use 1 to 1024``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import attrs
import cattrs
from attrs import Attribute
from cattrs.gen import make_dict_structure_fn

from pleemu.errors import nearest
from pleemu.fields import FieldError, show

_T = TypeVar("_T")


def described(cls: type) -> dict[str, Attribute[Any]]:
    """Return the fields of a class that a user may set."""
    return {one.name: one for one in attrs.fields(cls) if one.metadata}


def structure(cls: type[_T], data: Any) -> _T:
    """Make an object of ``cls`` from a table, or raise a FieldError that names the field."""
    try:
        return _converter.structure(data, cls)
    except FieldError:
        raise
    except cattrs.BaseValidationError as error:
        raise _first(error) from None


def unstructure(value: Any) -> Any:
    """Return an object as a table that `structure` and JSON take."""
    if attrs.has(type(value)):
        return {name: unstructure(getattr(value, name)) for name in described(type(value))}
    if isinstance(value, tuple):
        return [unstructure(one) for one in value]
    return dict(value) if isinstance(value, Mapping) else value


def paths(cls: type, prefix: str = "") -> Iterator[tuple[str, Attribute[Any]]]:
    """Return every value below ``cls`` with its dotted path; ``N`` stands for the number of a list's entry."""
    for name, attribute in described(cls).items():
        if inner := attribute.metadata.get("table"):
            yield from paths(inner, f"{prefix}{name}.")
        elif inner := attribute.metadata.get("tables"):
            yield from paths(inner, f"{prefix}{name}.N.")
        elif attribute.metadata.get("entries"):
            yield f"{prefix}{name}.NAME", attribute
        else:
            yield prefix + name, attribute


def assign(data: dict[str, Any], cls: type, path: str, given: Any) -> None:
    """Set one field of a table, addressed by its dotted path, from text or to a value.

    An entry of a list is addressed by its number, or all of them by leaving the number out. A list that
    may be empty grows by the number behind its last: ``thread.0.name`` makes the first thread.
    """
    parts = path.replace("-", "_").split(".")
    try:
        for entry, attribute in list(_addressed(data, cls, parts)):
            name = parts[-1] if attribute.metadata.get("entries") else attribute.name
            entry[name] = attribute.metadata["parse"](given) if isinstance(given, str) else given
    except FieldError as error:
        elsewhere = [known for known, _ in paths(cls) if known.rpartition(".")[2] == parts[-1]]
        hint = f"; did you mean {elsewhere[0]!r}?" if elsewhere else error.problem.removeprefix("unknown field")
        problem = "unknown field" + hint if error.problem.startswith("unknown field") else error.problem
        raise FieldError(path, problem) from None


def _addressed(data: dict[str, Any], cls: type, parts: list[str]) -> Iterator[tuple[dict[str, Any], Attribute[Any]]]:
    """Return the tables and the field of each that a path stands for."""
    name, *rest = parts
    attribute = described(cls).get(name)
    if attribute is None:
        raise FieldError("", f"unknown field{nearest(name, described(cls))}")
    table: Any = attribute.metadata.get("table")
    tables: Any = attribute.metadata.get("tables")
    if attribute.metadata.get("entries"):
        if len(rest) != 1:
            raise FieldError("", f"holds values by name; set one of them, as {name}.NAME")
        data[name] = dict(data.get(name, {}))
        yield data[name], attribute
    elif table is None and tables is None:
        if rest:
            raise FieldError("", f"unknown field; {name!r} is a value and has no fields")
        yield data, attribute
    elif not rest:
        raise FieldError("", f"is a table; set one of its fields {', '.join(described(table or tables))}")
    elif table is not None:
        yield from _addressed(data[name], table, rest)
    else:
        for entry, inner in _entries(data[name], rest, may_grow=attribute.default is not attrs.NOTHING):
            yield from _addressed(entry, tables, inner)


def _entries(
    entries: list[dict[str, Any]], parts: list[str], *, may_grow: bool
) -> list[tuple[dict[str, Any], list[str]]]:
    """Return the entries of a list that a path goes through: the numbered one or all."""
    number, *rest = parts
    if not number.isdecimal() or not rest:
        if not entries:
            raise FieldError("", "there is none yet; the first is number 0")
        return [(entry, parts) for entry in entries]
    index = int(number) if len(number) < 9 else len(entries) + 1
    if may_grow and index == len(entries):
        entries.append({})
    if index >= len(entries):
        last = f"the last is {len(entries) - 1}" if entries else "the first is number 0"
        raise FieldError("", f"there is no number {number}; {last}")
    return [(entries[index], rest)]


def _structure_class(cls: type) -> Any:
    fields = described(cls)
    hidden = {one.name: cattrs.override(omit=True) for one in attrs.fields(cls) if one.name not in fields}
    required = [name for name, one in fields.items() if one.default is attrs.NOTHING]
    build: Any = make_dict_structure_fn(cls, _converter, _cattrs_forbid_extra_keys=True, **hidden)  # type: ignore[arg-type]

    def checked(data: Any, _: Any) -> Any:
        if not isinstance(data, Mapping):
            raise FieldError("", f"{show(data)} is not a table of fields; known are {', '.join(fields)}")
        for name in data:
            if name not in fields:
                raise FieldError(str(name), f"unknown field{nearest(str(name), fields)}")
        for name in required:
            if name not in data:
                raise FieldError(name, f"is missing; {fields[name].metadata.get('help', f'add a table [[{name}]]')}")
        return build(data, cls)

    return checked


def _structure_tuple(tuple_type: Any) -> Any:
    (cls, _) = tuple_type.__args__

    def checked(data: Any, _: Any) -> Any:
        if not isinstance(data, list | tuple):
            raise FieldError("", f"{show(data)} is not a list of tables")
        built = []
        for number, one in enumerate(data):
            try:
                built.append(structure(cls, one))
            except FieldError as error:
                raise error.within(str(number)) from None
        return tuple(built)

    return checked


def _as_it_is(value: Any, _: Any) -> Any:
    return value


def _first(error: BaseException) -> FieldError:
    """Return the first problem of cattrs' error tree, with the path to it."""
    if isinstance(error, FieldError):
        return error
    if isinstance(error, cattrs.ClassValidationError):
        noted, bare = error.group_exceptions()
        if noted:
            inner, note = noted[0]
            return _first(inner).within(note.name)
        return _first(bare[0])
    return FieldError("", str(error))


def _is_list_of_objects(kind: Any) -> bool:
    arguments: tuple[Any, ...] = getattr(kind, "__args__", ())
    return getattr(kind, "__origin__", None) is tuple and bool(arguments) and attrs.has(arguments[0])


_converter = cattrs.Converter(forbid_extra_keys=True)
# A value is passed on as it is: cattrs would make 1 of True and "1" of 1, and the fields check themselves.
for _plain in (int, float, bool, str):
    _converter.register_structure_hook(_plain, _as_it_is)
_converter.register_structure_hook_factory(lambda _: True, lambda _: _as_it_is)
_converter.register_structure_hook_factory(_is_list_of_objects, _structure_tuple)
_converter.register_structure_hook_factory(attrs.has, _structure_class)
