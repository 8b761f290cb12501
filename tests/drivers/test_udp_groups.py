"""What is particular to multicast groups over UDP: this machine's own packets, and full buffers."""

from __future__ import annotations

import ipaddress
import os
import socket
import time
from collections.abc import Iterator

import pytest

from phalanx.transport.drivers.base import (
    CAST_BYTES_MAX,
    GROUP,
    Group,
    LocalEndpoint,
    PeerEndpoint,
)
from phalanx.transport.drivers.datagrams import UdpDatagrams

from .datagram_bench import WAIT_S, plain, wait_readable
from .test_udp_datagrams import free_port

PORTS = {number: free_port() for number in (1, 2, 3)}
GROUPS_PORT = free_port()
HERE = Group("239.192.77.1", GROUPS_PORT, looped=True)


def made(number: int, group: Group = HERE) -> UdpDatagrams:
    """Datagrams of a node on loopback, of which there are several at one address."""
    return UdpDatagrams(
        LocalEndpoint(
            node=number,
            addresses={"a": "127.0.0.1"},
            networks={"a": ipaddress.ip_network("127.0.0.0/8")},
            port=1,
            udp_port=2,
            datagram_port=PORTS[number],
            groups={"a": group},
        ),
        {
            other: PeerEndpoint(
                node=other, addresses={"a": "127.0.0.1"}, port=1, udp_port=2, datagram_port=port
            )
            for other, port in PORTS.items()
            if other != number
        },
    )


@pytest.fixture(params=["many at once", "one by one"], autouse=True)
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extension, and as it goes where there is none."""
    monkeypatch.setenv("PHALANX_NATIVE", "require" if request.param == "many at once" else "twin")


@pytest.fixture
def nodes() -> Iterator[list[UdpDatagrams]]:
    """Three on one machine."""
    opened = [made(number) for number in PORTS]
    for datagrams in opened:
        datagrams.open()
    yield opened
    for datagrams in opened:
        datagrams.close()


def receive(datagrams: UdpDatagrams, count: int) -> list[tuple[int, str, bytes]]:
    """Poll until so many have come."""
    got: list[tuple[int, str, bytes]] = []
    deadline = time.monotonic() + WAIT_S
    while len(got) < count and wait_readable(datagrams, max(0, deadline - time.monotonic())):
        got += plain(datagrams.poll())
    return got


def test_nodes_of_one_machine_hear_each_other_and_not_themselves(
    nodes: list[UdpDatagrams],
) -> None:
    """The kernel gives a sender's own packets back, for it knows of no nodes."""
    one, *others = nodes
    one.cast((GROUP,), "a", b"x")
    one.cast_numbered((GROUP,), "a", b"y" * CAST_BYTES_MAX, 5, 6)
    for other in others:
        assert receive(other, 2) == [(1, "a", b"x"), (1, "a", b"y" * CAST_BYTES_MAX)]
    assert wait_readable(one, WAIT_S)
    assert one.poll() == []
    assert one.stats()["own_received"] >= 2


def test_another_group_on_the_same_port_is_not_heard(nodes: list[UdpDatagrams]) -> None:
    """Several clusters may have the same port, as most will."""
    for node in (1, 2, 3):
        nodes[node - 1].close()
    two, three = made(2), made(3, Group("239.192.77.2", GROUPS_PORT, looped=True))
    two.open()
    three.open()
    try:
        three.cast((GROUP,), "a", b"for others")
        three.cast([2], "a", b"for two")
        assert receive(two, 1) == [(3, "a", b"for two")]
        assert two.stats().get("strangers", 0) == 0
    finally:
        two.close()
        three.close()


def test_a_group_that_cannot_be_joined_is_counted_and_the_rest_goes_on(
    nodes: list[UdpDatagrams],
) -> None:
    """No multicast there: datagrams go to one node at a time."""
    for node in nodes:
        node.close()
    one, two = made(1, Group("10.0.0.1", GROUPS_PORT)), made(2)
    one.open()
    two.open()
    try:
        assert (one.group_rails, two.group_rails) == ((), ("a",))
        assert any(name.startswith("group_") for name in one.stats())
        one.cast((GROUP,), "a", b"to nobody")
        one.cast((2,), "a", b"to two")
        assert receive(two, 1) == [(1, "a", b"to two")]
        assert one.stats()["without_address"] == 1
    finally:
        one.close()
        two.close()


def test_what_the_kernel_had_no_room_for_is_counted(nodes: list[UdpDatagrams]) -> None:
    """It says so with the next packet that it has room for (SO_RXQ_OVFL)."""
    one, two, _ = nodes
    assert two.overruns == 0
    for number in range(20_000):
        one.cast((GROUP,), "a", b"%d" % number)
    got = len(receive(two, 1))
    while more := two.poll():
        got += len(more)
    one.cast((GROUP,), "a", b"after")
    assert receive(two, 1) == [(1, "a", b"after")]
    assert two.overruns == two.stats()["overruns"] == 20_000 - got > 0
    one.cast((GROUP,), "a", b"no more of them")
    assert receive(two, 1) == [(1, "a", b"no more of them")]
    assert two.overruns == 20_000 - got


@pytest.mark.usefixtures("nodes")
def test_a_child_holds_neither_socket() -> None:
    """A fork would keep the group joined after its parent has died."""
    before = set(os.listdir("/proc/self/fd"))
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        count = 0
        for name in before:
            try:
                with socket.socket(fileno=os.dup(int(name))) as it:
                    count += it.type == socket.SOCK_DGRAM
            except OSError:
                continue
        os.write(writer, b"%d" % count)
        os._exit(0)
    os.waitpid(child, 0)
    try:
        assert os.read(reader, 10) == b"0"
    finally:
        os.close(reader)
        os.close(writer)
