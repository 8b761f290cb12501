"""The kernel's SCTP under our driver, on two hosts with two rails; nothing here is simulated."""

from __future__ import annotations

import os
import struct

import pytest

from phalanx.transport.drivers.base import STREAMS, LossReason, Stream, Writable
from phalanx.transport.drivers.kernel_sctp import FRAME_BYTES_MAX, available
from phalanx.transport.errors import AddressMissing, PortTaken, UsageError

from .lab import LEFT, NOBODY, RIGHT, End, join, kernel_end, pump

pytestmark = pytest.mark.kernel


def test_an_association_comes_up_over_all_rails(left: End, right: End) -> None:
    """One association per peer holds all paths; that is what multi-homing is."""
    assert available()
    link = left.connect(RIGHT.peer())
    pump([left, right], lambda: bool(left.ups() and right.ups()), what="association")
    (dialled,), (accepted,) = left.ups(), right.ups()
    assert (dialled.link, dialled.accepted, accepted.accepted) == (link, False, True)
    assert set(dialled.rails) == set(accepted.rails) == {"a", "b"}


@pytest.mark.parametrize("size", [1, 1400, 1500, 65_536, FRAME_BYTES_MAX - 1, FRAME_BYTES_MAX])
def test_frames_arrive_whole_at_every_size(left: End, right: End, size: int) -> None:
    """The kernel may hand over a large message in pieces; nobody above must notice."""
    link, back = join(left, right)
    frame = os.urandom(size)
    for stream in range(STREAMS):
        assert left.driver.transmit(link, stream, frame)
    pump([left, right], lambda: len(right.frames()) == STREAMS, what="all frames")
    assert right.frames() == [frame] * STREAMS
    assert right.driver.transmit(back, 0, frame)
    pump([left, right], lambda: bool(left.frames()), what="frame back")
    assert left.frames() == [frame]


def test_a_frame_of_no_bytes_or_one_too_many_is_the_callers_mistake(left: End, right: End) -> None:
    """Both ends of the limit are part of the contract, so breaking it is said at once."""
    link, _ = join(left, right)
    for size in (0, FRAME_BYTES_MAX + 1):
        with pytest.raises(UsageError, match=str(FRAME_BYTES_MAX)):
            left.driver.transmit(link, 0, bytes(size))
    with pytest.raises(UsageError, match="streams"):
        left.driver.transmit(link, STREAMS, b"x")


def test_frames_of_one_stream_arrive_in_order(left: End, right: End) -> None:
    """Lanes rest on it; between streams there is no order."""
    link, _ = join(left, right)
    for number in range(200):
        for stream in range(STREAMS):
            assert left.driver.transmit(link, stream, struct.pack("!I", number))
    pump([left, right], lambda: len(right.frames()) == 200 * STREAMS, what="all frames")
    for stream in range(STREAMS):
        numbers = [struct.unpack("!I", frame)[0] for frame in right.frames(stream)]
        assert numbers == list(range(200))


def test_a_full_link_refuses_and_says_when_it_takes_frames_again(left: End, right: End) -> None:
    """A slow peer costs bounded memory and no busy waiting."""
    link, _ = join(left, right)
    frame = os.urandom(32 << 10)
    accepted = 0
    while left.driver.transmit(link, Stream.BULK, frame):
        accepted += 1
        # Both buffers are 4 MiB, which the kernel doubles for its own overhead.
        assert accepted * len(frame) < 32 << 20, "the kernel takes frames without end"
    assert not left.driver.transmit(link, Stream.CONTROL, b"x"), "still full"
    pump(
        [left, right],
        lambda: Writable(link=link) in left.seen and len(right.frames()) == accepted,
        what="writable link",
        limit_s=60,
    )
    assert left.driver.transmit(link, Stream.CONTROL, b"last")
    pump([left, right], lambda: right.frames()[-1] == b"last", what="last frame")
    assert right.frames() == [frame] * accepted + [b"last"]
    assert left.driver.stats()["frames_sent"] == accepted + 1


def test_an_orderly_end_carries_everything_first(left: End, right: End) -> None:
    """`leave` must not lose what was accepted before it."""
    link, _ = join(left, right)
    frames = [os.urandom(32 << 10) for _ in range(20)]
    for frame in frames:
        assert left.driver.transmit(link, Stream.FIFO, frame)
    left.driver.disconnect(link, abort=False)
    assert left.driver.transmit(link, Stream.FIFO, b"too late"), "swallowed, not refused"
    pump([left, right], lambda: bool(left.losses() and right.losses()), what="end")
    assert right.frames() == frames
    assert [loss.reason for loss in left.losses()] == [LossReason.LOCAL]
    assert [loss.reason for loss in right.losses()] == [LossReason.SHUTDOWN]


def test_an_abort_ends_both_sides_at_once(left: End, right: End) -> None:
    """The other side learns it from a packet, not from a timeout."""
    link, back = join(left, right)
    left.driver.disconnect(link, abort=True)
    pump([left, right], lambda: bool(left.losses() and right.losses()), what="end", limit_s=5)
    assert [(loss.link, loss.reason) for loss in left.losses()] == [(link, LossReason.LOCAL)]
    assert [(loss.link, loss.reason) for loss in right.losses()] == [(back, LossReason.ABORTED)]
    assert left.driver.paths(link) == []


def test_a_lost_link_swallows_frames(left: End, right: End) -> None:
    """Its `LinkLost` is on the way; the caller need not guess from a refusal."""
    link, _ = join(left, right)
    left.driver.disconnect(link, abort=True)
    assert left.driver.transmit(link, Stream.FIFO, b"x")
    assert left.driver.transmit(link, Stream.FIFO, b"x", rail="a")
    left.driver.set_primary(link, "b")
    left.driver.disconnect(link, abort=True)
    pump([left], lambda: bool(left.losses()), what="end")
    assert len(left.losses()) == 1, "one end is said once"


def test_nobody_at_an_address_is_unreachable(left: End) -> None:
    """A dial ends by itself after the configured attempts."""
    link = left.connect(NOBODY.peer())
    pump([left], lambda: bool(left.losses()), what="end of the dial")
    assert [(loss.link, loss.reason) for loss in left.losses()] == [(link, LossReason.UNREACHABLE)]


def test_no_route_to_an_address_is_unreachable(left: End) -> None:
    """The kernel refuses at once; the caller still learns it from `poll`."""
    link = left.connect(NOBODY.peer(addresses={"a": "192.0.2.1"}))
    pump([left], lambda: bool(left.losses()), what="end of the dial")
    assert [(loss.link, loss.reason) for loss in left.losses()] == [(link, LossReason.UNREACHABLE)]


def test_a_host_without_listener_refuses(left: End) -> None:
    """Its kernel answers with an ABORT."""
    link = left.connect(RIGHT.peer(port=5999))
    pump([left], lambda: bool(left.losses()), what="end of the dial")
    assert [(loss.link, loss.reason) for loss in left.losses()] == [(link, LossReason.REFUSED)]


def test_a_frame_for_a_link_that_is_not_up_yet_waits_outside(left: End, right: End) -> None:
    """Refused, and `Writable` follows the `LinkUp`."""
    link = left.connect(RIGHT.peer())
    assert not left.driver.transmit(link, Stream.FIFO, b"early")
    pump([left, right], lambda: Writable(link=link) in left.seen, what="writable link")
    assert left.seen[0] == left.ups()[0]
    assert left.driver.transmit(link, Stream.FIFO, b"now")
    pump([left, right], lambda: right.frames() == [b"now"], what="frame")


def test_a_taken_port_is_said_at_once(left: End) -> None:
    """Two processes with one port would each get some of the associations."""
    assert not left.losses()
    with pytest.raises(PortTaken, match=r"5405.*10\.71\.0\.1"):
        kernel_end(LEFT)


def test_a_rail_that_is_absent_at_start_is_left_out_and_named(right: End) -> None:
    """The other rails work; a missing network card must not keep a node down."""
    addresses = {"a": LEFT.addresses["a"], "b": "10.72.0.99"}
    left = kernel_end(LEFT, addresses=addresses)
    try:
        assert left.driver.missing_rails == ("b",)
        link = left.connect(RIGHT.peer())
        pump([left, right], lambda: bool(left.ups() and right.ups()), what="association")
        assert set(left.ups()[0].rails) == {"a", "b"}
        assert right.ups()[0].rails == ("a",)
        assert left.driver.transmit(link, Stream.FIFO, b"x")
        pump([left, right], lambda: right.frames() == [b"x"], what="frame")
    finally:
        left.driver.close()


def test_no_local_address_at_all_is_an_error() -> None:
    """Then the configuration is that of another machine."""
    with pytest.raises(AddressMissing, match=r"10\.71\.0\.98 \(a\), 10\.72\.0\.98 \(b\)"):
        kernel_end(LEFT, addresses={"a": "10.71.0.98", "b": "10.72.0.98"})


def test_closing_frees_everything_and_may_be_repeated(left: End, right: End) -> None:
    """Hundreds of restarts in one process must not leak a descriptor."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        other = kernel_end(LEFT, port=5406)
        link = other.connect(RIGHT.peer())
        pump([other, right], lambda end=other: bool(end.ups()), what="association")
        other.driver.close()
        other.driver.close()
        with pytest.raises(UsageError, match="not open"):
            other.driver.transmit(link, 0, b"x")
    pump([left, right], lambda: len(right.losses()) == 3, what="ends")
    assert {loss.reason for loss in right.losses()} == {LossReason.ABORTED}
    assert len(os.listdir("/proc/self/fd")) == before
