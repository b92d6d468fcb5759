"""PAUSE exits in plain sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from pleemu.hypervisor.rules import RULES
from pleemu.machine.result import Run
from pleemu.machine.story import Story
from pleemu.report import units
from pleemu.report.decision_report import refusal_table, verdict_table
from pleemu.report.run_report import header

_COLOURS = {"useful": "green", "wasted": "yellow", "irrelevant": "red", "nobody": "dim", "unknown": "dim"}
_MEANINGS = {
    "useful": "it could act, and only lacked a pCPU",
    "wasted": "the spinner waits for it, but it waits itself",
    "irrelevant": "the spinner does not wait for it",
    "nobody": "nobody was nominated",
    "unknown": "no probe says that the spinner waits for anything",
}


def explain_report(run: Run, stories: Iterable[Story], pending: Iterable[int]) -> RenderableType:
    """Return the overview, and the stories; ``pending``: exits that have none, as the run ended before."""
    parts: list[RenderableType] = [header(run), Text()]
    if not run.ple.exits:
        return Group(*parts, Text("There was no PAUSE exit, so there is nothing to explain."))
    parts += [verdict_table(run), Text()]
    if run.decisions.refusals:
        parts += [refusal_table(run), Text()]
    for story in stories:
        parts += [story_text(story), Text()]
    for number in pending:
        parts += [Text.assemble((f"Exit {number}", "bold"), "  The run ended before KVM had decided."), Text()]
    return Group(*parts)


def story_text(story: Story) -> RenderableType:
    """Return one exit's story."""
    text = Text.assemble((f"Exit {story.number}", "bold"), f"  {story.spinner} on pCPU {story.pcpu} at ")
    text.append(f"{story.at_ns / 1e6:.3f} ms: ")
    if story.verdict:
        text.append(story.verdict, _COLOURS[story.verdict])
    return Group(text, *(Padding(Text(sentence), (0, 0, 0, 2), expand=False) for sentence in sentences(story)))


def sentences(story: Story) -> Iterator[str]:
    """Yield the story's sentences, in the order of what happened."""
    yield f"{story.spinner} spun at {story.symbol} ({story.rip:#x}){_what_for(story)}"
    if story.waits_for:
        yield _who_could_end_it(story)
    if not story.verdict:
        yield "The run ended before KVM had looked for anybody."
        return
    if story.slept:
        yield f"KVM looked at nobody: {story.spinner} slept, for 100 us or until an interrupt."
    else:
        yield from _search(story)
        yield from _scheduler(story)
    yield f"Verdict: {_verdict(story)}"
    yield _outcome(story)


def _what_for(story: Story) -> str:
    if story.waits_for in _WAITS:
        name = story.lock_symbol
        what = f" {_WAITS[story.waits_for]} {name}" + ("" if name.startswith("0x") else f" at {story.lock:#x}")
        what += ", which serves in order" if story.in_order else ""
    elif story.waits_for == "answer":
        what = f" for the answer of {_listed(one.vcpu for one in story.holders)}"
    else:
        return "; no probe says what for."
    if story.waiting_since_ns is not None and story.waiting_since_ns < story.at_ns:
        return f"{what}; its first exit for it was {units.time(story.at_ns - story.waiting_since_ns)} earlier."
    return f"{what}; it was its first exit for it."


_WAITS = {"lock": "for the lock", "shared lock": "to share the lock", "barrier": "at the barrier"}


def _who_could_end_it(story: Story) -> str:
    who = _listed(_state(one.vcpu, one.running, one.waits) for one in story.holders) if story.holders else ""
    if story.waits_for == "answer":
        start = f"To answer: {who}."
    elif story.waits_for == "barrier":
        start = f"Yet to arrive: {who}." if who else "All had arrived."
    else:
        start = f"Held by {who}." if who else "Nobody held it."
    if story.useful:
        return f"{start} Useful to run: {_listed(story.useful)}."
    if story.can_act:
        return f"{start} Nobody useful to run: {_listed(story.can_act)} could act, and is on a pCPU or cannot run."
    return f"{start} Nobody useful to run: it waits for nobody any more."


def _state(vcpu: str, running: bool, waits: bool) -> str:
    return f"{vcpu} ({'on' if running else 'off'} its pCPU{', waiting itself' if waits else ''})"


def _search(story: Story) -> Iterator[str]:
    if not story.looked_at:
        yield "KVM looked at nobody."
        return
    looks = []
    for (round_, rule, answer), same in groupby(story.looked_at, lambda look: (look.round, look.rule, look.answer)):
        names = ", ".join(look.vcpu for look in same) + (" (second round)" if round_ else "")
        looks.append(f"{names}: {RULES.get(rule, rule) if rule else _answer(answer)}")
    yield f"KVM looked at {'; '.join(looks)}."


def _answer(answer: int | None) -> str:
    if answer is None:
        return "has no thread any more"
    if answer < 0:
        return "asked for, yield_to -ESRCH, nobody else to run on both pCPUs"
    return "asked for, yield_to accepted" if answer else "asked for, yield_to 0, it sleeps or runs already"


def _scheduler(story: Story) -> Iterator[str]:
    if not story.accepted:
        yield f"Nobody was yielded to: {story.spinner} went on spinning."
        return
    same = story.target_pcpu == story.pcpu
    if not same:
        yield (
            f"pCPU {story.pcpu} then ran {_who(story.next_here, story.spinner)}; "
            f"{story.target} was queued on pCPU {story.target_pcpu}."
        )
    picked = story.next_here if same else story.next_there
    if picked is None:
        yield f"pCPU {story.target_pcpu} did not choose again before the run ended."
        return
    obeyed = picked == story.target
    line = f"The scheduler of pCPU {story.target_pcpu} ran {_who(picked, story.spinner)}"
    line += ", as asked" if obeyed else f", not {story.target}"
    if story.distance_ns is not None and story.limit_ns is not None:
        line += _WHY[story.hint](story.distance_ns, story.limit_ns, obeyed)
    yield line + "."


def _why_close(distance: int, limit: int, obeyed: bool) -> str:
    """CFS: how far the target is ahead of the first in line."""
    ahead = f"{units.time(distance)} of virtual time ahead of the first in line"
    if distance <= 0:
        ahead = "the first in line"
    if not obeyed:
        return f": that was {ahead}, and only {units.time(limit)} are followed" if distance > limit else ""
    followed = f", at most {units.time(limit)} are followed" if distance > 0 else ""
    return f": it was {ahead}{followed}" + (_FORCED if distance > limit else "")


def _why_eligible(distance: int, _limit: int, obeyed: bool) -> str:
    """EEVDF with a buddy that counts: is the target eligible?"""
    if not obeyed:
        return f": that was {_lag(distance)}" if distance > 0 else ""
    return f": it was {_lag(distance)}" + (_FORCED if distance > 0 else "")


def _why_ignored(distance: int, _limit: int, obeyed: bool) -> str:
    """EEVDF without: who is eligible runs in its own time."""
    who = "it" if obeyed else "that"
    return f": this kernel does not look at the hint, and {who} was {_lag(distance)}" + (
        _FORCED if obeyed and distance > 0 else ""
    )


def _why_obeyed(_distance: int, _limit: int, obeyed: bool) -> str:
    """Chaos."""
    return "" if obeyed else ": it obeys, unless a preemption point or a later hint comes first"


def _lag(distance: int) -> str:
    if distance > 0:
        return f"not eligible, {units.time(distance)} of virtual time ahead of the average"
    behind = f"{units.time(-distance)} of virtual time behind the average"
    return f"eligible, {behind if distance else 'on the average'}"


_FORCED = ", but the policy is obeyed"
_WHY = {"close": _why_close, "eligible": _why_eligible, "ignored": _why_ignored, "obeyed": _why_obeyed}


def _who(vcpu: str | None, spinner: str) -> str:
    return "nobody (idle)" if vcpu == "idle" else f"{vcpu} again" if vcpu == spinner else str(vcpu)


def _verdict(story: Story) -> str:
    meaning = _MEANINGS[story.verdict]
    if story.target and story.verdict != "nobody":
        sentence = f"nominating {story.target} was {story.verdict}: {meaning}"
        if story.verdict == "unknown":
            sentence = meaning
    else:
        sentence = meaning
    if story.verdict not in ("useful", "unknown"):
        sentence += f"; {_listed(story.useful) if story.useful else 'nobody'} would have been useful"
    return sentence + "."


def _outcome(story: Story) -> str:
    parts = []
    if story.useful:
        never = f"{_listed(story.useful)} did not run any more"
        parts.append(f"{story.ran} ran {_after(story.ran_after_ns)}" if story.ran else never)
    if story.moved_by and story.moved:
        parts.append(f"{_MOVES[story.moved].format(who=story.moved_by)} {_after(story.moved_after_ns)}")
    if story.over_after_ns is not None:
        parts.append(f"the wait was over {_after(story.over_after_ns)}")
    elif story.waits_for:
        parts.append("the wait lasted to the end of the run")
    return f"What came of it: {'; '.join(parts)}." if parts else "What came of it is not known."


_MOVES = {
    "lock_released": "{who} released the lock",
    "lock_acquired": "{who} took the lock",
    "ipi_acked": "{who} answered",
    "barrier_wait": "{who} arrived at the barrier",
    "barrier_passed": "{who} was the last to arrive",
}


def _after(ns: int | None) -> str:
    return f"{units.time(ns or 0)} after the exit"


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
