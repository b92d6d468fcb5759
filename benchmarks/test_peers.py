"""That the peers' figures mean what they say: the loop went round as often as asked, and twice as often takes twice."""

from __future__ import annotations

import statistics

import attrs
import pytest

from benchmarks.emulators import FEWEST, PEERS, Rate
from benchmarks.guests_for_peers import guest

LOCK_IS_HELD = b"\x01"


def there(who: str) -> None:
    *_, is_there, how_to_get = PEERS[who]
    if not is_there():
        pytest.skip(f"not installed: {how_to_get}")


@pytest.mark.parametrize("who", PEERS)
def test_a_guest_that_comes_back_with_rounds_left_is_refused(who: str) -> None:
    there(who)
    seconds = PEERS[who][0]
    held = guest("bounded_spin.S")
    assert held.memory.rstrip(b"\0").endswith(LOCK_IS_HELD)
    free = attrs.evolve(held, memory=held.memory.rstrip(b"\0")[:-1].ljust(len(held.memory), b"\0"))
    seconds(held, FEWEST, 1)
    with pytest.raises(AssertionError, match=r"not ended|ended with"):
        seconds(free, FEWEST, 1)


@pytest.mark.parametrize("who", PEERS)
@pytest.mark.parametrize("name", ["loop.S", "bounded_spin.S"])
def test_twice_the_rounds_take_twice_as_long(name: str, who: str) -> None:
    there(who)
    rate = Rate(PEERS[who][0], guest(name), 1, 0.5)
    twice = Rate(PEERS[who][0], guest(name), 1, 0.0)
    twice.many = 2 * rate.many - rate.few
    ratios = [twice.difference() / rate.difference() for _ in range(3)]
    print(f"{who}, {name}: {statistics.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})")
    assert 1.5 < statistics.median(ratios) < 2.7  # other work on the machine meets both, but not equally
