"""The benchmarks' guests as bytes that any x86 emulator can run: position-independent, ending by count."""

from __future__ import annotations

import struct
from pathlib import Path

from attrs import frozen

from pleemu.guest import load

GUESTS = Path(__file__).parent / "guests"
COUNT = b"\xb9" + struct.pack("<I", 2_000_000_000)  # mov ecx, 2000000000
EXIT = bytes.fromhex("b83c000000 31ff 0f05")  # mov eax, 60; xor edi, edi; syscall


@frozen
class Guest:
    """A guest's memory and where it begins; both from the same object that pleemu runs."""

    memory: bytes
    entry: int
    instructions_a_round: int

    def counting(self, rounds: int) -> bytes:
        """Return the memory with the guest's loop going round so often."""
        assert self.memory.count(COUNT) == 1
        return self.memory.replace(COUNT, b"\xb9" + struct.pack("<I", rounds))

    def executable(self, rounds: int) -> bytes:
        """Return a static Linux executable of the guest, which exits when it returns."""
        base, head = 0x400000, 0x1000
        memory = self.counting(rounds)
        stub = len(memory)
        call = b"\xe8" + struct.pack("<i", self.entry - (stub + 5))
        content = memory + call + EXIT
        elf = struct.pack(
            "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, base + stub, 64, 0, 0, 64, 56, 1, 0, 0, 0
        )  # fmt: skip
        segment = struct.pack("<IIQQQQQQ", 1, 7, head, base, base, len(content), len(content), 0x1000)
        return (elf + segment).ljust(head, b"\0") + content


def guest(name: str, instructions_a_round: int) -> Guest:
    """Return one of the benchmarks' own guests."""
    image = load(GUESTS / name)
    entry = int(image.index_of.tolist().index(image.entry))
    return Guest(bytes(image.memory), entry, instructions_a_round)
