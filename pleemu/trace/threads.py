"""The threads of a machine, with the names and numbers that tools expect.

Made up, since no process exists: pids (2677 + 100 for each earlier VM + the vCPU's number; the step is a larger
multiple of 100 if a VM has more than 100 vCPUs) and those of the host's own threads (1001, 1002, ...).
"""

from __future__ import annotations

from pleemu.scenario import Scenario

_FIRST_PID = 2677
_FIRST_PID_OF_HOST = 1001
_PID_STEP = 100
_PRIORITY = 120  # of nice 0
_COMM_LENGTH = 15  # TASK_COMM_LEN less its NUL
IDLE = -1


class Threads:
    """Comm, pid and priority of each thread, by its number in events; -1 is the idle task of a pCPU."""

    def __init__(self, scenario: Scenario) -> None:
        step = _PID_STEP * -(-max(vm.vcpus for vm in scenario.vm) // _PID_STEP)
        numbered = [(vm, vcpu) for vm, one in enumerate(scenario.vm) for vcpu in range(one.vcpus)]
        of_host = [one for one in scenario.thread for _ in range(one.count)]
        self.vm = [vm for vm, _ in numbered]
        self.number_in_vm = [vcpu for _, vcpu in numbered]
        self._comms = [f"CPU {vcpu}/KVM" for _, vcpu in numbered] + [one.name[:_COMM_LENGTH] for one in of_host]
        self.pids = [_FIRST_PID + step * vm + vcpu for vm, vcpu in numbered]
        self.pids += [_FIRST_PID_OF_HOST + number for number in range(len(of_host))]
        self.pids.append(0)  # of swapper, at index -1
        self.priorities = [_PRIORITY + one.nice for one in scenario.vm for _ in range(one.vcpus)]
        self.priorities += [_PRIORITY + one.nice for one in of_host]
        self.priorities.append(_PRIORITY)

    def __len__(self) -> int:
        return len(self._comms)

    def comm(self, thread: int, pcpu: int) -> str:
        """Return the thread's name; on this pCPU, if it is the idle one."""
        return f"swapper/{pcpu}" if thread == IDLE else self._comms[thread]
