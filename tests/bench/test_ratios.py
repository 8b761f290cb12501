"""What is hot stays fast: by the ratio to a yardstick of the same run, and never by a time.

The limit of each ratio is about twice what it was when it was written. The yardsticks are codecs in
pure Python and raw sockets: a slow or busy machine slows both sides, and the fastest of several
turns counts of each. `bench/bench_core.py` tells what the same things take.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from peers.hops import MESSAGES, PAYLOADS, batches, datagrams, rounds, settled
from phalanx._native import c_codec, twin
from phalanx.transport.events import Lane

TURNS = 7
BODY = bytes(60 << 10)
DATAGRAMS = 100


def fastest_ns(work: Callable[[], object]) -> int:
    """Processor time of the fastest of some turns, after one that does not count."""
    work()
    taken: list[int] = []
    for _ in range(TURNS):
        begun = time.process_time_ns()
        work()
        taken.append(time.process_time_ns() - begun)
    return min(taken)


def ratio(work: Callable[[], object], yardstick: Callable[[], object]) -> float:
    """How many times as long it takes."""
    return fastest_ns(work) / fastest_ns(yardstick)


def times(count: int, work: Callable[[], object]) -> Callable[[], None]:
    """What is too short to be measured once."""

    def run() -> None:
        for _ in range(count):
            work()

    return run


def pure_batch() -> None:
    """Pack and unpack in pure Python what the members pack and unpack."""
    twin.unpack_batch(twin.pack_batch(PAYLOADS), 0)


PACKED = twin.pack_batch(PAYLOADS)


def test_a_checksum_in_c_is_worth_it() -> None:
    """Many times as fast as the same in Python."""
    small = BODY[:1024]
    slow = fastest_ns(lambda: twin.crc32c(small)) / len(small)
    assert fastest_ns(times(100, lambda: c_codec.crc32c(BODY))) / (100 * len(BODY)) <= slow / 100


@pytest.mark.parametrize(
    ("lane", "most"), [(Lane.FIFO, 10.0), (Lane.ORDERED, 12.5), (Lane.BULK, 14.0)]
)
def test_messages_cost_nothing_of_their_own(lane: Lane, most: float) -> None:
    """A batch from one to all of three, by that codec in Python: what is done for each message."""
    assert ratio(batches(settled(3), lane), times(10, pure_batch)) <= most


@pytest.mark.parametrize(("nodes", "most"), [(2, 18.0), (4, 44.0), (8, 100.0)])
def test_a_barrier_is_some_datagrams_long(nodes: int, most: float) -> None:
    """Of all members together, by a hundred datagrams over raw sockets."""
    with datagrams(DATAGRAMS) as yardstick:
        assert ratio(times(10, rounds(settled(nodes))), yardstick) <= most


def test_the_yardstick_is_what_it_seems() -> None:
    """Both codecs say the same, of as many messages."""
    assert c_codec.pack_batch(PAYLOADS) == PACKED
    assert len(twin.unpack_batch(PACKED, 0) or ()) == MESSAGES
