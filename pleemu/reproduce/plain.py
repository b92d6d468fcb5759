"""The results as plain values, for JSON."""

from __future__ import annotations

import json
from typing import Any

import attrs

from pleemu.reproduce import statistics, verdict
from pleemu.reproduce.help_text import KEYS
from pleemu.reproduce.results import Finding, Measurement, PartResult, Results
from pleemu.reproduce.statistics import Interval
from pleemu.reproduce.tables import CALIBRATION, LENGTHS

_DIGITS = 6


def results_json(results: Results) -> str:
    """Return the results as JSON text: the same for the same runs, and nothing in it of when or how fast."""
    values = {
        "statistics": statistics.HOW,
        "criteria": verdict.HOW,
        "calibration": CALIBRATION,
        "lengths": LENGTHS,
        "quick": results.quick,
        "parts": [_part(part) for part in results.parts],
        "findings": [_finding(one) for one in results.findings],
        "runs": [
            {"part": job.part, "setting": job.setting, "policy": job.policy, "seed": job.seed, "digest": digest}
            for job, digest in results.runs
        ],
    }
    return json.dumps({key: values[key] for key in KEYS}, indent=1, allow_nan=False) + "\n"


def _part(result: PartResult) -> dict[str, Any]:
    return {
        "name": result.part.name,
        "title": result.part.title,
        "text": result.part.text,
        "seeds": result.seeds,
        "duration_ms": result.duration_ms,
        "measurements": [_measurement(one) for one in result.measurements],
    }


def _measurement(one: Measurement) -> dict[str, Any]:
    values = attrs.asdict(one, recurse=False)
    return {name: _interval(value) if isinstance(value, Interval) else value for name, value in values.items()}


def _finding(one: Finding) -> dict[str, Any]:
    ours = None if one.ours is None else _interval(one.ours)
    claim = {**attrs.asdict(one.claim), "settings": list(one.claim.settings)}
    return {**claim, "setting": one.setting, "ours": ours, "verdict": one.verdict}


def _interval(one: Interval) -> dict[str, Any]:
    """Return it with as many digits as mean something, so that no last bit of a logarithm shows."""
    return {name: float(f"{getattr(one, name):.{_DIGITS}g}") for name in ("mean", "low", "high")} | {"n": one.n}
