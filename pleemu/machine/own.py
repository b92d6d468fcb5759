"""Functions of a policy of the user's own, put behind addresses that the compiled core calls.

One core serves all of them: it is not compiled again. Each function becomes a C function of its own, by numba
or, for plain Python, by ctypes. Both find the records of the vCPUs by their numbers.
"""

from __future__ import annotations

import ast
import ctypes
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from attrs import define, field

from pleemu.behaviour import compiled_in
from pleemu.deferred import is_plain_python
from pleemu.errors import nearest
from pleemu.hypervisor.call import FUNCTIONS
from pleemu.hypervisor.own import FAILED
from pleemu.machine.state import Machine
from pleemu.own_policy import DECIDING, HOOKS, OwnPolicy, PolicyError, told

# What a policy may read of a vCPU, and what it may write.
WRITABLE = ("mine", "dy_eligible", "in_spin_loop")
READABLE = (
    "id", "vcpus", "last_boosted", "now_ns", "preempted", "ready", "preempted_in_kernel", "blocking", "scheduled_out",
    "in_kernel", "dy_runnable", "pending_irq", "ipi_from_me", "ple_window", *WRITABLE,
)  # fmt: skip

_RECORDS = {"me", "candidate", "vcpu", "sender", "receiver"}  # parameters that are vCPUs; others are numbers
_PLAIN = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 4)


@define
class Bound:
    """A policy's functions in one machine."""

    own: OwnPolicy
    machine: Machine
    kept: list[Any] = field(factory=list)  # as long as the machine may call them
    error: BaseException | None = None  # that plain Python has raised

    def failure(self) -> BaseException:
        """Return why a function has failed."""
        if isinstance(self.error, KeyboardInterrupt | PolicyError):
            return self.error
        if self.error is not None:
            return PolicyError(told(self.own.name, self.own.file, self.error))
        return self._again()

    def _again(self) -> PolicyError:
        """Call what has failed as plain Python, which knows the line."""
        number, *arguments = (int(one) for one in self.machine.kvm.own_failed[0])
        name = list(HOOKS)[number - 1]
        function = _in_python(self.own)[name]
        try:
            function(*_arguments(self.machine, name, *arguments))
        except Exception as error:
            return PolicyError(told(self.own.name, self.own.file, error))
        return PolicyError(f"{self.own.name}: {name} has raised an exception; COMPILED = False in the file shows which")


@contextmanager
def bound(machine: Machine, own: OwnPolicy | None) -> Iterator[Bound | None]:
    """Let a machine call the functions of a policy; compile them, or say why not."""
    if own is None:
        yield None
        return
    _check_fields(own)
    made = Bound(own, machine)
    machine.kvm.own_vcpus = machine.vcpu.ctypes.data
    plain = is_plain_python() or not own.compiled
    addresses = _plain(made) if plain else _compiled(own, made)
    try:
        for place, name in enumerate(HOOKS):
            machine.kvm.own[0, place] = addresses.get(name, 0)
        with np.errstate(over="ignore", divide="raise"):
            yield made
    finally:
        machine.kvm.own = 0
        for address in addresses.values():
            FUNCTIONS.pop(address, None)


def _compiled(own: OwnPolicy, made: Bound) -> dict[str, int]:
    """Compile all functions; those of one policy are compiled once a process."""
    if own.digest not in _machine_code:
        from pleemu.machine.own_compiled import compile_functions

        own.check_unchanged()
        for one in compiled_in(own.functions):
            one.recompile()  # numba keeps the globals of the first time
        _machine_code[own.digest] = compile_functions(own)
    made.kept.append(_machine_code[own.digest])
    return {name: one.address for name, one in _machine_code[own.digest].items()}


_machine_code: dict[str, dict[str, Any]] = {}

# Plain Python


def _plain(made: Bound) -> dict[str, int]:
    addresses = {}
    for name, function in _in_python(made.own).items():
        called = _caught(made, name, function)
        if is_plain_python():
            address = next(_keys)
            FUNCTIONS[address] = called
        else:
            made.kept.append(_PLAIN(called))
            address = ctypes.cast(made.kept[-1], ctypes.c_void_p).value or 0
        addresses[name] = address
    return addresses


_keys = itertools.count(1)


def _in_python(own: OwnPolicy) -> dict[str, Callable[..., Any]]:
    """Return the functions as they stand in the file, whatever numba has been asked to make of them."""
    return {name: getattr(function, "py_func", function) for name, function in own.functions.items()}


def _caught(made: Bound, name: str, function: Callable[..., Any]) -> Callable[[int, int, int, int], int]:
    """Return ``function`` as the machine calls it: an exception is kept for later."""

    def called(_vcpus: int, a: int, b: int, c: int) -> int:
        try:
            answer = function(*_arguments(made.machine, name, a, b, c))
            if name not in DECIDING:
                return 0
            if not isinstance(answer, int | np.integer | np.bool_) or not abs(int(answer)) < -FAILED:
                raise wrong_type(made.own, name, f"returned {answer!r}")
            return int(answer)
        except BaseException as error:
            made.error = error
            return FAILED

    return called


def _arguments(machine: Machine, name: str, a: int, b: int, c: int) -> list[Any]:
    """Return what a function is called with: records of vCPUs, then numbers."""
    parameters = HOOKS[name]
    records = [machine.vcpu[v] for v in (a, b)[: records_of(name)]]
    return [*records, *[c] * (len(parameters) - len(records))]


def records_of(name: str) -> int:
    return sum(parameter in _RECORDS for parameter in HOOKS[name])


def wrong_type(own: OwnPolicy, name: str, what: str) -> PolicyError:
    number = "0, or the number of a rule to refuse" if name == "refuses" else "the number of a vCPU"
    return PolicyError(f"{place_of(own, own.functions[name])}: {name} {what}; it must always return {number}")


def place_of(own: OwnPolicy, function: Any) -> str:
    if not own.file:
        return own.name
    return f"{own.file}:{first_line(function)}"


def first_line(function: Any) -> int:
    return int(getattr(function, "py_func", function).__code__.co_firstlineno)


# What of a vCPU they use


def _check_fields(own: OwnPolicy) -> None:
    """Refuse a field that a vCPU does not have, and a write to one that is not the policy's."""
    try:
        found = [node for node in ast.walk(ast.parse(own.source)) if isinstance(node, ast.FunctionDef)]
    except (SyntaxError, ValueError):
        return
    nodes = {min([node.lineno, *(one.lineno for one in node.decorator_list)]): node for node in found}
    for name, function in own.functions.items():
        body = nodes.get(first_line(function))
        if body is None:
            continue
        arguments = body.args
        given = [one.arg for one in (*arguments.posonlyargs, *arguments.args)][: records_of(name)]
        for node in ast.walk(body):
            if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in given):
                continue
            place = f"{own.file}:{node.lineno}: {node.value.id}.{node.attr}"
            if node.attr not in READABLE:
                raise PolicyError(f"{place}: a vCPU has no such field{nearest(node.attr, READABLE)}")
            if isinstance(node.ctx, ast.Store | ast.Del) and (node.attr not in WRITABLE or node.attr == "mine"):
                raise PolicyError(f"{place} is not yours to write; use {node.value.id}.mine[0] to mine[63]")
