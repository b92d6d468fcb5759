"""Binary trace.dat, version 6: what trace-cmd and KernelShark open (trace-cmd.dat.v6(5), ring_buffer.h).

The file wants each pCPU's pages in one piece, events come from all pCPUs in turn. So pages go to a spool on
disk as they fill, each with the place of the page before it of the same pCPU, and at the end each pCPU's chain is
copied, last page first. Only one page for each pCPU is ever in memory.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterable, Sequence
from typing import BinaryIO

from attrs import define, field

from pleemu.trace.stream import Happening
from pleemu.trace.threads import Threads
from pleemu.trace.tracepoints import SIZES, Tracepoint

PAGE = 4096
_HEADER = struct.Struct("<QQ")  # of a page: time of its first event, bytes in use
_COMMON = struct.Struct("<HBBi")  # of an event: type, flags, preempt count, pid
_CODES = {"unsigned int": "I", "int": "i", "unsigned long": "Q", "long": "q", "u64": "Q", "char": "16s"}
_LINK = struct.Struct("<q")  # of the spool
_MOST_DELTA_NS = 2**27 - 1  # what an event's header holds
_FIRST_ID = 300  # of event types; the kernel's own begin above its static ones
_OPTION_CPUCOUNT = 8

_HEADER_PAGE = """\
\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;
\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;
\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;
\tfield: char data;\toffset:16;\tsize:4080;\tsigned:1;
"""
_HEADER_EVENT = """\
# compressed entry header
\ttype_len    :    5 bits
\ttime_delta  :   27 bits
\tarray       :   32 bits

\tpadding     : type == 29
\ttime_extend : type == 30
\ttime_stamp : type == 31
\tdata max type_len  == 28
"""
_COMMON_FIELDS = """\
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;
"""


class Record:
    """How one tracepoint's records lie in memory, as a C compiler would lay them out."""

    def __init__(self, number: int, point: Tracepoint) -> None:
        self.number = number
        self.point = point
        self._names = [one.name for one in point.fields]
        self.offsets: list[int] = []
        layout = struct.calcsize(_COMMON.format)
        form = "<"
        for one in point.fields:
            code = _CODES[one.type]
            alignment = 1 if one.type == "char" else SIZES[one.type]
            padding = -layout % alignment
            form += f"{padding}x{code}"
            self.offsets.append(layout + padding)
            layout += padding + SIZES[one.type]
        self._body = struct.Struct(form + f"{-layout % 4}x")
        self._texts = [place for place, one in enumerate(point.fields) if one.type == "char"]

    def pack(self, pid: int, happening: Happening) -> bytes:
        """Return a record as it stands in the ring buffer."""
        values = [happening.values[name] for name in self._names]
        for place in self._texts:
            values[place] = values[place].encode("ascii")[:15]
        return _COMMON.pack(self.number, 0, 0, pid) + self._body.pack(*values)

    def format_file(self) -> bytes:
        """Return what /sys/kernel/tracing/events/SYSTEM/EVENT/format would say."""
        lines = [
            f"\tfield:{one.type} {one.name}{'[16]' if one.type == 'char' else ''};"
            f"\toffset:{offset};\tsize:{SIZES[one.type]};\tsigned:{int(one.signed or one.type == 'char')};\n"
            for one, offset in zip(self.point.fields, self.offsets, strict=True)
        ]
        head = f"name: {self.point.name}\nID: {self.number}\nformat:\n{_COMMON_FIELDS}\n"
        return f"{head}{''.join(lines)}\nprint fmt: {self.point.print_fmt()}\n".encode("ascii")


@define
class _Cpu:
    """The page that a pCPU is filling."""

    began_ns: int = 0
    latest_ns: int = 0
    data: bytearray = field(factory=bytearray)
    latest_page: int = -1  # in the spool
    pages: int = 0


class TraceDat:
    """Writes a trace.dat; the file must be one that can be searched in."""

    def __init__(self, file: BinaryIO, threads: Threads, points: Sequence[Tracepoint], pcpus: int) -> None:
        self._file = file
        self._threads = threads
        self._records = {id(point): Record(_FIRST_ID + number, point) for number, point in enumerate(points)}
        self._cpus = [_Cpu() for _ in range(pcpus)]
        self._spool = tempfile.TemporaryFile()  # noqa: SIM115  until close()
        self._spooled = 0

    def write(self, happenings: Iterable[Happening]) -> None:
        """Take some happenings."""
        for one in happenings:
            record = self._records[id(one.point)].pack(self._threads.pids[one.thread], one)
            self._append(self._cpus[one.pcpu], one.time_ns, record)

    def close(self) -> None:
        """Write the file."""
        try:
            for cpu in self._cpus:
                if cpu.data:
                    self._flush(cpu)
            self._write_file()
        finally:
            self._spool.close()

    def _append(self, cpu: _Cpu, time_ns: int, record: bytes) -> None:
        delta = time_ns - cpu.latest_ns
        room = PAGE - _HEADER.size - len(cpu.data)
        if not cpu.data or not 0 <= delta <= _MOST_DELTA_NS or len(record) + 4 > room:
            if cpu.data:
                self._flush(cpu)
            cpu.began_ns, delta = time_ns, 0
        cpu.data += struct.pack("<I", len(record) // 4 | delta << 5)
        cpu.data += record
        cpu.latest_ns = time_ns

    def _flush(self, cpu: _Cpu) -> None:
        self._spool.seek(self._spooled * (PAGE + _LINK.size))
        page = _HEADER.pack(cpu.began_ns, len(cpu.data)) + cpu.data
        self._spool.write(_LINK.pack(cpu.latest_page) + page.ljust(PAGE, b"\0"))
        cpu.latest_page = self._spooled
        cpu.pages += 1
        cpu.data = bytearray()
        self._spooled += 1

    def _write_file(self) -> None:
        file, cpus = self._file, self._cpus
        head = b"\x17\x08\x44tracing6\0" + struct.pack("<BBI", 0, 8, PAGE)
        head += b"header_page\0" + _sized(_HEADER_PAGE.encode())
        head += b"header_event\0" + _sized(_HEADER_EVENT.encode())
        head += self._formats()
        head += struct.pack("<II", 0, 0)  # no kallsyms, no printk formats
        head += _sized(self._comms())
        head += struct.pack("<I", len(cpus))
        head += b"options  \0" + struct.pack("<HII", _OPTION_CPUCOUNT, 4, len(cpus)) + struct.pack("<H", 0)
        head += b"flyrecord\0"
        place = -(-(len(head) + 16 * len(cpus)) // PAGE) * PAGE
        for cpu in cpus:
            head += struct.pack("<QQ", place, cpu.pages * PAGE)
            place += cpu.pages * PAGE
        file.write(head.ljust(-(-len(head) // PAGE) * PAGE, b"\0"))
        end = file.tell()
        for cpu in cpus:
            end += cpu.pages * PAGE
            self._copy_chain(cpu, end)
        file.seek(end)

    def _copy_chain(self, cpu: _Cpu, end: int) -> None:
        page = cpu.latest_page
        while page >= 0:
            self._spool.seek(page * (PAGE + _LINK.size))
            block = self._spool.read(PAGE + _LINK.size)
            end -= PAGE
            self._file.seek(end)
            self._file.write(block[_LINK.size :])
            (page,) = _LINK.unpack_from(block)

    def _formats(self) -> bytes:
        """Return the formats of events: none of ftrace's own, and ours by system."""
        systems: dict[str, list[Record]] = {}
        for record in self._records.values():
            systems.setdefault(record.point.system, []).append(record)
        out = struct.pack("<II", 0, len(systems))
        for system, records in systems.items():
            out += system.encode() + b"\0" + struct.pack("<I", len(records))
            out += b"".join(_sized(record.format_file()) for record in records)
        return out

    def _comms(self) -> bytes:
        threads = self._threads
        return "".join(f"{threads.pids[one]} {threads.comm(one, 0)}\n" for one in range(len(threads))).encode("ascii")


def _sized(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data
