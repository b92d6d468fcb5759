"""Interrupt vectors of a guest: pairs of vector and handler in .pleemu.vectors.

The `vector` macro of pleemu.inc writes them. They stand for the IDT that a kernel would set up
(SDM 3A 6.10): guests have interrupt gates and nothing else to say about one.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from pleemu.errors import GuestError
from pleemu.guest.decode import Decoded
from pleemu.guest.link import VECTORS_SECTION
from pleemu.guest.linked import Linked

VECTORS = 256
FIRST = 32  # vectors below are the processor's own exceptions (SDM 3A 6.2)


def read_vectors(linked: Linked, decoded: Decoded) -> npt.NDArray[np.int32]:
    """Return the table index of each vector's handler, -1 where the guest has none."""
    handlers = np.full(VECTORS, -1, np.int32)
    problems = []
    for section in linked.vectors:
        if len(section.data) % 16:
            raise GuestError(f"{linked.source}: section {VECTORS_SECTION} is not made of pairs of quads")
        for position, (vector, handler) in enumerate(struct.iter_unpack("<QQ", section.data)):
            # The `vector` macro leaves no line behind: then the handler's own line leads there.
            row = section.address + 16 * position
            place = linked.place(row if linked.lines.source_at(row) else handler)
            name = repr(linked.name_of(handler))
            offset = handler - linked.base
            index = int(decoded.index_of[offset]) if 0 <= offset < linked.code_size else -1
            if not FIRST <= vector < VECTORS:
                problems.append(f"{place}: vector {vector:#x} of {name} is not in {FIRST:#x} to {VECTORS - 1:#x}")
            elif handlers[vector] >= 0:
                problems.append(f"{place}: vector {vector:#x} has two handlers, {name} is the second")
            elif index < 0:
                problems.append(f"{place}: the handler of vector {vector:#x}, {name}, is not code")
            else:
                handlers[vector] = index
    if problems:
        raise GuestError("\n".join(problems))
    return handlers
