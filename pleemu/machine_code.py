"""Machine code on disk that is loaded and called without numba.

An entry point that takes one named tuple of arrays is compiled for a pointer to it, and LLVM's object
file is kept. Loading that takes LLVM alone; importing numba and rebuilding its dispatchers took longer
than all else at a start. The tuple lies in memory as numba lays it out: for each array
meminfo, parent, nitems, itemsize, data, shape[], strides[], all of them 64-bit words.

What is found on disk is used only if its checksum is right. Where any of this is not as it is
expected to be, `bind` returns None and numba does it in its own way.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pleemu.kept import keep, one_at_a_time, read_kept

_loaded: dict[str, tuple[Any, Any]] = {}  # by key: LLVM's engine, which owns the code, and the function

# int32 status, of `int64 *result, void **exception, void *tuple`.
_PROTOTYPE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


def bind(function: Any, values: Any, folder: Path | None, announce: Callable[[], None]) -> Callable[[], int] | None:
    """Return ``function`` compiled and bound to ``values``, or None if this is numba's to do."""
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    key = _key(function, values)
    if key not in _loaded:
        content = _kept_or_compiled(function, values, folder and folder / f"{key}.code", announce)
        if content is None:
            return None
        _loaded[key] = _load(content)
    return _Call(function.__qualname__, _loaded[key][1], values)


def _kept_or_compiled(function: Any, values: Any, path: Path | None, announce: Callable[[], None]) -> bytes | None:
    """Return the machine code; of several processes that miss it one compiles."""
    if path is None:
        return _compile(function, values, announce)
    content = read_kept(path)
    if content is None:
        with one_at_a_time(path):
            content = read_kept(path)
            if content is None:
                content = _compile(function, values, announce)
                if content is not None:
                    keep(path, content)
    return content


class _Call:
    """A compiled function with its argument; both live as long as this."""

    def __init__(self, name: str, code: Any, values: Any) -> None:
        self.name = name
        self.code = code
        self.values = values
        self.block = _laid_out(values)
        self.result, self.exception = ctypes.c_int64(), ctypes.c_void_p()

    def __call__(self) -> int:
        """Call it."""
        status = self.code(ctypes.byref(self.result), ctypes.byref(self.exception), self.block.ctypes.data)
        if status != 0:
            raise RuntimeError(f"{self.name} ended with status {status}")
        return self.result.value


def _laid_out(values: Any) -> np.ndarray:
    """Return the named tuple as compiled code finds it in memory."""
    words: list[int] = []
    for array in map(np.asarray, values):  # attributes of a recarray are looked up in Python
        words += (0, 0, array.size, array.itemsize, array.ctypes.data, *array.shape, *array.strides)
    return np.array(words, np.int64)


def _key(function: Any, values: Any) -> str:
    """Return what the machine code depends on, besides the sources: the processor, and the arrays' shapes."""
    settings = [(name, os.environ[name]) for name in sorted(_SETTINGS) if name in os.environ]
    arrays = [(array.dtype.str, array.ndim, array.flags.c_contiguous) for array in map(np.asarray, values)]
    text = f"{_processor()} {settings} {values._fields} {arrays}"
    return f"{function.__qualname__}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


@cache
def _processor() -> str:
    """Return what LLVM generates code for."""
    import llvmlite.binding as llvm

    return f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"


_SETTINGS = ("NUMBA_OPT", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_LOOP_VECTORIZE", "NUMBA_SLP_VECTORIZE")


def _compile(function: Any, values: Any, announce: Callable[[], None]) -> bytes | None:
    """Return the name of the compiled function and the object that it is in."""
    import numba
    from numba.core.registry import cpu_target

    from pleemu.compiling import once
    from pleemu.handle_type import HandleType

    pointee = numba.typeof(values)
    context = cpu_target.target_context
    if context.get_abi_sizeof(context.get_value_type(pointee)) != _laid_out(values).nbytes:
        return None
    handle = HandleType(pointee)
    dispatcher = once(function, announce)
    dispatcher.compile((handle,))
    compiled = dispatcher.overloads[(handle,)]
    if compiled.signature.return_type != numba.types.int64 or not hasattr(compiled.library, "_get_compiled_object"):
        return None
    code = compiled.library._get_compiled_object()
    if not _is_whole(code):
        return None
    return bytes(compiled.fndesc.llvm_func_name.encode() + b"\n" + code)


def _is_whole(code: bytes) -> bool:
    """Whether all that the object refers to can be found: LLVM would end the process."""
    import io

    import llvmlite.binding as llvm
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        table: Any = ELFFile(io.BytesIO(code)).get_section_by_name(".symtab")
        symbols = list(table.iter_symbols())
    except (ELFError, AttributeError):
        return False
    missing = [one.name for one in symbols if one.name and one["st_shndx"] == "SHN_UNDEF"]
    return all(name == "_GLOBAL_OFFSET_TABLE_" or llvm.address_of_symbol(name) for name in missing)


def _load(content: bytes) -> tuple[Any, Any]:
    import llvmlite.binding as llvm

    name, code = content.split(b"\n", 1)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine, _PROTOTYPE(engine.get_function_address(name.decode()))
