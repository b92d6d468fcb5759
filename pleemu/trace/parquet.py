"""Parquet, for data frames: a row for each event, a column for each field of any tracepoint, null where it has none.

Beside the tracepoints it has `yield_to`, the directed yields that no host traces, and of sched_stat_runtime also what
moves a vruntime without a charge: its `runtime` is 0 then. Rows are written in groups, so a
run of any length needs the memory of one group.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, BinaryIO

from pleemu.errors import PleemuError
from pleemu.trace.read import COUNTED, Seen, wrong_field
from pleemu.trace.stream import Happening
from pleemu.trace.threads import IDLE, Threads
from pleemu.trace.tracepoints import Symbol, Tracepoint

_GROUP = 50_000  # rows
_OF_EVENT = {"time_ns": int, "cpu": int, "comm": str, "pid": int, "system": str, "event": str}
_AS_WORDS = ("exit_reason", "prev_state")


class Parquet:
    """Writes rows, a group at a time."""

    def __init__(self, file: BinaryIO, threads: Threads, points: Sequence[Tracepoint]) -> None:
        import pyarrow
        import pyarrow.parquet

        self._pyarrow = pyarrow
        self._threads = threads
        words = [one for point in points for one in point.shown if isinstance(one, Symbol) and one.field in _AS_WORDS]
        self._words = {one.field: one for one in words}
        word = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
        types = {
            "time_ns": pyarrow.int64(),
            "cpu": pyarrow.int32(),
            "comm": word,
            "pid": pyarrow.int32(),
            "system": word,
            "event": word,
        }
        of_fields = chain.from_iterable(_columns(point) for point in points)
        for name, signed, text in of_fields:
            number = pyarrow.int64() if signed else pyarrow.uint64()
            types[name] = word if text or name in self._words else number
        self._schema = pyarrow.schema(types.items(), _for_pandas(types))
        self._rows: list[dict[str, Any]] = []
        self._writer = pyarrow.parquet.ParquetWriter(file, self._schema, compression="zstd")

    def write(self, happenings: Iterable[Happening]) -> None:
        """Take some happenings."""
        for one in happenings:
            row = self._row(one)
            self._rows.append(row)
            if len(self._rows) >= _GROUP:
                self._flush()

    def close(self) -> None:
        """Write the last group and the footer, without which nobody can read the file."""
        if self._rows:
            self._flush()
        self._writer.close()

    def _row(self, one: Happening) -> dict[str, Any]:
        row = {
            "time_ns": one.time_ns,
            "cpu": one.pcpu,
            "comm": "<idle>" if one.thread == IDLE else self._threads.comm(one.thread, one.pcpu),
            "pid": self._threads.pids[one.thread],
            "system": one.point.system,
            "event": one.point.name,
        }
        for field in one.point.fields:
            value = one.values[field.name]
            name = _column(one.point, field.name)
            row[name] = self._words[name].text(value) if name in self._words else value
        return row

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        columns = [self._pyarrow.array([row.get(column.name) for row in rows], column.type) for column in self._schema]
        self._writer.write_table(self._pyarrow.Table.from_arrays(columns, schema=self._schema))


def _for_pandas(types: dict[str, Any]) -> dict[str, str]:
    """Return the metadata that make pandas read numbers with nulls as whole numbers; floats would lose addresses."""
    kinds = {"int64": "Int64", "uint64": "UInt64"}
    columns = [
        {"name": name, "field_name": name, "pandas_type": str(kind), "numpy_type": kinds[str(kind)], "metadata": None}
        for name, kind in types.items()
        if str(kind) in kinds and name not in _OF_EVENT
    ]
    return {"pandas": json.dumps({"index_columns": [], "column_indexes": [], "columns": columns})}


def _columns(point: Tracepoint) -> Iterator[tuple[str, bool, bool]]:
    """Yield each field's column: its name, whether it is signed, whether it is a text."""
    for field in point.fields:
        yield _column(point, field.name), field.signed, field.type == "char"


def _column(point: Tracepoint, field: str) -> str:
    """Return a field's column; whom an event of the scheduler speaks of is not the thread of the row."""
    return f"task_{field}" if field in _OF_EVENT else field


def read_parquet(file: BinaryIO, name: str) -> Iterator[Seen]:
    """Yield the events of a file that `Parquet` has written. Raises `PleemuError` for another."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise PleemuError(
            f"{name}: Parquet needs pyarrow, which is not installed: pip install 'pleemu[frames]'"
        ) from None
    try:
        with pyarrow.parquet.ParquetFile(file) as rows:
            absent = [column for column in _OF_EVENT if column not in rows.schema_arrow.names]
            if absent:
                raise PleemuError(f"{name}: this is no trace of pleemu's: it has no column {absent[0]}")
            for batch in rows.iter_batches():
                batch.validate(full=True)
                yield from _events(batch.to_pylist(), name)
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        what = "a text is no UTF-8" if isinstance(error, UnicodeDecodeError) else " ".join(str(error).split())
        raise PleemuError(f"{name}: this Parquet file cannot be read, it is damaged: {what}") from None


def _events(rows: Iterable[dict[str, Any]], name: str) -> Iterator[Seen]:
    for row in rows:
        of_event = {column: row.pop(column) for column in _OF_EVENT}
        values = {column.removeprefix("task_"): value for column, value in row.items() if value is not None}
        missing = wrong_field(of_event, _OF_EVENT) or wrong_field(values, COUNTED.get(of_event["event"], {}))
        if missing is not None:
            raise PleemuError(f"{name}: {_wrong(of_event, values, missing)}")
        yield Seen(**of_event, values=values)


def _wrong(of_event: dict[str, Any], values: dict[str, Any], field: str) -> str:
    """Say what is wrong with a field of a row."""
    value = {**values, **of_event}.get(field)
    if value is None:
        return f"this is no trace of pleemu's: a row of {of_event['event']} has no {field}"
    kind = type(value).__name__
    help_ = "; a data frame keeps numbers whole as Int64 or UInt64" if kind == "float" else ""
    return f"this is no trace of pleemu's: the {field} of a row of {of_event['event']} is a {kind}{help_}"
