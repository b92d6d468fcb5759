"""A scenario: everything that one run depends on, except the policy's code and the guest's.

It is read from TOML, changed by dotted overrides, and written into a run's JSON in full, so that
a run can be repeated. Times carry their unit in the name; every default says where it comes from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from attrs import Attribute, field, frozen

from pleemu.compiler import AUTO, check_compiler, check_flags
from pleemu.errors import ScenarioError
from pleemu.fields import REQUIRED, FieldError, choice, custom, integer, number, show, switch, table, tables, text
from pleemu.policy import SCHEDULERS, policy
from pleemu.processor import AMD, FIGURES, INTEL, PROCESSORS, Processor, processor
from pleemu.structure import assign, structure, unstructure
from pleemu.toml import read_toml

U16_MAX = 2**16 - 1
U32_MAX = 2**32 - 1
VCPU_LIMIT = 4096  # of all VMs together
MEMORY_LIMIT_KIB = 4 << 20  # of all VMs together: 4 GiB of host memory
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
    """Parameters of the modules kvm, kvm_intel and kvm_amd, v5.6 (arch/x86/kvm/vmx/vmx.c, svm.c).

    Which of the two vendors' apply follows from the processor.
    """

    ple_gap: int = integer(128, 0, U32_MAX, "Intel: longest distance of PAUSEs in a loop; 0: no PLE", unit="TSC ticks")
    ple_window: int = integer(4096, 0, U32_MAX, "Intel: longest time in a loop before it exits", unit="TSC ticks")
    ple_window_grow: int = integer(2, 0, U32_MAX, "Intel: at each PAUSE exit, factor if below ple_window, else summand")
    ple_window_shrink: int = integer(
        0, 0, U32_MAX, "Intel: at each sched_in, divisor or subtrahend; 0: back to ple_window"
    )
    ple_window_max: int = integer(U32_MAX, 0, U32_MAX, "Intel: upper bound of the growing window", unit="TSC ticks")
    pause_filter_thresh: int = integer(
        128, 0, U16_MAX, "AMD: longest distance of PAUSEs in a row; 0: any, and the count stays", unit="TSC ticks"
    )
    pause_filter_count: int = integer(3000, 0, U16_MAX, "AMD: PAUSEs in a row that pass; 0: no exits", unit="PAUSEs")
    pause_filter_count_grow: int = integer(
        2, 0, U16_MAX, "AMD: at each PAUSE exit, factor if below pause_filter_count, else summand"
    )
    pause_filter_count_shrink: int = integer(
        0, 0, U16_MAX, "AMD: at each sched_in, divisor or subtrahend; 0: back to pause_filter_count"
    )
    pause_filter_count_max: int = integer(U16_MAX, 0, U16_MAX, "AMD: upper bound of the growing count", unit="PAUSEs")
    skip_pause: bool = switch(
        False, "AMD: complete the PAUSE that exited, as by v5.14 (and always on Intel); else the guest repeats it"
    )
    pause_exiting: bool = switch(
        False,
        'every PAUSE exits (VMX "PAUSE exiting", SVM with a count of 0); no parameter of KVM, which never sets it',
    )
    apicv: bool = switch(True, "virtualise interrupts: a running vCPU takes an IPI without an exit")
    ipiv: bool = switch(False, "virtualise IPIs, as v5.19 can: a vCPU sends one to one other without an exit")
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
        for base in ("ple_window", "pause_filter_count"):
            least, most = getattr(self, base), getattr(self, f"{base}_max")
            if most < least:
                raise FieldError(f"{base}_max", f"{most} is below {base}={least}; use at least {least}")

    def check_vendor(self, processor: str, *, amd: bool) -> None:
        """Refuse what was changed of the other vendor's module: it would have no effect."""
        here, there = ("kvm_amd", "kvm_intel") if amd else ("kvm_intel", "kvm_amd")
        for intels, amds in _COUNTERPARTS.items():
            given, meant = (intels, amds) if amd else (amds, intels)
            if given and getattr(self, given) != getattr(attrs.fields(Kvm), given).default:
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


@frozen(kw_only=True)
class Host:
    """The host kernel's scheduler."""

    scheduler: str = choice("cfs-5.6", SCHEDULERS, "model of the host scheduler", what="scheduler")
    hz: int = choice(250, (100, 250, 300, 1000), "CONFIG_HZ: ticks per second of a busy pCPU", unit="Hz")
    online_cpus: int | None = integer(
        None, 1, 8192, "CPUs that scale the CFS tunables by 1+floor(log2(min(n,8)))", none="hardware.pcpus"
    )
    start_spread_ms: float = number(0.0, 0, 60_000, "vCPU threads start at random moments within it", unit="ms")


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


def _check_pinning(_: Any, attribute: Attribute[Any], value: Any) -> None:
    if isinstance(value, tuple) and value and all(type(pcpu) is int for pcpu in value):
        return
    if value != "round-robin":
        shown = show(list(value) if isinstance(value, tuple) else value)
        raise FieldError(attribute.name, f"{shown} is not a placement; use 'round-robin' or a list of pCPU numbers")


def _parse_pinning(given: str) -> Any:
    numbers = given.strip("[] ").split(",")
    if all(re.fullmatch(r" *[0-9]{1,9} *", one) for one in numbers):
        return tuple(int(one) for one in numbers)
    return given


def _tuple_of_list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _check_program(_: Any, attribute: Attribute[Any], value: Any) -> None:
    given = value if isinstance(value, tuple) else (value,)
    if not given or not all(isinstance(one, str) for one in given):
        raise FieldError(attribute.name, f"{show(value)} is neither a file's name in quotes nor a list of them")
    for one in given:
        if not one.strip():
            raise FieldError(attribute.name, "is empty; give it a name")
        if not one.isprintable():
            raise FieldError(attribute.name, f"{show(one)} has unprintable characters; leave them out")


def _parse_program(given: str) -> Any:
    names = [one.strip() for one in given.strip("[] ").split(",")]
    return tuple(names) if len(names) > 1 else given


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
    program: str | tuple[str, ...] = custom(
        REQUIRED,
        _check_program,
        "guest: .S, .c, .o, .a or a static executable, from the scenario's folder on; several are linked: a.c,b.S",
        converter=_tuple_of_list,
        parse=_parse_program,
    )
    cc: str = text(AUTO, "C compiler: cc, gcc, gcc-12, clang, ziglang; auto: the first found", check=check_compiler)
    cflags: str = text(
        "", "flags for the C compiler after pleemu's own, as in -O0 -DROUNDS=9", lines=True, check=check_flags
    )
    vcpus: int = integer(2, 1, 1024, "virtual CPUs")
    pinning: str | tuple[int, ...] = custom(
        "round-robin",
        _check_pinning,
        "pCPU of each vCPU, as 0,1,0; round-robin: vCPU i on pCPU i % pcpus",
        converter=_tuple_of_list,
        parse=_parse_pinning,
    )
    memory_kib: int = integer(512, 16, 65536, "memory of the guest", unit="KiB")
    writable_code: bool = switch(False, "code and constants may be written, but never an instruction")

    def pcpu_of(self, vcpu: int, pcpus: int) -> int:
        """Return the pCPU that a vCPU is pinned to."""
        return vcpu % pcpus if isinstance(self.pinning, str) else self.pinning[vcpu]


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
        converter=_tuple_of_list,
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
    variant: tuple[Variant, ...] = tables(Variant, default=())
    folder: Path = field(default=Path(), eq=False)  # where programs are looked for; not part of the TOML

    @property
    def duration_ns(self) -> int:
        """The time to emulate, in ns."""
        return max(1, round(self.duration_ms * 1_000_000))

    @property
    def start_spread_ns(self) -> int:
        """The time within which the vCPU threads start, in ns."""
        return round(self.host.start_spread_ms * 1_000_000)

    @property
    def online_cpus(self) -> int:
        """The number of CPUs that CFS scales its tunables by."""
        return self.hardware.pcpus if self.host.online_cpus is None else self.host.online_cpus

    def program_path(self, vm: Vm) -> Path:
        """Return where the program of a VM is; the first file of several."""
        return self.program_of(vm).paths[0]

    def program_of(self, vm: Vm) -> Program:
        """Return all that the guest of a VM is made of."""
        names = (vm.program,) if isinstance(vm.program, str) else vm.program
        return Program(tuple(self.folder / name for name in names), vm.cc, vm.cflags)

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
            self._check_placement(where, vm)
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

    def _check_placement(self, where: str, vm: Vm) -> None:
        if isinstance(vm.pinning, str):
            return
        if len(vm.pinning) != vm.vcpus:
            raise FieldError(
                f"{where}.pinning",
                f"places {len(vm.pinning)} vCPUs, but {where}.vcpus is {vm.vcpus}; "
                f"name {vm.vcpus} pCPUs or use 'round-robin'",
            )
        last = self.hardware.pcpus - 1
        for pcpu in vm.pinning:
            if not 0 <= pcpu <= last:
                raise FieldError(
                    f"{where}.pinning", f"there is no pCPU {show(pcpu)}; use 0 to {last} or raise hardware.pcpus"
                )


def with_fields(scenario: Scenario, fields: Mapping[str, Any]) -> Scenario:
    """Return one row of a comparison: some fields set, from text or to values, and no variants of its own."""
    data = attrs.evolve(scenario, variant=()).to_dict()
    for path, value in fields.items():
        if path.partition(".")[0] == "variant":
            raise FieldError(path, "cannot be changed by a row of a comparison; name a field of the scenario")
        assign(data, Scenario, path, value)
    return from_dict(data, folder=scenario.folder)


def from_dict(data: Mapping[str, Any], *, folder: Path = Path()) -> Scenario:
    """Make a scenario from plain values, as in a TOML file or in a run's JSON."""
    return attrs.evolve(structure(Scenario, data), folder=folder)


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
    return from_dict(data, folder=scenario.folder)


def load(path: str | Path) -> Scenario:
    """Read a scenario from a TOML file, or from ``scenario.toml`` in a folder."""
    path = Path(path)
    if path.is_dir():
        path = path / "scenario.toml"
    data = read_toml(path)
    data.setdefault("name", path.parent.resolve().name if path.name == "scenario.toml" else path.stem)
    try:
        return from_dict(data, folder=path.parent)
    except ScenarioError as error:
        raise ScenarioError(f"{path}: {error}") from None
