"""A good run with one thing wrong, once for each breach that a checker has to find."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from phalanx.transport.config import MS
from phalanx.transport.events import Lane, Member, Position, ViewId
from phalanx.transport.testing.evidence import Evidence, History
from phalanx.transport.testing.history import (
    Accepted,
    AnyRecord,
    Arrived,
    Began,
    Ended,
    Expelled,
    Got,
    Installed,
    Leased,
    Left,
    LostPrimary,
    PathSeen,
    Refused,
    Returned,
    Sent,
    Told,
)

Tale = list[AnyRecord]
"""The records of one incarnation."""
Breach = Callable[[list[Tale]], None]
_Kind = TypeVar("_Kind", bound=AnyRecord)


def evidence(tales: Iterable[Tale]) -> Evidence:
    """What checkers take."""
    return Evidence(map(History, tales))


def places(tale: Tale, kind: type[AnyRecord]) -> list[int]:
    """Where records of a kind stand in a history."""
    return [place for place, record in enumerate(tale) if isinstance(record, kind)]


def change(tale: Tale, place: int, **fields: object) -> None:
    """Let a record say something else."""
    tale[place] = msgspec.structs.replace(tale[place], **fields)


def nth(tale: Tale, kind: type[_Kind], number: int = 0) -> _Kind:
    """The n-th record of a kind."""
    found = [record for record in tale if isinstance(record, kind)]
    return found[number]


def of_sender(tale: Tale, sender: int) -> list[int]:
    """FIFO multicasts of one sender."""
    return [
        place
        for place, record in enumerate(tale)
        if isinstance(record, Got)
        and record.sender == sender
        and record.lane is Lane.FIFO
        and not record.directed
    ]


def entries(tale: Tale) -> list[int]:
    """What applications sent on the ordered lane, and layers."""
    return [p for p, record in enumerate(tale) if isinstance(record, Got) and record.first]


# ------------------------------------------------------------------------------ the breaches


def twice(tales: list[Tale]) -> None:
    """A message is delivered twice."""
    tale = tales[1]
    place = of_sender(tale, 1)[0]
    tale.insert(place, tale[place])


def changed(tales: list[Tale]) -> None:
    """A message nobody sent."""
    change(tales[1], of_sender(tales[1], 1)[0], messages=(b"something else",))


def refused_and_delivered(tales: list[Tale]) -> None:
    """A message whose sender was told that it was not accepted."""
    tale = tales[0]
    place = places(tale, Sent)[0]
    change(tale, place, accepted=False)
    tale.insert(place + 1, Refused(0, nth(tale, Sent).number, "Overloaded"))


def on_another_lane(tales: list[Tale]) -> None:
    """A message comes on another lane than it was sent on."""
    change(tales[1], of_sender(tales[1], 1)[0], lane=Lane.BULK)


def to_the_wrong_one(tales: list[Tale]) -> None:
    """What was sent to one member comes to another."""
    tale = tales[1]
    place = next(p for p in places(tale, Got) if msgspec.structs.asdict(tale[p])["directed"])
    first = places(tales[2], Installed)[0]
    tales[2].insert(first + 1, tale[place])


def of_a_stranger(tales: list[Tale]) -> None:
    """The receiver installs a view of which it is no member."""
    place = places(tales[0], Installed)[-1]
    change(tales[0], place, members=(Member(2, 1), Member(3, 1)))


def same_incarnation(tales: list[Tale]) -> None:
    """Two processes take part under one number."""
    tales.append(tales[2])


def out_of_order(tales: list[Tale]) -> None:
    """Two messages of one sender change places."""
    tale = tales[1]
    one, other = of_sender(tale, 1)[:2]
    tale[one], tale[other] = tale[other], tale[one]


def held_by_nobody_who_left(tales: list[Tale]) -> None:
    """The sender was told that it is held by one that never got it, and lived to see its end."""
    tale = tales[2]
    del tale[of_sender(tale, 1)[0]]
    tale.insert(places(tale, Ended)[0], Expelled(tale[-1].at_ns, ViewId(1, 2)))


def false_receipt(tales: list[Tale]) -> None:
    """The sender was told that it is held; a member that goes on never had it."""
    del tales[1][of_sender(tales[1], 1)[0]]


def false_loss(tales: list[Tale]) -> None:
    """A member that goes on is named as one that lacks a message."""
    change(tales[0], places(tales[0], Told)[0], missing={2: "gone"})


def settled_twice(tales: list[Tale]) -> None:
    """A receipt is given twice."""
    tale = tales[0]
    place = places(tale, Told)[0]
    tale.insert(place, tale[place])


def false_receipt_told_late(tales: list[Tale]) -> None:
    """A call returned some time after it was made, and its receipt came a view later."""
    tale = tales[0]
    message = nth(tale, Got).messages
    for place in reversed(places(tale, Sent)):
        if nth([tale[place]], Sent).messages == message:
            change(tale, place, accepted=False)
            tale.insert(place + 1, Accepted(0, nth([tale[place]], Sent).number))
    false_receipt(tales)


def no_receipt(tales: list[Tale]) -> None:
    """A message is never heard of again."""
    tale = tales[0]
    for place in reversed(places(tale, Told)):
        del tale[place]


def lost_at_the_end(tales: list[Tale]) -> None:
    """In the last view one member lacks the last message."""
    del tales[1][of_sender(tales[1], 1)[-1]]


def lost_at_one(tales: list[Tale]) -> None:
    """One of two that go on lacks a message of the dead."""
    del tales[0][of_sender(tales[0], 3)[0]]


def another_order_at_one(tales: list[Tale]) -> None:
    """Two that go on have the same entries of the ordered lane, and not the same sequence."""
    two_orders(tales)


def in_the_wrong_view(tales: list[Tale]) -> None:
    """A message of the first view comes in the second."""
    tale = tales[0]
    record = tale.pop(of_sender(tale, 3)[0])
    tale.insert(places(tale, Installed)[-1] + 1, record)


def before_the_first_view(tales: list[Tale]) -> None:
    """A message comes before there is a view."""
    tale = tales[1]
    tale.insert(1, tale.pop(of_sender(tale, 1)[0]))


def back_to_an_older_view(tales: list[Tale]) -> None:
    """The first view is installed once more."""
    tale = tales[0]
    tale.insert(places(tale, Installed)[-1] + 1, nth(tale, Installed))


def after_the_end(tales: list[Tale]) -> None:
    """Something follows an eviction."""
    tales[2].insert(places(tales[2], Got)[-1], Expelled(0, ViewId(1, 9)))


def after_leaving(tales: list[Tale]) -> None:
    """Something follows the farewell."""
    tales[2].insert(places(tales[2], Got)[-1], Left(0))


def two_orders(tales: list[Tale]) -> None:
    """Two entries of the agreed order change places."""
    tale = tales[1]
    one, other = [place for place in entries(tale) if not nth([tale[place]], Got).inner][:2]
    first, second = nth([tale[one]], Got), nth([tale[other]], Got)
    change(tale, one, messages=second.messages, sender=second.sender)
    change(tale, other, messages=first.messages, sender=first.sender)


def a_position_left_out(tales: list[Tale]) -> None:
    """An entry of the agreed order is missing, and the next one has its own position."""
    del tales[1][entries(tales[1])[0]]


def two_positions(tales: list[Tale]) -> None:
    """One release is decided at two places of the order."""
    for number, tale in enumerate(tales[:2]):
        change(tale, places(tale, Returned)[0], position=Position(1, 1, 7 + number))


def two_primaries(tales: list[Tale]) -> None:
    """The dead one acted on in its old view."""
    place = [p for p in places(tales[2], Leased) if nth([tales[2][p]], Leased).view is not None][-1]
    change(tales[2], place, at_ns=tales[2][place].at_ns + 400 * MS)


def two_views_of_one_name(tales: list[Tale]) -> None:
    """Two members of a view do not agree on who is in it."""
    members = (Member(1, 1), Member(2, 1), Member(3, 2))
    change(tales[0], places(tales[0], Installed)[-1], members=members)


def nobody_remembers(tales: list[Tale]) -> None:
    """The last view consists of nodes that have begun anew, and says nothing of it."""
    for tale in tales[:2]:
        del tale[1 : places(tale, Installed)[-1]]


def founded(tales: list[Tale], *, told: int) -> None:
    """Two of three found an era, and so many of them were told to."""
    members = (Member(1, 1), Member(2, 1))
    for place, tale in enumerate(tales[:2]):
        tale.append(Installed(1, ViewId(2, 1), members, started_over=True))
        change(tale, 0, founding=2 if place < told else 0)


def an_era_of_nobody(tales: list[Tale]) -> None:
    """Who began the cluster anew was never told to."""
    founded(tales, told=0)


def an_era_of_some(tales: list[Tale]) -> None:
    """One of the founders was not told to, and not all nodes are there."""
    founded(tales, told=1)


def a_view_of_nobody(tales: list[Tale]) -> None:
    """A later view without anybody from before, and it does not say so."""
    tales.append([Began(1, 1, 5), Installed(1, ViewId(1, 7), (Member(1, 5),))])


def a_start_over_of_some(tales: list[Tale]) -> None:
    """A later view begins anew without the third node."""
    for tale in tales[:2]:
        change(tale, places(tale, Installed)[-1], started_over=True)


def silence_after_the_lease(tales: list[Tale]) -> None:
    """A member looks for two seconds whether it may act, may not, and is told nothing."""
    tale = tales[0]
    end_ns = max(record.at_ns for record in tale if record.at_ns < 1 << 62)
    tale.append(Leased(end_ns + 2000 * MS, end_ns))


def left_out_with_a_rail_up(tales: list[Tale]) -> None:
    """The third is left out as unreachable, and nobody's paths to it, or its own, were lost."""
    for tale in tales:
        change(tale, 0, rails=("a", "b"))
        for place in reversed(places(tale, PathSeen)):
            del tale[place]
    for tale in tales[:2]:
        change(tale, places(tale, Installed)[-1], left={3: "unreachable"})
    del tales[2][places(tales[2], Ended)[0]]
    tales[2].append(Leased(nth(tales[0], Installed, -1).at_ns + 1000 * MS, 0))


def late_arrival(tales: list[Tale]) -> None:
    """A party had not arrived when the others were released."""
    tale = tales[1]
    tale.append(msgspec.structs.replace(tale.pop(places(tale, Arrived)[0]), at_ns=1 << 60))


def released_without_a_part(tales: list[Tale]) -> None:
    """Somebody is released from a barrier of which it is no party."""
    change(tales[1], places(tales[1], Returned)[0], parties=(Member(1, 1),))


def too_early(tales: list[Tale]) -> None:
    """The release comes before what a party had sent."""
    tale = tales[1]
    record = tale.pop(places(tale, Returned)[0])
    tale.insert(of_sender(tale, 1)[0], record)


def too_early_for_what_was_sent_to_one(tales: list[Tale]) -> None:
    """The arrival waited until it was held, and it comes after the release."""
    sender, tale = tales[0], tales[1]
    change(sender, places(sender, Arrived)[0], directed=True)
    place = next(p for p in places(tale, Got) if nth([tale[p]], Got).directed)
    record = tale.pop(place)
    tale.insert(places(tale, Returned)[0] + 1, record)


def two_outcomes(tales: list[Tale]) -> None:
    """The same generation is released for one and broken for another."""
    change(tales[1], places(tales[1], Returned)[0], verdict="broken")


def other_parties(tales: list[Tale]) -> None:
    """The same generation is released for one without a party that another one saw there."""
    returned = nth(tales[1], Returned)
    change(tales[1], places(tales[1], Returned)[0], parties=returned.parties[:2])


def a_safe_release_that_binds_nobody(tales: list[Tale]) -> None:
    """The one that died had been released, and the others went on without that."""
    for tale in tales[:2]:
        change(tale, places(tale, Returned)[1], verdict="broken", token=None)
    assert nth(tales[2], Returned, 1).token is not None, "it was safe"


def anothers_payload(tales: list[Tale]) -> None:
    """What a party brought along is given as what another one did."""
    payloads = nth(tales[0], Returned).payloads
    change(tales[0], places(tales[0], Returned)[0], payloads={**payloads, 1: payloads[2]})


def a_token_of_another_place(tales: list[Tale]) -> None:
    """It is not where the release was decided."""
    change(tales[0], places(tales[0], Returned)[1], token=Position(9, 9, 9))


def a_token_that_does_not_grow(tales: list[Tale]) -> None:
    """The second release of a name has the token of the first."""
    for tale in tales[:2]:
        first, second = nth(tale, Returned, 1), places(tale, Returned)[3]
        change(tale, second, token=first.token, position=first.token)


def waits_for_ever(tales: list[Tale]) -> None:
    """A wait at a barrier does not end."""
    tale = tales[0]
    tale[places(tale, Returned)[0]] = LostPrimary(10_000 * MS, ViewId(1, 1))


def sends_for_ever(tales: list[Tale]) -> None:
    """A send with a deadline does not return."""
    tale = tales[0]
    change(tale, places(tale, Sent)[0], accepted=False, deadline_ns=2000 * MS)
    tale.append(LostPrimary(10_000 * MS, ViewId(1, 1)))
