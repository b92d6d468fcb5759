"""`pleemu.run`, `pleemu.compare`: what they take, and what they say of the rest."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pleemu
from pleemu.errors import PleemuError
from pleemu.experiment.in_hand import Results


def compare(*arguments: Any, **more: Any) -> Any:
    return pleemu.compare("case_study", *arguments, duration="1ms", **more)


def refuses(me: Any, candidate: Any) -> int:
    return 0


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "text as axes": (lambda: compare(across="host.hz=250,1000"), "across: 'host.hz=250,1000' is not a mapping; write"),
    "list of axes": (lambda: compare(across=["host.hz=250"]), "across: ['host.hz=250'] is not a mapping"),
    "one value": (
        lambda: compare(across={"host.hz": 250}),
        "across: host.hz: 250 is not a list of values; write [250]",
    ),
    "text as values": (lambda: compare(across={"host.hz": "250,1000"}), "host.hz: '250,1000' is not a list of values"),
    "no values": (lambda: compare(across={"host.hz": []}), "across: host.hz: the list is empty"),
    "a value twice": (lambda: compare(across={"host.hz": [250, "250"]}), "across: host.hz: 250 is named twice"),
    "a number as a field": (lambda: compare(across={5: [1]}), "across: 5 is not the name of a field"),
    "a number as policies": (lambda: compare(5), "policy: 5 is not a policy; give a name"),
    "a number among policies": (lambda: compare(["vanilla", 5]), "policy: 5 is not a policy"),
    "no policies": (lambda: compare([]), "policies: there is none; name one or more"),
    "no policies' names": (lambda: compare(""), "policies: there is none; name one or more"),
    "list of fields": (
        lambda: pleemu.run("case_study", fields=["host.hz=250"]),
        "fields: ['host.hz=250'] is not a map",
    ),
    "fields by number": (lambda: pleemu.run("case_study", fields={1: 250}), "fields: {1: 250} is not a mapping of"),
    "unknown argument": (
        lambda: pleemu.run("case_study", durations="5ms"),
        "unknown argument 'durations'; did you mean 'duration'?",
    ),
    "list as duration": (lambda: pleemu.run("case_study", duration=[5]), "duration: [5] is not a time; write 50ms, 2s"),
    "truth as duration": (lambda: pleemu.run("case_study", duration=True), "duration: True is not a time"),
    "endless duration": (lambda: pleemu.run("case_study", duration=10**400), "duration_ms: inf is out of range"),
    "broken seed": (lambda: pleemu.run("case_study", seed=np.float64(1.5)), "seed: 1.5 is not a whole number"),
    "text as VMs": (lambda: pleemu.run("case_study", vms="2"), "vms: '2' is not a whole number"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_makes_no_sense_is_said_in_one_line(what: str) -> None:
    """The argument, what is wrong with it, and what would be right."""
    call, message = REFUSED[what]
    with pytest.raises(PleemuError) as raised:
        call()
    assert message in str(raised.value)
    assert str(raised.value).isprintable()


_any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=2),
    max_leaves=4,
)
ARGUMENTS = ("policy", "seed", "duration", "vms", "vcpus", "pcpus", "cc", "cflags", "fields")


@given(st.sampled_from(ARGUMENTS), _any)
def test_any_argument_is_taken_or_refused(name: str, value: Any) -> None:
    """Never another exception than pleemu's."""
    try:
        pleemu.load_scenario("case_study", **{name: value})
    except PleemuError as error:
        assert str(error).isprintable()


@given(st.sampled_from(ARGUMENTS), st.integers(1, 3), st.sampled_from((np.int8, np.uint64, np.float32, Fraction)))
def test_numbers_of_numpy_are_numbers(name: str, value: int, kind: Any) -> None:
    """As arguments and as fields; whole ones where a whole number is wanted."""
    if name in ("seed", "vcpus", "pcpus", "vms") and kind is not Fraction and kind is not np.float32:
        given_so, plainly = ({name: one} for one in (kind(value), value))
    else:
        given_so, plainly = ({"duration": one} for one in (kind(value), value))
    assert pleemu.load_scenario("case_study", **given_so) == pleemu.load_scenario("case_study", **plainly)


def test_arrays_and_ranges_are_axes() -> None:
    """Fields of every kind take NumPy's values; functions are policies there, too."""
    results = compare(across={"host.hz": np.array([250, 1000]), "seed": range(2)})
    assert results.names == ("250, 0", "250, 1", "1000, 0", "1000, 1")
    assert [run.scenario.to_dict()["host"]["hz"] for run in results] == [250, 250, 1000, 1000]
    fields = {"kvm.apicv": np.False_, "vm.0.pinning": list(np.zeros(2, int)), "vm.0.parameters.hold": np.int32(5)}
    scenario = pleemu.load_scenario("ticket_lock", fields={**fields, "vm.0.vcpus": np.int64(2)})
    assert scenario.kvm.apicv is False
    assert type(scenario.vm[0].pinning[0]) is int is type(scenario.vm[0].parameters["hold"])
    assert [run.policy.partition("@")[0] for run in compare(across={"policy": ["vanilla", refuses]})] == [
        "vanilla",
        "refuses",
    ]


def test_one_policy_is_compared_alone(tmp_path: Path) -> None:
    """Whatever it is given as, it needs no list around it."""
    path = tmp_path / "mine.py"
    path.write_text("def refuses(me, candidate):\n    return 0\n")
    for one in ("no-ple", refuses, path, {"refuses": refuses}, type("Mine", (), {"refuses": refuses})):
        assert len(compare(one)) == 1


def test_comparison_of_nothing_shows_nothing(tmp_path: Path) -> None:
    """In one line."""
    for show in (Results().plot, lambda: Results().to_html(tmp_path / "x.html")):
        with pytest.raises(PleemuError, match="has no runs"):
            show()


@pytest.mark.parametrize("write", ["to_html", "plot"])
@pytest.mark.parametrize("several", [False, True])
def test_results_overwrite_nothing_that_they_come_from(write: str, several: bool, tmp_path: Path) -> None:
    """The scenario and its guest stay what they are."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    (tmp_path / "guest.S").write_text(".globl guest_main\nguest_main:\n    ret\n")
    scenario = tmp_path / "mine.toml"
    scenario.write_text('duration_ms = 1\n[[vm]]\nname = "a"\nprogram = "guest.S"\n')
    texts = {path: path.read_bytes() for path in tmp_path.iterdir()}
    made = pleemu.compare(scenario, "vanilla,no-ple") if several else pleemu.run(scenario)
    for path in texts:
        with pytest.raises(PleemuError, match="overwrite"):
            getattr(made, write)(path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == texts
