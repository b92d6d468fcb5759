"""The tracepoints that pleemu's events are: fields, and the text that the kernel makes of them.

Payloads follow Linux v5.6, and v6.19 where those of kvm_entry, kvm_exit and sched_stat_runtime differ
(arch/x86/kvm/trace.h, include/trace/events/sched.h). The probes of guests are events of a system `pleemu`, of the shape
of perf's SDT events.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from attrs import evolve, field, frozen

from pleemu.hardware.isa import PROBE_OPERATION_DONE, PROBES
from pleemu.observe import events

# What the kernel declares; pahole's sizes.
SIZES = {"unsigned int": 4, "int": 4, "unsigned long": 8, "long": 8, "u64": 8, "char": 16}
_UNSIGNED = ("unsigned int", "unsigned long", "u64")


@frozen
class Field:
    """One member of a tracepoint's record; a `char` is an array of TASK_COMM_LEN."""

    type: str
    name: str

    @property
    def signed(self) -> bool:
        """Whether it is a signed number."""
        return self.type not in _UNSIGNED and self.type != "char"


@frozen
class Symbol:
    """A field, or some of its bits, as a word."""

    field: str
    words: Mapping[int, str]
    shift: int = 0
    mask: int = 0xFFFFFFFF

    def text(self, value: int) -> str:
        """Return the word, or the number in hex as libtraceevent prints one without a word."""
        bits = value >> self.shift & self.mask
        return self.words.get(bits, f"{bits:#x}")

    def expression(self) -> str:
        """Return it in the language of `print fmt`."""
        pairs = ", ".join(f'{{ {number:#x}, "{word}" }}' for number, word in self.words.items())
        return f"__print_symbolic((REC->{self.field} >> {self.shift}) & {self.mask:#x}, {pairs})"


@frozen
class Tracepoint:
    """One kind of event: `form` is C's, with one of `shown` for each conversion."""

    system: str
    name: str
    fields: tuple[Field, ...]
    form: str
    shown: tuple[str | Symbol, ...]
    _python_form: str = field(init=False, repr=False)

    @_python_form.default
    def _(self) -> str:
        return re.sub(r"(%\d*)ll", r"\1l", self.form)

    def text(self, values: Mapping[str, Any]) -> str:
        """Return the payload as the kernel prints it."""
        return self._python_form % tuple(
            [values[one] if isinstance(one, str) else one.text(values[one.field]) for one in self.shown]
        )

    def print_fmt(self) -> str:
        """Return the last line of an event's `format` file."""
        shown = (f"REC->{one}" if isinstance(one, str) else one.expression() for one in self.shown)
        return ", ".join([f'"{self.form}"', *shown])


def _fields(declared: str) -> tuple[Field, ...]:
    return tuple(Field(*one.strip().rsplit(" ", 1)) for one in declared.split(","))


# prev_state of sched_switch: TASK_RUNNING, with TASK_REPORT_MAX preempted; TASK_INTERRUPTIBLE, EXIT_DEAD.
STATES = {0: "R", 0x100: "R+", 0x1: "S", 0x10: "X"}
STATE_OF_EVENT = tuple({word: number for number, word in STATES.items()}[name] for name in events.STATE_NAMES)

# Numbers of kvm_amd's exits (v5.6 arch/x86/include/uapi/asm/svm.h), by those that pleemu has for both vendors.
SVM_NUMBERS = {
    events.EXTERNAL_INTERRUPT: 0x60,
    events.INTERRUPT_WINDOW: 0x64,
    events.CPUID: 0x72,
    events.PAUSE_INSTRUCTION: 0x77,
    events.HLT: 0x78,
    events.MSR_READ: 0x7C,
    events.MSR_WRITE: 0x7C,
    events.VMCALL: 0x81,
    events.CR_ACCESS: 0x18,
    events.APIC_WRITE: 0x402,
}
VMX, SVM = 1, 2  # `isa` of kvm_exit

# Fields of the ICR's low half: where, and what each value is called.
_ICR = (
    (8, ("Fixed", "LowPrio", "SMI", "Res3", "NMI", "INIT", "SIPI", "ExtINT")),
    (11, ("physical", "logical")),
    (14, ("de-assert", "assert")),
    (15, ("edge", "level")),
    (18, ("dst", "self", "all", "all-but-self")),
)

PLE_WINDOW = Tracepoint(
    "kvm",
    "kvm_ple_window_update",
    _fields("unsigned int vcpu_id, unsigned int new, unsigned int old, int grow"),
    "vcpu %u old %u new %u (%s)",
    ("vcpu_id", "old", "new", Symbol("grow", {0: "shrinked", 1: "growed"})),
)
HALT_POLL = Tracepoint(
    "kvm",
    "kvm_halt_poll_ns",
    _fields("int grow, unsigned int vcpu_id, unsigned int new, unsigned int old"),
    "vcpu %u: halt_poll_ns %u (%s %u)",
    ("vcpu_id", "new", Symbol("grow", {0: "shrink", 1: "grow"}), "old"),
)
APIC_IPI = Tracepoint(
    "kvm",
    "kvm_apic_ipi",
    _fields("unsigned int icr_low, unsigned int dest_id, unsigned int vector"),
    "dst %x vec %u (%s|%s|%s|%s|%s)",
    (
        "dest_id",
        "vector",
        *(Symbol("icr_low", dict(enumerate(names)), shift, len(names) - 1) for shift, names in _ICR),
    ),
)
HYPERCALL = Tracepoint(
    "kvm",
    "kvm_hypercall",
    _fields("unsigned long nr, unsigned long a0, unsigned long a1, unsigned long a2, unsigned long a3"),
    "nr 0x%lx a0 0x%lx a1 0x%lx a2 0x%lx a3 0x%lx",
    ("nr", "a0", "a1", "a2", "a3"),
)
PV_TLB_FLUSH = Tracepoint(
    "kvm",
    "kvm_pv_tlb_flush",
    _fields("unsigned int vcpu_id, int need_flush_tlb"),
    "vcpu %u need_flush_tlb %s",
    ("vcpu_id", Symbol("need_flush_tlb", {0: "false", 1: "true"})),
)
SCHED_SWITCH = Tracepoint(
    "sched",
    "sched_switch",
    _fields(
        "char prev_comm, int prev_pid, int prev_prio, long prev_state, char next_comm, int next_pid, int next_prio"
    ),
    "prev_comm=%s prev_pid=%d prev_prio=%d prev_state=%s ==> next_comm=%s next_pid=%d next_prio=%d",
    (
        "prev_comm",
        "prev_pid",
        "prev_prio",
        Symbol("prev_state", STATES),
        "next_comm",
        "next_pid",
        "next_prio",
    ),
)
SCHED_WAKEUP = Tracepoint(
    "sched",
    "sched_wakeup",
    _fields("char comm, int pid, int prio, int success, int target_cpu"),
    "comm=%s pid=%d prio=%d target_cpu=%03d",
    ("comm", "pid", "prio", "target_cpu"),
)
SCHED_MIGRATE = Tracepoint(
    "sched",
    "sched_migrate_task",
    _fields("char comm, int pid, int prio, int orig_cpu, int dest_cpu"),
    "comm=%s pid=%d prio=%d orig_cpu=%d dest_cpu=%d",
    ("comm", "pid", "prio", "orig_cpu", "dest_cpu"),
)
# Until v6.7, and since, when a vruntime was taken out; in pleemu's own formats it stays, with its sign.
_CHARGED = "char comm, int pid, u64 runtime"
STAT_RUNTIME = Tracepoint(
    "sched",
    "sched_stat_runtime",
    _fields(f"{_CHARGED}, u64 vruntime"),
    "comm=%s pid=%d runtime=%Lu [ns] vruntime=%Lu [ns]",
    ("comm", "pid", "runtime", "vruntime"),
)
STAT_RUNTIME_RECENT = Tracepoint(
    "sched", "sched_stat_runtime", _fields(_CHARGED), "comm=%s pid=%d runtime=%Lu [ns]", ("comm", "pid", "runtime")
)
STAT_RUNTIME_OWN = evolve(STAT_RUNTIME, fields=_fields(f"{_CHARGED}, long vruntime"))


def _probe(name: str, argument: bool) -> Tracepoint:
    form = "(%lx) arg1=%llu" if argument else "(%lx)"
    shown = ("__probe_ip", "arg1") if argument else ("__probe_ip",)
    declared = "unsigned long __probe_ip" + (", u64 arg1" if argument else "")
    return Tracepoint("pleemu", name, _fields(declared), form, shown)


GUEST_PROBES = tuple(_probe(name, number != PROBE_OPERATION_DONE) for number, name in enumerate(PROBES))


@frozen
class KernelForm:
    """The tracepoints that differ from kernel to kernel."""

    kernel: str
    entry: Tracepoint
    exit: Tracepoint
    stat_runtime: Tracepoint


def kernel_form(*, recent: bool, amd: bool) -> KernelForm:
    """Return the form of v6.19 if ``recent``, or else of v5.6, with the names of exits of the vendor."""
    names = events.exit_reasons(amd)
    words = {SVM_NUMBERS[number] if amd else number: name for number, name in names.items()}
    reason = Symbol("exit_reason", words)
    of_exit = "unsigned int exit_reason, unsigned long guest_rip, unsigned int isa, u64 info1, u64 info2"
    of_entry = "unsigned int vcpu_id, unsigned long rip"  # v5.6 has no rip, but trace-cmd's plugin wants one
    if not recent:
        return KernelForm(
            "5.6",
            Tracepoint("kvm", "kvm_entry", _fields(of_entry), "vcpu %u", ("vcpu_id",)),
            Tracepoint(
                "kvm",
                "kvm_exit",
                _fields(of_exit + ", unsigned int vcpu_id"),
                "vcpu %u reason %s rip 0x%lx info %llx %llx",
                ("vcpu_id", reason, "guest_rip", "info1", "info2"),
            ),
            STAT_RUNTIME,
        )
    return KernelForm(
        "6.19",
        Tracepoint(
            "kvm",
            "kvm_entry",
            _fields(of_entry + ", unsigned int intr_info, unsigned int error_code"),
            "vcpu %u, rip 0x%lx intr_info 0x%08x error_code 0x%08x",
            ("vcpu_id", "rip", "intr_info", "error_code"),
        ),
        Tracepoint(
            "kvm",
            "kvm_exit",
            _fields(of_exit + ", unsigned int intr_info, unsigned int error_code, unsigned int vcpu_id, u64 requests"),
            "vcpu %u reason %s rip 0x%lx info1 0x%016llx info2 0x%016llx "
            "intr_info 0x%08x error_code 0x%08x requests 0x%016llx",
            ("vcpu_id", reason, "guest_rip", "info1", "info2", "intr_info", "error_code", "requests"),
        ),
        STAT_RUNTIME_RECENT,
    )


def all_tracepoints(form: KernelForm) -> tuple[Tracepoint, ...]:
    """Return every tracepoint that a trace can have."""
    return (
        form.entry,
        form.exit,
        PLE_WINDOW,
        HALT_POLL,
        APIC_IPI,
        HYPERCALL,
        PV_TLB_FLUSH,
        SCHED_SWITCH,
        SCHED_WAKEUP,
        SCHED_MIGRATE,
        form.stat_runtime,
        *GUEST_PROBES,
    )
