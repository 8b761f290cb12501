"""Who must be in a release is judged by places in the order, not by who happened to call first."""

from __future__ import annotations

import pytest

from phalanx.barrier.testing.meetings import LEAVING, REGISTERED, REGISTRATION
from phalanx.barrier.testing.parties import together
from phalanx.transport.events import Member, Position, View, ViewId, ViewInstalled
from phalanx.transport.testing.barrier_checkers import Arrival, Outcome
from phalanx.transport.testing.simulated_node import Life

NAME = "phaser"
ONE, TWO, OPENER = Member(1, 1), Member(2, 1), Member(3, 1)
OPENED = Position(1, 1, 10)
VIEW = View(id=ViewId(1, 1), incarnations=(ONE, TWO, OPENER))
AFTER = (ONE, TWO)
"""Who has opened the generation is gone."""


def life(member: Member, *items: object) -> Life:
    """One incarnation that has seen this view, and then these."""
    seen = ViewInstalled(view=VIEW, joined=(), left={})
    return Life(member, 0, [(at, item) for at, item in enumerate([seen, *items])])


def registered(index: int) -> Outcome:
    """The word that this node is a party from this entry of the first view on."""
    return Outcome(
        ticket=1,
        name=NAME + REGISTRATION,
        generation=None,
        verdict=REGISTERED,
        registered=Position(1, 1, index),
    )


def released(
    *parties: Member, after: tuple[Member, ...] = AFTER
) -> tuple[ViewInstalled, Arrival, Outcome]:
    """A call that returned in the next view, with these."""
    view = View(id=ViewId(1, 2), incarnations=after)
    return (
        ViewInstalled(view=view, joined=(), left={3: "process crashed"}),
        Arrival(ticket=2, name=NAME, deadline_ns=None),
        Outcome(
            ticket=2,
            name=NAME,
            generation=OPENED,
            verdict="released",
            parties=parties,
            position=Position(1, 2, 5),
        ),
    )


@pytest.mark.parametrize(("index", "complaints"), [(9, 1), (11, 0)])
def test_who_was_registered_before_the_generation_began_is_in_its_release(
    index: int, complaints: int
) -> None:
    """Whoever opened it is not there any more; what it has done is not known, its place is."""
    told = released(ONE)
    lives = [life(ONE, registered(5), *told), life(TWO, registered(index), told[0]), life(OPENER)]
    found = list(together(lives))
    assert len(found) == complaints, found
    if complaints:
        assert f"without {TWO}, registered at {Position(1, 1, 9)}" in found[0]


def test_who_leaves_is_not_missed() -> None:
    """It has said that it goes, whether or not that was put in order in time."""
    told = released(ONE)
    leaving = Arrival(ticket=3, name=NAME + LEAVING, deadline_ns=None)
    lives = [life(ONE, registered(5), *told), life(TWO, registered(6), leaving, told[0])]
    assert not list(together(lives))


ASKED = Arrival(ticket=1, name=NAME + REGISTRATION, deadline_ns=None)


@pytest.mark.parametrize(
    ("before", "complaints"),
    [((), 1), ((ASKED,), 0), ((ASKED, registered(4)), 0), ((ASKED, registered(11)), 1)],
)
def test_who_registers_later_is_not_released_unless_its_place_was_kept(
    before: tuple[object, ...], complaints: int
) -> None:
    """A generation that had begun counts it only if it may have been registered in an earlier life,
    which may not have been told.
    """
    again = Member(2, 2)
    told = released(ONE, again, after=(ONE, again))
    lives = [life(ONE, registered(5), *told), life(TWO, *before)]
    lives.append(life(again, registered(12), *told))
    found = list(together(lives))
    assert len(found) == complaints, found
    if complaints:
        assert f"{again}, registered at {Position(1, 1, 12)}" in found[0]


def test_who_is_in_a_release_is_not_missed() -> None:
    """All who were registered."""
    told = released(ONE, TWO)
    lives = [life(ONE, registered(5), *told), life(TWO, registered(6), *told)]
    assert not list(together(lives))
