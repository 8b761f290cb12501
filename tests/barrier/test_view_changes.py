"""What becomes of a barrier when members leave, join and come back."""

from __future__ import annotations

import pytest

from phalanx.barrier.core import BarrierCore
from phalanx.barrier.crossing import STARTED_OVER
from phalanx.barrier.events import Mismatch, Released, TimedOut, Unknown
from phalanx.barrier.settings import Count, Settings
from phalanx.transport.config import MS, ClusterConfig
from phalanx.transport.events import Member

from .model import CONFIG, Model
from .scenes import broken, drain, released


def test_a_departed_party_breaks_the_generation_by_name_and_reason() -> None:
    """The successor of cman's daemon let the waiters of a dead node hang."""
    model = Model({1, 2, 3})
    calls = [model.arrive(1), model.arrive(2)]
    model.quiesce()
    model.install({1, 2})
    for call in calls:
        assert broken(call).reason == "node 3 left the view: crashed"
        assert broken(call).missing == {3: "left the view: crashed"}


def test_a_party_that_arrived_and_left_breaks_the_generation() -> None:
    """The policy is `break`: who is released may rely on all parties being there."""
    model = Model({1, 2, 3})
    call = model.arrive(1, "three")
    model.arrive(3, "three")
    model.quiesce()
    model.install({1, 2})
    assert broken(call).missing == {3: "left the view: crashed"}


def test_a_restarted_party_is_another_party() -> None:
    """Incarnations: the process that had arrived does not exist any more."""
    model = Model({1, 2, 3})
    call = model.arrive(1, "three")
    model.arrive(3, "three")
    model.quiesce()
    model.install({1, 2, 3}, restarted={3})
    assert 3 in broken(call).missing


def test_a_count_goes_on_when_somebody_leaves_who_has_not_arrived() -> None:
    """A count waits for nobody in particular."""
    model = Model({1, 2, 3})
    call = model.arrive(1, "two")
    model.quiesce()
    model.install({1, 2})
    other = model.arrive(2, "two")
    model.quiesce()
    assert released(call).release == released(other).release


def test_a_joining_node_does_not_disturb_a_carried_generation() -> None:
    """`AllParties` are fixed at the first arrival; the newcomer waits for the next generation."""
    model = Model({1, 2, 3})
    old = [model.arrive(1), model.arrive(2)]
    model.quiesce()
    model.install({1, 2, 3, 4})
    newcomer = model.arrive(4)
    drain(model, 4)  # Ordered before anything is carried.
    model.quiesce()
    old.append(model.arrive(3))
    model.quiesce()
    assert {released(call).release.parties for call in old} == {
        (Member(1, 1), Member(2, 1), Member(3, 1))
    }
    assert released(old[0]).release.generation.k == 1
    assert newcomer.outcome is None
    following = [model.arrive(node) for node in (1, 2, 3)]
    model.quiesce()
    assert released(newcomer).release == released(following[2]).release


def test_a_newcomers_early_arrival_joins_the_carried_count() -> None:
    """Two nodes wait for a third that is starting: that is what `parties=3` is for."""
    model = Model({1, 2})
    calls = [model.arrive(1, "three"), model.arrive(2, "three")]
    model.quiesce()
    model.install({1, 2, 3})
    calls.append(model.arrive(3, "three"))
    drain(model, 3)
    model.quiesce()
    assert {released(call).release.generation.k for call in calls} == {1}


def test_pouring_fills_the_older_generation_and_leaves_the_rest() -> None:
    """Of two half-full counts the older one is released, with exactly its number."""
    model = Model({1, 2})
    old = [model.arrive(1, "three"), model.arrive(2, "three")]
    model.quiesce()
    model.install({1, 2, 3, 4})
    new = [model.arrive(3, "three"), model.arrive(4, "three")]
    drain(model, 3)
    drain(model, 4)
    model.quiesce()
    assert [type(call.outcome) for call in (*old, *new)] == [
        Released,
        Released,
        Released,
        type(None),
    ]
    assert model.nodes[1].core.generations() == model.nodes[4].core.generations()
    assert [s.arrived for s in model.nodes[1].core.generations()] == [(Member(4, 1),)]


def test_a_newcomer_with_other_settings_and_the_carried_generation_are_both_told() -> None:
    """It opened its own only because it could not know of the older one; neither can go on."""
    model = Model({1, 2})
    old = model.arrive(1, "x", parties=Count(n=2))
    model.quiesce()
    model.install({1, 2, 3})
    newcomer = model.arrive(3, "x", parties=Count(n=3))
    drain(model, 3)
    model.quiesce()
    assert isinstance(newcomer.outcome, Mismatch)
    assert isinstance(old.outcome, Mismatch)
    assert old.outcome.ours == newcomer.outcome.theirs == "2 parties, strength agreed"


def test_an_arrival_that_missed_its_view_counts_once_in_the_next() -> None:
    """It is published again; the queued copy is numbered in the new view and must be void."""
    model = Model({1, 2})
    call = model.arrive(1, "two")
    model.take(1)
    model.install({1, 2, 3})
    model.quiesce()
    assert model.nodes[3].core.stats()["entries_stale"] == 1
    assert [s.arrived for s in model.nodes[2].core.generations()] == [(Member(1, 1),)]
    model.arrive(2, "two")
    model.quiesce()
    assert released(call).release.generation.k == 2


def test_a_wait_is_carried_through_several_views() -> None:
    """Views may follow each other faster than anything is ordered in them."""
    model = Model({1, 2, 3})
    calls = [model.arrive(1), model.arrive(2)]
    model.quiesce()
    model.install({1, 2, 3, 4})
    model.install({1, 2, 3})
    model.install({1, 2, 3, 5})
    calls.append(model.arrive(3))
    model.quiesce()
    assert {released(call).release.generation.k for call in calls} == {1}


def test_a_withdrawal_that_missed_its_view_with_its_arrival_is_over() -> None:
    """Neither was ordered and neither will be: nothing is unknown about it."""
    model = Model({1, 2})
    call = model.arrive(1, timeout_ns=50 * MS)
    model.take(1)
    model.pass_time(50 * MS)
    assert call.outcome is None
    model.install({1, 2, 3})
    assert isinstance(call.outcome, TimedOut)
    assert call.outcome.generation is None


def test_arrivals_before_the_first_view_are_published_in_it() -> None:
    """Layers are attached before the first view; an early caller need not know."""
    model = Model({1})
    core = BarrierCore(CONFIG, 2)
    core.arrive("early", Settings(), deadline_ns=None, now_ns=0)
    assert core.take_entries({}) == []
    assert core.missing("early") == {}

    def make(config: ClusterConfig, node: int) -> BarrierCore:
        assert (config, node) == (CONFIG, 2)
        return core

    model.make = make
    model.install({1, 2})
    assert len(core.take_entries({})) == 1


def test_a_cluster_that_started_over_breaks_what_was_open() -> None:
    """Nothing of an era before counts, for nobody knows what others made of it."""
    model = Model({1, 2})
    call = model.arrive(1)
    model.quiesce()
    model.install({1, 2}, new_era=True)
    assert broken(call).reason == STARTED_OVER


def test_whoever_goes_on_into_a_view_that_starts_over_has_its_barriers() -> None:
    """The state of applications is gone, what the members know of each other is not: one that was
    released and one that was about to be must see the same.
    """
    model = Model({1, 2, 3})
    first, second = model.arrive(1), model.arrive(2)
    model.quiesce()
    model.install({1, 2, 3}, started_over=True)
    model.arrive(3)
    model.quiesce()
    assert released(first).release == released(second).release


@pytest.mark.parametrize("told", [True, False])
def test_a_node_that_comes_back_begins_anew(told: bool) -> None:
    """Its old arrivals belong to an incarnation that is gone; nothing of them may be carried."""
    model = Model({1, 2, 3})
    call = model.arrive(3, "two")
    model.quiesce()
    node = model.nodes[3]
    if told:
        model.detach(3, "evicted")
    model.install({1, 2})

    def make(_config: ClusterConfig, _node: int) -> BarrierCore:
        return node.core

    model.make = make
    model.incarnations[3] = 4
    event = model.install({1, 2, 3}, collect=False)
    assert event.view.incarnations[-1] == Member(3, 5)
    if not told:
        (outcome,) = node.core.take_outcomes()
        assert isinstance(outcome, Unknown)
        assert (outcome.ticket, outcome.outcome) == (call.ticket, "unknown")
    assert node.core.take_entries({}) == []
    again = [model.arrive(n, "two") for n in (3, 1)]
    model.quiesce()
    assert released(again[0]).release.parties == (Member(1, 1), Member(3, 5))
