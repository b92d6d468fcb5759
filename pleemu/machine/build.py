"""From a scenario to a machine: every record set up for cycle 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from attrs import frozen

from pleemu.errors import ScenarioError
from pleemu.generations import GENERATIONS, Search
from pleemu.guest.costs import cycles_by_class
from pleemu.guest.image import Image
from pleemu.guest.parameters import apply_parameters
from pleemu.hardware import isa
from pleemu.hardware.apic import SVR_ENABLED
from pleemu.hardware.cache import LINE_SIZE
from pleemu.hardware.cpuid import (
    KVM_FEATURE_PV_SCHED_YIELD,
    KVM_FEATURE_PV_SEND_IPI,
    KVM_FEATURE_PV_TLB_FLUSH,
    KVM_FEATURE_PV_UNHALT,
    KVM_FEATURE_STEAL_TIME,
)
from pleemu.hardware.memory import INTERRUPT_STACK, STACK_SLOT
from pleemu.hardware.msr import STAR_SELECTORS
from pleemu.hardware.protection import INSIDE, NO_INSTRUCTION
from pleemu.hardware.records import BUFFER_LIMIT, CLOCK, CPU, FAULT, IDLE, LINE, NEVER, PCPU, SPACE, SPIN, STORE, TIMING
from pleemu.hardware.spin import SHORT, SOON
from pleemu.hypervisor.ipi_aware import NOT_AWARE, V1_V2, V3
from pleemu.hypervisor.records import (
    COST,
    ESRCH_IS_SUCCESS,
    ESRCH_TRIES,
    ESRCH_UNKNOWN,
    KVM,
    PV,
    RESUME_ENTER,
    VCPU,
    VM,
)
from pleemu.hypervisor.rules import RULES
from pleemu.hypervisor.strict_boost import IDEAL, NOT_STRICT, RFC, V5_6
from pleemu.kernel import HOST_SCHEDULERS
from pleemu.machine.placing import balance_of, balancer_of, domains_of, placement_of, sets_of
from pleemu.machine.state import BIRTH, RUN, THREAD, Machine
from pleemu.machine.tunables import tunables_of
from pleemu.observe.events import EVENT, EXIT_REASON_LIMIT
from pleemu.observe.journal import SEED
from pleemu.observe.records import (
    ASKED,
    ATTRIBUTED,
    BOOST,
    BOOST_CLASSES,
    EXITS,
    JOURNAL,
    JUDGED,
    LENGTH_BINS,
    LOCK,
    MIGRATIONS,
    PAUSE_RUN,
    PLACES,
    REFUSAL,
    RULE_LIMIT,
    RUN_GAP_NS,
    TALE,
    TOLD_TIME,
    WAITING,
    WAYS,
)
from pleemu.policy import Policy
from pleemu.scenario import Program, Scenario, Vm
from pleemu.scheduler import debooster
from pleemu.scheduler.domains import LB_ENV, SG_LB_STATS
from pleemu.scheduler.preemption import MADE_LIMIT
from pleemu.scheduler.records import DRAW, POINT, PREEMPTION, RQ, TASK, TASK_INTERRUPTIBLE, sched_init
from pleemu.scheduler.weights import INVERSE_WEIGHTS, WEIGHTS

PAGE = 4096
EVENT_BUFFER = 1 << 15
RUNS_KEPT = 16
COLUMNS = 240  # of the timeline
LOCKS = 1024  # least size of the table of locks
TALE_BUFFER = 1 << 15
TOLD_AT_ONCE = 12  # rows that one step tells of each vCPU, at most

# Uses of `seed_of`.
GUEST_SEED, START_TIME, THREAD_START, PREEMPTIONS = range(4)

# By what `pleemu.policy` calls them.
DEBOOSTER_NUMBERS = {
    None: debooster.NO_DEBOOSTER,
    "debooster": debooster.V5_6,
    "debooster-rfc": debooster.RFC,
    "debooster-2025-v1": debooster.PENALTY_V1,
    "debooster-2025-v2": debooster.PENALTY_V2,
}

DELIVERY_CYCLES = 60  # proposed: the microcode of an interrupt delivery takes some tens of cycles


@frozen
class Layout:
    """Where the parts of all VMs lie in the arrays that they share."""

    images: tuple[Image, ...]  # by VM
    first_code: tuple[int, ...]  # by VM: index of its program's first instruction
    first_vcpu: tuple[int, ...]  # by VM


def records(count: int, dtype: np.dtype[Any]) -> Any:
    """Return zeroed records with fields as attributes."""
    return np.zeros(count, dtype).view(np.recarray)


def build(
    scenario: Scenario,
    policy: Policy,
    programs: Mapping[Program, Image],
    *,
    recording: bool,
    telling: bool = False,
    skipping: bool = True,
) -> tuple[Machine, Layout]:
    """Set up a machine. ``programs`` holds the image of every program of the scenario."""
    images = tuple(programs[scenario.program_of(vm)] for vm in scenario.vm)
    first_vcpu = tuple(int(n) for n in np.cumsum([0, *(vm.vcpus for vm in scenario.vm)]))[:-1]
    vcpus = sum(vm.vcpus for vm in scenario.vm)
    tasks = vcpus + sum(thread.count for thread in scenario.thread)
    pcpus = scenario.hardware.pcpus
    code, first_code = code_of(scenario, images)
    layout = Layout(images, first_code, first_vcpu)
    spaces, memory, index_of, vectors = _spaces(scenario, layout)
    locks = WAYS * max(LOCKS // WAYS, vcpus)
    sets = -(-max(vm.vcpus for vm in scenario.vm) // 64)
    lines, words = -(-len(memory) * 8 // LINE_SIZE), -(-pcpus // 64)
    due, winner = agenda_of(pcpus)
    machine = Machine(
        pcpu=_pcpus(scenario),
        due=due,
        winner=winner,
        cpu=records(vcpus, CPU),
        space=spaces,
        code=code,
        index_of=index_of,
        vectors=vectors,
        memory=memory,
        line=records(lines, LINE),
        holders=np.zeros((lines, words), np.int64),
        domain=_domains(scenario),
        buffer=np.zeros((pcpus, BUFFER_LIMIT), STORE).view(np.recarray),
        spin=_spins(pcpus, skipping),
        timing=_timing(scenario),
        clock=records(1, CLOCK),
        fault=records(1, FAULT),
        task=records(tasks, TASK),
        rq=records(pcpus, RQ),
        tunables=_tunables(scenario, policy),
        preemption=records(pcpus, PREEMPTION),
        draw=_draw(scenario),
        given=records(max(1, len(scenario.points or ())), POINT),
        made=records(MADE_LIMIT, POINT),
        allowed=sets_of(scenario.allowed_pcpus(), pcpus),
        placement=placement_of(scenario),
        balance=balance_of(scenario),
        balancer=balancer_of(scenario, cycles_of(scenario, scenario.cost.ipi_ns)),
        sd=domains_of(scenario),
        sg=records(3, SG_LB_STATS),
        lb_env=records(1, LB_ENV),
        vcpu=records(vcpus, VCPU),
        pv=records(vcpus, PV),
        vm=records(len(scenario.vm), VM),
        kvm=_kvm(scenario, policy),
        cost=_costs(scenario),
        journal=records(1, JOURNAL),
        event=records(EVENT_BUFFER + 6 * tasks + 64 if recording else 1, EVENT),
        exits=np.zeros((vcpus, EXIT_REASON_LIMIT), EXITS).view(np.recarray),
        pause_at=np.zeros((vcpus, len(code)), np.int64),
        pause_run=records(vcpus, PAUSE_RUN),
        longest=records(RUNS_KEPT, PAUSE_RUN),
        run_lengths=np.zeros(LENGTH_BINS, np.int64),
        continuous=np.zeros(1, np.int64),
        boost=np.zeros((len(scenario.vm), len(BOOST_CLASSES)), BOOST).view(np.recarray),
        migrations=np.zeros((len(scenario.vm) + 1, len(MIGRATIONS)), np.int64),
        told_time=records(tasks, TOLD_TIME),
        pause_columns=np.zeros((vcpus, COLUMNS), np.int64),
        waiting=records(vcpus, WAITING),
        lock=records(locks, LOCK),
        holding=np.zeros((locks, sets), np.int64),
        sharing=np.zeros((locks, sets), np.int64),
        awaited=np.zeros((vcpus, sets), np.int64),
        answered=np.zeros((vcpus, sets), np.int64),
        wanted=np.zeros((vcpus, sets), np.int64),
        todo=np.zeros(vcpus, np.int64),
        judged=records(len(scenario.vm), JUDGED),
        attributed=records(PLACES + 1, ATTRIBUTED),
        waiter_at=np.zeros((len(scenario.vm), len(code)), np.int64),
        refusals=records(RULE_LIMIT, REFUSAL),
        asked=records(pcpus, ASKED),
        tale=records(TALE_BUFFER + TOLD_AT_ONCE * vcpus + 64 if telling else 1, TALE),
        running_columns=np.zeros((tasks, COLUMNS), np.int64),
        thread=records(tasks - vcpus, THREAD),
        births=_births(scenario),
        run=records(1, RUN),
    )
    sched_init(machine.rq)
    khz = scenario.hardware.core_rate_khz
    machine.clock.core_khz = khz
    machine.clock.tsc_khz = scenario.hardware.tsc_rate_khz
    until = cycles_of(scenario, scenario.duration_ns)
    machine.journal.digest = SEED
    machine.journal.recording = recording
    machine.journal.column_cycles = -(-until // COLUMNS)
    machine.run.until = until
    machine.run.next_birth = machine.births.cycle[0]
    machine.run.run_gap = cycles_of(scenario, RUN_GAP_NS)
    machine.run.tick_hz = scenario.host.hz
    machine.run.room = EVENT_BUFFER if recording else 0
    machine.journal.telling = telling
    machine.run.tale_room = TALE_BUFFER if telling else 0
    machine.waiting.unmoved_from = machine.waiting.unmoved_lock = -1
    machine.waiting.first_exit = machine.waiting.useful_from = -1
    machine.run.progress = NEVER
    machine.run.ahead = 1
    for number, vm in enumerate(scenario.vm):
        _vm(machine, scenario, policy, layout, number, vm)
    _threads(machine, scenario)
    machine.task.cpu = [allowed[0] for allowed in scenario.allowed_pcpus()]
    _preemptions(machine, scenario)
    return machine, layout


def cycles_of(scenario: Scenario, ns: int) -> int:
    """Nanoseconds -> core cycles, rounded up: what takes time takes at least that long."""
    return -(-ns * scenario.hardware.core_rate_khz // 1_000_000)


def seed_of(seed: int, vm: int, vcpu: int, use: int = GUEST_SEED) -> int:
    """Return a vCPU's random number for one use: never 0, independent of all others (SplitMix64)."""
    mask = (1 << 64) - 1
    state = (seed * 0x9E3779B97F4A7C15 + (use << 60) + (vm << 32) + vcpu + 1) & mask
    for factor, shift in ((0xBF58476D1CE4E5B9, 30), (0x94D049BB133111EB, 27), (0x9E3779B97F4A7C15, 31)):
        state = ((state ^ (state >> shift)) * factor) & mask
    return state ^ (state >> 31) or 1


def signed(value: int) -> int:
    """Return a 64-bit number as the records hold it."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def code_of(scenario: Scenario, images: tuple[Image, ...]) -> tuple[Any, tuple[int, ...]]:
    """All programs' instruction tables in one; VMs with the same program share it."""
    cycles = cycles_by_class(scenario.hardware.costs())
    tables: list[Any] = []
    first: dict[int, int] = {}
    count = 0
    for image in images:
        if id(image) in first:
            continue
        first[id(image)] = count
        table = image.instructions.copy().view(np.recarray)
        table.target = np.where(table.target >= 0, table.target + count, -1)
        isa.prepare(table, cycles)
        tables.append(table)
        count += len(table)
    return np.concatenate(tables).view(np.recarray), tuple(first[id(image)] for image in images)


def _spaces(scenario: Scenario, layout: Layout) -> tuple[Any, Any, Any, Any]:
    """The VMs' address spaces, one behind the other."""
    spaces = records(len(scenario.vm), SPACE)
    vectors = np.full((len(scenario.vm), 256), -1, np.int64)
    words: list[Any] = []
    indexes: list[Any] = []
    first_word = first_index = 0
    khz = scenario.hardware.core_rate_khz
    for number, (vm, image, first_code) in enumerate(zip(scenario.vm, layout.images, layout.first_code, strict=True)):
        if image.most_vcpus is not None and vm.vcpus > image.most_vcpus:
            raise ScenarioError(
                f"vm.{number}.vcpus: {vm.vcpus} are more than {image.name} has room for; use at most {image.most_vcpus}"
            )
        size = vm.memory_kib * 1024
        stacks = vm.vcpus * STACK_SLOT
        loaded = -(-len(image.memory) // PAGE) * PAGE
        if loaded + stacks > size:
            needed = -(-(loaded + stacks) // 1024)
            raise ScenarioError(
                f"vm.{number}.memory_kib: {vm.memory_kib} is too small for {image.name} ({loaded // 1024} KiB) and the "
                f"stacks of {vm.vcpus} vCPUs; use at least {needed}"
            )
        memory = np.zeros(size, np.uint8)
        memory[: len(image.memory)] = image.memory
        try:
            apply_parameters(memory[: len(image.memory)], image, scenario.parameters_of(vm), khz)
        except ScenarioError as error:
            raise ScenarioError(f"vm.{number}.parameters.{error}") from None
        sizes = (size, size - stacks, image.readonly_size, image.code_size)
        spaces[number] = (signed(image.base), *sizes, first_word, first_index, vm.writable_code)
        vectors[number] = np.where(image.vectors >= 0, image.vectors + first_code, -1)
        index_of = image.index_of.astype(np.int64)
        words.append(memory.view("<i8"))
        indexes.append(np.where(index_of >= 0, index_of + first_code, NO_INSTRUCTION))
        lengths = image.instructions["length"]
        for start, length in zip((index_of >= 0).nonzero()[0], lengths[index_of[index_of >= 0]], strict=True):
            indexes[-1][start + 1 : start + length] = INSIDE
        first_word += size // 8
        first_index += len(index_of)
    return spaces, np.concatenate(words).astype(np.int64), np.concatenate(indexes), vectors


def _pcpus(scenario: Scenario) -> Any:
    pcpus = records(scenario.hardware.pcpus, PCPU)
    pcpus.phase = IDLE
    pcpus.vcpu = pcpus.hint_vcpu = -1
    pcpus.cycle = pcpus.interrupt_at = pcpus.timer_at = pcpus.commit_at = pcpus.awaited_at = NEVER
    numbers = np.arange(len(pcpus))
    pcpus.word, pcpus.bit = numbers // 64, np.left_shift(1, numbers % 64)
    pcpus.ticks = 1
    if scenario.host.skew_tick:  # tick_setup_sched_timer, v5.6 kernel/time/tick-sched.c
        share_ns = 1_000_000_000 // scenario.host.hz // 2 // len(pcpus)
        pcpus.tick_offset = numbers * share_ns * scenario.hardware.core_rate_khz // 1_000_000
    pcpus.next_tick = pcpus.tick_offset + scenario.hardware.core_rate_khz * 1000 // scenario.host.hz
    return pcpus


def agenda_of(pcpus: int) -> tuple[Any, Any]:
    """Nobody has anything to do, so the first pCPU wins everywhere; see `hardware.agenda`."""
    leaves = 1 << (pcpus - 1).bit_length()
    winner = np.zeros(2 * leaves, np.int64)
    winner[leaves:] = np.arange(leaves)
    for node in range(leaves - 1, 0, -1):
        winner[node] = winner[2 * node]
    return np.full(leaves, NEVER, np.int64), winner


def _spins(pcpus: int, skipping: bool) -> Any:
    spins = records(pcpus, SPIN)
    spins.active = skipping
    spins.patience = SOON if skipping else NEVER
    spins.wait, spins.effort = SOON, SHORT
    return spins


def _domains(scenario: Scenario) -> Any:
    """By pCPU: the set of those that share its last-level cache, 64 to a word."""
    pcpus = scenario.hardware.pcpus
    size = scenario.hardware.costs().llc_pcpus or pcpus
    domains = np.zeros((pcpus, -(-pcpus // 64)), np.int64)
    for pcpu in range(pcpus):
        for other in range(pcpu // size * size, min((pcpu // size + 1) * size, pcpus)):
            domains[pcpu, other // 64] |= signed(1 << other % 64)
    return domains


def _timing(scenario: Scenario) -> Any:
    timing = records(1, TIMING)
    costs = scenario.hardware.costs()
    timing.transfer = max(1, cycles_of(scenario, costs.transfer_ns))
    timing.far_transfer = max(1, cycles_of(scenario, costs.far_transfer_ns))
    timing.lookahead = np.minimum(timing.transfer, timing.far_transfer)
    timing.store_buffer = costs.store_buffer
    return timing


def _births(scenario: Scenario) -> Any:
    """When each thread starts; at once, in order, unless the scenario spreads them."""
    spread = cycles_of(scenario, scenario.start_spread_ns)
    uses = [(START_TIME, number, index) for number, vm in enumerate(scenario.vm) for index in range(vm.vcpus)]
    uses += [(THREAD_START, number, copy) for number, one in enumerate(scenario.thread) for copy in range(one.count)]
    starts = sorted(
        (seed_of(scenario.seed, number, index, use) % (spread + 1), task)
        for task, (use, number, index) in enumerate(uses)
    )
    births = records(len(starts), BIRTH)
    births[:] = starts
    return births


def _tunables(scenario: Scenario, policy: Policy) -> Any:
    host = scenario.host
    scheduler = HOST_SCHEDULERS[host.scheduler]
    tunables = tunables_of(scheduler, cpus=scenario.online_cpus, hz=host.hz, features=host.features)
    tunables.debooster = DEBOOSTER_NUMBERS[policy.debooster]
    return tunables


def _draw(scenario: Scenario) -> Any:
    draw = records(1, DRAW)
    draw.active = scenario.host.scheduler == "chaos" and scenario.points is None
    draw.least = cycles_of(scenario, scenario.host.chaos_min_ns)
    draw.most = cycles_of(scenario, scenario.host.chaos_max_ns)
    return draw


def _preemptions(machine: Machine, scenario: Scenario) -> None:
    """Give each pCPU its preemption points, or a random stream to draw them from."""
    points = sorted(scenario.points or (), key=lambda one: (one.pcpu, one.cycle))
    for place, one in enumerate(points):
        machine.given[place] = (one.cycle, one.pcpu, one.thread)
    bounds = np.searchsorted([one.pcpu for one in points], np.arange(scenario.hardware.pcpus + 1))
    own = machine.preemption
    own.given, own.given_end = bounds[:-1], bounds[1:]
    own.stream = [signed(seed_of(scenario.seed, p, 0, PREEMPTIONS)) for p in range(len(own))]
    own.strike_at = np.where(
        own.given < own.given_end, machine.given.cycle[np.minimum(own.given, len(points) - 1)], NEVER
    )


def _kvm(scenario: Scenario, policy: Policy) -> Any:
    kvm = records(1, KVM)
    given = scenario.kvm_under(policy)
    if scenario.hardware.is_amd:
        kvm.svm = 1
        kvm.window_control = given.pause_filter_count > 0 and given.pause_filter_thresh > 0
        kvm.ple_window = given.pause_filter_count
        kvm.ple_window_grow = given.pause_filter_count_grow
        kvm.ple_window_shrink = given.pause_filter_count_shrink
        kvm.ple_window_max = given.pause_filter_count_max
    else:
        kvm.window_control = given.ple_gap > 0
        kvm.ple_window = given.ple_window
        kvm.ple_window_grow = given.ple_window_grow
        kvm.ple_window_shrink = given.ple_window_shrink
        kvm.ple_window_max = GENERATIONS[policy.generation].window_ceiling(
            given.ple_window, given.ple_window_grow, given.ple_window_max
        )
    # With "PAUSE exiting" there is no window to control, and without the skip no PAUSE would ever complete.
    kvm.window_control &= policy.ple and not given.pause_exiting
    kvm.skip_pause = kvm.svm == 0 or given.skip_pause or given.pause_exiting
    kvm.ipiv = given.ipiv
    for name in ("halt_poll_ns", "halt_poll_ns_grow", "halt_poll_ns_grow_start", "halt_poll_ns_shrink"):
        kvm[name] = getattr(given, name)
    kvm.pv_kick_yield = given.pv_kick_yield
    kvm.pv_yield_if_alone = given.pv_yield_if_alone
    kvm.pv_enforce_cpuid = given.pv_enforce_cpuid
    load_search(kvm, policy.search)
    return kvm


def load_search(kvm: Any, search: Search) -> None:
    """Put a policy's rules and switches into the KVM record."""
    kvm.rules, kvm.relaxed_rules = packed(search.rules), packed(search.relaxed_rules)
    for switch in ("one_loop", "from_zero", "stores_count", "sleeps", "rcuwait", "pending_irq", "ipi_bool", "forced"):
        kvm[switch] = getattr(search, switch)
    kvm.esrch = {"tries": ESRCH_TRIES, "unknown": ESRCH_UNKNOWN, "success": ESRCH_IS_SUCCESS}[search.esrch]
    kvm.strict_boost = {"": NOT_STRICT, "v5.6": V5_6, "rfc": RFC, "ideal": IDEAL}[search.strict_boost]
    kvm.ipi_aware = {"": NOT_AWARE, "v1": V1_V2, "v2": V1_V2, "v3": V3}[search.ipi_aware]


def packed(rules: tuple[str, ...]) -> int:
    """Return a list of rules as the KVM record holds it."""
    return sum(list(RULES).index(name) << 8 * place for place, name in enumerate(rules))


def _kvm_features(scenario: Scenario, policy: Policy) -> int:
    """EAX of CPUID leaf 0x40000001: what KVM offers a guest."""
    given = scenario.kvm_under(policy)
    offered = {
        KVM_FEATURE_STEAL_TIME: given.steal_time,
        KVM_FEATURE_PV_UNHALT: given.pv_unhalt,
        KVM_FEATURE_PV_TLB_FLUSH: given.pv_tlb_flush,
        KVM_FEATURE_PV_SEND_IPI: given.pv_send_ipi,
        KVM_FEATURE_PV_SCHED_YIELD: given.pv_sched_yield,
    }
    return sum(1 << feature for feature, is_on in offered.items() if is_on)


def _pause_controls(cpu: Any, scenario: Scenario, policy: Policy) -> None:
    """What of VMCS or VMCB stays as it is; the window is loaded at each entry."""
    given = scenario.kvm_under(policy)
    cpu.pause_exiting = policy.ple and given.pause_exiting
    cpu.ple = policy.ple and not scenario.hardware.is_amd and given.ple_gap > 0
    cpu.ple_gap = given.ple_gap
    cpu.pause_filter = policy.ple and scenario.hardware.is_amd and given.pause_filter_count > 0
    cpu.pause_filter_threshold = given.pause_filter_thresh


def _costs(scenario: Scenario) -> Any:
    cost = records(1, COST)
    for name in COST.names or ():
        if name != "delivery":
            cost[name] = cycles_of(scenario, getattr(scenario.cost, f"{name}_ns"))
    cost.delivery = DELIVERY_CYCLES
    return cost


def _vm(machine: Machine, scenario: Scenario, policy: Policy, layout: Layout, number: int, vm: Vm) -> None:
    """One VM and its vCPUs: each starts at guest_main(vcpu, vcpus, seed) at CPL 0 on a stack of its own."""
    image, first = layout.images[number], layout.first_vcpu[number]
    top = image.base + vm.memory_kib * 1024
    machine.vm[number] = (first, vm.vcpus, 0, 0)
    for index in range(vm.vcpus):
        v = first + index
        cpu, vcpu, task = machine.cpu[v], machine.vcpu[v], machine.task[v]
        stack = top - index * STACK_SLOT
        cpu.rsp0 = signed(stack)
        rsp = stack - INTERRUPT_STACK - 8  # as behind a call: the return address is at RSP
        _write_word(machine, number, rsp, image.base)
        cpu.registers[isa.RSP] = signed(rsp)
        cpu.registers[isa.RDI] = index
        cpu.registers[isa.RSI] = vm.vcpus
        cpu.registers[isa.RDX] = signed(seed_of(scenario.seed, number, index))
        cpu.pc = layout.first_code[number] + image.entry
        cpu.flag_result = 1
        cpu.pir_at = NEVER
        _pause_controls(cpu, scenario, policy)
        cpu.space = number
        cpu.apic_id = index
        cpu.apicv = scenario.kvm.apicv
        cpu.ipiv = scenario.kvm.ipiv
        cpu.kvm_features = _kvm_features(scenario, policy)
        machine.pv[v].yield_target = machine.pv[v].store_pcpu = -1
        cpu.svr = SVR_ENABLED | 0xFF  # the reset value's vector
        cpu.star = STAR_SELECTORS << 32
        vcpu.ple_window = machine.kvm.ple_window[0]
        vcpu.paused_at = -1
        vcpu.resume = RESUME_ENTER
        vcpu.vm = number
        vcpu.id = index
        vcpu.exited_at = vcpu.blocked_from = vcpu.named_at = vcpu.asked = -1
        vcpu.wakes_at = NEVER
        vcpu.last_ipi_sender = vcpu.last_ipi_receiver = -1
        _prepare(task, vm.nice)


def _prepare(task: Any, nice: int) -> None:
    """A task before its birth."""
    task.weight = WEIGHTS[nice + 20]
    task.inverse_weight = INVERSE_WEIGHTS[nice + 20]
    task.state = TASK_INTERRUPTIBLE


def _threads(machine: Machine, scenario: Scenario) -> None:
    """The host's own threads, behind the vCPUs'."""
    vcpus = len(machine.vcpu)
    copies = [one for one in scenario.thread for _ in range(one.count)]
    for thread, task, given in zip(machine.thread, machine.task[vcpus:], copies, strict=True):
        _prepare(task, given.nice)
        thread.period_ns = given.period_us * 1000
        thread.busy = cycles_of(scenario, given.busy_us * 1000) if given.period_us else NEVER
        thread.left = thread.busy
        thread.timer_at = NEVER
    for cycle, number in machine.births[machine.births.task >= vcpus].tolist():
        machine.thread.born[number - vcpus] = cycle


def _write_word(machine: Machine, number: int, address: int, value: int) -> None:
    space = machine.space[number]
    machine.memory[int(space.first_word) + ((address - (int(space.start) % (1 << 64))) >> 3)] = signed(value)
