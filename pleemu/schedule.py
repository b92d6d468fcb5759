"""A schedule of the chaos scheduler as one word: preemption points that can be printed, pasted and edited.

    0@12345:3,1@20000:2     from cycle 12345 on pCPU 0 runs thread 3, from cycle 20000 on pCPU 1 thread 2
    -                       no points
    z:eJwzcDA0...           the same text, compressed: base64 (of RFC 4648's file names) of zlib

Threads are those of the vCPUs, counted through all VMs. Nothing in a token means anything to a shell.
Whoever gives one is not trusted: neither its length nor what it unpacks to.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Iterable, Sequence
from functools import lru_cache

from attrs import frozen

from pleemu.errors import ScenarioError

POINT_LIMIT = 250_000
PLAIN_LIMIT = 2_000  # characters; what is longer is compressed

_TEXT_LIMIT = 32 * POINT_LIMIT
_CYCLE_LIMIT = 1 << 62
_COMPRESSED = "z:"
_EMPTY = "-"
_POINT = re.compile(r"([0-9]{1,9})@([0-9]{1,19}):([0-9]{1,9})")
_RIGHT = "write pCPU@cycle:thread, as in 0@12345:3"


@frozen(order=True)
class Point:
    """From ``cycle`` on pCPU ``pcpu`` shall run ``thread`` instead of what it runs, if that waits there."""

    cycle: int
    pcpu: int
    thread: int

    def __str__(self) -> str:
        return f"{self.pcpu}@{self.cycle}:{self.thread}"


def format_schedule(points: Iterable[Point]) -> str:
    """Return the token of some points, compressed if it would be long."""
    text = ",".join(map(str, points)) or _EMPTY
    if len(text) <= PLAIN_LIMIT:
        return text
    return _COMPRESSED + base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")


@lru_cache(maxsize=16)  # a scenario is checked more often than once
def parse_schedule(token: str) -> tuple[Point, ...]:
    """Return the points of a token, in its order, or say which one is wrong."""
    text = _unpacked(token.strip())
    if text == _EMPTY:
        return ()
    if len(text) > _TEXT_LIMIT or text.count(",") >= POINT_LIMIT:
        raise ScenarioError(f"more than {POINT_LIMIT:,} points are too many; use a shorter run")
    points: list[Point] = []
    latest: dict[int, int] = {}
    for number, one in enumerate(text.split(","), 1):
        found = _POINT.fullmatch(one)
        if found is None:
            raise ScenarioError(f"point {number}, {_shown(one)}, is no preemption point; {_RIGHT}")
        pcpu, cycle, thread = map(int, found.groups())
        if cycle >= _CYCLE_LIMIT:
            raise ScenarioError(f"point {number}, {one}: no run has a cycle {cycle}; use less than {_CYCLE_LIMIT}")
        if cycle < latest.get(pcpu, 0):
            raise ScenarioError(
                f"point {number}, {one}, is before the one before it on pCPU {pcpu}, at {latest[pcpu]}; "
                "put the points of each pCPU in the order of their cycles"
            )
        latest[pcpu] = cycle
        points.append(Point(cycle, pcpu, thread))
    return tuple(points)


def how_to_replay(schedule: str | None, preemptions: int, elsewhere: str) -> str:
    """Return the option that replays a run, or, if it is too long to be shown, where ``elsewhere`` it is."""
    if schedule is not None and len(schedule) <= PLAIN_LIMIT:
        return f"replay with: --host.schedule {schedule}"
    where = "too many for a token: only the seed replays them" if schedule is None else elsewhere
    return f"schedule: {preemptions:,} preemptions; {where}"


def check_points(points: Sequence[Point], pcpus: int, threads: int) -> None:
    """Refuse points on a pCPU or for a thread that the machine does not have."""
    for number, one in enumerate(points, 1):
        if one.pcpu >= pcpus:
            raise ScenarioError(f"point {number}, {one}: there is no pCPU {one.pcpu}; use 0 to {pcpus - 1}")
        if one.thread >= threads:
            raise ScenarioError(
                f"point {number}, {one}: there is no thread {one.thread}; use 0 to {threads - 1}, "
                "the vCPUs counted through all VMs"
            )


def _unpacked(token: str) -> str:
    if not token.startswith(_COMPRESSED):
        return token
    broken = f"what follows {_COMPRESSED} is damaged; copy the whole token"
    packed = token.removeprefix(_COMPRESSED)
    try:
        data = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True)
        unpacking = zlib.decompressobj()
        text = unpacking.decompress(data, _TEXT_LIMIT)
        if not unpacking.eof and unpacking.unconsumed_tail:
            raise ScenarioError(f"unpacks to more than {POINT_LIMIT:,} points can take; use a shorter run")
        if not unpacking.eof or unpacking.unused_data:
            raise ScenarioError(broken)
        return text.decode("ascii")
    except (binascii.Error, zlib.error, ValueError):
        raise ScenarioError(broken) from None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
