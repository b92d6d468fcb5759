"""The assembler process: assembly on standard input, an ELF object on standard output.

It runs apart because LLVM ends the process at the first error, and because a guest is not
trusted: the process has little memory and time, and may open no file, so that a macro which
spells ``.incbin`` reads nothing. Run by path, with no import of pleemu: a fast start. The one
argument is its CPU time in seconds.
"""

from __future__ import annotations

import os
import resource
import sys

MEMORY_LIMIT = 2 << 30  # bytes of address space
MESSAGES_LIMIT = 8 << 20  # bytes written to any file: the messages are one
OBJECT_LIMIT = 64 << 20  # bytes

# Exit statuses; 1 is LLVM's own on an error in the source.
EXIT_TOO_LARGE, EXIT_NO_ASSEMBLER = 3, 4

TRIPLE = "x86_64-unknown-linux-gnu"


def limit(kind: int, value: int) -> None:
    """Lower a resource limit, where the system has it and it is not lower already."""
    try:
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(kind, (value, value))
    except (OSError, ValueError):
        pass


def main() -> int:
    """Assemble standard input."""
    # LLVM prints `.print` to standard output: send that to the messages, keep the object apart.
    object_output = os.dup(1)
    os.dup2(2, 1)
    try:
        import llvmlite.binding as llvm

        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        llvm.initialize_native_asmparser()
        target = llvm.Target.from_triple(TRIPLE)
        # codemodel kernel: symbols are in the top 2 GiB, so `mov rdi, offset lock` is a 32S relocation.
        machine = target.create_target_machine(reloc="static", codemodel="kernel")
    except (ImportError, OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return EXIT_NO_ASSEMBLER

    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:02x}" for byte in sys.stdin.buffer.read()
    )
    limit(resource.RLIMIT_AS, MEMORY_LIMIT)
    limit(resource.RLIMIT_CPU, int(sys.argv[1]))
    limit(resource.RLIMIT_FSIZE, MESSAGES_LIMIT)
    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_NOFILE, 0)
    try:
        module = llvm.parse_assembly(f'target triple = "{TRIPLE}"\nmodule asm "{escaped}"')
        data = machine.emit_object(module)
    except MemoryError:
        return EXIT_TOO_LARGE
    if len(data) > OBJECT_LIMIT:
        return EXIT_TOO_LARGE
    with open(object_output, "wb") as output:
        output.write(data)
    return 0


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    sys.exit(status)
