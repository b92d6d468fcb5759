"""Data in hand: frames agree with the counters, which were kept another way."""

from __future__ import annotations

import itertools
import re
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import any_name, runs, scenarios, storm, storms

import pleemu
from pleemu.errors import PleemuError
from pleemu.experiment.compare import cases_of
from pleemu.experiment.compare import compare as compare_cases
from pleemu.experiment.in_hand import Results, in_hand
from pleemu.hardware.isa import PROBE_BARRIER_WAIT, PROBE_IPI_WAIT, PROBE_LOCK_ACQUIRED, PROBE_LOCK_WAIT
from pleemu.policy import policy
from pleemu.report.html import compare_html, run_html
from pleemu.trace.columns import continuous_runs, tables
from pleemu.trace.recording import record
from pleemu.trace.spans import spans_of

pandas = pytest.importorskip("pandas", reason="pandas is not installed")
SCENARIOS = ("worst_case", "overboost", "shootdown", "ticket_lock")


@pytest.fixture(scope="module", params=SCENARIOS)
def result(request: pytest.FixtureRequest) -> Any:
    return pleemu.run(request.param, duration="20ms")


def test_exits_are_those_that_were_counted(result: Any) -> None:
    """By VM and reason: as many, and from kvm_exit to kvm_entry the same least and most."""
    exits = result.frames()["exits"]
    assert len(exits) == sum(row.count for row in result.exits) > 0
    for row in result.exits:
        mine = exits[(exits.vm == row.vm) & (exits.exit_reason == row.reason)]
        assert (len(mine), mine.host_ns.count()) == (row.count, row.timed)
        if row.timed:
            assert (mine.host_ns.min(), mine.host_ns.max()) == pytest.approx((row.min_ns, row.max_ns), abs=1)
    pause = exits[exits.number.notna()]
    assert pause.number.tolist() == list(range(1, result.ple.exits + 1))
    assert pause.guest_ns.mean() == pytest.approx(result.ple.guest_ns, abs=1)
    functions = Counter(re.sub(r"\+0x[0-9a-f]+$", "", one) for one in pause.symbol)
    assert functions.total() == sum(result.ple.by_symbol.values())


def test_runs_are_those_that_were_counted(result: Any) -> None:
    """By length in powers of two; and the longest one with its window and its number."""
    found = result.frames()["runs"]
    lengths = Counter(1 << (int(length).bit_length() - 1) for length in found.length)
    assert dict(lengths) == result.ple.run_lengths
    assert found.length[found.length > 1].sum() == result.ple.continuous
    longest = result.ple.runs[0]
    (same,) = found[found["first"] == longest.first_exit].itertuples()
    assert (same.length, same.guest_rip, same.vcpu_id) == (longest.length, longest.address, longest.vcpu)
    assert (same.first_window, same.last_window) == (longest.first_window, longest.last_window)


def test_decisions_are_those_that_were_judged(result: Any) -> None:
    """As many of each verdict, as many honoured yields; and each is an exit of the same time and address."""
    frames = result.frames()
    decisions, total = frames["decisions"], result.decisions.total
    for verdict in ("useful", "wasted", "irrelevant", "nobody", "unknown"):
        assert (decisions.verdict == verdict).sum() == getattr(total, verdict)
    joined = decisions.merge(frames["exits"], on="number", suffixes=("", "_of_exit"))
    assert len(joined) == len(decisions) > 0
    for name in ("time_ns", "cpu", "vcpu_id", "guest_rip"):
        assert (joined[name] == joined[f"{name}_of_exit"]).all()
    yields = frames["yields"]
    assert (yields.hypercall == 0).sum() == sum(one.attempts for one in result.boosts)
    assert decisions.honoured.sum() == pytest.approx(sum(one.honoured for one in result.boosts), abs=2)


def test_operations_and_shares_are_those_that_were_counted(result: Any) -> None:
    """Operations by VM; and the time between switches is what the VMs had of the pCPUs."""
    frames = result.frames()
    done = frames["operations"].groupby("vm", observed=False).size()
    assert all(done.get(vm.name, 0) == vm.operations for vm in result.vms)
    switches = frames["switches"].astype({"next": str, "prev": str})
    assert (switches.next != switches.prev).mean() > 0.9
    until = switches.groupby("cpu").time_ns.shift(-1).fillna(result.duration_ns)
    spent = (until - switches.time_ns).groupby(switches.next.str.rpartition("/")[0]).sum()
    total = result.duration_ns * result.scenario.hardware.pcpus
    for vm in result.vms:
        assert spent.get(vm.name, 0) / total == pytest.approx(vm.cpu_share, abs=0.01)


def test_windows_are_a_chain(result: Any) -> None:
    """What a vCPU's window grows from is what it was last set to."""
    for _, mine in result.frames()["windows"].groupby(["vm", "vcpu_id"], observed=True):
        assert (mine.old.iloc[1:].to_numpy() == mine.new.iloc[:-1].to_numpy()).all()


def test_vruntimes_are_charged_by_the_switches(result: Any) -> None:
    """Between a switch to a thread and the next switch of its pCPU it is charged that time, no more and no less."""
    frames = result.frames()
    switches, charges = frames["switches"].astype({"next": str, "prev": str}), frames["vruntimes"]
    until = switches.groupby("cpu").time_ns.shift(-1)
    spent = (until - switches.time_ns).groupby(switches.next).sum()
    charged = charges.groupby("thread", observed=True).charged_ns.sum()
    assert set(charged.index) == set(spent.index) - {"idle"}
    for thread, ns in charged.items():
        last = switches[switches.next == thread].time_ns.max()
        assert spent[thread] <= ns <= spent[thread] + (result.duration_ns - last)


def test_distance_of_a_refused_nomination_is_between_two_vruntimes() -> None:
    """As told last before: from the least of a pCPU to the target, which need not have run yet."""
    frames = pleemu.run("worst_case", duration="60ms").frames()
    decisions, moves, yields = frames["decisions"], frames["vruntimes"], frames["yields"]
    refused = decisions[(decisions.hint != "") & (decisions.target != "")]
    assert len(refused) > 50
    for one in refused.itertuples():
        its = yields[(yields.vm == one.vm) & (yields.vcpu_id == one.vcpu_id) & (yields.time_ns >= one.time_ns)]
        before = moves[moves.time_ns <= its.time_ns.iloc[0]]
        latest = before.groupby("thread", observed=True).vruntime_ns.last()
        assert latest[one.target] - latest.min() == one.distance_ns


def test_migrations_take_a_thread_from_queue_to_queue() -> None:
    """Each from where the one before has left it; the vruntime is that of the new queue, told at once."""
    fields = {"vm.0.profile": "ebizzy-M", "vm.0.parameters.sleeps": 20, "vm.0.parameters.wakeups": 20, "vm.1.vcpus": 2}
    frames = pleemu.run("testbed", duration="60ms", fields=fields).frames()
    moves, vruntimes = frames["migrations"], frames["vruntimes"]
    assert len(moves) > 20
    for thread, mine in moves.groupby("thread", observed=True):
        assert mine.orig_cpu.iloc[1:].tolist() == mine.dest_cpu.iloc[:-1].tolist()
        told = vruntimes[vruntimes.thread == thread]
        for one in mine.itertuples():
            assert one.dest_cpu in set(told[told.time_ns == one.time_ns].cpu)


def test_a_lock_has_one_holder() -> None:
    """Critical sections of one lock do not overlap, and each follows a wait of its vCPU."""
    spans = pleemu.run("worst_case", duration="20ms").frames()["spans"]
    held = spans[spans.what == "critical section"]
    assert len(held) > 10
    for _, mine in held.groupby(["vm", "address"], observed=True):
        assert (mine.time_ns + mine.duration_ns).iloc[:-1].to_numpy().tolist() <= mine.time_ns.iloc[1:].tolist()
    spinning = spans[spans.what == "waits for a lock"]
    ends = set(zip(spinning.vm, spinning.vcpu_id, spinning.time_ns + spinning.duration_ns, strict=True))
    assert {(one.vm, one.vcpu_id, one.time_ns) for one in held.itertuples()} <= {
        (vm, vcpu, end + more) for vm, vcpu, end in ends for more in (0, 1)
    }


_exits = st.lists(st.tuples(st.integers(0, 400_000), st.integers(0, 2), st.integers(0, 1), st.booleans()), max_size=60)


@given(_exits)
def test_runs_of_any_exits_are_those_of_a_plain_loop(made: list[tuple[int, int, int, bool]]) -> None:
    """Same vCPU, same RIP, at most 1 ms from exit to exit; other exits do not matter."""
    rows, now = [], 0
    for step, vcpu, rip, pause in made:
        now += step * 10
        rows.append((now, vcpu, rip, pause))
    numbers = np.cumsum([pause for *_, pause in rows])
    exits = {
        "number": np.array([int(number) if row[3] else -1 for number, row in zip(numbers, rows, strict=True)], int),
        "vm": ["a/b"] * len(rows),
        "symbol": ["x"] * len(rows),
        "cpu": np.zeros(len(rows), int),
        "time_ns": np.array([row[0] for row in rows], int),
        "vcpu_id": np.array([row[1] for row in rows], int),
        "guest_rip": np.array([row[2] for row in rows], np.uint64),
        "ple_window": np.full(len(rows), 4096),
    }
    expected, open_runs = [], {}
    for time, vcpu, rip, pause in rows:
        if pause:
            run = open_runs.get(vcpu)
            if run and run[1] == rip and time - run[2] <= 1_000_000:
                run[2], run[3] = time, run[3] + 1
            else:
                open_runs[vcpu] = run = [vcpu, rip, time, 1, time]
                expected.append(run)
    found = continuous_runs(exits)
    assert [list(map(int, one)) for one in zip(found["vcpu_id"], found["guest_rip"], found["length"], strict=True)] == [
        [vcpu, rip, length] for vcpu, rip, _, length, _ in expected
    ]


def test_comparison_has_all_runs_below_each_other() -> None:
    """Each row says whose it is; runs are had by number, name and slice; the summary has a row for each."""
    results = pleemu.compare("case_study", "vanilla,debooster,no-ple", duration="30ms")
    assert isinstance(results, tuple)
    assert [run.policy for run in results] == list(results.names) == ["vanilla", "debooster", "no-ple"]
    assert results["debooster"] is results[1] is results[1:][0]
    frames = results.frames()
    for name, frame in frames.items():
        parts = [run.frames()[name] for run in results]
        assert len(frame) == sum(map(len, parts))
        assert list(frame.columns) == ["case", "policy", *parts[0].columns]
    counted = frames["decisions"].groupby("case", observed=False).size()
    assert counted["vanilla"] == results["vanilla"].ple.exits > counted["debooster"] == results["debooster"].ple.exits
    assert results.summary().pause_exits.tolist() == [run.ple.exits for run in results]
    with pytest.raises(PleemuError, match="did you mean 'debooster'"):
        results["debosoter"]


def test_comparison_across_a_field_is_by_case() -> None:
    """Where something else than the policy differs, the case says what."""
    results = pleemu.compare("case_study", across={"host.hz": [250, 1000]}, duration="10ms")
    assert results.names == ("250", "1000")
    assert set(results.frames()["switches"].case) == {"250", "1000"}
    assert "Across host.hz" in results._repr_html_()


def test_parquet_is_read_back(tmp_path: Path) -> None:
    """Each frame has its file, and they hold the same."""
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    result = pleemu.run("case_study", duration="30ms")
    paths = result.to_parquet(tmp_path / "made" / "here")
    assert {path.stem for path in paths} == set(result.frames())
    for path in paths:
        read, made = pandas.read_parquet(path), result.frames()[path.stem]
        assert [*map(str, read.dtypes)] == [*map(str, made.dtypes)]
        if len(made):  # categories of no rows are of a kind that pandas guesses
            pandas.testing.assert_frame_equal(read, made, check_dtype=True)
    (tmp_path / "file").touch()
    with pytest.raises(PleemuError, match="cannot be written"):
        result.to_parquet(tmp_path / "file")


def test_run_is_what_it_was_without_frames(result: Any) -> None:
    """A result has all that the run has, and frames change nothing of it; the recording is made once."""
    again = pleemu.run(result.scenario)
    assert again.digest == result.digest
    assert result.frames() is result.frames()
    assert result.recording() is result.recording()
    assert set(dir(storm())) <= set(dir(result))


def test_missing_pandas_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it, before anything runs again."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    run = in_hand(storm(), policy("vanilla"), {})
    with pytest.raises(PleemuError, match=r"pip install 'pleemu\[frames\]'"):
        run.frames()


def test_run_of_too_many_events_is_said_in_one_line() -> None:
    """And what would be right."""
    run = pleemu.run("case_study", duration="30ms")
    with pytest.raises(PleemuError, match=r"more than 10 events.*shorten it"):
        record(run, run.again.policy, run.again.programs, limit=10)


def test_policy_that_does_not_repeat_is_said_in_one_line() -> None:
    """Plain Python may keep a state of its own: then a second run is another one."""
    calls = []

    class Forgetful:
        COMPILED = False

        @staticmethod
        def refuses(me: Any, candidate: Any) -> bool:
            calls.append(1)
            return len(calls) > 3

    run = pleemu.run("worst_case", policy=Forgetful, duration="20ms")
    with pytest.raises(PleemuError, match="did not do the same"):
        run.frames()


def test_run_without_exits_has_empty_frames() -> None:
    """All of them, with their columns; and they are written, too."""
    frames = pleemu.run("case_study", policy="no-ple", duration="5ms").frames()
    assert len(frames["decisions"]) == len(frames["runs"]) == len(frames["yields"]) == 0
    assert "period_ns" in frames["runs"]


WITHOUT = ({"duration": "1ms"}, {"duration": "20ms", "policy": "no-ple"}, {"duration": "100ns"})


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("changes", WITHOUT, ids=str)
def test_columns_are_of_one_kind_also_without_rows(name: str, changes: dict[str, str], tmp_path: Path) -> None:
    """Of each frame: as of a run that has such events; of a comparison, and read back from Parquet, too."""
    full, some = pleemu.run(name, duration="20ms"), pleemu.run(name, **changes)
    assert any(len(frame) == 0 for frame in some.frames().values())
    for table, frame in some.frames().items():
        assert _kinds(frame) == _kinds(full.frames()[table])
    assert _kinds(some.summary()) == _kinds(full.summary())
    both = Results([("some", some), ("more", some)]).frames()
    for table, frame in Results([("full", full), ("some", some)]).frames().items():
        assert _kinds(both[table]) == _kinds(frame)
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    for path in some.to_parquet(tmp_path):
        read, expected = pandas.read_parquet(path), some.frames()[path.stem]
        assert read.dtypes.map(str).to_dict() == expected.dtypes.map(str).to_dict()


def _kinds(frame: Any) -> dict[str, tuple[str, ...]]:
    """The type of each column, and that of its categories."""
    return {
        name: (str(kind), str(kind.categories.dtype)) if str(kind) == "category" else (str(kind),)
        for name, kind in frame.dtypes.items()
    }


class _Nested(HTMLParser):
    """Tags that are opened and closed in turn; what is between them."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def _shown(html: str) -> str:
    parser = _Nested()
    parser.feed(html)
    parser.close()
    assert not parser.open
    return parser.text


@given(runs())
def test_any_run_is_shown_in_a_notebook(run: Any) -> None:
    """Well nested, and names are text, whatever is in them."""
    text = _shown(run_html(run))
    assert run.scenario.name in text
    assert all(vm.name in text for vm in run.vms)


@given(st.data(), st.sampled_from(("policy", "host.hz")))
def test_any_comparison_is_shown_in_a_notebook(data: st.DataObject, what: str) -> None:
    """Also none, and one across other fields."""
    scenario = data.draw(scenarios())
    rows = data.draw(st.lists(st.tuples(any_name, runs(scenario)), max_size=3))
    text = _shown(compare_html(rows, what))
    assert all(run.policy in text or name in text for name, run in rows)


def test_results_can_be_kept() -> None:
    """Cases have their names and their order, also where there are none."""
    cases = [(run.policy, in_hand(run, policy(run.policy), {})) for run in storms()]
    results = Results(cases)
    assert list(results.items()) == cases
    assert Results() == ()


def _example() -> str:
    readme = Path(__file__).parents[1] / "README.md"
    found = re.findall(r"```python\n(.*?)```", readme.read_text(), re.DOTALL)
    (example,) = [one for one in found if ".frames()" in one]
    return example


def test_worked_example_of_the_readme_says_what_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each `print` has the output that its comment promises."""
    example = _example()
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    promised = re.findall(r"^ *print\(.*?\) *# (.*)$", example, re.MULTILINE)
    assert len(promised) > 2
    assert capsys.readouterr().out.splitlines() == promised
    assert (tmp_path / "frames" / "decisions.parquet").exists()


def test_cases_of_a_comparison_are_in_hand_for_the_command_too() -> None:
    """What `pleemu compare` reports is what `pleemu.compare` returns."""
    scenario = pleemu.load_scenario("case_study", duration="5ms")
    ((name, run),) = compare_cases(cases_of(scenario, "vanilla").cases)
    (same,) = pleemu.compare(scenario, "vanilla")
    assert (name, run.digest) == ("vanilla", same.digest)
    assert len(tables(run.recording())["switches"]["cpu"]) == len(same.frames()["switches"])


_KINDS = {"lock": "waits for a lock", "shared lock": "waits for a lock", "barrier": "waits at a barrier"}


@pytest.mark.parametrize("name", ["worst_case", "shootdown", "barrier", "wake_up", "testbed", "locks"])
def test_what_an_exit_waits_for_is_a_span(name: str) -> None:
    """The ground truth, kept while the run went on, and the spans, from its events alone, say the same of each exit.

    KVM looks when the exit has been paid for: what is over by then is no wait.
    """
    run = pleemu.run(name, duration="15ms")
    frames, until_search = run.frames(), run.scenario.cost.exit_ns + run.scenario.cost.pause_handler_ns
    decisions, spans = frames["decisions"], frames["spans"]
    of_vcpu = dict(list(spans.groupby(["vm", "vcpu_id"], observed=True)))
    for exit_ in decisions.itertuples():
        mine = of_vcpu.get((exit_.vm, exit_.vcpu_id), spans[:0])
        now = mine[(mine.time_ns <= exit_.time_ns) & (mine.time_ns + mine.duration_ns >= exit_.time_ns)]
        if exit_.waits_for in _KINDS:
            assert ((now.what == _KINDS[exit_.waits_for]) & (now.address == exit_.lock)).any()
        elif exit_.waits_for == "answer":
            assert (now.what == "waits for an answer").any()
        else:
            ends = (now.time_ns + now.duration_ns)[now.what != "critical section"]
            assert (ends <= exit_.time_ns + until_search).all()
    waits = spans[spans.what != "critical section"]
    assert len(waits) > 0


_probes = st.tuples(st.integers(0, 50), st.integers(0, 3), st.integers(1, 9), st.integers(0, 3))


@given(st.lists(_probes, max_size=60))
def test_spans_of_any_probes_are_sound(made: list[tuple[int, int, int, int]]) -> None:
    """Whatever guests say: each span ends after it began, in its VM, and a vCPU has a lock once at a time."""
    probes, now = [], 0
    for step, vcpu, probe, operand in made:
        now += step
        probes.append((now, vcpu, probe, operand))
    spans = spans_of(probes, [0, 0, 1, 1], now + 1)
    assert [one.begin for one in spans] == sorted(one.begin for one in spans)
    assert all(one.begin <= one.end <= now + 1 for one in spans)
    assert all(one.object // 2 == one.vcpu // 2 for one in spans if one.what == "waits for an answer")
    begun = Counter(probe for _, _, probe, _ in probes)
    ended = Counter(one.what for one in spans)
    assert ended["waits for a lock"] == begun[PROBE_LOCK_WAIT]
    assert ended["waits at a barrier"] == begun[PROBE_BARRIER_WAIT]
    assert ended["critical section"] <= begun[PROBE_LOCK_ACQUIRED]
    assert ended["waits for an answer"] <= begun[PROBE_IPI_WAIT]
    for vcpu in range(4):
        for lock in range(4):
            held = [one for one in spans if (one.vcpu, one.what, one.object) == (vcpu, "critical section", lock)]
            assert all(one.end <= other.begin for one, other in itertools.pairwise(held))
