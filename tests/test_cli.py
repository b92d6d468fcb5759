"""The command line: what it prints, and that no bad input ends in a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import attrs
import pytest
from made_runs import storm

from pleemu import catalogue
from pleemu.cli import app, main
from pleemu.errors import GuestFault
from pleemu.experiment import in_hand
from pleemu.experiment.compare import by_variant
from pleemu.kernel import CFS, CHAOS, EEVDF
from pleemu.machine import run as machine_run
from pleemu.machine.result import Run
from pleemu.policy import ALL, DEBOOSTERS, Policy
from pleemu.report.json_form import RUN_KEYS
from pleemu.scenario import Scenario
from pleemu.structure import paths

GUEST = "guest_main: ret\n"
SCENARIO = '[hardware]\npcpus = 2\n[[vm]]\nname = "a"\nprogram = "guest.S"\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with one scenario and one guest."""
    (tmp_path / "guest.S").write_text(GUEST)
    (tmp_path / "mine.toml").write_text(SCENARIO)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[Scenario]:
    """A machine that only notes what it was asked to run."""
    asked: list[Scenario] = []

    def simulate(scenario: Scenario, *, policy: Policy | None = None, **_: object) -> Run:
        asked.append(scenario)
        return storm(policy.name if policy else scenario.policy, scenario=scenario)

    monkeypatch.setattr(machine_run, "simulate", simulate)
    monkeypatch.setattr(machine_run, "prepare", lambda announce: None)
    monkeypatch.setattr(machine_run, "load_programs", lambda scenario: {})
    return asked


def test_run_reports(folder: Path, machine: list[Scenario], capsys: pytest.CaptureFixture[str]) -> None:
    """`run` prints the report and the next command, with the same changes."""
    assert main(["run", "mine.toml", "--seed", "7", "--host.hz", "1000"]) == 0
    printed = capsys.readouterr().out
    assert "PAUSE_INSTRUCTION" in printed
    assert "next: pleemu compare mine.toml --seed 7 --host.hz=1000" in printed


def test_options_and_dotted_fields_reach_the_scenario(folder: Path, machine: list[Scenario]) -> None:
    """Every option changes its field, in both spellings."""
    arguments = "--policy debooster --seed 7 --duration 2s --vms 2 --vcpus 3 --pcpus 4 --host.hz 1000"
    assert main(["run", "mine.toml", *arguments.split(), "--kvm.ple-gap=64", "--vm.0.pinning", "0,1,3"]) == 0
    (asked,) = machine
    assert (asked.policy, asked.seed, asked.duration_ms, asked.hardware.pcpus) == ("debooster", 7, 2000, 4)
    assert (asked.host.hz, asked.kvm.ple_gap) == (1000, 64)
    assert [(vm.name, vm.vcpus, vm.pinning) for vm in asked.vm] == [("a", 3, (0, 1, 3)), ("a2", 3, "vcpu-to-pcpu")]


def test_guest_runs_without_a_scenario(folder: Path, machine: list[Scenario]) -> None:
    """A guest source runs in one VM of two vCPUs on one pCPU for 100 ms."""
    assert main(["run", "guest.S"]) == 0
    (asked,) = machine
    assert (len(asked.vm), asked.vm[0].vcpus, asked.hardware.pcpus, asked.duration_ms) == (1, 2, 1, 100)
    assert asked.program_path(asked.vm[0]).read_text() == GUEST


def test_json_is_all_that_is_printed(folder: Path, machine: list[Scenario], capsys: pytest.CaptureFixture[str]) -> None:
    """With --json stdout is one JSON object and nothing else."""
    assert main(["run", "mine.toml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["policy"] == "vanilla"
    assert main(["compare", "mine.toml", "--json", "--policies", "debooster,vanilla"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [run["policy"] for run in runs] == ["debooster", "vanilla"]


def test_compare_runs_all_shipped_policies(
    folder: Path, machine: list[Scenario], capsys: pytest.CaptureFixture[str]
) -> None:
    """`compare` shows one row a policy and a timeline."""
    assert main(["compare", "mine.toml"]) == 0
    printed = capsys.readouterr().out
    assert len(machine) == 5
    assert "strict-boost+debooster" in printed
    assert "Timeline" in printed


@pytest.mark.parametrize(("scheduler", "kind"), [("cfs-5.6", CFS), ("eevdf-6.12", EEVDF), ("chaos", CHAOS)])
def test_all_policies_are_those_that_suit_the_scheduler(
    folder: Path, machine: list[Scenario], capsys: pytest.CaptureFixture[str], scheduler: str, kind: str
) -> None:
    """`--policies all` leaves out the deboosters of another scheduler, and nothing else; who names one is told."""
    assert main(["compare", "mine.toml", "--policies", "all", "--json", "--host.scheduler", scheduler]) == 0
    run = [one["policy"] for one in json.loads(capsys.readouterr().out)["runs"]]
    assert run == [one.name for one in ALL if DEBOOSTERS.get(one.debooster or "", kind) == kind]
    assert {"vanilla", "ideal", "ideal-nominee"} < set(run) < {one.name for one in ALL}
    other = "debooster" if kind == EEVDF else "debooster-2025-v2"
    assert main(["compare", "mine.toml", "--policies", other, "--host.scheduler", scheduler]) == 2


def test_compare_across_any_field_has_a_row_for_each_combination(
    folder: Path, machine: list[Scenario], capsys: pytest.CaptureFixture[str]
) -> None:
    """`--across` sets any field to each of its values; given twice, and with policies, to every combination."""
    axes = ["--across", "hardware.processor=haswell,zen4", "--across", "vm.0.pinning=0,1;1,1"]
    assert main(["compare", "mine.toml", *axes, "--json", "--policies", "vanilla,no-ple"]) == 0
    rows = json.loads(capsys.readouterr().out)["runs"]
    asked = [(one.hardware.processor, one.vm[0].pinning) for one in machine]
    assert asked == [pair for pair in product(("haswell", "zen4"), ((0, 1), (1, 1))) for _ in range(2)]
    assert [row["policy"] for row in rows] == ["vanilla", "no-ple"] * 4
    assert (rows[0]["name"], rows[-1]["name"]) == ("haswell, 0,1, vanilla", "zen4, 1,1, no-ple")


def test_compare_shows_the_variants_that_a_scenario_lists(
    folder: Path, machine: list[Scenario], capsys: pytest.CaptureFixture[str]
) -> None:
    """Variants are the rows, each with its own fields and the scenario's policy; `--policies` asks for policies."""
    variants = '[[variant]]\nname = "slow"\nset = ["hardware.core_khz=1000000", "host.hz=100"]\n'
    variants += '[[variant]]\nname = "amd"\nset = ["hardware.processor = zen2"]\n'
    (folder / "varied.toml").write_text('policy = "debooster"\n' + SCENARIO + variants)
    assert main(["compare", "varied.toml", "--seed", "9"]) == 0
    printed = capsys.readouterr().out
    assert [(one.hardware.core_khz, one.host.hz, one.hardware.is_amd, one.seed) for one in machine] == [
        (1_000_000, 100, False, 9),
        (None, 250, True, 9),
    ]
    assert {one.policy for one in machine} == {"debooster"}
    assert all(one.variant == () for one in machine)
    assert "slow" in printed
    assert "guest/exit" in printed
    machine.clear()
    assert main(["compare", "varied.toml", "--policies", "vanilla,no-ple"]) == 0
    assert "Timeline" in capsys.readouterr().out
    assert len(machine) == 2


def test_bad_variant_is_named(folder: Path, machine: list[Scenario], capsys: pytest.CaptureFixture[str]) -> None:
    """A variant that makes no sense is named with its number, its name and its field."""
    (folder / "bad.toml").write_text(SCENARIO + '[[variant]]\nname = "x"\nset = ["host.hz=7"]\n')
    assert main(["compare", "bad.toml"]) == 2
    assert "variant.0 (x): host.hz: '7' is not possible" in capsys.readouterr().err
    (folder / "bad.toml").write_text(SCENARIO + '[[variant]]\nname = "x"\nset = ["host.hz"]\n')
    assert main(["run", "bad.toml"]) == 2
    assert "bad.toml: variant.0.set: 'host.hz' is no setting" in capsys.readouterr().err
    assert not machine


@pytest.mark.parametrize("command", ["run", "compare"])
def test_help_lists_every_field_and_json_key(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The help names each dotted field and, for `run`, each key of the JSON."""
    assert main([command, "--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"--{path}" in printed for path, _ in paths(Scenario) if "." in path)
    assert "Factory" not in printed
    assert "<class" not in printed
    assert command == "compare" or all(f"\n  {key} " in printed for key in RUN_KEYS)


@pytest.mark.parametrize(
    "what", ["programs", "scenarios", "policies", "generations", "schedulers", "processors", "figures"]
)
def test_lists_are_not_empty(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each list has a title, a header and rows."""
    assert main(["list", what]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 3


def test_list_of_a_folder_is_its_readme(capsys: pytest.CaptureFixture[str]) -> None:
    """And says where the folder is, so that its programs can be read and run."""
    assert main(["list", "programs", "case_study"]) == 0
    printed = capsys.readouterr().out
    folder = catalogue.programs_folder() / "case_study"
    assert printed == f"{(folder / 'README.md').read_text().strip()}\n\n{folder}\n"


def test_list_of_parameters_has_defaults_and_what_the_scenario_sets(capsys: pytest.CaptureFixture[str]) -> None:
    """By VM; times in time."""
    assert main(["list", "parameters", "ticket_lock"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert rows["hold"].split() == ["hold", "time", "2.0", "us", "4200cycles", "4200cycles"]
    assert rows["rounds"].split() == ["rounds", "number", "0"]
    assert main(["list", "parameters", "case_study"]) == 0
    assert "(none)" in capsys.readouterr().out


def test_every_shipped_experiment_loads() -> None:
    """Each shipped scenario is valid, says what it shows, and its programs exist."""
    for name in catalogue.experiments():
        scenario = catalogue.find(name)
        assert scenario.summary
        assert all(scenario.program_path(vm).is_file() for vm in scenario.vm)
        assert len(by_variant(scenario)) == len(scenario.variant)


BAD = {
    "unknown scenario": (["run", "no_such_scenario"], "unknown scenario 'no_such_scenario'"),
    "missing file": (["run", "absent.toml"], "absent.toml: cannot be read: No such file"),
    "missing guest": (["run", "absent.S"], "absent.S: no such file"),
    "not a scenario": (["run", "notes.txt"], "neither a scenario (.toml) nor a guest"),
    "broken toml": (["run", "broken.toml"], "broken.toml:1:3: not TOML"),
    "unknown policy": (["run", "mine.toml", "--policy", "debooser"], "did you mean 'debooster'?"),
    "unknown policies": (["compare", "mine.toml", "--policies", "vanila"], "did you mean 'vanilla'?"),
    "contradiction": (["run", "mine.toml", "--policy", "no-ple+debooster"], "contradicts itself"),
    "unknown field": (["run", "mine.toml", "--host.hzz", "1"], "host.hzz: unknown field; did you mean 'hz'?"),
    "no value": (["run", "mine.toml", "--host.hz"], "--host.hz needs a value"),
    "axis without values": (["compare", "mine.toml", "--across", "host.hz"], "write --across FIELD=VALUE,VALUE"),
    "axis with a bad value": (["compare", "mine.toml", "--across", "host.hz=250,9"], "host.hz: '9' is not possible"),
    "axis with an unknown field": (["compare", "mine.toml", "--across", "host.hzz=1"], "did you mean 'hz'?"),
    "axis with a value twice": (["compare", "mine.toml", "--across", "host.hz=100,100"], "100 is named twice"),
    "axis twice": (["compare", "mine.toml", "--across", "seed=1", "--across", "seed=2"], "seed is given twice"),
    "two choices of policies": (
        ["compare", "mine.toml", "--across", "policy=vanilla", "--policies", "no-ple"],
        "--across policy and --policies both choose policies",
    ),
    "too many combinations": (
        ["compare", "mine.toml", "--across", f"seed={','.join(map(str, range(1001)))}"],
        "more than 1000 combinations",
    ),
    "variant of variants": (["compare", "mine.toml", "--across", "variant.0.name=x"], "variant.0.name: cannot be"),
    "other vendor's parameter": (
        ["run", "mine.toml", "--hardware.processor", "zen3", "--kvm.ple_window", "8192"],
        "kvm.ple_window: is a parameter of kvm_intel, but with hardware.processor 'zen3' kvm_amd runs; "
        "its counterpart is kvm.pause_filter_count",
    ),
    "AMD's parameter on Intel": (
        ["run", "mine.toml", "--kvm.pause_filter_thresh=0"],
        "kvm.pause_filter_thresh: is a parameter of kvm_amd, but with hardware.processor 'broadwell' kvm_intel runs; "
        "its counterpart is kvm.ple_gap",
    ),
    "bad number": (["run", "mine.toml", "--seed", "x"], "--seed"),
    "negative seed": (["run", "mine.toml", "--seed", "-5"], "seed: -5 is out of range"),
    "bad duration": (["run", "mine.toml", "--duration", "5 weeks"], "duration: '5 weeks' is not a time"),
    "contradictory numbers": (["run", "mine.toml", "--vm.0.pinning", "0,1,1"], "vm.0.pinning: places 3 vCPUs"),
    "unknown option": (["run", "mine.toml", "--polcy", "x"], "Did you mean --policy?"),
    "unknown command": (["rum"], 'Did you mean "run"?'),
    "unknown list": (["list", "things"], "Choose from"),
    "list of one too many": (["list", "policies", "vanilla"], "list policies vanilla: takes no more names"),
    "unknown folder": (["list", "programs", "lock"], "there is no folder 'lock'; did you mean 'locks'?"),
    "parameters of nothing": (["list", "parameters"], "of which guest?"),
    "no scenario": (["run"], "SCENARIO"),
    "two scenarios": (["run", "mine.toml", "other"], "other"),
    "trace": (["run", "guest.S", "--trace", "absent/trace.txt"], "--trace absent/trace.txt: there is no folder absent"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_clear_message(
    folder: Path, machine: list[Scenario], capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """What the user can mend is named on stderr, with exit code 2 and nothing on stdout."""
    (folder / "broken.toml").write_text("a b")
    (folder / "notes.txt").write_text("notes")
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("pleemu: error: ")
    assert message in printed.err
    assert not printed.out


def integer_options() -> list[tuple[str, str]]:
    """Return every option of every command that takes a whole number."""
    return [
        (command, argument.name)
        for command in app.resolved_commands()
        if not command.startswith("-") and command != "new"  # which has but commands
        for argument in app[command].assemble_argument_collection()
        if "int" in str(argument.hint)
    ]


def test_integer_options_are_found() -> None:
    """So that the test below means something."""
    assert {
        ("run", "--seed"), ("compare", "--vcpus"), ("explain", "--vms"), ("check", "--examples"),
        ("boost-latency", "--tasks"), ("reproduce", "--seeds"), ("reproduce", "--jobs"),
    } <= set(integer_options())  # fmt: skip


@pytest.mark.parametrize(("command", "option"), integer_options())
@pytest.mark.parametrize("value", ["1.5", "1.0", "x"])
def test_number_that_is_not_whole_is_refused(
    folder: Path,
    machine: list[Scenario],
    capsys: pytest.CaptureFixture[str],
    command: str,
    option: str,
    value: str,
) -> None:
    """It is not rounded, whichever the option."""
    what = {"boost-latency": [], "check": ["vanilla"], "reproduce": ["talk"]}.get(command, ["mine.toml"])
    assert main([command, *what, option, value]) == 2
    told = f"Invalid value for {option}: {value!r} is not a whole number; use one, as in 12"
    assert capsys.readouterr().err == f"pleemu: error: {told}\n"
    assert not machine


def pleemu(*arguments: str, cwd: Path, **more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pleemu", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120, **more)


@pytest.mark.parametrize("kind", ["unknown scenario", "broken toml", "unknown field", "unknown option"])
def test_bad_input_leaves_no_traceback_in_a_real_process(folder: Path, kind: str) -> None:
    """Exit code 2, one message, no traceback: also from a process of its own."""
    (folder / "broken.toml").write_text("a b")
    arguments, message = BAD[kind]
    done = pleemu(*arguments, cwd=folder)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_help_and_lists_do_not_import_the_compiler(folder: Path) -> None:
    """What runs no guest does not wait for numba."""
    code = (
        "import sys; from pleemu.cli import main; import pleemu; "
        "main(['list', 'processors']); main(['run', '--help']); "
        "sys.exit(any(name in sys.modules for name in ('numba', 'llvmlite', 'iced_x86', 'elftools')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_interrupt_ends_quietly(
    folder: Path, machine: list[Scenario], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C during a run ends with 130 and no traceback."""

    def interrupted(*_: object, **__: object) -> Run:
        raise KeyboardInterrupt

    monkeypatch.setattr(machine_run, "simulate", interrupted)
    assert main(["run", "guest.S"]) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [(GuestFault, 2, "error: row '3' (seed): it broke"), (KeyboardInterrupt, 130, "interrupted")],
)
@pytest.mark.parametrize("json_", [False, True])
def test_rows_that_were_finished_are_shown(
    folder: Path,
    machine: list[Scenario],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: type[BaseException],
    code: int,
    said: str,
    json_: bool,
) -> None:
    """A row that breaks, or Ctrl-C, takes none with it: they are printed and written, and the exit code is as ever."""
    run, pages = machine_run.simulate, []

    def broken(scenario: Scenario, **more: object) -> Run:
        if scenario.seed == 3:
            raise error("it broke")
        return run(scenario, **more)

    monkeypatch.setattr(machine_run, "simulate", broken)
    monkeypatch.setattr(in_hand, "write_pages", lambda path, cases, *_, **__: pages.extend(name for name, _ in cases))
    arguments = ["compare", "mine.toml", "--report", "page.html", *(["--json"] if json_ else [])]
    assert main([*arguments, "--across", "seed=1,2,3,4"]) == code
    printed = capsys.readouterr()
    assert printed.err == f"pleemu: 2 of 4 rows were finished, and are shown\npleemu: {said}\n"
    assert pages == ["1", "2"]
    if json_:
        assert [row["name"] for row in json.loads(printed.out)["runs"]] == ["1", "2"]
    else:
        assert "2 runs" in printed.out
    assert main([*arguments, "--across", "seed=3,1"]) == code
    assert capsys.readouterr() == ("", f"pleemu: {said}\n")


def test_bugs_are_not_hidden(folder: Path, machine: list[Scenario], monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that no input explains stays an exception."""

    def broken(*_: object, **__: object) -> Run:
        raise ZeroDivisionError

    monkeypatch.setattr(machine_run, "simulate", broken)
    with pytest.raises(ZeroDivisionError):
        main(["run", "guest.S"])


def test_closed_pipe_is_quiet(folder: Path) -> None:
    """A reader that leaves early, as `head` does, causes no message."""
    command = f"{sys.executable} -m pleemu run --help | true"
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_python_interface_takes_names_and_overrides(folder: Path, machine: list[Scenario]) -> None:
    """`pleemu.run` and `pleemu.compare` take what the command line takes."""
    import pleemu as package

    result = package.run("mine.toml", policy="debooster", fields={"vm.0.pinning": (0, 1), "host.hz": 1000})
    assert result.policy == "debooster"
    assert (machine[0].vm[0].pinning, machine[0].host.hz) == ((0, 1), 1000)
    assert [run.policy for run in package.compare("guest.S", "vanilla,no-ple", duration="5ms")] == ["vanilla", "no-ple"]
    across = package.compare("guest.S", across={"host.hz": [100, 1000], "hardware.processor": ["zen2"]})
    assert [(run.scenario.host.hz, run.policy) for run in across] == [(100, "vanilla"), (1000, "vanilla")]
    assert attrs.has(type(package.load_scenario("mine.toml")))
    assert package.__version__
