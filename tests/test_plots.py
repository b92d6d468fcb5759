"""Figures: what they show, and how their files come to be."""

from __future__ import annotations

import sys
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import any_name

import pleemu
from pleemu.cli import main
from pleemu.errors import PleemuError
from pleemu.experiment.in_hand import Result
from pleemu.report.bars import Bar, Panel, draw_bars
from pleemu.report.colours import IDLE, rgb, thread_colours, vm_colour
from pleemu.report.figures import check_plot, save
from pleemu.report.lanes import ROWS, lanes_image, shares
from pleemu.report.names import shortened
from pleemu.report.plots import plot_compare, plot_run
from pleemu.report.zoom import overlaps
from pleemu.scenario import Scenario, Vm
from pleemu.trace.columns import tables
from pleemu.trace.recording import record, thread_names

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")

PNG = b"\x89PNG\r\n"
_values = st.floats(0, 1e9)


@st.composite
def bars(draw: st.DrawFn) -> Bar:
    value = draw(_values)
    low, high = draw(st.none() | st.floats(0, 1)), draw(st.floats(0, 1))
    ends = {} if low is None else {"low": value * (1 - low), "high": value * (1 + high)}
    return Bar(value, **ends, published=draw(st.none() | _values))


_panels = st.builds(
    Panel,
    title=any_name,
    unit=any_name,
    groups=st.dictionaries(any_name, st.dictionaries(any_name, bars(), max_size=4), max_size=3),
    line=st.none() | st.just(1.0),
)


@given(st.lists(_panels, max_size=3))
@settings(max_examples=10)
def test_bars_show_every_value(panels: list[Panel]) -> None:
    """As many bars as there are, each as high as its value, and a diamond for each that was published."""
    figure = draw_bars(panels)
    for panel, axis in zip(panels, figure.axes, strict=False):
        shown = [bar for group in panel.groups.values() for bar in group.values()]
        assert [patch.get_height() for patch in axis.patches] == [bar.value for bar in shown]
        marks = [line.get_ydata()[0] for line in axis.lines if line.get_marker() == "D"]
        assert marks == [bar.published for bar in shown if bar.published is not None]
        assert axis.get_title(loc="left") == panel.title
    assert figure._repr_png_().startswith(PNG)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".SVG"])
def test_the_same_figure_is_the_same_file(tmp_path: Path, suffix: str) -> None:
    """In each form, twice; and nothing else is left."""
    for name in ("a", "b"):
        draw_bars([Panel(title="t", unit="u", groups={"g": {"s": Bar(1.0)}})], tmp_path / f"{name}{suffix}")
    first, second = sorted(tmp_path.iterdir())
    assert first.read_bytes() == second.read_bytes()
    if suffix.lower() == ".svg":
        assert "t" in [text.text for text in ElementTree.parse(first).iter() if text.tag.endswith("text")]
    if suffix == ".png":
        assert first.read_bytes().startswith(PNG)


def test_users_own_style_stays_as_it_is() -> None:
    """No global state of matplotlib is changed."""
    matplotlib.get_backend()  # which is chosen when somebody asks first
    before = matplotlib.rcParams.copy()
    draw_bars([Panel(title="t", unit="u", groups={"g": {"s": Bar(1.0)}})])._repr_png_()
    assert matplotlib.rcParams == before


def test_what_cannot_be_drawn_is_said_before_the_run(tmp_path: Path) -> None:
    """With what would be right."""
    with pytest.raises(PleemuError, match=r"\.png, \.svg, \.pdf"):
        check_plot(tmp_path / "a.gif")


def test_failed_write_is_said_in_one_line(tmp_path: Path) -> None:
    """And leaves nothing."""
    figure = draw_bars([])
    with pytest.raises(PleemuError, match="cannot be written"):
        save(figure, tmp_path / "gone" / "a.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(PleemuError, match="cannot be written"):
        save(figure, tmp_path / "folder.png")
    assert [one.name for one in tmp_path.iterdir()] == ["folder.png"]


def test_missing_matplotlib_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PleemuError, match=r"pip install 'pleemu\[plots\]'"):
        check_plot(tmp_path / "a.png")


@given(st.lists(st.integers(1, 64), min_size=1, max_size=8))
def test_colours_tell_threads_apart(vcpus: list[int]) -> None:
    """Each thread has one, and vCPUs of different VMs have different ones."""
    scenario = Scenario(
        name="x", vm=tuple(Vm(name=str(n), program="a.S", vcpus=count) for n, count in enumerate(vcpus))
    )
    colours = thread_colours(scenario)
    assert len(colours) == sum(vcpus)
    of_vm = [number for number, count in enumerate(vcpus) for _ in range(count)]
    owners: dict[str, set[int]] = {}
    for colour, owner in zip(colours, of_vm, strict=True):
        owners.setdefault(colour, set()).add(owner)
        assert all(0 <= one <= 255 for one in rgb(colour))
    assert all(len(one) == 1 for one in owners.values())
    assert len({vm_colour(number) for number in range(8)}) == 8


@given(any_name, st.integers(0, 999), st.integers(12, 40))
def test_long_names_fit_and_a_vcpu_keeps_its_number(vm: str, vcpu: int, most: int) -> None:
    """Short ones stay as they are."""
    name = f"{vm}/{vcpu}"
    shown = shortened(name, most)
    assert len(shown) == min(len(name), most)
    assert shown.endswith(f"/{vcpu}")
    assert (shown == name) == (len(name) <= most)
    assert len(shortened(vm, most)) <= most


_spans = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)).map(lambda one: (one[0], one[0] + one[1])))


@given(_spans, st.lists(st.integers(0, 70), unique=True).map(sorted))
def test_overlaps_are_those_of_every_pair(some: list[tuple[int, int]], edges: list[int]) -> None:
    """Spans that may lie in each other, and such as follow each other."""
    others = list(pairwise(edges))[::2]
    pairs = [(max(a, c), min(b, d)) for a, b in sorted(some) for c, d in others if a < d and b > c]
    assert overlaps(some, others) == pairs


def test_overlaps_of_long_runs_are_found_at_once() -> None:
    """Pairs are not tried one by one: that would be hours."""
    some = [(10 * k, 10 * k + 7) for k in range(300_000)]
    others = [(begin + 5, end + 5) for begin, end in some]
    assert len(overlaps(some, others)) == 2 * len(some) - 1


# ---- Runs ---------------------------------------------------------------------------------------


@cache
def run_of(name: str, policy: str = "vanilla") -> Result:
    return pleemu.run(name, policy=policy, duration="60ms" if name == "worst_case" else "15ms")


@pytest.mark.parametrize("name", ["worst_case", "shootdown", "ticket_lock", "barrier"])
def test_lanes_are_the_shares_of_the_pcpus(name: str) -> None:
    """In whatever columns: each thread's time is that between its switches, and no column has more than all of it."""
    recording = run_of(name).recording()
    switches, names = tables(recording)["switches"], thread_names(recording.scenario)
    end = int(recording.ns(recording.until))
    for columns in (1, 7, 500):
        edges = np.linspace(0, end, columns + 1)
        for cpu in range(recording.scenario.hardware.pcpus):
            threads, of_column = shares(switches, cpu, names, edges)
            assert (of_column >= 0).all()
            assert (of_column.sum(axis=0) <= 1 + 1e-9).all()
            spent = dict.fromkeys(threads, 0)
            mine = np.asarray(switches["cpu"]) == cpu
            times = [*np.asarray(switches["time_ns"])[mine].tolist(), end]
            for who, begin, until in zip(np.asarray(switches["next"])[mine], times, times[1:], strict=False):
                if who != "idle":
                    spent[list(names).index(who)] += until - begin
            assert dict(zip(threads, of_column.sum(axis=1) * end / columns, strict=True)) == pytest.approx(spent, abs=2)


def test_image_has_a_lane_for_each_pcpu() -> None:
    """In the colours of who runs there and nobody else's, with red where PAUSE exits are."""
    recording = run_of("worst_case").recording()
    scenario = recording.scenario
    found = tables(recording)
    colours = thread_colours(scenario)
    image = lanes_image(found, 1, thread_names(scenario), colours, 0, recording.run.duration_ns, columns=400)
    assert image.shape == (ROWS, 400, 3)
    ran = {tuple(one) for one in image[8:24].reshape(-1, 3).tolist()}
    assert ran <= {rgb(one) for one in (*colours, IDLE)}
    assert len(ran) == len(colours)
    red = (image[:5] != 255).any(axis=(0, 2))
    exits = found["exits"]["time_ns"][found["exits"]["number"] >= 0] * 400 // recording.run.duration_ns
    assert {int(column) // 4 for column in np.nonzero(red)[0]} == set((exits // 4).tolist())


@pytest.mark.parametrize("suffix", [".png", ".svg"])
@pytest.mark.parametrize(
    ("name", "policy"), [("worst_case", "vanilla"), ("shootdown", "vanilla"), ("barrier", "no-ple")]
)
def test_run_is_drawn(tmp_path: Path, name: str, policy: str, suffix: str) -> None:
    """With its name and its counts; also one without PAUSE exits."""
    run = run_of(name, policy)
    path = tmp_path / f"out{suffix}"
    figure = run.plot(path)
    assert f"{run.ple.exits:,} PAUSE exits" in figure.get_suptitle()
    assert path.read_bytes().startswith(PNG if suffix == ".png" else b"<?xml")
    if suffix == ".svg":
        texts = {text.text for text in ElementTree.parse(path).iter() if text.tag.endswith("text")}
        assert "pCPU 0" in texts
        places = Counter(tables(run.recording())["decisions"]["symbol"])
        assert {f"{exits:,}" for exits in places.values()} <= texts
        assert ("no PAUSE exits" in texts) == (policy == "no-ple")


@pytest.mark.filterwarnings("error")
def test_figure_of_long_names_is_whole() -> None:
    """No part of it gives way to a name, and no legend lies over a title."""
    names = {"vm.0.name": "web-frontend", "vm.1.name": f"database-server{'-' * 150}"}
    figure = pleemu.run("worst_case", duration="60ms", fields=names).plot()
    figure._repr_png_()
    drawn = figure.canvas.get_renderer()
    for axis in figure.axes:
        box, legend = axis.get_position(), axis.get_legend()
        assert box.width > 0.25
        assert box.height > 0.05
        if legend is not None:
            assert not legend.get_window_extent(drawn).overlaps(axis._left_title.get_window_extent(drawn))
    named = {text.get_text() for text in figure.axes[0].get_legend().get_texts()}
    assert {one.rpartition("/")[2] for one in named} == {"0", "1"}
    assert len(named) == 4


def test_comparison_is_drawn(tmp_path: Path) -> None:
    """A timeline for each run, and bars as long as the counts."""
    results = pleemu.compare("worst_case", "vanilla,debooster,no-ple", duration="60ms")
    figure = results.plot(tmp_path / "out.svg")
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles[:3] == [f"{run.policy}: {run.ple.exits:,} PAUSE exits" for run in results]
    (exits,) = [axis for axis in figure.axes if axis.get_title(loc="left") == "PAUSE exits"]
    drawn: dict[int, float] = {}
    for bar in exits.patches:
        row = round(bar.get_y() + bar.get_height() / 2)
        drawn[row] = drawn.get(row, 0) + bar.get_width()
    assert [drawn.get(row, 0) for row in range(3)] == [run.ple.exits for run in results]


def test_lines_of_many_runs_are_told_apart() -> None:
    """By colour and style together, and their legend covers none of them."""
    recording = run_of("worst_case").recording()
    figure = plot_compare([(f"run {number}", recording) for number in range(24)])
    figure._repr_png_()
    (axis,) = [one for one in figure.axes if one.get_title(loc="left").startswith("PAUSE exits in runs")]
    assert len({(line.get_color(), line.get_linestyle()) for line in axis.lines}) == len(axis.lines) == 24
    drawn = figure.canvas.get_renderer()
    legend = axis.get_legend().get_window_extent(drawn)
    assert legend.x0 >= axis.get_window_extent(drawn).x1
    assert 0 <= legend.y0 < legend.y1 <= figure.bbox.y1
    assert legend.x1 <= figure.bbox.x1


def test_beginning_of_a_long_run_is_drawn_and_said() -> None:
    """A figure of a part says so."""
    run = run_of("worst_case")
    some = record(run, run.again.policy, run.again.programs, limit=500, stories=10, beginning=True)
    axes = plot_run(some).axes
    (title, longest, *_) = [axis.get_title(loc="left") for axis in axes]
    assert "; the first " in title
    assert longest.startswith("The longest run of this part")
    assert any(axis.get_xlabel().startswith("n; the first ") for axis in axes)


def test_bars_of_a_run_add_up_to_its_title() -> None:
    """With exits that the run ended before; of a part, whose places are the whole run's; and no event is missed."""
    run = pleemu.run("ticket_lock", duration="30ms")
    assert run.ple.exits > run.decisions.total.judged
    part = record(run, run.again.policy, run.again.programs, stories=100, beginning=True)
    for recording in (run.recording(), part):
        titles = {axis.get_title(loc="left"): axis for axis in plot_run(recording).axes}
        (places,) = [axis for title, axis in titles.items() if title.startswith("PAUSE exits by place")]
        assert sum(bar.get_width() for bar in places.patches) == run.ple.exits
        assert not any("; the first " in title for title in titles)
    assert "not kept" in places.get_title(loc="left")


def test_command_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`run` and `compare` with `--plot`; a wrong suffix is said before the run."""
    for command in ("run", "compare"):
        path = tmp_path / f"{command}.png"
        assert main([command, "case_study", "--duration", "15ms", "--plot", str(path)]) == 0
        assert path.read_bytes().startswith(PNG)
    assert main(["run", "case_study", "--plot", str(tmp_path / "a.bmp")]) == 2
    assert "name it as in --plot out.png" in capsys.readouterr().err
