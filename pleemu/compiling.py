"""What numba is told when it compiles the numba rooms: this is the only file that knows its inside.

Imported when something must be compiled, never before.
"""

import gc
import hashlib
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from inspect import signature

from numba import config, njit
from numba.core import itanium_mangler
from numba.core.codegen import JITCodeLibrary, JITCPUCodegen
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager
from numba.core.dispatcher import Dispatcher
from numba.core.types import unliteral

from pleemu.handle_type import pointer_to

# numba's passes for what the rooms do not have: expressions of whole arrays, closures, functions that numba overloads.
_NOT_NEEDED = ("NopythonRewrites", "InlineClosureLikes", "InlineOverloads")


class _Pipeline(CompilerBase):
    """numba's own way from Python to machine code, without these passes: a twelfth of the time less."""

    def define_pipelines(self):
        whole = DefaultPassBuilder.define_nopython_pipeline(self.state)
        needed = PassManager(whole.pipeline_name)
        for one, description in whole.passes:
            if one.__name__ not in _NOT_NEEDED:
                needed.add_pass(one, description)
        needed.finalize()
        return [needed]


OPTIONS = {"error_model": "numpy", "_nrt": False, "no_cfunc_wrapper": True, "pipeline_class": _Pipeline}


def make_compiled(function):
    """Return a dispatcher of a function that only compiled ones call."""
    return _one_for_all_constants(njit(no_cpython_wrapper=True, **OPTIONS)(function))


def make_inlined(function):
    """Return a dispatcher of a function that is put into every caller."""
    return _one_for_all_constants(njit(no_cpython_wrapper=True, forceinline=True, **OPTIONS)(function))


def _one_for_all_constants(function):
    """Keep numba from compiling ``function`` anew for each constant that it is called with.

    A literal argument has a type of its own (`Literal[int](3)`), which would give
    `record(m, now, KVM_EXIT, ...)` a copy for every kind of event. Measured: half the time
    to compile the core.
    """
    resolve = function.get_call_template
    function.get_call_template = lambda args, kws: resolve(tuple(map(unliteral, args)), kws)
    return function


def alone(function):
    """Return a dispatcher that Python may call, for tests. Inside, ``m`` is a pointer to its tuple, as in the core."""
    parameters = list(signature(function).parameters)
    if parameters[:1] == ["m"]:
        function = _by_pointer(function, parameters)
    return _generate_code_once(njit(**OPTIONS)(function), lambda: None)


def _by_pointer(function, parameters):
    """Return a function of a named tuple that calls ``function`` with a pointer to it.

    A tuple of some dozens of arrays is some hundred arguments, for every call of a function that takes it.
    """
    known = {"function": make_compiled(function), "pointer_to": pointer_to}
    arguments = ", ".join(["pointer_to(m)", *parameters[1:]])
    exec(f"def by_pointer({', '.join(parameters)}):\n    return function({arguments})", known)
    return known["by_pointer"]


def once(function, announce):
    """Return a dispatcher that Python does not call, whose code is generated once; see `machine_code`."""
    return _generate_code_once(njit(no_cpython_wrapper=True, **OPTIONS)(function), announce)


def kept(function, folder, announce):
    """Return a dispatcher that Python may call; its machine code is kept in ``folder``, by numba."""
    if folder is None:
        return _generate_code_once(njit(**OPTIONS)(function), announce)
    before = config.CACHE_DIR
    config.CACHE_DIR = str(folder)  # read once, when the decorator runs
    try:
        return _load_code_alone(_generate_code_once(njit(cache=True, **OPTIONS)(function), announce))
    finally:
        config.CACHE_DIR = before


def _arithmetic_that_wraps(compile_function):
    """Have 64-bit sums and products wrap around at 2^64, as a processor's and NumPy's do.

    numba marks them `nsw`, which tells LLVM that no overflow ever happens: it may then take
    ``a * b // a == b`` as true, or leave out the check of an address that has wrapped around.
    """

    def compile_wrapping(arguments, return_type):
        with ExitStack() as restored:
            for module in (import_module(name) for name in _ARITHMETIC if find_spec(name)):
                restored.callback(setattr, module, "_int_arith_flags", module._int_arith_flags)
                module._int_arith_flags = lambda _: []
            return compile_function(arguments, return_type)

    return compile_wrapping


_ARITHMETIC = ("numba.cpython.numbers", "numba.np.math.numbers")  # by version one of them, or both


def _generate_code_once(entry: Dispatcher, announce):
    """Have LLVM optimise and generate code for the whole of ``entry`` once, when all of it is there.

    By default numba does so for every function, and again for every function that calls it,
    up to the entry. Here the callees stay as they are until the entry is there, which links each of them
    once, not into each of its callers. Measured: LLVM's part of compiling the core falls to a quarter, and
    the whole by another sixth. It needs four methods of numba that are not public: where one is missing,
    numba's own way is taken.
    """
    compile_entry = _arithmetic_that_wraps(entry._compiler.compile)
    can_delay = all(hasattr(JITCodeLibrary, name) for name in _USED_OF_LIBRARY)

    def compile_once(arguments, return_type):
        announce()
        with _short_names(), _garbage_kept():
            return compile_whole(arguments, return_type)

    def compile_whole(arguments, return_type):
        if not can_delay:
            return compile_entry(arguments, return_type)
        finalize, set_env = JITCodeLibrary.finalize, JITCPUCodegen.set_env

        def finalize_unless_callee(library):
            if library.name == entry.py_func.__qualname__:
                library._linking_libraries = _with_all_below(library)
                finalize(library)
            library._finalized = True

        def set_env_if_there(codegen, name, env):
            if codegen._engine.is_symbol_defined(name):  # only exceptions and Python objects need one
                set_env(codegen, name, env)

        JITCodeLibrary.finalize, JITCPUCodegen.set_env = finalize_unless_callee, set_env_if_there
        try:
            return compile_entry(arguments, return_type)
        finally:
            JITCodeLibrary.finalize, JITCPUCodegen.set_env = finalize, set_env

    entry._compiler.compile = compile_once
    return entry


def _with_all_below(library):
    """Return the libraries that ``library`` links, and those that these would, each once."""
    found, todo = {}, list(library._linking_libraries)
    while todo:
        callee = todo.pop()
        if callee not in found:
            found[callee] = None
            todo += callee._linking_libraries
    return list(found)


@contextmanager
def _short_names():
    """Have a digest of the types of arguments in the names of compiled functions, not every field of every record.

    All these names, of some thousand characters each, would be made, and read by LLVM, for every function and call.
    """
    mangle_args = getattr(itanium_mangler, "mangle_args", None)

    def short(types):
        return "".join(map(_short_name, types))

    if mangle_args is not None:
        itanium_mangler.mangle_args = short
    try:
        yield
    finally:
        if mangle_args is not None:
            itanium_mangler.mangle_args = mangle_args


@cache
def _short_name(one):
    """Return a type's name as an identifier behind its length."""
    return f"17T{hashlib.sha256(str(one).encode()).hexdigest()[:16]}"


@contextmanager
def _garbage_kept():
    """Look for no garbage while compiling: there is little, and millions of objects to look through."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _load_code_alone(entry):
    """Have machine code loaded from disk without first importing all that numba can compile.

    That takes half as long as importing numba itself, and code that is compiled needs none of
    it. Compiling does it on its own.
    """
    load = entry._cache.load_overload

    def load_alone(signature, target_context):
        target_context.refresh = lambda: None
        try:
            return load(signature, target_context)
        finally:
            del target_context.refresh

    entry._cache.load_overload = load_alone
    return entry


_USED_OF_LIBRARY = ("finalize", "_get_module_for_linking", "_ensure_finalized", "add_linking_library")
