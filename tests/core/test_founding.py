"""What an operator's word makes of a record, and who founds an era with whom."""

from __future__ import annotations

import msgspec
import pytest

from phalanx.transport.core.founding import (
    forced,
    is_next,
    of_one_kind,
    taken_back,
    without_memory,
)
from phalanx.transport.events import Member, ViewId
from phalanx.transport.wire import NO_BALLOT, NO_VIEW, Record, Row, ViewValue

ME, OTHER, THIRD = Member(1, 5), Member(2, 3), Member(3, 8)
EVERYBODY = {1, 2, 3}


def value(era: int, k: int) -> ViewValue:
    """A decided view."""
    return ViewValue(
        era=era, k=k, members=(ME, OTHER), continuing=(1,), donor=1, cut=(), reasons={}
    )


def record(**more: object) -> Record:
    """A record of node 1 with something in it."""
    before = Record(
        cluster="c", node=1, incarnation=5, decided=value(3, 7), promised=(4, 2), seen={2: (3, 77)}
    )
    return msgspec.structs.replace(before, **more)


def row(member: Member, *, founding: int = 0, decided: ViewId = NO_VIEW) -> Row:
    """What a node says that reaches everybody."""
    return Row(
        incarnation=member.incarnation,
        reach=(ME, OTHER, THIRD),
        dead=(),
        left=(),
        decided=decided,
        installed=decided != NO_VIEW,
        synced=True,
        leaving=False,
        votes_in_ns=0,
        closed=0,
        ballot=NO_BALLOT,
        grants={},
        founding=founding,
    )


def test_force_founds_the_era_after_the_highest_known_and_drops_the_rest() -> None:
    """Votes in the older era are over; who was met, and the own number, are not."""
    after = forced(record())
    assert (after.era, after.founding) == (4, True)
    assert (after.decided, after.promised, after.accepted) == (None, NO_BALLOT, None)
    assert (after.incarnation, after.seen, after.voter) == (5, {2: (3, 77)}, True)
    lost = Record(cluster="c", node=1, incarnation=0, voter=False)
    assert (forced(lost).era, forced(lost).voter) == (2, False)


def test_force_said_again_changes_nothing_and_after_a_view_founds_the_next() -> None:
    """Votes that were given in the founding stay given."""
    once = forced(record())
    voted = Record(
        cluster="c", node=1, incarnation=6, era=4, founding=True, promised=(2, 1), decided=None
    )
    assert forced(once) == once
    assert forced(voted) == voted
    assert forced(record(era=4, founding=False, decided=value(4, 1))).era == 5


def test_what_was_voted_in_a_founding_and_forgotten_is_not_voted_again() -> None:
    """Taken back and said again, or with an old copy of the record: it founds a higher era."""
    once = forced(record())
    back = taken_back(once)
    assert (back.founding, back.voter, back.decided) == (False, False, None)
    assert forced(back).era == once.era + 1
    copy = without_memory(once)
    assert (copy.founding, copy.era, copy.voter) == (True, once.era + 1, False)
    assert without_memory(record()).founding is False


@pytest.mark.parametrize(
    ("view_id", "decided", "founding", "everybody", "follows"),
    [
        (ViewId(1, 1), None, 0, False, True),
        (ViewId(1, 2), None, 0, False, False),
        (ViewId(1, 8), value(1, 7), 0, False, True),
        (ViewId(1, 9), value(1, 7), 0, False, False),
        (ViewId(2, 8), value(1, 7), 0, True, False),
        (ViewId(2, 1), value(1, 7), 0, True, False),
        (ViewId(2, 1), None, 2, False, True),
        (ViewId(3, 1), None, 2, False, True),
        (ViewId(2, 1), None, 3, True, False),
        (ViewId(1, 1), None, 2, True, False),
        (ViewId(2, 1), None, 0, False, False),
        (ViewId(2, 1), None, 0, True, True),
    ],
)
def test_a_view_follows_only_in_its_era_and_a_first_one_only_for_founders(
    view_id: ViewId, decided: ViewValue | None, founding: int, everybody: bool, follows: bool
) -> None:
    """Instances of different eras have the same numbers, and are not to be mistaken."""
    assert is_next(view_id, decided, founding, everybody=everybody) is follows


def test_founders_and_others_go_separate_ways() -> None:
    """On both sides, so that each side's largest clique is of its own kind."""
    rows = {ME: row(ME, founding=2), OTHER: row(OTHER, founding=3), THIRD: row(THIRD)}
    assert set(of_one_kind(rows, ME, EVERYBODY | {4})) == {ME, OTHER}
    assert set(of_one_kind(rows, THIRD, EVERYBODY | {4})) == {THIRD}


def test_everybody_without_a_view_is_of_one_kind() -> None:
    """A first start for all; not if one of them knows a view, or one is not there."""
    rows = {ME: row(ME, founding=2), OTHER: row(OTHER), THIRD: row(THIRD)}
    assert set(of_one_kind(rows, ME, EVERYBODY)) == {ME, OTHER, THIRD}
    rows[THIRD] = row(THIRD, decided=ViewId(1, 7))
    assert set(of_one_kind(rows, ME, EVERYBODY)) == {ME}
    assert set(of_one_kind(rows, THIRD, EVERYBODY)) == {OTHER, THIRD}
