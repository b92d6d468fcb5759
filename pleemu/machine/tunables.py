"""From a version of the scheduler to the record that the numba rooms read."""

from __future__ import annotations

from typing import Any

import numpy as np

from pleemu.kernel import CFS, EEVDF, Scheduler
from pleemu.scheduler import records

_MODELS = {CFS: records.CFS, EEVDF: records.EEVDF}


def tunables_of(scheduler: Scheduler, *, cpus: int, hz: int, features: str = "") -> Any:
    """Return the record; ``features`` are those written on top of the defaults."""
    tunables = np.zeros(1, records.TUNABLES).view(np.recarray)
    tunables.model = _MODELS[scheduler.model]
    for name, value in scheduler.tunables(cpus=cpus, hz=hz, features=features).items():
        tunables[name] = value
    return tunables
