"""Conformance: frames arrive whole, unchanged and in order, and full buffers push back."""

from __future__ import annotations

import random

import pytest

from phalanx.transport.drivers.base import STREAMS, Received, Stream, Writable
from phalanx.transport.errors import UsageError

from .bench import Bench, Host, join, wait, wait_frames

TRICKLE_A_SECOND = 300
"""A closed window is probed with a frame or a packet at each timeout; RFC 9260 wants that."""


def stands_still(host: Host) -> bool:
    """Does the host's stream get no further, but for what probes the peer's window?"""
    before, until_ns = host.sent(), host.now_ns() + 500_000_000
    while host.now_ns() < until_ns:
        host.collect((until_ns - host.now_ns()) / 1e9)
    return host.sent() - before < TRICKLE_A_SECOND / 2


class FrameCases:
    """Sizes, streams, back-pressure."""

    def test_frames_of_every_size_arrive_whole_and_unchanged(self, bench: Bench) -> None:
        """Around the packet and chunk sizes, where fragmentation begins, and at the limit."""
        one, two = bench.start(1), bench.start(2)
        link, at_two = join(one, two)
        most = one.driver.capabilities.frame_bytes_max
        assert most >= 65_536
        generator = random.Random(1)
        sizes = [1, 2, 3, 4, 5, 1000, *range(1410, 1475), 2860, 16_384, 65_535, 65_536, most]
        frames = [generator.randbytes(size) for size in sizes]
        for frame in frames:
            assert one.driver.transmit(link, Stream.FIFO, frame)
        assert wait_frames(two, at_two, len(frames)) == frames

    @pytest.mark.parametrize("direction", ["dialler", "listener"])
    def test_each_stream_keeps_its_order(self, bench: Bench, direction: str) -> None:
        """FIFO per lane rests on this; both ends of an association are alike."""
        one, two = bench.start(1), bench.start(2)
        link, at_two = join(one, two)
        source, out, target, into = (
            (one, link, two, at_two) if direction == "dialler" else (two, at_two, one, link)
        )
        for number in range(200):
            for stream in Stream:
                size = 3000 if stream is Stream.BULK else 20
                assert source.driver.transmit(out, stream, (b"%08d" % number).ljust(size))
        wait_frames(target, into, 200 * STREAMS)
        for stream in Stream:
            numbers = [int(frame) for frame in target.log.frames(into, stream)]
            assert numbers == list(range(200))

    def test_frames_that_cannot_be_are_refused(self, bench: Bench) -> None:
        """The limit itself is tested above; here none, one past it, and no such stream."""
        one, two = bench.start(1), bench.start(2)
        link, _ = join(one, two)
        most = one.driver.capabilities.frame_bytes_max
        with pytest.raises(UsageError):
            one.driver.transmit(link, Stream.FIFO, b"")
        with pytest.raises(UsageError):
            one.driver.transmit(link, Stream.FIFO, b"x" * (most + 1))
        with pytest.raises(UsageError):
            one.driver.transmit(link, STREAMS, b"x")

    @pytest.mark.parametrize("size", [100, 60_000])
    def test_a_full_link_refuses_and_becomes_writable_again(self, bench: Bench, size: int) -> None:
        """The sender must neither lose a frame nor wait for ever, and memory stays bounded."""
        one, two = bench.start(1), bench.start(2)
        link, at_two = join(one, two)
        two.read(on=False)
        count = 64_000_000 // size if size > 10_000 else 60_000
        one.stream(link, count=count, every_ns=0, size=size)

        wait(one, lambda _: stands_still(one))
        assert one.sent() < count, "the buffers of both sides are bounded"
        before = len(one.log.of(Writable))
        two.read(on=True)
        wait(one, lambda log: len(log.of(Writable)) > before)
        frames = wait_frames(two, at_two, count, 30)
        numbers = [int.from_bytes(frame[:8], "little") for frame in frames]
        assert numbers == list(range(count))
        assert all(len(frame) == size for frame in frames)

    def test_one_slow_reader_does_not_stop_the_others(self, bench: Bench) -> None:
        """Each link has its own buffers."""
        one, two, three = (bench.start(number) for number in (1, 2, 3))
        slow, _ = join(one, two)
        quick, at_three = join(one, three)
        two.read(on=False)
        frame = b"x" * 60_000
        refused = next(n for n in range(5000) if not one.driver.transmit(slow, 2, frame))
        assert refused > 0
        for number in range(100):
            assert one.driver.transmit(quick, Stream.FIFO, b"%d" % number)
        assert wait_frames(three, at_three, 100) == [b"%d" % n for n in range(100)]

    def test_frames_of_both_directions_do_not_mix(self, bench: Bench) -> None:
        """Traffic both ways at once is the normal case."""
        one, two = bench.start(1), bench.start(2)
        link, at_two = join(one, two)
        one.stream(link, count=5000, every_ns=0, size=700)
        two.stream(at_two, count=5000, every_ns=0, size=300)
        wait_frames(one, link, 5000)
        wait_frames(two, at_two, 5000)
        assert {len(x.frame) for x in one.log.of(Received)} == {300}
        assert {len(x.frame) for x in two.log.of(Received)} == {700}
