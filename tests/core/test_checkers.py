"""A checker that cannot fail checks nothing: each finds the breach that is made for it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import pytest

from phalanx.barrier.testing.meetings import arrive, use_barriers
from phalanx.transport.config import MS
from phalanx.transport.core.outputs import Delivered, Left, Ordered, Settled
from phalanx.transport.events import Evicted, Lane, Member, Position, View, ViewId, ViewInstalled
from phalanx.transport.testing import barrier_checkers, checkers
from phalanx.transport.testing.barrier_checkers import Arrival, Outcome
from phalanx.transport.testing.checkers import Checker
from phalanx.transport.testing.simulated_node import Act, Life
from phalanx.transport.testing.simulation import Simulation, simulated_config

from .scenes import Talk, converge

Breach = Callable[[list[Life]], None]


@pytest.fixture(scope="module")
def lives() -> list[Life]:
    """Histories of a good run: two views, all lanes, receipts and a barrier in each."""
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


def places(life: Life, kind: type) -> list[int]:
    """Where items of a kind stand in a history."""
    return [place for place, (_, item) in enumerate(life.history) if isinstance(item, kind)]


def swap(life: Life, one: int, other: int) -> None:
    """Exchange two items."""
    life.history[one], life.history[other] = life.history[other], life.history[one]


def of_sender(life: Life, sender: int) -> list[int]:
    """FIFO multicasts of one sender."""
    return [
        place
        for place in places(life, Delivered)
        if (item := life.history[place][1])
        and isinstance(item, Delivered)
        and item.sender == sender
        and item.lane is Lane.FIFO
        and not item.directed
    ]


def twice(lives: list[Life]) -> None:
    """A message is delivered twice."""
    life = lives[1]
    place = places(life, Delivered)[0]
    life.history.insert(place, life.history[place])


def changed(lives: list[Life]) -> None:
    """A message nobody sent."""
    life = lives[1]
    place = places(life, Delivered)[0]
    at, item = life.history[place]
    assert isinstance(item, Delivered)
    life.history[place] = (at, item._replace(payloads=[b"something else"]))


def out_of_order(lives: list[Life]) -> None:
    """Two messages of one sender change places."""
    life = lives[1]
    first, second = of_sender(life, 1)[:2]
    swap(life, first, second)


def in_the_wrong_view(lives: list[Life]) -> None:
    """A message of the first view comes in the second."""
    life = lives[0]
    item = life.history.pop(of_sender(life, 3)[0])
    life.history.append(item)


def after_the_end(lives: list[Life]) -> None:
    """Something follows an eviction."""
    life = lives[2]
    life.history.insert(places(life, Delivered)[-1], (0, Evicted(view_id=ViewId(1, 9))))


def after_leaving(lives: list[Life]) -> None:
    """Something follows the farewell."""
    life = lives[2]
    life.history.insert(places(life, Delivered)[-1], (0, Left(acknowledged=True)))


def lost_at_one(lives: list[Life]) -> None:
    """One of two that go on lacks a message of the dead."""
    life = lives[0]
    del life.history[of_sender(life, 3)[0]]


def two_orders(lives: list[Life]) -> None:
    """Two entries of the agreed order change places."""
    life = lives[1]
    one, other = places(life, Ordered)[:2]
    (at, first), (then, second) = life.history[one], life.history[other]
    assert isinstance(first, Ordered)
    assert isinstance(second, Ordered)
    life.history[one] = (at, first._replace(payloads=second.payloads, sender=second.sender))
    life.history[other] = (then, second._replace(payloads=first.payloads, sender=first.sender))


def false_receipt(lives: list[Life]) -> None:
    """The sender was told that it is held; a member that goes on never had it."""
    life = lives[1]
    del life.history[of_sender(life, 1)[0]]


def false_loss(lives: list[Life]) -> None:
    """A member that goes on is named as one that lacks a message."""
    life = lives[0]
    place = places(life, Settled)[0]
    at, item = life.history[place]
    assert isinstance(item, Settled)
    wrong = Settled(addressee=0, lane=item.lane, token=item.token, missing={2: "gone"})
    life.history[place] = (at, wrong)


def settled_twice(lives: list[Life]) -> None:
    """A receipt is given twice."""
    life = lives[0]
    place = places(life, Settled)[0]
    life.history.insert(place, life.history[place])


def no_receipt(lives: list[Life]) -> None:
    """A message is never heard of again."""
    life = lives[0]
    for place in reversed(places(life, Settled)):
        del life.history[place]


def lost_at_the_end(lives: list[Life]) -> None:
    """In the last view one member lacks the last message."""
    life = lives[1]
    del life.history[of_sender(life, 1)[-1]]


def two_primaries(lives: list[Life]) -> None:
    """The dead one acted on in its old view."""
    last = lives[2].acts[-1]
    lives[2].acts[-1] = Act(last.view_id, last.from_ns, last.until_ns + 400 * MS)


def two_views_of_one_name(lives: list[Life]) -> None:
    """Two members of a view do not agree on who is in it."""
    life = lives[0]
    place = places(life, ViewInstalled)[-1]
    at, item = life.history[place]
    assert isinstance(item, ViewInstalled)
    other = copy.deepcopy(item)
    object.__setattr__(other.view, "incarnations", (Member(1, 1), Member(2, 1), Member(3, 2)))
    life.history[place] = (at, other)


def _found(lives: list[Life], *, told: int) -> None:
    """Two of three found an era, and so many of them were told to."""
    view = View(id=ViewId(2, 1), incarnations=(lives[0].member, lives[1].member), continuing=())
    for place, life in enumerate(lives[:2]):
        life.history.append((1, ViewInstalled(view=view, joined=(), left={}, started_over=True)))
        life.founding = 2 if place < told else 0


def an_era_of_nobody(lives: list[Life]) -> None:
    """Who began the cluster anew was never told to."""
    _found(lives, told=0)


def an_era_of_some(lives: list[Life]) -> None:
    """One of the founders was not told to, and not all nodes are there."""
    _found(lives, told=1)


def a_view_of_nobody(lives: list[Life]) -> None:
    """A later view without anybody from before, and it does not say so."""
    view = View(id=ViewId(1, 7), incarnations=(Member(1, 5),), continuing=())
    item = ViewInstalled(view=view, joined=(), left={}, started_over=False)
    lives.append(Life(Member(1, 5), 1, history=[(1, item)]))


def same_incarnation(lives: list[Life]) -> None:
    """Two processes take part under one number."""
    lives.append(lives[2])


def late_arrival(lives: list[Life]) -> None:
    """A party had not arrived when the others were released."""
    life = lives[1]
    item = life.history.pop(places(life, Arrival)[0])
    life.history.append((1 << 60, item[1]))


def too_early(lives: list[Life]) -> None:
    """The release comes before what a party had sent."""
    life = lives[1]
    item = life.history.pop(places(life, Outcome)[0])
    life.history.insert(of_sender(life, 1)[0], item)


def two_outcomes(lives: list[Life]) -> None:
    """The same generation is released for one and broken for another."""
    life = lives[1]
    place = places(life, Outcome)[0]
    at, item = life.history[place]
    assert isinstance(item, Outcome)
    assert isinstance(item.generation, Position)
    broken = Outcome(
        ticket=item.ticket, name=item.name, generation=item.generation, verdict="broken"
    )
    life.history[place] = (at, broken)


@pytest.mark.parametrize(
    ("checker", "breach"),
    [
        (checkers.identity, same_incarnation),
        (checkers.integrity, twice),
        (checkers.integrity, changed),
        (checkers.fifo, out_of_order),
        (checkers.one_stream, in_the_wrong_view),
        (checkers.one_stream, after_the_end),
        (checkers.one_stream, after_leaving),
        (checkers.view_synchrony, lost_at_one),
        (checkers.agreed_order, two_orders),
        (checkers.guaranteed_delivery, false_receipt),
        (checkers.guaranteed_delivery, false_loss),
        (checkers.guaranteed_delivery, settled_twice),
        (checkers.all_settled, no_receipt),
        (checkers.all_delivered, lost_at_the_end),
        (checkers.one_primary, two_primaries),
        (checkers.one_primary, two_views_of_one_name),
        (checkers.continuity, an_era_of_nobody),
        (checkers.continuity, an_era_of_some),
        (checkers.continuity, a_view_of_nobody),
        (barrier_checkers.barrier_safety, late_arrival),
        (barrier_checkers.barrier_cut, too_early),
        (barrier_checkers.barrier_uniformity, two_outcomes),
    ],
)
def test_each_breach_is_found_by_its_checker(
    lives: Sequence[Life], checker: Checker, breach: Breach
) -> None:
    """The good run has none; the same run with one thing wrong has one."""
    mine = copy.deepcopy(list(lives))
    assert list(checker(mine)) == []
    breach(mine)
    assert list(checker(mine)) != []


def test_silence_after_the_lease_is_found(lives: Sequence[Life]) -> None:
    """A member that stops to act must say so."""
    mine = copy.deepcopy(list(lives))
    end_ns = mine[0].acts[-1].until_ns
    args = {"lease_ns": 400 * MS, "slack_ns": 50 * MS}
    assert list(checkers.never_silent(mine, end_ns=end_ns, **args)) == []
    assert len(list(checkers.never_silent(mine, end_ns=end_ns + 5000 * MS, **args))) == 2


def test_a_view_change_is_no_transparency(lives: Sequence[Life]) -> None:
    """Guarantee 13 is about nothing happening at all."""
    began = lives[0].history[places(lives[0], ViewInstalled)[-1]][0]
    assert list(checkers.path_transparency(lives, since_ns=began + MS)) == []
    assert len(list(checkers.path_transparency(lives, since_ns=began))) == 2


def test_a_wait_past_its_deadline_is_found(lives: Sequence[Life]) -> None:
    """No hang."""
    mine = copy.deepcopy(list(lives))
    life = mine[0]
    late_ns = life.started_ns + 10_000 * MS
    assert list(barrier_checkers.no_hang(mine, slack_ns=MS, end_ns=late_ns)) == []
    del life.history[places(life, Outcome)[0]]
    assert len(list(barrier_checkers.no_hang(mine, slack_ns=MS, end_ns=late_ns))) == 1


def test_check_names_the_guarantee(lives: Sequence[Life]) -> None:
    """Whoever reads the failure must know what was broken."""
    mine = copy.deepcopy(list(lives))
    checkers.check(mine, checkers.ALWAYS + checkers.QUIET + barrier_checkers.BARRIERS)
    twice(mine)
    with pytest.raises(AssertionError, match="integrity"):
        checkers.check(mine)


def test_a_view_is_remembered_by_a_member_that_died_before_it_came_to_it() -> None:
    """It was there when the view was decided; one that only has its number was not."""

    def told(member: Member, k: int, *members: Member) -> Life:
        view = View(id=ViewId(1, k), incarnations=members)
        installed = ViewInstalled(view=view, joined=(), left={})
        return Life(member, 0, history=[(0, installed)])

    elder, younger, again = Member(1, 1), Member(2, 2), Member(1, 2)
    before = told(elder, 1, elder)
    assert list(checkers.continuity([before, told(younger, 2, elder, younger)])) == []
    [complaint] = checkers.continuity([before, told(younger, 2, again, younger)])
    assert "was in one before" in complaint
