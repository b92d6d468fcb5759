"""What a trace says of pause-loop exiting: exits, continuous runs, intervals, the window, who was switched to.

All is counted while the trace is read; nothing of the trace itself is kept. Threads are told apart by pid. A continuous
run is a row of PAUSE exits of a thread at one address, each within a millisecond of the one before it, as `pleemu run`
counts them. Where a thread's time goes back nothing is counted: its run ends, and it is a new thread from there on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from attrs import Factory, define, field

from pleemu.errors import PleemuError
from pleemu.observe.events import PAUSE_EXIT_NAMES
from pleemu.trace.read import WANTED, Seen, Unread, open_trace

_RUN_GAP_NS = 1_000_000
_LONGEST_RUNS = 10
_SHOWN = 100  # letters of a line in an error
_DIGITS = 16  # bits that an interval keeps in the counts behind its median


@define
class Intervals:
    """A set of times, of which it keeps the counts of nearly equal ones."""

    count: int = 0
    least_ns: int = 0
    most_ns: int = 0
    sum_ns: int = 0
    _counts: Counter[int] = Factory(Counter)

    def add(self, ns: int) -> None:
        """Count a time."""
        self.least_ns = min(self.least_ns, ns) if self.count else ns
        self.most_ns = max(self.most_ns, ns) if self.count else ns
        self.count += 1
        self.sum_ns += ns
        drop = max(0, ns.bit_length() - _DIGITS)
        self._counts[ns >> drop << drop] += 1

    @property
    def mean_ns(self) -> float:
        """The mean; 0 of none."""
        return self.sum_ns / self.count if self.count else 0.0

    @property
    def median_ns(self) -> int:
        """The lower median, to 16 bits; 0 of none."""
        passed = 0
        for ns in sorted(self._counts):
            passed += self._counts[ns]
            if 2 * passed >= self.count:
                return ns
        return 0


@define
class PauseRun:
    """PAUSE exits of one thread in a row at one address."""

    comm: str
    pid: int
    rip: int
    first_ns: int
    last_ns: int
    length: int = 1

    @property
    def period_ns(self) -> float:
        """Mean time from exit to exit; 0 of a single one."""
        return (self.last_ns - self.first_ns) / (self.length - 1) if self.length > 1 else 0.0


@define
class _Thread:
    """Where a thread is."""

    entered_ns: int | None = None
    paused_ns: int | None = None  # its latest exit is a PAUSE, and it has not been entered since
    left: bool = False  # and it has been switched out since
    latest_ns: int = 0
    run: PauseRun | None = None


@define
class Analysis:
    """What has been counted."""

    unread: Unread = Factory(Unread)
    events: Counter[str] = Factory(Counter)
    exits: Counter[str] = Factory(Counter)  # by reason
    pauses: Counter[int] = Factory(Counter)  # PAUSE exits by address
    by_thread: Counter[tuple[str, int]] = Factory(Counter)  # PAUSE exits by comm and pid
    begin_ns: int | None = None
    end_ns: int = 0
    entry_to_exit: Intervals = Factory(Intervals)  # those that a PAUSE ends
    first_exit_to_entry: Intervals = Factory(Intervals)  # behind the first PAUSE exit of a run
    exit_to_entry: Intervals = Factory(Intervals)  # behind the others
    first_period: Intervals = Factory(Intervals)  # from the first exit of a run to the second
    period: Intervals = Factory(Intervals)  # between the others
    runs: int = 0
    continuous: int = 0  # exits in runs of at least two
    longest: list[PauseRun] = Factory(list)
    grown: int = 0
    shrunk: int = 0
    windows: Counter[int] = Factory(Counter)  # that it grew to
    switched_to: Counter[tuple[str, int]] = Factory(Counter)  # behind a PAUSE exit
    stayed: int = 0  # PAUSE exits whose thread was entered again without a switch
    nameless: int = 0  # exits and entries that do not say of which thread
    went_back: int = 0  # how often an event is earlier than the one before it
    went_back_in: str = ""  # the first file with such an event
    _latest_ns: int | None = None
    _threads: dict[tuple[int, str, int], _Thread] = field(factory=dict)

    @property
    def pause_exits(self) -> int:
        """PAUSE exits in all."""
        return sum(self.exits[name] for name in PAUSE_EXIT_NAMES)

    def take(self, seen: Iterable[Seen], name: str = "") -> None:
        """Count the events of a trace, which is a file of that name."""
        for one in seen:
            self.events[one.event] += 1
            if self._latest_ns is not None and one.time_ns < self._latest_ns:
                self._go_back(self._latest_ns - one.time_ns, name)
            self._latest_ns = one.time_ns
            self.begin_ns = one.time_ns if self.begin_ns is None else min(self.begin_ns, one.time_ns)
            self.end_ns = max(self.end_ns, one.time_ns)
            if one.event == "kvm_exit":
                self._exit(one)
            elif one.event == "kvm_entry":
                self._entry(one)
            elif one.event == "sched_switch":
                self._switch(one)
            elif one.event in ("kvm_ple_window_update", "kvm_ple_window"):
                self._window(one)

    def finish(self) -> None:
        """End what still goes on; the threads of the next trace are others."""
        for thread in self._threads.values():
            self._end_run(thread)
        self._threads.clear()
        self._latest_ns = None

    def _go_back(self, ns: int, name: str) -> None:
        """Count that time went back; pCPUs' clocks differ a little, but behind a longer step begins another trace."""
        self.went_back += 1
        self.went_back_in = self.went_back_in or name
        if ns > _RUN_GAP_NS:
            self.finish()

    def _thread(self, one: Seen) -> _Thread:
        """Return an event's thread; if its latest event is later than this one, nothing is known of it."""
        key = (one.pid, "", -1) if one.pid > 0 else (one.pid, one.comm, one.values.get("vcpu_id", -1))
        self.nameless += one.pid < 0
        thread = self._threads.setdefault(key, _Thread())
        if one.time_ns < thread.latest_ns:
            self._end_run(thread)
            thread = self._threads[key] = _Thread()
        thread.latest_ns = one.time_ns
        return thread

    def _exit(self, one: Seen) -> None:
        thread = self._thread(one)
        reason = one.values["exit_reason"]
        self.exits[reason] += 1
        thread.paused_ns = None
        if reason in PAUSE_EXIT_NAMES:
            self._pause(one, thread)
        thread.entered_ns = None

    def _pause(self, one: Seen, thread: _Thread) -> None:
        rip = one.values["guest_rip"]
        self.pauses[rip] += 1
        self.by_thread[one.comm, one.pid] += 1
        if thread.entered_ns is not None:
            self.entry_to_exit.add(one.time_ns - thread.entered_ns)
        thread.paused_ns, thread.left = one.time_ns, False
        run = thread.run
        if run is not None and run.rip == rip and one.time_ns - run.last_ns <= _RUN_GAP_NS:
            (self.first_period if run.length == 1 else self.period).add(one.time_ns - run.last_ns)
            run.length += 1
            run.last_ns = one.time_ns
        else:
            self._end_run(thread)
            thread.run = PauseRun(one.comm, one.pid, rip, one.time_ns, one.time_ns)

    def _end_run(self, thread: _Thread) -> None:
        run, thread.run = thread.run, None
        if run is None:
            return
        self.runs += 1
        self.continuous += run.length if run.length > 1 else 0
        self.longest = sorted([*self.longest, run], key=lambda one: -one.length)[:_LONGEST_RUNS]

    def _entry(self, one: Seen) -> None:
        thread = self._thread(one)
        if thread.paused_ns is not None and thread.run is not None:
            first = thread.run.length == 1
            (self.first_exit_to_entry if first else self.exit_to_entry).add(one.time_ns - thread.paused_ns)
            self.stayed += one.pid > 0 and not thread.left
        thread.paused_ns = None
        thread.entered_ns = one.time_ns

    def _switch(self, one: Seen) -> None:
        thread = self._threads.get((one.values["prev_pid"], "", -1))
        if thread is not None and thread.paused_ns is not None and not thread.left:
            thread.left = True
            self.switched_to[one.values["next_comm"], one.values["next_pid"]] += 1

    def _window(self, one: Seen) -> None:
        old, new = one.values["old"], one.values["new"]
        if new > old:
            self.grown += 1
            self.windows[new] += 1
        elif new < old:
            self.shrunk += 1


def analyze_files(paths: Iterable[Path]) -> Analysis:
    """Return what some traces say together. Raises `PleemuError` for a file without any event."""
    found = Analysis()
    for path in paths:
        before, unread = found.events.total(), Unread()
        found.take(open_trace(path, unread), str(path))
        found.finish()
        if found.events.total() == before:
            raise PleemuError(f"{path}: {_nothing(unread)}; {WANTED}")
        found.unread.include(unread)
    if not found.events:
        raise PleemuError("analyze: no file is given; name files of traces")
    return found


def _nothing(unread: Unread) -> str:
    """Say of a file without events what it has instead."""
    if not unread.count:
        return "it holds no event"
    _, number, line = unread.first[0]
    return f"none of {unread.count} lines is an event, the first is line {number}, {line.strip()[:_SHOWN]!r}"
