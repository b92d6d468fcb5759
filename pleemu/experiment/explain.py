"""Single PAUSE exits of a run, explained: which ones, and their stories."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from attrs import frozen

from pleemu.errors import ScenarioError
from pleemu.machine.result import Run
from pleemu.machine.story import Stories, Story
from pleemu.observe.records import VERDICTS
from pleemu.policy import Policy
from pleemu.scenario import Scenario

FIRST, LONGEST = "first", "longest"
WORDS = (FIRST, LONGEST, *VERDICTS)
EXITS_AT_ONCE = 100

_NUMBERS = re.compile(r"#?(\d{1,18})(?:-#?(\d{1,18}))?")


@frozen(kw_only=True)
class Explained:
    """A run, and of the exits that were asked for the stories."""

    run: Run
    stories: tuple[Story, ...] = ()
    pending: tuple[int, ...] = ()  # exits without a story: the run ended before KVM had decided


def is_exit(text: str) -> bool:
    """Is this the name of exits, and not of a file?"""
    return text in WORDS or _NUMBERS.fullmatch(text) is not None


def explain(
    scenario: Scenario,
    exits: Sequence[str] = (),
    *,
    policy: Policy | None = None,
    progress: Callable[[int, int], None] | None = None,
    skip: bool = True,
) -> Explained:
    """Run a scenario and tell the stories of some of its PAUSE exits, by default of the most telling ones.

    The scenario runs twice: the first run tells which exits there are, and the second, which is the same, their story.
    """
    from pleemu.machine.run import load_programs, simulate  # here, because it brings the compiler

    asked = [_range(text) for text in exits if text not in WORDS]
    programs = load_programs(scenario)
    run = simulate(scenario, policy=policy, progress=progress, programs=programs, skip=skip)
    wanted = {number for first, last in asked for number in _numbers(first, last, run.ple.exits)}
    for word in exits or WORDS:
        if word in WORDS:
            number = _number_of(word, run)
            if number:
                wanted.add(number)
            elif exits:
                raise ScenarioError(f"exit {word!r}: this run has no such PAUSE exit; it has {_count(run.ple.exits)}")
    if len(wanted) > EXITS_AT_ONCE:
        raise ScenarioError(f"{len(wanted)} exits are too many to explain at once; ask for at most {EXITS_AT_ONCE}")
    if not wanted:
        return Explained(run=run)
    stories = Stories(frozenset(wanted))
    run = simulate(scenario, policy=policy, progress=progress, programs=programs, stories=stories, skip=skip)
    told = {story.number for story in stories.found}
    return Explained(run=run, stories=stories.found, pending=tuple(sorted(wanted - told)))


def _range(text: str) -> tuple[int, int]:
    match = _NUMBERS.fullmatch(text)
    if match is None:
        raise ScenarioError(f"exit {text!r}: write a number, a range as 3-7, or one of {', '.join(WORDS)}")
    first = int(match[1])
    last = int(match[2] or first)
    if last < first:
        raise ScenarioError(f"exit {text!r}: the range ends before it begins; write {last}-{first}")
    if last - first >= EXITS_AT_ONCE:
        raise ScenarioError(f"exit {text!r}: {last - first + 1} exits are too many; ask for at most {EXITS_AT_ONCE}")
    return first, last


def _numbers(first: int, last: int, exits: int) -> range:
    if first < 1 or last > exits:
        number = first if first < 1 or first > exits else last
        there = f"use 1 to {exits}" if exits else "there is none to explain"
        raise ScenarioError(f"exit {number}: this run has {_count(exits)} PAUSE exits; {there}")
    return range(first, last + 1)


def _number_of(word: str, run: Run) -> int:
    if word == FIRST:
        return 1 if run.ple.exits else 0
    if word == LONGEST:
        return run.ple.runs[0].first_exit if run.ple.runs else 0
    return dict(run.decisions.first_exits).get(word, 0)


def _count(number: int) -> str:
    return f"{number:,}" if number else "no"
