"""Memory order: what several vCPUs see of each other's stores is exactly what x86-TSO allows."""

from __future__ import annotations

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from made_litmus import observe_litmus, variables_of
from reference.tso import outcomes

X, Y, Z = range(3)


def st_(variable, value=1):
    return ("st", variable, value)


def ld(variable):
    return ("ld", variable)


MFENCE = ("mfence",)

# The classical tests, by the names of the literature (Alglave, Maranget, Tautschnig, "Herding Cats", 2014).
LITMUS = {
    "SB": ((st_(X), ld(Y)), (st_(Y), ld(X))),
    "SB+mfences": ((st_(X), MFENCE, ld(Y)), (st_(Y), MFENCE, ld(X))),
    "SB+mfence+po": ((st_(X), MFENCE, ld(Y)), (st_(Y), ld(X))),
    "SB+xchgs": ((("xchg", X, 1), ld(Y)), (("xchg", Y, 1), ld(X))),
    "SB+xadd elsewhere": ((st_(X), ("xadd", Z, 1), ld(Y)), (st_(Y), ("xadd", Z, 1), ld(X))),
    "SB+own loads (n1)": ((st_(X), ld(X), ld(Y)), (st_(Y), ld(Y), ld(X))),
    "MP": ((st_(X), st_(Y)), (ld(Y), ld(X))),
    "LB": ((ld(X), st_(Y)), (ld(Y), st_(X))),
    "2+2W": ((st_(X, 1), st_(Y, 2)), (st_(Y, 1), st_(X, 2))),
    "S": ((st_(X, 2), st_(Y)), (ld(Y), st_(X))),
    "R": ((st_(X), st_(Y)), (st_(Y, 2), ld(X))),
    "CoRR": ((st_(X),), (ld(X), ld(X))),
    "CoWR": ((st_(X, 1), ld(X)), (st_(X, 2),)),
    "CoRW": ((ld(X), st_(X, 1)), (st_(X, 2),)),
    "IRIW": ((st_(X),), (st_(Y),), (ld(X), ld(Y)), (ld(Y), ld(X))),
    "WRC": ((st_(X),), (ld(X), st_(Y)), (ld(Y), ld(X))),
    "RWC": ((st_(X),), (ld(X), ld(Y)), (st_(Y), ld(X))),
    "xadd": ((("xadd", X, 1), ("xadd", X, 1)), (("xadd", X, 1), ("xadd", X, 1))),
}
NEVER_SEEN = {  # what each is known for: the outcome that x86 forbids, by what the threads read
    "SB+mfences": ((0,), (0,)),
    "SB+xchgs": ((0, 0), (0, 0)),
    "SB+xadd elsewhere": None,
    "MP": ((), (1, 0)),
    "LB": ((1,), (1,)),
    "CoRR": ((), (1, 0)),
    "IRIW": ((), (), (1, 0), (1, 0)),
    "WRC": ((), (1,), (1, 0)),
}


DELAYS = (300, 30, 3, 120)  # at most, in cycles
# Pairs of pCPUs far from each other, without which some orders of arrival do not happen; then all alike.
HARDWARE = ({"llc_pcpus": 2}, {})


@pytest.mark.parametrize("name", LITMUS)
def test_all_that_tso_allows_is_seen_and_nothing_else(tmp_path, name):
    """Over many timings the outcomes of each classical test are x86-TSO's, all of them."""
    program = LITMUS[name]
    allowed = outcomes(program, variables_of(program))
    seen = set()
    for seed in range(1, 17):
        delay, hardware = DELAYS[seed % 4], HARDWARE[seed // 4 % 2]
        seen |= set(observe_litmus(tmp_path, program, rounds=400, seed=seed, delay=delay, **hardware))
        assert seen <= allowed, seen - allowed
        if seen == allowed:
            break
    assert allowed - seen == set()


def test_the_model_knows_what_x86_forbids():
    """The reference itself: the outcomes that the literature says x86 forbids are not allowed, SB's is."""
    for name, read in NEVER_SEEN.items():
        if read is not None:
            program = LITMUS[name]
            assert read not in {one[0] for one in outcomes(program, variables_of(program))}, name
    assert ((0,), (0,)) in {one[0] for one in outcomes(LITMUS["SB"], 2)}


_variable, _value = st.integers(0, 2), st.integers(1, 3)
_instruction = st.one_of(
    st.tuples(st.just("st"), _variable, _value),
    st.tuples(st.just("ld"), _variable),
    st.tuples(st.just("st"), _variable, _value),
    st.tuples(st.just("ld"), _variable),
    st.just(MFENCE),
    st.tuples(st.just("xchg"), _variable, _value),
    st.tuples(st.just("xadd"), _variable, _value),
)


@settings(max_examples=30)
@given(
    program=st.integers(2, 4).flatmap(
        lambda threads: st.tuples(
            *(st.lists(_instruction, min_size=1, max_size=5 - threads // 2).map(tuple) for _ in range(threads))
        )
    ),
    seed=st.integers(0, 2**32),
)
def test_no_program_sees_what_tso_forbids(tmp_path_factory, program, seed):
    """Random programs of two to four threads, with LOCKed instructions and fences."""
    allowed = outcomes(program, variables_of(program))
    note(f"program: {program}, seed: {seed}")
    seen = set(observe_litmus(tmp_path_factory.mktemp("litmus"), program, rounds=100, seed=seed))
    assert seen <= allowed
