"""What is kept from run to run: whole or not there, made once, and never of another source."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_guests import MAIN, write_guest

from pleemu.errors import GuestError
from pleemu.guest import assembled
from pleemu.guest.assemble import assemble
from pleemu.kept import keep, one_at_a_time, read_kept

BODY = MAIN + '.include "body.inc"\n'


@settings(max_examples=30)
@given(st.binary(max_size=200), st.data())
def test_only_what_was_written_is_read(tmp_path_factory, content, data):
    """A file that is cut short, or has one byte changed, is as good as none."""
    path = tmp_path_factory.mktemp("kept") / "one"
    assert read_kept(path) is None
    keep(path, content)
    assert read_kept(path) == content
    written = path.read_bytes()
    place = data.draw(st.integers(0, len(written) - 1))
    path.write_bytes(written[:place])
    assert read_kept(path) is None
    path.write_bytes(written[:place] + bytes([written[place] ^ data.draw(st.integers(1, 255))]) + written[place + 1 :])
    assert read_kept(path) is None


def test_what_several_miss_is_made_once(tmp_path):
    """Eight at once: one makes it, seven find it."""
    path, made = tmp_path / "one", []

    def find_or_make() -> None:
        with one_at_a_time(path):
            if read_kept(path) is None:
                time.sleep(0.05)
                made.append(1)
                keep(path, b"content")

    threads = [threading.Thread(target=find_or_make) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert (len(made), read_kept(path)) == (1, b"content")


def test_where_nothing_can_be_kept_all_goes_on(tmp_path):
    """No folder: no lock, no file, no error; but an error of what is done under the lock comes through."""
    path = tmp_path / "missing" / "one"
    with one_at_a_time(path):
        keep(path, b"content")
    assert read_kept(path) is None
    with pytest.raises(OSError, match="mine"), one_at_a_time(tmp_path / "one"):
        raise OSError("mine")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder for objects, and how often LLVM has been started."""
    starts = []
    popen = subprocess.Popen

    def counted(*arguments, **more):
        starts.append(1)
        return popen(*arguments, **more)

    monkeypatch.setattr(assembled, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(subprocess, "Popen", counted)
    (tmp_path / "cache").mkdir()
    return tmp_path, starts


def test_a_source_is_assembled_once(folder):
    """The second time LLVM is not started, and the object is the same; after an edit of an included file it is."""
    path, starts = folder
    write_guest(path, "nop\nret\n", "body.inc")
    source = write_guest(path, BODY)
    first = assemble(source)
    assert (assemble(source), len(starts)) == (first, 1)
    write_guest(path, "ret\n", "body.inc")
    other = assemble(source)
    assert (other != first, len(starts)) == (True, 2)
    write_guest(path, "nop\nret\n", "body.inc")
    assert (assemble(source), len(starts)) == (first, 2)


def test_a_damaged_object_is_made_again(folder):
    """Whatever has happened to the file."""
    path, starts = folder
    source = write_guest(path, MAIN + "ret\n")
    first = assemble(source)
    (kept,) = (path / "cache" / "guests").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])
    assert (assemble(source), len(starts)) == (first, 2)
    assert (assemble(source), len(starts)) == (first, 2)


def test_an_error_is_not_kept(folder):
    """The same message each time, and no file."""
    path, _ = folder
    source = write_guest(path, MAIN + "bad\n")
    messages = []
    for _ in range(2):
        with pytest.raises(GuestError) as error:
            assemble(source)
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert not list((path / "cache").iterdir())


def test_the_oldest_objects_go(folder, monkeypatch):
    """A fuzzer fills no disk."""
    path, _ = folder
    monkeypatch.setattr(assembled, "OBJECTS_KEPT", 8)
    for number in range(30):
        assembled.keep_assembled(b"%d" % number, b"object")
    assert len(list(Path(path / "cache" / "guests").iterdir())) <= 8
    assert assembled.assembled_before(b"29") == b"object"
    assert assembled.assembled_before(b"0") is None
