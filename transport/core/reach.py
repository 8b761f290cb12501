"""Who can talk with whom, both ways: the largest mutual clique of the reachability rows.

Pure functions. The clique is found by Bron and Kerbosch's algorithm with pivoting (CACM 16:9,
1973) on bit sets, which is instant for the numbers of nodes a view may have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

from ..events import Member


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
    best: frozenset[Member] = frozenset()

    def rank(clique: Iterable[Member]) -> tuple[int, int, int, tuple[int, ...]]:
        members = sorted(clique)
        return (
            sum(votes.get(member.node, 0) for member in members),
            sum(member in preferred for member in members),
            len(members),
            tuple(-member.node for member in members),
        )

    def expand(clique: set[Member], candidates: set[Member], excluded: set[Member]) -> None:
        nonlocal best
        if not candidates and not excluded:
            if not best or rank(clique) > rank(best):
                best = frozenset(clique)
            return
        pivot = max(sorted(candidates | excluded), key=lambda m: len(candidates & edges[m]))
        for member in sorted(candidates - edges[pivot]):
            expand(clique | {member}, candidates & edges[member], excluded & edges[member])
            candidates.remove(member)
            excluded.add(member)

    expand(set(), set(edges), set())
    return best
