"""What a scenario may say about the C compiler: a name from a short list, and flags that only translate.

A scenario may come from anywhere, and it must not be able to run a program of its own: so a compiler
is named and never a path, and flags that load code, call other programs or write files are refused.
"""

from __future__ import annotations

import re
import shlex

from pleemu.errors import ScenarioError

AUTO = "auto"
ZIGLANG = "ziglang"

_NAME = re.compile(rf"{AUTO}|{ZIGLANG}|cc|(x86_64-linux-gnu-)?(gcc|clang)(-[0-9]+(\.[0-9]+)*)?")
_FLAG = re.compile(
    r"-O[0-3sgz]?|-Og|-Ofast"
    r"|-std=[a-z0-9:+]+|-ansi|-pedantic|-w"
    r"|-[DU][A-Za-z_]\w*(\([^)]*\))?(=.*)?|-I.+"
    r"|-W(?![alp],)[a-z][\w+=-]*"
    r"|-g[0-9a-z-]*"
    r"|-m[a-z0-9][\w.=+,-]*"
    r"|-f[a-z][\w+-]*(=[\w+-]+)?",
    re.DOTALL,
)
_FORBIDDEN = re.compile(
    r"-f(plugin|pass-plugin|dump|profile|auto-profile|branch-probabilities|opt-info|save|stack-usage|callgraph|time-trace"
    r"|modul|crash|compare-debug|use-ld|lto|whole-program|pi[ce]|diagnostics|syntax-only|working|debug-prefix|record)|-mllvm|-gz"
)


def check_compiler(name: str) -> None:
    """Refuse what is not the name of a C compiler."""
    if not _NAME.fullmatch(name):
        raise ScenarioError(
            f"{name!r} is not a compiler that pleemu knows; use auto, cc, gcc, clang, x86_64-linux-gnu-gcc, "
            "one of these with a version as in gcc-12, or ziglang"
        )


def check_flags(flags: str) -> None:
    """Refuse flags that do more than translate."""
    for flag in split_flags(flags):
        if not _FLAG.fullmatch(flag) or _FORBIDDEN.match(flag):
            raise ScenarioError(
                f"compiler flag {flag!r} is not possible here; "
                "use -O..., -D..., -U..., -I..., -std=..., -W..., -g..., -m... or -f... in one word"
            )


def split_flags(flags: str) -> list[str]:
    """Return flags as a shell would split them."""
    try:
        return shlex.split(flags)
    except ValueError as error:
        raise ScenarioError(f"{flags!r} cannot be split into flags: {str(error).lower()}") from None
