"""Recorded vectors on the command line: what agrees, what differs, and what is no vectors."""

import copy
import gzip
import json
from pathlib import Path

import pytest

from pleemu.cli import main
from pleemu.conform.replay import FORMATS, replay_file

VECTORS = Path(__file__).parent / "vectors"
SCHEDULERS = ("cfs-5.6", "eevdf-6.6", "eevdf-6.12.0", "eevdf-6.12")
FILES = {"ple": "ple.json.gz", "x86": "x86.json.gz", **{name: f"{name}.json.gz" for name in SCHEDULERS}}
KEPT = 12  # cases of a shortened file


def recorded(name):
    """A recording, shortened."""
    data = json.loads(gzip.decompress((VECTORS / FILES[name]).read_bytes()))
    key = "scenarios" if name in SCHEDULERS else "cases"
    return {**data, key: data[key][:KEPT]}, key


def write(path, data, *, zipped=True):
    content = json.dumps(data).encode()
    path.write_bytes(gzip.compress(content, mtime=0) if zipped else content)
    return path


def spoil_ple(cases):
    event = next(event for event in cases[3]["events"] if event[0] == "P")
    event[4] = 1 - event[4]
    return f"case {cases[3]['id']} ", "<- recorded; here it"


def spoil_register(cases):
    cases[3]["regs_after"][9] = "1234567890abcdef"
    return f"case {cases[3]['id']}", "r9  "


def spoil_flag(cases):
    cases[3]["rflags_after"] ^= 1
    cases[3]["rflags_mask"] |= 1
    return f"case {cases[3]['id']}", "CF  "


def spoil_memory(cases):
    cases[3]["memory_after"].append([0, "00ff00ff"])
    return f"case {cases[3]['id']}", "memory+0x"


def spoil_end(cases):
    cases[3] |= {"end": "divide-error", "rip_offset": 0}
    return f"case {cases[3]['id']}", "divide-error at 0x4000"


def spoil_code(cases):
    cases[3]["code"] = "c5f8ae10" + cases[3]["code"]  # vldmxcsr
    return f"case {cases[3]['id']}", "it is "


def spoil_state(scenarios):
    scenarios[3]["states"][3]["v"][0] += 1
    return "scenario 3 ", "  v: recorded"


def spoil_cpu(scenarios):
    scenarios[3]["states"][3]["cpu"][0]["tree"] = [17]
    return "scenario 3 ", "  cpu 0.tree: recorded [17]"


SPOILED = {
    "ple": (spoil_ple,),
    "x86": (spoil_register, spoil_flag, spoil_memory, spoil_end, spoil_code),
    "cfs-5.6": (spoil_state, spoil_cpu),
    "eevdf-6.12": (spoil_state, spoil_cpu),
}


@pytest.mark.parametrize(("name", "zipped"), [("ple", False), *((name, True) for name in FILES)])
def test_what_agrees_ends_with_0(tmp_path, capsys, name, zipped):
    """A line with the counts, for gzip'ed and plain JSON."""
    data, _ = recorded(name)
    assert main(["conform", str(write(tmp_path / "some.json", data, zipped=zipped))]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1].split()[-4:] == [str(KEPT), str(KEPT), "all", "agree"]


@pytest.mark.parametrize(("name", "spoil"), [(name, spoil) for name, spoils in SPOILED.items() for spoil in spoils])
def test_what_differs_is_shown_and_ends_with_1(tmp_path, capsys, name, spoil):
    """One spoiled case of twelve differs; the report names it and says how."""
    data, key = recorded(name)
    case, shows = spoil(data[key])
    bad = write(tmp_path / "bad.json.gz", data)
    good = write(tmp_path / "good.json.gz", recorded(name)[0])
    assert main(["conform", str(good), str(bad)]) == 1
    out = capsys.readouterr().out
    assert "1 differ" in out
    assert f"bad.json.gz: {case}" in out.replace("\n", "")
    assert shows in out
    assert main(["conform", "--json", str(good), str(bad)]) == 1
    good, bad = json.loads(capsys.readouterr().out)["files"]
    assert (good["cases"], good["agreeing"], good["different"], good["first"]) == (KEPT, KEPT, [], None)
    assert (bad["agreeing"], len(bad["different"])) == (KEPT - 1, 1)
    assert shows in bad["first"]["text"]


def remove(data, *path):
    *way, last = path
    for step in way:
        data = data[step]
    del data[last]


def put(data, value, *path):
    *way, last = path
    for step in way:
        data = data[step]
    data[last] = value


MALFORMED = [
    ("ple", lambda d: remove(d, "format"), "has no key 'format'"),
    ("ple", lambda d: put(d, "pleemu-ple-9", "format"), "unknown format 'pleemu-ple-9'; known are pleemu-ple-1, "),
    ("ple", lambda d: put(d, ["x"], "format"), "unknown format"),
    ("ple", lambda d: remove(d, "cases"), "has no list 'cases'"),
    ("ple", lambda d: put(d, 5, "cases", 3), "@ cases[3]"),
    ("ple", lambda d: remove(d, "cases", 3, "ple"), "the key 'ple' is missing @ cases[3]"),
    ("ple", lambda d: put(d, ["P", 1], "cases", 3, "events", 2), "['P', 1] is no event; "),
    ("ple", lambda d: put(d, ["E", 1, 2**70, 3], "cases", 3, "events", 2), "is out of range"),
    ("ple", lambda d: put(d, "1", "cases", 3, "pause_exiting"), "'1' is not an integer @ cases[3].pause_exiting"),
    ("x86", lambda d: remove(d, "code_base"), "the key 'code_base' is missing @ the file"),
    ("x86", lambda d: put(d, 10**12, "memory_size"), "memory_size"),
    ("x86", lambda d: put(d, 0, "memory_base"), "the region at 0x0 begins before"),
    ("x86", lambda d: remove(d, "cases", 3, "regs"), "the key 'regs' is missing @ cases[3]"),
    ("x86", lambda d: remove(d, "cases", 3, "rflags_mask"), "the key 'rflags_mask' is missing @ cases[3]"),
    ("x86", lambda d: put(d, "zz", "cases", 3, "code"), "'zz' is not bytes in hexadecimal @ cases[3].code"),
    ("x86", lambda d: put(d, "1" * 17, "cases", 3, "regs", 0), "is out of range"),
    ("x86", lambda d: put(d, ["1"], "cases", 3, "regs"), "has 1 registers; 16 are right"),
    ("x86", lambda d: put(d, "hlt", "cases", 3, "end"), "'hlt' is not 'end' or 'divide-error'"),
    ("x86", lambda d: put(d, [[600, "00"]], "cases", 3, "memory_after"), "lies outside of the 512 bytes"),
    ("cfs-5.6", lambda d: remove(d, "scenarios", 3, "params", "latency"), "the key 'latency' is missing"),
    (
        "eevdf-6.6",
        lambda d: put(d, "1", "scenarios", 3, "params", "base_slice"),
        "'1' is not an integer @ scenarios[3]",
    ),
    ("cfs-5.6", lambda d: put(d, 0, "scenarios", 3, "ncpu"), "1 to 1024 CPUs"),
    ("cfs-5.6", lambda d: put(d, ["fly"], "scenarios", 3, "ops", 0), "['fly'] is no operation; known are adv, "),
    ("cfs-5.6", lambda d: put(d, ["tick", 99], "scenarios", 3, "ops", 0), "['tick', 99] names what is not there"),
    ("cfs-5.6", lambda d: remove(d, "scenarios", 3, "states", 0), "states of"),
    ("cfs-5.6", lambda d: put(d, 3, "scenarios", 3, "states", 1, "cpu"), "a list of 1 CPUs is right @ scenarios[3]"),
    ("cfs-5.6", lambda d: put(d, [7], "scenarios", 3, "states", 1, "cpu"), "@ scenarios[3].states[1].cpu"),
    ("cfs-5.6", lambda d: d["scenarios"][3]["states"][1]["cpu"].append({}), "@ scenarios[3].states[1].cpu"),
    ("cfs-5.6", lambda d: remove(d, "scenarios", 3, "states", 1, "cpu"), "@ scenarios[3].states[1].cpu"),
    ("cfs-5.6", lambda d: put(d, 2**63 - 1, "scenarios", 3, "t0"), "beyond 64 bits @ scenarios[3].ops["),
    ("cfs-5.6", lambda d: put(d, "PICK_BUDDY", "scenarios", 3, "features"), "'PICK_BUDDY' is no scheduler feature"),
    ("cfs-5.6", lambda d: put(d, [], "scenarios"), "its list 'scenarios' is empty"),
]


@pytest.mark.parametrize(("name", "break_it", "says"), MALFORMED)
def test_a_malformed_file_ends_with_2_and_one_line(tmp_path, capsys, name, break_it, says):
    """The line names the file, the place and what is wrong."""
    data = copy.deepcopy(recorded(name)[0])
    break_it(data)
    path = write(tmp_path / "bad.json.gz", data)
    assert main(["conform", str(path)]) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if "compiling" not in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"pleemu: error: {path}: ")
    assert says in lines[0]
    assert captured.out == ""


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "line 1, column 1: it is not JSON"),
        (b"{\n 1}", "line 2, column 2: it is not JSON"),
        (b"\xff\xfe\x00", "it is neither gzip nor JSON"),
        (b"\x80abc", "it is neither gzip nor JSON"),
        (gzip.compress(b"{}" * 100, mtime=0)[:20], "it is broken as a gzip file"),
        (b"\x1f\x8bxyz", "it is broken as a gzip file"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "has no key 'format'"),
    ],
)
def test_a_file_that_is_no_json_ends_with_2(tmp_path, capsys, content, says):
    """Whatever the bytes are: one line."""
    path = tmp_path / "bad.json.gz"
    path.write_bytes(content)
    assert main(["conform", str(path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"pleemu: error: {path}: ")
    assert len(err.splitlines()) == 1
    assert says in err


def test_missing_files_end_with_2(tmp_path, capsys):
    """A file that does not exist, a folder, and no file at all."""
    for path in (tmp_path / "none.json", tmp_path):
        assert main(["conform", str(path)]) == 2
        assert f"{path}: it cannot be read: " in capsys.readouterr().err
    assert main(["conform"]) == 2


@pytest.mark.parametrize("name", FILES)
def test_every_format_is_registered_under_its_own_name(tmp_path, name):
    """The table that finds the modules names the formats that they say they are."""
    form = f"pleemu-{name}-1"
    assert replay_file(write(tmp_path / "some.json.gz", recorded(name)[0])).format == form
    assert {f"pleemu-{name}-1" for name in FILES} == set(FORMATS)
