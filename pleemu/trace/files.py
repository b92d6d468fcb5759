"""Trace files: which format, and how a file comes to be.

A file gets its name when it is whole: until then it is `.NAME.part` beside it. A run that ends early, by a fault of its
guest or an interrupt, leaves what had happened; a process that is killed leaves no file under that name.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from attrs import frozen
from numpy.typing import NDArray

from pleemu.errors import PleemuError, ScenarioError, nearest
from pleemu.policy import Policy
from pleemu.scenario import Scenario
from pleemu.trace.stream import Happening, Stream
from pleemu.trace.text import TextWriter, ftrace_line, perf_line
from pleemu.trace.trace_dat import TraceDat
from pleemu.whole_file import final_place, is_device, new_part

Sink = Callable[[NDArray[Any]], None]


class _Writer(Protocol):
    def write(self, happenings: Iterable[Happening]) -> None: ...

    def close(self) -> None: ...


@frozen
class _Open:
    """A format's writer, fed with chunks of events, and how it ends."""

    take: Sink
    close: Callable[[], None]


@frozen
class Format:
    """A form that a trace is written in."""

    name: str
    suffixes: tuple[str, ...]
    what: str
    begin: Callable[[Scenario, Policy | None, BinaryIO], _Open]
    seeks: bool = False  # the file must be a regular one


def _by_tracepoints(make: Callable[[BinaryIO, Stream, Scenario], _Writer]) -> Callable[..., _Open]:
    def begin(scenario: Scenario, policy: Policy | None, file: BinaryIO) -> _Open:
        stream = Stream(scenario, policy)
        writer = make(file, stream, scenario)
        return _Open(lambda chunk: writer.write(stream.happenings(chunk)), writer.close)

    return begin


def _trace_dat(file: BinaryIO, stream: Stream, scenario: Scenario) -> _Writer:
    return TraceDat(file, stream.threads, stream.points, scenario.hardware.pcpus)


def _perfetto(scenario: Scenario, _: Policy | None, file: BinaryIO) -> _Open:
    _need("perfetto", "perfetto")
    from pleemu.trace.perfetto import Perfetto

    writer = Perfetto(file, scenario)
    return _Open(writer.take, writer.close)


def _parquet(scenario: Scenario, policy: Policy | None, file: BinaryIO) -> _Open:
    _need("pyarrow", "frames")
    from pleemu.trace.parquet import Parquet

    stream = Stream(scenario, policy, own=True)
    writer = Parquet(file, stream.threads, stream.points)
    return _Open(lambda chunk: writer.write(stream.happenings(chunk)), writer.close)


def _need(package: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ScenarioError(f"this format needs {package}, which is not installed: pip install 'pleemu[{extra}]'")


FORMATS = {
    one.name: one
    for one in (
        Format(
            "perf",
            (".txt", ".perf"),
            "text of `perf script`",
            _by_tracepoints(lambda file, stream, _: TextWriter(file, stream.threads, perf_line)),
        ),
        Format(
            "ftrace",
            (".ftrace",),
            "text of `trace-cmd report`",
            _by_tracepoints(
                lambda file, stream, scenario: TextWriter(
                    file, stream.threads, ftrace_line, f"cpus={scenario.hardware.pcpus}\n"
                )
            ),
        ),
        Format("trace-cmd", (".dat",), "binary, for trace-cmd and KernelShark", _by_tracepoints(_trace_dat), True),
        Format("perfetto", (".pftrace", ".perfetto-trace"), "for ui.perfetto.dev", _perfetto),
        Format("parquet", (".parquet",), "for data frames", _parquet),
    )
}


def format_of(path: Path, name: str | None = None) -> Format:
    """Return the format of that name, or else by the file's suffix: `perf` if it says nothing."""
    if name is not None:
        if name not in FORMATS:
            raise ScenarioError(f"--format {name}: no such format{nearest(name, FORMATS)}")
        return FORMATS[name]
    suffix = path.suffix.lower()
    return next((one for one in FORMATS.values() if suffix in one.suffixes), FORMATS["perf"])


@contextmanager
def trace_file(
    scenario: Scenario, path: Path, *, name: str | None = None, policy: Policy | None = None
) -> Iterator[Sink]:
    """Open a file that receives events in a format; a failure to write it is a ScenarioError."""
    chosen = format_of(path, name)
    with _new_file(path, chosen) as file:
        with _explained(path):
            opened = chosen.begin(scenario, policy, file)

        def take(chunk: NDArray[Any]) -> None:
            with _explained(path):
                opened.take(chunk)

        try:
            yield take
        finally:
            with _explained(path):
                opened.close()


class _NotWritten(ScenarioError):
    """The file itself is what went wrong."""


@contextmanager
def _new_file(path: Path, chosen: Format) -> Iterator[BinaryIO]:
    with _explained(path):
        final = final_place(path)
        in_place = is_device(path)
        if in_place and (chosen.seeks or path.is_dir()):
            raise OSError(None, "it is no regular file")
        if in_place:  # a pipe, a terminal
            file, part = cast(BinaryIO, path.open("wb")), None
        else:
            descriptor, part = new_part(final)
            file = os.fdopen(descriptor, "wb")
    try:
        yield file
    except _NotWritten:
        _discard(file, part)
        raise
    except BaseException:
        _keep(file, part, final, path)
        raise
    else:
        _keep(file, part, final, path)


def _keep(file: BinaryIO, part: str | None, final: Path, path: Path) -> None:
    try:
        with _explained(path):
            file.close()
            if part is not None:
                umask = os.umask(0)
                os.umask(umask)
                os.chmod(part, final.stat().st_mode & 0o7777 if final.exists() else 0o666 & ~umask)
                os.replace(part, final)
    except PleemuError:
        _discard(file, part)
        raise


def _discard(file: BinaryIO, part: str | None) -> None:
    with contextlib.suppress(OSError):
        file.close()
    if part is not None:
        with contextlib.suppress(OSError):
            os.unlink(part)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise _NotWritten(f"{path}: the trace cannot be written: {reason}") from None
