"""Pages for a browser: what is in them, and in headless Chromium what they do."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from html import unescape
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import scenarios

import pleemu
from pleemu.cli import main
from pleemu.errors import PleemuError
from pleemu.experiment.in_hand import Result
from pleemu.report.explain_report import sentences
from pleemu.report.page import Repeat, page
from pleemu.report.page_data import case_data
from pleemu.report.page_part import part_of
from pleemu.report.places import PARTS, PENDING, UNTOLD
from pleemu.report.scenario_text import in_place, scenario_text
from pleemu.scenario import Scenario, from_dict
from pleemu.trace.columns import tables
from pleemu.trace.recording import record

HERE = Path(__file__).parent
REPEAT = Repeat(command="pleemu run <it>", explain="pleemu explain it")


@cache
def run_of(name: str) -> Result:
    return pleemu.run(name, duration="60ms" if name == "worst_case" else "20ms")


def data_of(html: str) -> dict[str, Any]:
    (packed,) = re.findall(r'id="data">([^<]*)<', html)
    found: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(packed)), parse_constant=pytest.fail)
    return found


@given(scenarios())
def test_text_of_any_scenario_repeats_it(scenario: Scenario) -> None:
    """Read as TOML it is the same scenario."""
    assert from_dict(tomllib.loads(scenario_text(scenario)), folder=scenario.folder) == scenario


@pytest.mark.parametrize("name", ["worst_case", "testbed", "locks", "boost_latency"])
def test_text_of_a_shipped_scenario_is_short(name: str) -> None:
    """It says what differs from the defaults, parameters and variants too."""
    scenario = pleemu.load_scenario(name, fields={"host.hz": 1000, "vm.0.memory_kib": 1024})
    text = scenario_text(scenario, policy="debooster")
    read = from_dict(tomllib.loads(text), folder=scenario.folder)
    assert (read.policy, read.host.hz, read.vm, read.variant) == ("debooster", 1000, scenario.vm, scenario.variant)
    assert "ple_gap" not in text


def test_own_policy_is_a_comment_in_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scenario's file cannot name one, be it the scenario's own."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("def refuses(me, candidate):\n    return 0\n")
    own = scenario_text(pleemu.load_scenario("worst_case", policy="./mine.py"))
    assert own.startswith("# --policy ./mine.py\n")
    assert "policy" not in tomllib.loads(own)
    text = scenario_text(pleemu.load_scenario("worst_case"), policy="kvm-6.19+./mine.py")
    assert text.startswith("# --policy kvm-6.19+./mine.py\n")
    from_dict(tomllib.loads(text))


def test_page_asks_nobody_for_anything() -> None:
    """Its policy allows exactly the style and the script that are in it; names from outside are text."""
    html = page([("<b>", run_of("worst_case").recording())], REPEAT)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'")
    for tag in ("style", "script"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy[1]
    assert not re.search(r"https?://|@import|url\(", html)
    assert " style=" not in html
    assert "<it>" not in html
    assert "pleemu run &lt;it&gt;" in html


@pytest.mark.parametrize("name", ["worst_case", "shootdown", "ticket_lock"])
@pytest.mark.parametrize(("rows", "records"), [(10**9, 10**9), (3_000, 10**9), (10**9, 40), (500, 20)])
def test_page_holds_what_it_may(name: str, rows: int, records: int) -> None:
    """All of a short run; of another as much as is allowed, with its longest run, and it says so."""
    recording = run_of(name).recording()
    found = tables(recording)
    part = part_of(recording, found, rows=rows, records=records)
    times = [found[table]["time_ns"] for table in ("switches", "exits", "spans", "windows")]
    inside = sum(int(((one >= part.begin) & (one < part.end)).sum()) for one in times)
    exits = found["decisions"]["time_ns"]
    assert inside <= rows
    assert ((exits >= part.begin) & (exits < part.end)).sum() <= records
    assert part.whole == (sum(map(len, times)) <= rows and len(exits) <= records)
    if recording.run.ple.runs:
        assert part.begin <= recording.run.ple.runs[0].start_ns < part.end
    data = case_data("x", recording, rows=rows, records=records)
    assert bool(data["part"]) == (not part.whole)
    assert len(data["records"]) <= records
    json.dumps(data, allow_nan=False)


def test_numbers_of_a_page_are_those_of_the_run() -> None:
    """PAUSE exits by vCPU, by place, by window and by length of run; time of each thread on its pCPUs."""
    result = run_of("shootdown")
    (data,) = data_of(page([("x", result.recording())], REPEAT))["cases"]
    shown = [number for row in data["exits"] for number in row["number"] if number > 0]
    assert sorted(shown) == list(range(1, result.ple.exits + 1))
    assert sum(sum(counts) for _, counts in data["symbols"]) == result.ple.exits
    assert sum(sum(counts) for _, counts in data["verdicts"]) == result.ple.exits
    assert sum(exits for _, exits in data["windowsAt"]) == result.ple.exits
    assert sum(exits for *_, exits in data["lengths"]) == result.ple.exits
    ran = dict.fromkeys(range(len(data["threads"])), 0)
    for row in data["cpus"]:
        times = [sum(row["t"][: k + 1]) for k in range(len(row["t"]))] + [data["end"]]
        for thread, begin, end in zip(row["thread"], times, times[1:], strict=False):
            if thread >= 0:
                ran[thread] += end - begin
    total = result.duration_ns * result.scenario.hardware.pcpus
    for number, vm in enumerate(result.vms):
        of_vm = sum(ran[thread] for thread, owner in enumerate(data["vmOf"]) if owner == number)
        assert of_vm / total == pytest.approx(vm.cpu_share, abs=0.01)
    for story in result.recording().stories:
        assert data["records"][str(story.number)]["said"] == list(sentences(story))


@given(st.integers(1, 2_000))
@settings(max_examples=8)
def test_beginning_of_a_run_is_its_first_events(limit: int) -> None:
    """As many as are allowed, and nothing behind them; a page is made of them, too."""
    run = run_of("worst_case")
    some = record(run, run.again.policy, run.again.programs, limit=limit, stories=10, beginning=True)
    whole = run.recording()
    assert len(some.events) == min(limit, len(whole.events))
    assert (some.events == whole.events[: len(some.events)]).all()
    assert [one.number for one in some.stories] == list(range(1, 11))
    assert not some.whole
    assert whole.whole
    assert "its beginning" in data_of(page([("x", some)], REPEAT))["cases"][0]["part"]


@given(st.integers(200, 9_000) | st.just(10**9), st.integers(0, 400) | st.just(10**9))
@settings(max_examples=12)
def test_charts_of_a_part_count_the_whole_run_or_say_what(events: int, stories: int) -> None:
    """Whatever of a run was too much to be recorded: no number is silently of a part, and no caption is wrong."""
    run = run_of("ticket_lock")
    some = record(run, run.again.policy, run.again.programs, limit=events, stories=stories, beginning=True)
    data = case_data("x", some)
    captions = data["captions"]
    for chart in ("symbols", "verdicts"):
        assert sum(sum(counts) for _, counts in data[chart]) == run.ple.exits
    assert ("kept by VM only" in captions["symbols"]) == (not some.whole)
    untold = sum(counts[PARTS.index(UNTOLD)] for _, counts in data["symbols"])
    assert untold == (0 if some.whole else run.ple.exits)
    at_windows = sum(exits for _, exits in data["windowsAt"])
    if some.every_event:
        assert at_windows == run.ple.exits == sum(exits for *_, exits in data["lengths"])
        assert captions["lengths"].startswith("PAUSE exits by the length")
    else:
        assert f"the first {at_windows:,} of {run.ple.exits:,}" in captions["windows"]
        assert {length: runs for length, runs, _ in data["lengths"]} == run.ple.run_lengths
        assert captions["lengths"].startswith("Runs of PAUSE exits")


def test_exits_that_are_pending_at_the_end_are_counted_as_that() -> None:
    """By place and by VM as many, beside those with a verdict, and the page says it of each."""
    run = pleemu.run("ticket_lock", duration="30ms")
    missing = run.ple.exits - run.decisions.total.judged
    assert missing > 0
    data = case_data("x", run.recording())
    for chart in ("symbols", "verdicts"):
        assert sum(counts[PARTS.index(PENDING)] for _, counts in data[chart]) == missing
    shown = [verdict for row in data["exits"] for verdict in row["verdict"]]
    assert shown.count(PARTS.index(PENDING)) == missing


@pytest.mark.parametrize("name", ["case_study", "barrier", "wake_up"])
def test_page_of_a_run_without_pause_exits(name: str) -> None:
    """It is a page all the same."""
    run = pleemu.run(name, policy="no-ple", duration="5ms")
    (data,) = data_of(page([("x", run.recording())], REPEAT))["cases"]
    assert data["records"] == {}
    assert data["figures"]["exits"] == 0


def test_page_needs_no_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither pandas nor matplotlib."""
    for package in ("pandas", "pyarrow", "matplotlib"):
        monkeypatch.setitem(sys.modules, package, None)
    pleemu.run("case_study", duration="10ms").to_html(tmp_path / "out.html")
    assert (tmp_path / "out.html").read_text().startswith("<!doctype html>")


def test_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the command that repeats it; of a comparison one page of all runs."""
    path = tmp_path / "out.html"
    assert main(["run", "case_study", "--duration", "20ms", "--report", str(path), "--policy", "debooster"]) == 0
    assert "PAUSE_INSTRUCTION" in capsys.readouterr().out
    assert "pleemu run case_study --policy debooster --duration 20ms" in path.read_text()
    both = tmp_path / "both.html"
    arguments = ["--duration", "20ms", "--report", str(both), "--policies", "vanilla,debooster", "--json"]
    assert main(["compare", "case_study", *arguments]) == 0
    assert [run["policy"] for run in json.loads(capsys.readouterr().out)["runs"]] == ["vanilla", "debooster"]
    cases = data_of(both.read_text())["cases"]
    assert [one["name"] for one in cases] == ["vanilla", "debooster"]
    assert cases[1]["explain"] == "pleemu explain case_study --duration 20ms --policy debooster"


FIELDS = {"vm.pinning": [0, 0], "kvm.ple_gap": None, "kvm.apicv": False}
MADE_IN_PYTHON: dict[str, Callable[[Any], Any]] = {
    "policies": lambda given: pleemu.compare("worst_case", "vanilla,debooster", **given),
    "policies, of an object": lambda given: pleemu.compare(named('it\'s "it"/$x', given), ["vanilla", "debooster"]),
    "across": lambda given: pleemu.compare("worst_case", across={"host.hz": [250, 1000]}, fields=FIELDS, **given),
    "across, and policies": lambda given: pleemu.compare(
        named("x", given), ["no-ple", "./mine.py"], across={"vm.0.pinning": [[0, 0], "none"], "vm.1.nice": [1, 2]}
    ),
    "usual policies": lambda given: pleemu.compare("worst_case", fields={"host.hz": 100}, seed=3, **given),
    "variants": lambda given: pleemu.compare("locks", **given),
    "a file": lambda given: pleemu.run("worst_case", policy=Path("mine.py"), seed=5, **given),
    "a file, of an object": lambda given: pleemu.run(pleemu.load_scenario("worst_case", policy="./mine.py", **given)),
    "a row": lambda given: pleemu.compare("worst_case", "debooster", **given)[0],
    "a program": lambda given: pleemu.run(HERE / "guests" / "ping.S", vcpus=2, fields={"vm.0.nice": -3}, **given),
    "an application": lambda given: pleemu.run(pleemu.load_scenario("testbed", **given)),
}


def named(name: str, given: dict[str, Any]) -> Scenario:
    return attrs.evolve(pleemu.load_scenario("worst_case", **given), name=name)


@pytest.mark.parametrize("what", MADE_IN_PYTHON)
def test_command_on_a_page_from_python_repeats_it(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the page says makes the same runs; where it takes the page's own scenario, from wherever that is saved."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("def refuses(me, candidate):\n    return 0\n")
    made = MADE_IN_PYTHON[what]({"duration": "3ms"})
    made.to_html("page.html")
    text = Path("page.html").read_text()
    command, scenario = map(unescape, re.findall(r'<pre class="source"[^>]*>(.*?)</pre>', text, re.DOTALL)[:2])
    for saved in re.findall("Save it as (.*?) for the command", text):
        Path(unescape(saved)).write_text(scenario)
    program, *arguments = shlex.split(command)
    assert program == "pleemu"
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    digests = [one["digest"] for one in found["runs"]] if "runs" in found else [found["digest"]]
    assert digests == [run.digest for run in (made if isinstance(made, tuple) else [made])]


def test_page_says_what_no_command_repeats(tmp_path: Path) -> None:
    """Functions; and rows that no option makes are repeated one by one."""
    path = tmp_path / "page.html"
    pleemu.compare("worst_case", ["vanilla", lambda me, candidate: 0], duration="2ms").to_html(path)
    assert re.search(r"# &lt;lambda&gt;@\w+ was given in Python, and no command can name it<", path.read_text())
    pleemu.compare(pleemu.load_scenario("locks", duration="2ms")).to_html(path)
    assert "pleemu run locks.toml  # each run by itself: its scenario is below<" in path.read_text()


def test_program_that_is_not_there_is_named_with_its_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By whatever command reads it."""
    path = tmp_path / "s.toml"
    path.write_text('[[vm]]\nname = "a"\nprogram = "lock.S"\n')
    for command in ("run", "compare", "explain", "disasm"):
        assert main([command, str(path)]) == 2
        assert f"vm.0.program: {tmp_path}/lock.S: no such file; " in capsys.readouterr().err


def test_page_that_cannot_be_written_is_said_before_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line."""
    assert main(["run", "case_study", "--report", str(tmp_path / "no" / "out.html")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert main(["compare", "case_study", "--report", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err
    with pytest.raises(PleemuError, match=r"to_html .*: that is a folder; name a file"):
        run_of("worst_case").to_html(tmp_path)


# ---- In a browser -------------------------------------------------------------------------------

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1400,1000"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.common.exceptions import SessionNotCreatedException
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("chromium or chromedriver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    try:
        opened = webdriver.Chrome(options=options, service=Service(driver))
    except SessionNotCreatedException as error:
        pytest.skip(f"chromium does not start here: {str(error.msg).splitlines()[0]}")
    yield opened
    opened.quit()


@pytest.fixture(scope="module")
def results() -> Any:
    return pleemu.compare("worst_case", "vanilla,debooster,no-ple", duration="60ms")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, results: Any) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    run_of("worst_case").to_html(folder / "one.html")
    results.to_html(folder / "many.html")
    return folder


def open_page(browser: Any, path: Path, hash_: str = "") -> None:
    """Open a page and wait for it; whatever the browser complained about is a failure."""
    from selenium.webdriver.support.wait import WebDriverWait

    browser.get("about:blank")
    browser.get(f"{path.as_uri()}{hash_}")
    WebDriverWait(browser, 30).until(lambda one: one.execute_script("return document.documentElement.dataset.ready"))
    assert browser.get_log("browser") == []


def span_of(browser: Any) -> tuple[float, float]:
    begin, end = browser.execute_script("return [pleemu.view.begin, pleemu.view.end]")
    return begin, end


def changed(browser: Any, before: tuple[float, float]) -> tuple[float, float]:
    """Wait until something else is shown."""
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(browser, 10).until(lambda _: span_of(browser) != before)
    return span_of(browser)


def frame(browser: Any) -> None:
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def test_browser_opens_without_errors_and_without_a_network(browser: Any, pages: Path) -> None:
    """No complaint in the console, no request, and something is drawn."""
    open_page(browser, pages / "one.html")
    frame(browser)
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    colours = browser.execute_script(
        "const c = document.getElementById('timeline'); const d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; const s = new Set();"
        "for (let k = 0; k < d.length; k += 4) s.add(d[k] << 16 | d[k + 1] << 8 | d[k + 2]); return s.size"
    )
    assert colours > 10
    exits = browser.find_element("css selector", "#figures b").text
    assert exits.replace(",", "") == str(run_of("worst_case").ple.exits)
    assert browser.get_log("browser") == []


def test_browser_shows_the_number_of_a_vcpu_whose_name_is_long(browser: Any, tmp_path: Path) -> None:
    """In the labels of the lanes, which have little room; above them the VM's name is whole."""
    names = {"vm.0.name": "web-frontend", "vm.1.name": "database-server-of-somebody"}
    pleemu.run("worst_case", duration="20ms", fields=names).to_html(tmp_path / "out.html")
    open_page(browser, tmp_path / "out.html")
    drawn = browser.execute_script(
        "pleemu.view.drawNow(); const texts = []; const pen = pleemu.view.pen;"  # before the first frame there is none
        "pen.fillText = (text) => texts.push(text);"
        "pleemu.view.drawNow(); delete pen.fillText; return texts"
    )
    assert set(names.values()) <= set(drawn)
    short = [one for one in drawn if "…" in one]
    assert sorted(one.rpartition("…")[2] for one in short) == ["/0", "/0", "/1", "/1"]


def test_browser_zooms_and_moves(browser: Any, pages: Path) -> None:
    """By keys, by the wheel, by dragging, by buttons; and never beyond the run."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
    from selenium.webdriver.common.keys import Keys

    open_page(browser, pages / "one.html")
    canvas = browser.find_element("id", "timeline")
    first = span_of(browser)
    body = browser.find_element("tag name", "body")
    body.send_keys("w")
    keyed = span_of(browser)
    assert first[0] <= keyed[0] < keyed[1] <= first[1]
    assert keyed[1] - keyed[0] == pytest.approx((first[1] - first[0]) * 0.6, rel=1e-6)
    body.send_keys("d")
    assert span_of(browser)[0] > keyed[0]
    ActionChains(browser).move_to_element(canvas).click().perform()
    before = span_of(browser)
    ActionChains(browser).scroll_from_origin(ScrollOrigin.from_element(canvas), 0, -400).perform()
    wheeled = changed(browser, before)
    assert wheeled[1] - wheeled[0] < before[1] - before[0]
    ActionChains(browser).move_to_element(canvas).click_and_hold().move_by_offset(120, 0).release().perform()
    dragged = span_of(browser)
    assert dragged[0] < wheeled[0]
    assert dragged[1] - dragged[0] == pytest.approx(wheeled[1] - wheeled[0])
    ActionChains(browser).move_to_element(canvas).key_down(Keys.SHIFT).click_and_hold().move_by_offset(
        200, 0
    ).release().key_up(Keys.SHIFT).perform()
    assert span_of(browser)[1] - span_of(browser)[0] < dragged[1] - dragged[0]
    for _ in range(60):
        body.send_keys("w")
    assert span_of(browser)[1] - span_of(browser)[0] >= 400
    browser.find_element("id", "all").click()
    assert span_of(browser) == first
    body.send_keys("s")
    assert span_of(browser) == first
    assert browser.get_log("browser") == []


def test_browser_explains_the_exit_that_is_clicked(browser: Any, pages: Path) -> None:
    """Where its mark is: the same sentences that `pleemu explain` prints, each candidate, and what refused it."""
    from selenium.webdriver.common.action_chains import ActionChains

    open_page(browser, pages / "one.html")
    browser.find_element("id", "longest").click()
    browser.execute_script("pleemu.view.choose(0, false)")
    story = run_of("worst_case").recording().stories[run_of("worst_case").ple.runs[0].first_exit]  # the second one
    frame(browser)
    browser.execute_script("document.getElementById('timeline').scrollIntoView({block: 'center'})")
    canvas = browser.find_element("id", "timeline")
    x, width = browser.execute_script(
        f"return [pleemu.view.x(pleemu.view.one.place.get({story.number}).t), pleemu.view.canvas.clientWidth]"
    )
    y, height = browser.execute_script(
        f"const row = pleemu.view.rows.find(r => r.kind === 'cpu' && r.cpu === {story.pcpu});"
        "return [row.y + 4, pleemu.view.canvas.clientHeight]"
    )
    assert 92 < x < width
    move = ActionChains(browser).move_to_element_with_offset(canvas, round(x - width / 2), round(y - height / 2))
    move.perform()
    assert f"PAUSE exit {story.number:,} of {story.spinner}" in browser.find_element("id", "tip").text
    move.click().perform()
    shown = browser.find_element("css selector", "#record [data-exit]")
    assert shown.get_attribute("data-exit") == str(story.number)
    assert [one.text for one in shown.find_elements("css selector", "p:not(.hint)")] == list(sentences(story))
    looked = [row.text for row in shown.find_elements("css selector", ".looked tr")[1:]]
    assert len(looked) == len(story.looked_at) > 0
    for text, look in zip(looked, story.looked_at, strict=True):
        assert look.vcpu in text
        assert (look.rule or "asked for") in text
    assert shown.find_element("css selector", ".pill").text == story.verdict
    browser.find_element("id", "after").click()
    assert browser.find_element("css selector", "#record [data-exit]").get_attribute("data-exit") == str(
        story.number + 1
    )
    assert browser.get_log("browser") == []


def test_browser_goes_on_from_the_middle_of_what_is_shown(browser: Any, pages: Path) -> None:
    """To the exit behind it or before it, while none is selected; where there is none, to the last or the first."""
    open_page(browser, pages / "one.html")
    times = [one.at_ns for one in run_of("worst_case").recording().stories]
    last = len(times)

    def chosen(middle: float, step: int) -> int:
        number: int = browser.execute_script(
            f"const {{view}} = pleemu; view.selected = 0; view.begin = {middle - 200}; view.end = {middle + 200};"
            f"view.next({step}); return view.selected"
        )
        return number

    between = (times[9] + times[10]) / 2
    assert [chosen(between, step) for step in (1, -1)] == [11, 10]
    assert [chosen(times[-1] + 1_000, step) for step in (1, -1)] == [last, last]
    assert [chosen(times[0] - 1_000, step) for step in (1, -1)] == [1, 1]


def test_browser_says_that_there_is_nothing(browser: Any, pages: Path) -> None:
    """In each chart of a run without PAUSE exits."""
    open_page(browser, pages / "many.html", "#case=no-ple")
    assert {browser.find_element("id", chart).text for chart in ("symbols", "lengths", "windows")} == {"none"}


def test_browser_shows_the_run_that_is_chosen(browser: Any, pages: Path, results: Any) -> None:
    """Of several: its timeline, figures and tables; and one without PAUSE exits, too; light and dark."""
    open_page(browser, pages / "many.html")
    for name in ("debooster", "no-ple", "vanilla"):
        browser.find_element("css selector", f"tr[data-case='{name}']").click()
        frame(browser)
        assert browser.find_element("css selector", "#figures b").text == f"{results[name].ple.exits:,}"
        shown = [
            one.get_attribute("data-of") for one in browser.find_elements("css selector", "[data-of]:not([hidden])")
        ]
        assert set(shown) == {name}
        source = browser.find_element("css selector", "pre[data-of]:not([hidden])").get_attribute("textContent")
        scenario = from_dict(tomllib.loads(source), folder=results[name].scenario.folder)
        assert attrs.evolve(in_place(results[name].scenario), policy=name) == scenario
        browser.find_element("id", "longest").click()
    before = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    browser.find_element("id", "theme").click()
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") != before
    assert browser.get_log("browser") == []


def test_browser_heads_a_comparison_with_the_chosen_run(browser: Any, tmp_path: Path) -> None:
    """Its machine and its VMs are those of that run, and all seeds are named."""
    results = pleemu.compare("worst_case", across={"vm.0.vcpus": [2, 3], "seed": [1, 7]}, duration="5ms")
    results.to_html(tmp_path / "out.html")
    open_page(browser, tmp_path / "out.html")
    assert browser.find_element("css selector", "h1").text.endswith("4 runs, seeds 1, 7")
    for name, run in results.items():
        browser.find_element("css selector", f"tr[data-case='{name}']").click()
        (facts,) = browser.find_elements("css selector", ".facts:not([hidden])")
        assert facts.text.startswith(f"vm.0.vcpus, seed: {name}; ")
        assert f"{run.scenario.vm[0].name} ({run.scenario.vm[0].vcpus} vCPUs)" in facts.text


def test_browser_opens_a_page_at_an_exit(browser: Any, pages: Path) -> None:
    """Its address says which run and which exit."""
    open_page(browser, pages / "many.html", "#case=debooster&exit=3")
    assert browser.find_element("css selector", "tr.chosen").get_attribute("data-case") == "debooster"
    assert browser.find_element("css selector", "#record [data-exit]").get_attribute("data-exit") == "3"
