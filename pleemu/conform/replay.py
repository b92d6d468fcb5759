"""Replaying a file of recorded vectors: which format it is, and how many of its cases agree."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from attrs import frozen

from pleemu.conform.vectors import ConformError, Difference, Format
from pleemu.errors import PleemuError

# Format -> the module that replays it; imported when it is needed, as each loads compiled code.
FORMATS = {
    "pleemu-ple-1": "ple",
    "pleemu-x86-1": "x86",
    "pleemu-cfs-5.6-1": "scheduler",
    "pleemu-eevdf-6.6-1": "scheduler",
    "pleemu-eevdf-6.12.0-1": "scheduler",
    "pleemu-eevdf-6.12-1": "scheduler",
}

_GZIP = b"\x1f\x8b"
_SHOWN = 40  # characters of what is in the wrong place


@frozen(kw_only=True)
class Conformance:
    """One file's cases, replayed."""

    path: str
    format: str
    what: str
    source: str  # what the cases were recorded from, as the file says
    cases: int
    different: tuple[str, ...]  # the cases that do not agree, in order
    first: Difference | None

    @property
    def agreeing(self) -> int:
        """How many cases agree."""
        return self.cases - len(self.different)


def replay_file(path: Path, progress: Callable[[int, int], None] | None = None) -> Conformance:
    """Replay one file; ``progress`` is called with (done, total) in cases."""
    data = _read(path)
    try:
        form = _format_of(data)
        cases = data.get(form.cases_key)
        if not isinstance(cases, list):
            raise ConformError(f"has no list {form.cases_key!r}, which {form.name} consists of")
        if not cases:
            raise ConformError(f"its list {form.cases_key!r} is empty: nothing to compare")
        found = []
        for number, difference in enumerate(form.replay(data)):
            if difference is not None:
                found.append(difference)
            if progress is not None:
                progress(number + 1, len(cases))
    except PleemuError as error:
        raise ConformError(f"{path}: {error}") from None
    return Conformance(
        path=str(path),
        format=form.name,
        what=form.what,
        source=str(data.get("source", "")),
        cases=len(cases),
        different=tuple(one.case for one in found),
        first=found[0] if found else None,
    )


def _format_of(data: Any) -> Format:
    name = data.get("format") if isinstance(data, dict) else None
    if name is None:
        raise ConformError("has no key 'format' and is no recorded vectors; known formats are " + ", ".join(FORMATS))
    if name not in FORMATS if isinstance(name, str) else True:
        raise ConformError(f"unknown format {str(name)[:_SHOWN]!r}; known are {', '.join(FORMATS)}")
    formats: tuple[Format, ...] = import_module(f"pleemu.conform.{FORMATS[name]}").FORMATS
    return next(form for form in formats if form.name == name)


def _read(path: Path) -> Any:
    try:
        content = path.read_bytes()
        if content.startswith(_GZIP):
            content = gzip.decompress(content)
        return json.loads(content)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ConformError(f"{path}: {where}: it is not JSON: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise ConformError(f"{path}: byte {error.start}: it is neither gzip nor JSON") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ConformError(f"{path}: it is broken as a gzip file: {error}") from None
    except RecursionError:
        raise ConformError(f"{path}: its JSON is nested too deeply to be recorded vectors") from None
    except OSError as error:
        raise ConformError(f"{path}: it cannot be read: {error.strerror or error}") from None
