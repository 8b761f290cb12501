"""Sets of ranks as ranges do what sets of numbers do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from phalanx.transport.core.ranks import NOBODY, RankSet

N = 48


def _ranks_of(runs: list[tuple[int, int]]) -> set[int]:
    return {rank for start, count in runs for rank in range(start, min(start + count, N))}


sets = st.one_of(
    st.sets(st.integers(0, N - 1)),
    st.lists(st.tuples(st.integers(0, N - 1), st.integers(1, N)), max_size=4).map(_ranks_of),
)


@given(sets, sets)
def test_they_add_and_take_away_like_sets(a: set[int], b: set[int]) -> None:
    """A range too many is an arrival that never was."""
    left, right = RankSet.of(a), RankSet.of(b)
    assert left | right == RankSet.of(a | b)
    assert left - right == RankSet.of(a - b)
    assert left & right == RankSet.of(a & b)
    assert (left >= right) == (a >= b)
    assert left.isdisjoint(right) == a.isdisjoint(b)
    assert (left == right) == (a == b)


@given(sets)
def test_they_hold_what_was_put_in(a: set[int]) -> None:
    """Ranges are ascending and apart, so equal sets are equal ranges."""
    ranks = RankSet.of(a)
    assert list(ranks) == sorted(a)
    assert len(ranks) == len(a)
    assert bool(ranks) == bool(a)
    assert {rank for rank in range(-1, N + 1) if rank in ranks} == a
    assert list(ranks.bounds) == sorted(set(ranks.bounds))
    assert hash(ranks) == hash(RankSet.of(sorted(a, reverse=True)))


@given(st.integers(1, N), st.data())
def test_a_run_goes_round_the_ring(n: int, data: st.DataObject) -> None:
    """The neighbours of the last rank are the first ones."""
    start = data.draw(st.integers(-n, 2 * n))
    count = data.draw(st.integers(0, n))
    around = RankSet.around(start, count, n)
    assert set(around) == {(start + offset) % n for offset in range(count)}
    assert len(around.bounds) <= 4


def test_they_are_written_as_people_write_them() -> None:
    """The missing are named in an error's message."""
    assert str(RankSet.of([0, 4, 5, 6, 9])) == "0, 4-6, 9"
    assert str(NOBODY) == ""
    assert repr(RankSet.one(3)) == "RankSet(3)"
