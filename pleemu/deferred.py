"""Functions of the numba rooms as they are before numba is asked for: plain Python.

Importing numba takes as long as everything else at a start. So a mark such as `compiled` only notes the
function; numba finds its own form of it, through `_numba_type_`, when it compiles a caller.
"""

import os
from functools import update_wrapper


def is_plain_python() -> bool:
    """Whether the numba rooms are plain Python: NUMBA_DISABLE_JIT=1."""
    return os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")


class Deferred:
    """A function, and what makes numba's form of it."""

    def __init__(self, function, make):
        update_wrapper(self, function)
        self.py_func = function
        self._make = make
        self._made = None

    def __call__(self, *arguments):
        """Run as plain Python; compiled callers do not come through here."""
        return self.py_func(*arguments)

    @property
    def _numba_type_(self):
        """What numba takes this for; the form itself must stay, since its type does not own it."""
        from numba.core.registry import cpu_target

        if self._made is None:
            self._made = self._make(self.py_func)
            cpu_target.typing_context.refresh()  # an intrinsic is known from the next refresh on
        return cpu_target.typing_context.resolve_value_type(self._made)


def in_machine_code(make):
    """Give a function another form where it is compiled: the intrinsic that ``make()`` returns."""
    return lambda function: function if is_plain_python() else Deferred(function, lambda _: make())
