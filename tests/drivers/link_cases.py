"""Conformance: how links begin and end."""

from __future__ import annotations

import pytest

from phalanx.transport.drivers.base import (
    LinkUp,
    LossReason,
    PathState,
    PeerEndpoint,
    Stream,
)
from phalanx.transport.errors import AddressMissing, UsageError

from .bench import RAILS, Bench, Log, accepted, join, link_up, lost, wait, wait_frames


class LinkCases:
    """Connect, accept, refuse, close, crash, restart."""

    def test_both_sides_learn_of_a_link_and_its_rails(self, bench: Bench) -> None:
        """Multi-homing needs every address of the peer in the one association."""
        one, two = bench.start(1), bench.start(2)
        link = one.driver.connect(two.peer)
        assert link > 0
        up = link_up(one, link)
        assert not up.accepted
        assert sorted(up.rails) == list(RAILS)
        assert sorted(accepted(two).rails) == list(RAILS)

    def test_a_listener_takes_several_peers(self, bench: Bench) -> None:
        """Each peer has its own link; numbers of one driver are all different."""
        one, two, three = (bench.start(number) for number in (1, 2, 3))
        to_three = [host.driver.connect(three.peer) for host in (one, two)]
        for host, link in zip((one, two), to_three, strict=True):
            link_up(host, link)
        accepted(three, 1)
        links = {up.link for up in three.log.of(LinkUp)}
        assert len(links) == 2
        for number, link in enumerate(sorted(links)):
            assert three.driver.transmit(link, Stream.CONTROL, b"%d" % number)
        frames = [wait_frames(h, ln, 1)[0] for h, ln in zip((one, two), to_three, strict=True)]
        assert sorted(frames) == [b"0", b"1"]

    def test_a_number_is_never_used_for_two_links(self, bench: Bench) -> None:
        """A late command for an old link must not hit a new one."""
        one, two = bench.start(1), bench.start(2)
        seen: set[int] = set()
        for _ in range(5):
            link = one.driver.connect(two.peer)
            link_up(one, link)
            one.driver.disconnect(link, abort=True)
            assert lost(one, link).reason is LossReason.LOCAL
            assert link not in seen
            seen.add(link)

    def test_an_orderly_end_carries_every_accepted_frame_first(self, bench: Bench) -> None:
        """`disconnect(abort=False)` ends a link after all that was accepted, on both sides."""
        one, two = bench.start(1), bench.start(2)
        link, at_two = join(one, two)
        two.read(on=False)
        frames = [b"%06d" % number * 1000 for number in range(300)]
        for frame in frames:
            assert one.driver.transmit(link, Stream.FIFO, frame)
        one.driver.disconnect(link, abort=False)
        two.read(on=True)
        assert lost(two, at_two).reason is LossReason.SHUTDOWN
        assert two.log.frames(at_two) == frames
        assert lost(one, link).reason is LossReason.LOCAL

    def test_an_abort_reaches_the_peer_at_once(self, bench: Bench) -> None:
        """An abort is how a link is given up; the peer must not wait for a timeout."""
        one, two = bench.start(1), bench.start(2)
        link, at_two = join(one, two)
        one.driver.disconnect(link, abort=True)
        assert lost(one, link, 2).reason is LossReason.LOCAL
        assert lost(two, at_two, 2).reason is LossReason.ABORTED

    def test_nothing_comes_of_a_link_after_it_is_lost(self, bench: Bench) -> None:
        """`LinkLost` is the last word, and commands for a lost link are swallowed."""
        one, two = bench.start(1), bench.start(2)
        link, at_two = join(one, two)
        two.driver.disconnect(at_two, abort=True)
        lost(one, link)
        count = len(one.log.inputs)
        assert one.driver.transmit(link, Stream.FIFO, b"late")
        assert one.driver.transmit(link, Stream.FIFO, b"late", rail="a")
        one.driver.set_primary(link, "b")
        one.driver.disconnect(link, abort=False)
        assert one.driver.paths(link) == []
        again, _ = join(one, two, 1)
        assert all(getattr(x, "link", again) == again for x in one.log.inputs[count:])

    def test_a_connect_to_a_host_without_a_listener_ends(self, bench: Bench) -> None:
        """The address exists and nobody listens there: refused, or no answer."""
        one = bench.start(1)
        local = bench.endpoint(2)
        peer = PeerEndpoint(
            node=2, addresses=local.addresses, port=local.port, udp_port=local.udp_port
        )
        link = one.driver.connect(peer)
        assert lost(one, link).reason in (LossReason.UNREACHABLE, LossReason.REFUSED)

    def test_a_connect_without_any_common_rail_ends(self, bench: Bench) -> None:
        """A peer that is configured on other rails only cannot be reached: said by a notice."""
        one = bench.start(1)
        link = one.driver.connect(PeerEndpoint(node=2, addresses={}, port=5405, udp_port=9899))
        assert lost(one, link).reason is LossReason.UNREACHABLE

    def test_a_rail_that_is_absent_at_start_stops_nothing(self, bench: Bench) -> None:
        """A node with one dead card must come up on the other."""
        one, two = bench.start(1, absent=["b"]), bench.start(2)
        assert one.driver.missing_rails == ("b",)
        assert two.driver.missing_rails == ()
        link, at_two = join(one, two)
        assert one.driver.transmit(link, Stream.FIFO, b"over a")
        assert wait_frames(two, at_two, 1) == [b"over a"]

    def test_without_any_address_a_driver_does_not_open(self, bench: Bench) -> None:
        """Nothing to listen on: the operator must be told at once."""
        with pytest.raises(AddressMissing):
            bench.start(1, absent=RAILS)

    def test_a_closed_driver_refuses_all_work(self, bench: Bench) -> None:
        """Use after close is the caller's mistake; closing twice is not."""
        one, two = bench.start(1), bench.start(2)
        link, at_two = join(one, two)
        one.read(on=False)
        one.driver.close()
        one.driver.close()
        with pytest.raises(UsageError):
            one.driver.transmit(link, Stream.FIFO, b"x")
        with pytest.raises(UsageError):
            one.driver.connect(two.peer)
        with pytest.raises(UsageError):
            one.driver.poll()
        with pytest.raises(UsageError):
            one.driver.paths(link)
        assert lost(two, at_two).reason is LossReason.ABORTED

    def test_a_driver_can_be_opened_again_after_close(self, bench: Bench) -> None:
        """A node that was evicted goes on in the same process."""
        one, two = bench.start(1), bench.start(2)
        first, _ = join(one, two)
        one.read(on=False)
        one.driver.close()
        one.driver.open()
        one.read(on=True)
        second, at_two = join(one, two, 1)
        assert second != first
        assert one.driver.transmit(second, Stream.FIFO, b"again")
        assert wait_frames(two, at_two, 1) == [b"again"]

    def test_stats_count_frames_and_bytes(self, bench: Bench) -> None:
        """Operators look here first."""
        one, two = bench.start(1), bench.start(2)
        link, at_two = join(one, two)
        for _ in range(10):
            assert one.driver.transmit(link, Stream.FIFO, b"x" * 50)
        wait_frames(two, at_two, 10)
        sent, received = one.driver.stats(), two.driver.stats()
        assert (sent["frames_sent"], sent["bytes_sent"]) == (10, 500)
        assert (received["frames_received"], received["bytes_received"]) == (10, 500)

    def test_paths_tell_state_and_address(self, bench: Bench) -> None:
        """One primary path, and the addresses as they are configured."""
        one, two = bench.start(1), bench.start(2)
        link, _ = join(one, two)

        def both_up(_: Log) -> bool:
            return all(p.state is not PathState.DOWN for p in one.driver.paths(link))

        wait(one, both_up)
        paths = one.driver.paths(link)
        assert {path.rail: path.address for path in paths} == bench.endpoint(2).addresses
        assert [p.state for p in paths].count(PathState.PRIMARY) == 1
        assert all(path.cwnd_bytes > 0 for path in paths)
