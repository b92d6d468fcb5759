"""The wall between the numba rooms and the rest: how they are compiled and where that is kept.

`compiled` marks the functions inside the rooms. They are called from each other only: they
have no Python wrapper, which halves the time to compile them (use `callable_alone` in tests).
`entry_point` marks the few functions that Python calls; their machine code is kept on disk.

numba is imported when one of them is compiled (`compiling`), not to load what has been (`machine_code`).

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
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pleemu.deferred import Deferred, is_plain_python

ROOMS = (
    "jit.py", "deferred.py", "compiling.py", "machine_code.py", "handle.py", "handle_type.py",
    "hardware", "scheduler", "hypervisor", "machine", "observe",
)  # fmt: skip

# Folders of earlier versions that stay: switching between two checkouts recompiles neither.
_FOLDERS_KEPT = 4


def compiled(function):
    """Compile a function of a numba room; callable from other compiled functions only."""
    return function if is_plain_python() else Deferred(function, _make_compiled)


def inlined(function):
    """As `compiled`, but put into every caller: for what the hot loop calls for each instruction.

    A call that is not inlined returns through memory and has its status tested: about 5 ns.
    """
    return function if is_plain_python() else Deferred(function, _make_inlined)


def _make_compiled(function):
    from pleemu.compiling import make_compiled

    return make_compiled(function)


def _make_inlined(function):
    from pleemu.compiling import make_inlined

    return make_inlined(function)


def callable_alone(function):
    """Return a function of a numba room in a form that Python may call, for tests."""
    python_function = getattr(function, "py_func", function)
    if is_plain_python():
        return python_function
    from pleemu.compiling import alone

    return alone(python_function)


def callable_once(function: Any) -> Any:
    """Return a function of a numba room as an entry point: its machine code is kept on disk."""
    return entry_point(getattr(function, "py_func", function))


def entry_point(function):
    """Compile a function that Python calls, keeping the machine code on disk.

    Where no folder can be written the function is compiled anew in each process.
    """
    return function if is_plain_python() else EntryPoint(function)


class EntryPoint:
    """A function that Python calls, compiled or loaded at its first call."""

    def __init__(self, function):
        self.py_func = function
        self._dispatcher = None

    def __call__(self, *arguments):
        """Call it once."""
        return self.ready(*arguments)()

    def ready(self, *arguments):
        """Return the compiled function with its arguments bound.

        One named tuple of arrays needs nothing of numba once it is compiled; all else is numba's to unpack.
        """
        if len(arguments) == 1 and hasattr(arguments[0], "_fields"):
            from pleemu.machine_code import bind

            bound = bind(self.py_func, arguments[0], cache_folder(), _announced)
            if bound is not None:
                return bound
        return partial(self.dispatcher, *arguments)

    @property
    def dispatcher(self):
        """Numba's form of it."""
        if self._dispatcher is None:
            from pleemu.compiling import kept

            self._dispatcher = kept(self.py_func, cache_folder(), _announced)
        return self._dispatcher

    @property
    def stats(self):
        """How often numba has taken code from its cache."""
        return self.dispatcher.stats


def ready(function: Any, *arguments: Any) -> Callable[[], Any]:
    """Compile an entry point for such arguments, or load what was compiled before; return the call."""
    return function.ready(*arguments) if isinstance(function, EntryPoint) else partial(function, *arguments)


def announce_compilation(announce: Callable[[], None]) -> None:
    """Have ``announce()`` called when an entry point must be compiled, before that takes its time."""
    global _announce
    _announce = cache(announce)  # once, whatever number of entry points is compiled


_announce: Callable[[], None] | None = None


def _announced() -> None:
    if _announce is not None:
        _announce()


def sources_digest() -> str:
    """Return the digest of everything that decides the machine code of the numba rooms."""
    digest = hashlib.sha256(f"{_numba_version()} {platform.python_version()} {platform.machine()}".encode())
    package = Path(__file__).parent
    for room in ROOMS:
        path = package / room
        for source in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(str(source.relative_to(package)).encode())
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _numba_version() -> str:
    """Return numba's version, without importing numba."""
    found = find_spec("numba")
    version = Path(found.origin).with_name("_version.py") if found and found.origin else None
    if version is not None and version.exists():
        return version.read_text()
    from importlib.metadata import version as version_of

    return version_of("numba")


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
