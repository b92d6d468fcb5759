"""What of a guest a scenario can set: its `parameter`s and `distribution`s (see pleemu.inc), found by their symbols.

They are plain memory of the guest: a 64-bit number, or a table of 256 of them. So the same object runs on a real
machine with the values that it was assembled with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
from attrs import frozen

from pleemu.distribution import QUANTILES, parse_distribution
from pleemu.errors import ScenarioError, nearest
from pleemu.fields import show
from pleemu.guest.image import Image

PARAMETER, DISTRIBUTION = "pleemu_parameter_", "pleemu_distribution_"


@frozen
class Parameter:
    """One of them: where it is and what it is unless a scenario says otherwise."""

    name: str
    address: int
    is_distribution: bool
    default: int  # of a distribution: its least number of core cycles
    most: int  # of a distribution: its largest

    @property
    def words(self) -> int:
        """Its length in 64-bit words."""
        return QUANTILES if self.is_distribution else 1


def parameters_of(image: Image) -> dict[str, Parameter]:
    """Return a guest's parameters and distributions, by name."""
    found = {}
    for name, address in image.symbols:
        for prefix in (PARAMETER, DISTRIBUTION):
            offset = address - image.base
            if name.startswith(prefix) and 0 <= offset <= len(image.memory) - 8:
                is_distribution, own = prefix == DISTRIBUTION, name.removeprefix(prefix)
                held = image.memory[offset : offset + 8 * (QUANTILES if is_distribution else 1)]
                values = held[: len(held) // 8 * 8].view("<i8")
                found[own] = Parameter(own, address, is_distribution, int(values[0]), int(values[-1]))
    return dict(sorted(found.items()))


def apply_parameters(memory: npt.NDArray[np.uint8], image: Image, given: Mapping[str, int | str], khz: int) -> None:
    """Write what a scenario gives into a guest's memory. Raises ScenarioError, beginning with the name."""
    known = parameters_of(image)
    for name, value in given.items():
        if name not in known:
            raise ScenarioError(f"{name}: {image.name} has no such parameter{_instead(name, known)}")
        parameter = known[name]
        offset = parameter.address - image.base
        if offset + 8 * parameter.words > len(memory):
            raise ScenarioError(f"{name}: its symbol in {image.name} lies outside of the guest's memory")
        try:
            words = np.array(_words(parameter, value, khz), dtype="<i8")
        except ScenarioError as error:
            raise ScenarioError(f"{name}: {error}") from None
        memory[offset : offset + 8 * parameter.words] = words.view(np.uint8)


def _words(parameter: Parameter, value: int | str, khz: int) -> tuple[int, ...]:
    if parameter.is_distribution:
        if isinstance(value, int):
            raise ScenarioError(f"{value} has no unit; write {value}cycles, or a time such as 2us")
        return parse_distribution(value).quantiles(khz)
    if isinstance(value, int):
        return (value,)
    one = parse_distribution(value)
    if one.shape != "constant":
        raise ScenarioError(f"{show(value)} is a distribution, and this is one number")
    return (round(one.first.cycles(khz)),)


def _instead(name: str, known: Iterable[str]) -> str:
    if not known:
        return "; it has none"
    listed = f"; known are {', '.join(known)}"
    return nearest(name, known).removesuffix(listed) + listed
