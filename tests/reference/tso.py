"""x86-TSO as an abstract machine, explored exhaustively: which outcomes a small program may have.

Owens, Sarkar, Sewell, "A Better x86 Memory Model: x86-TSO" (2009): each thread has a FIFO buffer of
stores; a load takes the newest store of its own to the address, else memory; a buffer hands its
oldest store to memory at any time; LOCKed instructions and MFENCE need an empty buffer.
"""

from __future__ import annotations

# An instruction: ("st", variable, value), ("ld", variable), ("mfence",), ("xchg", variable, value),
# ("xadd", variable, value). Loads, xchg and xadd append what they read to the thread's results.
Instruction = tuple
Program = tuple[tuple[Instruction, ...], ...]

# What one execution shows: the values that each thread read, and memory at the end.
Outcome = tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]


def outcomes(program: Program, variables: int) -> set[Outcome]:
    """Return every outcome that x86-TSO allows; all variables are 0 at first."""
    threads = len(program)
    start = ((0,) * threads, ((),) * threads, ((),) * threads, (0,) * variables)
    seen, work, found = {start}, [start], set()
    while work:
        state = work.pop()
        successors = list(_steps(program, state))
        if not successors:
            found.add((state[2], state[3]))
        for after in successors:
            if after not in seen:
                seen.add(after)
                work.append(after)
    return found


def _steps(program, state):
    positions, buffers, results, memory = state
    for thread, code in enumerate(program):
        buffer = buffers[thread]
        if buffer:
            variable, value = buffer[0]
            yield positions, _at(buffers, thread, buffer[1:]), results, _at(memory, variable, value)
        if positions[thread] == len(code):
            continue
        name, *operands = code[positions[thread]]
        onward = _at(positions, thread, positions[thread] + 1)
        if name == "st":
            yield onward, _at(buffers, thread, (*buffer, tuple(operands))), results, memory
        elif name == "ld":
            own = [value for variable, value in buffer if variable == operands[0]]
            value = own[-1] if own else memory[operands[0]]
            yield onward, buffers, _at(results, thread, (*results[thread], value)), memory
        elif not buffer and name == "mfence":
            yield onward, buffers, results, memory
        elif not buffer:
            variable, value = operands
            old = memory[variable]
            new = value if name == "xchg" else old + value
            yield onward, buffers, _at(results, thread, (*results[thread], old)), _at(memory, variable, new)


def _at(values, position, value):
    return (*values[:position], value, *values[position + 1 :])
