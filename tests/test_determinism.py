"""The same scenario and seed give the same run, everywhere; another seed gives another."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys

import pytest
from made_machines import Command, observe, prepare_core

from pleemu import catalogue
from pleemu.experiment.compare import by_policy, compare
from pleemu.policy import POLICIES

EXPERIMENTS = tuple(catalogue.experiments())
DURATION = "40ms"


@functools.cache
def in_this_process(name, seed=1, policy="vanilla"):
    return observe(Command(name, {"duration": DURATION, "seed": seed, "policy": policy})).run


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_another_process_gives_the_same_run(name):
    """Digest and counts of `pleemu run`, in a process with other hash seeds and threads, are those of this process."""
    prepare_core()
    command = [
        sys.executable,
        "-m",
        "pleemu",
        "run",
        name,
        "--duration",
        DURATION,
        "--seed",
        "1",
        "--policy",
        "vanilla",
    ]
    command += ["--json"]
    environment = os.environ | {"PYTHONHASHSEED": "7", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment)
    found, expected = json.loads(done.stdout), in_this_process(name)
    assert found["digest"] == expected.digest
    assert found["exits"] == expected.exits_by_reason()
    assert found["instructions"] == expected.instructions


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_another_seed_gives_another_run(name):
    """Every shipped experiment has randomness: three seeds, three digests."""
    assert len({in_this_process(name, seed).digest for seed in (1, 2, 3)}) == 3


def test_runs_do_not_depend_on_what_ran_before():
    """Compared in any order, each policy gives the run that it gives alone."""
    prepare_core()
    scenario = Command("case_study", {"duration": DURATION, "seed": 1}).scenario()
    forwards = {name: run.digest for name, run in compare(by_policy(scenario, POLICIES))}
    backwards = {name: run.digest for name, run in compare(by_policy(scenario, POLICIES[::-1]))}
    alone = {policy.name: in_this_process("case_study", policy=policy.name).digest for policy in POLICIES}
    assert forwards == backwards == alone


def test_experiments_begin_alike_for_any_duration():
    """A longer run begins with the events of the shorter one."""
    short = observe(Command("overboost", {"duration": "6ms"})).events.tolist()
    long = observe(Command("overboost", {"duration": "9ms"})).events.tolist()
    assert 0 < len(short) < len(long)
    assert long[: len(short)] == short
