"""A checker that cannot fail checks nothing: each finds the breach that is made for it."""

from __future__ import annotations

import pytest

from phalanx.barrier.testing.meetings import arrive, use_barriers
from phalanx.transport.config import MS
from phalanx.transport.events import Lane, Member, ViewId
from phalanx.transport.testing import barrier_checkers, checkers, guarantees, path_checkers
from phalanx.transport.testing.checkers import Checker
from phalanx.transport.testing.evidence import History
from phalanx.transport.testing.history import (
    Began,
    Got,
    Installed,
    Leased,
    Left,
    PathSeen,
    Stood,
)
from phalanx.transport.testing.lives import records_of
from phalanx.transport.testing.simulated_node import Life
from phalanx.transport.testing.simulation import Simulation, simulated_config

from . import breaches
from .breaches import Breach, Tale, change, evidence, founded, nth, places
from .scenes import Talk, converge
from .test_channel_checkers import CHANNEL_BREACHES


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
            arrive(simulation.nodes[node], "stage", 1000 * MS, b"of %d" % node)
        simulation.run_for(20 * MS)
        for node in rest:
            assert arrive(simulation.nodes[node], "safe", 1000 * MS), "all is held"
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


BREACHES: list[tuple[Checker, Breach]] = [
    (checkers.identity, breaches.same_incarnation),
    (checkers.integrity, breaches.twice),
    (checkers.integrity, breaches.changed),
    (checkers.integrity, breaches.refused_and_delivered),
    (checkers.integrity, breaches.on_another_lane),
    (checkers.integrity, breaches.to_the_wrong_one),
    (checkers.integrity, breaches.of_a_stranger),
    (checkers.fifo, breaches.out_of_order),
    (checkers.guaranteed_delivery, breaches.held_by_nobody_who_left),
    (checkers.guaranteed_delivery, breaches.false_receipt),
    (checkers.guaranteed_delivery, breaches.false_receipt_told_late),
    (checkers.guaranteed_delivery, breaches.false_loss),
    (checkers.guaranteed_delivery, breaches.settled_twice),
    (checkers.all_settled, breaches.no_receipt),
    (checkers.all_delivered, breaches.lost_at_the_end),
    (checkers.view_synchrony, breaches.lost_at_one),
    (checkers.view_synchrony, breaches.another_order_at_one),
    (checkers.one_stream, breaches.in_the_wrong_view),
    (checkers.one_stream, breaches.before_the_first_view),
    (checkers.one_stream, breaches.back_to_an_older_view),
    (checkers.one_stream, breaches.after_the_end),
    (checkers.one_stream, breaches.after_leaving),
    (checkers.agreed_order, breaches.two_orders),
    (checkers.agreed_order, breaches.a_position_left_out),
    (checkers.barrier_order, breaches.two_positions),
    (checkers.one_primary, breaches.two_primaries),
    (checkers.one_primary, breaches.two_views_of_one_name),
    (checkers.continuity, breaches.nobody_remembers),
    (checkers.continuity, breaches.an_era_of_nobody),
    (checkers.continuity, breaches.an_era_of_some),
    (checkers.continuity, breaches.a_view_of_nobody),
    (checkers.continuity, breaches.a_start_over_of_some),
    (checkers.never_silent, breaches.silence_after_the_lease),
    (path_checkers.last_rail_lost, breaches.left_out_with_a_rail_up),
    (barrier_checkers.barrier_safety, breaches.late_arrival),
    (barrier_checkers.barrier_safety, breaches.released_without_a_part),
    (barrier_checkers.barrier_cut, breaches.too_early),
    (barrier_checkers.barrier_cut, breaches.too_early_for_what_was_sent_to_one),
    (barrier_checkers.barrier_uniformity, breaches.two_outcomes),
    (barrier_checkers.barrier_uniformity, breaches.other_parties),
    (barrier_checkers.barrier_uniformity, breaches.a_safe_release_that_binds_nobody),
    (barrier_checkers.barrier_payloads, breaches.anothers_payload),
    (barrier_checkers.barrier_tokens, breaches.a_token_of_another_place),
    (barrier_checkers.barrier_tokens, breaches.a_token_that_does_not_grow),
    (barrier_checkers.no_hang, breaches.waits_for_ever),
    (barrier_checkers.no_hang, breaches.sends_for_ever),
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
    assert listed == {checker for checker, _ in (*BREACHES, *CHANNEL_BREACHES)}
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
    assert (found[9].checked, found[11].checked) == (2 * (3 + 2), 2 * 2)
    breaches.twice(tales)
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
    breaches.silence_after_the_lease(tales)
    breaches.waits_for_ever(tales)
    stood = [*tales[0], Stood(9_000 * MS, 100 * MS)]
    for checker in (checkers.never_silent, barrier_checkers.no_hang):
        assert any("node=1" in breach for breach in checker(evidence(tales)))
        assert not any("node=1" in breach for breach in checker(evidence([stood, *tales[1:]])))


@pytest.mark.parametrize(("after_ms", "excused"), [(1_000, True), (1_500, False)])
def test_whoever_leaves_is_given_the_time_of_its_farewell(
    tales: list[Tale], after_ms: int, excused: bool
) -> None:
    """It acts no more, and its application knows why before the call returns."""
    breaches.silence_after_the_lease(tales)
    silence = tales[0].pop()
    assert isinstance(silence, Leased)
    left = [*tales[0], Left(silence.since_ns + after_ms * MS), silence]
    told = checkers.never_silent(evidence([left, *tales[1:]]))
    assert any("node=1" in breach for breach in told) is not excused


def test_whoever_held_a_message_on_the_way_to_a_view_need_not_come_to_it(
    tales: list[Tale],
) -> None:
    """The view counted on it, and then went on without it: nobody could tell the sender."""
    breaches.held_by_nobody_who_left(tales)
    assert any("never got it" in said for said in checkers.guaranteed_delivery(evidence(tales)))
    sender = tales[0]
    everybody = nth(sender, Installed).members
    change(sender, places(sender, Installed)[-1], members=everybody, left={})
    told = list(checkers.guaranteed_delivery(evidence(tales)))
    assert not any("never got it" in said for said in told)


def test_whom_a_newcomer_does_not_reach_may_be_left_out(tales: list[Tale]) -> None:
    """A view is a set in which everybody reaches everybody, and its history does not say whom."""
    breaches.left_out_with_a_rail_up(tales)
    assert list(path_checkers.last_rail_lost(evidence(tales)))
    for tale in tales[:2]:
        last = places(tale, Installed)[-1]
        change(tale, last, members=(*nth(tale, Installed, -1).members, Member(4, 1)))
    assert list(path_checkers.last_rail_lost(evidence(tales))) == []


def test_times_of_two_clocks_are_not_compared(tales: list[Tale]) -> None:
    """Hosts that share no clock would break guarantees by their offsets."""
    breaches.two_primaries(tales)
    breaches.late_arrival(tales)
    change(tales[0], 0, clock="another")
    assert not evidence(tales).one_clock
    assert list(checkers.one_primary(evidence(tales))) == []
    assert list(barrier_checkers.barrier_safety(evidence(tales))) == []


def test_a_view_change_is_no_transparency(tales: list[Tale]) -> None:
    """Guarantee 13 is about nothing happening at all."""
    began = nth(tales[0], Installed, -1).at_ns
    found = evidence(tales)
    assert list(path_checkers.path_transparency(found, since_ns=began + MS)) == []
    assert len(list(path_checkers.path_transparency(found, since_ns=began))) == 2


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
    breaches.twice(tales)
    with pytest.raises(AssertionError, match="integrity"):
        checkers.check(evidence(tales))


def test_an_era_is_founded_by_those_who_were_told_to(tales: list[Tale]) -> None:
    """Both were; of a history that does not say it nothing is concluded."""
    founded(tales, told=2)
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
