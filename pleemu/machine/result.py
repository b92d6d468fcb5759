"""What one run found: plain values, ready to print, to compare and to turn into JSON."""

from __future__ import annotations

from attrs import field, frozen

from pleemu.machine.causes import Causes
from pleemu.machine.judgement import Decisions
from pleemu.scenario import Scenario
from pleemu.schedule import Point, parse_schedule


@frozen(kw_only=True)
class ExitStatistics:
    """VM exits of one reason in one VM, timed as `perf kvm stat` does: from kvm_exit to kvm_entry."""

    vm: str
    reason: str  # KVM's name: PAUSE_INSTRUCTION on Intel, pause on AMD
    count: int  # of kvm_exit
    timed: int  # of those that a kvm_entry followed: what the times are over
    total_ns: int
    min_ns: int
    max_ns: int


@frozen(kw_only=True)
class ContinuousRun:
    """PAUSE exits in a row: same vCPU, same RIP, at most 1 ms from one kvm_exit to the next."""

    vm: str
    vcpu: int
    address: int  # RIP, unsigned
    symbol: str  # as in `acquire+0x12`
    length: int
    start_ns: int
    period_ns: float  # mean kvm_exit to kvm_exit
    guest_ns: float  # mean kvm_entry to kvm_exit
    first_window: int  # in force at the first and at the last exit of the run: PLE_Window in TSC ticks,
    last_window: int  # on AMD PauseFilterCount in PAUSEs
    first_exit: int = 0  # number of its first exit, as `pleemu explain` takes it


@frozen(kw_only=True)
class PleStatistics:
    """All PAUSE exits of a run."""

    exits: int
    pauses: int  # PAUSEs executed without an exit
    pauses_before_first: int | None  # of these, in the loop that led to the first exit; None: no exit
    guest_ns: float | None  # mean kvm_entry to kvm_exit of PAUSE exits
    continuous: int  # exits that belong to a run of two or more
    longest_run: int
    by_symbol: dict[str, int]
    runs: tuple[ContinuousRun, ...]  # the longest ones, longest first
    run_lengths: dict[int, int]  # lower bound of the length (1, 2, 4, 8, ...) -> number of runs


@frozen(kw_only=True)
class BoostStatistics:
    """Directed yields after PAUSE exits in one VM, by the state of the vCPU that was nominated."""

    vm: str
    target: str  # preempted in kernel mode | preempted in user mode | woken, not yet run
    attempts: int  # kvm_vcpu_yield_to calls
    accepted: int  # yield_to returned 1: the scheduler took the hint
    honoured: int  # and the next pick on the target's runqueue was the target
    ran: int  # nominated vCPUs that ran at last; how long after the first accepted yield that named them:
    waited_ns: int  # in total
    most_ns: int  # at most


@frozen(kw_only=True)
class MigrationStatistics:
    """How often a thread of one VM was taken to another pCPU, for one cause."""

    vm: str  # "host": a thread of the host
    cause: str  # wake-up | new idle | idle | busy | active
    count: int


@frozen(kw_only=True)
class PvStatistics:
    """What one VM did with KVM's paravirtual interface; directed yields here are those of hypercalls alone."""

    vm: str
    hypercalls: int
    kicks: int  # KICK_CPU, by vCPU kicked
    ipis: int  # SEND_IPI, by vCPU that it went to
    directed_yield_attempted: int  # as v5.14 counts them: KICK_CPU and SCHED_YIELD
    directed_yield_successful: int  # yield_to returned 1
    steal_updates: int  # of steal time, each before a VM entry
    steal_ns: int  # what the guest has been told
    tlb_flushes: int  # that other vCPUs had asked for while one was switched out


@frozen(kw_only=True)
class VmResult:
    """One VM's part of the host and what it did with it."""

    name: str
    vcpus: int
    cpu_share: float  # of all pCPU time of the run, 0..1; host work on its behalf included
    guest_share: float  # of all pCPU time of the run spent executing its instructions
    operations: int  # `operation_done` probes
    halts: int = 0  # HLTs that found no interrupt to take
    polls: int = 0  # of these, how many began with a poll
    polled: int = 0  # and how many of these polls an interrupt ended
    image: str = ""  # digest of its guest as linked
    compilers: tuple[str, ...] = ()  # that made the guest's objects, as they name themselves


@frozen(kw_only=True)
class ThreadResult:
    """What the copies of one of the host's own threads got of the host."""

    name: str
    count: int
    cpu_share: float  # of all pCPU time of the run, 0..1
    bursts: int  # finished


@frozen(kw_only=True)
class Timeline:
    """Where the time went, in equal columns of the run; one row a vCPU, in VM order, then one a host's thread."""

    column_ns: int
    vcpu_names: tuple[str, ...]  # as in `vm0/1`, and `backup` or `kworker/1`
    running: tuple[tuple[float, ...], ...]  # share of the column the vCPU's thread was on a pCPU
    pause_exits: tuple[tuple[int, ...], ...]


@frozen(kw_only=True)
class Run:
    """One run of one scenario under one policy. `digest` is over all events, in order."""

    scenario: Scenario
    policy: str
    seed: int
    digest: str
    cycles: int  # core cycles emulated on each pCPU
    duration_ns: int
    instructions: int
    wall_seconds: float
    ended: str  # one sentence: why the run stopped
    exits: tuple[ExitStatistics, ...]
    ple: PleStatistics
    boosts: tuple[BoostStatistics, ...]
    vms: tuple[VmResult, ...]
    threads: tuple[ThreadResult, ...] = ()
    idle_share: float = 0.0  # of all pCPU time of the run, 0..1
    timeline: Timeline = field(repr=False)
    migrations: tuple[MigrationStatistics, ...] = ()
    paravirtual: tuple[PvStatistics, ...] = ()  # VMs that use it
    decisions: Decisions = field(factory=Decisions)
    causes: Causes = field(factory=Causes)
    fairness: float = 1.0  # Jain's index of the VMs' CPU shares
    policy_file: dict[str, str] | None = None  # of a policy of one's own: path, and digest of its content
    preemptions: int | None = None  # points of the chaos scheduler that had an effect; None: another scheduler
    schedule: str | None = field(default=None, repr=False)  # their token; None, too, if they are too many for one

    def points(self) -> tuple[Point, ...]:
        """Return the preemption points that had an effect, in order: `host.schedule` takes them as `schedule`."""
        return () if self.schedule is None else parse_schedule(self.schedule)

    def exits_by_reason(self) -> dict[str, int]:
        """Count of exits by KVM's reason name, most frequent first."""
        counts: dict[str, int] = {}
        for row in self.exits:
            counts[row.reason] = counts.get(row.reason, 0) + row.count
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
