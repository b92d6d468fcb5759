"""The results as one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from pleemu.reproduce import published
from pleemu.reproduce.figure import Mark, ratio_figure
from pleemu.reproduce.published import RATIO
from pleemu.reproduce.results import Measurement, PartResult, Results
from pleemu.reproduce.statistics import Interval
from pleemu.reproduce.tables import COLUMNS_HELP, HOW, Table, findings_table, measurements_table
from pleemu.reproduce.terminal import tally
from pleemu.reproduce.verdict import DIRECTION, MAGNITUDE, NOT, OPEN

_CLASSES = {MAGNITUDE: "good", DIRECTION: "fair", OPEN: "open", NOT: "bad"}

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --c0: #2563a8; --c1: #b4530a; --c2: #2f7d4f; --mark: #a02060; }
@media (prefers-color-scheme: dark) { :root { --c0: #7ab0ec; --c1: #eda35f; --c2: #79c99a; --mark: #f08ab8; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem; max-width: 76rem; }
h1, h2 { font-weight: 600; line-height: 1.2; } h2 { margin-top: 2.5rem; }
p { max-width: 52rem; } .note { opacity: .75; font-size: 13px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem .25rem 0; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th.left, td.left { text-align: left; } th { font-weight: 600; }
.good { color: #2f8f4f; font-weight: 600; } .fair { color: #2f8f4f; } .bad { color: #c0392b; } .open { opacity: .7; }
svg { display: block; max-width: 100%; height: auto; margin: 1rem 0; font: 12px system-ui, sans-serif; }
svg text { fill: currentColor; } svg .title { font-weight: 600; font-size: 13px; }
svg .label { text-anchor: end; } svg .tick { text-anchor: middle; opacity: .7; }
svg .grid { stroke: var(--line); } svg .one { stroke: currentColor; opacity: .6; }
svg .bar { stroke-width: 2; } svg .published { fill: none; stroke: var(--mark); stroke-width: 1.5; }
.c0 circle { fill: var(--c0); } .c0 .bar { stroke: var(--c0); }
.c1 circle { fill: var(--c1); } .c1 .bar { stroke: var(--c1); }
.c2 circle { fill: var(--c2); } .c2 .bar { stroke: var(--c2); }
details { margin-top: 2rem; }
"""


def page(results: Results) -> str:
    """Return the page as HTML: tables, drawings, and how it was made."""
    body = [
        "<h1>The evaluation, reproduced</h1>",
        f"<p>{escape(tally(results))}</p>",
        _table(findings_table(results), verdicts=True),
        *(f"<p><b>{head}.</b> {escape(text)}</p>" for head, text in HOW),
        *(line for part in results.parts for line in _part(part)),
        f'<p class="note">{escape(COLUMNS_HELP)} In the drawings, a diamond is what was published.</p>',
        _sources(results),
        _runs(results),
    ]
    head = f"<meta charset='utf-8'><title>pleemu reproduce</title><style>{_STYLE}</style>"
    viewport = "<meta name='viewport' content='width=device-width'>"
    begin = f"<!doctype html>\n<html lang='en'><head>{head}{viewport}</head><body>"
    return "\n".join([begin, *body, "</body></html>\n"])


def _part(result: PartResult) -> Iterator[str]:
    table = measurements_table(result)
    yield f"<h2>{escape(table.title)}</h2>"
    yield from (f"<p>{escape(note)}</p>" for note in table.notes)
    for measure in (published.OPERATIONS, published.EXITS):
        marks = list(_marks(result, measure))
        if marks:
            yield ratio_figure(f"{measure}, beside {_reference(result)}", marks)
    yield _table(table)


def _reference(result: PartResult) -> str:
    part = result.part
    return part.policies[part.reference] if len(part.policies) > 1 else "the reference"


def _marks(result: PartResult, measure: str) -> Iterator[Mark]:
    """Return a row for each measurement that is no reference, with what was published of exactly that."""
    policies = list(result.part.policies)
    for one in result.measurements:
        ours = _of(one, measure)
        if not one.is_reference:
            several = len(policies) > 2
            yield Mark(
                label=f"{one.setting}, {result.part.policies[one.policy]}" if several else one.setting,
                ours=ours,
                published=_published(result, one, measure),
                color=max(0, policies.index(one.policy) - 1),
            )


def _of(one: Measurement, measure: str) -> Interval:
    return one.exits if measure == published.EXITS else one.operations


def _published(result: PartResult, one: Measurement, measure: str) -> float | None:
    for finding in result.findings:
        claim = finding.claim
        here = (finding.setting, claim.policy, claim.beside) == (one.setting, one.policy, "")
        if claim.kind != RATIO or claim.value is None or not here:
            continue
        if claim.measure == measure:
            return claim.value
        if (claim.measure, measure) == (published.TIME, published.OPERATIONS):
            return 1 / claim.value
    return None


def _table(table: Table, *, verdicts: bool = False) -> str:
    def cell(number: int, text: str, tag: str = "td") -> str:
        names = ["left"] if number < table.left or (verdicts and number == len(table.head) - 1) else []
        names += [_CLASSES[text]] if verdicts and text in _CLASSES else []
        kind = f' class="{" ".join(names)}"' if names else ""
        return f"<{tag}{kind}>{escape(text)}</{tag}>"

    head = "".join(cell(number, text, "th") for number, text in enumerate(table.head))
    rows = ["<tr>" + "".join(cell(number, text) for number, text in enumerate(row)) + "</tr>" for row in table.rows]
    return f'<div class="wide"><table><tr>{head}</tr>\n' + "\n".join(rows) + "</table></div>"


def _sources(results: Results) -> str:
    rows = dict.fromkeys(
        (claim.part, claim.measure, claim.text, claim.source, claim.note)
        for claim in (one.claim for one in results.findings)
    )
    table = Table(title="", head=("evaluation", "of", "published", "source", "differs"), rows=tuple(rows), left=5)
    return f"<h2>Sources</h2>{_table(table)}"


def _runs(results: Results) -> str:
    rows = tuple((job.part, job.setting, job.policy, str(job.seed), digest) for job, digest in results.runs)
    table = Table(title="", head=("evaluation", "setting", "policy", "seed", "digest of events"), rows=rows, left=5)
    return f"<details><summary>All {len(rows)} runs</summary>{_table(table)}</details>"
