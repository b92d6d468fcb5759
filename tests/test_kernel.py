"""The versions of the host scheduler: their table, their features as a user writes them, and whole runs."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_machines import Command, observe

from pleemu.cli import main
from pleemu.errors import ScenarioError
from pleemu.kernel import EEVDF, SCHEDULERS, factor
from pleemu.machine.tunables import tunables_of
from pleemu.scheduler.records import TUNABLES


def test_the_table_and_the_record_name_the_same_things():
    """Each switch of the record is some version's, and each of a version is in the record."""
    named = {field for version in SCHEDULERS.values() for field in version.tunables(cpus=1, hz=250)}
    assert named | {"model", "debooster"} == set(TUNABLES.names)


def test_the_tunables_grow_with_the_cpus():
    """1, 2 to 3, 4 to 7, 8 and more CPUs: once, twice, three and four times the base."""
    assert [factor(cpus) for cpus in (1, 2, 3, 4, 7, 8, 9, 64, 8192)] == [1, 2, 2, 3, 3, 4, 4, 4, 4]
    slices = [
        int(tunables_of(SCHEDULERS[name], cpus=cpus, hz=250).base_slice[0])
        for name in ("eevdf-6.6", "eevdf-6.12.0", "eevdf-6.12")
        for cpus in (1, 2, 4, 8)
    ]
    older = [750_000, 1_500_000, 2_250_000, 3_000_000]
    assert slices == [*older, *older, 700_000, 1_400_000, 2_100_000, 2_800_000]
    cfs = tunables_of(SCHEDULERS["cfs-5.6"], cpus=8, hz=250)[0]
    found = (cfs.latency, cfs.min_granularity, cfs.wakeup_granularity, cfs.nr_latency)
    assert found == (24_000_000, 3_000_000, 4_000_000, 8)


@pytest.mark.parametrize(("hz", "ns"), [(100, 10_000_000), (250, 4_000_000), (300, 3_333_333), (1000, 1_000_000)])
def test_a_tick_is_rounded_as_tick_nsec(hz, ns):
    """TICK_NSEC bounds what a task may be owed."""
    assert SCHEDULERS["eevdf-6.12"].tunables(cpus=1, hz=hz)["tick_nsec"] == ns


@given(st.data())
def test_features_are_written_one_after_the_other(data):
    """The last word about a feature counts; the record has what comes out."""
    version = SCHEDULERS[data.draw(st.sampled_from(sorted(SCHEDULERS)))]
    names = st.sampled_from(sorted(version.defaults))
    words = data.draw(st.lists(st.tuples(names, st.booleans()), max_size=8))
    written = " ".join(name if on else f"NO_{name}" for name, on in words)
    expected = {**version.defaults, **dict(words)}
    assert version.with_features(written) == expected
    tunables = tunables_of(version, cpus=1, hz=250, features=written)
    assert {name: bool(tunables[name.lower()][0]) for name in expected} == expected
    if version.model == EEVDF and "PICK_BUDDY" not in expected:
        assert bool(tunables.pick_buddy[0]) == expected["NEXT_BUDDY"]


@pytest.mark.parametrize(
    ("scheduler", "written"),
    [("eevdf-6.12", "LAST_BUDDY"), ("cfs-5.6", "NO_PLACE_LAG"), ("eevdf-6.6", "NEXT_BUDDY,RUN_TO_PARITY"),
     ("eevdf-6.6", "NO_PICK_BUDDY"), ("cfs-5.6", "NO_NO_NEXT_BUDDY"), ("cfs-5.6", "next_buddy")],
)  # fmt: skip
def test_a_foreign_feature_is_an_error_that_names_the_right_ones(scheduler, written, capsys):
    """One line with the field, the feature, and all that this version has; exit code 2."""
    with pytest.raises(ScenarioError):
        SCHEDULERS[scheduler].with_features(written)
    assert main(["run", "worst_case", "--host.scheduler", scheduler, "--host.features", written]) == 2
    err = capsys.readouterr().err
    assert err.startswith("pleemu: error: ")
    assert len(err.splitlines()) == 1
    assert "host.features: " in err
    assert all(name in err for name in SCHEDULERS[scheduler].defaults)


def test_the_list_shows_the_versions_side_by_side(capsys):
    """Every version is a column, every feature a row: on, off or absent."""
    assert main(["list", "schedulers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == [*SCHEDULERS, "chaos"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[3:]}
    assert rows["NEXT_BUDDY"] == ["off"] * 4
    assert rows["PICK_BUDDY"] == ["on"]
    assert rows["START_DEBIT"] == ["on"]
    assert len(rows["RUN_TO_PARITY"]) == 3


def test_a_run_has_the_scheduler_that_it_asks_for():
    """Each version has a run of its own, some feature changes it, and JSON says which it was."""
    fields = {"host.hz": "1000", "host.online_cpus": "1", "hardware.tsc_khz": "100000"}
    digests = {}
    for name in SCHEDULERS:
        for features in ("", "NO_WAKEUP_PREEMPTION NEXT_BUDDY"):
            more = {"host.scheduler": name, "host.features": features}
            run = observe(Command("worst_case", {"duration": "100ms"}, fields | more)).run
            digests[name, features] = run.digest
            assert (run.scenario.host.scheduler, run.scenario.host.features) == (name, features)
    assert len(set(digests.values())) > len(SCHEDULERS)
    assert len({digests[name, ""] for name in SCHEDULERS}) == len(SCHEDULERS)


def test_the_json_of_a_run_names_version_and_features(capsys):
    """What is needed to repeat it."""
    options = ["--host.scheduler", "eevdf-6.6", "--host.features", "NEXT_BUDDY", "--duration", "1ms", "--json"]
    assert main(["run", "worst_case", *options]) == 0
    host = json.loads(capsys.readouterr().out)["scenario"]["host"]
    assert (host["scheduler"], host["features"]) == ("eevdf-6.6", "NEXT_BUDDY")
