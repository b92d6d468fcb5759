"""From records to tables and pages: the figures are those of the runs, and what is written is whole."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_evaluations import FASTER, FEWER, made_measures, made_results

import pleemu
from pleemu.errors import ScenarioError
from pleemu.report.console import console
from pleemu.reproduce.figure import Mark, ratio_figure
from pleemu.reproduce.help_text import KEYS
from pleemu.reproduce.markdown import markdown_findings, markdown_report
from pleemu.reproduce.measures import measures_from_json, measures_to_json
from pleemu.reproduce.outcome import FILES
from pleemu.reproduce.page import page
from pleemu.reproduce.plain import results_json
from pleemu.reproduce.plan import BOTH, QUICK_SEEDS, STRICT, parts, plan
from pleemu.reproduce.published import claims
from pleemu.reproduce.results import Results
from pleemu.reproduce.statistics import Interval
from pleemu.reproduce.store import deciding_sources, key
from pleemu.reproduce.tables import change_text, measurements_table, part_findings
from pleemu.reproduce.terminal import terminal_report
from pleemu.reproduce.verdict import DIRECTION, MAGNITUDE, VERDICTS


@pytest.fixture(scope="module")
def made() -> Results:
    """Every part, with made-up runs."""
    return made_results(plan())


def test_effects_are_found_again(made: Results) -> None:
    """What was put into the runs of each policy, to the rounding of whole counts."""
    talk = made.parts[0]
    for one in talk.measurements:
        assert one.operations is not None
        assert one.exits is not None
        assert one.operations.mean == pytest.approx(FASTER.get(one.policy, 1.0), rel=1e-3)
        assert one.exits.mean == pytest.approx(FEWER.get(one.policy, 1.0), rel=1e-3)
        assert one.spinning.mean == pytest.approx(0.4)
        assert one.is_reference == (one.policy == "vanilla")


def test_findings_follow_from_them(made: Results) -> None:
    """A gain of 60 % is the talk's 40 % of time in magnitude, and of the co-runner's loss nothing is seen."""
    found = {(one.claim.measure, one.claim.policy, one.claim.beside): one for one in made.findings[::-1]}
    assert found["execution time", BOTH, ""].verdict == MAGNITUDE
    time = found["execution time", BOTH, ""].ours
    assert time is not None
    assert time.mean == pytest.approx(1 / 1.6, rel=1e-3)
    assert found["throughput", "debooster", STRICT].verdict == "no"
    assert found["continuous PLE events", "vanilla", ""].verdict == DIRECTION


def test_every_claim_has_its_finding(made: Results) -> None:
    """Once, with a setting that is one of its own."""
    for one in made.findings:
        assert one.setting in (*one.claim.settings, "all")


def test_json_has_its_keys_and_no_time_of_day(made: Results) -> None:
    """And is the same for the same runs."""
    text = results_json(made)
    assert tuple(json.loads(text)) == tuple(KEYS)
    assert text == results_json(made_results(plan()))
    assert "wall" not in text


class Balance(HTMLParser):
    """Whether every element is closed, and what is asked of the network."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.asked: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.asked += [str(value) for name, value in attrs if name in ("src", "href") and value]
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_whole_and_alone(made: Results) -> None:
    """Every part, verdict and run in it; a drawing for each part; nothing from the network."""
    text = page(made)
    balance = Balance()
    balance.feed(text)
    assert not balance.open
    assert not balance.asked
    assert "http" not in text
    assert "@import" not in text
    for part in made.parts:
        assert part.part.text[:30].replace("'", "&#x27;") in text
    assert text.count("<svg") >= len(made.parts)
    assert all(digest in text for _, digest in made.runs)


def test_markdown_tables_are_tables(made: Results) -> None:
    """Each row has as many cells as its head."""
    for text in (markdown_findings(made), markdown_report(made)):
        for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
            assert len({re.sub(r"\\\|", "", line).count("|") for line in block.strip().splitlines()}) == 1
    assert markdown_findings(made).count("\n|") >= len(made.findings)


def test_readme_has_the_table_of_all_claims() -> None:
    """As it is now: the same evaluations, measures and published results, row by row, and a verdict for each."""
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in readme.splitlines() if line.startswith("| ")]
    begin = next(number for number, row in enumerate(cells) if row[0] == "evaluation") + 2
    rows = cells[begin : begin + len(claims())]
    assert [(row[0], row[3], row[4]) for row in rows] == [(one.part, one.measure, one.text) for one in claims()]
    assert {row[6] for row in rows} <= set(VERDICTS)
    assert len(cells) == begin + len(rows) or cells[begin + len(rows)][0] not in {part.name for part in parts()}


def test_terminal_shows_every_verdict_in_a_hundred_columns(made: Results) -> None:
    """None is cut off."""
    with console(width=100).capture() as captured:
        pass
    shown = console(width=100)
    with shown.capture() as captured:
        shown.print(terminal_report(made))
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= 100
    for one in made.findings:
        assert any(line.rstrip().endswith(one.verdict) for line in lines)
    assert not any(line.rstrip().endswith("…") for line in lines)


def test_what_is_no_terminal_gets_every_column(made: Results) -> None:
    """A file is as wide as it needs to be; a terminal that is too narrow says what it lacks."""
    tables = [table for part in made.parts for table in (measurements_table(part), part_findings(part))]
    file = io.StringIO()
    console(file).print(terminal_report(made))
    heads = [re.split(" {2,}", line.strip()) for line in file.getvalue().splitlines()]
    assert all(list(table.head) in heads for table in tables)
    narrow = io.StringIO()
    console(narrow, width=90).print(terminal_report(made))
    assert "Too wide for this terminal: continuous" in narrow.getvalue()


@given(st.floats(0.01, 100), st.floats(1, 3), st.floats(1, 3))
def test_change_has_its_bounds_around_it(mean: float, above: float, below: float) -> None:
    """As text, too."""
    text = change_text(Interval(mean, mean / below, mean * above, 5))
    numbers = [float(one) for one in re.findall(r"[-+]?\d+(?:\.\d+)?", text)] if text != "the same" else [0, 0, 0]
    assert numbers[1] <= numbers[0] <= numbers[2]


@given(st.lists(st.tuples(st.text(max_size=9), st.floats(1e-3, 1e3), st.floats(1, 9)), max_size=5))
def test_drawing_stays_within_its_frame(rows: list[tuple[str, float, float]]) -> None:
    """Whatever the ratios and labels are."""
    marks = [Mark(label=label, ours=Interval(mean, mean / by, mean * by, 3), published=by) for label, mean, by in rows]
    text = ratio_figure("a < b", marks)
    box = re.search(r'viewBox="0 0 (\d+) (\d+)"', text)
    assert box is not None
    assert all(0 <= float(x) <= float(box[1]) for x in re.findall(r' (?:x|x1|x2|cx)="([-\d.]+)"', text))
    assert "a < b" not in text


def test_measures_come_back(made: Results) -> None:
    """From their record, as they went."""
    for job in plan(["talk"], seeds=2).jobs():
        measures = made_measures(job)
        assert measures_from_json(measures_to_json(measures)) == measures


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_what_is_no_record_is_refused(text: str) -> None:
    """With an error of its own, never another."""
    with pytest.raises(ScenarioError, match="not the record of a run"):
        measures_from_json(text)


@given(st.sampled_from(("exits", "waits", "operations", "digest")), st.none() | st.just(-1) | st.just(["x"]))
def test_record_with_a_wrong_value_is_refused(name: str, value: object) -> None:
    """None, a number below 0, a list of texts."""
    job = next(plan(["talk"]).jobs())
    data = json.loads(measures_to_json(made_measures(job)))
    data[name] = value
    with pytest.raises(ScenarioError):
        measures_from_json(json.dumps(data))


def test_record_that_has_changed_is_refused(made: Results) -> None:
    """Also to a value that could be one: what nobody measured is no result."""
    job = next(plan(["talk"]).jobs())
    data = json.loads(measures_to_json(made_measures(job)))
    data["exits"] += 1
    with pytest.raises(ScenarioError, match="as it was written"):
        measures_from_json(json.dumps(data))


def test_name_of_a_record_covers_all_that_decides_a_run() -> None:
    """The guests' costs and what is kept of a run, not how it is shown."""
    names = {path.relative_to(Path(pleemu.__file__).parent).as_posix() for path in deciding_sources()}
    assert names >= {"guest/costs.py", "machine/loop.py", "scenario.py", "profile.py", "reproduce/measures.py"}
    assert not {"cli.py", "report/page.py", "reproduce/verdict.py", "trace/perfetto.py"} & names


def test_runs_of_one_seed_differ_in_nothing_but_policy_or_setting() -> None:
    """Each policy runs on every seed of the others."""
    for part in parts():
        jobs = list(plan([part.name], seeds=3).jobs())
        assert len(jobs) == 3 * len(part.settings) * len(part.policies)
        by_case = {(job.setting, job.policy): [] for job in jobs}
        for job in jobs:
            by_case[job.setting, job.policy].append(job.seed)
            assert job.scenario.seed == job.seed
            assert job.scenario.policy == job.policy
        assert all(seeds == [1, 2, 3] for seeds in by_case.values())


def test_key_names_all_that_a_run_depends_on() -> None:
    """Another seed, policy, time or figure of a profile is another run; another name is the same."""
    job = next(plan(["talk"]).jobs())
    scenario = job.scenario
    vm = attrs.evolve(scenario.vm[0], parameters={"zone_locks": 56})
    others = [
        attrs.evolve(scenario, seed=2),
        attrs.evolve(scenario, policy="debooster"),
        attrs.evolve(scenario, duration_ms=201.0),
        attrs.evolve(scenario, vm=(vm, *scenario.vm[1:])),
        attrs.evolve(scenario, vm=(attrs.evolve(scenario.vm[0], profile="vips"), *scenario.vm[1:])),
    ]
    keys = {key(attrs.evolve(job, scenario=one)) for one in (scenario, *others)}
    assert len(keys) == 1 + len(others)
    assert key(attrs.evolve(job, scenario=attrs.evolve(scenario, name="another"))) in keys


def test_talks_machine_is_that_of_the_talk() -> None:
    """Two VMs of 8 vCPUs on 8 pCPUs, Linux 5.6, vCPUs that float, swaptions in the other."""
    for job in plan(["talk"], seeds=2).jobs():
        scenario = job.scenario
        assert (scenario.hardware.pcpus, [vm.vcpus for vm in scenario.vm]) == (8, [8, 8])
        assert (scenario.host.scheduler, scenario.vm[1].profile) == ("cfs-5.6", "swaptions")
        assert {vm.pinning for vm in scenario.vm} == {"none"}


def test_quick_is_quicker() -> None:
    """Fewer and shorter runs of the same."""
    quick = list(plan(quick=True).jobs())
    assert len(quick) < len(list(plan().jobs())) / 2
    assert {job.seed for job in quick} == set(range(1, 1 + QUICK_SEEDS))


def test_files_are_named_in_the_help(tmp_path: Path) -> None:
    """What an evaluation leaves, and where."""
    assert set(FILES) == {"results.json", "results.md", "report.html"}
