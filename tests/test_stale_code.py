"""The machine code that is kept on disk: never stale, and no folder is no failure."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pleemu import jit

PACKAGE = Path(jit.__file__).parent
SOURCES = sorted(
    str(source.relative_to(PACKAGE))
    for room in jit.ROOMS
    for source in ((PACKAGE / room).rglob("*.py") if (PACKAGE / room).is_dir() else [PACKAGE / room])
)

# An entry point as `machine.loop` has one, but quick to compile: what it calls lies in another file.
ENTRY = """
from pleemu.hypervisor.window import grown
from pleemu.jit import cache_folder, entry_point

@entry_point
def grow(value):
    return grown(value, 4096, 2, 1 << 32)

print(grow(4096))
print(cache_folder())
print(sum(getattr(grow, "stats").cache_hits.values()) if hasattr(grow, "stats") else "plain Python")
"""


@pytest.fixture
def package(tmp_path):
    """A copy of the package to edit, with a program that uses it."""
    shutil.copytree(PACKAGE, tmp_path / "pleemu", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "entry.py").write_text(ENTRY)
    return tmp_path / "pleemu"


def run_entry(package, cache, **environment):
    """What the program prints: its result, the cache folder, and how often code came from there."""
    environment = os.environ | {"PLEEMU_CACHE_DIR": str(cache), "PYTHONPATH": str(package.parent)} | environment
    command = [sys.executable, str(package.parent / "entry.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment)
    return done.stdout.split("\n")[:3]


def edit_growth(package):
    window = package / "hypervisor" / "window.py"
    text = window.read_text()
    edited = text.replace("value * modifier", "value * modifier * 3")
    assert edited != text
    window.write_text(edited)


def test_an_edit_in_a_called_function_takes_effect(package, tmp_path):
    """Compiled once, loaded the next time; an edit in the file of a callee changes the result, and back."""
    cache = tmp_path / "cache"
    before = run_entry(package, cache)
    assert before[0] == "8192"
    assert run_entry(package, cache) == [*before[:2], "1"]
    original = (package / "hypervisor" / "window.py").read_bytes()
    edit_growth(package)
    after = run_entry(package, cache)
    assert (after[0], after[2]) == ("24576", "0")
    assert after[1] != before[1]
    (package / "hypervisor" / "window.py").write_bytes(original)
    assert run_entry(package, cache) == [*before[:2], "1"]


@pytest.mark.parametrize("source", SOURCES)
def test_an_edit_in_any_file_of_a_room_means_another_folder(source, package, monkeypatch):
    """The folder's name changes with each byte of each file, with a new file, and with a file that is gone."""
    monkeypatch.setattr(jit, "__file__", str(package / "jit.py"))
    digests = {jit.sources_digest()}
    path = package / source
    path.write_bytes(path.read_bytes() + b"#")
    digests.add(jit.sources_digest())
    if path.parent != package:
        path.with_name("another.py").write_bytes(path.read_bytes())
        digests.add(jit.sources_digest())
        path.unlink()
        digests.add(jit.sources_digest())
    assert len(digests) == (2 if path.parent == package else 4)


def test_the_digest_depends_on_nothing_else(package, monkeypatch):
    """The surface, compiled Python files and modification times leave the machine code valid."""
    monkeypatch.setattr(jit, "__file__", str(package / "jit.py"))
    digest = jit.sources_digest()
    assert digest == jit.sources_digest()
    (package / "cli.py").write_text("")
    os.utime(package / "hardware" / "execute.py", (0, 0))
    (package / "hardware" / "__pycache__").mkdir()
    (package / "hardware" / "__pycache__" / "execute.pyc").write_bytes(b"x")
    assert jit.sources_digest() == digest


def test_every_numba_room_is_in_the_digest():
    """Each file of the package that imports what compiles functions is part of the digest."""
    users = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if any(f"import {name}" in path.read_text() for name in ("compiled", "entry_point", "inlined"))
    }
    assert users <= set(SOURCES)
    assert len(users) > 10


def test_no_folder_is_no_failure(package, tmp_path):
    """Where no cache folder can be made the code is compiled in memory, and the result is the same."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert run_entry(package, blocked / "cache") == ["8192", "None", "0"]
    assert run_entry(package, blocked / "cache", NUMBA_DISABLE_JIT="1") == ["8192", "None", "plain Python"]


def test_old_folders_are_forgotten_and_others_left_alone(tmp_path, monkeypatch):
    """Of earlier versions' folders the newest stay; what is not such a folder is not touched."""
    for age in range(8):
        folder = tmp_path / f"{age:016x}"
        folder.mkdir()
        os.utime(folder, (1000 - age, 1000 - age))
    (tmp_path / "mine").mkdir()
    (tmp_path / "0123456789abcdef.txt").write_text("")
    monkeypatch.setenv("PLEEMU_CACHE_DIR", str(tmp_path))
    folder = jit._make_cache_folder()
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {folder.name, f"{0:016x}", f"{1:016x}", f"{2:016x}", "mine", "0123456789abcdef.txt"}
