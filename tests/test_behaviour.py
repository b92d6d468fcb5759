"""The digest of what a function does: another one whenever it would do something else."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from pleemu.behaviour import behaviour_of

_numbers = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3)
_hashable = st.recursive(
    _numbers, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=4
)
values = st.recursive(
    _hashable | st.integers(-5, 5).map(np.int64) | st.lists(st.integers(0, 9), max_size=3).map(np.array),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_numbers, inner, max_size=3),
    max_leaves=6,
)


def of(function: Any) -> str | None:
    return behaviour_of({"refuses": function})


def made(source: str, **around: Any) -> Any:
    """The function `f` of a source that is nowhere to be read again."""
    exec(source, around)
    return around["f"]


def _global(value: Any) -> Any:
    return made("def f(me, c):\n    return VALUE", VALUE=value)


def _closure(value: Any) -> Any:
    return lambda me, c: value


def _default(value: Any) -> Any:
    return made("def f(me, c, x=VALUE):\n    return x", VALUE=value)


def _called(value: Any) -> Any:
    return made("def f(me, c):\n    return g(me)", g=_global(value))


def _inner(value: Any) -> Any:
    return made("def f(me, c):\n    return [VALUE for _ in me]", VALUE=value)


def _of_module(value: Any) -> Any:
    module = ModuleType("settings")
    module.inner = ModuleType("inner")
    module.inner.value = value
    return made("def f(me, c):\n    return settings.inner.value", settings=module)


def _of_held_module(value: Any) -> Any:
    module = ModuleType("settings")
    module.value = value
    return lambda me, c: module.value


def _compiled(value: Any) -> Any:
    return made("def f(me, c):\n    return g(me)", g=njit(_global(value)))


WAYS = (_global, _closure, _default, _called, _inner, _of_module, _of_held_module, _compiled)


def told_apart(one: Any, other: Any) -> bool:
    """Whether two values differ, in their types and signs, too."""
    return repr(one) != repr(other)


@pytest.mark.parametrize("way", WAYS)
@given(values, values)
def test_a_value_that_a_function_reads_belongs_to_it(way: Callable[[Any], Any], one: Any, other: Any) -> None:
    """Wherever it stands: the same function with the same value is the same, with another one it is another."""
    assert of(way(one)) is not None
    if told_apart(one, other):
        assert of(way(one)) != of(way(other))
    if not isinstance(one, list | dict | np.ndarray):
        assert of(way(one)) == of(way(one))


BODIES = (
    "return c.ready", "return c.preempted", "return 1", "return True", "return 1.0", "return 0.0", "return -0.0",
    "return c.ready + 1", "return c.ready - 1", "return min(c.ready, 1)", "return max(c.ready, 1)", "return y",
    "return (lambda: c.ready)()", "return (lambda: c.preempted)()", "return sqrt(1)", f"return {10**5000:#x}",
    "try:\n        return 1 // c.id\n    except ZeroDivisionError:\n        return 1",
)  # fmt: skip


def test_the_code_of_a_function_belongs_to_it() -> None:
    """Without a source to read, too; its name and its line do not."""
    digests = {of(made(f"def f(me, c):\n    {body}", sqrt=math.sqrt)) for body in BODIES}
    assert None not in digests
    assert len(digests) == len(BODIES)
    one, other = lambda me, c: True, lambda me, c: False
    assert of(one) != of(other)
    assert of(made("def f(me, c): return 1")) == of(made("\n\ndef g(me, c): return 1\nf = g"))


def test_what_hides_a_builtin_belongs_to_a_function() -> None:
    """A global `min` is not Python's."""
    source = "def f(me, c):\n    return min(me, c)"
    assert of(made(source)) != of(made(source, min=max)) != of(made(source, min=_global(1)))


def test_functions_that_call_each_other_are_told() -> None:
    """Those that call themselves as well."""
    source = "def f(me, c):\n    return g(me, c)\ndef g(me, c):\n    return f(me, c) + {}"
    assert of(made(source.format(1))) == of(made(source.format(1))) is not None
    assert of(made(source.format(1))) != of(made(source.format(2)))


class _Settings:
    """What a user may read a value from."""

    value = 1


@pytest.mark.parametrize("value", [_Settings, _Settings(), _Settings().__init__, object(), iter(()), np.array([{}])])
def test_what_may_change_unseen_is_not_told(value: Any) -> None:
    """Objects and classes of the user's own, and what NumPy does not hold by value."""
    assert all(of(way(value)) is None for way in WAYS)
    assert of(made("def f(me, c):\n    return x", x=[math])) is not None
    assert of(made("def f(me, c):\n    return x", x=[ModuleType("mine")])) is None


@pytest.mark.parametrize(
    "read",
    ["globals()['VALUE']", "getattr(settings, 'V' + 'ALUE')", "vars(settings)['VALUE']", "eval('VALUE')",
     "(lambda: globals())()['VALUE']", "__import__('settings').VALUE"],
)  # fmt: skip
def test_what_is_asked_for_by_name_cannot_be_told(read: str) -> None:
    """Its code does not say which value that is; a function of that name of one's own is one like any other."""
    assert of(made(f"def f(me, c):\n    return {read}", VALUE=1, settings=ModuleType("settings"))) is None
    assert of(made("def f(me, c):\n    return vars(c)", vars=abs)) is not None


@pytest.mark.parametrize(("module", "told"), [("math", True), ("numpy.linalg", True), ("settings_of_mine", False)])
def test_only_what_comes_with_python_may_be_imported_inside(module: str, told: bool) -> None:
    """A module of the user's own may have other values the next time."""
    source = f"def f(me, c):\n    import {module} as one\n    return one.pi"
    assert (of(made(source)) is not None) == told


def test_constant_that_nobody_prints_is_told() -> None:
    """A whole number of more digits than Python turns into text, beside a global."""
    huge = [made(f"def f(me, c):\n    return VALUE + {1 << 20_000 | bit:#x}", VALUE=1) for bit in (0, 1)]
    assert None is not of(huge[0]) != of(huge[1]) is not None
