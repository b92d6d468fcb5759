"""Executing instructions: one vCPU, from its pc until something else has to happen.

An instruction takes effect at the cycle at which it starts; its cost then advances the clock.
What others can see (memory, probes) must happen in the order of the whole machine, so it is
executed only before ``ordered_until``, or a little later where nobody can tell (`ahead`), the others being at
``horizon`` at least. What nobody else can see may run ahead of the others
until ``free_until``, before which no interrupt can arrive. How far either reaches changes how
the work is cut into calls, never what happens.
"""

from pleemu.hardware import flags
from pleemu.hardware import isa as OP
from pleemu.hardware.ahead import is_common, is_left_alone, keeps_alone, may_go_ahead
from pleemu.hardware.alu import add, arithmetic, bit_operation, compare, multiply, read_register, shift, write_register
from pleemu.hardware.bits import look
from pleemu.hardware.cache import may_read, may_write
from pleemu.hardware.clock import cycles_to_tsc
from pleemu.hardware.interrupts import set_fault
from pleemu.hardware.isa import IMMEDIATE, MEMORY, NONE, PROBE_WORK, RAX, RBP, RBX, RCX, RDX, REGISTER, RSP
from pleemu.hardware.memory import load, mask_of, readable, sign_extend, store
from pleemu.hardware.msr import move_cr8, read_msr, write_msr
from pleemu.hardware.pause import pause_exits
from pleemu.hardware.protection import is_protected
from pleemu.hardware.records import (
    FAULT_ALIGNMENT,
    FAULT_DIVIDE,
    FAULT_JUMP,
    FAULT_PRIVILEGE,
    FAULT_READ,
    FAULT_READONLY,
    FAULT_UNSUPPORTED,
    FAULT_WRITE,
)
from pleemu.hardware.rotate import double_shift, rotate
from pleemu.hardware.spin import GIVEN_UP, REPEATS, begin_watch, start_afresh, watch
from pleemu.hardware.store_buffer import commit, fetch, put, take
from pleemu.hardware.string import FAULTY, MORE, string_element
from pleemu.hardware.syscall import syscall, sysret
from pleemu.hardware.system import (
    counter_branches,
    exchange_pair,
    iretq,
    is_at_work,
    pop,
    pop_flags,
    push,
    step_work,
    table_index,
)
from pleemu.hardware.why import (
    CPUID_EXIT,
    CR8_EXIT,
    ENDED,
    FAULTED,
    HLT_EXIT,
    PAUSE_EXIT,
    PROBED,
    SPINS,
    STOPPED,
    VMCALL_EXIT,
    WINDOW,
)
from pleemu.hardware.wide import divide, multiply_wide
from pleemu.jit import compiled

# A mask that leaves the number of a register as it is. It tells the compiler that the number is not negative,
# which saves what Python does with negative indexes.
ANY = 31


@compiled
def execute(m, p, v, now, ordered_until, free_until, horizon):
    """Run vCPU ``v`` on pCPU ``p`` from cycle ``now``; return (why it stopped, the cycle it has reached)."""
    cpu = m.cpu[v]
    pcpu = m.pcpu[p]
    space = m.space[cpu.space]
    registers = cpu.registers
    memory = m.memory
    holders, word, bit = m.holders, pcpu.word, pcpu.bit
    code = m.code
    first_byte = space.first_word * 8
    pc = cpu.pc
    executed = 0
    status = STOPPED
    held_until = horizon + m.timing[0].lookahead
    last_quiet = ordered_until - 1  # what is stored before that has committed before anybody looks
    shadow = cpu.shadow
    spin = m.spin[p]
    detour = 0
    watching = spin.watching
    patience = spin.patience
    while now < free_until:
        i = code[pc]

        # What loops consist of, without the general way's detours; the effect is the same. What memory does not
        # give at once takes the general way.
        quick = i.quick
        if quick != 0 and shadow | watching | detour == 0:
            following = pc + 1
            if quick == OP.QUICK_JCC:
                if flags.condition(cpu, i.condition):
                    following = i.target
                    if following <= pc:
                        patience -= 1
            elif quick == OP.QUICK_ALU:
                result = arithmetic(cpu, i.op, registers[i.dst & ANY], registers[i.src & ANY] + i.immediate, i.width)
                if i.op != OP.OP_CMP and i.op != OP.OP_TEST:
                    registers[i.dst & ANY] = result if i.width == 8 else result & 0xFFFFFFFF
            elif quick >= OP.QUICK_LOAD:
                address = (
                    registers[i.base_register & ANY] + registers[i.index_register & ANY] * i.scale + i.displacement
                )
                offset = readable(space, address, i.width)
                byte = first_byte + offset
                if offset < 0 or pcpu.buffered != 0:
                    detour = 1
                    continue
                if now >= last_quiet and (
                    now + 1 >= held_until
                    or not is_common(cpu, space, offset)
                    or not is_left_alone(m, byte, i.width, quick == OP.QUICK_STORE, horizon)
                ):
                    detour = 1
                    continue
                if quick == OP.QUICK_STORE:
                    if offset < space.readonly_size or not may_write(m, p, byte, i.width):
                        detour = 1
                        continue
                    store(memory, 0, byte, i.width, registers[i.src & ANY] + i.immediate)
                elif not may_write(m, p, byte, i.width) and not may_read(holders, word, bit, byte, i.width):
                    detour = 1
                    continue
                else:
                    result = load(memory, 0, byte, i.width)
                    if quick == OP.QUICK_ALU_LOAD:
                        result = arithmetic(cpu, i.op, registers[i.dst & ANY], result, i.width)
                    if i.op != OP.OP_CMP and i.op != OP.OP_TEST:
                        registers[i.dst & ANY] = result if i.width == 8 else result & 0xFFFFFFFF
            elif quick == OP.QUICK_PAUSE:
                if pause_exits(cpu, cycles_to_tsc(m.clock[0], now)):
                    status = PAUSE_EXIT
                    break
            elif quick == OP.QUICK_JMP:
                following = i.target
                if following <= pc:
                    patience -= 1
            elif quick != OP.QUICK_NOP:
                if quick == OP.QUICK_LEA:
                    result = (
                        registers[i.base_register & ANY] + registers[i.index_register & ANY] * i.scale + i.displacement
                    )
                else:
                    result = registers[i.src & ANY] + i.immediate
                registers[i.dst & ANY] = result if i.width == 8 else result & 0xFFFFFFFF
            now += i.cycles
            pc = following
            executed += 1
            if patience < 0:
                watching = begin_watch(m, p, v, pc, now, cpu.instructions + executed)
                patience = spin.patience
            continue
        detour = 0

        # Its operand was read when it began.
        if i.op == OP.OP_PROBE and i.probe == PROBE_WORK and shadow == 0 and is_at_work(cpu, pc):
            now, done = step_work(cpu, pc, 0, now, free_until)
            if not done:
                break
            now += i.cycles
            pc += 1
            executed += 1
            continue

        if i.ordered == 1:
            if now >= ordered_until and (now >= held_until or not may_go_ahead(m, p, cpu, i, now, horizon)):
                break
            if pcpu.commit_at <= now:
                commit(m, p, now)
                if pcpu.commit_at <= now:
                    break
            if pcpu.buffered > 0 and (i.drains == 1 or (i.stores == 1 and pcpu.buffered >= m.timing[0].store_buffer)):
                now = pcpu.commit_at
                break
        op = i.op
        size = i.width

        # The memory operand is checked once and is there before anything changes.
        byte = 0
        loaded = 0
        if i.access_size != 0:
            address = registers[i.base_register] + registers[i.index_register] * i.scale + i.displacement
            if i.bit_string == 1:
                address += (sign_extend(registers[i.src], size) // (size * 8)) * size
            offset = readable(space, address, i.access_size)
            if offset < 0 or (
                i.writes == 1 and offset < space.readonly_size and is_protected(m, space, offset, i.access_size)
            ):
                kind = FAULT_READ if i.writes == 0 else FAULT_WRITE if offset < 0 else FAULT_READONLY
                set_fault(m.fault[0], kind, v, pc, address, i.access_size, now)
                status = FAULTED
                break
            byte = first_byte + offset
            if i.locked == 1:
                when = take(m, p, byte, i.access_size, now)
                if when > now:
                    now = when
                    break
                loaded = load(memory, 0, byte, size)
            elif i.reads == 1:
                loaded, when = fetch(m, p, byte, i.access_size, now)
                if when > now:
                    now = when
                    break

        # The two operands.
        a = 0
        b = 0
        if i.dst_kind == MEMORY:
            a = loaded
        elif i.dst_kind != NONE:
            a = read_register(registers, i.dst_kind, i.dst)
        if i.src_kind == MEMORY:
            b = loaded
        elif i.src_kind == IMMEDIATE:
            b = i.immediate
        elif i.src_kind != NONE:
            b = read_register(registers, i.src_kind, i.src)

        following = pc + 1
        result = a
        write = False

        if op == OP.OP_MOV:
            result = b
            write = True
        elif OP.OP_ADD <= op <= OP.OP_NEG:
            result = arithmetic(cpu, op, a, b, size)
            write = op != OP.OP_CMP and op != OP.OP_TEST
        elif op == OP.OP_JCC:
            if flags.condition(cpu, i.condition):
                following = i.target
        elif op == OP.OP_PAUSE:
            if pause_exits(cpu, cycles_to_tsc(m.clock[0], now)):
                status = PAUSE_EXIT
                break
        elif op == OP.OP_JMP:
            following = i.target
        elif op == OP.OP_NOP or op == OP.OP_FENCE or op == OP.OP_MFENCE:
            pass
        elif op == OP.OP_MOVZX:
            result = b & mask_of(i.src_width)
            write = True
        elif op == OP.OP_MOVSX:
            result = sign_extend(b, i.src_width)
            write = True
        elif op == OP.OP_LEA:
            result = registers[i.base_register] + registers[i.index_register] * i.scale + i.displacement
            write = True
        elif op == OP.OP_NOT:
            result = ~a
            write = True
        elif OP.OP_SHL <= op <= OP.OP_SAR:
            result = shift(cpu, op, a, b, size)
            write = True
        elif OP.OP_ROL <= op <= OP.OP_RCR:
            result = rotate(cpu, op, a, b, size)
            write = True
        elif op == OP.OP_SHLD or op == OP.OP_SHRD:
            result = double_shift(cpu, op, a, b, registers[RCX] if i.count_in_cl == 1 else i.immediate, size)
            write = True
        elif op == OP.OP_XCHG:
            if i.src_kind == MEMORY:
                store(memory, 0, byte, size, a)
            else:
                write_register(registers, i.src_kind, i.src, size, a)
            result = b
            write = True
        elif op == OP.OP_CMPXCHG:
            # accumulator == dst: dst = src;  otherwise: accumulator = dst
            compare(cpu, registers[RAX], a, size)
            if cpu.flag_result == 0:
                result = b
                write = True
            else:
                write_register(registers, REGISTER, RAX, size, a)
        elif op == OP.OP_CMPXCHG_PAIR:
            if size == 8 and address & 15 != 0:
                set_fault(m.fault[0], FAULT_ALIGNMENT, v, pc, address, 16, now)
                status = FAULTED
                break
            if exchange_pair(cpu, a, load(memory, 0, byte + size, size), size):
                store(memory, 0, byte + size, size, registers[RCX])
                result = registers[RBX]
                write = True
        elif op == OP.OP_XADD:
            result = add(cpu, a, b, size)
            write_register(registers, i.src_kind, i.src, size, a)
            write = True
        elif OP.OP_BT <= op <= OP.OP_BTC:
            result = bit_operation(cpu, op, a, b, size)
            write = op != OP.OP_BT
        elif OP.OP_BSF <= op <= OP.OP_BSWAP:
            result = look(cpu, op, a, b, size)
            write = op > OP.OP_BSR or b & mask_of(size) != 0
        elif op == OP.OP_IMUL:
            result = multiply(cpu, sign_extend(a, size), sign_extend(b, size), size)
            write = True
        elif op == OP.OP_IMUL_CONSTANT:
            result = multiply(cpu, i.immediate, sign_extend(b, size), size)
            write = True
        elif op == OP.OP_MUL_WIDE or op == OP.OP_IMUL_WIDE:
            multiply_wide(cpu, op, b, size)
        elif op == OP.OP_DIV or op == OP.OP_IDIV:
            if not divide(cpu, op, b, size):
                set_fault(m.fault[0], FAULT_DIVIDE, v, pc, 0, size, now)
                status = FAULTED
                break
        elif op == OP.OP_SIGN:
            result = sign_extend(b, size) >> 63
            write = True
        elif OP.OP_CLC <= op <= OP.OP_SAHF:
            flags.change(cpu, op)
        elif op == OP.OP_SETCC:
            result = 1 if flags.condition(cpu, i.condition) else 0
            write = True
        elif op == OP.OP_CMOVCC:
            if flags.condition(cpu, i.condition):
                result = b
            write = True  # a 4-byte register loses its upper half either way
        elif op == OP.OP_PUSH:
            if not push(m, p, v, pc, b, size, now):
                status = FAULTED
                break
        elif op == OP.OP_POP or op == OP.OP_LEAVE:
            when = pop(m, p, v, pc, registers[RSP] if op == OP.OP_POP else registers[RBP], size, now)
            if when != now:
                if when < 0:
                    status = FAULTED
                else:
                    now = when
                break
            result = cpu.popped
            write = True
        elif op == OP.OP_PUSHFQ:
            if not push(m, p, v, pc, flags.rflags(cpu), 8, now):
                status = FAULTED
                break
        elif op == OP.OP_POPFQ:
            when = pop_flags(m, p, v, pc, now)
            if when != now:
                if when < 0:
                    status = FAULTED
                else:
                    now = when
                break
            status = WINDOW
        elif op == OP.OP_CALL:
            following = i.target
            if not push(m, p, v, pc, i.address + i.length, 8, now):
                status = FAULTED
                break
        elif op == OP.OP_CALL_INDIRECT:
            following = table_index(m, v, pc, b, now)
            if following < 0 or not push(m, p, v, pc, i.address + i.length, 8, now):
                status = FAULTED
                break
        elif op == OP.OP_JMP_INDIRECT:
            following = table_index(m, v, pc, b, now)
        elif op == OP.OP_RET:
            when = pop(m, p, v, pc, registers[RSP], 8, now)
            if when != now:
                if when < 0:
                    status = FAULTED
                else:
                    now = when
                break
            registers[RSP] += i.immediate
            following = table_index(m, v, pc, cpu.popped, now)
        elif op == OP.OP_JRCXZ or op == OP.OP_LOOP:
            if counter_branches(cpu, op, size, i.condition):
                following = i.target
        elif OP.OP_MOVS <= op <= OP.OP_CMPS:
            element, when = string_element(m, p, v, pc, now)
            if element == FAULTY:
                status = FAULTED
                break
            if when > now:
                now = when
                break
            if element == MORE:
                following = pc
                executed -= 1
        elif op == OP.OP_PROBE:
            b = sign_extend(b, size) if i.condition == 1 else b & mask_of(size)
            if i.probe == PROBE_WORK:
                if shadow == 1:  # STI blocks interrupts for one instruction, not for all of the work
                    cpu.shadow = 0
                    status = WINDOW
                    break
                now, done = step_work(cpu, pc, b, now, free_until)
                if not done:
                    break
            else:
                cpu.probe_value = b
                status = PROBED
                break
        elif op == OP.OP_RDTSC or op == OP.OP_RDTSCP:
            tsc = cycles_to_tsc(m.clock[0], now)
            registers[RAX] = tsc & 0xFFFFFFFF
            registers[RDX] = (tsc >> 32) & 0xFFFFFFFF
            if op == OP.OP_RDTSCP:
                registers[RCX] = 0  # IA32_TSC_AUX as after a reset: there is no MSR to write
        elif op == OP.OP_CPUID:
            status = CPUID_EXIT
            break
        elif op == OP.OP_VMCALL:
            status = VMCALL_EXIT
            break
        elif op == OP.OP_SYSCALL:
            following = syscall(m, v, pc, now)
        elif op == OP.OP_END:
            status = ENDED
            break
        elif op == OP.OP_UNSUPPORTED:
            set_fault(m.fault[0], FAULT_UNSUPPORTED, v, pc, i.address, 0, now)
            status = FAULTED
            break
        elif cpu.cpl > 0:
            set_fault(m.fault[0], FAULT_PRIVILEGE, v, pc, i.address, 0, now)
            status = FAULTED
            break
        elif op == OP.OP_INVLPG:
            pass
        elif op == OP.OP_CLI:
            cpu.interrupt_flag = 0
        elif op == OP.OP_STI:
            if cpu.interrupt_flag == 0:
                cpu.interrupt_flag = 1
                cpu.shadow = 1
        elif op == OP.OP_HLT:
            status = HLT_EXIT
            break
        elif op == OP.OP_WRMSR:
            status = write_msr(m, v, pc, now)
            if status != WINDOW:
                break
        elif op == OP.OP_RDMSR:
            status = read_msr(m, v, pc, now)
            if status != STOPPED:
                break
        elif op == OP.OP_IRETQ:
            following = iretq(m, v, pc, now)
            if following < 0:
                status = FAULTED
                break
            status = WINDOW
        elif op == OP.OP_SYSRET:
            following = sysret(m, v, pc, now)
            status = WINDOW
        elif op == OP.OP_CR8_READ or op == OP.OP_CR8_WRITE:
            if cpu.apicv == 0:
                status = CR8_EXIT
                break
            if not move_cr8(m, v, pc, now):
                status = FAULTED
                break
            status = WINDOW

        if following < 0:
            if m.fault[0].kind == 0:  # a direct branch to what is no instruction
                set_fault(m.fault[0], FAULT_JUMP, v, pc, i.address, 0, now)
            status = FAULTED
            break
        if write:
            if i.dst_kind == MEMORY:
                # A plain store may skip the buffer if nobody can look before it would commit.
                if i.locked == 1 or (
                    pcpu.buffered == 0
                    and may_write(m, p, byte, size)
                    and (
                        now + 1 < ordered_until
                        or (
                            now + 1 < held_until
                            and is_common(cpu, space, byte - first_byte)
                            and keeps_alone(m, p, byte, size, horizon)
                        )
                    )
                ):
                    store(memory, 0, byte, size, result)
                else:
                    put(m, p, byte, size, result, now)
            else:
                write_register(registers, i.dst_kind, i.dst, size, result)
        if i.locked == 1 and (byte >> 3) + 1 == cpu.watched and load(memory, 0, byte, size) != loaded:
            m.timing[0].places += 1
            cpu.place = m.timing[0].places
        now += i.cycles
        executed += 1
        if watching == 1:
            found = watch(m, p, v, pc, byte, following, now, cpu.instructions + executed)
            if found == REPEATS:
                status = SPINS
            elif found == GIVEN_UP:
                watching = 0
                patience = spin.patience
        if pcpu.buffered > 0:
            # Whom the store wakes can interrupt this pCPU one IPI later.
            free_until = min(free_until, pcpu.commit_at + m.cost[0].ipi)
        pc = following
        if shadow == 1:  # the one instruction behind STI is done
            cpu.shadow = 0
            status = WINDOW
        shadow = cpu.shadow
        if status != STOPPED:
            break
    cpu.pc = pc
    cpu.instructions += executed
    spin.patience = patience
    if status != STOPPED and status != SPINS:
        start_afresh(m, p)
    return status, now
