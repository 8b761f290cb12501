"""What a proposer may choose, and who has what."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from phalanx.transport.core import proposal
from phalanx.transport.core.attempt import BACK_OFF_FAILURES_MAX, back_off_ns
from phalanx.transport.events import Member, ViewId
from phalanx.transport.wire import NO_BALLOT, NO_VIEW, Ballot, Held, Promise, ViewValue

LANES = (1, 2, 3)
OLD = ViewValue(
    era=1,
    k=4,
    members=tuple(Member(node, 1) for node in (1, 2, 3, 4)),
    continuing=(1, 2, 3, 4),
    donor=1,
    cut=(),
    reasons={},
)


def promise(
    held: dict[tuple[int, int], int] | None = None,
    *,
    installed: ViewId = OLD.id,
    synced: ViewId | None = None,
    accepted: ViewValue | None = None,
    ballot: Ballot = NO_BALLOT,
    sent: tuple[Held, ...] = (),
    directed: tuple[Held, ...] = (),
) -> Promise:
    """A report; `held` by (sender, lane)."""
    shared = tuple(Held(origin, 0, lane, n) for (origin, lane), n in (held or {}).items())
    return Promise(
        k=5,
        ballot=(1, 1),
        vote=True,
        accepted_ballot=ballot,
        accepted=accepted,
        installed=installed,
        synced=installed if synced is None else synced,
        held=shared + directed,
        sent=sent,
    )


holdings = st.dictionaries(
    st.tuples(st.integers(1, 4), st.sampled_from(LANES)), st.integers(0, 9), max_size=12
)


@given(
    st.dictionaries(
        st.integers(1, 5), st.tuples(holdings, st.booleans(), st.booleans()), min_size=1
    )
)
def test_the_cut_is_the_most_that_any_continuing_member_holds(
    reports: dict[int, tuple[dict[tuple[int, int], int], bool, bool]],
) -> None:
    """Less would lose what somebody delivered; what a newcomer says is of another life."""
    members = [Member(n, 1 if same else 2) for n, (_, _, same) in reports.items()]
    promises = {
        n: promise(held, installed=OLD.id if installed and same else NO_VIEW)
        for n, (held, installed, same) in reports.items()
    }
    value = proposal.choose(previous=OLD, members=members, reports=promises, reasons={})
    going_on = [
        n for n, (_, installed, same) in sorted(reports.items()) if installed and same and n < 5
    ]
    assert list(value.continuing) == going_on
    assert value.members == tuple(sorted(members))
    assert (value.era, value.k) == (1, 5)
    cut = {(entry.origin, entry.lane): entry.sequence for entry in value.cut}
    for origin in range(1, 5):
        for lane in LANES:
            most = max((reports[n][0].get((origin, lane), 0) for n in going_on), default=0)
            assert cut.get((origin, lane), 0) == most


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 3), st.booleans()), max_size=6))
def test_the_value_of_the_highest_ballot_is_adopted(
    accepted: list[tuple[int, int, bool]],
) -> None:
    """It may be decided already: Paxos allows no other choice."""
    promises = [
        promise(ballot=(n, node), accepted=_value(n, node)) if has else promise()
        for n, node, has in accepted
    ]
    found = proposal.adopted(promises)
    ballots = [(n, node) for n, node, has in accepted if has]
    assert found == (_value(*max(ballots)) if ballots else None)


def _value(number: int, node: int) -> ViewValue:
    return ViewValue(
        era=1,
        k=5,
        members=(Member(node, number),),
        continuing=(),
        donor=0,
        cut=(),
        reasons={},
    )


def test_each_is_told_what_it_lacks_and_who_has_it() -> None:
    """A member fetches up to the cut from a holder that is there, never from the dead."""
    reports = {
        1: promise({(4, 2): 7, (2, 2): 3}),
        2: promise({(4, 2): 5, (2, 2): 3}),
    }
    members = [Member(1, 1), Member(2, 1)]
    value = proposal.choose(previous=OLD, members=members, reports=reports, reasons={})
    lacking = proposal.sources(value, OLD, reports)
    assert lacking.keys() == {2}
    [source] = lacking[2]
    assert (source.origin, source.lane, source.sequence, source.holder) == (4, 2, 7, 1)


def test_directed_messages_are_fetched_from_their_sender() -> None:
    """Nobody else keeps them; those of the dead that did not arrive are gone."""
    reports = {
        1: promise(sent=(Held(1, 2, 2, 6), Held(1, 3, 2, 9))),
        2: promise(directed=(Held(1, 2, 2, 4), Held(3, 2, 2, 1))),
    }
    members = [Member(1, 1), Member(2, 1)]
    value = proposal.choose(previous=OLD, members=members, reports=reports, reasons={})
    assert value.cut == ()
    [source] = proposal.sources(value, OLD, reports)[2]
    assert tuple(source) == (1, 2, 2, 6, 1)


def test_a_newcomer_is_asked_for_nothing() -> None:
    """It has no part in the view before."""
    reports = {1: promise({(4, 2): 7}), 5: promise(installed=NO_VIEW)}
    members = [Member(1, 1), Member(5, 1)]
    value = proposal.choose(previous=OLD, members=members, reports=reports, reasons={})
    assert proposal.sources(value, OLD, reports) == {}
    assert value.continuing == (1,)


def test_the_first_view_has_no_past() -> None:
    """Nothing is cut and nobody continues."""
    reports = {n: promise(installed=NO_VIEW) for n in (1, 2)}
    members = [Member(1, 1), Member(2, 1)]
    value = proposal.choose(previous=None, members=members, reports=reports, reasons={})
    assert (value.id, value.continuing, value.cut) == (ViewId(1, 1), (), ())
    assert proposal.sources(value, None, reports) == {}


def test_a_start_over_names_the_newest_state_and_then_the_lowest_id() -> None:
    """Everybody must take the same state, and the best there is."""
    reports = {
        1: promise(installed=NO_VIEW, synced=ViewId(1, 2)),
        2: promise(installed=NO_VIEW, synced=ViewId(1, 3)),
        3: promise(installed=NO_VIEW, synced=ViewId(1, 3)),
        4: promise(installed=NO_VIEW, synced=ViewId(1, 9)),
    }
    members = [Member(n, 2) for n in reports]
    value = proposal.choose(previous=OLD, members=members, reports=reports, reasons={})
    assert (value.continuing, value.donor, value.cut) == ((), 2, ()), "9 is of another history"


def test_a_start_over_without_any_state_names_nobody() -> None:
    """All begin anew, and each is told so."""
    reports = {n: promise(installed=NO_VIEW) for n in (1, 2)}
    members = [Member(n, 2) for n in reports]
    value = proposal.choose(previous=OLD, members=members, reports=reports, reasons={})
    assert (value.continuing, value.donor) == ((), 0)


def test_whoever_has_no_state_of_the_view_does_not_continue_and_counts_for_the_cut() -> None:
    """It has delivered what it has delivered: those that go on with it must have that too."""
    reports = {
        1: promise({(4, 2): 5}),
        2: promise({(4, 2): 7}, synced=ViewId(1, 3)),
        3: promise({(4, 2): 6}, synced=NO_VIEW),
    }
    members = [Member(n, 1) for n in reports]
    value = proposal.choose(previous=OLD, members=members, reports=reports, reasons={})
    assert (value.continuing, value.donor) == ((1,), 1)
    assert [tuple(entry) for entry in value.cut] == [(4, 2, 7)]
    assert proposal.sources(value, OLD, reports).keys() == {1, 3}
    del reports[1]
    value = proposal.choose(previous=OLD, members=members[1:], reports=reports, reasons={})
    assert (value.continuing, value.donor) == ((), 2)
    assert [tuple(entry) for entry in value.cut] == [(4, 2, 7)]


def test_a_proposer_that_failed_leaves_the_field_to_lower_ids_for_a_bounded_time() -> None:
    """Two that propose against each other must not meet again and again, nor wait for ever."""
    assert [back_off_ns(200, place, 1) for place in (0, 1, 1.5)] == [0, 10, 15]
    assert [back_off_ns(200, 2, failures) for failures in (1, 2, 3)] == [20, 40, 60]
    longest_ns = back_off_ns(200, 1, BACK_OFF_FAILURES_MAX)
    assert longest_ns > back_off_ns(200, 1, BACK_OFF_FAILURES_MAX - 1)
    assert longest_ns == back_off_ns(200, 1, BACK_OFF_FAILURES_MAX + 1)
