"""Scenarios: what a file and an override may say, and what is said about the rest."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import scenario_of, scenarios

from pleemu.errors import ScenarioError
from pleemu.overrides import Overrides, parse_settings, parse_time_ms, split_dotted
from pleemu.scenario import IDLE, Cost, Hardware, Kvm, Scenario, Thread, Vm, from_dict, load, set_field, set_fields
from pleemu.structure import paths

PATHS = [path for path, _ in paths(Scenario)]
THREAD = '[[thread]]\nname = "kw"\n'
MINIMAL = '[[vm]]\nname = "a"\nprogram = "a.S"\n'

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(["hz", "vm", "host", "kvm", "hardware", "cost", "name", "pinning", "seed", "policy"])
some_tables = st.dictionaries(keys, json_values | st.dictionaries(keys, json_values))
garbage = st.one_of(
    st.binary(max_size=60), st.text(max_size=60).map(str.encode), st.integers(1, 5000).map(lambda n: b"a=" + b"[" * n)
)


def written(tmp_path: Path, text: str | bytes, name: str = "scenario.toml") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


_few_names = st.sampled_from(("a", "a/0", "a/1", "a/0/0", "b", "idle"))


@given(
    st.lists(st.builds(Vm, name=_few_names, program=st.just("a.S"), vcpus=st.integers(1, 2)), min_size=1, max_size=2),
    st.lists(st.builds(Thread, name=_few_names, count=st.integers(1, 2)), max_size=2),
)
def test_threads_have_names_of_their_own(vms: list[Vm], threads: list[Thread]) -> None:
    """vCPUs, threads of the host and the idle one: what gives two of them one name is refused."""
    try:
        names = Scenario(name="x", vm=vms, thread=threads).thread_names()
    except ScenarioError as error:
        assert "is also the name of" in str(error)
    else:
        assert len({*names, IDLE}) == len(names) + 1


@given(scenarios())
def test_scenario_survives_the_way_through_plain_values(scenario: Scenario) -> None:
    """A scenario becomes plain values and the same scenario again, programs' folder included."""
    assert from_dict(scenario.to_dict(), folder=scenario.folder) == scenario


@given(st.sampled_from(PATHS) | st.text(max_size=20), st.text(max_size=20) | st.integers().map(str))
def test_override_applies_or_explains(path: str, value: str) -> None:
    """Any override string gives a scenario or a ScenarioError, never another exception."""
    try:
        assert isinstance(set_field(scenario_of(), path, value), Scenario)
    except ScenarioError as error:
        assert str(error).isprintable()


@given(some_tables)
def test_plain_values_make_a_scenario_or_explain(data: dict[str, object]) -> None:
    """Any tables give a scenario or a ScenarioError, never another exception."""
    try:
        assert isinstance(from_dict(data), Scenario)
    except ScenarioError as error:
        assert "\n" not in str(error)


@given(garbage)
def test_garbage_toml_is_a_scenario_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Any file content gives a scenario or a ScenarioError that begins with the file's name."""
    path = written(tmp_path_factory.mktemp("garbage"), content)
    try:
        load(path)
    except ScenarioError as error:
        assert str(error).startswith(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[host]\nhzz = 5\n" + MINIMAL, "host.hzz: unknown field; did you mean 'hz'?"),
        ("[hosst]\nhz = 250\n" + MINIMAL, "hosst: unknown field; did you mean 'host'?"),
        ("[host]\nhz = '250'\n" + MINIMAL, "host.hz: '250' is not possible; use one of 100, 250, 300, 1000"),
        ("[hardware]\npcpus = true\n" + MINIMAL, "hardware.pcpus: True is not a whole number; use 1 to 1024"),
        ("[hardware]\npcpus = 1.0\n" + MINIMAL, "hardware.pcpus: 1.0 is not a whole number; use 1 to 1024"),
        ("[hardware]\npcpus = 0\n" + MINIMAL, "hardware.pcpus: 0 is out of range; use 1 to 1024"),
        ("duration_ms = nan\n" + MINIMAL, "duration_ms: nan is out of range"),
        ("policy = 'debooser'\n" + MINIMAL, "policy: unknown policy 'debooser'; did you mean 'debooster'?"),
        ("[hardware]\nprocessor = 'haswel'\n" + MINIMAL, "unknown processor 'haswel'; did you mean 'haswell'?"),
        ("[host]\nscheduler = 'cfs'\n" + MINIMAL, "unknown scheduler 'cfs'; did you mean 'cfs-5.6'?"),
        ("[kvm]\nple_window_max = 5\n" + MINIMAL, "kvm.ple_window_max: 5 is below ple_window=4096; use at least 4096"),
        ("[kvm]\npause_filter_count = 99999\n" + MINIMAL, "kvm.pause_filter_count: 99999 is out of range"),
        (
            "[hardware]\nprocessor = 'zen2'\n[kvm]\npause_filter_count_max = 5\n" + MINIMAL,
            "kvm.pause_filter_count_max: 5 is below pause_filter_count=3000; use at least 3000",
        ),
        ("[hardware]\nprocessor = 'zen2'\n[kvm]\nple_gap = 5\n" + MINIMAL, "counterpart is kvm.pause_filter_thresh"),
        ("[hardware]\nvendor = 'via'\n" + MINIMAL, "hardware.vendor: unknown vendor 'via'; known are amd, intel"),
        (
            MINIMAL + 2 * "[[variant]]\nname = 'x'\nset = ['seed=1']\n",
            "variant.1.name: 'x' is also the name of variant.0",
        ),
        (MINIMAL + "[[variant]]\nname = 'x'\nset = []\n", "variant.0.set: () changes nothing; use a list of"),
        (MINIMAL + "pinning = [0]\n", "vm.0.pinning: places 1 vCPUs, but vm.0.vcpus is 2"),
        (MINIMAL + "pinning = 'round-robin'\n", "vm.0.pinning: 'round-robin' is called 'vcpu-to-pcpu' now; use that"),
        (MINIMAL + "pinning = 'nowhere'\n", "vm.0.pinning: 'nowhere' is not a placement; use 'vcpu-to-pcpu', 'spread'"),
        (MINIMAL + "pinning = '3-1'\n", "vm.0.pinning: '3-1' is not a placement"),
        (MINIMAL + "pinning = ['0', '0-9999']\n", "vm.0.pinning: there is no pCPU 9999; use 0 to 0 or raise hardware"),
        (MINIMAL + "pinning = [0, 1]\n", "vm.0.pinning: there is no pCPU 1; use 0 to 0 or raise hardware.pcpus"),
        (MINIMAL + MINIMAL, "vm.1.name: 'a' is also the name of vm.0; use another"),
        ("[[vm]]\nname = 'a'\n", "vm.0.program: is missing"),
        ('[[vm]]\nname = "a\\u001b[31m"\nprogram = "a.S"\n', "unprintable characters"),
        ("summary = 'x'\n", "vm: is missing; add a table [[vm]]"),
        ("host = 5\n" + MINIMAL, "host: 5 is not a table of fields"),
        (MINIMAL + "nice = 20\n", "vm.0.nice: 20 is out of range; use -20 to 19"),
        (MINIMAL + "[[thread]]\nnice = 1\n", "thread.0.name: is missing; name in reports and traces"),
        (MINIMAL + THREAD + "period_us = 7\n", "thread.0.period_us: 7 is less than busy_us=1000; use at least that"),
        (MINIMAL + THREAD + THREAD, "thread.1.name: 'kw' is also the name of thread.0; use another"),
        (
            MINIMAL + '[[thread]]\nname = "a/1"\n',
            "thread.0.name: 'a/1' is also the name of a vCPU of vm.0; use another",
        ),
        (MINIMAL + '[[thread]]\nname = "a"\ncount = 2\n', "thread.0.name: 'a/0' is also the name of a vCPU of vm.0"),
        (
            MINIMAL + '[[thread]]\nname = "idle"\n',
            "thread.0.name: 'idle' is also the name of the thread of an idle pCPU",
        ),
        (
            MINIMAL + THREAD + "count = 2\n" + THREAD.replace("kw", "kw/1"),
            "thread.1.name: 'kw/1' is also the name of a copy of thread.0; use another",
        ),
        (
            MINIMAL + THREAD.replace("kw", "kw/1") + THREAD + "count = 2\n",
            "thread.1.name: 'kw/1' is also the name of a copy of thread.0; use another",
        ),
        (
            MINIMAL + THREAD + "pinning = [0, 0]\n",
            "thread.0.pinning: places 2 threads, but thread.0.count is 1; name 1",
        ),
        (MINIMAL + THREAD + "pinning = [3]\n", "thread.0.pinning: there is no pCPU 3; use 0 to 0"),
        (MINIMAL + THREAD + "count = 0\n", "thread.0.count: 0 is out of range; use 1 to 1024"),
        (MINIMAL + THREAD + "count = 1024\n[[thread]]\nname = 'b'\n", "thread: 1025 threads are too many; use at most"),
        (
            MINIMAL + "[[thread]]\nname = 'Löwe'\n",
            "thread.0.name: 'Löwe' cannot be a thread's name; use at most 15 ASCII",
        ),
        ("[kvm]\nhalt_poll_ns = -1\n" + MINIMAL, "kvm.halt_poll_ns: -1 is out of range; use 0 to 4294967295"),
    ],
)
def test_bad_value_is_named_with_its_place_and_the_cure(tmp_path: Path, text: str, message: str) -> None:
    """A message names file, field, value and what would be right."""
    path = written(tmp_path, text)
    with pytest.raises(ScenarioError) as caught:
        load(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("text", "place"), [("a = 1\nb == 2\n", ":2:4: "), ("a = [1,\n", ":2:1: "), (b"a = 1\nb = '\xff'\n", ":2: ")]
)
def test_toml_syntax_error_has_line_and_column(tmp_path: Path, text: str | bytes, place: str) -> None:
    """What is not TOML is reported with file, line and column."""
    path = written(tmp_path, text)
    with pytest.raises(ScenarioError, match="not "):
        load(path)
    with pytest.raises(ScenarioError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}{place}")


@pytest.mark.parametrize("name", ["absent.toml", "folder", "\0"])
def test_file_that_cannot_be_read_is_a_scenario_error(tmp_path: Path, name: str) -> None:
    """A missing file, a folder without a scenario and an impossible name are named."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(ScenarioError, match="cannot be read"):
        load(tmp_path / name)


def test_default_name_is_the_folders(tmp_path: Path) -> None:
    """A scenario without a name is called after its folder, or after its file."""
    (tmp_path / "storm").mkdir()
    assert load(written(tmp_path / "storm", MINIMAL)).name == "storm"
    assert load(written(tmp_path, MINIMAL, "other.toml")).name == "other"


def test_program_is_relative_to_the_scenarios_folder(tmp_path: Path) -> None:
    """A program is looked for beside the scenario, whatever the working folder is."""
    scenario = load(written(tmp_path, MINIMAL))
    assert scenario.program_path(scenario.vm[0]) == tmp_path / "a.S"


def test_list_entries_are_addressed_by_number_or_all_at_once() -> None:
    """`vm.0.vcpus` changes the first VM, `vm.vcpus` every VM."""
    assert [vm.vcpus for vm in set_field(scenario_of(vms=2), "vm.1.vcpus", "5").vm] == [2, 5]
    assert [vm.vcpus for vm in set_field(scenario_of(vms=2), "vm.vcpus", "3").vm] == [3, 3]


def test_thread_of_the_host_is_made_by_the_number_behind_the_last() -> None:
    """`thread.0.name` gives a scenario without threads its first; a gap, or a field of none, is an error."""
    given_ = {"thread.0.name": "hog", "thread.0.nice": "5", "thread.1.name": "kw", "thread.1.period_us": "2000"}
    hog, kw = set_fields(scenario_of(), given_).thread
    assert (hog.name, hog.nice, hog.period_us, kw.name, kw.period_us) == ("hog", 5, 0, "kw", 2000)
    for wrong, message in (
        ({"thread.1.name": "hog"}, "thread.1.name: there is no number 1; the first is number 0"),
        ({"thread.nice": "5"}, "thread.nice: there is none yet; the first is number 0"),
        ({"thread.0.busy_us": "50"}, "thread.0.name: is missing"),
        ({"vm.2.vcpus": "5"}, "vm.2.vcpus: there is no number 2; the last is 1"),
    ):
        with pytest.raises(ScenarioError, match=message):
            set_fields(scenario_of(), wrong)


def test_overrides_are_checked_together() -> None:
    """Two overrides that are only right together are right, in any order."""
    wanted = {"vm.pinning": "0,1,1", "vm.vcpus": "3", "hardware.pcpus": "2"}
    for given_ in (wanted, dict(reversed(wanted.items()))):
        assert set_fields(scenario_of(), given_).vm[0].pinning == (0, 1, 1)


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        ("vcpu-to-pcpu", [(0,), (1,), (2,)] * 2),
        ("spread", [(0,), (1,), (2,), (3,), (0,), (1,)]),
        ("none", [(0, 1, 2, 3)] * 6),
        ("0-1,3", [(0, 1, 3)] * 6),
        ("2,0,0", [(2,), (0,), (0,)] * 2),
        ('[2, "0-1,3", "3"]', [(2,), (0, 1, 3), (3,)] * 2),
        ("[1-2, 0, 2-3]", [(1, 2), (0,), (2, 3)] * 2),
    ],
)
def test_pinning_says_where_each_vcpu_may_run(given: str, allowed: list[tuple[int, ...]]) -> None:
    """A word, one set of pCPUs for all vCPUs, or one each; it survives being written out."""
    scenario = set_fields(scenario_of(vcpus=3), {"vm.pinning": given, "hardware.pcpus": "4"})
    assert [tuple(one) for one in scenario.allowed_pcpus()] == allowed
    assert from_dict(scenario.to_dict()) == attrs.evolve(scenario, folder=Path())


def test_field_of_another_table_is_suggested() -> None:
    """A field in the wrong table is answered with its full name."""
    with pytest.raises(ScenarioError, match=r"host\.ple_gap: unknown field; did you mean 'kvm\.ple_gap'\?"):
        set_field(scenario_of(), "host.ple_gap", "64")


def test_costs_are_the_processors_unless_given() -> None:
    """A given cost replaces the preset's, the others stay."""
    costs = Hardware(processor="skylake-sp", pause_cycles=99).costs()
    assert (costs.pause_cycles, costs.locked_cycles) == (99, 18)


def test_defaults_follow_from_the_rest() -> None:
    """The core clock defaults to the TSC's, the online CPUs to the pCPUs."""
    scenario = scenario_of(hardware=Hardware(pcpus=3, tsc_khz=2_000_000))
    assert (scenario.hardware.core_rate_khz, scenario.online_cpus) == (2_000_000, 3)


def test_every_cost_says_where_it_comes_from() -> None:
    """Each cost is labelled calibrated or proposed."""
    for field in attrs.fields(Cost):
        assert field.metadata["origin"].partition(":")[0] in ("calibrated", "proposed"), field.name


def test_python_callers_get_the_same_checks() -> None:
    """The classes check what they are given, also without a file."""
    with pytest.raises(ScenarioError, match="ple_gap: -1 is out of range"):
        Kvm(ple_gap=-1)


@pytest.mark.parametrize(
    ("text", "ms"), [("50ms", 50), ("2s", 2000), ("300us", 0.3), ("7", 7), (" 1.5 ms ", 1.5), (20, 20), (0.5, 0.5)]
)
def test_duration_has_units(text: str | float, ms: float) -> None:
    """A time is read with its unit; a bare number is ms."""
    assert parse_time_ms("duration", text) == pytest.approx(ms)


@given(st.text(max_size=10))
def test_duration_is_read_or_explained(text: str) -> None:
    """Any text is a time or a ScenarioError."""
    try:
        Overrides(duration=text).apply(scenario_of())
    except ScenarioError as error:
        assert "duration" in str(error)


def test_vms_are_repeated_under_new_names() -> None:
    """More VMs than there are repeat the given ones, fewer are the first ones; names stay distinct."""
    assert [vm.name for vm in Overrides(vms=4).apply(scenario_of(vms=2)).vm] == ["vm0", "vm1", "vm2", "vm3"]
    assert [vm.name for vm in Overrides(vms=1).apply(scenario_of(vms=2)).vm] == ["vm0"]
    with pytest.raises(ScenarioError, match="vms: 0 is out of range"):
        Overrides(vms=0).apply(scenario_of())


def test_dotted_arguments_become_settings() -> None:
    """Both spellings of a dotted option are settings, and what follows `--` is left alone."""
    given_ = ["run", "x", "--host.hz", "1000", "--kvm.ple-gap=64", "--json", "--", "--a.b"]
    assert split_dotted(given_) == ["run", "x", "--set=host.hz=1000", "--set=kvm.ple-gap=64", "--json", "--", "--a.b"]
    with pytest.raises(ScenarioError, match="needs a value"):
        split_dotted(["--host.hz"])
    with pytest.raises(ScenarioError, match="needs a value"):
        split_dotted(["--host.hz", "--json"])
    with pytest.raises(ScenarioError, match="FIELD=VALUE"):
        parse_settings(["host.hz"])
