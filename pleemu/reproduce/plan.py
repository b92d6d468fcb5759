"""What is emulated: the parts of the evaluation, each a few settings under a few policies, with several seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from attrs import field, frozen

from pleemu.catalogue import programs_folder
from pleemu.errors import ScenarioError, nearest
from pleemu.profile import profile
from pleemu.scenario import Scenario, from_dict

QUICK_SEEDS, QUICK_MS = 2, 30.0
LEAST_SEEDS = 2  # for an interval
_SPREAD_MS = 12.0  # threads start within a slice: sched_latency 24 ms on 8 CPUs, two threads each

VANILLA, STRICT, DEBOOSTER, BOTH = "vanilla", "strict-boost", "debooster", "strict-boost+debooster"
BEFORE_2019, READY_2019 = "in-kernel-2017", "vanilla"
V6_19, SERIES_2025 = "kvm-6.19", "kvm-6.19+ipi-aware-v2+debooster-2025-v2"


@frozen(kw_only=True)
class Setting:
    """One machine with its guests."""

    name: str
    fields: Mapping[str, Any]  # of the scenario, but seed and duration
    subjects: tuple[int, ...]  # VMs whose operations count
    neighbours: tuple[int, ...] = ()  # VMs that shall neither lose nor win


@frozen(kw_only=True)
class Part:
    """One evaluation that somebody has published."""

    name: str
    title: str
    text: str  # what is emulated, and what had to be assumed
    policies: Mapping[str, str]  # and what they are called here; what the others are compared to comes first
    settings: tuple[Setting, ...]
    duration_ms: float
    seeds: int = 8
    references: Mapping[str, str] = field(factory=dict)  # if settings are compared, and not policies: each to which

    @property
    def reference(self) -> str:
        """Return the policy that the others are compared to."""
        return next(iter(self.policies))

    def reference_of(self, setting: str, policy: str) -> tuple[str, str]:
        """Return the setting and the policy that these are compared to."""
        return (self.references[setting], policy) if self.references else (setting, self.reference)


@frozen(kw_only=True)
class Job:
    """One run."""

    part: str
    setting: str
    policy: str
    seed: int
    scenario: Scenario

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f"{self.part}: {self.setting}, {self.policy}, seed {self.seed}"


@frozen(kw_only=True)
class Plan:
    """All runs of some parts."""

    parts: tuple[Part, ...]
    seeds: int | None = None  # of every part; None: as many as the part says
    quick: bool = False  # short runs with few seeds: to see that it works

    def seeds_of(self, part: Part) -> range:
        """Return the seeds of a part."""
        return range(1, 1 + (self.seeds or (QUICK_SEEDS if self.quick else part.seeds)))

    def duration_ms_of(self, part: Part) -> float:
        """Return how long each run of a part emulates."""
        return QUICK_MS if self.quick else part.duration_ms

    def jobs(self) -> Iterator[Job]:
        """Return every run, so that one seed is through before the next begins."""
        for part in self.parts:
            for seed in self.seeds_of(part):
                for setting in part.settings:
                    for policy in part.policies:
                        yield Job(
                            part=part.name,
                            setting=setting.name,
                            policy=policy,
                            seed=seed,
                            scenario=self._scenario(part, setting, policy, seed),
                        )

    def _scenario(self, part: Part, setting: Setting, policy: str, seed: int) -> Scenario:
        data = {
            **setting.fields,
            "name": f"{part.name}, {setting.name}",
            "policy": policy,
            "seed": seed,
            "duration_ms": self.duration_ms_of(part),
        }
        return from_dict(data, folder=programs_folder() / "profiles")


def plan(names: Iterable[str] = (), *, seeds: int | None = None, quick: bool = False) -> Plan:
    """Return the plan of the named parts, or of all."""
    known = {part.name: part for part in parts()}
    names = tuple(names)
    for number, name in enumerate(names):
        if name not in known:
            raise ScenarioError(f"unknown part {name!r}{nearest(name, known)}")
        if name in names[:number]:
            raise ScenarioError(f"part {name!r} is named twice; name each part once")
    if seeds is not None and not LEAST_SEEDS <= seeds <= 1000:
        raise ScenarioError(f"--seeds {seeds} is out of range; use {LEAST_SEEDS} (for an interval) to 1000")
    chosen = tuple(part for part in parts() if not names or part.name in names)
    return Plan(parts=chosen, seeds=seeds, quick=quick)


def _vm(number: int, given: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": f"vm{number}", "vcpus": 8, "pinning": "none", **given}


def _machine(vms: Sequence[Mapping[str, Any]], *, pcpus: int = 8, **tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a machine whose vCPUs the host places as it likes."""
    host = {"start_spread_ms": _SPREAD_MS, **tables.get("host", {})}
    hardware = {"pcpus": pcpus, **tables.get("hardware", {})}
    machines = [_vm(number, vm) for number, vm in enumerate(vms)]
    return {**tables, "hardware": hardware, "host": host, "vm": machines}


def _several(name: str, vm: Mapping[str, Any], count: int, **more: Any) -> Setting:
    """Return a setting with the same in every VM, and as many vCPUs in each as there are pCPUs."""
    vcpus = more.get("pcpus", 8)
    return Setting(name=name, fields=_machine([{"vcpus": vcpus, **vm}] * count, **more), subjects=tuple(range(count)))


def _talk(application: str) -> Setting:
    machine = _machine([{"profile": application}, {"profile": "swaptions"}])
    return Setting(name=application, fields=machine, subjects=(0,), neighbours=(1,))


# What `stress --cpu 2` does: computes.
_STRESS = {"profile": "swaptions", "vcpus": 2, "parameters": {"zone_locks": 0, "shootdowns": 0}}


APPLICATIONS = ("dedup", "vips", "psearchy", "ebizzy-m", "ebizzy-M")
LOCKS = ("ticket", "qspinlock", "virt_spin_lock", "pv_qspinlock")


@cache
def parts() -> tuple[Part, ...]:
    """Return all parts of the evaluation."""
    return (_talk_part(), _four_vms(), _ready_2019(), _wait_early(), _series_2025(), _locks())


def _talk_part() -> Part:
    return Part(
        name="talk",
        title="The talk: an application beside swaptions",
        text="Two VMs of 8 vCPUs on 8 pCPUs, Linux 5.6. The vCPUs float, as in the talk's trace, where vCPU 2 runs on "
        "pCPU 6. The talk does not say how ebizzy was called: both ways are here.",
        policies={VANILLA: "vanilla", STRICT: "strict-boost", DEBOOSTER: "debooster", BOTH: "both"},
        settings=tuple(_talk(one) for one in APPLICATIONS),
        duration_ms=1000,
        seeds=12,
    )


def _four_vms() -> Part:
    return Part(
        name="four-vms",
        title="Four VMs",
        text="Four VMs of 8 vCPUs on 8 pCPUs, Linux 5.6, the same application in each: the posting does not say which.",
        policies={VANILLA: "vanilla", BOTH: "both"},
        settings=tuple(_several(one, {"profile": one}, 4) for one in APPLICATIONS),
        duration_ms=500,
    )


def _ready_2019() -> Part:
    ebizzy = _ebizzy_2019()
    desktop = Setting(
        name="desktop",
        fields=_machine([ebizzy, _STRESS], hardware={"processor": "haswell"}),
        subjects=(0,),
        neighbours=(1,),
    )
    return Part(
        name="ready-2019",
        title="KVM before and after `ready` (2019), ebizzy -M",
        text="Desktop: a VM of 8 vCPUs beside one with two busy vCPUs (stress --cpu 2), 8 pCPUs. 1 to 3 VMs: 8 vCPUs "
        "each on 8 pCPUs, where 80 on 80 were measured. The guests are of their time, too: with the paravirtual queued "
        "spinlock, which Linux 4.10 to 5.3 had wait early. KVM of 2017 and of 2019, host scheduler of 5.6 for both.",
        policies={BEFORE_2019: "2017", READY_2019: "2019"},
        settings=(desktop, *(_several(_vms(count), ebizzy, count) for count in (1, 2, 3))),
        duration_ms=500,
    )


def _wait_early() -> Part:
    early, late = "waits early", "spins on"
    return Part(
        name="wait-early",
        title="A paravirtual lock that waits early, and one that does not (2019), ebizzy -M",
        text="Three VMs of 8 vCPUs on 8 pCPUs, where 80 on 80 were measured. A waiter halts at once where steal time "
        "says that the one before it is preempted; or it spins on.",
        policies={BEFORE_2019: "2017", READY_2019: "2019"},
        settings=(_several(early, _ebizzy_2019(), 3), _several(late, _ebizzy_2019(waits_early=False), 3)),
        references={early: early, late: early},
        duration_ms=500,
    )


def _ebizzy_2019(*, waits_early: bool = True) -> dict[str, Any]:
    """Return ebizzy -M on a guest kernel with the paravirtual spinlock."""
    return _with_lock("ebizzy-M", "pv_qspinlock", preempted_counts=int(waits_early))


def _series_2025() -> Part:
    host = {"scheduler": "eevdf-6.12"}
    return Part(
        name="series-2025",
        title="The series of 2025 over 2, 3 and 4 VMs",
        text="VMs of 16 vCPUs on 16 pCPUs, KVM of 6.19, the scheduler of 6.12.117, the same application in each VM. "
        "The series is its second version; interrupts are not virtualised, as it needs and as its third version says.",
        policies={V6_19: "kvm-6.19", SERIES_2025: "series"},
        settings=tuple(
            _several(f"{one}, {_vms(count)}", {"profile": one}, count, pcpus=16, host=host, kvm={"apicv": False})
            for one in ("dbench", "dedup", "vips")
            for count in (2, 3, 4)
        ),
        duration_ms=500,
    )


def _locks() -> Part:
    settings: list[Setting] = []
    references: dict[str, str] = {}
    for count in (2, 3):
        for what, locked, locks in (("lock", _contended, LOCKS), ("dbench", _dbench, ("ticket", "pv_qspinlock"))):
            for lock in locks:
                name = f"{what}: {lock}, {_vms(count)}"
                settings.append(locked(name, lock, count))
                references[name] = f"{what}: ticket, {_vms(count)}"
    return Part(
        name="locks",
        title="The guest's spinlock: ticket, queued, test-and-set, paravirtual",
        text="VMs of 8 vCPUs on 8 pCPUs, Linux 5.6; only the guest kernel's spinlock differs. Lock: as pleemu compare "
        "locks has it, 2 us in it and up to 125 us outside; dbench: the application.",
        policies={VANILLA: "vanilla"},
        settings=tuple(settings),
        references=references,
        duration_ms=500,
    )


def _contended(name: str, lock: str, count: int) -> Setting:
    guest = {"program": f"../locks/{lock}.S", "parameters": {"hold": "2us", "think": "0..125us"}}
    return _several(name, guest, count)


def _dbench(name: str, lock: str, count: int) -> Setting:
    return _several(name, _with_lock("dbench", lock), count)


def _with_lock(application: str, lock: str, **parameters: int) -> dict[str, Any]:
    """Return a VM with an application on a kernel that has another spinlock."""
    chosen = profile(application, programs_folder())
    files = [f"../locks/{lock}.S" if one == "../locks/virt_spin_lock.S" else one for one in chosen.program]
    return {"program": files, "parameters": {**chosen.parameters, **parameters}}


def _vms(count: int) -> str:
    return f"{count} VM" if count == 1 else f"{count} VMs"
