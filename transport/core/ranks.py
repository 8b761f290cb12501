"""Sets of ranks, held as ranges: what a schedule passes around.

A rank is the place of a member in its view, by ascending id. What ranks know of each other is
nearly always one run of neighbours, so a set of 65,536 takes as much room as one of two, and
to add to it or to look into it costs a binary search.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

_FEW_RANGES: Final = 8
"""Up to so many are put in one by one; more are merged, which looks at every range of both."""


class RankSet:
    """An immutable set of ranks."""

    __slots__ = ("_bounds",)

    def __init__(self, bounds: tuple[int, ...] = ()) -> None:
        """Of ranges in ascending order that do not touch: (start, stop, start, stop, ...)."""
        self._bounds = bounds

    # ------------------------------------------------------------------------------ making one

    @classmethod
    def one(cls, rank: int) -> RankSet:
        """A single rank."""
        return cls((rank, rank + 1))

    @classmethod
    def span(cls, start: int, stop: int) -> RankSet:
        """The ranks from `start` on, without `stop`."""
        return cls((start, stop)) if start < stop else NOBODY

    @classmethod
    def around(cls, start: int, count: int, n: int) -> RankSet:
        """`count` ranks from `start` on, in a ring of `n`."""
        assert 0 <= count <= n, "nobody stands in a ring twice"
        start %= n
        if start + count <= n:
            return cls.span(start, start + count)
        if count == n:
            return cls((0, n))
        return cls((0, start + count - n, start, n))

    @classmethod
    def of(cls, ranks: Iterable[int]) -> RankSet:
        """Any ranks."""
        return _merged([(rank, rank + 1) for rank in sorted(ranks)])

    # -------------------------------------------------------------------------- looking into it

    @property
    def bounds(self) -> tuple[int, ...]:
        """The ranges as (start, stop, start, stop, ...), ascending and apart."""
        return self._bounds

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Each range as (start, stop)."""
        bounds = iter(self._bounds)
        return zip(bounds, bounds, strict=True)

    def __len__(self) -> int:
        return sum(self._bounds[1::2]) - sum(self._bounds[::2])

    def __bool__(self) -> bool:
        return bool(self._bounds)

    def __iter__(self) -> Iterator[int]:
        for start, stop in self.ranges():
            yield from range(start, stop)

    def __contains__(self, rank: object) -> bool:
        return isinstance(rank, int) and bisect_right(self._bounds, rank) % 2 == 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RankSet) and self._bounds == other._bounds

    def __hash__(self) -> int:
        return hash(self._bounds)

    def __repr__(self) -> str:
        return f"RankSet({self})"

    def __str__(self) -> str:
        """`0, 4-6`: as people write it."""
        return ", ".join(
            str(start) if stop == start + 1 else f"{start}-{stop - 1}"
            for start, stop in self.ranges()
        )

    def __ge__(self, other: RankSet) -> bool:
        """Whether all of the other are in this one."""
        bounds = self._bounds
        for start, stop in other.ranges():
            place = bisect_right(bounds, start)
            if place % 2 == 0 or bounds[place] < stop:
                return False
        return True

    def isdisjoint(self, other: RankSet) -> bool:
        """Whether no rank is in both."""
        few, many = self._bounds, other._bounds
        if len(few) > len(many):
            few, many = many, few
        for start, stop in RankSet(few).ranges():
            place = bisect_right(many, start)
            if place % 2 == 1 or (place < len(many) and many[place] < stop):
                return False
        return True

    # ------------------------------------------------------------------------------ arithmetic

    def __or__(self, other: RankSet) -> RankSet:
        few, many = (self, other) if len(self._bounds) <= len(other._bounds) else (other, self)
        if len(few._bounds) > 2 * _FEW_RANGES:
            return _merged(sorted([*few.ranges(), *many.ranges()]))
        bounds = many._bounds
        for start, stop in few.ranges():
            # An odd place is inside a range, or at its end: there the two grow together.
            low, high = bisect_left(bounds, start), bisect_right(bounds, stop)
            middle = (start,) * (low % 2 == 0) + (stop,) * (high % 2 == 0)
            bounds = bounds[:low] + middle + bounds[high:]
        return RankSet(bounds)

    def __sub__(self, other: RankSet) -> RankSet:
        bounds, theirs = self._bounds, other._bounds
        if not bounds:
            return self
        first = bisect_right(theirs, bounds[0]) & ~1
        last = bisect_left(theirs, bounds[-1])
        if last - first > 2 * _FEW_RANGES:
            return _without(self.ranges(), theirs, first)
        for place in range(first, last, 2):
            start, stop = theirs[place], theirs[place + 1]
            low, high = bisect_left(bounds, start), bisect_right(bounds, stop)
            middle = (start,) * (low % 2) + (stop,) * (high % 2)
            bounds = bounds[:low] + middle + bounds[high:]
        return RankSet(bounds)

    def __and__(self, other: RankSet) -> RankSet:
        return self - (self - other)


NOBODY: Final = RankSet()


def _merged(ranges: list[tuple[int, int]]) -> RankSet:
    """Of ranges in ascending order, which may overlap."""
    bounds: list[int] = []
    for start, stop in ranges:
        if bounds and start <= bounds[-1]:
            bounds[-1] = max(bounds[-1], stop)
        else:
            bounds += (start, stop)
    return RankSet(tuple(bounds))


def _without(ranges: Iterable[tuple[int, int]], theirs: tuple[int, ...], place: int) -> RankSet:
    """What is left of ranges in ascending order; their first range that counts is at `place`."""
    bounds: list[int] = []
    for start, stop in ranges:
        begin = start
        while place < len(theirs) and theirs[place + 1] <= begin:
            place += 2
        while place < len(theirs) and theirs[place] < stop:
            if theirs[place] > begin:
                bounds += (begin, theirs[place])
            begin = theirs[place + 1]
            if begin >= stop:
                break  # it may reach into our next range as well
            place += 2
        if begin < stop:
            bounds += (begin, stop)
    return RankSet(tuple(bounds))
