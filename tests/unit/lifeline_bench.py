"""Lifelines over real loopback sockets, pumped until something has come of them."""

from __future__ import annotations

import ipaddress
import select
import socket
import time
from collections.abc import Callable

from phalanx.transport.drivers.base import LocalEndpoint
from phalanx.transport.drivers.lifelines import (
    LifelineEnded,
    LifelineNotice,
    Lifelines,
    LifelineUp,
)

DEADLINE_S = 20.0
CLUSTER = 0x1122334455667788
HOST = "127.0.0.1"

Make = Callable[..., Lifelines]


def free_port() -> int:
    with socket.create_server((HOST, 0)) as sock:
        return int(sock.getsockname()[1])


def endpoint(node: int, port: int, **addresses: str) -> LocalEndpoint:
    return LocalEndpoint(
        node=node,
        addresses=addresses or {"a": HOST},
        networks={"a": ipaddress.ip_network("127.0.0.0/8")},
        port=1,
        udp_port=port,
    )


def run(*pumped: Lifelines, until: Callable[[list[LifelineNotice]], bool]) -> list[LifelineNotice]:
    """Pump until the notices of the *first* satisfy the condition; returns those."""
    notices: list[LifelineNotice] = []
    end = time.monotonic() + DEADLINE_S
    while not until(notices):
        left = end - time.monotonic()
        assert left > 0, f"it did not come to that; notices were {notices}"
        readable, _, _ = select.select(pumped, [], [], left)
        for lifelines in readable:
            found = lifelines.poll()
            if lifelines is pumped[0]:
                notices += found
    return notices


def quiet(lifelines: Lifelines, seconds: float = 0.2) -> bool:
    """Nothing is reported for that long."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if select.select([lifelines], [], [], left)[0] and lifelines.poll():
            return False
    return True


def count(kind: type[LifelineNotice], wanted: int = 1) -> Callable[[list[LifelineNotice]], bool]:
    return lambda notices: sum(isinstance(notice, kind) for notice in notices) >= wanted


def counted(
    lifelines: Lifelines, name: str, wanted: int = 1
) -> Callable[[list[LifelineNotice]], bool]:
    return lambda _notices: lifelines.stats().get(name, 0) >= wanted


def port_of(lifelines: Lifelines) -> int:
    return lifelines._local.udp_port  # pyright: ignore[reportPrivateUsage] - `make` has drawn it


def join(low: Lifelines, high: Lifelines) -> None:
    """Make a lifeline on rail a to node 2, known at both ends."""
    low.connect(2, "a", HOST, port_of(high))
    run(high, low, until=count(LifelineUp))
    run(low, high, until=counted(low, "up"))


def up(peer: int, *, rail: str = "a", incarnation: int = 1) -> LifelineUp:
    return LifelineUp(peer=peer, rail=rail, incarnation=incarnation, nonce=peer * 100)


def ended(peer: int, *, fin: bool, rail: str = "a", incarnation: int = 1) -> LifelineEnded:
    return LifelineEnded(peer=peer, rail=rail, incarnation=incarnation, nonce=peer * 100, fin=fin)
