"""A checker that cannot fail checks nothing: each finds the breach that is made for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec
import pytest

from phalanx.barrier.testing.meetings import arrive, use_barriers
from phalanx.transport.config import MS
from phalanx.transport.events import Lane, Member, Position, ViewId
from phalanx.transport.testing import barrier_checkers, checkers, guarantees
from phalanx.transport.testing.checkers import Checker
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
    Stood,
    Told,
)
from phalanx.transport.testing.lives import records_of
from phalanx.transport.testing.simulated_node import Life
from phalanx.transport.testing.simulation import Simulation, simulated_config

from .scenes import Talk, converge

Tale = list[AnyRecord]
"""The records of one incarnation."""
Breach = Callable[[list[Tale]], None]
_Kind = TypeVar("_Kind", bound=AnyRecord)


@pytest.fixture(scope="module")
def lives() -> list[Life]:
    """A good run: two views, all lanes, receipts and a barrier in each."""
    simulation = Simulation(simulated_config(3))
    use_barriers(simulation)
    for node in simulation.nodes.values():
        node.clock_offset_ns = 10**12
    simulation.start_all()
    converge(simulation, 1, 2, 3)
    talk = Talk(simulation)
    for rest in ((1, 2, 3), (1, 2)):
        for _ in range(3):
            for node in rest:
                for lane in (Lane.FIFO, Lane.ORDERED, Lane.BULK):
                    talk.say(simulation.nodes[node], lane)
            simulation.run_for(2 * MS)
        talk.say(simulation.nodes[1], addressee=2)
        for node in rest:
            arrive(simulation.nodes[node], "stage", 1000 * MS)
        simulation.run_for(20 * MS)
        if len(rest) == 3:
            simulation.nodes[3].kill()
            converge(simulation, 1, 2)
    simulation.run_for(300 * MS)
    return simulation.lives


@pytest.fixture
def tales(lives: list[Life]) -> list[Tale]:
    """Its histories, to be changed."""
    return [records_of(life) for life in lives]


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


def _found(tales: list[Tale], *, told: int) -> None:
    """Two of three found an era, and so many of them were told to."""
    members = (Member(1, 1), Member(2, 1))
    for place, tale in enumerate(tales[:2]):
        tale.append(Installed(1, ViewId(2, 1), members, started_over=True))
        change(tale, 0, founding=2 if place < told else 0)


def an_era_of_nobody(tales: list[Tale]) -> None:
    """Who began the cluster anew was never told to."""
    _found(tales, told=0)


def an_era_of_some(tales: list[Tale]) -> None:
    """One of the founders was not told to, and not all nodes are there."""
    _found(tales, told=1)


def a_view_of_nobody(tales: list[Tale]) -> None:
    """A later view without anybody from before, and it does not say so."""
    tales.append([Began(1, 1, 5), Installed(1, ViewId(1, 7), (Member(1, 5),))])


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


def waits_for_ever(tales: list[Tale]) -> None:
    """A wait at a barrier does not end."""
    tale = tales[0]
    tale[places(tale, Returned)[0]] = LostPrimary(10_000 * MS, ViewId(1, 1))


def sends_for_ever(tales: list[Tale]) -> None:
    """A send with a deadline does not return."""
    tale = tales[0]
    change(tale, places(tale, Sent)[0], accepted=False, deadline_ns=2000 * MS)
    tale.append(LostPrimary(10_000 * MS, ViewId(1, 1)))


BREACHES: list[tuple[Checker, Breach]] = [
    (checkers.identity, same_incarnation),
    (checkers.integrity, twice),
    (checkers.integrity, changed),
    (checkers.integrity, refused_and_delivered),
    (checkers.integrity, on_another_lane),
    (checkers.integrity, to_the_wrong_one),
    (checkers.integrity, of_a_stranger),
    (checkers.fifo, out_of_order),
    (checkers.guaranteed_delivery, held_by_nobody_who_left),
    (checkers.guaranteed_delivery, false_receipt),
    (checkers.guaranteed_delivery, false_receipt_told_late),
    (checkers.guaranteed_delivery, false_loss),
    (checkers.guaranteed_delivery, settled_twice),
    (checkers.all_settled, no_receipt),
    (checkers.all_delivered, lost_at_the_end),
    (checkers.view_synchrony, lost_at_one),
    (checkers.view_synchrony, another_order_at_one),
    (checkers.one_stream, in_the_wrong_view),
    (checkers.one_stream, before_the_first_view),
    (checkers.one_stream, back_to_an_older_view),
    (checkers.one_stream, after_the_end),
    (checkers.one_stream, after_leaving),
    (checkers.agreed_order, two_orders),
    (checkers.agreed_order, a_position_left_out),
    (checkers.barrier_order, two_positions),
    (checkers.one_primary, two_primaries),
    (checkers.one_primary, two_views_of_one_name),
    (checkers.continuity, nobody_remembers),
    (checkers.continuity, an_era_of_nobody),
    (checkers.continuity, an_era_of_some),
    (checkers.continuity, a_view_of_nobody),
    (checkers.never_silent, silence_after_the_lease),
    (checkers.last_rail_lost, left_out_with_a_rail_up),
    (barrier_checkers.barrier_safety, late_arrival),
    (barrier_checkers.barrier_safety, released_without_a_part),
    (barrier_checkers.barrier_cut, too_early),
    (barrier_checkers.barrier_cut, too_early_for_what_was_sent_to_one),
    (barrier_checkers.barrier_uniformity, two_outcomes),
    (barrier_checkers.no_hang, waits_for_ever),
    (barrier_checkers.no_hang, sends_for_ever),
]


@pytest.mark.parametrize(("checker", "breach"), BREACHES)
def test_each_breach_is_found_by_its_checker(
    tales: list[Tale], checker: Checker, breach: Breach
) -> None:
    """The good run has none; the same run with one thing wrong has one."""
    assert list(checker(evidence(tales))) == []
    breach(tales)
    assert list(checker(evidence(tales))) != []


def test_every_checker_of_every_guarantee_has_a_breach() -> None:
    """A guarantee without a checker must have nothing to check, and say so."""
    listed = {c for g in guarantees.GUARANTEES for c in (*g.checkers, *g.quiet)}
    assert listed == {checker for checker, _ in BREACHES}
    assert listed >= {*checkers.ALWAYS, *checkers.QUIET, *barrier_checkers.BARRIERS}
    assert [g.number for g in guarantees.GUARANTEES] == list(range(1, 14))
    for guarantee in guarantees.GUARANTEES:
        for checker in (*guarantee.checkers, *guarantee.quiet):
            assert (checker.__doc__ or "").split(":")[0].split(",")[0] == str(guarantee.number)


def test_a_run_says_what_it_put_to_the_test(tales: list[Tale]) -> None:
    """What was not exercised is no success."""
    found = {f.guarantee.number: f for f in guarantees.judge(evidence(tales), quiet=True)}
    assert {number: f.verdict for number, f in found.items()} == {
        **dict.fromkeys(range(1, 13), "held"),
        7: "nothing to check",
        13: "nothing to check",
    }
    # Nine of each of three to each of them, six of each of two to both, one or two to one.
    assert found[1].checked == 3 * 27 + 2 * 18 + 2
    assert (found[9].checked, found[11].checked) == (3 + 2, 2)
    twice(tales)
    broken = guarantees.judge(evidence(tales))[0]
    assert broken.verdict == "broken"
    assert "integrity" in guarantees.complain([broken])


def test_a_peer_that_is_gone_is_no_lost_rail(tales: list[Tale]) -> None:
    """Its paths go down one after another; only a rail that is lost alone counts."""
    tale = tales[0]
    for place in reversed(places(tale, PathSeen)):
        del tale[place]
    change(tale, 0, rails=("a", "b"))
    end_ns = nth(tale, Installed, -1).at_ns
    tale += [PathSeen(end_ns, 2, "a", "down"), PathSeen(end_ns + MS, 2, "b", "down")]
    count = guarantees.GUARANTEES[12].counts
    assert count(evidence([tale])) == 0
    tale[-1] = PathSeen(end_ns + MS, 2, "a", "up")
    assert count(evidence([tale])) == 1


def test_whoever_stood_still_is_excused(tales: list[Tale]) -> None:
    """A stopped process can say nothing, and ends no call."""
    silence_after_the_lease(tales)
    waits_for_ever(tales)
    stood = [*tales[0], Stood(9_000 * MS, 100 * MS)]
    for checker in (checkers.never_silent, barrier_checkers.no_hang):
        assert any("node=1" in breach for breach in checker(evidence(tales)))
        assert not any("node=1" in breach for breach in checker(evidence([stood, *tales[1:]])))


def test_times_of_two_clocks_are_not_compared(tales: list[Tale]) -> None:
    """Hosts that share no clock would break guarantees by their offsets."""
    two_primaries(tales)
    late_arrival(tales)
    change(tales[0], 0, clock="another")
    assert not evidence(tales).one_clock
    assert list(checkers.one_primary(evidence(tales))) == []
    assert list(barrier_checkers.barrier_safety(evidence(tales))) == []


def test_a_view_change_is_no_transparency(tales: list[Tale]) -> None:
    """Guarantee 13 is about nothing happening at all."""
    began = nth(tales[0], Installed, -1).at_ns
    found = evidence(tales)
    assert list(checkers.path_transparency(found, since_ns=began + MS)) == []
    assert len(list(checkers.path_transparency(found, since_ns=began))) == 2


def test_a_gap_counts_from_the_fault_and_as_far_as_the_silence_goes() -> None:
    """A stream that never comes back must show the whole span, not nothing."""
    members, view = (Member(1, 1), Member(2, 1)), ViewId(1, 1)
    times = (1000, 2000, 3000, 7000)
    got = [Got(at_ns, 2, Lane.FIFO, view, (b"%d" % at_ns,)) for at_ns in times]
    history = History([Began(0, 1, 1), Installed(0, view, members), *got])

    def gap(from_ns: int, to_ns: int, sender: int = 2) -> int:
        return history.longest_gap_ns(sender, from_ns, to_ns, directed=False)

    assert gap(0, 8000) == 4000
    assert gap(2500, 5000) == 2000
    assert gap(7000, 19_000) == 12_000
    assert gap(0, 5000, sender=3) == 5000


def test_check_names_the_guarantee(lives: list[Life], tales: list[Tale]) -> None:
    """Whoever reads the failure must know what was broken; lives are taken as they are."""
    checkers.check(lives, checkers.ALWAYS + checkers.QUIET + barrier_checkers.BARRIERS)
    twice(tales)
    with pytest.raises(AssertionError, match="integrity"):
        checkers.check(evidence(tales))


def test_an_era_is_founded_by_those_who_were_told_to(tales: list[Tale]) -> None:
    """Both were; of a history that does not say it nothing is concluded."""
    _found(tales, told=2)
    assert list(checkers.continuity(evidence(tales))) == []
    for tale in tales[:2]:
        change(tale, 0, founding=None)
    assert list(checkers.continuity(evidence(tales))) == []


def test_a_view_is_remembered_by_a_member_that_died_before_it_came_to_it() -> None:
    """It was there when the view was decided; one that only has its number was not."""

    def told(member: Member, k: int, *members: Member) -> Tale:
        return [Began(0, *member), Installed(0, ViewId(1, k), members)]

    elder, younger, again = Member(1, 1), Member(2, 2), Member(1, 2)
    before = told(elder, 1, elder)
    assert list(checkers.continuity(evidence([before, told(younger, 2, elder, younger)]))) == []
    [complaint] = checkers.continuity(evidence([before, told(younger, 2, again, younger)]))
    assert "was in one before" in complaint
