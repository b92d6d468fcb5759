"""Figures: what they show, and how their files come to be."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import any_name

from pleemu.errors import PleemuError
from pleemu.report.bars import Bar, Panel, draw_bars
from pleemu.report.colours import rgb, thread_colours, vm_colour
from pleemu.report.figures import check_plot, save
from pleemu.scenario import Scenario, Vm

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


@pytest.mark.parametrize(("path", "message"), [("a.gif", r"\.png, \.svg, \.pdf"), ("there/is/no.png", "no folder")])
def test_what_cannot_be_written_is_said_before_the_run(tmp_path: Path, path: str, message: str) -> None:
    """With what would be right."""
    with pytest.raises(PleemuError, match=message):
        check_plot(tmp_path / path)


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
