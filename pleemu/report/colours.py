"""One set of colours for plots and pages, light and dark; they also differ in lightness, for who sees few hues."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

from pleemu.scenario import Scenario

# Hue and saturation of each VM in turn: blue, orange, teal, purple, green, rose, brown, slate.
_VMS = ((208, 0.55), (28, 0.72), (174, 0.45), (272, 0.38), (98, 0.45), (338, 0.55), (44, 0.50), (220, 0.15))
_LIGHTEST, _DARKEST = 0.70, 0.36

PARTS = {  # of PAUSE exits, see `places`
    "useful": "#3a9a5b",
    "wasted": "#e0a42e",
    "irrelevant": "#d64541",
    "nobody": "#8d99a6",
    "unknown": "#c3cad1",
    "pending": "#b39ddb",
    "untold": "#5b87b8",
}
PAUSE = "#d3222a"  # a PAUSE exit
IDLE = "#e8ebee"
HOST_THREAD = "#7d7468"


def thread_colours(scenario: Scenario) -> list[str]:
    """Return a colour for each thread, by its number in events: a hue for each VM, vCPUs from light to dark."""
    colours = []
    for number, vm in enumerate(scenario.vm):
        hue, saturation = _VMS[number % len(_VMS)]
        for vcpu in range(vm.vcpus):
            share = vcpu / (vm.vcpus - 1) if vm.vcpus > 1 else 0.5
            colours.append(_hex(hue, _LIGHTEST + (_DARKEST - _LIGHTEST) * share, saturation))
    return colours + [HOST_THREAD] * sum(one.count for one in scenario.thread)


def vm_colour(number: int) -> str:
    """Return the colour of a VM, by its number; also of any other series."""
    hue, saturation = _VMS[number % len(_VMS)]
    return _hex(hue, 0.5, saturation)


def rgb(colour: str) -> tuple[int, int, int]:
    """Return ``#rrggbb`` as three numbers of 0 to 255."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return red, green, blue


def between(few: Sequence[int], many: Sequence[int], share: float) -> str:
    """Return the colour that lies a share of the way from one to another."""
    mixed = (round(a + (b - a) * min(1.0, max(0.0, share))) for a, b in zip(few, many, strict=True))
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def _hex(hue: float, lightness: float, saturation: float) -> str:
    return "#{:02x}{:02x}{:02x}".format(
        *(round(255 * one) for one in colorsys.hls_to_rgb(hue / 360, lightness, saturation))
    )
