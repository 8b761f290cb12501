"""The largest mutual clique, against the naive way to find it."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.transport.core.reach import STEPS_MAX, Search, largest_clique, mutual_edges
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


MANY = [Member(node, 1) for node in range(1, 65)]
VOTES = {member.node: 1 for member in MANY}


def cut(pairs: Iterable[tuple[int, int]]) -> dict[Member, set[Member]]:
    """64 nodes of which these pairs cannot talk, by their places."""
    edges = {member: set(MANY) - {member} for member in MANY}
    for one, other in pairs:
        edges[MANY[one]].discard(MANY[other])
        edges[MANY[other]].discard(MANY[one])
    return edges


@pytest.mark.parametrize(
    ("pairs", "size"),
    [
        pytest.param([], 64, id="none"),
        pytest.param([(i, i + 1) for i in range(0, 64, 2)], 32, id="everybody from one"),
        pytest.param([(i, j) for i in range(24) for j in range(24, 64)], 40, id="in two parts"),
        pytest.param([(0, i) for i in range(1, 64)], 63, id="one from everybody"),
    ],
)
def test_the_largest_configuration_is_searched_to_the_end(
    pairs: list[tuple[int, int]], size: int
) -> None:
    """A view change must not wait for a search, nor take in less than it could."""
    edges = cut(pairs)
    search = Search(edges, VOTES, set())
    found = search.result()
    assert all(b in edges[a] for a, b in combinations(sorted(found), 2))
    assert len(found) == size
    assert search.steps < STEPS_MAX / 10


@pytest.mark.parametrize("percent", [2, 5, 20, 50])
def test_a_search_has_a_bound_and_a_result_all_the_same(percent: int) -> None:
    """With many nodes and many cuts nobody could wait for the very best."""
    draw = random.Random(percent)
    pairs = combinations(range(64), 2)
    edges = cut([pair for pair in pairs if draw.random() * 100 < percent])
    search = Search(edges, VOTES, set())
    found = search.result()
    assert search.steps <= STEPS_MAX + 64
    assert all(b in edges[a] for a, b in combinations(sorted(found), 2))
    assert found == largest_clique(edges, VOTES, set())
    greedy: set[Member] = set()
    for member in MANY:
        if greedy <= edges[member]:
            greedy.add(member)
    assert len(found) >= len(greedy)
