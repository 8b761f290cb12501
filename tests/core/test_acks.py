"""When what is told by ENDs anyway is acknowledged by itself."""

from __future__ import annotations

import pytest

from phalanx.transport.config import PROFILES, Limits
from phalanx.transport.core.acks import Acks
from phalanx.transport.core.framing import Framer
from phalanx.transport.core.timers import Timer, TimerTable
from phalanx.transport.events import Lane
from phalanx.transport.wire_data import StreamKey

LIMITS, TIMING = Limits(window_bytes=4000), PROFILES["lan"]
FRAMER = Framer(cluster="test", node=1, incarnation=1)
DELAY_NS = TIMING.ack_delay_ns
ORDERED, BULK = StreamKey(2, 0, Lane.ORDERED), StreamKey(2, 0, Lane.BULK)
DIRECTED = StreamKey(2, 1, Lane.FIFO)


@pytest.fixture
def timers() -> TimerTable:
    """Nothing is armed."""
    return TimerTable()


@pytest.fixture
def acks(timers: TimerTable) -> Acks:
    """Those of one view, in which a little has come in order."""
    acks = Acks(limits=LIMITS, timing=TIMING, framer=FRAMER, timers=timers)
    acks.note(ORDERED, 100, 0)
    return acks


def test_it_is_left_to_the_next_end_for_as_long_as_any_acknowledgement_may_take(
    acks: Acks, timers: TimerTable
) -> None:
    """From the last END on that left something untold."""
    timers.stop(Timer.ACK)
    assert acks.wait_for_ends(7, 7 + DELAY_NS - 1)
    assert timers.next_deadline() == 7 + DELAY_NS
    assert not acks.wait_for_ends(7, 7 + DELAY_NS)


def test_a_sender_that_needs_room_is_told_at_once(acks: Acks) -> None:
    """When a quarter of its window has come."""
    acks.note(ORDERED, 900, 0)
    assert acks.wait_for_ends(0, 0)
    acks.note(ORDERED, 1, 0)
    assert not acks.wait_for_ends(0, 0)
    acks.begin()
    acks.note(ORDERED, 1, 0)
    assert acks.wait_for_ends(0, 0)


def test_what_no_end_tells_waits_for_none(acks: Acks) -> None:
    """Other lanes, readers that stop, and a sender whose gap is closed."""
    acks.hurry(0)
    assert not acks.wait_for_ends(0, 0)
    acks.begin()
    assert not acks.wait_for_ends(0, 0), "there is nothing to be told"
    for key in (BULK, DIRECTED):
        acks.begin()
        acks.note(ORDERED, 1, 0)
        acks.note(key, 1, 0)
        assert not acks.wait_for_ends(0, 0)
    acks.begin()
    acks.freeze(Lane.ORDERED, frozen=True, streams=[ORDERED], now_ns=0)
    assert not acks.wait_for_ends(0, 0)


def test_what_only_datagrams_have_told_is_told_with_the_next_acknowledgement(acks: Acks) -> None:
    """They may be lost: no other traffic puts it off for good, or makes it forgotten."""
    acks.begin()
    acks.note(BULK, 1, 0)
    acks.hurry(0)
    assert acks.put_off({2}, 0) == [BULK]
    assert acks.due
    acks.note(ORDERED, 1, 0)
    assert not acks.wait_for_ends(0, 0)
    assert acks.take() == ([ORDERED, BULK], {})
    assert not acks.due
    acks.note(ORDERED, 1, 0)
    assert acks.wait_for_ends(0, 0), "the gap was closed, and that was told"
