"""Schedules as tokens: what they say, and what is wrong with one."""

from __future__ import annotations

import base64
import shlex
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pleemu.errors import ScenarioError
from pleemu.fields import FieldError
from pleemu.scenario import Hardware, Host, Scenario, Vm
from pleemu.schedule import PLAIN_LIMIT, POINT_LIMIT, Point, format_schedule, parse_schedule

points = st.lists(
    st.builds(Point, st.integers(0, 2**62 - 1), st.integers(0, 1023), st.integers(0, 4095)), max_size=200
).map(sorted)


def packed(text: str) -> str:
    return "z:" + base64.urlsafe_b64encode(zlib.compress(text.encode())).decode()


@given(points)
def test_a_token_gives_back_its_points(made: list[Point]) -> None:
    """Whatever is written is read again, plain and compressed, and is one word that no shell changes."""
    token = format_schedule(made)
    assert parse_schedule(token) == tuple(made)
    assert parse_schedule(packed(",".join(map(str, made)) or "-")) == tuple(made)
    assert shlex.quote(token) == token


def test_long_tokens_are_compressed_and_short_ones_legible() -> None:
    """A few points can be read and edited; ten thousand fit into a command line's word."""
    assert format_schedule([Point(12345, 0, 3), Point(20000, 1, 2)]) == "0@12345:3,1@20000:2"
    assert format_schedule([]) == "-"
    many = [Point(number * 17220 + number * number % 911, number % 2, number % 4) for number in range(10_000)]
    token = format_schedule(many)
    assert PLAIN_LIMIT < len(token) < 1 << 17
    assert token.startswith("z:")
    assert parse_schedule(token) == tuple(many)


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("", r"point 1, '', is no preemption point; write pCPU@cycle:thread"),
        ("0@1:2,", r"point 2, '', is no preemption point"),
        ("0@1:2, 0@2:1", r"point 2, ' 0@2:1', is no"),
        ("0@1:2,0@x:1,0@3:1", r"point 2, '0@x:1', is no"),
        ("0@1>2", r"point 1, '0@1>2', is no .* as in 0@12345:3"),
        ("-,0@1:2", r"point 1, '-', is no"),
        ("0@-1:2", r"point 1"),
        ("0@\u0661:2", r"point 1"),
        ("0@" + "9" * 5000 + ":1", r"point 1, '0@9{35}\.\.\.', is no"),
        (f"0@{2**62}:0", r"point 1, .*: no run has a cycle"),
        ("0@50:1,1@10:0,0@40:1", r"point 3, 0@40:1, is before the one before it on pCPU 0, at 50; put"),
        ("z:", "damaged; copy the whole token"),
        ("z:####", "damaged"),
        ("z:abcde", "damaged"),
        (packed("0@1:1")[:-6], "damaged"),
        (packed("0@1:1") + "AAAA", "damaged"),
        (packed("0@1:\u00e9"), "damaged"),
        (packed("0@1:1,zz"), r"point 2, 'zz'"),
        (packed("0" * (POINT_LIMIT * 32 + 1)), "unpacks to more than 250,000 points"),
        (packed(",".join(["0@1:1"] * (POINT_LIMIT + 1))), "more than 250,000 points are too many"),
    ],
)
def test_a_wrong_token_is_refused_with_its_place(token: str, message: str) -> None:
    """One line says which point, what is wrong and what would be right."""
    with pytest.raises(ScenarioError, match=message) as caught:
        parse_schedule(token)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_a_bomb_is_not_unpacked() -> None:
    """A token of a few kilobytes that unpacks to a hundred megabytes is given up after the first few."""
    packing = zlib.compressobj(9)
    data = b"".join(packing.compress(b"0" * (1 << 20)) for _ in range(100)) + packing.flush()
    with pytest.raises(ScenarioError, match="unpacks to more"):
        parse_schedule("z:" + base64.urlsafe_b64encode(data).decode())


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ({"schedule": "2@5:0"}, r"host\.schedule: point 1, 2@5:0: there is no pCPU 2; use 0 to 1"),
        ({"schedule": "0@5:3"}, r"host\.schedule: point 1, 0@5:3: there is no thread 3; use 0 to 2"),
        ({"schedule": "nonsense"}, r"schedule: point 1, 'nonsense', is no"),
        ({"schedule": 5}, r"schedule: 5 is not a text"),
        ({"schedule": "-", "scheduler": "cfs-5.6"}, r"schedule: is for host.scheduler 'chaos', but it is 'cfs-5.6'"),
        ({"chaos_min_ns": 20, "chaos_max_ns": 10}, r"chaos_max_ns: 10 is below chaos_min_ns=20; use at least 20"),
    ],
)
def test_a_schedule_fits_its_machine(host: dict[str, object], message: str) -> None:
    """A pCPU or a thread that does not exist, and a schedule that nobody would look at, are errors of the scenario."""
    with pytest.raises(FieldError, match=message):
        Scenario(
            name="s",
            hardware=Hardware(pcpus=2),
            host=Host(**{"scheduler": "chaos", **host}),
            vm=(Vm(name="a", program="a.S", vcpus=2), Vm(name="b", program="a.S", vcpus=1)),
        )
