"""When a turn is over with its first half."""

from __future__ import annotations

import pytest

from phalanx.transport.config import S
from phalanx.transport.core.endpoint import Endpoint
from phalanx.transport.drivers.base import Datagram
from phalanx.transport.pump import DATAGRAMS, EVERYWHERE, Pump
from phalanx.transport.testing.simulation import SimulatedNode

from .scenes import casting


@pytest.fixture
def node() -> SimulatedNode:
    """One of three, in a view, and all of them idle."""
    return casting(3).nodes[2]


@pytest.fixture
def came(node: SimulatedNode, monkeypatch: pytest.MonkeyPatch) -> list[Datagram]:
    """What comes to it as datagrams."""
    datagrams: list[Datagram] = []

    def poll(*, patient: bool = False) -> list[Datagram]:
        del patient
        return datagrams

    monkeypatch.setattr(node.datagrams, "poll", poll)
    return datagrams


@pytest.fixture
def pump(node: SimulatedNode, came: list[Datagram]) -> Pump:
    """Its pump; nothing is due."""
    del came
    assert node.pump is not None
    node.pump.turn()
    return node.pump


@pytest.fixture
def woken(pump: Pump, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """When the core was told that all has come."""
    del pump
    times: list[int] = []

    def wake(endpoint: Endpoint, now_ns: int) -> None:
        del endpoint
        times.append(now_ns)

    monkeypatch.setattr(Endpoint, "wake", wake)
    return times


def test_a_packet_whose_frame_is_not_whole_costs_next_to_nothing(
    pump: Pump, woken: list[int]
) -> None:
    """Of a large frame a receiver is woken for the first packets, and the rest follows."""
    pump.take_in(DATAGRAMS)
    assert pump.idle
    assert not woken
    pump.take_in(EVERYWHERE)
    assert not pump.idle
    assert len(woken) == 1, "whoever asked for this turn wants it"


def test_a_frame_is_looked_at(pump: Pump, came: list[Datagram], woken: list[int]) -> None:
    """Whatever it is."""
    came.append((1, "a", b"garbage", 0, 0))
    pump.take_in(DATAGRAMS)
    assert not pump.idle
    assert len(woken) == 1


def test_what_is_due_is_not_put_off(node: SimulatedNode, pump: Pump, woken: list[int]) -> None:
    """A flood of packets that complete nothing stops no timer."""
    node.clock_offset_ns += S
    pump.take_in(DATAGRAMS)
    assert not pump.idle
    assert len(woken) == 1
