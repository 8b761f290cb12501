"""Conformance of the drivers within one process: the whole suite, and how their links end."""

from __future__ import annotations

from typing import ClassVar

from phalanx.transport.drivers.base import LinkLost, LossReason, Stream
from phalanx.transport.drivers.in_process import RECEIVE_BUFFER_BYTES

from .bench import RAILS, Bench, Host, join, lost
from .frame_cases import FrameCases
from .link_cases import LinkCases
from .process_cases import ProcessCases
from .rail_cases import RailCases


def pass_seconds(host: Host, seconds: float) -> None:
    """Let time pass, virtual or real."""
    until_ns = host.now_ns() + int(seconds * 1e9)
    while host.now_ns() < until_ns:
        host.collect((until_ns - host.now_ns()) / 1e9)


class LocalCases(LinkCases, FrameCases, RailCases, ProcessCases):
    """Both ends are at hand, so that what a link still holds can be told from what is lost."""

    lag_s: ClassVar[float]
    """For how long a reader lags behind."""
    give_up_ns: ClassVar[int]
    """How long a link lives while nothing leads to the peer."""

    # Nothing can be sent to such a host past its links.
    test_garbage_at_the_port_does_no_harm = None  # pyright: ignore[reportAssignmentType] - None leaves it out

    def test_an_orderly_end_waits_for_a_reader_that_lags_behind(self, bench: Bench) -> None:
        """More was accepted than lies unread at the reader: the end stands behind all of it."""
        one, two = bench.start(1), bench.start(2)
        link, at_two = join(one, two)
        two.read(on=False)
        frames = [b"%05d" % number * 10_000 for number in range(3 * RECEIVE_BUFFER_BYTES // 50_000)]
        for frame in frames:
            assert one.driver.transmit(link, Stream.FIFO, frame)
        one.driver.disconnect(link, abort=False)
        pass_seconds(one, self.lag_s)
        assert not one.log.of(LinkLost), "it is not over yet"
        two.read(on=True)
        assert lost(two, at_two).reason is LossReason.SHUTDOWN
        assert lost(one, link).reason is LossReason.LOCAL
        assert two.log.frames(at_two) == frames

    def test_an_orderly_end_waits_for_a_rail(self, bench: Bench) -> None:
        """What was accepted is carried when a rail comes back before the link is given up."""
        one, two = bench.start(1), bench.start(2)
        link, at_two = join(one, two)
        for rail in RAILS:
            bench.cut(1, rail)
        assert one.driver.transmit(link, Stream.FIFO, b"accepted")
        one.driver.disconnect(link, abort=False)
        assert one.driver.transmit(link, Stream.FIFO, b"too late")
        pass_seconds(one, self.give_up_ns / 1e9 / 8)
        bench.heal(1, "b")
        assert lost(two, at_two).reason is LossReason.SHUTDOWN
        assert lost(one, link).reason is LossReason.LOCAL
        assert two.log.frames(at_two) == [b"accepted"]

    def test_a_link_without_any_rail_is_given_up_at_both_ends_and_not_early(
        self, bench: Bench
    ) -> None:
        """An idle link has no frame that would find it: the driver comes to it by itself."""
        one, two = bench.start(1), bench.start(2)
        link, at_two = join(one, two)
        for rail in RAILS:
            bench.cut(1, rail)
        began_ns = one.now_ns()
        assert lost(one, link).reason is LossReason.TIMED_OUT
        assert one.now_ns() - began_ns >= self.give_up_ns * 0.99
        assert lost(two, at_two).reason is LossReason.TIMED_OUT
