"""Well-formed control messages that nobody honest sends."""

from __future__ import annotations

from phalanx.transport import wire
from phalanx.transport.config import MS
from phalanx.transport.events import Member
from phalanx.transport.testing import checkers

from .scenes import started


def test_a_view_with_a_node_that_is_not_configured_is_counted_and_changes_nothing() -> None:
    """It would be probed, and nobody knows where: one frame would end every process."""
    simulation = started(3)
    victim = simulation.nodes[2]
    view = victim.view
    assert view is not None
    value = wire.ViewValue(
        era=1,
        k=2,
        members=(*view.incarnations, Member(9, 1)),
        continuing=view.members,
        donor=1,
        cut=(),
        reasons={},
    )
    membership = victim.endpoint.membership
    now_ns = victim.clock()
    membership.receive(1, wire.Accept(ballot=(7, 1), value=value, dead=()), now_ns)
    membership.receive(1, wire.Install(value=value), now_ns)
    assert victim.endpoint.outputs.counters["malformed_view"]
    assert victim.view == view
    simulation.run_for(2000 * MS)
    assert simulation.agreed_on(1, 2, 3)
    checkers.check(simulation.lives)


def test_reasons_of_refusals_do_not_fill_the_counters() -> None:
    """They are a peer's own words, and each word would be another counter."""
    simulation = started(3)
    node = simulation.nodes[1]
    before = len(node.endpoint.outputs.counters)
    for number in range(50):
        node.endpoint.membership.receive(
            2, wire.Nack(k=2, ballot=(1, 1), highest=(1, 1), reason=f"no {number}"), node.clock()
        )
    assert len(node.endpoint.outputs.counters) <= before + 1
