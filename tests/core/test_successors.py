"""A restarted node is not its former self: old news of that one binds and excuses nobody."""

from __future__ import annotations

import pytest

from phalanx.transport.config import MS
from phalanx.transport.core.outputs import Left
from phalanx.transport.events import Lane
from phalanx.transport.testing import checkers
from phalanx.transport.testing.simulation import Simulation

from .scenes import payloads, started


def with_old_news_at_five() -> Simulation:
    """Five nodes; 3 has left and come back, and 5, which was away, knows only of the farewell."""
    simulation = started(5)
    nodes = simulation.nodes
    for other in (1, 2, 4):
        simulation.cut_pair(5, other)
    nodes[3].endpoint.leave(nodes[3].clock() + 50 * MS, nodes[3].clock())
    nodes[3].wake_soon()
    simulation.run_for(5 * MS)
    nodes[3].kill()
    simulation.isolate(5)
    simulation.run_until(lambda: simulation.agreed_on(1, 2, 4), 1200 * MS)
    nodes[3].start()
    simulation.run_until(lambda: simulation.agreed_on(1, 2, 3, 4), 1200 * MS)
    return simulation


@pytest.mark.parametrize("offset_ms", range(0, 60, 5))
def test_an_old_farewell_ends_no_grant_to_the_successor(offset_ms: int) -> None:
    """Else members would go on without it while it still acts by their grants."""
    simulation = with_old_news_at_five()
    simulation.run_for(offset_ms * MS)
    simulation.isolate(3)
    for other in (1, 2, 4):
        simulation.heal_pair(5, other)
    simulation.run_for(700 * MS)
    checkers.check(simulation.lives)


def test_a_dead_predecessor_excuses_no_living_member() -> None:
    """`leave` waits for the acknowledgement of the incarnation that is in the view."""
    simulation = with_old_news_at_five()
    nodes = simulation.nodes
    for other in (1, 2, 4):
        simulation.heal_pair(5, other)
    simulation.run_for(20 * MS)
    simulation.cut_pair(1, 3)
    nodes[1].send(b"to 3", Lane.FIFO, 3)
    simulation.run_for(1 * MS)
    nodes[1].endpoint.leave(nodes[1].clock() + 200 * MS, nodes[1].clock())
    nodes[1].wake_soon()
    simulation.run_for(40 * MS)
    assert not nodes[1].told(Left), "3 does not hold the message yet"
    simulation.heal_pair(1, 3)
    simulation.run_for(200 * MS)
    [left] = nodes[1].told(Left)
    assert left.acknowledged
    assert b"to 3" in payloads(nodes[3])
