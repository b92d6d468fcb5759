"""Code to the instruction table: complete, consistent, and strict about what is outside."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from iced_x86 import Decoder
from made_guests import MAIN, make_guest, operations, write_guest

from pleemu.errors import GuestError
from pleemu.guest import load
from pleemu.hardware import isa

R64 = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()  # noqa: SIM905
R32 = "eax ecx edx ebx esp ebp esi edi r8d r9d r10d r11d r12d r13d r14d r15d".split()  # noqa: SIM905
CONDITIONS = "o no b ae e ne be a s ns p np l ge le g".split()  # noqa: SIM905


@st.composite
def addresses(draw: st.DrawFn) -> str:
    """Memory operands of every shape."""
    base = draw(st.sampled_from([*R64, ""]))
    index = draw(st.sampled_from([*R64[:4], *R64[5:], ""]))
    displacement = draw(st.integers(-(1 << 31), (1 << 31) - 1))
    scale = draw(st.sampled_from([1, 2, 4, 8]))
    return f"[{base or 0} + {f'{index}*{scale}' if index else 0} + {displacement}]"


@st.composite
def instructions(draw: st.DrawFn) -> str:
    """Instructions of the subset that may stand anywhere."""
    names, prefix = draw(st.sampled_from([(R64, "qword"), (R32, "dword")]))
    register = st.sampled_from(names)
    memory = addresses().map(lambda address: f"{prefix} ptr {address}")
    binary = st.sampled_from("mov add adc sub sbb cmp and or xor test".split())  # noqa: SIM905
    shapes = [
        st.builds("{} {}, {}".format, binary, register, register),
        st.builds("{} {}, {}".format, binary, memory, register),
        st.builds("{} {}, {}".format, binary, st.one_of(register, memory), st.integers(-(1 << 31), (1 << 31) - 1)),
        st.builds("{} {}".format, st.sampled_from(["inc", "dec", "neg", "not"]), st.one_of(register, memory)),
        st.builds(
            "{} {}, {}".format, st.sampled_from(["shl", "shr", "sar"]), register, st.sampled_from(["cl", "1", "31"])
        ),
        st.builds("lock {} {}, {}".format, st.sampled_from(["xadd", "cmpxchg", "bts", "or"]), memory, register),
        st.builds("xchg {}, {}".format, memory, register),
        st.builds("set{} {}".format, st.sampled_from(CONDITIONS), st.sampled_from(["al", "bh", "sil", "r9b"])),
        st.builds("cmov{} {}, {}".format, st.sampled_from(CONDITIONS), register, register),
        st.builds("movzx {}, byte ptr {}".format, register, addresses()),
        st.builds("lea {}, {}".format, register, addresses()),
        st.builds("j{} guest_main".format, st.sampled_from(CONDITIONS)),
        st.sampled_from(
            ["pause", "mfence", "rdtsc", "cli", "sti", "hlt", "endbr64", "nop", "nop dword ptr [rax]", "cdqe"]
        ),
        st.builds("{} {}".format, st.sampled_from(["push", "pop"]), st.sampled_from(R64)),
    ]
    return draw(st.one_of(shapes))


@settings(max_examples=8, deadline=None)
@given(lines=st.lists(instructions(), min_size=30, max_size=120))
def test_decode_covers_straight_code_exactly_as_iced_does(
    lines: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The table has every instruction once, in order, with the length that a linear sweep finds."""
    image = make_guest(tmp_path_factory.mktemp("decode"), "\n".join([*lines, "ret", ""]))
    table = image.instructions
    start = image.address_of("guest_main")
    code = image.memory[start - image.base :].tobytes()
    sweep = []
    for instruction in Decoder(64, code, ip=start):
        sweep.append((instruction.ip, instruction.len))
        if len(sweep) == len(lines) + 1:
            break
    assert [(int(r.address) % 2**64, int(r.length)) for r in table[1:]] == sweep
    assert (table[0].op, int(table[0].address) % 2**64) == (isa.OP_END, image.base)
    for first, second in pairwise(table[1:]):
        assert first.address + first.length == second.address
    found = {offset: int(index) for offset, index in enumerate(image.index_of) if index >= 0}
    assert found == {int(r.address) % 2**64 - image.base: index for index, r in enumerate(table)}
    for record in table:
        assert (record.target >= 0) == (record.op in (isa.OP_JCC, isa.OP_JMP, isa.OP_CALL))
        assert 0 <= record["base_register"] <= isa.ZERO
        assert 0 <= record.index_register <= isa.ZERO
        assert record.scale in (1, 2, 4, 8)


REGISTER, HIGH, MEMORY, IMMEDIATE = isa.REGISTER, isa.HIGH, isa.MEMORY, isa.IMMEDIATE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mov rax, -1", {"op": isa.OP_MOV, "width": 8, "dst": 0, "src_kind": IMMEDIATE, "immediate": -1}),
        ("mov eax, 0xffffffff", {"op": isa.OP_MOV, "width": 4, "immediate": -1}),
        ("movabs r9, 0x8000000000000000", {"width": 8, "dst": 9, "immediate": -(1 << 63)}),
        ("mov ch, dl", {"width": 1, "dst_kind": HIGH, "dst": 1, "src_kind": REGISTER, "src": 2}),
        (
            "mov word ptr [rbp - 8], 7",
            {"width": 2, "dst_kind": MEMORY, "base_register": 5, "displacement": -8, "immediate": 7},
        ),
        ("movzx ecx, bh", {"op": isa.OP_MOVZX, "width": 4, "src_width": 1, "src_kind": HIGH, "src": 3}),
        ("movsxd rdx, dword ptr [rdi]", {"op": isa.OP_MOVSX, "width": 8, "src_width": 4, "base_register": 7}),
        ("cdqe", {"op": isa.OP_MOVSX, "width": 8, "src_width": 4, "dst": 0, "src": 0, "src_kind": REGISTER}),
        (
            "lea rsi, [rax + r12*4 + 9]",
            {"op": isa.OP_LEA, "width": 8, "base_register": 0, "index_register": 12, "scale": 4, "displacement": 9},
        ),
        ("shl rax, cl", {"op": isa.OP_SHL, "width": 8, "src_kind": REGISTER, "src": 1}),
        ("sar eax, 255", {"op": isa.OP_SAR, "width": 4, "immediate": 255}),
        ("shr rax", {"op": isa.OP_SHR, "immediate": 1}),
        (
            "xchg [rdi], eax",
            {"op": isa.OP_XCHG, "locked": 1, "cost_class": isa.COST_LOCKED, "dst_kind": MEMORY, "src": 0},
        ),
        ("xchg rax, rcx", {"op": isa.OP_XCHG, "locked": 0, "cost_class": isa.COST_SIMPLE}),
        ("lock cmpxchg [rdi], rsi", {"op": isa.OP_CMPXCHG, "locked": 1, "dst_kind": MEMORY, "src": 6}),
        (
            "lock bts dword ptr [rdi], 8",
            {"op": isa.OP_BTS, "width": 4, "src_kind": IMMEDIATE, "immediate": 8, "locked": 1},
        ),
        ("bt qword ptr [rdi], rax", {"op": isa.OP_BT, "width": 8, "dst_kind": MEMORY, "src_kind": REGISTER}),
        ("push -2", {"op": isa.OP_PUSH, "width": 8, "src_kind": IMMEDIATE, "immediate": -2}),
        ("pop qword ptr [rsp]", {"op": isa.OP_POP, "width": 8, "dst_kind": MEMORY, "base_register": 4}),
        ("jmp rax", {"op": isa.OP_JMP_INDIRECT, "width": 8, "src_kind": REGISTER, "src": 0, "target": -1}),
        ("call [rdi + 8]", {"op": isa.OP_CALL_INDIRECT, "src_kind": MEMORY, "base_register": 7, "displacement": 8}),
        ("ret 16", {"op": isa.OP_RET, "immediate": 16}),
        ("setle byte ptr [rax]", {"op": isa.OP_SETCC, "width": 1, "condition": isa.CC_LE, "dst_kind": MEMORY}),
        ("cmovae rax, [rcx]", {"op": isa.OP_CMOVCC, "condition": isa.CC_AE, "src_kind": MEMORY, "base_register": 1}),
        ("imul rax, rcx", {"op": isa.OP_IMUL, "dst": 0, "src": 1}),
        ("pause", {"op": isa.OP_PAUSE, "cost_class": isa.COST_PAUSE, "length": 2}),
        ("rep ret", {"op": isa.OP_RET, "length": 2}),
        ("iretq", {"op": isa.OP_IRETQ, "cost_class": isa.COST_IRET}),
        ("syscall", {"op": isa.OP_SYSCALL, "length": 2}),
        ("sysretq", {"op": isa.OP_SYSRET, "length": 3}),
        ("mov cr8, rcx", {"op": isa.OP_CR8_WRITE, "src_kind": REGISTER, "src": 1, "dst_kind": isa.NONE}),
        ("mov r9, cr8", {"op": isa.OP_CR8_READ, "dst_kind": REGISTER, "dst": 9, "src_kind": isa.NONE}),
        ("lfence", {"op": isa.OP_FENCE, "cost_class": isa.COST_FENCE}),
        ("ud2", {"op": isa.OP_UNSUPPORTED}),
        ("rcl byte ptr [rdi], cl", {"op": isa.OP_RCL, "width": 1, "dst_kind": MEMORY, "src_kind": REGISTER, "src": 1}),
        ("shld [rdi], rax, 200", {"op": isa.OP_SHLD, "dst_kind": MEMORY, "src": 0, "immediate": 200, "count_in_cl": 0}),
        ("shrd ax, cx, cl", {"op": isa.OP_SHRD, "width": 2, "dst": 0, "src": 1, "count_in_cl": 1}),
        ("imul ax, [rdi], -3", {"op": isa.OP_IMUL_CONSTANT, "width": 2, "src_kind": MEMORY, "immediate": -3}),
        ("imul ch", {"op": isa.OP_IMUL_WIDE, "width": 1, "dst_kind": isa.NONE, "src_kind": HIGH, "src": 1}),
        ("div dword ptr [rdi]", {"op": isa.OP_DIV, "width": 4, "src_width": 4, "src_kind": MEMORY}),
        ("cqo", {"op": isa.OP_SIGN, "width": 8, "dst": 2, "src": 0}),
        ("rep movsw", {"op": isa.OP_MOVS, "width": 2, "condition": isa.REP}),
        ("repne scasb", {"op": isa.OP_SCAS, "width": 1, "condition": isa.REPNE}),
        ("stosq", {"op": isa.OP_STOS, "width": 8, "condition": isa.ONCE}),
        ("lock cmpxchg16b [rdi]", {"op": isa.OP_CMPXCHG_PAIR, "width": 8, "locked": 1, "cost_class": isa.COST_LOCKED}),
        ("cmpxchg8b [rdi]", {"op": isa.OP_CMPXCHG_PAIR, "width": 4, "locked": 1}),
        ("push ax", {"op": isa.OP_PUSH, "width": 2, "src": 0}),
        (".byte 0x66, 0x68, 0x01, 0x80", {"op": isa.OP_PUSH, "width": 2, "immediate": 0x8001 - 0x10000}),
        ("pop word ptr [rsp]", {"op": isa.OP_POP, "width": 2, "dst_kind": MEMORY}),
        ("leave", {"op": isa.OP_LEAVE, "width": 8, "dst": 5}),
        ("1: loopne 1b", {"op": isa.OP_LOOP, "condition": isa.REPNE, "target": 1}),
        ("1: jecxz 1b", {"op": isa.OP_JRCXZ, "width": 4, "target": 1}),
        ("prefetcht0 [rdi]", {"op": isa.OP_NOP, "dst_kind": isa.NONE, "src_kind": isa.NONE}),
        ("nop word ptr cs:[rax + rax]", {"op": isa.OP_NOP, "dst_kind": isa.NONE}),
    ],
)
def test_decode_resolves_operands(tmp_path: Path, text: str, expected: dict[str, int]) -> None:
    """An instruction's fields are what the table's definition says of its operands."""
    record = operations(make_guest(tmp_path, f"{text}\nret\n"))[0]
    assert {name: int(record[name]) for name in expected} == expected


def test_decode_makes_rip_relative_addresses_absolute(tmp_path: Path) -> None:
    """A RIP-relative operand has no base register and the symbol's address as displacement."""
    image = make_guest(tmp_path, "mov eax, [rip + lock]\nret\n.data\nlock: .quad 0\n")
    record = operations(image)[0]
    assert (record["base_register"], record["index_register"]) == (isa.ZERO, isa.ZERO)
    assert int(record.displacement) % 2**64 == image.address_of("lock")


@pytest.mark.parametrize(
    "use",
    [
        "jmp [table + rdi*8]\n.data\ntable: .quad .Lhidden\n",
        "lea rax, [rip + .Lhidden]\njmp rax\n",
        "mov rax, offset .Lhidden\njmp rax\n",
        "push offset .Lhidden\nret\n",
        'ret\n.section .pleemu.vectors,"",@progbits\n.quad 0x30, .Lhidden\n',
    ],
)
def test_decode_finds_code_that_is_only_reached_through_an_address(tmp_path: Path, use: str) -> None:
    """Targets of jump tables, computed addresses and vectors are decoded though no label survives."""
    image = make_guest(tmp_path, f"jmp 1f\n.quad 0x0606060606060606\n.Lhidden: pause\nret\n1: {use}")
    assert isa.OP_PAUSE in image.instructions.op


def test_decode_leaves_constants_among_code_alone(tmp_path: Path) -> None:
    """Bytes that nothing reaches are not decoded, labelled objects neither."""
    image = make_guest(tmp_path, "mov rax, [rip + magic]\nret\n.type magic, @object\nmagic: .quad 0x0606060606060606\n")
    assert len(image.instructions) == 3


def test_decode_ends_running_off_the_code_in_a_fault(tmp_path: Path) -> None:
    """The instruction after the last one is there, follows it, and is unsupported."""
    image = make_guest(tmp_path, "nop\n")
    last, after = image.instructions[-2:]
    assert (last.op, after.op) == (isa.OP_NOP, isa.OP_UNSUPPORTED)
    assert after.address == last.address + last.length


def test_decode_reports_all_that_is_outside_the_subset(tmp_path: Path) -> None:
    """Each unsupported instruction is named with text, symbol, address and source line, at once."""
    outside = """swapgs; fldz; mov rax, fs:[0]; xlatb; mov eax, [ecx]; push fs; movaps xmm0, xmm1
        mov rax, cr3; andn eax, ecx, edx; in al, 0x10; mov ds, eax; enter 16, 0"""
    outside = [line.strip() for line in outside.replace(";", "\n").splitlines()]
    with pytest.raises(GuestError) as error:
        make_guest(tmp_path, "\n".join([*outside, "ret", ""]))
    lines = str(error.value).splitlines()
    assert lines[0].startswith(f"{tmp_path}/guest.S:3: 'swapgs' at guest_main (0xffffffff81000010): ")
    assert lines[1].startswith(f"{tmp_path}/guest.S:4: 'fldz' at guest_main+0x3 ")
    assert lines[10:] == ["... and 2 more"]


@pytest.mark.parametrize(
    ("encoded", "text"),
    [
        ("0x48, 0x89, 0x07", r"lock mov \[rdi\], rax"),
        ("0x48, 0x39, 0x07", r"lock cmp \[rdi\], rax"),
        ("0x48, 0x0f, 0xa3, 0x07", r"lock bt \[rdi\], rax"),
        ("0x48, 0xd1, 0x27", r"lock shl qword ptr \[rdi\], 1"),
        ("0xff, 0xc0", "lock inc eax"),
        ("0x87, 0xc1", "lock xchg ecx, eax"),
    ],
)
def test_decode_refuses_lock_where_it_is_an_invalid_opcode(tmp_path: Path, encoded: str, text: str) -> None:
    """LOCK on what is no read-modify-write of memory (SDM 2 LOCK) is named as such when the guest is read."""
    with pytest.raises(GuestError, match=rf"guest\.S:3: '{text}' at guest_main .*LOCK is not allowed on it"):
        make_guest(tmp_path, f".byte 0xf0, {encoded}\nret\n")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (".byte 0x67, 0xa4", "its address is not 64 bits wide"),
        (".byte 0x64, 0xac", "fs and gs are not supported"),
        (".byte 0x67, 0xe2, 0xfd", "its counter is not 64 bits wide"),
        (".byte 0x66, 0xc9", "its operand size is not 64 bits"),
        (".byte 0x66, 0x0f, 0xc8", "operands of 32 and 64 bits only"),
    ],
)
def test_decode_refuses_the_forms_that_are_left_out(tmp_path: Path, text: str, why: str) -> None:
    """Of a supported mnemonic, a form that would need more than the table can say is refused with the reason."""
    with pytest.raises(GuestError, match=why):
        make_guest(tmp_path, f"{text}\nret\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "jmp lock\n.data\nlock: .quad 0\n",
            "guest.S:3: 'jmp lock' at guest_main (0xffffffff81000010): its target is outside",
        ),
        ("call x\nret\nx: .quad 0x0606060606\n", "guest.S:5: 'bytes 06 06 06 06' at x"),
        ("jmp x + 1\nx: mov eax, 0xc3\nret\n", "overlaps"),
    ],
)
def test_decode_refuses_code_that_is_none(tmp_path: Path, text: str, expected: str) -> None:
    """Branches out of the code, data that is run and instructions inside instructions are refused."""
    with pytest.raises(GuestError) as error:
        make_guest(tmp_path, text)
    assert expected in str(error.value)


def test_decode_accepts_att_syntax(tmp_path: Path) -> None:
    """A compiler's AT&T output is as good as Intel syntax."""
    path = write_guest(tmp_path, f".att_syntax\n{MAIN}movl $5, %ebx\nret\n")
    assert load(path).text_of(1) == "mov ebx, 5"
