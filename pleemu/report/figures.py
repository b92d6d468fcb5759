"""What all figures share: matplotlib without a screen, one look, and files that appear when they are whole.

matplotlib is imported when the first figure is made. No global state of it is read or changed.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pleemu.errors import PleemuError
from pleemu.whole_file import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
_DPI = 150
_LEGEND_ROW, _LEGEND_GAP, _LEGEND_LETTER = 13, 19, 4.9  # points: of a row, what surrounds a label, a letter
_LOOK = {
    "font.size": 8.5,
    "font.family": ["DejaVu Sans"],
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a939c",
    "axes.labelcolor": "#3b444d",
    "axes.axisbelow": True,
    "xtick.color": "#59636d",
    "ytick.color": "#59636d",
    "text.color": "#1d242b",
    "grid.color": "#dfe3e7",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "text.parse_math": False,  # a name is a name
    "svg.hashsalt": "pleemu",  # the same picture is the same file
    "svg.fonttype": "none",
}


def look() -> Any:
    """Return a context in which figures are made and drawn: pleemu's look, whatever the user's own is."""
    matplotlib = need_matplotlib()
    defaults = {name: value for name, value in matplotlib.rcParamsDefault.items() if not name.startswith("backend")}
    return matplotlib.rc_context({**defaults, **_LOOK})


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches, which a notebook shows."""
    need_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    class Shown(Figure):
        def _repr_png_(self) -> bytes:
            return _drawn(self, "png")

    figure = Shown(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def need_matplotlib() -> Any:
    """Return matplotlib, or say how to install it."""
    try:
        import matplotlib
    except ImportError:
        raise PleemuError("plots need matplotlib, which is not installed: pip install 'pleemu[plots]'") from None
    return matplotlib


def legend_above(axis: Any, width: float, handles: Sequence[Any] | None = None) -> None:
    """Put the legend between the title and an axis so many inches wide, in as many rows as that takes."""
    shown = axis.get_legend_handles_labels()[0] if handles is None else handles
    longest = max((len(str(one.get_label())) for one in shown), default=1)
    fitting = max(1, int(width * 72 / (_LEGEND_GAP + _LEGEND_LETTER * longest)))
    rows = -(-len(shown) // fitting)
    columns = -(-len(shown) // rows)
    axis.set_title(axis.get_title(loc="left"), pad=6 + _LEGEND_ROW * rows)
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.1}
    axis.legend(handles=shown, **place, ncols=columns, handlelength=0.9, handletextpad=0.4, columnspacing=0.9)


def check_plot(path: Path) -> None:
    """Refuse what `save` could not draw, before a long run."""
    if path.suffix.lower() not in SUFFIXES:
        raise PleemuError(f"--plot {path}: a plot is {', '.join(SUFFIXES)}; name it as in --plot out.png")
    need_matplotlib()


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure; its suffix says how. The file gets its name when it is whole."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise PleemuError(f"{path}: a plot is {', '.join(SUFFIXES)}")
    write_whole(path, _drawn(figure, path.suffix.lower()[1:]), "the plot")


def _drawn(figure: Figure, form: str) -> bytes:
    file = io.BytesIO()
    undated: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with look(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a name in a script that the font has not
        figure.savefig(file, format=form, dpi=_DPI, metadata=undated.get(form))
    return file.getvalue()
