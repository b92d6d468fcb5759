"""Guests with loops of any kind: that spin, that count, and that only look as if they did."""

from __future__ import annotations

import functools
import hashlib
import tempfile
from pathlib import Path

from hypothesis import strategies as st

_HEAD = """
.include "pleemu.inc"
.globl guest_main
guest_main:
    mov r12, rdi
    random_init r13
    lea rbx, [rip + words]
    lea r14, [rip + own]
    mov rax, rdi
    shl rax, 6
    add r14, rax
again:
    random r13, rax
    mov r15, r13
    shr r15, 40
"""
_TAIL = """
    operation_done
    jmp again
.data
.balign 64
words:
    .space 512
own:
    .space 1024
"""

# What the body of a loop may hold. Words are 8 bytes; `{w}` is an offset into them, `{l}` the loop's number.
_STEADY = (
    "pause",
    "nop",
    "lfence",
    "mfence",
    "mov rax, [rbx + {w}]",
    "mov ecx, [rbx + {w}]",
    "movzx ecx, byte ptr [rbx + {w}]",
    "cmp rdx, [rbx + {w}]",
    "test dword ptr [rbx + {w}], 1",
    "lea rsi, [rbx + rcx*2 + 4]",
    "and eax, 0xff",
    "xor ecx, ecx",
    "sete cl",
    "cmovne rsi, rdx",
    "imul esi, eax, 3",
    "mov rax, [r14]",
    "mov rax, [r14 - 3]",
    "bt rax, 3",
    "jz 7{l}f; nop; 7{l}:",
    "mov ebp, 3; 6{l}: dec ebp; jnz 6{l}b",
    "mov ebp, 40; 6{l}: pause; dec ebp; jnz 6{l}b",
    "mov ebp, 700; 6{l}: sub ebp, 1; jne 6{l}b",
)
_UNSTEADY = (
    "inc r8",
    "mov [r14], rax",
    "inc dword ptr [r14]",
    "mov [r14 + 60], eax",
    "rdtsc",
    "lock inc dword ptr [r14 + 8]",
    "xchg [rbx + {w}], rsi",
    "lock add qword ptr [rbx + {w}], 0",
    "push rax; pop rax",
    "adc rsi, 1",
    "inc dword ptr [rbx + {w}]",
    "work 30",
    "std; cld",
)
# How a loop may end, beside after so many turns.
_UNTIL = ("cmp [rbx + {w}], rdx", "cmp rdx, [rbx + {w}]", "mov rax, [rbx + {w}]; cmp rax, rdx", "test rsp, rsp")
_COUNTS = ("dec r9; jz {0}f", "sub r9, 1; jz {0}f", "add r9, -1; jz {0}f", "dec r9d; jz {0}f", "")
# What vCPUs do between the loops.
_BETWEEN = (
    "inc qword ptr [rbx + {w}]",
    "lock inc qword ptr [rbx + {w}]",
    "mov [rbx + {w}], r13",
    "mov dword ptr [rbx + {w} + 61], eax",
    "xchg [rbx + {w}], rax",
    "mov eax, 3000; work rax",
    "work 400",
    "and r15d, 0xfff; work r15",
    "mov ebp, 5000; 5{l}: dec ebp; jnz 5{l}b",
    "mov ecx, 900; 5{l}: loop 5{l}b",
    "mov ebp, 200; 5{l}: pause; dec ebp; jnz 5{l}b",
    "cli; mov ebp, 90; 5{l}: pause; dec ebp; jnz 5{l}b; sti",
    "lea rdi, [r14]; mov ecx, 5; rep stosq",
    "mov ebp, 300; 5{l}: inc dword ptr [r14]; mov rax, [rbx + {w}]; add [r14 + 16], rax; dec ebp; jnz 5{l}b",
    "mov ebp, 200; 5{l}: mov rax, [rbx + {w}]; inc rax; mov [rbx + {w}], rax; push rax; pop rcx; dec ebp; jnz 5{l}b",
    "mov ebp, 99; 5{l}: lock inc dword ptr [r14 + 8]; mov [rbx + {w}], bpl; dec ebp; jnz 5{l}b",
    "mov ebp, 99; 5{l}: call 8{l}f; dec ebp; jnz 5{l}b; jmp 9{l}f; 8{l}: mov [r14 + 62], rsp; ret; 9{l}:",
    "mov [rbx + {w}], rsp; mov rax, [rbx + 64]; test rax, rax; jz 5{l}f; mov rsi, [rax - 40]; 5{l}:",
)
_WORDS = tuple(str(8 * number) for number in (0, 0, 0, 1, 8, 9, 16, 24))


@st.composite
def _line(draw: st.DrawFn, forms: tuple[str, ...], label: str) -> str:
    return draw(st.sampled_from(forms)).format(w=draw(st.sampled_from(_WORDS)), l=label)


@st.composite
def _loop(draw: st.DrawFn, number: int) -> str:
    """A loop that ends when a word changes, or after a number of turns."""
    body = [draw(_line(_STEADY, f"{number}{place}")) for place in range(draw(st.integers(0, 5)))]
    if draw(st.sampled_from((False, False, True))):
        body.insert(draw(st.integers(0, len(body))), draw(_line(_UNSTEADY, f"{number}9")))
    word = draw(st.sampled_from(_WORDS))
    until = draw(st.sampled_from(_UNTIL)).format(w=word)
    turns = draw(st.sampled_from((3, 40, 1000, 20_000)))
    count = draw(
        st.sampled_from(("dec r9; jz {0}f", "sub r9, 1; jz {0}f", "add r9, -1; jz {0}f", "dec r9d; jz {0}f", ""))
    )
    if not count and "rsp" in until:
        count = "dec r9; jz {0}f"
    count = count.format(f"2{number}")
    return "\n".join(
        ("    " + line)
        for line in (
            f"mov rdx, [rbx + {word}]",
            f"mov r9d, {turns}",
            f"1{number}:",
            *body,
            *([count] if count and draw(st.booleans()) else []),
            until,
            *([count] if count else []),
            f"je 1{number}b" if "rsp" not in until else f"jne 1{number}b",
            f"2{number}:",
        )
    )


@st.composite
def spinning_guests(draw: st.DrawFn) -> str:
    """The source of a guest: vCPUs that change words, compute and spin, in an order of their own each."""
    parts = []
    for number in range(draw(st.integers(1, 3))):
        between = [f"    {draw(_line(_BETWEEN, f'{number}{place}'))}" for place in range(draw(st.integers(1, 3)))]
        who = draw(st.sampled_from((1, 1, 2, 3)))
        parts += [f"    test r12d, {who}", f"    jz 3{number}f", draw(_loop(number)), f"3{number}:", *between]
    return _HEAD + "\n".join(parts) + _TAIL


@functools.cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="pleemu-spins-"))


def source_file(text: str) -> str:
    """Return a file with this source: the same one for the same source."""
    path = _folder() / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.S"
    path.write_text(text)
    return str(path)
