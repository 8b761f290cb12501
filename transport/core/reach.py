"""Who can talk with whom, both ways: the largest mutual clique of the reachability rows.

Pure functions. Nearly everybody reaches nearly everybody, so it is the pairs that do not which are
looked at: where nobody is cut off from anybody all are in, and each knot of cuts is decided by
itself, by branch and bound. Finding a maximum clique is NP-hard (Karp 1972), so the steps are
bounded; past the bound the best clique found so far is as good as any, and the same at every node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Final, TypeAlias

from ..events import Member

STEPS_MAX: Final = 1000
"""Of one knot: some 25 ms with 64 nodes. With 2 % of the pairs cut it takes 1 ms."""

Reach: TypeAlias = Mapping[Member, tuple[Member, ...]]
"""For each node, those that its row says it reaches."""


def mutual_edges(rows: Mapping[Member, Iterable[Member]]) -> dict[Member, set[Member]]:
    """For each member, those that it reaches and that reach it, by both their rows."""
    reach = {member: set(row) for member, row in rows.items()}
    return {
        member: {peer for peer in row if peer != member and member in reach.get(peer, ())}
        for member, row in reach.items()
    }


def largest_clique(
    edges: Mapping[Member, Set[Member]], votes: Mapping[int, int], preferred: Set[Member]
) -> frozenset[Member]:
    """The clique with the most votes; then most preferred members; then most; then lowest ids.

    `preferred` are the members of the view before: between equals, those who are in stay in.
    """
    return Search(edges, votes, preferred).result()


class Cliques:
    """Searches again only if something has changed, for it is asked in every turn."""

    def __init__(self, votes: Mapping[int, int]) -> None:
        self._votes = votes
        self._searched: tuple[Reach, frozenset[Member]] | None = None
        self._found: frozenset[Member] = frozenset()

    def find(self, rows: Reach, preferred: frozenset[Member]) -> frozenset[Member]:
        """The largest mutual clique of these rows."""
        if (rows, preferred) != self._searched:
            self._searched = (rows, preferred)
            self._found = largest_clique(mutual_edges(rows), self._votes, preferred)
        return self._found


class Search:
    """A search for the best clique, which counts its steps."""

    def __init__(
        self, edges: Mapping[Member, Set[Member]], votes: Mapping[int, int], preferred: Set[Member]
    ) -> None:
        everybody = set(edges)
        self._apart = {member: everybody - edges[member] - {member} for member in sorted(edges)}
        self._votes = votes
        self._preferred = preferred
        self.steps = 0

    def result(self) -> frozenset[Member]:
        """The clique: the best of each knot, and all that are cut off from nobody."""
        apart = dict(self._apart)
        chosen: set[Member] = set()
        while apart:
            members = _knot(apart)
            knot = _Knot(members, self._votes, self._preferred)
            chosen |= knot.solve()
            self.steps += knot.steps
            for member in members:
                del apart[member]
        return frozenset(chosen)


def _knot(apart: Mapping[Member, set[Member]]) -> dict[Member, set[Member]]:
    """All that hang together with the first member by pairs that are cut off."""
    first = next(iter(apart))
    found = {first: apart[first]}
    todo = [first]
    while todo:
        for member in sorted(apart[todo.pop()]):
            if member not in found:
                found[member] = apart[member]
                todo.append(member)
    return found


_Weight = tuple[int, int, int]
"""Votes, preferred members, members: they add up, and are compared in this order."""


class _Knot:
    """The heaviest set without a cut pair, among members that hang together by cut pairs."""

    def __init__(
        self, apart: Mapping[Member, set[Member]], votes: Mapping[int, int], preferred: Set[Member]
    ) -> None:
        self._apart = apart
        self._weight: dict[Member, _Weight] = {
            member: (votes.get(member.node, 0), int(member in preferred), 1) for member in apart
        }
        self._best: tuple[_Weight, list[int]] = ((0, 0, 0), [])
        self._chosen: set[Member] = set()
        self.steps = 0

    def solve(self) -> set[Member]:
        """The members of it."""
        self._branch((), set(self._apart))
        return self._chosen

    def _branch(self, taken: tuple[Member, ...], left: set[Member]) -> None:
        """Either without the member that is cut off from most, or with it and without those."""
        if self.steps >= STEPS_MAX:
            return
        self.steps += 1
        knotted = [member for member in sorted(left) if self._apart[member] & left]
        if not knotted:
            self._look_at((*taken, *left))
            return
        if self._bound(taken, left) < self._best[0]:
            return
        worst = max(knotted, key=lambda member: len(self._apart[member] & left))
        with_it = ((*taken, worst), left - {worst} - self._apart[worst])
        without_it = (taken, left - {worst})
        # What is cut off from many is likely to be out: a good set comes early that way.
        several = len(self._apart[worst] & left) > 1
        for branch in (without_it, with_it) if several else (with_it, without_it):
            self._branch(*branch)

    def _look_at(self, members: tuple[Member, ...]) -> None:
        ids = [-member.node for member in sorted(members)]
        found = (self._sum(members), ids)
        if not self._chosen or found > self._best:
            self._best, self._chosen = found, set(members)

    def _bound(self, taken: tuple[Member, ...], left: set[Member]) -> _Weight:
        """No less than the weight of any set from here: of a cut pair only the heavier counts."""
        free = set(left)
        counted: list[Member] = list(taken)
        for member in sorted(left):
            if member in free:
                free.discard(member)
                pair = min(self._apart[member] & free, default=None)
                if pair is not None:
                    free.discard(pair)
                heavier = pair is not None and self._weight[pair] > self._weight[member]
                counted.append(pair if heavier and pair is not None else member)
        return self._sum(counted)

    def _sum(self, members: Iterable[Member]) -> _Weight:
        votes = preferred = count = 0
        for member in members:
            weight = self._weight[member]
            votes, preferred, count = votes + weight[0], preferred + weight[1], count + weight[2]
        return votes, preferred, count
