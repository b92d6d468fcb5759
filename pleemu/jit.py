"""The wall between the numba rooms and the rest: how they are compiled and where that is kept.

`compiled` marks the functions inside the rooms. They are called from each other only: they
have no Python wrapper, which halves the time to compile them (use `callable_alone` in tests).
`entry_point` marks the few functions that Python calls; their machine code is kept on disk.

numba's own cache notices an edit in the file of the cached function alone, not in the files
of the functions that it calls. So the cache folder is named after a digest of the sources of
all numba rooms and of the versions of numba and Python: an edit anywhere in them means another
folder, never stale code. `PLEEMU_CACHE_DIR` moves it; `NUMBA_DISABLE_JIT=1` runs plain Python.
"""

import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numba
from numba import config, njit
from numba.core.codegen import JITCodeLibrary, JITCPUCodegen
from numba.core.dispatcher import Dispatcher
from numba.core.types import unliteral

ROOMS = ("jit.py", "handle.py", "hardware", "scheduler", "hypervisor", "machine", "observe")

_OPTIONS = {"error_model": "numpy", "_nrt": False, "no_cfunc_wrapper": True}

# Folders of earlier versions that stay: switching between two checkouts recompiles neither.
_FOLDERS_KEPT = 4


def compiled(function):
    """Compile a function of a numba room; callable from other compiled functions only."""
    return _one_for_all_constants(njit(no_cpython_wrapper=True, **_OPTIONS)(function))


def inlined(function):
    """As `compiled`, but put into every caller: for what the hot loop calls for each instruction.

    A call that is not inlined returns through memory and has its status tested: about 5 ns.
    """
    return _one_for_all_constants(njit(no_cpython_wrapper=True, forceinline=True, **_OPTIONS)(function))


def _one_for_all_constants(function):
    """Keep numba from compiling ``function`` anew for each constant that it is called with.

    A literal argument has a type of its own (`Literal[int](3)`), which would give
    `record(m, now, KVM_EXIT, ...)` a copy for every kind of event. Measured: half the time
    to compile the core.
    """
    if isinstance(function, Dispatcher):
        resolve = function.get_call_template
        function.get_call_template = lambda args, kws: resolve(tuple(map(unliteral, args)), kws)
    return function


def callable_alone(function):
    """Return a function of a numba room in a form that Python may call, for tests."""
    python_function = getattr(function, "py_func", function)
    alone = njit(**_OPTIONS)(python_function)
    if isinstance(alone, Dispatcher):
        alone._compiler.compile = _arithmetic_that_wraps(alone._compiler.compile)
    return alone


def callable_once(function: Any) -> Any:
    """Return a function of a numba room as an entry point: its machine code is kept on disk."""
    return entry_point(getattr(function, "py_func", function))


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


def entry_point(function):
    """Compile a function that Python calls, keeping the machine code on disk.

    Where no folder can be written the function is compiled anew in each process.
    """
    folder = cache_folder()
    if folder is None or config.DISABLE_JIT:
        return _generate_code_once(njit(**_OPTIONS)(function))
    before = config.CACHE_DIR
    config.CACHE_DIR = str(folder)  # read once, when the decorator runs
    try:
        return _load_code_alone(_generate_code_once(njit(cache=True, **_OPTIONS)(function)))
    finally:
        config.CACHE_DIR = before


def _generate_code_once(entry):
    """Have LLVM optimise and generate code for the whole of ``entry`` once, when all of it is there.

    By default numba does so for every function, and again for every function that calls it,
    up to the entry. Here the callees are only linked into their callers as they are. Measured:
    LLVM's part of compiling the core falls to a quarter. It needs four methods of numba that
    are not public: where one is missing, numba's own way is taken.
    """
    if not isinstance(entry, Dispatcher):
        return entry
    compile_entry = _arithmetic_that_wraps(entry._compiler.compile)
    can_delay = all(hasattr(JITCodeLibrary, name) for name in _USED_OF_LIBRARY)

    def compile_once(arguments, return_type):
        if _announce is not None:
            _announce()
        if not can_delay:
            return compile_entry(arguments, return_type)
        finalize, set_env = JITCodeLibrary.finalize, JITCPUCodegen.set_env

        def finalize_unless_callee(library):
            if library.name == entry.py_func.__qualname__:
                finalize(library)
                return
            for callee in dict.fromkeys(library._linking_libraries):
                library._final_module.link_in(callee._get_module_for_linking(), preserve=True)
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


def is_plain_python() -> bool:
    """Whether the numba rooms are plain Python: NUMBA_DISABLE_JIT=1."""
    return bool(config.DISABLE_JIT)


def make_ready(function: Any, *arguments: Any) -> None:
    """Compile an entry point for such arguments, or load what was compiled before."""
    if isinstance(function, Dispatcher):
        function.compile(tuple(numba.typeof(argument) for argument in arguments))


def announce_compilation(announce: Callable[[], None]) -> None:
    """Have ``announce()`` called when an entry point must be compiled, before that takes its time."""
    global _announce
    _announce = cache(announce)  # once, whatever number of entry points is compiled


_announce = None


def sources_digest() -> str:
    """Return the digest of everything that decides the machine code of the numba rooms."""
    digest = hashlib.sha256(f"{numba.__version__} {platform.python_version()} {platform.machine()}".encode())
    package = Path(__file__).parent
    for room in ROOMS:
        path = package / room
        for source in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(str(source.relative_to(package)).encode())
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def cache_folder() -> Path | None:
    """Return the folder for machine code of exactly these sources, or None where none can be written."""
    global _folder, _folder_known
    if not _folder_known:
        _folder, _folder_known = _make_cache_folder(), True
    return _folder


_folder: Path | None = None
_folder_known = False


def _make_cache_folder() -> Path | None:
    root = os.environ.get("PLEEMU_CACHE_DIR")
    if root is None:
        root = str(Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "pleemu")
    folder = Path(root) / sources_digest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        os.utime(folder)
        _forget_old_folders(folder.parent)
    except (OSError, RuntimeError):
        return None
    return folder


def _forget_old_folders(root: Path) -> None:
    folders = [path for path in root.iterdir() if path.is_dir() and len(path.name) == 16]
    for old in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)[_FOLDERS_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
