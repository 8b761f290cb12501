"""Where the other nodes are: from the cluster file, and by multicast where that is wanted."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable
from typing import Final

from .config import ClusterConfig, NodeConfig
from .core.beacons import Beacons
from .drivers.base import LocalEndpoint, PeerEndpoint
from .drivers.beacon_sockets import BeaconSockets
from .events import PeerRefused

_NS: Final = 1e-9


def configured_peers(config: ClusterConfig, node: NodeConfig) -> dict[int, PeerEndpoint]:
    """The other nodes, as the file describes them."""
    return {
        other.id: PeerEndpoint(
            node=other.id,
            addresses=other.addresses,
            port=other.port,
            udp_port=other.udp_port,
            datagram_port=other.datagram_port,
        )
        for other in config.nodes
        if other.id != node.id
    }


class Discovery:
    """Turns `Beacons` under asyncio; belongs to one event loop, and to all incarnations."""

    def __init__(
        self,
        config: ClusterConfig,
        node: NodeConfig,
        local: LocalEndpoint,
        *,
        clock: Callable[[], int],
        found: Callable[[PeerEndpoint], None],
        refused: Callable[[PeerRefused], None],
    ) -> None:
        """`found` is told where a node is, `refused` who is not taken for one."""
        self._beacons = Beacons(
            config=config,
            node=node,
            addresses={rail: local.addresses[rail] for rail in local.beacons},
            nonce=secrets.randbits(62),
            jitter=random.random,
            now_ns=clock(),
        )
        self._sockets = BeaconSockets(local.addresses, local.beacons)
        self._clock = clock
        self._found = found
        self._refused = refused
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Join the groups, and send the first beacon.

        Raises:
            DriverUnavailable: no rail has multicast.
        """
        self._sockets.open()
        self._loop.add_reader(self._sockets.fileno(), self._readable)
        self._send()

    def _readable(self) -> None:
        beacons, now_ns = self._beacons, self._clock()
        for rail, source, frame in self._sockets.poll():
            beacons.hear(rail, source, frame, now_ns)
        found, beacons.found = beacons.found, []
        refused, beacons.refused = beacons.refused, []
        for peer in found:
            self._found(peer)
        for event in refused:
            self._refused(event)
        if found:
            self._sleep()

    def _send(self) -> None:
        frame = self._beacons.due(self._clock())
        if frame is not None:
            self._sockets.send(frame)
        self._sleep()

    def _sleep(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        wait_ns = max(0, self._beacons.next_ns - self._clock())
        self._timer = self._loop.call_later(wait_ns * _NS, self._send)

    @property
    def silent(self) -> tuple[int, ...]:
        """Nodes of which no address is known."""
        return self._beacons.silent

    def stats(self) -> dict[str, int]:
        """Beacons sent, heard and refused, and what the kernel has refused."""
        return {**self._beacons.counters, **self._sockets.stats()}

    def close(self) -> None:
        """Be silent; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._loop.remove_reader(self._sockets.fileno())
        self._sockets.close()
