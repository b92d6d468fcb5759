"""kvm_vcpu_on_spin of v5.6 (virt/kvm/kvm_main.c), and with the Strict Boost patch for v5.6, as loops over flags.

Independent of the emulator: a vCPU is its flags, and the scheduler's answer is a function that is given.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field


@define
class Vcpu:
    """What kvm_vcpu_on_spin reads and writes of `struct kvm_vcpu`."""

    id: int
    ready: bool = False
    preempted: bool = False
    preempted_in_kernel: bool = False
    on_wait_queue: bool = False
    interrupt_pending: bool = False  # kvm_arch_dy_runnable: one of these two
    pv_unhalted: bool = False
    in_spin_loop: bool = False
    dy_eligible: bool = False
    ipi_received: int = 0  # Strict Boost: set of senders, 64 bits


@define
class Kvm:
    """A VM; ``yield_to`` answers for the scheduler: 1, 0 or -3 (-ESRCH)."""

    vcpus: list[Vcpu]
    yield_to: Callable[[Vcpu], int]
    last_boosted_vcpu: int = 0
    strict_boost: bool = False
    yield_to_kernel_mode: bool = True  # VMX: always; SVM: the spinner is at CPL 0
    tried: list[int] = field(factory=list)

    def on_spin(self, me: Vcpu) -> bool:
        """Return whether the scheduler took the hint; `finish` follows when ``me`` runs again."""
        last = self.last_boosted_vcpu
        yielded, tries, pass_ = 0, 3, 0
        me.in_spin_loop = True
        while pass_ < 2 and yielded == 0 and tries > 0:
            i = 0
            while i < len(self.vcpus):
                if pass_ == 0 and i <= last:
                    i = last + 1
                    continue
                if pass_ == 1 and i > last:
                    break
                vcpu = self.vcpus[i]
                if self._passed_over(me, vcpu):
                    i += 1
                    continue
                self.tried.append(i)
                yielded = self.yield_to(vcpu)
                if yielded > 0:
                    self.last_boosted_vcpu = i
                    break
                if yielded < 0:
                    tries -= 1
                    if tries == 0:
                        break
                i += 1
            pass_ += 1
        return yielded > 0

    @staticmethod
    def finish(me: Vcpu) -> None:
        """The end of kvm_vcpu_on_spin."""
        me.in_spin_loop = False
        me.dy_eligible = False

    def _passed_over(self, me: Vcpu, vcpu: Vcpu) -> bool:
        bit = 1 << (me.id % 64)
        if self.strict_boost:
            if not vcpu.preempted and not (vcpu.ready and vcpu.ipi_received & bit):
                vcpu.ipi_received |= bit
                return True
        elif not vcpu.ready:
            return True
        if vcpu is me:
            return True
        if vcpu.on_wait_queue and not (vcpu.interrupt_pending or vcpu.pv_unhalted):
            return True
        if not self.yield_to_kernel_mode:
            pass
        elif self.strict_boost:
            # `1 << vcpu_id` is an int there: 32 bits, sign-extended.
            narrow = 1 << (me.id % 32)
            if narrow == 1 << 31:
                narrow = 2**64 - 2**31
            if not vcpu.preempted_in_kernel and not vcpu.ipi_received & narrow:
                return True
        elif vcpu.preempted and not vcpu.preempted_in_kernel:
            return True
        return not self._eligible(vcpu)

    @staticmethod
    def _eligible(vcpu: Vcpu) -> bool:
        eligible = not vcpu.in_spin_loop or vcpu.dy_eligible
        if vcpu.in_spin_loop:
            vcpu.dy_eligible = not vcpu.dy_eligible
        return eligible
