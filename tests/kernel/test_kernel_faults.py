"""Cut cables, killed peers and ill-behaved ones, on real kernel SCTP over two rails."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Generator

import pytest

from phalanx.transport.config import PROFILES
from phalanx.transport.drivers import sctp_wire as wire
from phalanx.transport.drivers.base import STREAMS, LossReason, PathState, Received, Stream
from phalanx.transport.drivers.kernel_link import RailMap
from phalanx.transport.drivers.kernel_sctp import FRAME_BYTES_MAX
from phalanx.transport.drivers.sctp_socket import SctpSocket

from . import lab
from .lab import LEFT, PORT, RIGHT, End, join, kernel_end, pump, wait_for_paths

pytestmark = pytest.mark.kernel

TUNING = PROFILES["lan"].sctp
FRAMES_PER_S = 200
GAP_MS_MAX = 1000.0
"""In the guest everything is up to twenty times slower; the figure itself is reported."""


def stream_through_a_fault(left: End, right: End, link: int, fault: str) -> tuple[float, float]:
    """Send at a steady rate before, during and after a fault; return baseline and gap in ms."""
    before_s, after_s = 1.0, 2.5
    arrivals: list[float] = []
    sent = 0
    seen = len(right.seen)
    with lab.background_shell() as run:
        began = time.monotonic()
        baseline_count = 0
        while (now := time.monotonic()) < began + before_s + after_s:
            if not baseline_count and now >= began + before_s:
                run(fault)
                baseline_count = len(arrivals)
            while sent < (now - began) * FRAMES_PER_S:
                if not left.driver.transmit(link, Stream.FIFO, struct.pack("!I", sent)):
                    break
                sent += 1
            for end in (left, right):
                end.poll()
            arrivals += [time.monotonic()] * sum(
                isinstance(item, Received) for item in right.seen[seen:]
            )
            seen = len(right.seen)
            pause = began + (sent + 1) / FRAMES_PER_S - time.monotonic()
            if pause > 0:
                lab.wait_readable([left, right], pause)
    pump([left, right], lambda: len(right.frames()) == sent, what="rest of the stream")
    assert [struct.unpack("!I", frame)[0] for frame in right.frames()] == list(range(sent))
    gaps = [(late - early) * 1000 for early, late in itertools.pairwise(arrivals)]
    return max(gaps[: baseline_count - 1]), max(gaps[baseline_count - 1 :])


@pytest.mark.parametrize("fault", ["silent drop", "link down"])
@pytest.mark.usefixtures("healed")
def test_losing_a_rail_mid_stream_loses_nothing(
    left: End, right: End, fault: str, record_property: Callable[[str, object], None]
) -> None:
    """Multi-homing: a dead cable costs a moment, not a message; and the cable can come back."""
    link, _ = join(left, right)
    left.driver.set_primary(link, "a")
    command = {
        "silent drop": lab.cut_commands("a"),
        "link down": "ip -n right link set rail-a down",
    }[fault]
    baseline_ms, gap_ms = stream_through_a_fault(left, right, link, command)
    name = f"longest gap on {fault} at {FRAMES_PER_S} frames/s, lost 0"
    record_property(name, f"{gap_ms:.0f} ms (baseline {baseline_ms:.0f} ms)")
    assert gap_ms < GAP_MS_MAX
    pump([left, right], lambda: "a" in left.paths_said(PathState.DOWN), what="notice: a is down")
    assert not left.losses()
    assert not right.losses()
    wait_for_paths(left, link, "b", right)
    lab.sh(lab.heal_commands())
    pump([left, right], lambda: "a" in left.paths_said(PathState.UP), what="notice: a is up")
    wait_for_paths(left, link, "ab", right)


@pytest.mark.usefixtures("healed")
def test_losing_all_rails_ends_the_link_by_itself(left: End, right: End) -> None:
    """The core learns it as evidence; the kernel must not go on for a minute."""
    tuning = dataclasses.replace(TUNING, association_max_retrans=4)
    other = kernel_end(LEFT, tuning=tuning, port=5406)
    try:
        link, _ = join(other, right)
        lab.sh(f"{lab.cut_commands('a')}; {lab.cut_commands('b')}")
        assert other.driver.transmit(link, Stream.FIFO, b"into the void")
        pump([other], lambda: bool(other.losses()), what="end of the link")
        assert [loss.reason for loss in other.losses()] == [LossReason.TIMED_OUT]
    finally:
        other.driver.close()
    assert not left.losses()


def test_a_probe_goes_over_its_own_rail(left: End, right: End) -> None:
    """The core's failure detector rests on it."""
    link, _ = join(left, right)
    for rail, other in (("a", "b"), ("b", "a")):
        before = LEFT.transmitted_bytes(rail), LEFT.transmitted_bytes(other)
        for _ in range(100):
            assert left.driver.transmit(link, Stream.CONTROL, bytes(1000), rail=rail)
        received = len(right.frames())
        pump([left, right], lambda n=received: len(right.frames()) == n + 100, what="probes")
        assert LEFT.transmitted_bytes(rail) - before[0] > 100_000
        assert LEFT.transmitted_bytes(other) - before[1] < 20_000
    assert left.driver.stats()["probes_sent"] == 200


@pytest.mark.usefixtures("healed")
def test_a_probe_on_a_dead_rail_never_arrives_by_another(left: End, right: End) -> None:
    """Else a dead rail would look alive for as long as the association retransmits."""
    link, _ = join(left, right)
    lab.sh(lab.cut_commands("b"))
    until = time.monotonic() + 1.5
    sent = 0
    while time.monotonic() < until:
        assert left.driver.transmit(link, Stream.CONTROL, b"probe", rail="b")
        assert left.driver.transmit(link, Stream.FIFO, b"data")
        sent += 1
        lab.wait_readable([left, right], 0.02)
        for end in (left, right):
            end.poll()
    pump([left, right], lambda: len(right.frames(Stream.FIFO)) == sent, what="data")
    pump([left, right], lambda: "b" in left.paths_said(PathState.DOWN), what="notice: b is down")
    assert right.frames(Stream.CONTROL) == []
    lab.sh(lab.heal_commands())
    wait_for_paths(left, link, "ab", right)
    assert left.driver.transmit(link, Stream.CONTROL, b"again", rail="b")
    pump([left, right], lambda: right.frames(Stream.CONTROL) == [b"again"], what="probe")


def test_a_probe_that_came_over_another_rail_than_its_own_is_dropped(right: End) -> None:
    """A stack may move a probe from a dead rail to a live one, and it would vouch for the dead."""
    peer = raw_dial()
    pump([right], lambda: bool(right.ups()), what="association")
    tagged = RailMap(lab.NETWORKS).probe_ancillary
    for rail, frame in (("b", b"strayed"), ("a", b"kept")):
        peer.sock.sendmsg([frame], tagged[rail][Stream.REPAIR], 0, (RIGHT.addresses["a"], PORT))
    pump([right], lambda: bool(right.frames()), what="probe")
    assert right.frames() == right.frames(Stream.REPAIR) == [b"kept"]
    assert right.driver.stats()["probes_strayed"] == 1
    peer.close()


def test_a_frame_on_a_stream_that_no_lane_has_is_dropped(right: End) -> None:
    """There are more streams than lanes, for probes; what else comes on them is nobody's."""
    peer = raw_dial(streams=STREAMS + 1)
    pump([right], lambda: bool(right.ups()), what="association")
    for stream in (STREAMS, Stream.BULK):
        info = wire.SNDINFO.pack(stream, 0, 0, 0, 0)
        peer.sock.sendmsg([b"x"], [(wire.IPPROTO_SCTP, wire.CMSG_SNDINFO, info)])
    pump(
        [right],
        lambda: right.driver.stats().get("dropped_stream") == 1 and len(right.frames()) == 1,
        what="one frame of two",
    )
    assert right.frames(Stream.BULK) == [b"x"]
    assert not right.losses()
    peer.close()


def test_a_probe_on_a_rail_that_the_peer_has_not_is_dropped(left: End) -> None:
    """Nothing to say about such a rail."""
    right = kernel_end(RIGHT, addresses={"a": RIGHT.addresses["a"]})
    try:
        link = left.connect(right.host.peer(addresses={"a": RIGHT.addresses["a"]}))
        pump([left, right], lambda: bool(left.ups()), what="association")
        assert left.driver.transmit(link, Stream.CONTROL, b"probe", rail="b")
        assert left.driver.stats()["probes_dropped_path"] == 1
    finally:
        right.driver.close()


def test_the_primary_path_can_be_moved(left: End, right: End) -> None:
    """The core moves it after a failover, and back after clean probes."""
    link, _ = join(left, right)
    for rail in ("b", "a"):
        left.seen.clear()
        left.driver.set_primary(link, rail)
        pump([left], lambda r=rail: r in left.paths_said(PathState.PRIMARY), what="primary notice")
        states = {path.rail: path.state for path in left.driver.paths(link)}
        assert states.pop(rail) is PathState.PRIMARY
        assert set(states.values()) == {PathState.UP}
        before = LEFT.transmitted_bytes(rail)
        assert left.driver.transmit(link, Stream.FIFO, bytes(50_000))
        pump([left, right], lambda: len(right.frames()) > 0, what="frame")
        right.seen.clear()
        assert LEFT.transmitted_bytes(rail) - before > 50_000


@contextlib.contextmanager
def process_on_right() -> Generator[int]:
    """A driver in a process of its own, listening on the right host; its process id."""
    ready, says_ready = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            end = kernel_end(RIGHT)
            os.write(says_ready, b"!")
            pump([end], lambda: False, what="signal", limit_s=60)
        finally:
            os._exit(1)
    os.close(says_ready)
    try:
        assert os.read(ready, 1) == b"!"
        yield child
    finally:
        os.close(ready)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.usefixtures("hosts")
def test_a_killed_peer_is_noticed_and_can_come_back(
    record_property: Callable[[str, object], None],
) -> None:
    """Its kernel says so at once, and its port is free for the next start."""
    with process_on_right() as child:
        left = kernel_end(LEFT)
        link = left.connect(RIGHT.peer())
        pump([left], lambda: bool(left.ups()), what="association")
        killed = time.monotonic()
        os.kill(child, signal.SIGKILL)
        pump([left], lambda: bool(left.losses()), what="end of the link", limit_s=5)
        took_ms = (time.monotonic() - killed) * 1000
    record_property("killed process noticed after", f"{took_ms:.0f} ms")
    assert [(loss.link, loss.reason) for loss in left.losses()] == [(link, LossReason.ABORTED)]
    left.driver.close()
    with process_on_right():
        left = kernel_end(LEFT)
        again = left.connect(RIGHT.peer())
        pump([left], lambda: [up.link for up in left.ups()] == [again], what="second association")
        left.driver.close()


def raw_dial(*, port: int = 0, streams: int = STREAMS) -> SctpSocket:
    """A socket on the left host that begins an association and knows nothing of drivers."""
    with LEFT.entered():
        sock = SctpSocket.open(socket.AF_INET)
    patient = dataclasses.replace(TUNING, init_attempts=50)
    sock.configure(patient, streams=streams, encapsulation_port=0)
    sock.bind((LEFT.addresses["a"], port))
    sock.connect([(RIGHT.addresses["a"], PORT)])
    return sock


def test_a_peer_that_sets_up_anew_is_a_lost_link(right: End) -> None:
    """SCTP would go on with the restarted peer; but its state, and who it is, are gone."""
    first = raw_dial(port=6000)
    pump([right], lambda: bool(right.ups()), what="association")
    try:
        # Without the ABORT of the dying peer, its next start finds the association in place.
        lab.sh(f"{lab.cut_commands('a')}; {lab.cut_commands('b')}")
        first.close()
        # Dial before healing: a heartbeat that finds nobody would be answered by an ABORT.
        second = raw_dial(port=6000)
        lab.sh(lab.heal_commands())
        pump([right], lambda: bool(right.losses()), what="end of the link")
        assert [loss.reason for loss in right.losses()] == [LossReason.RESTARTED]
        assert right.losses()[0].link == right.ups()[0].link
        second.close()
    finally:
        lab.sh(lab.heal_commands())


def test_a_frame_that_is_too_large_ends_the_link_and_nothing_else(right: End) -> None:
    """Memory is bounded whatever a peer sends."""
    peer = raw_dial()
    pump([right], lambda: bool(right.ups()), what="association")
    peer.sock.setblocking(True)
    peer.sock.settimeout(lab.DEADLINE_S)
    peer.sock.send(bytes(FRAME_BYTES_MAX + 1))
    pump([right], lambda: bool(right.losses()), what="end of the link")
    assert right.losses()[0].reason is LossReason.ABORTED
    assert str(FRAME_BYTES_MAX) in right.losses()[0].detail
    assert right.frames() == []
    assert right.driver.stats()["dropped_oversized"] == 1
    peer.close()


def test_a_peer_with_too_few_streams_is_turned_away(right: End) -> None:
    """Its lanes would share a stream, and bulk would delay barriers."""
    peer = raw_dial(streams=1)
    pump([right], lambda: bool(right.losses()), what="end of the link")
    assert "streams" in right.losses()[0].detail
    peer.close()


def test_a_frame_larger_than_the_receive_buffer_arrives_whole(left: End) -> None:
    """The kernel then hands it over in pieces, the first ones before the last has arrived."""
    small = dataclasses.replace(TUNING, receive_buffer_bytes=32 << 10)
    right = kernel_end(RIGHT, tuning=small)
    try:
        link, _ = join(left, right)
        frames = [os.urandom(FRAME_BYTES_MAX) for _ in range(3)]
        for frame in frames:
            assert left.driver.transmit(link, Stream.BULK, frame)
        assert left.driver.transmit(link, Stream.CONTROL, b"small")
        pump([left, right], lambda: len(right.frames()) == 4, what="frames", limit_s=60)
        assert right.frames(Stream.BULK) == frames
        assert right.frames(Stream.CONTROL) == [b"small"]
    finally:
        right.driver.close()


def test_control_overtakes_bulk_that_waits(left: End) -> None:
    """A heartbeat behind megabytes of bulk would get its sender suspected."""
    small = dataclasses.replace(TUNING, receive_buffer_bytes=64 << 10)
    right = kernel_end(RIGHT, tuning=small)
    try:
        link, _ = join(left, right)
        for _ in range(64):
            assert left.driver.transmit(link, Stream.BULK, bytes(32 << 10))
        assert left.driver.transmit(link, Stream.CONTROL, b"heartbeat")
        pump([left, right], lambda: len(right.frames()) == 65, what="all frames", limit_s=60)
        streams = [item.stream for item in right.seen if isinstance(item, Received)]
        assert streams.index(Stream.CONTROL) < 32, "half of the bulk went first"
    finally:
        right.driver.close()
