"""How long a halted vCPU polls, in plain Python: kvm_vcpu_block's last part in v5.6 virt/kvm/kvm_main.c."""

from __future__ import annotations

from attrs import define


@define
class HaltPoll:
    """One vCPU's poll time under the parameters of the module kvm; all in ns."""

    most: int  # halt_poll_ns
    grow: int
    grow_start: int
    shrink: int
    value: int = 0

    def blocked(self, block_ns: int) -> None:
        """A halt is over after so long, polling included."""
        if self.most == 0:
            self.value = 0
        elif block_ns <= self.value:
            pass
        elif self.value and block_ns > self.most:
            self.value = self.value // self.shrink if self.shrink else 0
        elif self.value < self.most and block_ns < self.most and self.grow:
            product = self.value * self.grow % 2**32  # an unsigned int
            self.value = sorted((self.grow_start, product))[1]
            self.value = sorted((self.most, self.value))[0]
