"""Data frames of recordings, and Parquet files of them. pandas is imported when the first one is made."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pleemu.errors import PleemuError
from pleemu.machine.result import Run
from pleemu.trace.columns import ABSENT, Columns, tables
from pleemu.trace.recording import Recording

if TYPE_CHECKING:
    from pandas import DataFrame

_SIGNED = ("distance_ns", "limit_ns")  # -1 says something there
_FEW = frozenset(  # columns of few different words
    (
        *("case", "policy", "vm", "exit_reason", "symbol", "lock_symbol", "object", "waits_for"),
        *("target", "verdict", "next", "hint", "prev", "prev_state", "what", "thread", "cause"),
    )
)


def frames_of(recording: Recording) -> dict[str, DataFrame]:
    """Return a data frame for each table of `pleemu.trace.columns`."""
    need_pandas()
    return {name: _frame(columns) for name, columns in tables(recording).items()}


def joined(cases: Sequence[tuple[str, Run, Mapping[str, DataFrame]]]) -> dict[str, DataFrame]:
    """Return the frames of several runs below each other, with the case and the policy of each row in front."""
    pandas = need_pandas()
    found = {}
    for table in cases[0][2] if cases else ():
        parts = []
        for case, run, frames in cases:
            part = frames[table].copy(deep=False)
            part.insert(0, "policy", run.policy)
            part.insert(0, "case", case)
            for name in _FEW & set(part.columns):
                part[name] = part[name].astype(object)  # so that categories of different runs join
            parts.append(part)
        filled = [part for part in parts if len(part)] or parts[:1]
        found[table] = _with_categories(pandas.concat(filled, ignore_index=True))
    return found


def summary_frame(cases: Sequence[tuple[str, Run]]) -> DataFrame:
    """Return one row a case: its counts, shares and times."""
    return need_pandas().DataFrame([_summary(case, run) for case, run in cases])


def write_parquet(frames: Mapping[str, DataFrame], folder: str | Path) -> tuple[Path, ...]:
    """Write each frame to ``folder/NAME.parquet`` and return the files; the folder is made if need be."""
    if importlib.util.find_spec("pyarrow") is None:
        raise PleemuError("Parquet needs pyarrow, which is not installed: pip install 'pleemu[frames]'")
    folder = Path(folder)
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, frame in frames.items():
            paths.append(folder / f"{name}.parquet")
            frame.to_parquet(paths[-1], engine="pyarrow", schema=_schema(frame))
    except OSError as error:
        raise PleemuError(f"{folder}: the frames cannot be written: {error.strerror or error}") from None
    return tuple(paths)


def _schema(frame: DataFrame) -> Any:
    """Return a frame's Arrow types; what has no words yet is a column of words all the same."""
    import pyarrow

    schema = pyarrow.Schema.from_pandas(frame)
    for place, column in enumerate(schema):
        kind = column.type
        if pyarrow.types.is_dictionary(kind) and pyarrow.types.is_null(kind.value_type):
            schema = schema.set(place, column.with_type(pyarrow.dictionary(kind.index_type, pyarrow.string())))
    return schema


def need_pandas() -> Any:
    """Return pandas, or say how to install it."""
    try:
        import pandas
    except ImportError:
        raise PleemuError("data frames need pandas, which is not installed: pip install 'pleemu[frames]'") from None
    return pandas


def _frame(columns: Columns) -> DataFrame:
    pandas = need_pandas()
    return _with_categories(pandas.DataFrame({name: _series(name, values) for name, values in columns.items()}))


def _series(name: str, values: Any) -> Any:
    """Return a column; whole numbers that may be absent become `Int64` with `<NA>`."""
    pandas = need_pandas()
    if name in _SIGNED:
        return pandas.array(list(values), dtype="Int64")
    if name in _MAY_BE_ABSENT:
        column = pandas.array(np.asarray(values, np.int64), dtype="Int64")
        column[np.asarray(values) == ABSENT] = pandas.NA
        return column
    return pandas.Series(values, dtype=str) if isinstance(values, list) else values  # lists are of words


_MAY_BE_ABSENT = frozenset(
    ("number", "guest_ns", "host_ns", "ple_window", "target_cpu", "ran_after_ns", "moved_after_ns", "over_after_ns")
)


def _with_categories(frame: DataFrame) -> DataFrame:
    for name in frame.columns:
        if name in _FEW:
            frame[name] = frame[name].astype(str).astype("category")
    return frame


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _summary(case: str, run: Run) -> dict[str, Any]:
    total = run.decisions.total
    return {
        "case": case,
        "policy": run.policy,
        "scenario": run.scenario.name,
        "seed": run.seed,
        "duration_ns": run.duration_ns,
        "pause_exits": run.ple.exits,
        "continuous": run.ple.continuous,
        "longest_run": run.ple.longest_run,
        "yields": sum(one.attempts for one in run.boosts),
        "honoured": sum(one.honoured for one in run.boosts),
        "operations": sum(vm.operations for vm in run.vms),
        "precision": _or_nan(total.precision),
        "recall": _or_nan(total.recall),
        "exits_per_hand_over": _or_nan(total.exits_per_hand_over),
        "ran_after_ns": _or_nan(total.ran_after_ns),
        "released_after_ns": _or_nan(total.released_after_ns),
        "spin_ns": total.spin_ns,
        "fairness": run.fairness,
        "idle_share": run.idle_share,
        **{f"cpu_share_{vm.name}": vm.cpu_share for vm in run.vms},
        **{f"operations_{vm.name}": vm.operations for vm in run.vms},
    }
