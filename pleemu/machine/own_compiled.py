"""Functions of a policy of the user's own as C functions, compiled by numba; see `own`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import numba
import numpy as np
from numba import cfunc, njit
from numba.core.dispatcher import Dispatcher

from pleemu.hypervisor.own import FAILED
from pleemu.hypervisor.records import VCPU
from pleemu.machine.own import place_of, records_of, wrong_type
from pleemu.own_policy import DECIDING, HOOKS, OwnPolicy, PolicyError, run_source

# numba, without the types that it lacks.
carray: Any = vars(numba)["carray"]
types: Any = numba.types

_IN_VAIN = ("Failed in nopython", "During:", "File ", "<source", "raised from", "Unknown attribute rejected")


def compile_functions(own: OwnPolicy) -> dict[str, Any]:
    record = numba.from_dtype(VCPU)
    signature = types.int64(types.CPointer(record), types.int64, types.int64, types.int64)
    made = {}
    for name, function in _for_numba(own).items():
        count = records_of(name)
        given = (record,) * count + (types.int64,) * (len(HOOKS[name]) - count)
        try:
            function.compile(given)
            compiled: Any = function.overloads[given]
            returned = compiled.signature.return_type
            if name in DECIDING and not isinstance(returned, types.Integer | types.Boolean):
                what = (
                    "does not always return a number"
                    if isinstance(returned, types.NoneType | types.Optional)
                    else (f"returns {returned}")
                )
                raise wrong_type(own, name, what)
            made[name] = cfunc(signature)(_adapter(function, name in DECIDING, count, len(given) - count))
        except PolicyError:
            raise
        except Exception as error:  # NumbaError for the most part, and whatever else its compiler ends with
            raise PolicyError(_why_not(own, function, error)) from None
    return made


def _for_numba(own: OwnPolicy) -> dict[str, Dispatcher]:
    """Return the functions as numba's; what they call from the same file is compiled, too."""
    functions: Mapping[str, Any] = own.functions
    if own.file == own.name:
        namespace = run_source(own.name, own.source)
        for name, value in namespace.items():
            if inspect.isfunction(value) and value.__globals__ is namespace:
                namespace[name] = _jitted(value)
        functions = {name: namespace[name] for name in own.functions}
    return {name: one if isinstance(one, Dispatcher) else _jitted(one) for name, one in functions.items()}


def _jitted(function: Callable[..., Any]) -> Dispatcher:
    return njit(boundscheck=True)(function)


def _adapter(function: Any, decides: bool, records: int, numbers: int) -> Callable[..., Any]:
    """Return the C function's body: vCPUs by their numbers, and FAILED for an exception."""
    result = _number if decides else _nothing

    def one(vcpus, a, b, c):  # type: ignore[no-untyped-def]
        try:
            answer = result(function(carray(vcpus, a + 1)[a]))
        except Exception:
            answer = FAILED
        return answer

    def one_and_number(vcpus, a, b, c):  # type: ignore[no-untyped-def]
        try:
            answer = result(function(carray(vcpus, a + 1)[a], c))
        except Exception:
            answer = FAILED
        return answer

    def two(vcpus, a, b, c):  # type: ignore[no-untyped-def]
        try:
            answer = result(function(carray(vcpus, a + 1)[a], carray(vcpus, b + 1)[b]))
        except Exception:
            answer = FAILED
        return answer

    def two_and_number(vcpus, a, b, c):  # type: ignore[no-untyped-def]
        try:
            answer = result(function(carray(vcpus, a + 1)[a], carray(vcpus, b + 1)[b], c))
        except Exception:
            answer = FAILED
        return answer

    return {(1, 0): one, (1, 1): one_and_number, (2, 0): two, (2, 1): two_and_number}[records, numbers]


@njit
def _number(answer):  # type: ignore[no-untyped-def]
    return np.int64(answer)


@njit
def _nothing(answer):  # type: ignore[no-untyped-def]
    return 0


def _why_not(own: OwnPolicy, function: Any, error: Exception) -> str:
    """Say in one line what numba cannot compile, and where."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and not line.startswith(_IN_VAIN)]
    what = telling[0][:200] if telling else type(error).__name__
    at = getattr(error, "loc", None)
    inner = re.findall(rf"at {re.escape(own.file)} \((\d+)\)", str(error)) if own.file else []
    if inner:
        place = f"{own.file}:{inner[0]}"  # of a function that it calls
    elif at is not None and at.filename == own.file:
        place = f"{own.file}:{at.line}"
    else:
        place = place_of(own, function)
    return f"{place}: numba does not compile this: {what}; COMPILED = False in the file keeps plain Python"
