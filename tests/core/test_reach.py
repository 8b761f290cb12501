"""The largest mutual clique, against the naive way to find it."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from phalanx.transport.core.reach import largest_clique, mutual_edges
from phalanx.transport.events import Member

Rank = tuple[int, int, int, tuple[int, ...]]

NODES = [Member(node, 1) for node in range(1, 7)]


@st.composite
def rows(draw: st.DrawFn) -> dict[Member, set[Member]]:
    """Who says that it reaches whom, with or without being answered."""
    members = draw(st.lists(st.sampled_from(NODES), min_size=1, unique=True))
    return {m: {m} | draw(st.sets(st.sampled_from(NODES))) for m in members}


def naive(
    edges: dict[Member, set[Member]], votes: dict[int, int], preferred: set[Member]
) -> object:
    """Every subset, ranked by the rule as it is written."""
    best: tuple[Rank, frozenset[Member]] | None = None
    for size in range(1, len(edges) + 1):
        for subset in combinations(sorted(edges), size):
            if any(b not in edges[a] for a, b in combinations(subset, 2)):
                continue
            rank = (
                sum(votes[m.node] for m in subset),
                sum(m in preferred for m in subset),
                size,
                tuple(-m.node for m in subset),
            )
            if best is None or rank > best[0]:
                best = (rank, frozenset(subset))
    assert best is not None, "one node is a clique"
    return best[1]


@given(
    rows(),
    st.fixed_dictionaries({m.node: st.integers(0, 3) for m in NODES}),
    st.sets(st.sampled_from(NODES)),
)
def test_the_clique_is_the_best_of_all_subsets(
    given_rows: dict[Member, set[Member]], votes: dict[int, int], preferred: set[Member]
) -> None:
    """Every node must find the same set from the same rows, or no view is ever agreed.

    Nodes without votes may be left out of the fast search's maximal cliques by rank alone, so
    the comparison is of the rank and of mutual reachability.
    """
    edges = mutual_edges(given_rows)
    found = largest_clique(edges, votes, preferred)
    assert all(b in edges[a] for a, b in combinations(sorted(found), 2))
    assert found == naive(edges, votes, preferred)


@given(rows())
def test_an_edge_needs_both_rows(given_rows: dict[Member, set[Member]]) -> None:
    """A one-way cut must not put two nodes that cannot talk into one view."""
    edges = mutual_edges(given_rows)
    for member, peers in edges.items():
        for peer in peers:
            assert peer in given_rows[member]
            assert member in given_rows[peer]
            assert member in edges[peer]


def test_64_nodes_without_a_fault_are_found_at_once() -> None:
    """The largest configuration: a view change must not wait for a search."""
    nodes = [Member(node, 1) for node in range(1, 65)]
    edges = mutual_edges(dict.fromkeys(nodes, nodes))
    assert largest_clique(edges, {m.node: 1 for m in nodes}, set()) == frozenset(nodes)
