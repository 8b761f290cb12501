"""Conformance of drivers that run in processes on real networks: crashes, ports, garbage."""

from __future__ import annotations

import random

import pytest

from phalanx.transport.config import PROFILES
from phalanx.transport.drivers.base import LossReason, PeerEndpoint, Received, Stream
from phalanx.transport.errors import PortTaken

from .bench import RAILS, Bench, accepted, join, link_up, lost, wait, wait_frames
from .frame_cases import stands_still

TUNING = PROFILES["lan"].sctp


class ProcessCases:
    """What a simulated host cannot do."""

    def test_a_peer_that_is_killed_and_restarted_is_reached_again(self, bench: Bench) -> None:
        """The restarted process knows no old association; a new link comes within a second,
        and the old one ends as soon as the new process answers for it."""
        one, two = bench.start(1), bench.start(2)
        link, _ = join(one, two)
        two.kill()
        two = bench.start(2)
        began = one.now_ns()
        back = two.driver.connect(one.peer)
        link_up(two, back)
        new = accepted(one)
        assert one.now_ns() - began < 1e9
        old = lost(one, link, 1)
        assert old.reason in (LossReason.ABORTED, LossReason.RESTARTED, LossReason.TIMED_OUT)
        assert one.driver.transmit(new.link, Stream.CONTROL, b"welcome back")
        assert wait_frames(two, back, 1) == [b"welcome back"]

    def test_a_listener_that_is_killed_and_restarted_can_be_dialled_again(
        self, bench: Bench
    ) -> None:
        """The dialling side is the one that survives here."""
        one, two = bench.start(1), bench.start(2)
        join(one, two)
        two.kill()
        two = bench.start(2)
        link, _ = join(one, two)
        assert one.driver.transmit(link, Stream.CONTROL, b"hello again")
        assert wait_frames(two, accepted(two).link, 1) == [b"hello again"]

    def test_a_connect_that_nobody_answers_ends(self, bench: Bench) -> None:
        """Within all attempts of all rails; the core tries again, not the driver."""
        one = bench.start(1)
        base = bench.endpoint(2)
        nobody = PeerEndpoint(
            node=9,
            addresses={r: a[: -len("2")] + "77" for r, a in base.addresses.items()},
            port=base.port,
            udp_port=base.udp_port,
        )
        began = one.now_ns()
        link = one.driver.connect(nobody)
        assert lost(one, link).reason in (LossReason.UNREACHABLE, LossReason.REFUSED)
        bound_ms = (TUNING.init_attempts + 2) * TUNING.init_timeout_ms * len(RAILS)
        assert one.now_ns() - began < bound_ms * 1e6

    def test_a_taken_port_is_reported(self, bench: Bench) -> None:
        """Else two nodes on one machine would silently share or lose their packets."""
        bench.hold_port(1)
        with pytest.raises(PortTaken):
            bench.start(1)

    def test_garbage_at_the_port_does_no_harm(self, bench: Bench) -> None:
        """Anybody can send to a UDP port: random bytes, truncated and bit-flipped packets."""
        one, two = bench.start(1), bench.start(2)
        link, at_two = join(one, two)
        generator = random.Random(42)
        init = bytes.fromhex("c35d151d00000000000000000100001412345678000fffff0005000512345678")
        for size in (0, 1, 11, 12, 13, 16, 31, 200, 1400):
            bench.send_datagram(3, 2, generator.randbytes(size))
            bench.send_datagram(3, 2, init[:size])
        for _ in range(20):
            flipped = bytearray(init)
            flipped[generator.randrange(len(init))] ^= 1 << generator.randrange(8)
            bench.send_datagram(3, 2, bytes(flipped))
        assert one.driver.transmit(link, Stream.FIFO, b"still here")
        assert wait_frames(two, at_two, 1) == [b"still here"]
        assert [x.frame for x in two.log.of(Received)] == [b"still here"]

    def test_a_reader_that_does_not_poll_costs_bounded_memory(self, bench: Bench) -> None:
        """Its window closes; the sender is told. Small frames are the hard case."""
        one, two = bench.start(1), bench.start(2)
        link, _ = join(one, two)
        before = two.memory_bytes(), one.memory_bytes()
        two.read(on=False)
        one.stream(link, count=2_000_000, every_ns=0, size=64)

        wait(one, lambda _: stands_still(one), 30)
        assert one.sent() < 2_000_000
        assert two.memory_bytes() - before[0] < 64 << 20
        assert one.memory_bytes() - before[1] < 64 << 20
