"""What `pleemu list parameters` shows: what a scenario can set in its guests."""

from __future__ import annotations

from collections.abc import Iterable

from pleemu.guest.image import Image
from pleemu.guest.parameters import Parameter, parameters_of
from pleemu.report import units
from pleemu.report.grid import Column, Grid
from pleemu.scenario import Program, Scenario


def parameter_report(scenario: Scenario, images: dict[Program, Image]) -> Iterable[Grid]:
    """Return what each guest of a scenario lets it set: by default, and as the scenario sets it."""
    khz = scenario.hardware.core_rate_khz
    for program, image in images.items():
        vms = [vm for vm in scenario.vm if scenario.program_of(vm) == program]
        given = {vm.name: values for vm in vms if (values := scenario.parameters_of(vm))}
        columns = [Column("name", left=True), Column("kind", left=True), Column("default", left=True)]
        grid = Grid(
            f"Parameters of {image.name}" + (" (none)" if not (known := parameters_of(image)) else ""),
            columns + [Column(name, left=True) for name in given],
            note=_HOW
            if known
            else "`parameter` and `distribution` of pleemu.inc, PLEEMU_PARAMETER and "
            "PLEEMU_DISTRIBUTION of pleemu.h define some.",
        )
        for one in known.values():
            kind = "time" if one.is_distribution else "number"
            set_ = [str(values.get(one.name, "")) for values in given.values()]
            grid.add(one.name, kind, _default(one, khz), *set_)
        yield grid


_HOW = (
    "--vm.0.parameters.NAME VALUE, or NAME = VALUE in [vm.parameters]. A number: 5, or 2us in cycles. A time: 2us, "
    "4200cycles, 0..125us, exponential(60us), lognormal(400ns, 0.8) with mean and sigma; with a limit, `max 2us`."
)


def _default(one: Parameter, khz: int) -> str:
    if not one.is_distribution:
        return units.count(one.default)
    ends = [f"{units.time(value * 1e6 / khz)}" for value in dict.fromkeys((one.default, one.most))]
    return " to ".join(ends)
