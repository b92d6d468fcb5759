"""What others have published: claims about a part of the evaluation, each with its source and what kind of claim it is.

A figure is a ratio to the reference of its part, unless its kind says otherwise. Where a source gives a percentage,
`text` has it as the source says it.
"""

from __future__ import annotations

from attrs import frozen

from pleemu.reproduce.plan import BEFORE_2019, BOTH, DEBOOSTER, READY_2019, SERIES_2025, STRICT, VANILLA

# Kinds of claims.
RATIO = "ratio"  # a ratio of so much, or only of more or less than 1
SHARE = "share"  # a share of so much, or only of more than a half
LEAST = "least"  # a count of at least so much
KEEPS = "keeps"  # a ratio that is not below 1

# What of a run a claim is about: `results` has how each is computed.
EXITS, TIME, OPERATIONS, NEIGHBOUR = "PLE events", "execution time", "throughput", "co-runner's throughput"
CONTINUOUS, LONGEST, SPINNING = "continuous PLE events", "PLE events in a row", "guest time spent waiting"
FUNCTIONS = "functions with PLE events"

# Where several settings bear on a claim: the best one, as in "up to", or the worst one, as in "all".
BEST, MOST, WORST = "best of", "most of", "worst of"

TALK = "KVM Forum 2021, the talk"
RFC = "RFC of April 2021, cover letter"
REVIEW = "W. Li in review of the RFC"
ABSTRACT = "VEE '21, abstract"
D73EB57 = "Linux d73eb57b80b9 (2019)"
SERIES = "W. Li, series of November and December 2025"
PV_TICKET = "Linux 545ac13892ab (2013), dbench, ticket locks without and with paravirtual ones"
REVERT = "Linux 89340d0935c9 (2019)"
AAF64263 = "Linux 2aa79af64263 (2015)"


@frozen(kw_only=True)
class Claim:
    """One published result."""

    part: str
    settings: tuple[str, ...]  # of the part; of several `pick` says which decides
    policy: str  # whose runs, beside those of the part's reference
    measure: str
    kind: str = RATIO
    value: float | None = None  # None: a figure without numbers, or words
    less: bool = False  # of a ratio without a value, or a share: it is below, not above
    beside: str = ""  # another policy than the part's reference, to which the ratio is
    pick: str = WORST
    text: str  # as the source says it
    source: str
    note: str = ""  # what is different here


_TIMED, _COUNTED = ("dedup", "vips"), ("psearchy", "ebizzy-m", "ebizzy-M")
_ALL = (*_TIMED, *_COUNTED)


def _talk() -> tuple[Claim, ...]:
    return (
        Claim(
            part="talk", settings=_ALL, policy=VANILLA, measure=LONGEST, kind=LEAST, value=100, pick=MOST,
            text="> 100 times", source=TALK, note="of the worst case",
        ),
        Claim(
            part="talk", settings=_ALL, policy=VANILLA, measure=CONTINUOUS, kind=SHARE,
            text="most", source=TALK,
        ),
        Claim(
            part="talk", settings=_ALL, policy=VANILLA, measure=FUNCTIONS, kind=LEAST, value=6, pick=BEST,
            text="6 named, locks and IPIs", source=TALK,
        ),
        *(
            Claim(
                part="talk", settings=(one,), policy=BOTH, measure=EXITS, less=True,
                text="fewer (figure)", source=TALK,
            )
            for one in _ALL
        ),
        Claim(
            part="talk", settings=_TIMED, policy=BOTH, measure=TIME, value=0.60, pick=BEST,
            text="-40 %", source=TALK,
            note="the talk's two applications with a time; ours is the inverse of their throughput",
        ),
        Claim(
            part="talk", settings=_COUNTED, policy=BOTH, measure=OPERATIONS, value=1.75, pick=BEST,
            text="+75 %", source=TALK, note="the talk's two with a throughput",
        ),
        Claim(
            part="talk", settings=_ALL, policy=BOTH, measure=OPERATIONS, value=1.80, pick=BEST,
            text="up to +80 %", source=ABSTRACT,
        ),
        Claim(
            part="talk", settings=_ALL, policy=BOTH, measure=NEIGHBOUR, kind=KEEPS,
            text="no degradation", source=TALK,
        ),
        Claim(
            part="talk", settings=_ALL, policy=DEBOOSTER, beside=STRICT, measure=OPERATIONS,
            text="mostly Debooster's", source=REVIEW,
        ),
    )  # fmt: skip


def _four_vms() -> tuple[Claim, ...]:
    return (
        Claim(
            part="four-vms", settings=_ALL, policy=BOTH, measure=EXITS, value=0.124, less=True, pick=BEST,
            text="up to -87.6 %", source=RFC, note="the application is not said there",
        ),
    )  # fmt: skip


def _ready_2019() -> tuple[Claim, ...]:
    by_vms = {"1 VM": (23520 / 21443, "+9 %"), "2 VMs": (8000 / 2800, "+180 %"), "3 VMs": (3100 / 1800, "+72 %")}
    return (
        Claim(
            part="ready-2019", settings=("desktop",), policy=BEFORE_2019, measure=SPINNING, kind=SHARE, value=0.723,
            text="72.3 %", source=D73EB57, note="there: guest time in smp_call_function_many",
        ),
        Claim(
            part="ready-2019", settings=("desktop",), policy=READY_2019, measure=OPERATIONS, value=4000 / 1570,
            text="+155 %", source=D73EB57,
        ),
        Claim(
            part="ready-2019", settings=("desktop",), policy=READY_2019, measure=SPINNING, value=0.384 / 0.723,
            text="-47 %, to 38.4 %", source=D73EB57, note="there: guest time in smp_call_function_many",
        ),
        *(
            Claim(
                part="ready-2019", settings=(setting,), policy=READY_2019, measure=OPERATIONS, value=value,
                text=text, source=D73EB57, note="there 80 vCPUs on 80 hardware threads",
            )
            for setting, (value, text) in by_vms.items()
        ),
    )  # fmt: skip


_GAINS_2025 = {  # percent of throughput over 2, 3 and 4 VMs
    "dbench": (14.4, 9.8, 6.7),
    "dedup": (47.1, 28.1, 1.7),
    "vips": (26.2, 12.7, 6.0),
}


def _series_2025() -> tuple[Claim, ...]:
    return tuple(
        Claim(
            part="series-2025", settings=(f"{application}, {vms} VMs",), policy=SERIES_2025, measure=OPERATIONS,
            value=1 + gain / 100, text=f"+{gain} %", source=SERIES,
        )
        for application, gains in _GAINS_2025.items()
        for vms, gain in zip((2, 3, 4), gains, strict=True)
    )  # fmt: skip


def _wait_early() -> tuple[Claim, ...]:
    # Records a second, from and to: 1,700 to 1,800, 13,000 to 14,000; 4,500 to 5,000, 14,000 to 15,500.
    return (
        Claim(
            part="wait-early", settings=("spins on",), policy=BEFORE_2019, measure=OPERATIONS, value=13500 / 1750,
            text="x7.7", source=REVERT, note="there 80 vCPUs on 80 hardware threads",
        ),
        Claim(
            part="wait-early", settings=("spins on",), policy=READY_2019, measure=OPERATIONS, value=14750 / 4750,
            text="x3.1", source=REVERT, note="there 80 vCPUs on 80 hardware threads, and a KVM with all boosts of 2019",
        ),
    )  # fmt: skip


def _locks() -> tuple[Claim, ...]:
    # Four rows of overcommitment, whose labels are lost: probably 1x to 4x.
    pv_ticket = {2: (1714 / 1470, "+16.6 %"), 3: (968 / 849, "+14.0 %")}
    return (
        *(
            Claim(
                part="locks", settings=(f"lock: virt_spin_lock, {vms} VMs",), policy=VANILLA, measure=OPERATIONS,
                text="spares queue preemption", source=AAF64263, note="test-and-set, beside a ticket lock",
            )
            for vms in (2, 3)
        ),
        *(
            Claim(
                part="locks", settings=(f"dbench: pv_qspinlock, {vms} VMs",), policy=VANILLA, measure=OPERATIONS,
                value=value, text=text, source=PV_TICKET,
                note="there the paravirtual lock was a ticket lock, too; that its rows are 2x and 3x is a guess",
            )
            for vms, (value, text) in pv_ticket.items()
        ),
    )  # fmt: skip


def claims() -> tuple[Claim, ...]:
    """Return all published results, in the order of the parts."""
    return (*_talk(), *_four_vms(), *_ready_2019(), *_wait_early(), *_series_2025(), *_locks())
