"""When a turn may leave the core's own business until the application has gone on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from phalanx.transport.config import MS
from phalanx.transport.core.endpoint import Endpoint
from phalanx.transport.core.outputs import Settled
from phalanx.transport.core.postponing import may_settle_later
from phalanx.transport.core.timers import Timer
from phalanx.transport.events import Lane
from phalanx.transport.testing.simulation import SimulatedNode

from .scenes import casting


@pytest.fixture
def node() -> SimulatedNode:
    """One of three, in a view, and all of them idle."""
    return casting(3).nodes[2]


def clock(node: SimulatedNode) -> int:
    """What its core is told."""
    return node.simulation.network.now_ns + node.clock_offset_ns


def deliver(endpoint: Endpoint) -> None:
    """Something waits for the application."""
    endpoint.outputs.stream.append(Settled(addressee=0, lane=Lane.FIFO, token=1, missing={}))


def test_a_delivery_goes_first_where_nothing_is_owed(node: SimulatedNode) -> None:
    """And without one there is nothing to be gained."""
    endpoint = node.endpoint
    assert not may_settle_later(endpoint, clock(node))
    deliver(endpoint)
    assert may_settle_later(endpoint, clock(node))


def _due(endpoint: Endpoint) -> None:
    endpoint.timers.arm(Timer.ACK, "", 0)


def _changed(endpoint: Endpoint) -> None:
    endpoint.changed = True


def _closed(endpoint: Endpoint) -> None:
    endpoint.delivery.closed = True


def _urgent(endpoint: Endpoint) -> None:
    endpoint.delivery.ordered.urgent = True


def _unsent(endpoint: Endpoint) -> None:
    endpoint.delivery.carrying.to_push = True


def _epoch_asked_for(endpoint: Endpoint) -> None:
    epochs = endpoint.delivery.epochs
    epochs.see(epochs.current)


def _epoch_left_open(endpoint: Endpoint) -> None:
    epochs = endpoint.delivery.epochs
    epochs.see_lazily(epochs.current)


@pytest.mark.parametrize(
    "owe",
    [_due, _changed, _closed, _urgent, _unsent, _epoch_asked_for, _epoch_left_open],
    ids=lambda owe: owe.__name__.strip("_").replace("_", " "),
)
def test_what_others_wait_for_goes_before_the_application(
    node: SimulatedNode, owe: Callable[[Endpoint], None]
) -> None:
    """It may compute for seconds; an acknowledgement, an END or a vote must not wait for that."""
    endpoint = node.endpoint
    deliver(endpoint)
    owe(endpoint)
    assert not may_settle_later(endpoint, clock(node))


def test_a_process_that_stood_still_looks_at_its_leases_first(node: SimulatedNode) -> None:
    """What it was to deliver may be void."""
    endpoint = node.endpoint
    later_ns = clock(node) + 1000 * MS
    deliver(endpoint)
    endpoint.timers.expire(later_ns)
    assert not may_settle_later(endpoint, later_ns)
    endpoint.expect_wake(later_ns)
    assert may_settle_later(endpoint, later_ns)
