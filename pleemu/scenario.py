"""A scenario: everything that one run depends on, except the policy's code and the guest's.

It is read from TOML, changed by dotted overrides, and written into a run's JSON in full, so that
a run can be repeated. Times carry their unit in the name; every default says where it comes from.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from attrs import Attribute, field, frozen

from pleemu.compiler import AUTO, check_compiler, check_flags
from pleemu.errors import ScenarioError
from pleemu.fields import (
    REQUIRED,
    FieldError,
    choice,
    custom,
    integer,
    number,
    show,
    switch,
    table,
    tables,
    text,
    tuple_of_list,
)
from pleemu.generations import GENERATIONS, U16_MAX, U32_MAX, VANILLA
from pleemu.guest_fields import PROGRAM_HELP, parameters_field, program_field
from pleemu.kernel import HOST_SCHEDULERS
from pleemu.own_policy import is_own
from pleemu.pinning import NONE, VCPU_TO_PCPU, allowed_of, check_pinning, check_places, parse_pinning
from pleemu.policy import Policy, policy
from pleemu.processor import AMD, FIGURES, INTEL, PROCESSORS, Processor, processor
from pleemu.profile import Profile, profile
from pleemu.schedule import Point, check_points, parse_schedule
from pleemu.structure import assign, structure, unstructure
from pleemu.toml import read_toml

VCPU_LIMIT = 4096  # of all VMs together
THREAD_LIMIT = 1024  # of all tables [[thread]] together
MEMORY_LIMIT_KIB = 4 << 20  # of all VMs together: 4 GiB of host memory
COMM_LIMIT = 15  # TASK_COMM_LEN without its zero
IDLE = "idle"  # who runs on a pCPU when nobody else does
_OF_PRESET = "that of the processor"
_CYCLES = {"unit": "core cycles", "none": _OF_PRESET}
_CALIBRATED = "calibrated: "
_PROPOSED = "proposed: "


@frozen(kw_only=True)
class Hardware:
    """The host's processor: a preset, and what shall be different. Costs are core cycles; PLE measures TSC ticks."""

    processor: str = choice("broadwell", [one.name for one in PROCESSORS], "preset", what="processor")
    vendor: str | None = choice(
        None, (INTEL, AMD), "whose rule PAUSE follows: PLE or the pause filter", what="vendor", none=_OF_PRESET
    )
    pcpus: int = integer(1, 1, 1024, "physical CPUs")
    tsc_khz: int | None = integer(
        None, 1_000, 10_000_000, "rate of the TSC, which PLE measures with", unit="kHz", none=_OF_PRESET
    )
    core_khz: int | None = integer(
        None, 1_000, 10_000_000, "rate at which instructions run", unit="kHz", none="tsc_khz, no turbo"
    )
    pause_cycles: int | None = integer(None, 1, 100_000, "cost of PAUSE", **_CYCLES)
    locked_cycles: int | None = integer(None, 1, 100_000, "cost of LOCK-prefixed instructions and XCHG", **_CYCLES)
    rdtsc_cycles: int | None = integer(None, 1, 100_000, "cost of RDTSC", **_CYCLES)
    fence_cycles: int | None = integer(None, 1, 100_000, "cost of MFENCE", **_CYCLES)
    transfer_ns: int | None = integer(
        None, 0, 100_000, "cache line from a pCPU with the same last-level cache", unit="ns", none=_OF_PRESET
    )
    far_transfer_ns: int | None = integer(
        None, 0, 100_000, "cache line from any other pCPU", unit="ns", none=_OF_PRESET
    )
    llc_pcpus: int | None = integer(
        None, 0, 1024, "neighbouring pCPUs that share a last-level cache; 0: all", none=_OF_PRESET
    )
    store_buffer: int | None = integer(None, 1, 128, "stores on their way to memory", unit="entries", none=_OF_PRESET)

    @property
    def tsc_rate_khz(self) -> int:
        """TSC rate in kHz, with its default filled in."""
        return processor(self.processor).tsc_khz if self.tsc_khz is None else self.tsc_khz

    @property
    def core_rate_khz(self) -> int:
        """Core clock in kHz, with its default filled in."""
        return self.tsc_rate_khz if self.core_khz is None else self.core_khz

    @property
    def is_amd(self) -> bool:
        """Whether the host is SVM with its pause filter, and not VMX with PLE."""
        return (self.vendor or processor(self.processor).vendor) == AMD

    def costs(self) -> Processor:
        """Return the processor preset, with the figures that are given here in place of its own."""
        given = {name: value for name in (*FIGURES, "vendor") if (value := getattr(self, name)) is not None}
        return attrs.evolve(processor(self.processor), **given)


@frozen(kw_only=True)
class Kvm:
    """Parameters of the modules kvm, kvm_intel and kvm_amd (v5.6 arch/x86/kvm/vmx/vmx.c, svm.c).

    Which of the two vendors' apply follows from the processor, and what is not given from the policy's generation.
    """

    ple_gap: int | None = integer(
        None,
        0,
        U32_MAX,
        "Intel: longest distance of PAUSEs in a loop; 0: no PLE",
        unit="TSC ticks",
        none="that of the policy's kernel, 128; 41 in 2009",
    )
    ple_window: int | None = integer(
        None, 0, U32_MAX, "Intel: longest time in a loop before it exits", unit="TSC ticks", none="4096"
    )
    ple_window_grow: int | None = integer(
        None,
        0,
        U32_MAX,
        "Intel: at each PAUSE exit, factor if below ple_window, else summand; 0: it is fixed",
        none="2, or 0 before 2014",
    )
    ple_window_shrink: int | None = integer(
        None, 0, U32_MAX, "Intel: at each sched_in, divisor or subtrahend; 0: back to ple_window", none="0"
    )
    ple_window_max: int | None = integer(
        None,
        0,
        U32_MAX,
        "Intel: upper bound of the growing window",
        unit="TSC ticks",
        none=f"{U32_MAX}; {U32_MAX // 4} in 2017",
    )
    pause_filter_thresh: int | None = integer(
        None,
        0,
        U16_MAX,
        "AMD: longest distance of PAUSEs in a row; 0: any, and the count stays",
        unit="TSC ticks",
        none="128, or 0 before 2018",
    )
    pause_filter_count: int | None = integer(
        None, 0, U16_MAX, "AMD: PAUSEs in a row that pass; 0: no exits", unit="PAUSEs", none="3000"
    )
    pause_filter_count_grow: int | None = integer(
        None,
        0,
        U16_MAX,
        "AMD: at each PAUSE exit, factor if below pause_filter_count, else summand",
        none="2, or 0 before 2018",
    )
    pause_filter_count_shrink: int | None = integer(
        None, 0, U16_MAX, "AMD: at each sched_in, divisor or subtrahend; 0: back to pause_filter_count", none="0"
    )
    pause_filter_count_max: int | None = integer(
        None, 0, U16_MAX, "AMD: upper bound of the growing count", unit="PAUSEs", none=f"{U16_MAX}"
    )
    skip_pause: bool | None = switch(
        None,
        "AMD: complete the PAUSE that exited (and always on Intel); else the guest repeats it",
        none="false, or true by v5.14",
    )
    pause_exiting: bool = switch(
        False,
        'every PAUSE exits (VMX "PAUSE exiting", SVM with a count of 0); no parameter of KVM, which never sets it',
    )
    apicv: bool = switch(True, "virtualise interrupts: a running vCPU takes an IPI without an exit")
    ipiv: bool = switch(False, "virtualise IPIs, as v5.19 can: a vCPU sends one to one other without an exit")
    halt_poll_ns: int = integer(
        200_000, 0, U32_MAX, "longest time that a halted vCPU keeps its pCPU and polls; 0: it sleeps at once", unit="ns"
    )
    halt_poll_ns_grow: int = integer(2, 0, U32_MAX, "factor of a vCPU's poll time after a short halt; 0: it stays")
    halt_poll_ns_grow_start: int = integer(10_000, 0, U32_MAX, "least poll time that it grows to", unit="ns")
    halt_poll_ns_shrink: int = integer(0, 0, U32_MAX, "divisor of a vCPU's poll time after a long halt; 0: to 0")
    steal_time: bool = switch(True, "offer steal time and its `preempted` byte by CPUID, and the MSR that asks for it")
    pv_unhalt: bool = switch(True, "offer the hypercall KICK_CPU by CPUID, which ends another vCPU's HLT")
    pv_tlb_flush: bool = switch(True, "offer by CPUID to flush a preempted vCPU's TLB before its next entry")
    pv_send_ipi: bool = switch(True, "offer the hypercall SEND_IPI by CPUID")
    pv_sched_yield: bool = switch(True, "offer the hypercall SCHED_YIELD by CPUID")
    pv_kick_yield: bool = switch(True, "KICK_CPU ends with a directed yield to the kicked vCPU, as from v5.3 on")
    pv_yield_if_alone: bool = switch(
        True, "a hypercall yields from a pCPU with nobody else to run, too; not by v5.14 (single_task_running)"
    )
    pv_enforce_cpuid: bool = switch(
        False, "refuse what CPUID does not offer, as v5.10 can (KVM_CAP_ENFORCE_PV_FEATURE_CPUID)"
    )

    def __attrs_post_init__(self) -> None:
        if self.ipiv and not self.apicv:
            raise FieldError("ipiv", "true needs posted interrupts, but apicv is false; set apicv to true")
        usual = GENERATIONS[VANILLA].parameters
        for base in ("ple_window", "pause_filter_count"):
            least, most = (
                usual[one] if (given := getattr(self, one)) is None else given for one in (base, f"{base}_max")
            )
            if most < least:
                raise FieldError(f"{base}_max", f"{most} is below {base}={least}; use at least {least}")

    def filled(self, parameters: Mapping[str, Any]) -> Any:
        """Return the same Kvm with defaults for the parameters that are not given: none is None."""
        return attrs.evolve(self, **{name: value for name, value in parameters.items() if getattr(self, name) is None})

    def check_vendor(self, processor: str, *, amd: bool) -> None:
        """Refuse what was changed of the other vendor's module: it would have no effect."""
        here, there = ("kvm_amd", "kvm_intel") if amd else ("kvm_intel", "kvm_amd")
        for intels, amds in _COUNTERPARTS.items():
            given, meant = (intels, amds) if amd else (amds, intels)
            if given and getattr(self, given) is not None:
                cure = f"its counterpart is kvm.{meant}" if meant else f"{here} always does so"
                raise FieldError(
                    given, f"is a parameter of {there}, but with hardware.processor {processor!r} {here} runs; {cure}"
                )


# Parameters of kvm_intel and what kvm_amd has in their place.
_COUNTERPARTS = {
    "ple_gap": "pause_filter_thresh",
    "ple_window": "pause_filter_count",
    "ple_window_grow": "pause_filter_count_grow",
    "ple_window_shrink": "pause_filter_count_shrink",
    "ple_window_max": "pause_filter_count_max",
    "": "skip_pause",
}


def _check_schedule(_: Any, attribute: Attribute[Any], value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise FieldError(attribute.name, f"{show(value)} is not a text; put it in quotes")
    try:
        parse_schedule(value)
    except ScenarioError as error:
        raise FieldError(attribute.name, str(error)) from None


@frozen(kw_only=True)
class Host:
    """The host kernel's scheduler."""

    scheduler: str = choice("cfs-5.6", HOST_SCHEDULERS, "model of the host scheduler", what="scheduler")
    features: str = text(
        "", "what is written to /sys/kernel/debug/sched/features, as in NEXT_BUDDY NO_RUN_TO_PARITY", lines=True
    )
    hz: int = choice(250, (100, 250, 300, 1000), "CONFIG_HZ: ticks per second of a busy pCPU", unit="Hz")
    online_cpus: int | None = integer(
        None, 1, 8192, "CPUs that scale the tunables by 1+floor(log2(min(n,8)))", none="hardware.pcpus"
    )
    start_spread_ms: float = number(0.0, 0, 60_000, "threads start at random moments within it", unit="ms")
    skew_tick: bool = switch(
        False, "kernel parameter skew_tick=1: pCPU p ticks later by p half periods / pcpus; else all tick in phase"
    )
    schedule: str | None = custom(
        None,
        _check_schedule,
        "chaos: preempt exactly there; pCPU@cycle:thread, joined with commas, as in 0@12345:3,1@20000:2; -: nowhere",
        parse=lambda given: None if given.lower() == "none" else given,
        none="at random points",
    )
    chaos_min_ns: int = integer(
        10,
        1,
        1_000_000_000,
        "chaos: shortest random slice of guest time",
        unit="ns",
        origin="proposed: a handful of instructions, less than any critical section",
    )
    chaos_max_ns: int = integer(
        1_000_000,
        1,
        1_000_000_000,
        "chaos: longest random slice; between the two each octave is as likely as any other",
        unit="ns",
        origin="proposed: a quarter of a tick at 250 Hz, so that the points decide, not the ticks",
    )

    def __attrs_post_init__(self) -> None:
        if self.chaos_max_ns < self.chaos_min_ns:
            least = f"chaos_min_ns={self.chaos_min_ns}"
            raise FieldError("chaos_max_ns", f"{self.chaos_max_ns} is below {least}; use at least {self.chaos_min_ns}")
        if self.schedule is not None and self.scheduler != "chaos":
            raise FieldError(
                "schedule", f"is for host.scheduler 'chaos', but it is {self.scheduler!r}; leave one of them out"
            )
        try:
            HOST_SCHEDULERS[self.scheduler].with_features(self.features)
        except ScenarioError as error:
            raise FieldError("features", str(error)) from None


def _cost(default: int, help: str, origin: str, *, low: int = 0) -> Any:
    return integer(default, low, 1_000_000_000, help, unit="ns", origin=origin)


@frozen(kw_only=True)
class Cost:
    """What the host's own code costs, in ns. Each default says where it comes from.

    *Calibrated* ones reproduce the KVM trace of the talk: 4.5 us from kvm_entry to kvm_exit, of which a
    window of 4096 ticks at 2.1 GHz is 1.95 us, and a period of 26 us when two spinners alternate on a pCPU.
    *Proposed* ones have the order of magnitude of published measurements and wait for a better source.
    """

    exit_ns: int = _cost(
        1500,
        "VM exit, up to KVM's exit handler",
        _CALIBRATED + "with entry_ns the 2.5 us of transitions in the 4.5 us that the talk's trace shows as guest time",
    )
    entry_ns: int = _cost(
        1000,
        "VM entry, from kvm_entry to the first guest instruction",
        _CALIBRATED + "with exit_ns the 2.5 us of transitions in the 4.5 us that the talk's trace shows as guest time",
    )
    pause_handler_ns: int = _cost(
        3500,
        "handle_pause: kvm_vcpu_on_spin and yield_to",
        _CALIBRATED + "with context_switch_ns 8.5 us, which makes the talk's period of 26 us for two spinners",
    )
    candidate_ns: int = _cost(
        50,
        "each candidate that kvm_vcpu_on_spin looks at beyond the first 8, which pause_handler_ns contains",
        _PROPOSED + "its flags are a cache line that another CPU wrote: one transfer, 43 to 50 ns in a socket",
    )
    context_switch_ns: int = _cost(
        5000,
        "schedule(): pick, switch, load the next vCPU",
        _CALIBRATED + "with pause_handler_ns 8.5 us, which makes the talk's period of 26 us for two spinners",
    )
    hlt_handler_ns: int = _cost(1000, "handle_halt, up to going to sleep", _PROPOSED + "a short exit handler")
    msr_write_ns: int = _cost(
        300,
        "an MSR that exits, among them the x2APIC ICR",
        _PROPOSED + "KVM's fast path for ICR writes stays in the exit loop",
    )
    hypercall_ns: int = _cost(1000, "a hypercall, without wake-ups", _PROPOSED + "a short exit handler")
    interrupt_handler_ns: int = _cost(
        700, "an interrupt of the host during guest code", _PROPOSED + "a short host interrupt handler"
    )
    tick_ns: int = _cost(1500, "scheduler_tick and its timer interrupt", _PROPOSED + "1 to 3 us are usual")
    ipi_ns: int = _cost(
        700,
        "flight of a host IPI or a posted interrupt",
        _PROPOSED + "published x2APIC figures are about 1000 to 1500 cycles",
        low=1,
    )
    ipi_target_ns: int = _cost(
        1000,
        "each further destination of one ICR write",
        _CALIBRATED + "a broadcast to 80 vCPUs, 5 ICR writes in cluster mode, takes 93 us (4180bf1b655a)",
    )
    posted_ns: int = _cost(
        900,
        "a posted interrupt, from its notification to its vector in the APIC",
        _CALIBRATED + "with ipi_ns the 3645 cycles of kvm-unit-tests' `ipi` with IPI virtualisation",
    )
    wakeup_ns: int = _cost(1000, "try_to_wake_up of a halted vCPU", _PROPOSED + "a wake-up on another runqueue")
    idle_exit_ns: int = _cost(1500, "leaving the host's idle state", _PROPOSED + "exit latency of a shallow C-state")
    poll_turn_ns: int = _cost(
        50, "one turn of the halt-poll loop", _PROPOSED + "a check for interrupts and a reading of the clock", low=1
    )


@frozen
class Program:
    """What a VM runs: the files that are linked into its guest, and how C among them is compiled."""

    paths: tuple[Path, ...]
    cc: str = AUTO
    cflags: str = ""


@frozen(kw_only=True)
class Vm:
    """One virtual machine: its program, its vCPUs and where they run."""

    name: str = text(REQUIRED, "name in reports")
    program: str | tuple[str, ...] = program_field("")
    profile: str = text(
        "", "application in place of a program: a name of `pleemu list profiles`, or a .toml", lines=True
    )
    cc: str = text(AUTO, "C compiler: cc, gcc, gcc-12, clang, ziglang; auto: the first found", check=check_compiler)
    cflags: str = text(
        "", "flags for the C compiler after pleemu's own, as in -O0 -DROUNDS=9", lines=True, check=check_flags
    )
    vcpus: int = integer(2, 1, 1024, "virtual CPUs")
    pinning: str | tuple[int | str, ...] = custom(
        VCPU_TO_PCPU,
        check_pinning,
        "pCPU of each vCPU, as 0,1,0; vcpu-to-pcpu: vCPU i on pCPU i % pcpus; spread: the same through all VMs; "
        "none: the scheduler chooses; 0-3,6: it chooses among these",
        converter=tuple_of_list,
        parse=parse_pinning,
    )
    nice: int = integer(0, -20, 19, "nice value of its vCPU threads")
    memory_kib: int = integer(512, 16, 65536, "memory of the guest", unit="KiB")
    parameters: Mapping[str, int | str] = parameters_field()
    writable_code: bool = switch(False, "code and constants may be written, but never an instruction")

    def __attrs_post_init__(self) -> None:
        if not self.program and not self.profile:
            raise FieldError("program", f"is missing; {PROGRAM_HELP}; or name a profile")
        if self.program and self.profile:
            raise FieldError("profile", f"{self.profile!r} brings its program; leave out {show(self.program)}")


def _check_comm(name: str) -> None:
    if not name.isascii() or len(name) > COMM_LIMIT:
        raise ScenarioError(f"{show(name)} cannot be a thread's name; use at most {COMM_LIMIT} ASCII characters")


@frozen(kw_only=True)
class Thread:
    """Threads of the host that compete with the vCPUs: hogs, or periodic ones that sleep in between."""

    name: str = text(REQUIRED, "name in reports and traces", check=_check_comm)
    count: int = integer(1, 1, THREAD_LIMIT, "identical copies")
    busy_us: int = integer(1_000, 1, 600_000_000, "CPU time of each burst of a periodic thread", unit="us")
    period_us: int = integer(
        0, 0, 600_000_000, "from the beginning of one burst to that of the next; 0: always runnable", unit="us"
    )
    nice: int = integer(0, -20, 19, "nice value")
    pinning: str | tuple[int | str, ...] = custom(
        NONE,
        check_pinning,
        "as that of a VM's vCPUs: none, 0-3, vcpu-to-pcpu (copy i on pCPU i), or a place for each copy",
        converter=tuple_of_list,
        parse=parse_pinning,
    )

    @property
    def copies(self) -> tuple[str, ...]:
        """The names of its copies."""
        return tuple(f"{self.name}/{copy}" for copy in range(self.count)) if self.count > 1 else (self.name,)

    def __attrs_post_init__(self) -> None:
        if 0 < self.period_us < self.busy_us:
            raise FieldError(
                "period_us", f"{self.period_us} is less than busy_us={self.busy_us}; use at least that, or 0 for a hog"
            )


def _check_settings(_: Any, attribute: Attribute[Any], value: Any) -> None:
    right = 'use a list of "FIELD=VALUE", as in ["host.hz=1000"]'
    if not isinstance(value, tuple) or not value:
        raise FieldError(attribute.name, f"{show(value)} changes nothing; {right}")
    for one in value:
        if not isinstance(one, str) or "=" not in one:
            raise FieldError(attribute.name, f"{show(one)} is no setting; {right}")


@frozen(kw_only=True)
class Variant:
    """The scenario with some fields different: a row of `pleemu compare`."""

    name: str = text(REQUIRED, "name in the comparison")
    set: tuple[str, ...] = custom(
        REQUIRED,
        _check_settings,
        "fields that are different, each as FIELD=VALUE",
        converter=tuple_of_list,
        parse=lambda given: (given,),
    )


@frozen(kw_only=True)
class Scenario:
    """One experiment: machine, host kernel, virtual machines, policy, seed and duration."""

    name: str = text(REQUIRED, "name in reports")
    summary: str = text("", "what happens, in one line", lines=True)
    look_for: str = text("", "what to look for in the report", lines=True)
    policy: str = text("vanilla", "yield policy; parts are joined with +", check=policy)
    seed: int = integer(1, 0, 2**63 - 1, "seed of all random choices")
    duration_ms: float = number(100.0, 1e-6, 600_000, "time to emulate", unit="ms")
    hardware: Hardware = table(Hardware)
    kvm: Kvm = table(Kvm)
    host: Host = table(Host)
    cost: Cost = table(Cost)
    vm: tuple[Vm, ...] = tables(Vm)
    thread: tuple[Thread, ...] = tables(Thread, default=())
    variant: tuple[Variant, ...] = tables(Variant, default=())
    folder: Path = field(default=Path(), eq=False)  # where programs are looked for; not part of the TOML
    file: Path | None = field(default=None, eq=False)  # the TOML itself, if it comes from a file

    def kvm_under(self, chosen: Policy) -> Any:
        """Return the parameters of KVM under a policy: those that are given, and its generation's defaults."""
        try:
            return self.kvm.filled(GENERATIONS[chosen.generation].parameters)
        except FieldError as error:
            raise error.within("kvm") from None

    @property
    def duration_ns(self) -> int:
        """The time to emulate, in ns."""
        return max(1, round(self.duration_ms * 1_000_000))

    @property
    def start_spread_ns(self) -> int:
        """The time within which the threads start, in ns."""
        return round(self.host.start_spread_ms * 1_000_000)

    @property
    def online_cpus(self) -> int:
        """The number of CPUs that CFS scales its tunables by."""
        return self.hardware.pcpus if self.host.online_cpus is None else self.host.online_cpus

    @property
    def points(self) -> tuple[Point, ...] | None:
        """The preemption points that are given; None: they are random, or there are none."""
        return None if self.host.schedule is None else parse_schedule(self.host.schedule)

    def profile_of(self, vm: Vm) -> Profile | None:
        """Return the profile that a VM names, or None. Raises ScenarioError if there is none of that name."""
        if not vm.profile:
            return None
        try:
            return profile(vm.profile, self.folder)
        except ScenarioError as error:
            raise ScenarioError(f"vm.{self.vm.index(vm)}.profile: {error}") from None

    def parameters_of(self, vm: Vm) -> dict[str, int | str]:
        """Return what is set in a VM's guest: what the scenario gives goes before what its profile says."""
        chosen = self.profile_of(vm)
        return {**(chosen.parameters if chosen else {}), **vm.parameters}

    def program_path(self, vm: Vm) -> Path:
        """Return where the program of a VM is; the first file of several."""
        return self.program_of(vm).paths[0]

    def program_of(self, vm: Vm) -> Program:
        """Return all that the guest of a VM is made of."""
        chosen = self.profile_of(vm)
        program, folder = (chosen.program, chosen.folder) if chosen else (vm.program, self.folder)
        names = (program,) if isinstance(program, str) else program
        return Program(tuple(folder / name for name in names), vm.cc, vm.cflags)

    def thread_names(self) -> tuple[str, ...]:
        """Return what each thread is called, no two the same: the vCPUs through all VMs, then those of the host."""
        vcpus = [f"{vm.name}/{vcpu}" for vm in self.vm for vcpu in range(vm.vcpus)]
        return (*vcpus, *(name for one in self.thread for name in one.copies))

    def check_programs(self) -> None:
        """Refuse a program that is not there, by the field that names it."""
        for number_of_vm, vm in enumerate(self.vm):
            missing = next((path for path in self.program_of(vm).paths if not os.path.exists(path)), None)
            if missing is not None:
                path = f"vm.{number_of_vm}.{'profile' if vm.profile else 'program'}"
                whose = "profile" if vm.profile else "scenario"
                raise FieldError(path, f"{missing}: no such file; it is looked for from the {whose}'s folder on")

    def allowed_pcpus(self) -> tuple[Sequence[int], ...]:
        """Return the pCPUs that each thread may run on: the vCPUs' through all VMs, then those of the host."""
        places = [(vm.pinning, index) for vm in self.vm for index in range(vm.vcpus)]
        places += [(thread.pinning, copy) for thread in self.thread for copy in range(thread.count)]
        pcpus = self.hardware.pcpus
        return tuple(allowed_of(pinning, index, number, pcpus) for number, (pinning, index) in enumerate(places))

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain values, for JSON; `from_dict` takes them back."""
        return dict(unstructure(self))

    def __attrs_post_init__(self) -> None:
        try:
            self.kvm.check_vendor(self.hardware.processor, amd=self.hardware.is_amd)
        except FieldError as error:
            raise error.within("kvm") from None
        names: dict[str, int] = {}
        for number_of_vm, vm in enumerate(self.vm):
            where = f"vm.{number_of_vm}"
            if vm.name in names:
                raise FieldError(f"{where}.name", f"{vm.name!r} is also the name of vm.{names[vm.name]}; use another")
            names[vm.name] = number_of_vm
            check_places(vm.pinning, where=where, count=vm.vcpus, field="vcpus", pcpus=self.hardware.pcpus)
        rows = [variant.name for variant in self.variant]
        for number_of_variant, name in enumerate(rows):
            if name in rows[:number_of_variant]:
                other = f"variant.{rows.index(name)}"
                problem = f"{name!r} is also the name of {other}; use another"
                raise FieldError(f"variant.{number_of_variant}.name", problem)
        vcpus, memory_kib = sum(vm.vcpus for vm in self.vm), sum(vm.memory_kib for vm in self.vm)
        if vcpus > VCPU_LIMIT:
            raise FieldError("vm", f"{vcpus} vCPUs in all VMs together are too many; use at most {VCPU_LIMIT}")
        if memory_kib > MEMORY_LIMIT_KIB:
            raise FieldError("vm", f"{memory_kib} KiB in all VMs together are too much; use at most {MEMORY_LIMIT_KIB}")
        self._check_threads()
        try:
            check_points(self.points or (), self.hardware.pcpus, len(self.allowed_pcpus()))
        except ScenarioError as error:
            raise FieldError("host.schedule", str(error)) from None

    def _check_threads(self) -> None:
        names = [thread.name for thread in self.thread]
        taken = {
            f"{vm.name}/{vcpu}": f"a vCPU of vm.{number}"
            for number, vm in enumerate(self.vm)
            for vcpu in range(vm.vcpus)
        }
        taken[IDLE] = "the thread of an idle pCPU"
        for number_of_thread, thread in enumerate(self.thread):
            where = f"thread.{number_of_thread}"
            if thread.name in names[:number_of_thread]:
                other = f"thread.{names.index(thread.name)}"
                raise FieldError(f"{where}.name", f"{thread.name!r} is also the name of {other}; use another")
            for name in (thread.name, *thread.copies):
                if name in taken:
                    raise FieldError(f"{where}.name", f"{name!r} is also the name of {taken[name]}; use another")
            taken |= dict.fromkeys(thread.copies, f"a copy of {where}")
            check_places(thread.pinning, where=where, count=thread.count, field="count", pcpus=self.hardware.pcpus)
        if (threads := sum(thread.count for thread in self.thread)) > THREAD_LIMIT:
            raise FieldError("thread", f"{threads} threads are too many; use at most {THREAD_LIMIT}")


def with_fields(scenario: Scenario, fields: Mapping[str, Any]) -> Scenario:
    """Return one row of a comparison: some fields set, from text or to values, and no variants of its own."""
    data = attrs.evolve(scenario, variant=()).to_dict()
    for path, value in fields.items():
        if path.partition(".")[0] == "variant":
            raise FieldError(path, "cannot be changed by a row of a comparison; name a field of the scenario")
        assign(data, Scenario, path, value)
    return from_dict(data, folder=scenario.folder, file=scenario.file)


def from_dict(data: Mapping[str, Any], *, folder: Path = Path(), file: Path | None = None) -> Scenario:
    """Make a scenario from plain values, as in a TOML file or in a run's JSON."""
    return attrs.evolve(structure(Scenario, data), folder=folder, file=file)


def set_field(scenario: Scenario, path: str, given: str) -> Scenario:
    """Return the scenario with one field set from text: ``set_field(s, "host.hz", "1000")``."""
    return set_fields(scenario, {path: given})


def set_fields(scenario: Scenario, given: Mapping[str, str]) -> Scenario:
    """Return the scenario with several fields set from text, checked when all of them are set.

    ``vm.0.vcpus`` is a field of the first VM, ``vm.vcpus`` of every VM.
    """
    data = scenario.to_dict()
    for path, value in given.items():
        assign(data, Scenario, path, value)
    return from_dict(data, folder=scenario.folder, file=scenario.file)


def _refuse_programs(data: Mapping[str, Any]) -> None:
    """A scenario may come from anywhere: it must not run a policy's Python file."""
    variants = data.get("variant", ())
    rows = [row.get("set", ()) for row in variants if isinstance(row, Mapping)] if isinstance(variants, list) else []
    settings = [one for row in rows if isinstance(row, list) for one in row if isinstance(one, str)]
    named = [("policy", data.get("policy"))]
    named += [("variant", one.partition("=")[2]) for one in settings if one.partition("=")[0].strip() == "policy"]
    for where, policies in named:
        if isinstance(policies, str) and any(is_own(part.strip()) for part in policies.split("+")):
            raise FieldError(
                where,
                f"{policies!r}: a file of Python could do anything, so no scenario names one; use --policy {policies}",
            )


def load(path: str | Path) -> Scenario:
    """Read a scenario from a TOML file, or from ``scenario.toml`` in a folder."""
    path = Path(path)
    if path.is_dir():
        path = path / "scenario.toml"
    data = read_toml(path)
    try:
        _refuse_programs(data)
    except ScenarioError as error:
        raise ScenarioError(f"{path}: {error}") from None
    data.setdefault("name", path.parent.resolve().name if path.name == "scenario.toml" else path.stem)
    try:
        return from_dict(data, folder=path.parent, file=path)
    except ScenarioError as error:
        raise ScenarioError(f"{path}: {error}") from None
