"""A policy of the user's own: a Python file, or functions, in place of some of KVM's rules.

    BASED_ON = "kvm-5.6"        the generation whose search it changes; one named beside it, as in
                                kvm-6.19+./mine.py, comes first
    REPLACES = ("not-ready",)   rules of that generation that fall away: `refuses` is asked where the first of them
                                stood. Without REPLACES it is asked before all rules; "all" leaves but `itself`
    COMPILED = False            the functions are plain Python, and stay so

The functions are in HOOKS; at least one of DECIDING must be there. Here they are read and checked, without numba;
`machine/own.py` compiles them. The file is a program: it may do whatever its user may, so a scenario's file cannot
name one, only the command line and Python can.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import itertools
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from attrs import field, frozen

from pleemu.behaviour import behaviour_of
from pleemu.errors import ScenarioError, nearest
from pleemu.generations import ALIASES, GENERATIONS, VANILLA, Meaningless, Search

SUFFIX = ".py"

# What may be defined, in the order of `hypervisor.own`'s numbers, and what it is called with.
HOOKS: Mapping[str, tuple[str, ...]] = {
    "refuses": ("me", "candidate"),
    "starts_at": ("me",),
    "on_entry": ("vcpu",),
    "on_sched_in": ("vcpu",),
    "on_sched_out": ("vcpu",),
    "on_ipi": ("sender", "receiver"),
    "on_eoi": ("vcpu", "vector"),
    "on_yield": ("me", "candidate", "answer"),
}
DECIDING = ("refuses", "starts_at")  # they return a number; what the others return counts for nothing

_CONSTANTS = ("BASED_ON", "REPLACES", "COMPILED")


class PolicyError(ScenarioError):
    """A policy of the user's own that cannot be read, does not compile, or has failed in a run."""


@frozen(kw_only=True)
class OwnPolicy:
    """What a file or some functions say, checked."""

    name: str  # as the user spells it
    path: str  # absolute; empty if the functions come from no file
    digest: str  # SHA-256 of what it consists of
    summary: str = field(eq=False)
    based_on: str = VANILLA
    replaces: tuple[str, ...] = ()  # ("all",): every rule
    compiled: bool = True
    functions: Mapping[str, Callable[..., Any]] = field(eq=False)  # plain Python, by the names of HOOKS
    source: str = field(default="", eq=False, repr=False)  # of the whole file
    behaviour: str | None = field(default=None, eq=False, repr=False)  # as it was when they were read

    def identity(self) -> dict[str, str]:
        """Return what tells it from others, for a run's JSON."""
        return {"path": self.path, "digest": self.digest}

    @property
    def file(self) -> str:
        """The file as errors name it; empty if the functions come from none."""
        return self.name if self.name.endswith(SUFFIX) else self.path

    def check_unchanged(self) -> None:
        """Refuse functions that read other values by now than when they were given: which did the user mean?"""
        if self.behaviour is not None and behaviour_of(self.functions) != self.behaviour:
            raise PolicyError(f"{self.name}: a value that it reads has changed since it was given; give it again")

    def apply(self, search: Search) -> Search:
        """Return a generation's search with this policy in it."""
        import attrs  # the function; `frozen` and `field` come from it, too

        if "refuses" in self.functions:
            search = attrs.evolve(
                search,
                rules=self._among(search.rules),
                relaxed_rules=self._among(search.relaxed_rules) if search.relaxed_rules else (),
            )
        # The sets of senders behind `ipi_from_me` are kept as Strict Boost keeps them, without its limits.
        return attrs.evolve(search, strict_boost=search.strict_boost or "ideal")

    def _among(self, rules: tuple[str, ...]) -> tuple[str, ...]:
        if self.replaces == ("all",):
            return ("itself", "own")
        places = [place for place, rule in enumerate(rules) if rule in self.replaces]
        if self.replaces and not places:
            wanted = " or ".join(repr(rule) for rule in self.replaces)
            raise Meaningless(f"lacks the rule {wanted} that it replaces")
        place = places[0] if places else 0
        return (*rules[:place], "own", *(rule for rule in rules[place:] if rule not in self.replaces))


def is_own(part: str) -> bool:
    """Whether a part of a policy's name is a file or registered functions."""
    return part.endswith(SUFFIX) or part in _registered


def of_functions(name: str) -> bool:
    """Whether a policy is made of functions that were given in Python, which only this process knows by that name."""
    return any(part.strip() in _registered for part in name.split("+"))


def own_policy(part: str) -> OwnPolicy:
    """Return the policy that such a part names, or say what is wrong with its file."""
    if part in _registered:
        return _registered[part]
    path = Path(part)
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        problem = "no such file" if isinstance(error, FileNotFoundError) else getattr(error, "strerror", str(error))
        hint = f"; `pleemu new policy {path.stem}` writes one" if isinstance(error, FileNotFoundError) else ""
        raise PolicyError(f"{part}: {problem}{hint}") from None
    digest = hashlib.sha256(data).hexdigest()
    key = (part, str(path.absolute()), digest)
    if key not in _read:
        _read[key] = _read_file(part, path, data, digest)
    return _read[key]


_read: dict[tuple[str, str, str], OwnPolicy] = {}
_registered: dict[str, OwnPolicy] = {}


def spelled(given: Any) -> str:
    """Return the name of a policy given as text, path, module, function, class or mapping of functions."""
    if isinstance(given, str):
        return given
    if isinstance(given, Path):
        return str(given)
    if isinstance(given, ModuleType) and getattr(given, "__file__", None):
        return str(given.__file__)
    if callable(getattr(given, "py_func", given)) and not isinstance(given, type):
        names = {getattr(given, "py_func", given).__name__: given}
        return _register(next(iter(names)), names if set(names) & set(HOOKS) else {"refuses": given})
    if isinstance(given, Mapping):
        return _register("functions", given)
    if isinstance(given, type | ModuleType):
        return _register(given.__name__, vars(given))
    raise PolicyError(f"policy: {given!r} is not a policy; give a name, a .py file, a module or a function")


def spelled_all(given: Any) -> str:
    """Return the names of one policy or of several, separated by commas."""
    several = isinstance(given, Iterable) and not isinstance(given, str | Mapping | type)
    names = ",".join(map(spelled, given)) if several else spelled(given)
    if not names.strip():
        raise PolicyError("policies: there is none; name one or more, or leave them out for the usual ones")
    return names


def _register(name: str, given: Mapping[str, Any]) -> str:
    named = {key: value for key, value in given.items() if isinstance(key, str)}
    namespace = {key: getattr(value, "__func__", value) for key, value in named.items()}  # staticmethods of a class
    told = {key: namespace[key] for key in {*HOOKS, *_CONSTANTS} & set(namespace)}
    digest = behaviour_of(told) or hashlib.sha256(f"given as number {next(_untold)}".encode()).hexdigest()
    path, source = _file_of(told)
    spelling = f"{name}@{digest[:8]}"
    _registered[spelling] = _checked(spelling, path, digest, namespace, source)
    return spelling


_untold = itertools.count()  # functions whose behaviour cannot be told are new ones whenever they are given


def _file_of(told: Mapping[str, Any]) -> tuple[str, str]:
    """Return the file that functions stand in and what it says; nothing if there is none."""
    functions = (getattr(told[key], "py_func", told[key]) for key in sorted(told))
    paths = [inspect.getsourcefile(one) for one in functions if inspect.isfunction(one)]
    path = next((one for one in reversed(paths) if one), "")
    if not path or not Path(path).is_file():
        return path, ""
    return str(Path(path).absolute()), Path(path).read_text(encoding="utf-8", errors="replace")


def _read_file(part: str, path: Path, data: bytes, digest: str) -> OwnPolicy:
    namespace = run_source(part, data)
    source = data.decode("utf-8", errors="replace")
    return _checked(part, str(path.absolute()), digest, namespace, source)


def run_source(part: str, data: bytes | str) -> dict[str, Any]:
    """Run a policy's file and return what it defines; ``part`` is how errors name it."""
    namespace: dict[str, Any] = {"__name__": "own_policy", "__file__": part}
    try:
        exec(compile(data, part, "exec"), namespace)
    except SyntaxError as error:
        raise PolicyError(f"{part}:{error.lineno or 1}: {error.msg}") from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PolicyError(told(part, part, error)) from None
    return namespace


def told(name: str, file: str, error: BaseException) -> str:
    """Return an exception of the user's code as one line, with the line of the file that it comes from."""
    frames = traceback.extract_tb(error.__traceback__)
    line = next((frame.lineno for frame in reversed(frames) if file and frame.filename == file), None)
    what = " ".join(str(error).split())
    return f"{file or name}{f':{line}' if line else ''}: {type(error).__name__}{f': {what}' if what else ''}"


def _checked(name: str, path: str, digest: str, namespace: Mapping[str, Any], source: str) -> OwnPolicy:
    """Check constants, names and signatures."""
    lines = _lines(source) if path else {}

    def wrong(what: str, problem: str) -> PolicyError:
        return PolicyError(f"{name}:{lines.get(what, 1)}: {problem}" if path else f"{name}: {problem}")

    functions = {}
    for key, value in namespace.items():
        plain = getattr(value, "py_func", value)
        if key.startswith("on_") and inspect.isfunction(plain) and key not in HOOKS:
            raise wrong(key, f"there is no event {key!r}{nearest(key, HOOKS)}")
        if key not in HOOKS:
            continue
        if not inspect.isfunction(plain):
            raise wrong(key, f"{key} is not a function; write def {key}({', '.join(HOOKS[key])})")
        if not _takes(plain, len(HOOKS[key])):
            raise wrong(key, f"{key}{inspect.signature(plain)} must take ({', '.join(HOOKS[key])})")
        functions[key] = value
    if not any(one in functions for one in DECIDING):
        raise PolicyError(
            f"{name}: defines neither refuses(me, candidate) nor starts_at(me); `pleemu new policy NAME` shows a policy"
        )
    based_on = namespace.get("BASED_ON", VANILLA)
    known = {**{one: one for one in GENERATIONS}, **ALIASES}
    if based_on not in known:
        problem = f"BASED_ON = {based_on!r} is no generation of KVM"
        raise wrong("BASED_ON", problem + (nearest(based_on, known) if isinstance(based_on, str) else ""))
    replaces = namespace.get("REPLACES", ())
    replaces = (replaces,) if isinstance(replaces, str) else replaces
    rules = sorted({rule for one in GENERATIONS.values() for rule in one.search.rules} | _CURES_RULES)
    if not isinstance(replaces, tuple | list):
        raise wrong("REPLACES", f"REPLACES = {replaces!r} is not a tuple of rules")
    for rule in replaces:
        if rule != "all" and rule not in rules:
            hint = nearest(rule, [*rules, "all"]) if isinstance(rule, str) else ""
            raise wrong("REPLACES", f"REPLACES has {rule!r}, which is no rule{hint}")
    compiled = namespace.get("COMPILED", True)
    if not isinstance(compiled, bool):
        raise wrong("COMPILED", f"COMPILED = {compiled!r} is neither True nor False")
    if replaces and "refuses" not in functions:
        raise wrong("REPLACES", "REPLACES needs refuses(me, candidate), which takes the place of the rules")
    return OwnPolicy(
        name=name, path=path, digest=digest, summary=_summary(namespace), based_on=known[based_on],
        replaces=("all",) if "all" in replaces else tuple(replaces), compiled=compiled, functions=functions,
        source=source, behaviour=behaviour_of(functions),
    )  # fmt: skip


_CURES_RULES = {"no-ipi", "user-mode-no-ipi", "not-good"}  # which only cures put into a list


def _takes(function: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    return True


def _summary(namespace: Mapping[str, Any]) -> str:
    lines = [line.strip() for line in str(namespace.get("__doc__") or "").splitlines()]
    return next((line for line in lines if line), "a policy of your own")


def _lines(source: str) -> dict[str, int]:
    """Return the line at which each name of a file's top level is defined."""
    lines = {}
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return {}
    for node in body:
        if isinstance(node, ast.FunctionDef):
            lines[node.name] = node.lineno
        elif isinstance(node, ast.Assign):
            lines.update({target.id: node.lineno for target in node.targets if isinstance(target, ast.Name)})
    return lines
