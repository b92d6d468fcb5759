"""What `pleemu new` writes: files for a user to begin with."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from pleemu.errors import PleemuError
from pleemu.guest_template import ASSEMBLY, C

_SUFFIXES = (".S", ".s", ".c")

POLICY = '''"""NAME: nominate only a vCPU that was preempted, or that the spinner has sent an IPI."""

# pleemu run overboost --policy PATH                  alone
# pleemu run overboost --policy PATH+debooster        with a cure of the scheduler
# pleemu compare overboost --policies vanilla,PATH    beside others
#
# Plain Python, which numba compiles unless COMPILED = False says no. A vCPU has these fields, integers all:
#   id                   its number in its VM                vcpus           of its VM
#   preempted            switched out while runnable         ready           preempted, or woken and not yet run
#   preempted_in_kernel  at CPL 0 when last preempted        blocking        halted
#   scheduled_out        its thread is on no pCPU            in_kernel       of me: at CPL 0 at its PAUSE exit
#   dy_runnable          has an interrupt to take            pending_irq     a posted one (with APICv)
#   in_spin_loop         in kvm_vcpu_on_spin                 dy_eligible     its turn, of those that spin
#   ipi_from_me          of candidate: an IPI of mine has come since it was switched out
#   last_boosted         the vCPU boosted last in its VM     ple_window      now
#   now_ns               the time                            mine[0..63]     yours, 0 at first
# You may write mine, in_spin_loop and dy_eligible.

BASED_ON = "kvm-5.6"  # whose search it is: pleemu list generations; another: --policy kvm-6.19+PATH
REPLACES = ("not-ready",)  # the rules of it that `refuses` takes the place of; () none: it is asked first; "all"


def refuses(me, candidate):
    """Refuse the candidate by a rule's number, or let it pass with 0."""
    if not candidate.preempted and not (candidate.ready and candidate.ipi_from_me):
        return 1
    return 0


# All functions that KVM calls; define those that you need.
#
# def starts_at(me):                      which vCPU to look at first, in place of the one behind last_boosted
# def on_entry(vcpu):                     it enters the guest
# def on_sched_in(vcpu):                  its thread is on a pCPU again
# def on_sched_out(vcpu):                 its thread has left its pCPU
# def on_ipi(sender, receiver):           KVM delivers an IPI; with kvm.ipiv it sees few
# def on_eoi(vcpu, vector):               it ends an interrupt; KVM sees that without APICv only
# def on_yield(me, candidate, answer):    the scheduler was asked: 1 it will, 0 it cannot, -3 nobody else to run
'''


def new_policy(name: str) -> Path:
    """Write the template of a policy to ``name``, with `.py` behind it if it has none; never over a file."""
    path = Path(name if name.endswith(".py") else f"{name}.py")
    spelled = str(path) if path.parent != Path() or path.is_absolute() else f"./{path}"
    if not path.stem.isidentifier() or "+" in spelled or "," in spelled:
        raise PleemuError(f"new policy: {name!r} does not do; use letters, digits and _, as in my_policy")
    return _written("policy", path, POLICY.replace("NAME", path.stem).replace("PATH", spelled))


def new_guest(name: str, *, in_c: bool = False) -> Path:
    """Write the template of a guest to ``name``: assembly, or C if it ends so or that is asked for."""
    path = Path(name)
    if path.suffix not in _SUFFIXES:
        path = path.with_name(f"{path.name}{'.c' if in_c else '.S'}") if path.name else path
    if not re.fullmatch(r"\w[\w-]*", path.stem) or path.suffix not in _SUFFIXES:
        raise PleemuError(f"new guest: {name!r} does not do; use letters, digits, _ and -, as in my_lock or my_lock.c")
    if in_c and path.suffix != ".c":
        raise PleemuError(f"new guest: {name} with --c; C is in NAME.c, so leave out one of them")
    text = C if path.suffix == ".c" else ASSEMBLY
    return _written("guest", path, text.replace("NAME", path.stem).replace("PATH", shlex.quote(str(path))))


def _written(what: str, path: Path, text: str) -> Path:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise PleemuError(f"new {what}: {path} is there already; it is not overwritten") from None
    except (OSError, ValueError) as error:
        raise PleemuError(f"new {what}: {path}: {getattr(error, 'strerror', None) or error}") from None
    return path
