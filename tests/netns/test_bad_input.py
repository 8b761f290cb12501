"""Strangers on the rails send garbage to a working cluster: it is counted, nothing else."""

from __future__ import annotations

import contextlib
import random
import socket
import struct

import pytest

from .harness import Fleet
from .reports import Look

pytestmark = pytest.mark.netns

PORT = 9899
SCTP_PORT = 5405
RATE = 500
DATAGRAMS = 2000


def datagram(rng: random.Random) -> bytes:
    """Noise, or something that begins like SCTP: a common header and chunks of any length."""
    noise = rng.randbytes(rng.choice((0, 1, 11, 12, 13, 200, 1400)))
    if rng.random() < 0.3:
        return noise
    header = struct.pack("!HHII", rng.choice((SCTP_PORT, 1)), SCTP_PORT, rng.getrandbits(32), 0)
    kind = rng.choice((0, 1, 2, 3, 4, 6, 10, 11, 14, 15, 64, 130, 132, 192, 193, 255))
    chunk = struct.pack("!BBH", kind, rng.getrandbits(8), rng.choice((0, 3, 4, 20, 100, 65535)))
    packet = bytearray(header + chunk + noise)
    if rng.random() < 0.8:
        # With a right checksum it gets past the first door.
        packet[8:12] = struct.pack("<I", crc32c(bytes(packet)))
    return bytes(packet)


def crc32c(data: bytes) -> int:
    """RFC 9260 appendix A; slow, and independent of the library's own."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.mark.parametrize("source", ["delta", "charlie"])
def test_garbage_on_the_encapsulation_port_changes_nothing(trio: Fleet, source: str) -> None:
    """Anybody on a rail can send datagrams, from a strange address or from a member's own."""
    views = {host: trio[host].view() for host in trio.hosts}
    rng = random.Random(7)
    packets = [datagram(rng) for _ in range(DATAGRAMS)]
    trio.stream(RATE)
    trio.flow(RATE // 10)
    before = trio["alpha"].ask(Look())
    with trio.lab.socket(source) as sender:
        for number, packet in enumerate(packets):
            rail = "ab"[number % 2]
            sender.sendto(packet, (trio.lab.address(rail, "alpha"), PORT))
    trio.flow(RATE)
    after = trio["alpha"].ask(Look())
    trio.settle()
    assert {host: trio[host].view() for host in trio.hosts} == views
    assert after.descriptors == before.descriptors
    assert after.incarnation == before.incarnation
    assert after.rss_bytes - before.rss_bytes < 32 << 20
    counted, counted_before = after.stats["driver"], before.stats["driver"]
    for name in ("checksum_errors", "out_of_the_blue") if source == "delta" else ():
        assert counted[name] > counted_before[name], "what is thrown away is counted"


def test_garbage_on_the_lifeline_port_changes_nothing(trio: Fleet) -> None:
    """Connections that say nothing, nonsense or too much, from a stranger's and a member's host."""
    views = {host: trio[host].view() for host in trio.hosts}
    rng = random.Random(8)
    trio.stream(RATE)
    trio.flow(RATE // 10)
    before = trio["alpha"].ask(Look())
    with contextlib.ExitStack() as stack:
        for number in range(60):
            source = ("delta", "charlie")[number % 2]
            stranger = stack.enter_context(trio.lab.socket(source, kind=socket.SOCK_STREAM))
            stranger.settimeout(5)
            stranger.connect((trio.lab.address("ab"[number % 2], "alpha"), PORT))
            with contextlib.suppress(ConnectionError):
                # Every third one stays silent.
                if number % 3:
                    stranger.sendall(rng.randbytes(rng.choice((1, 8, 64, 5000))))
            if number % 4 == 0:
                stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        trio.flow(RATE // 2)
    trio.flow(RATE // 2)
    after = trio["alpha"].ask(Look())
    trio.settle()
    assert {host: trio[host].view() for host in trio.hosts} == views
    assert after.descriptors <= before.descriptors, "a closed connection is not kept"
