"""Helpers of the lab's own tests."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable

import pytest

from phalanx.transport.testing.lab import Lab

Arrived = Callable[..., int]


def _count(
    built: Lab,
    rail: str,
    source: str,
    target: str,
    *,
    packets: int = 20,
    ipv6: bool = False,
) -> int:
    """How many of `packets` datagrams from one host arrive at another.

    Stops waiting when all have come, or 0.2 s after the last: a packet crosses a veth in
    microseconds, so what has not come by then was dropped.
    """
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    with built.socket(target, family) as receiver, built.socket(source, family) as sender:
        receiver.bind((built.address(rail, target, ipv6=ipv6), 0))
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        for number in range(packets):
            # An error here would mean that the sender was told of a silent drop.
            sender.sendto(number.to_bytes(4), receiver.getsockname())
        seen: set[bytes] = set()
        deadline = time.monotonic() + 5
        while len(seen) < packets and time.monotonic() < deadline:
            if not select.select([receiver], [], [], 0.2)[0]:
                break
            seen.add(receiver.recv(16))
        return len(seen)


@pytest.fixture
def arrived() -> Arrived:
    """`arrived(lab, rail, source, target)`: datagrams of 20 that get from host to host."""
    return _count
