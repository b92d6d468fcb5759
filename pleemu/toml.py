"""TOML files of unknown origin: read with bounds, and with errors that name file, line and column."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from pleemu.errors import ScenarioError

_FILE_LIMIT = 1 << 20  # bytes; a scenario is a page of text


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file says, or raise an error with the place of what is wrong in it."""
    source = _read(path)
    try:
        return tomllib.loads(source)
    except RecursionError:
        raise ScenarioError(f"{path}: values are nested too deeply; a scenario has tables of plain values") from None
    except ValueError as error:  # tomllib.TOMLDecodeError, or a number of too many digits
        message, place = str(error), ""
        if found := re.search(r" \(at line (\d+), column (\d+)\)$", message):
            message, place = message[: found.start()], f":{found[1]}:{found[2]}"
        elif message.endswith(" (at end of document)"):
            lines = source.split("\n")
            message, place = message.removesuffix(" (at end of document)"), f":{len(lines)}:{len(lines[-1]) + 1}"
        raise ScenarioError(f"{path}{place}: not TOML: {message[:1].lower()}{message[1:]}") from None


def _read(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise ScenarioError(f"{path}: not a file; name a scenario's TOML file")
        with path.open("rb") as file:
            content = file.read(_FILE_LIMIT + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ScenarioError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > _FILE_LIMIT:
        raise ScenarioError(f"{path}: longer than {_FILE_LIMIT} bytes; is this a scenario?")
    try:
        return content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ScenarioError(f"{path}:{line}: not UTF-8 text; is this a scenario?") from None
