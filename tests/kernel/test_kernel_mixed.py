"""One node on the kernel's SCTP and one on usrsctp: SCTP in UDP between them (RFC 6951)."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator, Iterator
from dataclasses import replace

import pytest

from phalanx.transport.config import PROFILES
from phalanx.transport.drivers.base import STREAMS, LossReason, PathState, Stream
from phalanx.transport.drivers.user_sctp import UserSctp
from phalanx.transport.errors import DriverUnavailable

from . import lab
from .lab import LEFT, RIGHT, UDP_PORT, End, kernel_end, pump, wait_for_paths

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("hosts")]

SIZES = (1, 1_400, 60_000, 256 << 10)


@pytest.fixture
def kernel() -> Iterator[End]:
    """A kernel node, in a namespace that takes SCTP in UDP."""
    LEFT.sh(f"sysctl -qw net.sctp.udp_port={UDP_PORT}")
    end = kernel_end(LEFT, encapsulation_port=UDP_PORT)
    yield end
    end.driver.close()
    LEFT.sh("sysctl -qw net.sctp.udp_port=0")


@contextlib.contextmanager
def user_end(udp_port: int) -> Generator[End]:
    """A usrsctp node with this UDP port."""
    driver = UserSctp(replace(RIGHT.endpoint(), udp_port=udp_port), PROFILES["lan"].sctp)
    with RIGHT.entered():
        driver.open()
    yield End(RIGHT, driver)
    driver.close()


@pytest.fixture
def user() -> Iterator[End]:
    """A usrsctp node with the same UDP port as the kernel's."""
    with user_end(UDP_PORT) as end:
        yield end


def exchange(near: End, far: End) -> int:
    """Associate, and carry frames of every size on every stream both ways; returns the link."""
    link = near.connect(far.host.peer())
    pump([near, far], lambda: bool(near.ups() and far.ups()), what="association")
    for end, number in ((near, link), (far, far.ups()[0].link)):
        for stream in range(STREAMS):
            for size in SIZES:
                assert end.driver.transmit(number, stream, bytes([stream]) * size)
    count = STREAMS * len(SIZES)
    for end in (near, far):
        pump([near, far], lambda e=end: len(e.frames()) == count, what="frames")
    return link


@pytest.mark.parametrize("dialler", ["kernel", "user"])
def test_kernel_and_usrsctp_nodes_form_one_association(
    kernel: End, user: End, dialler: str
) -> None:
    """A cluster may be mixed while it moves from one to the other."""
    near, far = (kernel, user) if dialler == "kernel" else (user, kernel)
    exchange(near, far)
    for end in (near, far):
        assert set(end.ups()[0].rails) == {"a", "b"}
        for stream in range(STREAMS):
            assert end.frames(stream) == [bytes([stream]) * size for size in SIZES]


@pytest.mark.parametrize("ender", ["kernel", "user"])
def test_either_side_ends_an_association_in_good_order(kernel: End, user: End, ender: str) -> None:
    """Leaving must not look like a loss, whatever the other side runs on."""
    near, far = (kernel, user) if ender == "kernel" else (user, kernel)
    link = exchange(near, far)
    near.driver.disconnect(link, abort=False)
    pump([near, far], lambda: bool(near.losses() and far.losses()), what="end")
    assert far.losses()[0].reason is LossReason.SHUTDOWN


@pytest.mark.parametrize("dialler", ["kernel", "user"])
def test_either_side_may_have_a_udp_port_of_its_own(kernel: End, dialler: str) -> None:
    """The dialling side knows the other's from the file, the other one learns it from packets."""
    with user_end(UDP_PORT + 1) as user:
        if dialler == "kernel":
            kernel.connect(replace(RIGHT.peer(), udp_port=UDP_PORT + 1))
        else:
            user.connect(LEFT.peer())
        pump([kernel, user], lambda: bool(kernel.ups() and user.ups()), what="association")
        for end, other in ((kernel, user), (user, kernel)):
            link = end.ups()[0].link
            wait_for_paths(end, link, "ab", other)
            for rail in "ab":
                assert end.driver.transmit(link, Stream.CONTROL, rail.encode(), rail=rail)
            pump([end, other], lambda e=other: len(e.frames()) == 2, what="probes")


@pytest.mark.usefixtures("healed")
def test_a_mixed_association_survives_a_cut_rail(kernel: End, user: End) -> None:
    """Quick failover does not depend on both sides having the same stack."""
    link = kernel.connect(RIGHT.peer())
    pump([kernel, user], lambda: bool(kernel.ups() and user.ups()), what="association")
    wait_for_paths(kernel, link, "ab", user)
    lab.sh(lab.cut_commands("a"))
    frames = [os.urandom(1000) for _ in range(100)]
    for end, number in ((kernel, link), (user, user.ups()[0].link)):
        for frame in frames:
            assert end.driver.transmit(number, Stream.FIFO, frame)
    for end in (kernel, user):
        pump([kernel, user], lambda e=end: e.frames() == frames, what="frames by the other rail")
        pump([kernel, user], lambda e=end: "a" in e.paths_said(PathState.DOWN), what="a is down")
    assert not kernel.losses()
    assert not user.losses()


@pytest.mark.usefixtures("healed")
def test_probes_of_either_stack_keep_to_their_rail(kernel: End, user: End) -> None:
    """Both mark probes alike; a tag that the other did not understand would lose all of them."""
    link = kernel.connect(RIGHT.peer())
    pump([kernel, user], lambda: bool(kernel.ups() and user.ups()), what="association")
    back = user.ups()[0].link
    wait_for_paths(kernel, link, "ab", user)
    wait_for_paths(user, back, "ab", kernel)
    sides = ((kernel, link, user), (user, back, kernel))
    for stream in (Stream.CONTROL, Stream.REPAIR):
        for near, number, far in sides:
            for rail in "ab":
                assert near.driver.transmit(number, stream, rail.encode(), rail=rail)
            pump(
                [kernel, user],
                lambda e=far, s=stream: sorted(e.frames(s)) == [b"a", b"b"],
                what=f"probes from {near.host.name} on both rails",
            )
    lab.sh(lab.cut_commands("b"))
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        for near, number, _ in sides:
            assert near.driver.transmit(number, Stream.CONTROL, b"into the void", rail="b")
            assert near.driver.transmit(number, Stream.CONTROL, b"alive", rail="a")
        lab.wait_readable([kernel, user], 0.05)
        kernel.poll()
        user.poll()
    for near, _, far in sides:
        pump([kernel, user], lambda e=near: "b" in e.paths_said(PathState.DOWN), what="b is down")
        probes = far.frames(Stream.CONTROL)
        assert b"into the void" not in probes
        assert b"alive" in probes
    assert not kernel.losses()
    assert not user.losses()


def test_a_namespace_that_takes_no_sctp_in_udp_is_named_with_the_remedy() -> None:
    """Else every dial would only ever time out."""
    with pytest.raises(DriverUnavailable, match=r"sysctl -w net\.sctp\.udp_port=9899"):
        kernel_end(LEFT, encapsulation_port=UDP_PORT)
