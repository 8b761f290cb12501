"""Quorums, and who may act for how long."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.transport.config import MS
from phalanx.transport.core.leases import Leases, Quorum

from .scenes import casting

LEASE_NS = 400 * MS
DRIFT = 1.05


def leases(nodes: int = 3, tie_breaker: int = 0) -> Leases:
    """Those of node 1."""
    votes = dict.fromkeys(range(1, nodes + 1), 1)
    quorum = Quorum(votes, tie_breaker)
    return Leases(node=1, quorum=quorum, lease_ns=LEASE_NS, drift=DRIFT)


@given(
    st.dictionaries(st.integers(1, 6), st.integers(0, 4), min_size=1).filter(
        lambda votes: sum(votes.values()) > 0
    ),
    st.integers(0, 6),
)
def test_any_two_quorums_share_a_node_with_a_vote(votes: dict[int, int], tie_breaker: int) -> None:
    """All of Paxos and of the leases stands on this."""
    quorum = Quorum(votes, tie_breaker if tie_breaker in votes else 0)
    found = [
        set(subset)
        for size in range(len(votes) + 1)
        for subset in combinations(votes, size)
        if quorum.reached(subset)
    ]
    for one, other in combinations(found, 2):
        shared = one & other
        assert any(votes[node] for node in shared) or tie_breaker in shared


def test_half_of_the_votes_decide_only_with_the_tie_breaker() -> None:
    """Two halves of a cluster must not both go on."""
    quorum = Quorum({1: 1, 2: 1, 3: 1, 4: 1}, 3)
    assert quorum.reached({1, 3})
    assert not quorum.reached({1, 2})
    assert not Quorum({1: 1, 2: 1}, 0).reached({1})


def test_nodes_that_are_not_configured_have_no_votes() -> None:
    """A name from nowhere must not help to a majority."""
    assert not Quorum({1: 1, 2: 1, 3: 1}, 0).reached({1, 8, 9})


def test_a_lease_lasts_to_the_nanosecond_and_no_longer() -> None:
    """The grantor counts on it: one nanosecond more and two views could be acted in."""
    held = leases()
    held.take(2, 1000)
    assert held.acting(1000 + LEASE_NS - 1)
    assert not held.acting(1000 + LEASE_NS)
    assert held.runs_out_ns(1000) == 1000 + LEASE_NS
    assert held.runs_out_ns(1000 + LEASE_NS) is None


def test_the_newest_echo_counts_whatever_the_order_of_arrival() -> None:
    """Rails overtake each other; an old echo must neither shorten nor lengthen a lease."""
    held = leases()
    held.take(2, 5000)
    held.take(2, 1000)
    assert held.runs_out_ns(5000) == 5000 + LEASE_NS


def test_the_lease_runs_out_with_the_grant_that_makes_the_quorum() -> None:
    """Of five nodes two grants are needed: the second newest decides."""
    held = leases(5)
    for node, sent in ((2, 10), (3, 30), (4, 20)):
        held.take(node, sent)
    assert held.runs_out_ns(40) == 20 + LEASE_NS


def test_the_grantor_waits_longer_than_the_slowest_clock_lets_the_holder_act() -> None:
    """A holder whose clock is slow by the bound still stops first."""
    held = leases()
    held.give(2, 0)
    assert held.given_left_ns(2, 0) == int(LEASE_NS * DRIFT)
    assert held.given_left_ns(2, int(LEASE_NS * DRIFT) - 1) == 1
    assert held.given_left_ns(2, int(LEASE_NS * DRIFT)) == 0
    assert held.given_left_ns(3, 0) == 0


def test_grants_received_end_with_the_view_and_grants_given_do_not() -> None:
    """A grant names the view; but who was granted in the old view may still act in it."""
    held = leases()
    held.take(2, 1000)
    held.give(2, 1000)
    held.reset_received()
    assert not held.acting(1001)
    assert held.given_left_ns(2, 1000) > 0
    held.forget_given(2)
    assert held.given_left_ns(2, 1000) == 0


def test_a_single_node_needs_nobody() -> None:
    """A cluster of one always acts, and never has to be woken for it."""
    held = leases(1)
    assert held.acting(0)
    assert held.runs_out_ns(0) is None


@pytest.mark.parametrize(("tie_breaker", "acts"), [(1, True), (2, False), (0, False)])
def test_of_two_nodes_the_tie_breaker_acts_alone(tie_breaker: int, acts: bool) -> None:
    """Two-node mode: exactly one of them survives the loss of the other."""
    assert leases(2, tie_breaker).acting(0) is acts


@pytest.mark.parametrize("carrier", ["driver", "datagrams"])
def test_a_grant_is_as_young_as_the_reading_of_the_heartbeat_that_it_answers(
    monkeypatch: pytest.MonkeyPatch, carrier: str
) -> None:
    """A process may stand still before it reads what has come. What came meanwhile was sent
    meanwhile: taken for older it would let another view begin before that lease is over.
    """
    simulation = casting(3)
    node = simulation.nodes[1]
    granted: list[tuple[int, int]] = []
    give = Leases.give

    def note(self: Leases, peer: int, now_ns: int) -> None:
        if self is node.endpoint.leases:
            granted.append((now_ns, node.clock()))
        give(self, peer, now_ns)

    source = getattr(node, carrier)
    poll = source.poll

    def poll_late(**how: bool) -> object:
        node.clock_offset_ns += MS
        return poll(**how)

    monkeypatch.setattr(Leases, "give", note)
    monkeypatch.setattr(source, "poll", poll_late)
    simulation.run_for(500 * MS)
    assert len(granted) > 10
    assert all(granted_ns == read_ns for granted_ns, read_ns in granted)
