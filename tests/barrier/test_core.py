"""The rules of named barriers, one by one, in small deterministic scenes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phalanx.barrier.core import BarrierCore
from phalanx.barrier.events import Mismatch, Released, TimedOut, Unknown
from phalanx.barrier.generation import NOT_A_MEMBER, NOT_ALL_HERE, NOT_ARRIVED
from phalanx.barrier.outbox import CHANNEL
from phalanx.barrier.settings import (
    AllParties,
    Count,
    Parties,
    Policy,
    Settings,
    Strength,
    named,
)
from phalanx.barrier.state import NOT_ORDERED
from phalanx.transport.config import MS, ClusterConfig
from phalanx.transport.events import Lane, Member
from phalanx.transport.layers import Layer

from .model import CONFIG, LEASE_NS, Call, Model
from .scenes import broken, drain, mismatched, released

ANY_LATE = "left the view before its messages were all here"


# ------------------------------------------------------------------------------- release


def test_the_core_is_a_layer() -> None:
    """The transport knows barriers only as one of its layers."""
    layer: Layer = BarrierCore(CONFIG, 1)
    assert layer.owns(CHANNEL)
    assert not layer.owns("!channel")
    assert layer.next_deadline() is None


def test_all_members_are_released_by_the_last_arrival() -> None:
    """Safety: nobody returns before everybody has arrived."""
    model = Model({1, 2, 3})
    calls = [model.arrive(1), model.arrive(2)]
    model.quiesce()
    assert [call.outcome for call in calls] == [None, None]
    calls.append(model.arrive(3))
    model.quiesce()
    releases = [released(call).release for call in calls]
    assert releases[0] == releases[1] == releases[2]
    assert releases[0].parties == (Member(1, 1), Member(2, 1), Member(3, 1))
    assert releases[0].generation < releases[0].position


def test_a_barrier_can_be_used_again_at_once() -> None:
    """Generations: a name is not used up, and no arrival hits the wrong use."""
    model = Model({1, 2})
    first = [model.arrive(1), model.arrive(2)]
    model.quiesce()
    second = [model.arrive(2), model.arrive(1)]
    model.quiesce()
    assert released(first[0]).release.generation < released(second[0]).release.generation


def test_one_member_alone_is_released_by_itself() -> None:
    """A cluster of one must not wait for anybody."""
    model = Model({1})
    call = model.arrive(1)
    model.quiesce()
    assert released(call).release.parties == (Member(1, 1),)


def test_a_count_takes_the_first_that_arrive() -> None:
    """`parties=n` waits for nobody in particular; the next arrival opens the next generation."""
    model = Model({1, 2, 3})
    calls: list[Call] = []
    for node in (1, 3, 2):
        calls.append(model.arrive(node, "two"))
        model.quiesce()
    assert released(calls[0]).release.parties == (Member(1, 1), Member(3, 1))
    assert calls[2].outcome is None


def test_a_named_set_waits_for_a_node_that_is_not_up_yet() -> None:
    """Nodes start one after the other and meet at the first barrier."""
    model = Model({1, 2})
    calls = [model.arrive(1, "named"), model.arrive(2, "named")]
    model.quiesce()
    assert model.nodes[1].core.missing("named") == {3: NOT_A_MEMBER}
    model.install({1, 2, 3})
    calls.append(model.arrive(3, "named"))
    model.quiesce()
    assert {released(call).release.parties for call in calls} == {
        (Member(1, 1), Member(2, 1), Member(3, 1))
    }


def test_the_same_member_counts_once_however_often_it_arrives() -> None:
    """Sets, not counts: a retry after an unknown outcome joins the first arrival."""
    model = Model({1, 2})
    model.arrive(1, "two")
    drain(model, 1)
    model.detach(1)
    retry = model.arrive(1, "two")
    model.quiesce()
    assert retry.outcome is None
    other = model.arrive(2, "two")
    model.quiesce()
    assert released(retry).release == released(other).release


# ----------------------------------------------------------------------- marks and strengths


def test_an_agreed_release_waits_for_the_messages_of_each_party() -> None:
    """The cut: what a party multicast before it arrived is here before the wait returns."""
    model = Model({1, 2})
    model.send(2, 3)
    calls = [model.arrive(1), model.arrive(2)]
    model.quiesce(progress=False)
    model.progress(1, 2, 2)
    assert calls[0].outcome is None
    assert model.nodes[1].core.missing("all") == {2: NOT_ALL_HERE}
    model.progress(1, 2, 3)
    assert isinstance(calls[0].outcome, Released)
    assert calls[1].outcome is None, "its own messages are not in its own queue yet"


def test_messages_sent_after_the_arrival_are_not_waited_for() -> None:
    """The mark is that of the entry; a party that goes on sending delays nobody."""
    model = Model({1, 2})
    calls = [model.arrive(1), model.arrive(2)]
    drain(model, 1)
    drain(model, 2)
    model.send(2, 5)
    model.quiesce(progress=False)
    assert all(isinstance(call.outcome, Released) for call in calls)


def test_progress_of_the_bulk_lane_says_nothing_about_fifo() -> None:
    """Sequences are per lane."""
    model = Model({1, 2})
    model.send(2, 1)
    call = model.arrive(1)
    model.arrive(2)
    model.quiesce(progress=False)
    model.nodes[1].core.progressed(sender=2, lane=Lane.BULK, sequence=9, now_ns=0)
    assert model.nodes[1].core.take_outcomes() == []
    model.progress(1, 2)
    assert isinstance(call.outcome, Released)


def test_bulk_is_waited_for_where_its_sender_says_so() -> None:
    """It may be large: only who asks for it pays, and then it is promised like all else."""
    model = Model({1, 2})
    model.send_bulk(1)
    model.send_bulk(2, 2)
    calls = [model.arrive(1), model.arrive(2, bulk=True)]
    model.quiesce(progress=False)
    assert model.nodes[1].core.missing("all") == {2: NOT_ALL_HERE}
    model.bulk_progress(1, 2)
    assert calls[0].outcome is None
    model.bulk_progress(1, 2)
    assert isinstance(calls[0].outcome, Released)
    assert calls[1].outcome is None, "its own messages are not in its own queue yet"


def test_bulk_that_died_with_its_sender_breaks_like_other_messages() -> None:
    """All that go on lack the same."""
    model = Model({1, 2, 3})
    model.send_bulk(3)
    calls = [model.arrive(1), model.arrive(2), model.arrive(3, bulk=True)]
    model.quiesce(progress=False)
    model.install({1, 2})
    assert broken(calls[0]).missing == broken(calls[1]).missing == {3: ANY_LATE}


def test_strength_arrived_waits_for_no_messages() -> None:
    """Who only needs the meeting does not pay for the cut."""
    model = Model({1, 2})
    model.send(2, 3)
    calls = [model.arrive(n, strength=Strength.ARRIVED) for n in (1, 2)]
    model.quiesce(progress=False)
    assert all(isinstance(call.outcome, Released) for call in calls)


def test_lost_messages_of_a_dead_party_break_a_release_that_nobody_has_returned() -> None:
    """Uniform for all that go on, because all of them lack the same messages."""
    model = Model({1, 2, 3})
    model.send(3, 2)
    calls = [model.arrive(n) for n in (1, 2, 3)]
    model.quiesce(progress=False)
    assert calls[0].outcome is None
    model.install({1, 2}, fifo={3: 1})
    assert broken(calls[0]).missing == broken(calls[1]).missing == {3: ANY_LATE}
    assert "node 3" in broken(calls[0]).reason


def test_a_release_stands_when_a_party_leaves_afterwards() -> None:
    """The release was decided; a later departure is the next generation's matter."""
    model = Model({1, 2, 3})
    model.send(3, 2)
    calls = [model.arrive(n) for n in (1, 2, 3)]
    model.quiesce(progress=False)
    model.install({1, 2}, fifo={3: 2})
    assert isinstance(calls[0].outcome, Released)
    assert isinstance(calls[1].outcome, Released)


# ---------------------------------------------------------------------------- disagreement


@pytest.mark.parametrize(
    ("parties", "strength"),
    [
        (Count(n=2), Strength.AGREED),
        (Count(n=3), Strength.ARRIVED),
        (Count(n=3), Strength.SAFE),
        (AllParties(), Strength.AGREED),
    ],
)
def test_both_sides_of_a_disagreement_are_told_at_once(
    parties: Parties, strength: Strength
) -> None:
    """cman released nodes that waited for different numbers. If only the second one were told, the
    first would wait for somebody who never comes.
    """
    model = Model({1, 2, 3})
    first = model.arrive(1, "x", parties=Count(n=3))
    other = model.arrive(3, "x", parties=Count(n=3))
    model.quiesce()
    second = model.arrive(2, "x", parties=parties, strength=strength)
    model.quiesce()
    ours, theirs = mismatched(first), mismatched(second)
    assert mismatched(other) == replace(ours, ticket=other.ticket)
    assert ours.ours == theirs.theirs == "3 parties, strength agreed"
    assert theirs.ours == ours.theirs != ours.ours
    again = [model.arrive(node, "x", parties=Count(n=2)) for node in (1, 3)]
    model.quiesce()
    assert released(again[0]).release == released(again[1]).release


def test_who_is_not_in_the_named_set_disagrees() -> None:
    """It would wait with another set under the same name."""
    model = Model({1, 2, 3})
    first = model.arrive(1, "x", parties=named({1, 2}))
    model.quiesce()
    outsider = model.arrive(3, "x", parties=named({1, 2, 3}))
    model.quiesce()
    assert isinstance(outsider.outcome, Mismatch)
    assert outsider.outcome.theirs == "nodes 1, 2, strength agreed"
    assert isinstance(first.outcome, Mismatch)


def test_a_policy_is_part_of_what_is_agreed_on() -> None:
    """One would be released without a party, and the other be told that it broke."""
    model = Model({1, 2})
    first = model.arrive(1, "x", settings=Settings(policy=Policy.SHRINK))
    model.quiesce()
    second = model.arrive(2, "x", settings=Settings())
    model.quiesce()
    assert isinstance(first.outcome, Mismatch)
    assert first.outcome.ours == "all members, strength agreed, policy shrink"
    assert isinstance(second.outcome, Mismatch)
    assert second.outcome.ours == "all members, strength agreed"


# -------------------------------------------------------------------- deadlines and cancelling


def test_a_timeout_breaks_the_generation_for_all_at_one_position() -> None:
    """A local timeout, as cman had it, leaves the others waiting for a party that is gone."""
    model = Model({1, 2, 3})
    late = model.arrive(1, timeout_ns=50 * MS)
    other = model.arrive(2)
    model.quiesce()
    model.pass_time(50 * MS)
    assert late.outcome is None, "the order decides, not the clock"
    model.quiesce()
    assert isinstance(late.outcome, TimedOut)
    assert late.outcome.missing == broken(other).missing == {3: NOT_ARRIVED}
    assert broken(other).reason == "node 1 timed out"
    assert late.outcome.generation == broken(other).generation


def test_a_release_ordered_before_the_withdrawal_wins() -> None:
    """The others have returned: the late party must return the same."""
    model = Model({1, 2})
    late = model.arrive(1, timeout_ns=50 * MS)
    other = model.arrive(2)
    drain(model, 1)
    drain(model, 2)
    model.pass_time(50 * MS)
    model.quiesce()
    assert released(late).release == released(other).release


def test_a_withdrawal_that_is_never_ordered_ends_after_one_lease() -> None:
    """No hang: cut off from the order, a party says that it does not know."""
    model = Model({1, 2})
    call = model.arrive(1, timeout_ns=50 * MS)
    drain(model, 1)
    core = model.nodes[1].core
    assert core.next_deadline() == 50 * MS
    model.pass_time(50 * MS)
    assert core.next_deadline() == 50 * MS + LEASE_NS
    model.pass_time(LEASE_NS - 1)
    assert call.outcome is None
    model.pass_time(1)
    assert isinstance(call.outcome, Unknown)
    assert call.outcome.outcome == "unknown"
    assert core.next_deadline() is None


def test_a_withdrawal_that_is_ordered_late_still_breaks_the_generation() -> None:
    """The party has given up; the others must not count on it for ever."""
    model = Model({1, 2})
    model.arrive(1, timeout_ns=50 * MS)
    other = model.arrive(2, "all", timeout_ns=None)
    drain(model, 1)
    model.pass_time(50 * MS)
    model.pass_time(LEASE_NS)
    model.arrive(1, "two")  # Something else that it does meanwhile.
    model.quiesce()
    assert other.outcome is None, "its arrival came after the withdrawal: a new generation"
    model.arrive(1)
    model.quiesce()
    assert isinstance(other.outcome, Released)


def test_an_owed_withdrawal_is_published_again_in_the_next_view() -> None:
    """Its first copy died with the old view, the arrival that it takes back did not."""
    model = Model({1, 2, 3})
    late = model.arrive(1, timeout_ns=50 * MS)
    other = model.arrive(2)
    model.quiesce()
    model.pass_time(50 * MS)
    model.pass_time(LEASE_NS)
    assert isinstance(late.outcome, Unknown)
    model.install({1, 2, 3, 4})
    model.quiesce()
    assert broken(other).reason == "node 1 timed out"


def test_an_arrival_that_was_never_taken_is_taken_back_at_once() -> None:
    """Nobody can have seen it, so nothing needs an order."""
    model = Model({1, 2})
    call = model.arrive(1, timeout_ns=50 * MS)
    model.pass_time(50 * MS)
    assert isinstance(call.outcome, TimedOut)
    assert call.outcome.missing == {1: NOT_ORDERED, 2: NOT_ARRIVED}
    assert model.nodes[1].core.take_entries({}) == []


def test_a_release_whose_messages_never_come_ends_in_unknown() -> None:
    """No hang: one lease after the deadline the wait ends, whatever is late."""
    model = Model({1, 2})
    model.send(2)
    call = model.arrive(1, timeout_ns=50 * MS)
    model.arrive(2)
    model.quiesce(progress=False)
    model.pass_time(50 * MS)
    model.pass_time(LEASE_NS)
    assert isinstance(call.outcome, Unknown)
    assert "node 2" in call.outcome.reason


def test_a_deadline_in_the_past_times_out_without_publishing() -> None:
    """`timeout=0` asks and never waits."""
    model = Model({1, 2})
    call = model.arrive(1, timeout_ns=0)
    assert isinstance(call.outcome, TimedOut)
    assert model.nodes[1].core.take_entries({}) == []


def test_cancelling_breaks_the_generation_and_names_who_did() -> None:
    """The other parties would wait for one that does not."""
    model = Model({1, 2, 3})
    calls = [model.arrive(1), model.arrive(2)]
    model.quiesce()
    model.cancel(1, calls[0])
    model.cancel(1, calls[0])
    model.quiesce()
    assert broken(calls[0]).reason == broken(calls[1]).reason == "cancelled by node 1"
    assert broken(calls[0]).missing == broken(calls[1]).missing == {3: NOT_ARRIVED}


def test_an_abandoned_wait_frees_its_name_at_once() -> None:
    """A task that was cancelled may try again without waiting for the order."""
    model = Model({1, 2})
    first = model.arrive(1)
    model.quiesce()
    model.abandon(1, first)
    again = model.arrive(1)
    model.arrive(2)
    model.quiesce()
    assert first.outcome is None
    assert isinstance(again.outcome, Released)
    assert model.nodes[1].core.stats()["waits_open"] == 0


def test_who_was_told_unknown_is_not_counted_on() -> None:
    """A node loses its lease and gets it back in the same view: nobody waits there any more, so its
    arrival may not complete what others wait for.
    """
    model = Model({1, 2, 3})
    call = model.arrive(1)
    other = model.arrive(2)
    model.quiesce()
    model.detach(1)
    assert isinstance(call.outcome, Unknown)
    model.quiesce()
    assert broken(other).reason == "cancelled by node 1"
    again = [model.arrive(node) for node in (1, 2, 3)]
    model.quiesce()
    assert released(again[0]).release == released(again[2]).release


def test_what_a_detached_node_takes_back_is_taken_back_in_the_next_view_as_well() -> None:
    """It goes on as the same incarnation, and the others carry its arrival."""
    model = Model({1, 2, 3})
    model.arrive(1)
    other = model.arrive(2)
    model.quiesce()
    model.detach(1)
    model.install({1, 2, 3, 4})
    model.quiesce()
    assert broken(other).reason == "cancelled by node 1"


def test_nothing_of_an_incarnation_that_is_over_is_taken_back() -> None:
    """It left the view, which has said all that there is to say."""
    model = Model({1, 2, 3})
    model.arrive(1, "two")
    drain(model, 1)
    model.detach(1)
    node = model.nodes[1]
    model.install({2, 3})
    model.incarnations[1] = 4

    def make(_config: ClusterConfig, _node: int) -> BarrierCore:
        return node.core

    model.make = make
    model.install({1, 2, 3}, collect=False)
    assert node.core.take_entries({}) == []
    assert node.core.stats()["waits_open"] == 0


def test_an_arrival_that_waits_for_numbers_holds_up_nothing_else() -> None:
    """Its mark has to cover what was sent before; others do not wait for that."""
    core = Model({1, 2}).nodes[1].core
    settings = Settings()
    core.arrive("late", settings, deadline_ns=None, now_ns=0, after={Lane.FIFO: 7})
    core.arrive("soon", settings, deadline_ns=None, now_ns=0)
    assert len(core.take_entries({Lane.FIFO: 6})) == 1
    assert core.take_entries({Lane.FIFO: 6}) == []
    assert len(core.take_entries({Lane.FIFO: 7})) == 1


def test_arrivals_without_payload_are_the_same_bytes_at_all_parties_in_all_rounds() -> None:
    """They are decoded once in a view, and packed together."""
    model = Model({1, 2})
    said: set[bytes] = set()
    for _ in range(3):
        for node in (1, 2):
            model.arrive(node)
            (outgoing,) = model.nodes[node].core.take_entries({})
            said.add(outgoing.payload)
            model.order(node, outgoing.payload)
        model.quiesce()
    assert len(said) == 1
    assert model.releases == 6


def test_parties_of_one_generation_meet_under_one_key_and_of_the_next_under_another() -> None:
    """The transport lets arrivals that belong together travel together."""
    model = Model({1, 2, 3})
    keys: list[int] = []
    for _ in range(2):
        for node in (1, 2):
            model.arrive(node, "x", parties=named({1, 2}))
            (outgoing,) = model.nodes[node].core.take_entries({})
            assert outgoing.meeting is not None
            assert (outgoing.meeting.wanted, outgoing.meeting.ranks) == (2, 0b011)
            keys.append(outgoing.meeting.key)
            model.order(node, outgoing.payload)
        model.quiesce()
    assert keys[0] == keys[1] != keys[2] == keys[3]
