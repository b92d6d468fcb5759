"""The commands. Each says what it takes, calls the room that does it, and prints."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import attrs
from cyclopts import App, CoercionError, CycloptsError, Parameter, Token

from pleemu.errors import PleemuError
from pleemu.fields import parse_integer, show
from pleemu.overrides import Overrides, parse_settings, parse_time_ms, split_dotted
from pleemu.report.help_text import compare_help, conform_help, disasm_help, explain_help, run_help
from pleemu.reproduce.help_text import reproduce_help

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pleemu.experiment.in_hand import Result
    from pleemu.policy import Policy
    from pleemu.scenario import Scenario

JOBS_LIMIT = 1024
EXIT_OK, EXIT_DIFFERENT, EXIT_USER_ERROR, EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 0, 1, 2, 130, 141

app = App(
    name="pleemu",
    help="Pause-loop exiting, cycle by cycle: guests that spin, KVM that boosts, a scheduler that may refuse.",
    help_format="plaintext",
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,
    result_action="return_value",
)


def _whole_number(_: type, tokens: Sequence[Token]) -> int:
    """Read an integer as fields are read: cyclopts would make 2 of 1.5."""
    (token,) = tokens
    value = parse_integer(token.value)
    if not isinstance(value, int):
        raise CoercionError(msg=f"{show(value)} is not a whole number; use one, as in 12", token=token)
    return value


Whole = Annotated[int, Parameter(converter=_whole_number)]  # every integer that a command takes


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Changes:
    """What all runs take; each is a shorthand of a scenario field."""

    seed: Annotated[Whole | None, Parameter(help="Seed of all random choices.")] = None
    duration: Annotated[str | None, Parameter(help="Time to emulate: 50ms, 2s, 300us; a bare number is ms.")] = None
    vms: Annotated[Whole | None, Parameter(help="Number of VMs; more than there are repeat the given ones.")] = None
    vcpus: Annotated[Whole | None, Parameter(help="vCPUs of every VM.")] = None
    pcpus: Annotated[Whole | None, Parameter(help="Physical CPUs.")] = None
    cc: Annotated[
        str | None, Parameter(help="C compiler: cc, gcc, gcc-12, clang, ziglang; by default what is found.")
    ] = None
    cflags: Annotated[
        str | None,
        Parameter(allow_leading_hyphen=True, help="Flags for the C compiler, in one word: --cflags='-O0 -DN=9'."),
    ] = None
    settings: Annotated[
        tuple[str, ...],
        Parameter(
            name="--set",
            negative=(),
            show_default=False,
            help="FIELD=VALUE, as --FIELD VALUE; all fields are listed below.",
        ),
    ] = ()
    json: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Print JSON only; the keys are listed below.")
    ] = False

    skip: Annotated[
        bool,
        Parameter(
            negative="--no-skip",
            name="--skip",
            show_default=False,
            help="Add up the turns of loops that repeat themselves, or execute each: the same run, but slower.",
        ),
    ] = True

    def apply(self, scenario: Scenario, *, policy: str | None = None) -> Scenario:
        """Return the scenario with these changes."""
        return self._overrides(policy).apply(scenario)

    def arguments(self) -> list[str]:
        """Return these changes as command-line arguments again; --no-skip changes no result."""
        return self._overrides().arguments()

    def _overrides(self, policy: str | None = None) -> Overrides:
        return Overrides(
            policy=policy,
            seed=self.seed,
            duration=self.duration,
            vms=self.vms,
            vcpus=self.vcpus,
            pcpus=self.pcpus,
            cc=self.cc,
            cflags=self.cflags,
            fields=parse_settings(self.settings),
        )


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Pictures:
    """What shows a run to the eye."""

    report: Annotated[
        Path | None, Parameter(help="Write a page for a browser, with a timeline and every decision: out.html.")
    ] = None
    plot: Annotated[Path | None, Parameter(help="Draw a figure to this file: .png, .svg, .pdf.")] = None

    def check(self, runs: Iterable[tuple[Scenario, Policy]], *, trace: Path | None = None) -> None:
        """Refuse, before a long run, what could not be written, and what would overwrite something."""
        from pleemu.experiment.outputs import check_outputs

        check_outputs({"--trace": trace, "--report": self.report, "--plot": self.plot}, runs)
        if self.plot is not None:
            from pleemu.report.figures import check_plot

            check_plot(self.plot)

    def write(self, cases: Sequence[tuple[str, Result]], command: str, explain: str, what: str = "policy") -> None:
        """Write all that is asked for."""
        from pleemu.experiment.in_hand import write_pages, write_plot
        from pleemu.report.page import Repeat
        from pleemu.report.progress import progress_bar

        with progress_bar() as show:
            if self.report is not None:
                write_pages(self.report, cases, Repeat(command=command, explain=explain), what=what, progress=show)
            if self.plot is not None:
                write_plot(self.plot, cases, show)


_NO_CHANGES = Changes()
_NO_PICTURES = Pictures()
_Scenario = Annotated[
    str, Parameter(help="A shipped scenario, a .toml file, or straight a guest: .S, .c, .o, .a, a static executable.")
]
_More = Annotated[str, Parameter(show=False, help="More files of the same guest, to be linked.")]


@app.command(help_epilogue=run_help())
def run(
    scenario: _Scenario,
    /,
    *more: _More,
    policy: Annotated[
        str | None, Parameter(help="Yield policy; parts are joined with +; ./mine.py is one of your own.")
    ] = None,
    trace: Annotated[
        Path | None,
        Parameter(help="Write all events to this file: .txt, .ftrace, .dat (trace-cmd), .pftrace, .parquet."),
    ] = None,
    format: Annotated[
        str | None,
        Parameter(help="Format of the trace: perf, ftrace, trace-cmd, perfetto, parquet; by default by its suffix."),
    ] = None,
    pictures: Pictures = _NO_PICTURES,
    changes: Changes = _NO_CHANGES,
) -> None:
    """Run a scenario once and report exits, continuous runs, directed yields and shares."""
    from pleemu.catalogue import find
    from pleemu.experiment.single import run_once
    from pleemu.policy import policy as policy_named
    from pleemu.report.json_form import run_json
    from pleemu.report.progress import progress_bar
    from pleemu.report.run_report import run_report, schedule_line

    chosen = changes.apply(find(scenario, *more), policy=policy)
    pictures.check([(chosen, policy_named(chosen.policy))], trace=trace)
    _prepare()
    with progress_bar() as show:
        on_progress = None if show is None else lambda done, total: show(chosen.name, done, total)
        result = run_once(chosen, trace=trace, trace_format=format, progress=on_progress, skip=changes.skip)
    if changes.json:
        _print_text(run_json(result))
    else:
        _print(run_report(result, hint=_command("compare", scenario, *more, changes=changes)))
        if result.preemptions is not None:
            _print(schedule_line(result), wide=True)
    given = () if policy is None else ("--policy", policy)
    explain = _command("explain", scenario, *more, *given, changes=changes)
    pictures.write([(result.policy, result)], _command("run", scenario, *more, *given, changes=changes), explain)


@app.command(help_epilogue=compare_help())
def compare(
    scenario: _Scenario,
    /,
    *more: _More,
    policies: Annotated[
        str | None, Parameter(help="Policies, separated by commas, or all: pleemu list policies; ./mine.py.")
    ] = None,
    across: Annotated[
        tuple[str, ...],
        Parameter(
            negative=(),
            show_default=False,
            help="FIELD=VALUE,VALUE: a row for each value of any field; given twice, for each combination.",
        ),
    ] = (),
    pictures: Pictures = _NO_PICTURES,
    changes: Changes = _NO_CHANGES,
) -> None:
    """Run a scenario under several policies, or with several values of a field, and show them side by side.

    Without --policies and --across the rows are the scenario's own variants, or else the five usual policies.
    If one of them faults, or Ctrl-C ends it, those that were finished are shown. Exit code: 2 or 130 then, else 0.
    """
    from pleemu.catalogue import find
    from pleemu.experiment.compare import cases_of, finished
    from pleemu.report.across_report import across_report
    from pleemu.report.compare_report import compare_report
    from pleemu.report.json_form import compare_json
    from pleemu.report.progress import progress_bar

    compared = cases_of(changes.apply(find(scenario, *more)), policies, across)
    pictures.check((case.scenario, case.policy) for case in compared.cases)
    _prepare()
    with progress_bar() as show:
        on_progress = None if show is None else lambda one, done, total: show(one.name, done, total)
        rows = finished(compared.cases, compared.what, progress=on_progress, skip=changes.skip)
        results, stopped = _until_stopped(rows)
    if changes.json:
        _print_text(compare_json(results))
    elif compared.by_policy:
        changed = ("--policy", compared.cases[0].name, "--trace", "trace.txt")
        hint = _command("run", scenario, *more, changes=changes) + " " + shlex.join(changed)
        _print(compare_report([run for _, run in results], hint=hint))
    else:
        _print(across_report(results, compared.what))
    if stopped is not None:
        _say(f"{len(results)} of {len(compared.cases)} rows were finished, and are shown")
    given = [] if policies is None else ["--policies", policies]
    given += [part for axis in across for part in ("--across", axis)]
    only = ("--policy", results[0][1].policy) if len(results) == 1 else ()
    explain = _command("explain", scenario, *more, *only, changes=changes)
    pictures.write(results, _command("compare", scenario, *more, *given, changes=changes), explain, compared.what)
    if stopped is not None:
        raise stopped


def _until_stopped(
    rows: Iterator[tuple[str, Result]],
) -> tuple[list[tuple[str, Result]], PleemuError | KeyboardInterrupt | None]:
    """Return the rows of a comparison up to an error or an interrupt, and that; it is raised if there are none."""
    results: list[tuple[str, Result]] = []
    try:
        for row in rows:
            results.append(row)  # noqa: PERF402  those before the error stay
    except (PleemuError, KeyboardInterrupt) as error:
        if not results:
            raise
        return results, error
    return results, None


@app.command(help_epilogue=explain_help())
def explain(
    scenario: _Scenario,
    /,
    *exits: Annotated[
        str,
        Parameter(
            help="PAUSE exits: numbers from 1, ranges N-M, first, longest, useful, wasted, irrelevant, nobody; "
            "by default the most telling ones. Also more files of the same guest."
        ),
    ],
    policy: Annotated[str | None, Parameter(help="Yield policy; parts are joined with +.")] = None,
    changes: Changes = _NO_CHANGES,
) -> None:
    """Tell the stories of single PAUSE exits: who spun for what, whom KVM chose and why, and what came of it."""
    from pleemu.catalogue import find
    from pleemu.experiment.explain import explain as explain_exits
    from pleemu.experiment.explain import is_exit
    from pleemu.report.explain_report import explain_report
    from pleemu.report.json_form import explain_json
    from pleemu.report.progress import progress_bar

    more = [one for one in exits if not is_exit(one)]
    chosen = changes.apply(find(scenario, *more), policy=policy)
    _prepare()
    with progress_bar() as show:
        on_progress = None if show is None else lambda done, total: show(chosen.name, done, total)
        asked = [one for one in exits if is_exit(one)]
        explained = explain_exits(chosen, asked, progress=on_progress, skip=changes.skip)
    if changes.json:
        _print_text(explain_json(explained.run, explained.stories, explained.pending))
    else:
        _print(explain_report(explained.run, explained.stories, explained.pending))


@app.command
def analyze(
    traces: Annotated[
        tuple[Path, ...], Parameter(help="Text of perf script or trace-cmd report, .dat, .parquet.", negative=())
    ],
    /,
    *,
    json: Annotated[bool, Parameter(negative=(), show_default=False, help="Print JSON only.")] = False,
) -> None:
    """Count what traces say of pause-loop exiting, of a real host or of pleemu.

    Exits by reason and address, continuous runs, times from entry to exit and from exit to entry, how the
    window grew, who was switched to. Lines that cannot be read are counted and the first of them shown.
    """
    from pleemu.report.analyze_report import analyze_json, analyze_report
    from pleemu.trace.analysis import analyze_files

    found = analyze_files(traces)
    _print_text(analyze_json(found)) if json else _print(analyze_report(found))


@app.command(help_epilogue=disasm_help())
def disasm(
    guest: _Scenario,
    /,
    *more: _More,
    processor: Annotated[str | None, Parameter(help="Whose cycles to show; by default the scenario's.")] = None,
    cc: Annotated[str | None, Parameter(help="C compiler, as for run.")] = None,
    cflags: Annotated[str | None, Parameter(allow_leading_hyphen=True, help="Flags for it, as for run.")] = None,
    json: Annotated[bool, Parameter(negative=(), show_default=False, help="Print JSON only.")] = False,
) -> None:
    """Show a guest's instructions: address, bytes, instruction, cycles, symbols, probes and source lines."""
    from pleemu.catalogue import find
    from pleemu.guest import load
    from pleemu.report.disasm_report import disasm_json, disasm_report

    fields = {} if processor is None else {"hardware.processor": processor}
    scenario = Overrides(cc=cc, cflags=cflags, fields=fields).apply(find(guest, *more))
    scenario.check_programs()
    programs = dict.fromkeys(scenario.program_of(vm) for vm in scenario.vm)
    images = [load(*program.paths, cc=program.cc, cflags=program.cflags) for program in programs]
    costs = scenario.hardware.costs()
    if json:
        _print_text(disasm_json(images, costs))
        return
    for image in images:
        _print(disasm_report(image, costs), wide=True)


@app.command(help_epilogue=conform_help())
def conform(
    files: Annotated[tuple[Path, ...], Parameter(help="Recorded vectors.", negative=())],
    /,
    *,
    json: Annotated[bool, Parameter(negative=(), show_default=False, help="Print JSON only.")] = False,
) -> int:
    """Replay recorded vectors against the models, and show the first case of each file that differs."""
    from pleemu.conform.replay import replay_file
    from pleemu.report.conform_report import conform_report
    from pleemu.report.json_form import conform_json
    from pleemu.report.progress import progress_bar

    if not files:
        raise PleemuError("conform: no file is given; name files of recorded vectors")
    _prepare()
    results = []
    with progress_bar() as show:
        for path in files:
            on_progress = None if show is None else partial(show, str(path))
            results.append(replay_file(path, on_progress))
    if json:
        _print_text(conform_json(results))
    else:
        _print(conform_report(results))
    return EXIT_OK if all(one.first is None for one in results) else EXIT_DIFFERENT


@app.command
def check(
    policy: Annotated[str, Parameter(help="Yield policy; parts are joined with +.")],
    /,
    *,
    examples: Annotated[Whole, Parameter(help="Machines to make.")] = 60,
    seed: Annotated[Whole, Parameter(help="Seed of all machines.")] = 0,
    scheduler: Annotated[
        tuple[str, ...],
        Parameter(negative=(), show_default=False, help="Host scheduler; given twice, both; by default all that fit."),
    ] = (),
    json: Annotated[bool, Parameter(negative=(), show_default=False, help="Print JSON only.")] = False,
) -> int:
    """Check that a policy keeps the rules that all policies keep, on machines made at random.

    Locks stay exclusive, windows within their bounds, boosts within their VM; nobody who runs is boosted,
    no VM starves, no kick is lost, and the same seed gives the same run. What fails is shown as the smallest
    run that was found, as a command that repeats it. Exit code: 0 all properties hold, 1 some do not.
    """
    if importlib.util.find_spec("hypothesis") is None:
        raise PleemuError("check needs hypothesis, which is not installed: pip install 'pleemu[check]'")
    if examples < 1:
        raise PleemuError(f"--examples {examples} checks nothing; use at least 1")
    from pleemu.policy import policy as policy_named

    policy_named(policy)
    from pleemu.checks.kit import check_policy
    from pleemu.report.check_report import check_json, check_report
    from pleemu.report.progress import progress_bar

    _prepare()
    with progress_bar() as show:
        checked = check_policy(policy, examples=examples, seed=seed, schedulers=scheduler, progress=show)
    if json:
        _print_text(check_json(checked))
    else:
        _print(check_report(checked), wide=True)
    return EXIT_OK if checked.holds else EXIT_DIFFERENT


@app.command(name="boost-latency")
def boost_latency(
    *,
    tasks: Annotated[
        tuple[Whole, ...], Parameter(negative=(), show_default=False, help="Tasks that compete; given twice, both.")
    ] = (),
    overrun: Annotated[
        tuple[str, ...],
        Parameter(negative=(), show_default=False, help="How far the holder overran, as in 3ms; given twice, both."),
    ] = (),
    every: Annotated[str, Parameter(help="Time from yield to yield.")] = "50us",
    json: Annotated[bool, Parameter(negative=(), show_default=False, help="Print JSON only.")] = False,
) -> None:
    """Measure how long a directed yield takes to run its target, by scheduler.

    The scheduler's functions alone, on one CPU: some tasks compete, one of
    them holds a lock, overruns and is preempted; whoever runs then yields to it
    again and again. Without options: the cases that were also recorded from the
    kernels' own functions. With guests and KVM: pleemu compare boost_latency.
    """
    from pleemu.conform.boost_latency import CASES, boost_latencies
    from pleemu.report.boost_latency_report import boost_latency_json, boost_latency_report
    from pleemu.report.progress import progress_bar

    given = [(count, parse_time_ms("overrun", one)) for count in tasks or (2, 4, 8) for one in overrun or ("3ms",)]
    _prepare()
    with progress_bar() as show:
        on_progress = None if show is None else partial(show, "boost-latency")
        rows = boost_latencies(
            given if tasks or overrun else CASES,
            every_ns=round(parse_time_ms("every", every) * 1e6),
            progress=on_progress,
        )
    if json:
        _print_text(boost_latency_json(rows))
    else:
        _print(boost_latency_report(rows))


@app.command(help_epilogue=reproduce_help())
def reproduce(
    *evaluations: Annotated[
        str, Parameter(help="talk, four-vms, ready-2019, wait-early, series-2025, locks; by default all.", negative=())
    ],
    seeds: Annotated[Whole | None, Parameter(help="Seeds; by default 12 of the talk, 8 of the others.")] = None,
    jobs: Annotated[Whole | None, Parameter(help="Processes; by default one for each CPU.")] = None,
    quick: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Two seeds and short runs: to see that it works.")
    ] = False,
    output: Annotated[Path, Parameter(help="Folder for records of runs and for the results.")] = Path("reproduction"),
    markdown: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Print the table of published results as Markdown.")
    ] = False,
    json: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Print JSON only; the keys are listed below.")
    ] = False,
) -> None:
    """Reproduce published evaluations: the talk's, and those around it, each result beside the published one.

    Every finished run is kept in the folder: stopped and started again, it repeats none. Leaves report.html,
    results.md and results.json there.
    """
    from pleemu.reproduce.bar import evaluation_bar
    from pleemu.reproduce.evaluate import evaluate
    from pleemu.reproduce.markdown import markdown_findings
    from pleemu.reproduce.outcome import check_outcome, write_outcome
    from pleemu.reproduce.plain import results_json
    from pleemu.reproduce.plan import plan
    from pleemu.reproduce.terminal import terminal_report

    chosen = plan(evaluations, seeds=seeds, quick=quick)
    if jobs is not None and not 1 <= jobs <= JOBS_LIMIT:
        raise PleemuError(f"--jobs {jobs} is out of range; use 1 to {JOBS_LIMIT}")
    if markdown and json:
        raise PleemuError("--markdown and --json both say what to print; use one of them")
    check_outcome(output)
    try:
        with evaluation_bar() as show:
            results = evaluate(chosen, output, processes=jobs or len(os.sched_getaffinity(0)), progress=show, say=_say)
    except KeyboardInterrupt:
        _say(f"finished runs are kept in {output}; the same command goes on from there")
        raise
    files = write_outcome(results, output)
    if json:
        _print_text(results_json(results).rstrip())
    elif markdown:
        _print_text(markdown_findings(results).rstrip())
    else:
        _print(terminal_report(results))
        _print_text("written: " + " ".join(map(str, files)))


@app.command(name="list")
def list_(
    what: Annotated[
        Literal[
            "programs",
            "parameters",
            "scenarios",
            "profiles",
            "policies",
            "generations",
            "schedulers",
            "processors",
            "figures",
            "instructions",
        ],
        Parameter(help="What to list; figures: of the processors, with their sources."),
    ],
    /,
    *names: Annotated[
        str,
        Parameter(
            help="programs: a folder of them, to read what it says; parameters: a scenario or guest, as for run."
        ),
    ],
    cc: Annotated[str | None, Parameter(help="parameters: C compiler, as for run.")] = None,
    cflags: Annotated[str | None, Parameter(allow_leading_hyphen=True, help="Flags for it, as for run.")] = None,
) -> None:
    """List what comes with pleemu, by name; and what of a guest can be set."""
    if what == "parameters":
        _list_parameters(names, cc, cflags)
        return
    if names and what != "programs":
        raise PleemuError(f"list {what} {names[0]}: takes no more names; pleemu list {what}")
    from pleemu.report.guest_lists import readme
    from pleemu.report.lists import LISTS

    for name in names:
        _print_text(readme(name))
    if not names:
        _print(LISTS[what]())


def _list_parameters(guest: Sequence[str], cc: str | None, cflags: str | None) -> None:
    if not guest:
        raise PleemuError("list parameters: of which guest? as in pleemu list parameters ticket_lock, or mylock.c")
    from pleemu.catalogue import find
    from pleemu.machine.run import load_programs
    from pleemu.report.parameter_report import parameter_report

    scenario = Overrides(cc=cc, cflags=cflags).apply(find(*guest))
    scenario.check_programs()
    for grid in parameter_report(scenario, load_programs(scenario)):
        _print(grid)


new = App(name="new", help="Write a file to begin with.")
app.command(new)


@new.command(name="policy")
def new_policy_(
    name: Annotated[str, Parameter(help="Its name; the file is NAME.py.")],
    /,
) -> None:
    """Write a yield policy of your own: a Python file for --policy, with all that it may use."""
    from pleemu.template import new_policy

    path = new_policy(name)
    given = path if path.parent != Path() else f"./{path}"
    _print_text(f"{path} written; try: pleemu compare overboost --policies vanilla,{shlex.quote(str(given))}")


@new.command(name="guest")
def new_guest_(
    name: Annotated[str, Parameter(help="Its name; the file is NAME.S, or NAME.c where you say so.")],
    /,
    *,
    c: Annotated[bool, Parameter(negative=(), show_default=False, help="In C and not in assembly.")] = False,
) -> None:
    """Write a guest of your own: a lock as two functions, in assembly or C, which runs as it stands."""
    from pleemu.template import new_guest

    path = new_guest(name, in_c=c)
    _print_text(f"{path} written; try: pleemu run {shlex.quote(str(path))} --vcpus 4 --pcpus 2")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 2 for what the user can mend, without a traceback."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = app(split_dotted(arguments), exit_on_error=False, print_error=False)
        with _output():
            sys.stdout.flush()
    except PleemuError as error:
        return _fail(str(error))
    except CoercionError as error:  # names the option, and says what it takes
        return _fail(str(error))
    except CycloptsError as error:
        return _fail(f"{error}\nSee pleemu --help, or pleemu COMMAND --help.")
    except KeyboardInterrupt:
        print("pleemu: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_BROKEN_PIPE
    return code if isinstance(code, int) else EXIT_OK


def _fail(message: str) -> int:
    # A message may quote a source, which may hold what a terminal obeys.
    shown = "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in message.strip())
    print(f"pleemu: error: {shown}", file=sys.stderr)
    return EXIT_USER_ERROR


def _command(command: str, *scenario: str, changes: Changes) -> str:
    return shlex.join(["pleemu", command, *scenario, *changes.arguments()])


def _prepare() -> None:
    """Load the compiled core, or compile it and say so."""
    from pleemu.machine.run import prepare

    prepare(_say)


def _say(message: str) -> None:
    print(f"pleemu: {message}", file=sys.stderr, flush=True)


def _print(renderable: RenderableType, *, wide: bool = False) -> None:
    """Print; what is ``wide`` keeps its lines, however narrow the terminal."""
    from pleemu.report.console import console

    with _output():
        console().print(renderable, soft_wrap=wide)


def _print_text(text: str) -> None:
    with _output():
        print(text)


@contextlib.contextmanager
def _output() -> Iterator[None]:
    """Stop writing to a stdout that takes no more, be it `| head` or a full disk."""
    try:
        yield
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):  # what is still in the buffer goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise PleemuError(f"the output cannot be written: {error.strerror or error}") from None
