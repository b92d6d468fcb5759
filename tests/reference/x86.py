"""Integer instructions as SDM 2 describes them, on Python's unbounded integers, one flag at a time."""

from __future__ import annotations

from attrs import define, field

CF, PF, AF, ZF, SF, OF = 0x1, 0x4, 0x10, 0x40, 0x80, 0x800
ARITHMETIC = CF | PF | AF | ZF | SF | OF

# An operand: ("reg", number), ("high", number) for ah, ch, dh, bh, ("mem", offset), ("imm", value), ("cl",).
Operand = tuple

# Flags that each condition reads (SDM 1 appendix B), by the upper three bits of its code.
READS = (OF, CF, ZF, CF | ZF, SF, PF, SF | OF, ZF | SF | OF)


@define
class Instruction:
    """A mnemonic with operands; ``width`` and ``source_width`` in bits."""

    name: str
    width: int = 64
    operands: tuple[Operand, ...] = ()
    source_width: int = 0
    condition: int = 0


@define
class Processor:
    """Registers, flags, memory; ``undefined`` has the flags that the manual leaves open."""

    registers: list[int]
    flags: int
    memory: bytearray
    undefined: int = field(default=0)
    skip: bool = field(default=False)  # a jump over the next instruction was taken

    def reads_undefined(self, instruction: Instruction) -> bool:
        """Would the instruction's result depend on an undefined flag?"""
        read = 0
        if instruction.name in ("set", "cmov", "j"):
            read = READS[instruction.condition >> 1]
        elif instruction.name in ("adc", "sbb"):
            read = CF
        return bool(read & self.undefined)

    def step(self, instruction: Instruction) -> None:
        """Execute one instruction."""
        if self.skip:
            self.skip = False
            return
        name = "set_" if instruction.name == "set" else instruction.name
        getattr(self, f"_{name}")(instruction)

    def read(self, operand: Operand, width: int) -> int:
        """Return an operand, unsigned."""
        kind = operand[0]
        if kind == "reg":
            value = self.registers[operand[1]]
        elif kind == "high":
            value = self.registers[operand[1]] >> 8
        elif kind == "mem":
            value = int.from_bytes(self.memory[operand[1] : operand[1] + width // 8], "little")
        elif kind == "cl":
            value = self.registers[1] & 0xFF
        else:
            value = operand[1]
        return value % 2**width

    def write(self, operand: Operand, width: int, value: int) -> None:
        """Write an operand; 32 bits clear the upper half of a register."""
        value %= 2**width
        kind, number = operand
        if kind == "mem":
            self.memory[number : number + width // 8] = value.to_bytes(width // 8, "little")
        elif kind == "high":
            self.registers[number] = self.registers[number] & ~0xFF00 | value << 8
        elif width >= 32:
            self.registers[number] = value
        else:
            self.registers[number] = self.registers[number] >> width << width | value

    def condition(self, code: int) -> bool:
        """Evaluate a condition code."""
        cf, pf, zf, sf, of = (bool(self.flags & flag) for flag in (CF, PF, ZF, SF, OF))
        holds = (of, cf, zf, cf or zf, sf, pf, sf != of, zf or sf != of)[code >> 1]
        return holds != bool(code & 1)

    def _set(self, **values: bool) -> None:
        for name, value in values.items():
            flag = globals()[name]
            self.flags = self.flags | flag if value else self.flags & ~flag
            self.undefined &= ~flag

    def _set_undefined(self, flags: int) -> None:
        self.undefined |= flags

    def _set_of_result(self, result: int, width: int) -> None:
        result %= 2**width
        self._set(ZF=result == 0, SF=bool(result >> (width - 1)), PF=(result & 0xFF).bit_count() % 2 == 0)

    def _both(self, i: Instruction) -> tuple[int, int]:
        return self.read(i.operands[0], i.width), self.read(i.operands[1], i.width)

    def _plus(self, a: int, b: int, carry: int, width: int) -> int:
        """Add with all flags."""
        exact = signed(a, width) + signed(b, width) + carry
        self._set(CF=a + b + carry >= 2**width, OF=exact != signed(exact, width), AF=a % 16 + b % 16 + carry > 15)
        self._set_of_result(exact, width)
        return exact

    def _minus(self, a: int, b: int, borrow: int, width: int) -> int:
        """Subtract with all flags."""
        exact = signed(a, width) - signed(b, width) - borrow
        self._set(CF=a < b + borrow, OF=exact != signed(exact, width), AF=a % 16 < b % 16 + borrow)
        self._set_of_result(exact, width)
        return exact

    def _add(self, i: Instruction) -> None:
        self.write(i.operands[0], i.width, self._plus(*self._both(i), 0, i.width))

    def _adc(self, i: Instruction) -> None:
        self.write(i.operands[0], i.width, self._plus(*self._both(i), self.flags & CF, i.width))

    def _sub(self, i: Instruction) -> None:
        self.write(i.operands[0], i.width, self._minus(*self._both(i), 0, i.width))

    def _sbb(self, i: Instruction) -> None:
        self.write(i.operands[0], i.width, self._minus(*self._both(i), self.flags & CF, i.width))

    def _cmp(self, i: Instruction) -> None:
        self._minus(*self._both(i), 0, i.width)

    def _logic(self, result: int, width: int) -> None:
        self._set(CF=False, OF=False)
        self._set_of_result(result, width)
        self._set_undefined(AF)

    def _and(self, i: Instruction) -> None:
        a, b = self._both(i)
        self._logic(a & b, i.width)
        self.write(i.operands[0], i.width, a & b)

    def _or(self, i: Instruction) -> None:
        a, b = self._both(i)
        self._logic(a | b, i.width)
        self.write(i.operands[0], i.width, a | b)

    def _xor(self, i: Instruction) -> None:
        a, b = self._both(i)
        self._logic(a ^ b, i.width)
        self.write(i.operands[0], i.width, a ^ b)

    def _test(self, i: Instruction) -> None:
        a, b = self._both(i)
        self._logic(a & b, i.width)

    def _inc(self, i: Instruction) -> None:
        carry = self.flags & CF, self.undefined & CF
        self.write(i.operands[0], i.width, self._plus(self.read(i.operands[0], i.width), 1, 0, i.width))
        self._set(CF=bool(carry[0]))
        self.undefined |= carry[1]

    def _dec(self, i: Instruction) -> None:
        carry = self.flags & CF, self.undefined & CF
        self.write(i.operands[0], i.width, self._minus(self.read(i.operands[0], i.width), 1, 0, i.width))
        self._set(CF=bool(carry[0]))
        self.undefined |= carry[1]

    def _neg(self, i: Instruction) -> None:
        self.write(i.operands[0], i.width, self._minus(0, self.read(i.operands[0], i.width), 0, i.width))

    def _not(self, i: Instruction) -> None:
        self.write(i.operands[0], i.width, ~self.read(i.operands[0], i.width))

    def _shift(self, i: Instruction, name: str) -> None:
        a = self.read(i.operands[0], i.width)
        count = self.read(i.operands[1], 8) % (64 if i.width == 64 else 32)
        if count == 0:
            self.write(i.operands[0], i.width, a)
            return
        if name == "shl":
            result = a << count
            carry = a << count >> i.width & 1
            overflow = (result >> (i.width - 1) & 1) != carry
        else:
            value = signed(a, i.width) if name == "sar" else a
            result = value >> count
            carry = value >> (count - 1) & 1
            overflow = name == "shr" and bool(a >> (i.width - 1))
        self._set(CF=bool(carry), OF=overflow)
        self._set_of_result(result, i.width)
        self._set_undefined(AF)
        if count > 1:
            self._set_undefined(OF)
        if count >= i.width and name != "sar":
            self._set_undefined(CF)
        self.write(i.operands[0], i.width, result)

    def _shl(self, i: Instruction) -> None:
        self._shift(i, "shl")

    def _shr(self, i: Instruction) -> None:
        self._shift(i, "shr")

    def _sar(self, i: Instruction) -> None:
        self._shift(i, "sar")

    def _imul(self, i: Instruction) -> None:
        a, b = self._both(i)
        exact = signed(a, i.width) * signed(b, i.width)
        fits = exact == signed(exact, i.width)
        self._set(CF=not fits, OF=not fits)
        self._set_undefined(SF | ZF | AF | PF)
        self.write(i.operands[0], i.width, exact)

    def _bit(self, i: Instruction, operation: str) -> None:
        where, (kind, *_) = i.operands[0], i.operands[1]
        bit = self.read(i.operands[1], 8 if kind == "imm" else i.width)
        if where[0] == "mem" and kind == "reg":  # a string of bits: the offset may lead out of the operand
            bit = signed(bit, i.width)
            where = ("mem", where[1] + bit // i.width * (i.width // 8))
        bit %= i.width
        a = self.read(where, i.width)
        self._set(CF=bool(a >> bit & 1))
        self._set_undefined(OF | SF | AF | PF)
        result = {"bt": a, "bts": a | 1 << bit, "btr": a & ~(1 << bit), "btc": a ^ 1 << bit}[operation]
        if operation != "bt":
            self.write(where, i.width, result)

    def _bt(self, i: Instruction) -> None:
        self._bit(i, "bt")

    def _bts(self, i: Instruction) -> None:
        self._bit(i, "bts")

    def _btr(self, i: Instruction) -> None:
        self._bit(i, "btr")

    def _btc(self, i: Instruction) -> None:
        self._bit(i, "btc")

    def _mov(self, i: Instruction) -> None:
        self.write(i.operands[0], i.width, self.read(i.operands[1], i.width))

    def _movzx(self, i: Instruction) -> None:
        self.write(i.operands[0], i.width, self.read(i.operands[1], i.source_width))

    def _movsx(self, i: Instruction) -> None:
        self.write(i.operands[0], i.width, signed(self.read(i.operands[1], i.source_width), i.source_width))

    def _lea(self, i: Instruction) -> None:
        destination, base, index, scale, displacement = i.operands
        address = self.registers[base] + self.registers[index] * scale + displacement
        self.write(destination, i.width, address)

    def _xchg(self, i: Instruction) -> None:
        a, b = self._both(i)
        self.write(i.operands[0], i.width, b)
        self.write(i.operands[1], i.width, a)

    def _xadd(self, i: Instruction) -> None:
        a, b = self._both(i)
        total = self._plus(a, b, 0, i.width)
        self.write(i.operands[1], i.width, a)
        self.write(i.operands[0], i.width, total)

    def _cmpxchg(self, i: Instruction) -> None:
        a, b = self._both(i)
        accumulator = self.read(("reg", 0), i.width)
        self._minus(accumulator, a, 0, i.width)
        if accumulator == a:
            self.write(i.operands[0], i.width, b)
        else:
            self.write(("reg", 0), i.width, a)

    def _set_(self, i: Instruction) -> None:
        self.write(i.operands[0], 8, int(self.condition(i.condition)))

    def _cmov(self, i: Instruction) -> None:
        a, b = self._both(i)
        self.write(i.operands[0], i.width, b if self.condition(i.condition) else a)

    def _j(self, i: Instruction) -> None:
        self.skip = self.condition(i.condition)


def signed(value: int, width: int) -> int:
    """The low ``width`` bits in two's complement."""
    half = 1 << (width - 1)
    return (value + half) % 2**width - half
