"""kvm_vcpu_on_spin (virt/kvm/kvm_main.c) from v2.6.39 to v6.19, and with the patches for it, as one ladder of ifs.

Independent of the emulator: a vCPU is its flags, and the scheduler's answer is a function that is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import define, field

YEARS = (
    "directed-yield-2011",
    "relax-filter-2012",
    "esrch-2013",
    "preempted-2013",
    "in-kernel-2017",
    "vanilla",
    "pending-irq-2021",
    "kvm-6.13",
    "kvm-6.19",
)


@define
class Vcpu:
    """What kvm_vcpu_on_spin reads and writes of `struct kvm_vcpu`."""

    id: int
    ready: bool = False
    preempted: bool = False
    preempted_in_kernel: bool = False
    blocking: bool = False
    interrupt_pending: bool = False  # accepted by its APIC, not yet taken
    posted: bool = False  # in PIR
    pv_unhalted: bool = False  # kicked
    interrupts_on: bool = True  # RFLAGS.IF
    in_guest: bool = False  # PF_VCPU
    in_spin_loop: bool = False
    dy_eligible: bool = False
    ipi_received: int = 0  # Strict Boost: set of senders, 64 bits
    ipi_senders: frozenset[int] = frozenset()  # as its authors describe it
    ipi_any: bool = False
    awaited: int | None = None  # who this one's latest IPI went to, if it still waits for it


@define
class Kvm:
    """A VM; ``yield_to`` answers for the scheduler: 1, 0 or -3 (-ESRCH)."""

    vcpus: list[Vcpu]
    yield_to: Callable[[Vcpu], int]
    last_boosted_vcpu: int = 0
    generation: str = "vanilla"
    cures: frozenset[str] = frozenset()
    apicv: bool = True
    yield_to_kernel_mode: bool = True  # VMX: always; SVM: the spinner is at CPL 0
    tried: list[int] = field(factory=list)

    def since(self, year: str) -> bool:
        """Is this generation at least as new?"""
        return YEARS.index(self.generation) >= YEARS.index(year)

    def on_spin(self, me: Vcpu) -> bool:
        """Return whether the scheduler took the hint; `finish` follows when ``me`` runs again."""
        if self.since("kvm-6.13"):
            if len(self.vcpus) < 2:
                return False
            rounds = self._one_loop
        else:
            rounds = self._two_passes
        me.in_spin_loop = True
        tries, yielded, took = rounds(me, 3, relaxed=False)
        if yielded <= 0 and any(cure.startswith("ipi-aware") for cure in self.cures):
            _, _, took = rounds(me, tries, relaxed=True)
        return took

    @staticmethod
    def finish(me: Vcpu) -> None:
        """The end of kvm_vcpu_on_spin."""
        me.in_spin_loop = False
        me.dy_eligible = False

    def _two_passes(self, me: Vcpu, tries: int, *, relaxed: bool) -> tuple[int, int, bool]:
        last = self.last_boosted_vcpu
        yielded, took, pass_ = 0, False, 0
        while pass_ < 2 and yielded == 0 and tries > 0:
            for i in self._pass(pass_, last):
                if self._passed_over(me, self.vcpus[i], relaxed):
                    continue
                yielded, took = self._ask(i)
                if yielded > 0:
                    self.last_boosted_vcpu = i
                    break
                if yielded < 0:
                    tries -= 1
                    if tries == 0:
                        break
            pass_ += 1
        return tries, yielded, took

    def _pass(self, pass_: int, last: int) -> Iterator[int]:
        i = 0
        while i < len(self.vcpus):
            before = i < last if self.generation == "directed-yield-2011" else i <= last
            if pass_ == 0 and before:
                i = last + 1
                continue
            if pass_ == 1 and i > last:
                break
            yield i
            i += 1

    def _one_loop(self, me: Vcpu, tries: int, *, relaxed: bool) -> tuple[int, int, bool]:
        size = len(self.vcpus)
        yielded, took = 0, False
        start = self.last_boosted_vcpu + 1
        for i in range(size):
            index = (start + i) % size
            if self.vcpus[index] is me or self._passed_over(me, self.vcpus[index], relaxed):
                continue
            yielded, took = self._ask(index)
            if yielded > 0:
                self.last_boosted_vcpu = i if self.generation == "kvm-6.13" else index
                break
            if yielded < 0:
                tries -= 1
                if tries == 0:
                    break
        return tries, yielded, took

    def _ask(self, index: int) -> tuple[int, bool]:
        """Return the answer as the loop sees it, and whether the scheduler took the hint."""
        self.tried.append(index)
        answer = self.yield_to(self.vcpus[index])
        if answer >= 0:
            return answer, answer > 0
        if not self.since("esrch-2013"):
            return 0, False
        return (answer if self.since("in-kernel-2017") else 1), False

    def _passed_over(self, me: Vcpu, vcpu: Vcpu, relaxed: bool) -> bool:
        strict = next((cure for cure in self.cures if cure.startswith("strict-boost")), "")
        bit = 1 << (me.id % 64)
        ready = vcpu.ready if self.since("vanilla") else vcpu.preempted
        if strict == "strict-boost":
            if not vcpu.preempted and not (vcpu.ready and vcpu.ipi_received & bit):
                vcpu.ipi_received |= bit
                return True
        elif strict == "strict-boost-ideal":
            if not vcpu.preempted and not (vcpu.ready and me.id in vcpu.ipi_senders):
                return True
        elif self.since("preempted-2013") and not ready:
            return True
        if vcpu is me:
            return True
        if strict == "strict-boost-rfc" and not vcpu.preempted and not vcpu.ipi_received & _int_bit(me.id):
            vcpu.ipi_received |= _int_bit(me.id)
            return True
        if vcpu.blocking and not self._can_run(vcpu):
            return True
        if self.since("in-kernel-2017") and self._wrong_mode(me, vcpu, strict, relaxed):
            return True
        if self.since("relax-filter-2012") and not self._eligible(vcpu):
            return True
        return not self.since("in-kernel-2017") and vcpu.in_guest

    def _can_run(self, vcpu: Vcpu) -> bool:
        if not self.since("in-kernel-2017"):
            return False
        runnable = vcpu.posted or vcpu.interrupt_pending
        if vcpu.pv_unhalted:
            return True
        return runnable if self.since("vanilla") else runnable and vcpu.interrupts_on

    def _wrong_mode(self, me: Vcpu, vcpu: Vcpu, strict: str, relaxed: bool) -> bool:
        delivering = self.apicv and vcpu.posted
        if any(cure.startswith("ipi-aware") for cure in self.cures):
            if relaxed:
                return not vcpu.preempted
            if me.awaited == vcpu.id or delivering:
                return False
            return not vcpu.preempted or (self.yield_to_kernel_mode and not vcpu.preempted_in_kernel)
        if not self.yield_to_kernel_mode:
            return False
        if delivering and (self.since("pending-irq-2021") or "pending-irq" in self.cures):
            return False
        if strict == "strict-boost":
            return not vcpu.preempted_in_kernel and not vcpu.ipi_received & _int_bit(me.id)
        if not vcpu.preempted or vcpu.preempted_in_kernel:
            return False
        if strict == "strict-boost-ideal":
            return me.id not in vcpu.ipi_senders
        if strict == "strict-boost-rfc":
            if vcpu.ipi_received & _int_bit(me.id):
                return False
            vcpu.ipi_received |= _int_bit(me.id)
            return True
        return not ("ipi-bool" in self.cures and vcpu.ipi_any)

    @staticmethod
    def _eligible(vcpu: Vcpu) -> bool:
        eligible = not vcpu.in_spin_loop or vcpu.dy_eligible
        if vcpu.in_spin_loop:
            vcpu.dy_eligible = not vcpu.dy_eligible
        return eligible


def _int_bit(number: int) -> int:
    """``1 << number`` as an int of 32 bits, sign-extended to 64."""
    bit = 1 << (number % 32)
    return 2**64 - 2**31 if bit == 1 << 31 else bit
