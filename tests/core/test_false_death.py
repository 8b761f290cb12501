"""A process that the others take for dead, though it lives."""

from __future__ import annotations

from phalanx.transport.config import MS
from phalanx.transport.events import Evicted
from phalanx.transport.testing import checkers

from .scenes import started


def test_who_hears_that_it_is_taken_for_dead_acts_no_more_and_can_come_back() -> None:
    """Both its lifelines ended in good order, by whatever is on the way: nobody waits for it.

    If it were only turned away at each knock, it would stay outside for ever and not know why.
    """
    simulation = started(3)
    victim = simulation.nodes[3]
    assert victim.lifelines is not None
    for peer, rail in sorted(victim.lifelines.lines):
        victim.lifelines.end_one(peer, rail)
    simulation.run_until(lambda: bool(victim.told(Evicted)), 500 * MS)
    assert victim.endpoint.standing.evicted
    assert not victim.endpoint.acting(victim.clock())
    simulation.run_until(lambda: simulation.agreed_on(1, 2), 500 * MS)
    victim.begin_anew()
    simulation.run_until(lambda: simulation.agreed_on(1, 2, 3), 1000 * MS)
    checkers.check(simulation.lives)
