"""A local APIC in x2APIC mode with sets instead of bits, and whom an ICR write is for.

From the SDM, volume 3: 10.8.3 (priorities), 10.8.4 and 10.8.5 (acceptance, EOI), 10.12.9 and
10.12.10 (ICR and logical IDs in x2APIC mode); lowest priority as KVM v5.6 hashes vectors.
"""

from __future__ import annotations

from attrs import define, field

READABLE = {0x802, 0x803, 0x808, 0x80A, 0x80D, 0x80F, 0x830, *range(0x810, 0x828)}
ALLOWED = {  # bits that may be 1, of what can be written
    0x808: 0xFF,
    0x80B: 0,
    0x80F: 0x1FF,
    0x830: 0xFFFFFFFF_000CCFFF,
    0x83F: 0xFF,
}
MODES = ("fixed", "lowest", "SMI", "reserved", "NMI", "INIT", "SIPI", "ExtINT")


@define
class Apic:
    """One vCPU's registers."""

    apic_id: int
    requested: set[int] = field(factory=set)
    in_service: set[int] = field(factory=set)
    posted: set[int] = field(factory=set)
    tpr: int = 0
    svr: int = 0x1FF
    icr: int = 0

    @property
    def ppr(self) -> int:
        """Processor priority."""
        served = max(self.in_service, default=0) // 16
        task = self.tpr // 16
        return self.tpr if task >= served else served * 16

    @property
    def next_vector(self) -> int | None:
        """What the processor would take now."""
        best = max(self.requested, default=None)
        return best if best is not None and best // 16 > self.ppr // 16 else None

    def take(self) -> int | None:
        """The processor takes an interrupt, if there is one for it."""
        vector = self.next_vector
        if vector is not None:
            self.requested.remove(vector)
            self.in_service.add(vector)
        return vector

    def notify(self) -> None:
        """What has been posted is requested."""
        self.requested |= self.posted
        self.posted = set()

    def write(self, number: int, value: int) -> bool:
        """WRMSR; False: refused, and nothing has changed."""
        if number not in ALLOWED or value & ~ALLOWED[number] or (number == 0x83F and value < 16):
            return False
        if number == 0x808:
            self.tpr = value
        elif number == 0x80F:
            self.svr = value
        elif number == 0x830:
            self.icr = value
        elif number == 0x83F:
            self.requested.add(value)
        elif self.in_service:  # EOI
            self.in_service.remove(max(self.in_service))
        return True

    def read(self, number: int) -> int | None:
        """RDMSR; None: refused."""
        if number not in READABLE:
            return None
        known = {0x802: self.apic_id, 0x803: 0x50014, 0x808: self.tpr, 0x80A: self.ppr, 0x80F: self.svr}
        known |= {0x830: self.icr, 0x80D: self.apic_id // 16 * 65536 + 2 ** (self.apic_id % 16)}
        if number in known:
            return known[number]
        place, row = (number - 0x810) % 8, (number - 0x810) // 8
        vectors = (self.in_service, set[int](), self.requested)[row]
        return sum(2 ** (vector % 32) for vector in vectors if vector // 32 == place)


def bits(value: int, low: int, high: int) -> int:
    """Bits ``high`` to ``low`` of a number."""
    return value // 2**low % 2 ** (high - low + 1)


def named(icr: int, sender: int, count: int) -> list[int]:
    """APIC IDs that an ICR value names, of ``count`` from 0."""
    short, destination = bits(icr, 18, 19), bits(icr, 32, 63)
    everyone = list(range(count))
    if short:
        return {1: [sender], 2: everyone, 3: [one for one in everyone if one != sender]}[short]
    if destination == 0xFFFFFFFF:
        return everyone
    if bits(icr, 11, 11):
        cluster, members = divmod(destination, 65536)
        return [
            cluster * 16 + place for place in range(16) if bits(members, place, place) and cluster * 16 + place < count
        ]
    return [destination] if destination < count else []


def is_sendable(icr: int) -> bool:
    """Is it a kind of IPI that pleemu models?"""
    return MODES[bits(icr, 8, 10)] in ("fixed", "lowest") and not bits(icr, 15, 15) and bits(icr, 0, 7) >= 16


def receivers(icr: int, sender: int, enabled: list[bool]) -> list[int]:
    """APIC IDs that get the vector."""
    able = [one for one in named(icr, sender, len(enabled)) if enabled[one]]
    if MODES[bits(icr, 8, 10)] == "lowest" and able:
        return [able[bits(icr, 0, 7) % len(able)]]
    return able
