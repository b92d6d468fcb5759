"""What decides how Python functions behave, as one digest: their code, and every value that they read.

Names, files and lines do not count, so two lambdas of one line differ and a function that is typed in again does not.
Values are told by their content as it is now: constants, defaults, what a closure holds, globals, functions that are
called, and so on. What comes with Python, NumPy or numba is told by its name. Some values cannot be told, such as
objects of the user's own classes: they can change without anything to see.
"""

from __future__ import annotations

import contextlib
import dis
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import CodeType, FunctionType, ModuleType
from typing import Any

_TOLD_BY_NAME = sys.stdlib_module_names | {"numpy", "numba"}
_ASK_BY_NAME = {"__import__", "eval", "exec", "getattr", "globals", "locals", "vars"}
_PLAIN = (type(None), type(...), bool, float, complex, str, bytes)


def behaviour_of(values: Mapping[str, Any]) -> str | None:
    """Return a digest of functions and other values by name; None if one of them cannot be told."""
    try:
        told = _Teller().told(dict(sorted(values.items())))
    except (_UntoldError, RecursionError):
        return None
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()


def compiled_in(values: Mapping[str, Any]) -> list[Any]:
    """Return numba's functions among some values and what they read, each behind those that it calls."""
    teller = _Teller()
    for value in values.values():
        with contextlib.suppress(_UntoldError, RecursionError):
            teller.told(value)
    return teller.compiled


class _UntoldError(Exception):
    """A value of which nobody can say whether it is the same again."""


class _Teller:
    """Values as text, each of those that can be part of themselves once, then by its number."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self.compiled: list[Any] = []  # numba's functions that were met

    def told(self, value: Any, attributes: Sequence[str] | None = None) -> str:
        """Return what a value is; ``attributes`` are the only ones that anybody reads of a module."""
        kind = type(value)
        if kind is int:
            return f"int {value:x}"
        if kind in _PLAIN:
            return f"{kind.__name__} {value!r}"
        if kind is tuple:
            return f"tuple({self._all(value)})"
        if kind is frozenset:
            return f"frozenset({', '.join(sorted(map(self.told, value)))})"
        if kind is CodeType:
            return self._code(value)
        if name := _name_of(value):
            return f"known {name}"
        if kind is ModuleType:
            return self._module(value, attributes)
        if kind.__module__ == "numpy":
            return _of_numpy(value)
        if id(value) in self._numbers:
            return f"number {self._numbers[id(value)]}"
        self._numbers[id(value)] = len(self._numbers)
        return self._once(value, kind)

    def _once(self, value: Any, kind: type) -> str:
        if kind is list:
            return f"list({self._all(value)})"
        if kind is set:
            return f"set({', '.join(sorted(map(self.told, value)))})"
        if kind is dict:
            return f"dict({self._all(value)}: {self._all(value.values())})"
        if kind is FunctionType:
            return self._function(value)
        if isinstance(python := getattr(value, "py_func", None), FunctionType):  # numba's
            told = f"{kind.__qualname__}({self.told(python)}, {self.told(value.targetoptions)})"
            self.compiled.append(value)
            return told
        raise _UntoldError

    def _all(self, values: Iterable[Any], attributes: Sequence[str] | None = None) -> str:
        return ", ".join(self.told(value, attributes) for value in values)

    def _module(self, module: ModuleType, attributes: Sequence[str] | None) -> str:
        names = vars(module)
        if attributes is None or "__getattr__" in names:
            raise _UntoldError
        return (
            f"module({', '.join(f'{one}: {self.told(names[one], attributes)}' for one in attributes if one in names)})"
        )

    def _function(self, function: FunctionType) -> str:
        code, around = function.__code__, function.__globals__
        if _reads_by_other_ways(code, around):
            raise _UntoldError
        attributes = list(dict.fromkeys(_names_of(code)))
        names = [name for name in attributes if name in set(_globals_of(code))]
        read = {name: around[name] for name in names if name in around}
        parts = (
            self.told(code),
            self.told((function.__defaults__, function.__kwdefaults__, vars(function))),
            self._all(_held(function), attributes),
            self.told(tuple(read)),
            self._all(read.values(), attributes),
        )
        return f"function({'; '.join(parts)})"

    def _code(self, code: CodeType) -> str:
        numbers = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        content = (code.co_code, code.co_exceptiontable, code.co_consts)
        return f"code({self._all((numbers, names, content))})"


def _nested(code: CodeType) -> Iterator[CodeType]:
    """Yield a function's code and that of the functions inside of it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _globals_of(code: CodeType) -> Iterator[str]:
    return _names_in(code, "LOAD_GLOBAL", "LOAD_NAME")


def _names_in(code: CodeType, *steps: str) -> Iterator[str]:
    """Yield the names in steps of some kinds. Constants are left out: `dis` prints each, and not every one can be."""
    for one in _nested(code):
        for step in dis.get_instructions(one.replace(co_consts=(None,) * len(one.co_consts))):
            if step.opname in steps:
                yield step.argval


def _names_of(code: CodeType) -> Iterator[str]:
    """Yield the names of globals and attributes."""
    for one in _nested(code):
        yield from one.co_names


def _reads_by_other_ways(code: CodeType, around: Mapping[str, Any]) -> bool:
    """Whether a function imports a module of the user's, or asks for values by names that are not in its code."""
    imported = _names_in(code, "IMPORT_NAME")
    asked = (name for name in _globals_of(code) if name not in around)
    return not all(map(_is_known, imported)) or not _ASK_BY_NAME.isdisjoint(asked)


def _held(function: FunctionType) -> Sequence[Any]:
    """Return what a closure holds."""
    try:
        return [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:  # an empty cell: its variable has no value yet
        raise _UntoldError from None


def _name_of(value: Any) -> str | None:
    """Return the name by which Python, NumPy or numba has a value; None if none of them does."""
    if type(value) is ModuleType:
        return value.__name__ if _is_known(value.__name__) and sys.modules.get(value.__name__) is value else None
    module, name = getattr(value, "__module__", None), getattr(value, "__name__", None)
    if not isinstance(module, str) or not isinstance(name, str) or not _is_known(module):
        return None
    return f"{module}.{name}" if getattr(sys.modules.get(module), name, None) is value else None


def _is_known(module: str) -> bool:
    return module.partition(".")[0] in _TOLD_BY_NAME


def _of_numpy(value: Any) -> str:
    """Return an array or a scalar of NumPy as its bytes."""
    dtype = getattr(value, "dtype", None)
    if dtype is None or dtype.hasobject:
        raise _UntoldError
    return f"numpy {type(value).__name__} {dtype.descr} {value.shape} {value.tobytes().hex()}"
