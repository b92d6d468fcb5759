"""Integer instructions as SDM 2 describes them, on Python's unbounded integers, one flag at a time."""

from __future__ import annotations

from attrs import define, field

CF, PF, AF, ZF, SF, IF, DF, OF = 0x1, 0x4, 0x10, 0x40, 0x80, 0x200, 0x400, 0x800
ARITHMETIC = CF | PF | AF | ZF | SF | OF

# An operand: ("reg", number), ("high", number) for ah, ch, dh, bh, ("mem", offset), ("imm", value), ("cl",).
Operand = tuple

# Flags that each condition reads (SDM 1 appendix B), by the upper three bits of its code.
READS = (OF, CF, ZF, CF | ZF, SF, PF, SF | OF, ZF | SF | OF)


RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = (("reg", number) for number in range(8))
STRINGS = ("movs", "stos", "lods", "scas", "cmps")


class DivideError(Exception):
    """#DE."""


@define
class Instruction:
    """A mnemonic with operands; ``width`` and ``source_width`` in bits. ``repeat``: rep or repne."""

    name: str
    width: int = 64
    operands: tuple[Operand, ...] = ()
    source_width: int = 0
    condition: int = 0
    repeat: str = ""


@define
class Processor:
    """Registers, flags, memory; ``undefined`` has the flags that the manual leaves open."""

    registers: list[int]
    flags: int
    memory: bytearray
    undefined: int = field(default=0)
    skip: bool = field(default=False)  # a jump over the next instruction was taken
    start: int = field(default=0)  # address of the memory's first byte

    def reads_undefined(self, instruction: Instruction) -> bool:
        """Would the instruction's result depend on an undefined flag?"""
        read = 0
        if instruction.name in ("set", "cmov", "j"):
            read = READS[instruction.condition >> 1]
        elif instruction.name in ("adc", "sbb", "rcl", "rcr", "cmc"):
            read = CF
        elif instruction.name in ("loope", "loopne"):
            read = ZF
        elif instruction.name in ("lahf", "pushf"):
            read = ARITHMETIC
        return bool(read & self.undefined)

    def step(self, instruction: Instruction) -> None:
        """Execute one instruction."""
        if self.skip:
            self.skip = False
            return
        name = "set_" if instruction.name == "set" else instruction.name
        getattr(self, f"_{name}")(instruction)

    def leaves_memory(self, instruction: Instruction) -> bool:
        """Would it reach for memory that is not there, other than by an operand's fixed address?"""
        name, size = instruction.name, instruction.width // 8
        if name in STRINGS:
            count = self.registers[1] if instruction.repeat else 1
            span = max(count - 1, 0) * size
            reached = [6] * (name in ("movs", "lods", "cmps")) + [7] * (name in ("movs", "stos", "scas", "cmps"))
            low = [self.registers[number] - self.start - (span if self.flags & DF else 0) for number in reached]
            return count > 0 and any(not 0 <= place <= len(self.memory) - span - size for place in low)
        if name in ("push", "pop", "pushf", "popf", "leave"):
            place = self.registers[5 if name == "leave" else 4] - self.start
            return not 8 <= place <= len(self.memory) - 8
        if name in ("bt", "bts", "btr", "btc") and instruction.operands[0][0] == "mem":
            where, offset = instruction.operands
            bit = signed(self.read(offset, instruction.width), instruction.width) if offset[0] == "reg" else 0
            return not 0 <= where[1] + bit // instruction.width * size <= len(self.memory) - 8
        return False

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

    def _rotate(self, i: Instruction, name: str) -> None:
        a, width = self.read(i.operands[0], i.width), i.width
        count = self.read(i.operands[1], 8) % (64 if width == 64 else 32)
        places = width if name in ("rol", "ror") else width + 1
        number = a if places == width else a | (self.flags & CF) << width  # CF on top
        left = count % places if name in ("rol", "rcl") else -count % places
        result = (number << left | number >> (places - left)) % 2**places
        if count:
            top, second = result >> (width - 1) & 1, result >> (width - 2) & 1
            carry = {"rol": result & 1, "ror": top}.get(name, result >> width)
            self._set(CF=bool(carry), OF=bool(top ^ (carry if name in ("rol", "rcl") else second)))
            if count > 1:
                self._set_undefined(OF)
        self.write(i.operands[0], width, result)

    def _rol(self, i: Instruction) -> None:
        self._rotate(i, "rol")

    def _ror(self, i: Instruction) -> None:
        self._rotate(i, "ror")

    def _rcl(self, i: Instruction) -> None:
        self._rotate(i, "rcl")

    def _rcr(self, i: Instruction) -> None:
        self._rotate(i, "rcr")

    def _double_shift(self, i: Instruction, is_left: bool) -> None:
        (a, b), width = self._both(i), i.width
        count = self.read(i.operands[2], 8) % (64 if width == 64 else 32)
        if count == 0:
            self.write(i.operands[0], width, a)
            return
        if is_left:
            result = ((a << width | b) << count >> width) % 2**width
            carry = a >> (width - count) & 1
        else:
            result = ((b << width | a) >> count) % 2**width
            carry = a >> (count - 1) & 1
        self._set(CF=bool(carry), OF=(a ^ result) >> (width - 1) == 1)
        self._set_of_result(result, width)
        self._set_undefined(AF if count == 1 else AF | OF)
        self.write(i.operands[0], width, result)

    def _shld(self, i: Instruction) -> None:
        self._double_shift(i, True)

    def _shrd(self, i: Instruction) -> None:
        self._double_shift(i, False)

    def _write_pair(self, width: int, low: int, high: int) -> None:
        if width == 8:
            self.write(RAX, 16, low % 256 | high % 256 << 8)
        else:
            self.write(RAX, width, low)
            self.write(RDX, width, high)

    def _product(self, fits: bool) -> None:
        self._set(CF=not fits, OF=not fits)
        self._set_undefined(SF | ZF | AF | PF)

    def _mul(self, i: Instruction) -> None:
        exact = self.read(RAX, i.width) * self.read(i.operands[0], i.width)
        self._product(exact < 2**i.width)
        self._write_pair(i.width, exact, exact >> i.width)

    def _imul1(self, i: Instruction) -> None:
        exact = signed(self.read(RAX, i.width), i.width) * signed(self.read(i.operands[0], i.width), i.width)
        self._product(exact == signed(exact, i.width))
        self._write_pair(i.width, exact, exact >> i.width)

    def _imul3(self, i: Instruction) -> None:
        exact = signed(self.read(i.operands[1], i.width), i.width) * i.operands[2][1]
        self._product(exact == signed(exact, i.width))
        self.write(i.operands[0], i.width, exact)

    def _dividend(self, width: int) -> int:
        return self.read(RAX, 16) if width == 8 else self.read(RDX, width) << width | self.read(RAX, width)

    def _div(self, i: Instruction) -> None:
        divisor, dividend = self.read(i.operands[0], i.width), self._dividend(i.width)
        if divisor == 0 or dividend // divisor >= 2**i.width:
            raise DivideError
        self._write_pair(i.width, *divmod(dividend, divisor))
        self._set_undefined(ARITHMETIC)

    def _idiv(self, i: Instruction) -> None:
        divisor = signed(self.read(i.operands[0], i.width), i.width)
        dividend = signed(self._dividend(i.width), 2 * i.width)
        if divisor == 0:
            raise DivideError
        quotient = abs(dividend) // abs(divisor) * (1 if (dividend < 0) == (divisor < 0) else -1)
        if quotient != signed(quotient, i.width):
            raise DivideError
        self._write_pair(i.width, quotient, dividend - quotient * divisor)
        self._set_undefined(ARITHMETIC)

    def _scan(self, i: Instruction, name: str) -> None:
        source = self.read(i.operands[1], i.width)
        if name in ("bsf", "bsr"):
            self._set(ZF=source == 0)
            self._set_undefined(ARITHMETIC & ~ZF)
            if source:
                self.write(i.operands[0], i.width, (source & -source if name == "bsf" else source).bit_length() - 1)
            return
        if name == "popcnt":
            self._set(ZF=source == 0, CF=False, PF=False, AF=False, SF=False, OF=False)
            self.write(i.operands[0], i.width, source.bit_count())
            return
        lowest = source & -source or 1 << i.width
        zeros = i.width - source.bit_length() if name == "lzcnt" else lowest.bit_length() - 1
        self._set(CF=source == 0, ZF=zeros == 0)
        self._set_undefined(ARITHMETIC & ~(CF | ZF))
        self.write(i.operands[0], i.width, zeros)

    def _bsf(self, i: Instruction) -> None:
        self._scan(i, "bsf")

    def _bsr(self, i: Instruction) -> None:
        self._scan(i, "bsr")

    def _tzcnt(self, i: Instruction) -> None:
        self._scan(i, "tzcnt")

    def _lzcnt(self, i: Instruction) -> None:
        self._scan(i, "lzcnt")

    def _popcnt(self, i: Instruction) -> None:
        self._scan(i, "popcnt")

    def _bswap(self, i: Instruction) -> None:
        value = self.read(i.operands[0], i.width).to_bytes(i.width // 8, "little")
        self.write(i.operands[0], i.width, int.from_bytes(value, "big"))

    def _sign(self, i: Instruction) -> None:
        self.write(RDX, i.width, -(self.read(RAX, i.width) >> (i.width - 1)))

    def _clc(self, i: Instruction) -> None:
        self._set(CF=False)

    def _stc(self, i: Instruction) -> None:
        self._set(CF=True)

    def _cmc(self, i: Instruction) -> None:
        self._set(CF=not self.flags & CF)

    def _cld(self, i: Instruction) -> None:
        self._set(DF=False)

    def _std(self, i: Instruction) -> None:
        self._set(DF=True)

    def _lahf(self, i: Instruction) -> None:
        self.write(("high", 0), 8, self.flags & (SF | ZF | AF | PF | CF) | 2)

    def _sahf(self, i: Instruction) -> None:
        image = self.read(("high", 0), 8)
        self._set(**{name: bool(image & globals()[name]) for name in ("SF", "ZF", "AF", "PF", "CF")})

    def _string(self, i: Instruction, name: str) -> None:
        step = -(i.width // 8) if self.flags & DF else i.width // 8
        while not i.repeat or self.registers[1]:
            source = ("mem", self.registers[6] - self.start)
            destination = ("mem", self.registers[7] - self.start)
            if name in ("movs", "stos"):
                self.write(destination, i.width, self.read(source if name == "movs" else RAX, i.width))
            elif name == "lods":
                self.write(RAX, i.width, self.read(source, i.width))
            else:
                a = self.read(RAX if name == "scas" else source, i.width)
                self._minus(a, self.read(destination, i.width), 0, i.width)
            if name in ("movs", "lods", "cmps"):
                self.registers[6] = (self.registers[6] + step) % 2**64
            if name != "lods":
                self.registers[7] = (self.registers[7] + step) % 2**64
            if not i.repeat:
                return
            self.registers[1] -= 1
            if name in ("scas", "cmps") and bool(self.flags & ZF) != (i.repeat == "rep"):
                return

    def _movs(self, i: Instruction) -> None:
        self._string(i, "movs")

    def _stos(self, i: Instruction) -> None:
        self._string(i, "stos")

    def _lods(self, i: Instruction) -> None:
        self._string(i, "lods")

    def _scas(self, i: Instruction) -> None:
        self._string(i, "scas")

    def _cmps(self, i: Instruction) -> None:
        self._string(i, "cmps")

    def _cmpxchg_pair(self, i: Instruction) -> None:
        half = i.width // 2
        old = self.read(i.operands[0], i.width)
        equal = old == self.read(RDX, half) << half | self.read(RAX, half)
        if equal:
            self.write(i.operands[0], i.width, self.read(RCX, half) << half | self.read(RBX, half))
        else:
            self._write_pair(half, old, old >> half)
        self._set(ZF=equal)

    def _push_value(self, width: int, value: int) -> None:
        self.registers[4] -= width // 8
        self.write(("mem", self.registers[4] - self.start), width, value)

    def _pop_value(self, width: int) -> int:
        value = self.read(("mem", self.registers[4] - self.start), width)
        self.registers[4] += width // 8
        return value

    def _push(self, i: Instruction) -> None:
        self._push_value(i.width, self.read(i.operands[0], i.width))

    def _pop(self, i: Instruction) -> None:
        self.write(i.operands[0], i.width, self._pop_value(i.width))

    def _pushf(self, i: Instruction) -> None:
        self._push_value(64, self.flags | 2)

    def _popf(self, i: Instruction) -> None:
        self.flags, self.undefined = self._pop_value(64) & (ARITHMETIC | IF | DF), 0

    def _leave(self, i: Instruction) -> None:
        self.registers[4] = self.registers[5]
        self.registers[5] = self._pop_value(64)

    def _jrcxz(self, i: Instruction) -> None:
        self.skip = self.read(RCX, i.width) == 0

    def _loop_(self, i: Instruction, wanted: bool | None) -> None:
        self.write(RCX, 64, self.registers[1] - 1)
        self.skip = self.registers[1] != 0 and wanted in (None, bool(self.flags & ZF))

    def _loop(self, i: Instruction) -> None:
        self._loop_(i, None)

    def _loope(self, i: Instruction) -> None:
        self._loop_(i, True)

    def _loopne(self, i: Instruction) -> None:
        self._loop_(i, False)

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
