"""The records that all state lives in."""

import numpy as np
import pytest

from pleemu.hardware import isa
from pleemu.hardware import records as hardware
from pleemu.hypervisor import records as hypervisor
from pleemu.machine import state
from pleemu.observe import events
from pleemu.observe import records as observe
from pleemu.scheduler import records as scheduler

DTYPES = {
    f"{module.__name__}.{name}": value
    for module in (isa, hardware, hypervisor, scheduler, observe, events, state)
    for name, value in vars(module).items()
    if isinstance(value, np.dtype)
}


def test_every_room_has_records():
    """The search above finds the records that the design names."""
    assert {name.split(".")[-1] for name in DTYPES} >= {"CPU", "VCPU", "TASK", "RQ", "INSTRUCTION", "EVENT", "RUN"}


@pytest.mark.parametrize("name", DTYPES)
def test_no_field_hides_an_attribute_of_numpy(name):
    """`record.field` is the field and never NumPy's own `size`, `base`, `min`, `real`, ..."""
    fields = set(DTYPES[name].names)
    assert not fields & (set(dir(np.record)) | set(dir(np.recarray)))


@pytest.mark.parametrize("name", DTYPES)
def test_every_field_is_a_64_bit_integer(name):
    """Compiled and plain Python do the same arithmetic: signed, in 64 bits."""
    assert {field.base for field, *_ in DTYPES[name].fields.values()} == {np.dtype(np.int64)}
