"""Runs as one page for a browser: figures, a timeline to walk about in, every decision, and how to repeat it.

The page is one file and asks nobody for anything: styles, program and data are in it, and its security policy
forbids everything else. The data is gzipped JSON in base64, which browsers of 2023 and later unpack themselves.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import shlex
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from attrs import frozen
from rich.console import Group, RenderableType
from rich.text import Text

from pleemu.machine.result import Run
from pleemu.report.across_report import across_report
from pleemu.report.compare_report import compare_report
from pleemu.report.html import html_of
from pleemu.report.page_data import case_data
from pleemu.report.page_part import RECORDS, ROWS
from pleemu.report.run_report import machine_line, run_report, seeds_of
from pleemu.report.scenario_text import in_place, scenario_text
from pleemu.report.timeline import TimelinePlot
from pleemu.trace.recording import Recording
from pleemu.whole_file import write_whole

EVENTS = 2_000_000  # of a run that are kept to choose a page's from; of a longer run the first ones
STORIES = 50_000

_SCRIPTS = ("base.js", "timeline.js", "lanes.js", "hands.js", "charts.js", "main.js")


@frozen(kw_only=True)
class Repeat:
    """How to make the same again, as command lines."""

    command: str
    explain: str = ""  # followed by the number of an exit, and by the policy of a run of several
    saved: str = ""  # the file that they take the scenario's text from, if any


def write_page(path: Path, cases: Sequence[tuple[str, Recording]], repeat: Repeat, *, what: str = "policy") -> None:
    """Write a page of one run or several; ``what`` is what several differ in. Raises `PleemuError` if it cannot."""
    write_whole(path, page(cases, repeat, what=what).encode(), "the report")


def page(cases: Sequence[tuple[str, Recording]], repeat: Repeat, *, what: str = "policy") -> str:
    """Return the page."""
    share = max(1, len(cases))
    rows, records = max(2_000, ROWS // share), max(200, RECORDS // share)
    data = {
        "cases": [
            {
                **case_data(name, recording, rows=rows, records=records),
                "explain": _explain(recording, repeat, what, share),
            }
            for name, recording in cases
        ]
    }
    runs = [(name, recording.run) for name, recording in cases]
    style = _asset("page.css")
    script = "(() => {\n'use strict';\n" + "\n".join(_asset(name) for name in _SCRIPTS) + "\n})();\n"
    allowed = {"style-src": _hash(style), "script-src": _hash(script), "img-src": "data:"}
    forbidden = "default-src 'none'; base-uri 'none'; form-action 'none'"
    policy = "; ".join([forbidden, *(f"{what} {only}" for what, only in allowed.items())])
    title = f"{runs[0][1].scenario.name}: pleemu"
    return "".join(
        (
            '<!doctype html>\n<html lang="en" data-theme="light">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n<style>{style}</style>\n',
            "</head>\n<body>\n<main>\n",
            _head(runs, what),
            _cases(runs, what) if len(runs) > 1 else "",
            _asset("body.html"),
            _details(runs, what),
            _repeat(runs, repeat),
            '</main>\n<div id="tip" role="status"></div>\n',
            f'<script type="text/plain" id="data">{_packed(data)}</script>\n',
            f"<script>{script}</script>\n</body>\n</html>\n",
        )
    )


def _explain(recording: Recording, repeat: Repeat, what: str, runs: int) -> str:
    """Return the command that tells an exit's story, before the exit's number; nothing if it is not known."""
    if runs == 1:
        return repeat.explain
    return (
        f"{repeat.explain} --policy {shlex.quote(recording.run.policy)}" if repeat.explain and what == "policy" else ""
    )


def _asset(name: str) -> str:
    return (resources.files("pleemu.report") / "page" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _packed(data: dict[str, Any]) -> str:
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _head(runs: Sequence[tuple[str, Run]], what: str) -> str:
    scenario = runs[0][1].scenario
    which = f"policy {escape(runs[0][1].policy)}" if len(runs) == 1 else f"{len(runs)} runs"
    seeds = seeds_of(run for _, run in runs)
    return (
        f'<div class="top"><div><h1>{escape(scenario.name)} <span class="dim">{which}, {seeds}</span></h1>'
        f'<p class="summary">{escape(scenario.summary.strip())}</p>'
        f"{''.join(_facts(name, run, what if len(runs) > 1 else '') for name, run in runs)}</div>"
        '<button id="theme" title="light or dark">light / dark</button></div>\n'
    )


def _facts(name: str, run: Run, what: str) -> str:
    """Where a run took place, and how it ended; of several, which differ in ``what``, those of the chosen are shown."""
    of_one, which = (f' data-of="{escape(name)}"', f"{escape(what)}: {escape(name)}; ") if what else ("", "")
    return (
        f'<p class="facts"{of_one}>{which}{escape(machine_line(run.scenario))}; {run.duration_ns / 1e6:g} ms emulated. '
        f"Ended: {escape(run.ended.rstrip('.'))}.</p>"
    )


def _cases(runs: Sequence[tuple[str, Run]], what: str) -> str:
    """The runs side by side; a click shows one in the timeline."""
    most_exits = max((run.ple.exits for _, run in runs), default=0) or 1
    done = {name: sum(vm.operations for vm in run.vms) for name, run in runs}
    most_done = max(done.values(), default=0) or 1
    rows = []
    for name, run in runs:
        yields = sum(one.attempts for one in run.boosts)
        honoured = sum(one.honoured for one in run.boosts)
        precision = run.decisions.total.precision
        rows.append(
            f'<tr data-case="{escape(name)}" tabindex="0"><td>{escape(name)}</td>'
            f"<td>{_meter(run.ple.exits, most_exits, 'exits')}</td><td>{run.ple.longest_run:,}</td>"
            f"<td>{f'{honoured:,} of {yields:,}' if yields else '-'}</td>"
            f"<td>{'-' if precision is None else f'{100 * precision:.1f}%'}</td>"
            f"<td>{_meter(done[name], most_done, 'done')}</td><td>{run.fairness:.3f}</td></tr>"
        )
    heads = (what, "PAUSE exits", "longest run", "yields honoured", "precision", "operations", "fairness")
    return (
        '<section class="card"><h2>Side by side</h2><p class="hint">Click a row to see that run below.</p>'
        f'<table class="cases"><tr>{"".join(f"<th>{escape(head)}</th>" for head in heads)}</tr>{"".join(rows)}</table>'
        "</section>\n"
    )


def _meter(value: int, most: int, kind: str) -> str:
    width = round(130 * value / most)
    bar = f'<svg width="130" height="11"><rect class="{kind}" width="{width}" height="11" rx="2"/></svg>'
    return f'<div class="meter">{bar}<span>{value:,}</span></div>'


def _details(runs: Sequence[tuple[str, Run]], what: str) -> str:
    parts: list[str] = []
    if len(runs) > 1:
        several = compare_report([run for _, run in runs]) if what == "policy" else across_report(runs, what)
        parts.append(_tables(several))
    for name, run in runs:
        hidden = f' data-of="{escape(name)}"' if len(runs) > 1 else ""
        parts.append(f"<div{hidden}>{_tables(run_report(run))}</div>")
    return f'<details class="card" open><summary>Tables</summary><div class="tables">{"".join(parts)}</div></details>\n'


def _tables(report: RenderableType) -> str:
    """Everything but what the page shows better: the head and the timeline."""
    parts = report.renderables if isinstance(report, Group) else [report]
    kept = [part for part in parts[1:] if not isinstance(part, TimelinePlot)]
    return "".join(html_of(part) for part in kept if not (isinstance(part, Text) and part.plain.startswith("next:")))


def _repeat(runs: Sequence[tuple[str, Run]], repeat: Repeat) -> str:
    digests = "\n".join(f"{one.digest}  {name}" for name, one in runs)
    scenarios = []
    for name, run in runs:
        hidden = f' data-of="{escape(name)}"' if len(runs) > 1 else ""
        text = escape(scenario_text(in_place(run.scenario), policy=run.policy))
        scenarios.append(f'<pre class="source"{hidden}>{text}</pre>')
    saved = f" Save it as {escape(repeat.saved)} for the command." if repeat.saved else ""
    return (
        '<section class="card"><h2>Repeat it</h2>'
        '<p class="hint">The same scenario and seed give the same events, to the cycle.</p>'
        f'<pre class="source">{escape(repeat.command)}</pre>'
        "<details><summary>The scenario</summary>"
        f'<p class="hint">Its programs are named by where they were when this page was made.{saved}</p>'
        f"{''.join(scenarios)}</details>"
        "<details><summary>Digests over all events</summary>"
        f'<pre class="source">{escape(digests)}</pre></details></section>\n'
    )
