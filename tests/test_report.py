"""Reports: the same facts at every width, in colour, in plain text and as JSON."""

from __future__ import annotations

import io
import json
import re

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import any_name, runs, scenario_of, scenarios, storm, storms
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from pleemu.machine.causes import Attribution, Causes
from pleemu.machine.result import Run
from pleemu.report import units
from pleemu.report.across_report import across_report
from pleemu.report.compare_report import compare_report, reference_of
from pleemu.report.console import console
from pleemu.report.grid import Column, Grid
from pleemu.report.json_form import RUN_KEYS, compare_json, run_json
from pleemu.report.run_report import continuous_table, run_report, seeds_of
from pleemu.report.timeline import TimelinePlot, axis, resample
from pleemu.scenario import Thread, Vm, from_dict

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
widths = st.integers(60, 200)


def rendered(renderable: object, width: int = 100, **options: object) -> str:
    screen = Console(file=io.StringIO(), width=width, markup=False, highlight=False, **options)
    screen.print(renderable)
    return ESCAPE.sub("", screen.file.getvalue())


@given(runs(), widths, st.booleans())
@settings(max_examples=60)
def test_run_report_fits_any_width(run: Run, width: int, colour: bool) -> None:
    """Any run is reported without an exception, and no line is longer than the terminal."""
    text = rendered(run_report(run, hint="pleemu compare x"), width, color_system="truecolor" if colour else None)
    assert all(cell_len(line) <= width for line in text.splitlines())


@given(st.data(), widths)
@settings(max_examples=40)
def test_compare_report_fits_any_width(data: st.DataObject, width: int) -> None:
    """Any runs of one scenario are compared without an exception, and no line is longer than the terminal."""
    scenario = data.draw(scenarios())
    compared = data.draw(st.lists(runs(scenario), min_size=1, max_size=3))
    text = rendered(compare_report(compared, hint="pleemu run x"), width, color_system=None)
    assert all(cell_len(line) <= width for line in text.splitlines())


@given(st.data(), widths)
@settings(max_examples=40)
def test_across_report_fits_any_width(data: st.DataObject, width: int) -> None:
    """Any named runs are reported without an exception, and no line is longer than the terminal."""
    compared = data.draw(st.lists(st.tuples(any_name, runs()), min_size=1, max_size=4))
    text = rendered(across_report(compared, data.draw(any_name)), width, color_system=None)
    assert all(cell_len(line) <= width for line in text.splitlines())


@given(runs())
@settings(max_examples=40)
def test_json_has_the_documented_keys_and_the_whole_scenario(run: Run) -> None:
    """A run's JSON has exactly the keys of the help text, and its scenario can be run again."""
    values = json.loads(run_json(run), parse_constant=pytest.fail)
    assert list(values) == list(RUN_KEYS)
    assert from_dict(values["scenario"]) == run.scenario
    assert {"exits", "continuous", "longest_run", "by_symbol", "runs", "run_lengths"} <= set(values["ple"])
    assert all({"name", "cpu_share", "operations"} <= set(vm) for vm in values["vms"])


def test_json_of_a_comparison_is_a_list_of_runs() -> None:
    """A comparison's JSON holds one object for each run, in order."""
    values = json.loads(compare_json((run.policy, run) for run in storms()))
    assert [run["policy"] for run in values["runs"]] == [run.policy for run in storms()]
    assert [run["name"] for run in values["runs"]] == [run.policy for run in storms()]


@pytest.mark.parametrize("width", [80, 120])
def test_nothing_essential_is_shortened_at_usual_widths(width: int) -> None:
    """At 80 and 120 columns the facts of the talk's trace stand in full."""
    text = rendered(run_report(storm()), width)
    for fact in ("PAUSE_INSTRUCTION", "acquire+0x12", "101", "26.0 us", "4.5 us", "4096", "50.0%", "606"):
        assert fact in text
    assert "…" not in text
    compared = rendered(compare_report(storms()), width)
    assert "…" not in compared
    assert all(run.policy in compared for run in storms())


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12))
def test_all_seeds_are_in_the_head(seeds: list[int]) -> None:
    """Each once, as far as they are few."""
    said = seeds_of([attrs.evolve(storm(), seed=seed) for seed in seeds])
    different = list(dict.fromkeys(seeds))
    numbers = [int(one) for one in re.findall(r"\d+(?! more)", said.partition(" and ")[0])]
    assert numbers == different[:4]
    assert said.startswith("seeds ") == (len(different) > 1)
    assert (f"and {len(different) - 4} more" in said) == (len(different) > 4)


def test_run_of_one_exit_has_no_period() -> None:
    """There is no other exit to measure to."""
    run = storm()
    alone = attrs.evolve(run.ple.runs[0], length=1, period_ns=0.0, guest_ns=0.0)
    ple = attrs.evolve(run.ple, runs=(alone,), longest_run=1)
    (row,) = continuous_table(attrs.evolve(run, ple=ple)).rows
    assert [cell.plain for cell in row[4:6]] == ["-", "-"]


def test_comparison_is_with_vanilla_or_else_with_the_first() -> None:
    """Ratios are to vanilla; without vanilla to the first policy, and the report says so."""
    _, strict, debooster, *_ = reversed_storms = storms()
    assert reference_of(reversed_storms[::-1]).policy == "vanilla"
    text = rendered(compare_report([debooster, strict]))
    assert "Ratios are to debooster, the first policy, since vanilla is not among them." in text


def test_threads_of_the_host_are_reported() -> None:
    """Their count, nice value, share and bursts, and a lane each; nice values of VMs only where there are any."""
    threads = (Thread(name="kworker", count=2, nice=-5, busy_us=10, period_us=100), Thread(name="hog"))
    scenario = scenario_of(thread=threads)
    text = rendered(run_report(storm(scenario=scenario)))
    assert re.search(r"kworker +2 +-5 +10\.0% +12,345\n", text)
    assert re.search(r"hog +1 +0 +10\.0% +-\n", text)
    assert "3 host threads" in text
    assert "idle for 25.0%" in text
    compared = rendered(compare_report([storm(scenario=scenario)]), 140)
    assert "50/50 %, host 20 %" in compared
    assert "kworker" in compared
    assert re.search(r"vm0 +2 +50", text)
    niced = rendered(run_report(storm(scenario=scenario_of(vms=1, vm=(Vm(name="v", program="a.S", nice=7),)))))
    assert re.search(r"v +2 +7 +50", niced)


def test_markup_in_names_is_only_text() -> None:
    """What looks like rich's markup in a name or a symbol is printed as it stands."""
    run = storm(scenario=scenario_of(name="[red]x[/red]", summary="[bold]y"))
    row = Attribution(vm="[vm]", function="[/]", loop="", wait="lock", object="[b]", exits=3, causes={"running": 3})
    run = attrs.evolve(run, causes=Causes(rows=(row,)))
    text = rendered(run_report(run))
    assert "[red]x[/red]" in text
    assert "[bold]y" in text
    assert "[/]" in text


def test_plain_timeline_marks_pause_exits_in_a_row_of_their_own() -> None:
    """Without colour the PAUSE exits of a lane stand below it; with colour no row is needed."""
    plain = rendered(TimelinePlot([storm()]), color_system=None)
    coloured = rendered(TimelinePlot([storm()]), color_system="truecolor", force_terminal=True)
    assert sum(set(line.strip()) <= set(" .:!") and "!" in line for line in plain.splitlines()) == 2
    assert len(coloured.splitlines()) == len(plain.splitlines()) - 2


def test_lanes_are_virtual_machines_where_vcpus_are_many() -> None:
    """Six vCPUs have a lane each; more of them are drawn by VM."""
    few = rendered(TimelinePlot([storm(scenario=scenario_of(vms=2, vcpus=3))]))
    many = rendered(TimelinePlot([storm(scenario=scenario_of(vms=2, vcpus=4))]))
    assert "vm1/2" in few
    assert "vm1" in many
    assert "vm1/" not in many


def test_timeline_is_plain_ascii_where_the_terminal_is() -> None:
    """A terminal that knows only ASCII gets only ASCII."""
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Console(file=file, width=80, markup=False).print(TimelinePlot(storms()))
    file.flush()
    assert file.buffer.getvalue().isascii()


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=60), st.integers(1, 10**9), st.integers(1, 200), st.integers(1, 4)
)
def test_resampling_loses_nothing(values: list[float], column_ns: int, width: int, times: int) -> None:
    """The sum over all columns stays the same, however many columns there are."""
    total_ns = column_ns * len(values) * times
    assert sum(resample(values, column_ns, total_ns, width)) == pytest.approx(sum(values))


@given(st.integers(1, 10**12), st.integers(10, 200))
def test_axis_is_as_wide_as_the_plot(total_ns: int, width: int) -> None:
    """Ticks and labels are exactly as wide as the lanes above them, and begin at 0."""
    ticks, labels = axis(total_ns, width, "'")
    assert len(ticks) == len(labels) == width
    assert ticks.startswith("'")
    assert labels.startswith("0")


@given(
    st.lists(st.tuples(st.text("abc", max_size=30), st.integers(0, 10**9)), min_size=1, max_size=5), st.integers(30, 90)
)
def test_grid_keeps_its_numbers(rows: list[tuple[str, int]], width: int) -> None:
    """A narrow grid shortens names and drops minor columns, but never cuts a number."""
    grid = Grid("t", (Column("n", left=True, shrinks=True), Column("x"), Column("y", minor=1)))
    for name, number in rows:
        grid.add(name, str(number), "-" * 20)
    text = rendered(grid, width)
    assert all(str(number) in text for _, number in rows)
    assert ("-" * 20 in text) != ("Too wide for this terminal: y." in text)


@given(st.lists(st.text("abc", min_size=1, max_size=150), min_size=4, max_size=4))
def test_grid_in_a_pipe_is_whole(cells: list[str]) -> None:
    """Nothing is shortened or left out, except that the last column takes several lines where it may."""
    columns = Column("n", left=True, shrinks=True), Column("x", minor=1), Column("y", minor=2)
    grid = Grid("t", (*columns, Column("z", left=True, wraps=True)))
    grid.add(*cells)
    file = io.StringIO()
    console(file).print(grid)
    lines = file.getvalue().splitlines()
    assert lines[1].split() == ["n", "x", "y", "z"]
    assert lines[3].split()[:3] == cells[:3]
    assert "".join([lines[3].split()[3], *(line.strip() for line in lines[4:])]) == cells[3]


def test_text_in_a_pipe_is_wrapped() -> None:
    """Only tables have long lines."""
    file = io.StringIO()
    console(file).print(Text("word " * 100))
    assert max(map(len, file.getvalue().splitlines())) <= 100


def test_numbers_read_as_an_engineer_writes_them() -> None:
    """Units, ratios and windows have their usual form."""
    assert [units.time(ns) for ns in (0, 999, 26_000, 4_480, 35e6, 2e10, float("nan"))] == [
        "0 ns", "999 ns", "26.0 us", "4.5 us", "35.0 ms", "20.0 s", "-",
    ]  # fmt: skip
    assert [units.ratio(*pair) for pair in ((1, 1), (1, 50), (11, 1), (500, 1), (0, 0), (3, 0))] == [
        "x1.00", "x0.02", "x11.0", "x500", "=", "-",
    ]  # fmt: skip
    assert units.window(4096, 4096) == "4096"
    assert units.window(4096, 65536) == "4096 -> 65536"
    assert units.microseconds(21_600) == "21.60us"
