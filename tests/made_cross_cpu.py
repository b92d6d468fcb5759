"""Machines for the shipped cross-CPU programs: a few rounds each, and all vCPUs return."""

from __future__ import annotations

from pathlib import Path

from attrs import field, frozen
from hypothesis import strategies as st
from made_machines import GUESTS, POLICIES, Command, Observed, observe

from pleemu import catalogue
from pleemu.checks.finding import PropertyError
from pleemu.checks.machines import fitting_schedulers
from pleemu.errors import GuestFault

FOLDER = catalogue.programs_folder()
ALL_RETURNED = "all vCPUs have returned from guest_main"
SCHEDULERS = ("cfs-5.6", "eevdf-6.12", "chaos")
PAIRS = tuple((policy, one) for policy in POLICIES for one in fitting_schedulers(policy, SCHEDULERS))
KHZ = 100_000  # a slow machine: many time slices in few instructions
BOUND_MS = 600  # what no run of these comes near to, but one in which somebody waits for ever

CALLS = FOLDER / "cross_cpu" / "smp_call.S"
PROGRAMS = {
    "calls": (GUESTS / "cross_cpu" / "calls.S", CALLS),
    "shootdown": (FOLDER / "shootdown" / "main.S", FOLDER / "cross_cpu" / "tlb.S", CALLS),
    "wake_up": (
        FOLDER / "wake_up" / "main.S",
        FOLDER / "cross_cpu" / "try_to_wake_up.S",
        FOLDER / "locks" / "virt_spin_lock.S",
    ),
    "barrier": (FOLDER / "barrier" / "main.S",),
    "grace_period": (FOLDER / "grace_period" / "main.S",),
}
TIMES = ("0..2us", "0..20us", "0..100us")
DISTRIBUTIONS = {
    "calls": ("think",),
    "shootdown": ("think", "burst", "critical"),
    "wake_up": ("think", "burst", "switch"),
    "barrier": ("burst",),
    "grace_period": ("think", "read"),
}


@frozen(kw_only=True)
class Setting:
    """A cross-CPU program on a machine."""

    program: str
    policy: str = "vanilla"
    scheduler: str = "chaos"
    vcpus: int = 3
    pcpus: int = 2
    rounds: int = 5
    seed: int = 1
    bound_ms: int = BOUND_MS
    fields: dict[str, str] = field(factory=dict)
    files: tuple[Path, ...] = ()  # in place of the shipped ones

    def command(self) -> Command:
        """The same as a command line."""
        fields = {
            "vm.program": ",".join(map(str, self.files or PROGRAMS[self.program])),
            "vm.vcpus": str(self.vcpus),
            "hardware.pcpus": str(self.pcpus),
            "hardware.tsc_khz": str(KHZ),
            "host.hz": "1000",
            "host.online_cpus": "1",
            "host.scheduler": self.scheduler,
            "host.start_spread_ms": "0.05",
            "vm.parameters.rounds": str(self.rounds),
        }
        if self.scheduler == "chaos":
            fields["host.chaos_max_ns"] = "200000"
        changes = {"policy": self.policy, "seed": self.seed, "duration": f"{self.bound_ms}ms"}
        return Command("barrier", changes, fields | self.fields)


@st.composite
def settings_of(draw: st.DrawFn, program: str, pairs: tuple[tuple[str, str], ...] = PAIRS) -> Setting:
    """At least 3 vCPUs and 2 rounds, with vCPUs in all states in which they can be asked for something."""
    policy, scheduler = draw(st.sampled_from(pairs))
    fields = {f"vm.parameters.{name}": draw(st.sampled_from(TIMES)) for name in DISTRIBUTIONS[program]}
    fields["hardware.transfer_ns"] = draw(st.sampled_from(("200", "1000", "3000")))
    vcpus = draw(st.integers(3, 6))
    if program == "calls":
        fields["vm.parameters.waiting"] = draw(st.sampled_from(("0", "50", "100")))
        fields["vm.parameters.user"] = draw(st.sampled_from(("0", "30", "80")))
        fields["vm.parameters.interrupts_off"] = draw(st.sampled_from(("0", "20")))
        fields["vm.parameters.longest"] = draw(st.sampled_from(("0", "255", "4095")))
    elif program == "shootdown":
        fields["vm.parameters.initiators"] = str(draw(st.integers(1, vcpus - 1)))
        user, off, halted = draw(st.sampled_from(((50, 10, 20), (0, 0, 90), (100, 0, 0), (0, 90, 0), (0, 0, 0))))
        fields["vm.parameters.user"], fields["vm.parameters.halted"] = str(user), str(halted)
        fields["vm.parameters.interrupts_off"] = str(off)
        for name, values in (("pages", ("0", "8", "34")), ("freed_tables", "01"), ("pv_flush", "01")):
            fields[f"vm.parameters.{name}"] = draw(st.sampled_from(values))
    elif program == "wake_up":
        fields["vm.parameters.tasks"] = str(draw(st.integers(1, 2 * vcpus)))
    elif program == "barrier":
        fields["vm.parameters.user"] = draw(st.sampled_from("01"))
    return Setting(
        program=program,
        policy=policy,
        scheduler=scheduler,
        vcpus=vcpus,
        pcpus=draw(st.integers(2, vcpus)),
        rounds=draw(
            st.sampled_from((2, 8) if program == "barrier" else (2, 8, 20))
        ),  # in user mode one takes time slices
        seed=draw(st.integers(0, 2**32)),
        fields=fields,
    )


def check(setting: Setting) -> Observed:
    """Run; that its promises are kept the guest itself checks: it stops at a `ud2`, or not all its vCPUs return."""
    observed = observe(setting.command())
    if observed.run.ended != ALL_RETURNED:
        raise PropertyError(f"not all vCPUs return: {observed.run.ended}", cycle=observed.run.cycles, vcpus=())
    return observed


def broken(setting: Setting) -> str:
    """What is wrong with a program, as far as this run shows it; nothing: ''."""
    try:
        check(setting)
    except (GuestFault, PropertyError) as error:
        return str(error).partition("\n")[0]
    return ""
