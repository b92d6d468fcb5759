"""The benchmarks' guests in the forms that other x86 emulators take: position-independent, ending by count."""

from __future__ import annotations

import io
import struct
from functools import cache
from pathlib import Path

from attrs import frozen
from elftools.elf.elffile import ELFFile

from pleemu.guest import load
from pleemu.guest.assemble import assemble

GUESTS = Path(__file__).parent / "guests"
COUNT = b"\xb9" + struct.pack("<I", 2_000_000_000)  # mov ecx, 2000000000

# A disk that BIOSes take for one: see boot.S, whose word is filled in with where the guest begins.
FLOPPY_BYTES, GUEST_AT, GUEST_BYTES = 1440 * 1024, 0x10000, 16 * 512
BOOT_WORD = struct.pack("<I", 0x0BADCAFE)

# Where Linux loads the executable; its stub and the guest stand one behind the other.
LOADED_AT, HEAD_BYTES, STUB_BYTES = 0x400000, 0x1000, 0x1000


@frozen
class Guest:
    """A guest's memory and where it begins; both from the same object that pleemu runs."""

    memory: bytes
    entry: int

    def counting(self, rounds: int) -> bytes:
        """Return the memory with the guest's loop going round so often."""
        assert self.memory.count(COUNT) == 1
        return self.memory.replace(COUNT, b"\xb9" + struct.pack("<I", rounds))

    def floppy(self, rounds: int) -> bytes:
        """Return a disk that boots into the guest and switches the machine off when it returns."""
        assert len(self.memory) <= GUEST_BYTES
        sector = assembled("boot.S")
        assert len(sector) == 512
        assert sector.count(BOOT_WORD) == 1
        sector = sector.replace(BOOT_WORD, struct.pack("<I", GUEST_AT + self.entry))
        return (sector + self.counting(rounds)).ljust(FLOPPY_BYTES, b"\0")

    def executable(self, rounds: int, threads: int = 1) -> bytes:
        """Return a static Linux executable, in which so many threads run the guest; it ends when all have returned."""
        stub = assembled("linux.S")
        for word, value in ((BOOT_WORD, LOADED_AT + STUB_BYTES + self.entry), (struct.pack("<I", 0x7EADC0DE), threads)):
            assert stub.count(word) == 1
            stub = stub.replace(word, struct.pack("<I", value))
        content = stub.ljust(STUB_BYTES, b"\0") + self.counting(rounds)
        elf = struct.pack(
            "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, LOADED_AT, 64, 0, 0, 64, 56, 1, 0, 0, 0
        )  # fmt: skip
        stacks = 0x10000  # behind all that: the BSS
        segment = struct.pack(
            "<IIQQQQQQ", 1, 7, HEAD_BYTES, LOADED_AT, LOADED_AT, len(content), len(content) + stacks, 0x1000
        )
        return (elf + segment).ljust(HEAD_BYTES, b"\0") + content


def guest(name: str) -> Guest:
    """Return one of the benchmarks' own guests."""
    image = load(GUESTS / name)
    entry = int(image.index_of.tolist().index(image.entry))
    return Guest(bytes(image.memory), entry)


@cache
def assembled(name: str) -> bytes:
    """Return the bytes of a source that refers to nothing outside itself."""
    elf = ELFFile(io.BytesIO(assemble(GUESTS / name)))
    assert elf.get_section_by_name(".rela.text") is None, f"{name} needs a linker"
    return bytes(elf.get_section_by_name(".text").data())
