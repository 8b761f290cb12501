"""What is particular to datagrams over UDP: strangers, ports, address families, errors, fork."""

from __future__ import annotations

import ipaddress
import os
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from phalanx.transport.drivers.base import (
    CAST_BYTES_MAX,
    DATAGRAM_BYTES_MAX,
    PARITIES,
    PIECE_HEAD_BYTES,
    Datagram,
    LocalEndpoint,
    Network,
    PeerEndpoint,
)
from phalanx.transport.drivers.datagrams import SOCKET_BUFFER_BYTES, UdpDatagrams
from phalanx.transport.drivers.pieces import PUZZLES_MAX, cut
from phalanx.transport.errors import UsageError

from .bench import RAILS
from .datagram_bench import WAIT_S, Got, NetnsDatagrams, plain, wait_readable
from .netns_bench import DATAGRAM_PORT, NetnsBench

HOSTS = {1: "127.0.0.1", 2: "127.0.0.2", 3: "127.0.0.3"}
LOOPBACK: dict[str, Network] = {"a": ipaddress.ip_network("127.0.0.0/8")}


def free_port(address: str = "0.0.0.0") -> int:
    """A UDP port that nobody has now, at that address or at any."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


PORT = free_port()


def peer(number: int, address: str = "", port: int = 0) -> PeerEndpoint:
    """A host as others see it."""
    return PeerEndpoint(
        node=number,
        addresses={"a": address or HOSTS[number]},
        port=1,
        udp_port=2,
        datagram_port=port or PORT,
    )


def made(number: int, *peers: PeerEndpoint, address: str = "", port: int = PORT) -> UdpDatagrams:
    """Datagrams of a host on loopback, not open yet."""
    text = address or HOSTS[number]
    networks = LOOPBACK if "." in text else {"a": ipaddress.ip_network("::1/128")}
    return UdpDatagrams(
        LocalEndpoint(
            node=number,
            addresses={"a": text},
            networks=networks,
            port=1,
            udp_port=2,
            datagram_port=port,
        ),
        {it.node: it for it in peers or (peer(n) for n in HOSTS if n != number)},
    )


@pytest.fixture(params=["many at once", "one by one"], autouse=True)
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extension, and as it goes where there is none."""
    monkeypatch.setenv("PHALANX_NATIVE", "require" if request.param == "many at once" else "twin")


@pytest.fixture
def one() -> Iterator[UdpDatagrams]:
    datagrams = made(1)
    datagrams.open()
    yield datagrams
    datagrams.close()


@pytest.fixture
def two() -> Iterator[UdpDatagrams]:
    datagrams = made(2)
    datagrams.open()
    yield datagrams
    datagrams.close()


def receive(datagrams: UdpDatagrams, count: int) -> list[Got]:
    """Poll until so many have come."""
    got: list[Datagram] = []
    deadline = time.monotonic() + WAIT_S
    while len(got) < count and wait_readable(datagrams, max(0, deadline - time.monotonic())):
        got += datagrams.poll()
    return plain(got)


def throw(payload: bytes, source: tuple[str, int], target: tuple[str, int]) -> None:
    """A packet from outside."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(source)
        sender.sendto(payload, target)


def test_strangers_are_counted_and_dropped(one: UdpDatagrams, two: UdpDatagrams) -> None:
    """The right address and the wrong port, and the right port at an address of nobody."""
    throw(b"x", ("127.0.0.2", 0), ("127.0.0.1", PORT))
    throw(b"x", ("127.0.0.9", PORT), ("127.0.0.1", PORT))
    two.cast([1], "a", b"known")
    assert receive(one, 1) == [(2, "a", b"known")]
    assert one.stats()["strangers"] == 2
    assert one.stats()["frames_received"] == 1


def test_what_no_node_casts_is_counted_and_dropped(one: UdpDatagrams) -> None:
    """From a known address: nothing, one byte past the limit, and all that UDP carries."""
    for payload in (b"", b"x" * (DATAGRAM_BYTES_MAX + 1), b"x" * 65_000, b"garbage"):
        throw(payload, ("127.0.0.3", PORT), ("127.0.0.1", PORT))
    # What a frame says is not looked at here: it has a checksum of its own.
    assert receive(one, 1) == [(3, "a", b"garbage")]
    assert one.stats()["sizes_received"] == 3


def test_a_flood_of_strangers_is_read_in_portions(one: UdpDatagrams, two: UdpDatagrams) -> None:
    """Else a poll would not end while they go on."""
    for _ in range(600):
        throw(b"x", ("127.0.0.9", PORT), ("127.0.0.1", PORT))
    assert one.poll() == []
    assert one.stats()["strangers"] == 256
    two.cast([1], "a", b"known")
    assert receive(one, 1) == [(2, "a", b"known")]


# --------------------------------------------------------------------- frames of several packets


def from_two(*packets: bytes) -> None:
    """Packets from the address of the second host, of which the kernel makes none."""
    for packet in packets:
        throw(packet, (HOSTS[2], PORT), (HOSTS[1], PORT))


def test_pieces_may_come_in_any_order_doubled_and_between_others(one: UdpDatagrams) -> None:
    """Packets of one sender take different ways; a frame is given when it is whole.

    All of it may come twice, as any datagram may.
    """
    generator = random.Random(2)
    frames = {number: generator.randbytes(size) for number, size in enumerate((1401, 9999, 63_664))}
    packets = [packet for number, frame in frames.items() for packet in 2 * cut(frame, number)]
    packets += [b"small"]
    generator.shuffle(packets)
    from_two(*packets)
    got = {frame for *_, frame in receive(one, 4) + plain(one.poll())}
    assert got == {*frames.values(), b"small"}


def test_the_same_number_of_two_senders_is_two_frames(one: UdpDatagrams) -> None:
    """Each numbers its own."""
    left, right = cut(b"l" * 2000, 5), cut(b"r" * 2000, 5)
    for two, three in zip(left, right, strict=True):
        from_two(two)
        throw(three, (HOSTS[3], PORT), (HOSTS[1], PORT))
    assert sorted(receive(one, 2)) == [(2, "a", b"l" * 2000), (3, "a", b"r" * 2000)]


def test_frames_that_lack_a_piece_make_room_for_others(one: UdpDatagrams) -> None:
    """A lossy rail or a hostile neighbour fills no memory; the oldest goes first."""
    for number in range(3 * PUZZLES_MAX):
        from_two(cut(b"x" * 3000, number)[1])
    from_two(*cut(b"y" * 3000, 1000))
    assert receive(one, 1) == [(2, "a", b"y" * 3000)]
    assert one.stats()["pieces_displaced"] == 2 * PUZZLES_MAX + 1
    newest, oldest = 3 * PUZZLES_MAX - 1, 2 * PUZZLES_MAX
    for number in (newest, oldest):
        first, _, last = cut(b"x" * 3000, number)
        from_two(first, last)
    assert receive(one, 1) == [(2, "a", b"x" * 3000)], "the newest is whole, the oldest was gone"
    assert one.poll() == []


def _damaged() -> list[bytes]:
    head, body = cut(b"x" * 3000, 7)[1][:PIECE_HEAD_BYTES], b"x" * (1400 - PIECE_HEAD_BYTES)
    fields = {2: b"\x02", 3: b"\x09", 8: b"\x00\x00\x00\x00", 10: b"\xff\xff", 12: b"\x00\x00"}
    changed = [head[:at] + new + head[at + len(new) :] + body for at, new in fields.items()]
    tiny = head[:12] + b"\x01\x00" + head[14:] + b"x"
    *_, parity = cut(b"x" * 3000, 7, pieces=PARITIES)
    second = parity[:3] + bytes([parity[3] + 1]) + parity[4:]
    of_one = head[:3] + parity[3:4] + head[4:8] + bytes([100, 0, 0, 0]) + head[12:] + body
    return [*changed, head + body[1:], head, tiny, parity[:-1], second, of_one]


def test_what_is_a_piece_of_nothing_is_counted_and_dropped(one: UdpDatagrams) -> None:
    """Another version, beyond the end, of no size, too large, too short, far too many; parities
    that are too short, beyond the last, or of a single piece."""
    from_two(*_damaged())
    from_two(*cut(b"y" * 3000, 8))
    assert receive(one, 1) == [(2, "a", b"y" * 3000)]
    assert one.stats()["pieces_malformed"] == len(_damaged())


def test_pieces_that_do_not_fit_together_are_counted_and_dropped(one: UdpDatagrams) -> None:
    """One number, two sizes: what came first counts."""
    first, _, last = cut(b"x" * 3000, 7)
    from_two(first, cut(b"y" * 4000, 7)[1], last)
    assert receive(one, 1) == []
    assert one.stats()["pieces_malformed"] == 1
    from_two(cut(b"x" * 3000, 7)[1])
    assert receive(one, 1) == [(2, "a", b"x" * 3000)]


def test_garbage_of_every_kind_is_survived(one: UdpDatagrams) -> None:
    """Heads of pieces with random fields, of random lengths, among frames that are whole."""
    generator = random.Random(3)
    for number in range(300):
        packet = bytearray(b"PP\x01" + generator.randbytes(generator.randrange(1400)))
        if len(packet) > PIECE_HEAD_BYTES and number % 3:
            packet[3:16] = cut(b"x" * 60_000, number % 7)[number % 40][3:16]
        from_two(bytes(packet))
        one.poll()
    from_two(*cut(b"y" * 60_000, 1000))
    assert (2, "a", b"y" * 60_000) in receive(one, 1)


def test_many_large_frames_are_read_in_portions(one: UdpDatagrams, two: UdpDatagrams) -> None:
    """A poll copies no more than so many bytes, whatever lies there."""
    for number in range(30):
        two.cast([1], "a", number.to_bytes() * CAST_BYTES_MAX)
    first = plain(one.poll())
    assert sum(len(frame) for *_, frame in first) < (1 << 20) + 32 * CAST_BYTES_MAX
    numbers = [frame[0] for *_, frame in (*first, *receive(one, 30 - len(first)))]
    assert numbers == list(range(30))


def test_a_closed_port_of_one_peer_stops_nothing(one: UdpDatagrams, two: UdpDatagrams) -> None:
    """Its host answers each packet with port-unreachable."""
    for number in range(100):
        one.cast([3, 2], "a", b"%d" % number)
        assert one.poll() == []
    assert [int(frame) for *_, frame in receive(two, 100)] == list(range(100))
    assert one.stats()["frames_sent"] == 200
    third = made(3)
    third.open()
    try:
        one.cast([3], "a", b"now")
        assert receive(third, 1) == [(1, "a", b"now")]
    finally:
        third.close()


def test_a_taken_port_leaves_the_rail_out(one: UdpDatagrams) -> None:
    """Nodes lose speed by it, and the reason can be seen."""
    again = made(1)
    again.open()
    try:
        assert again.missing_rails == ("a",)
        assert again.stats()["rail_eaddrinuse"] == 1
        again.cast([2], "a", b"x")
        assert again.poll() == []
        assert again.stats()["rail_missing"] == 1
        assert one.missing_rails == ()
    finally:
        again.close()


@pytest.mark.parametrize("port", [0, PORT], ids=["no port", "no address"])
def test_a_node_without_port_or_address_has_no_datagrams(port: int) -> None:
    """Port 0 is that of a node which takes none; the address is one of documentation."""
    datagrams = made(1, address="127.0.0.1" if not port else "192.0.2.1", port=port)
    datagrams.open()
    try:
        assert datagrams.missing_rails == ("a",)
        assert datagrams.stats()["rail_eaddrnotavail"] == 1
    finally:
        datagrams.close()


def test_a_peer_without_a_port_is_sent_nothing(two: UdpDatagrams) -> None:
    """Else it would go to port 0."""
    nowhere = PeerEndpoint(node=3, addresses={"a": HOSTS[3]}, port=1, udp_port=2)
    datagrams = made(1, nowhere, peer(2))
    datagrams.open()
    try:
        datagrams.cast([3, 2], "a", b"x")
        assert receive(two, 1) == [(1, "a", b"x")]
        assert datagrams.stats()["without_address"] == 1
        assert datagrams.stats()["frames_sent"] == 1
    finally:
        datagrams.close()


def test_nodes_with_one_ipv6_address_are_told_apart_by_their_ports() -> None:
    """The kernel spells an address in its own way, with flow and scope beside it."""
    ports = [free_port("::1"), free_port("::1")]
    left = made(1, peer(2, "0:0:0:0:0:0:0:1", ports[1]), address="::1", port=ports[0])
    right = made(2, peer(1, "0::1", ports[0]), address="::1", port=ports[1])
    left.open()
    right.open()
    try:
        left.cast([2], "a", b"six")
        assert receive(right, 1) == [(1, "a", b"six")]
        right.cast([1], "a", b"back")
        assert receive(left, 1) == [(2, "a", b"back")]
    finally:
        left.close()
        right.close()


def test_sockets_have_room_for_bursts(one: UdpDatagrams) -> None:
    """As much as is asked for, or as net.core lets a process without privileges have."""
    watched = Path(f"/proc/self/fdinfo/{one.fileno()}").read_text(encoding="ascii")
    [descriptor] = re.findall(r"tfd: +(\d+)", watched)
    with socket.socket(fileno=os.dup(int(descriptor))) as sock:
        for option, limit in ((socket.SO_RCVBUF, "rmem_max"), (socket.SO_SNDBUF, "wmem_max")):
            with open(f"/proc/sys/net/core/{limit}", encoding="ascii") as file:
                allowed = min(int(file.read()), SOCKET_BUFFER_BYTES)
            # The kernel doubles what it is given, to allow for its own overhead.
            assert sock.getsockopt(socket.SOL_SOCKET, option) in (
                2 * allowed,
                2 * SOCKET_BUFFER_BYTES,
            )


def test_two_processes_exchange_datagrams(one: UdpDatagrams) -> None:
    """Nothing of it rests on being in one process."""
    program = f"""
import ipaddress, select
from phalanx.transport.drivers.base import LocalEndpoint, PeerEndpoint
from phalanx.transport.drivers.datagrams import UdpDatagrams
local = LocalEndpoint(node=2, addresses={{"a": "127.0.0.2"}}, port=1, udp_port=2,
    networks={{"a": ipaddress.ip_network("127.0.0.0/8")}}, datagram_port={PORT})
one = PeerEndpoint(node=1, addresses={{"a": "127.0.0.1"}}, port=1, udp_port=2,
    datagram_port={PORT})
datagrams = UdpDatagrams(local, {{1: one}})
datagrams.open()
print("open", flush=True)
left = 100
while left:
    select.select([datagrams], [], [], {WAIT_S})
    for node, rail, frame, _, _ in datagrams.poll():
        datagrams.cast([node], rail, frame[::-1])
        left -= 1
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None, "it was opened with a pipe"
        assert child.stdout.readline() == "open\n"
        for number in range(100):
            one.cast([2], "a", b"%03d" % number)
            assert receive(one, 1) == [(2, "a", (b"%03d" % number)[::-1])]
    assert child.returncode == 0


def test_a_forked_child_refuses_and_holds_nothing(one: UdpDatagrams, two: UdpDatagrams) -> None:
    """A child that lives on must neither take what is its parent's, nor keep its ports."""
    ours, childs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        outcome = 0
        for call in (one.poll, one.fileno, lambda: one.cast([2], "a", b"from the child")):
            try:
                call()
            except UsageError as refusal:
                outcome += "fork" not in str(refusal)
            else:
                outcome += 1
        childs.send(b".")
        childs.recv(1)  # until the parent has seen that it holds nothing, or has ended
        os._exit(outcome)
    childs.close()
    with ours:
        assert ours.recv(1) == b"."
        one.cast([2], "a", b"from the parent")
        assert receive(two, 1) == [(1, "a", b"from the parent")]
        one.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", PORT))
    assert os.waitpid(child, 0)[1] == 0


def test_opening_and_closing_again_and_again_leaks_nothing(one: UdpDatagrams) -> None:
    """A node that is reconfigured goes on in the same process."""
    one.close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        one.open()
        one.cast([2], "a", b"x")
        assert one.stats()["frames_sent"] == 1, "counters begin anew"
        one.close()
    assert len(os.listdir("/proc/self/fd")) == before


# ------------------------------------------------------------------------- between hosts


@pytest.fixture(scope="module")
def hosts(require: Callable[..., None]) -> Iterator[NetnsDatagrams]:
    """Three hosts on two rails, each in a network namespace."""
    require("netns")
    with NetnsBench("none:") as namespaces:
        yield NetnsDatagrams(namespaces)


@pytest.fixture
def bench(hosts: NetnsDatagrams) -> Iterator[NetnsDatagrams]:
    """Without hosts that run, and with whole rails."""
    yield hosts
    hosts.reset()


@pytest.mark.netns
def test_a_link_that_is_down_is_counted_and_mended(bench: NetnsDatagrams) -> None:
    """The kernel refuses what it has no route for; afterwards it goes on as before."""
    first, second = bench.start(1), bench.start(2)
    bench.namespaces.link_down(1, "a")
    for rail in RAILS:
        first.cast([2], rail, b"x")
    assert bench.collect(second, 1) == [(1, "b", b"x")]
    assert first.stats()["send_enetunreach"] == 1
    assert first.stats()["frames_sent"] == 1
    bench.heal(1, "a")
    first.cast([2], "a", b"again")
    assert bench.collect(second, 1) == [(1, "a", b"again")]


@pytest.mark.netns
def test_a_socket_that_is_full_refuses_without_waiting(bench: NetnsDatagrams) -> None:
    """A link slower than its sender: what has no room is lost here, and counted."""
    first, second = bench.start(1), bench.start(2)
    first.cast([2], "b", b"x")  # so that addresses are resolved
    assert len(bench.collect(second, 1)) == 1
    bench.namespaces.run(1, "tc", "qdisc", "add", "dev", "b", "root", *SLOW)
    try:
        began = time.monotonic()
        for _ in range(4000):
            first.cast([2], "b", b"x" * DATAGRAM_BYTES_MAX)
        assert time.monotonic() - began < WAIT_S
    finally:
        bench.namespaces.run(1, "tc", "qdisc", "del", "dev", "b", "root")
    assert first.stats()["send_eagain"] > 100
    assert first.stats()["send_eagain"] + first.stats()["frames_sent"] == 4001
    first.cast([2], "a", b"by the other rail")
    assert (1, "a", b"by the other rail") in bench.collect(second, 1)


SLOW = ("tbf", "rate", "8kbit", "burst", "1600", "limit", str(64 << 20))
"""One packet a second and a queue that takes whatever a socket has room for."""


@pytest.mark.netns
def test_what_comes_to_another_rail_is_a_strangers(bench: NetnsDatagrams) -> None:
    """A rail says by which network somebody is reached: an address of another one does not."""
    first, second = bench.start(1), bench.start(2)
    rail_b = bench.namespaces.endpoint(2).addresses["b"]
    second.close()
    with bench.namespaces.within(2):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        sender.bind((rail_b, DATAGRAM_PORT))
        for rail in RAILS:
            target = bench.namespaces.endpoint(1).addresses[rail]
            sender.sendto(rail.encode(), (target, DATAGRAM_PORT))
    assert bench.collect(first, 1) == [(2, "b", b"b")]
    assert first.stats()["strangers"] == 1
