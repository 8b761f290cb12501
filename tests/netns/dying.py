"""Drivers of a process that is killed at a chosen frame: between two steps of the protocol."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection

from phalanx._native import codec
from phalanx.transport import wire
from phalanx.transport.config import ClusterConfig
from phalanx.transport.driver_factory import RealDrivers
from phalanx.transport.drivers.base import (
    Capabilities,
    Driver,
    Input,
    Link,
    LocalEndpoint,
    PathInfo,
    PeerEndpoint,
)


class DyingDrivers(RealDrivers):
    """Real drivers; what they send is looked at once `die_at` was called."""

    def __init__(self, config: ClusterConfig) -> None:
        super().__init__(frozenset(rail.name for rail in config.rails if rail.lifeline))
        self._cluster = codec.cluster_id(config.name)
        self._kinds: frozenset[str] = frozenset()

    def driver(self, config: ClusterConfig, local: LocalEndpoint) -> Driver:
        return _Watched(super().driver(config, local), self)

    def die_at(self, kinds: Collection[str]) -> None:
        """SIGKILL this process instead of sending the next control message of these kinds."""
        self._kinds = frozenset(kinds)

    def look(self, frame: bytes) -> None:
        """Before a frame is sent."""
        if not self._kinds:
            return
        header = codec.decode_frame(frame, self._cluster)
        if isinstance(header, codec.FrameError) or header.kind != wire.Kind.CONTROL:
            return
        message = wire.decode_control(memoryview(frame)[header.body_offset :])
        if type(message).__name__ in self._kinds:
            os.kill(os.getpid(), signal.SIGKILL)


class _Watched:
    """A driver whose frames are looked at before they are sent."""

    def __init__(self, driver: Driver, drivers: DyingDrivers) -> None:
        self._driver = driver
        self._drivers = drivers

    @property
    def capabilities(self) -> Capabilities:
        return self._driver.capabilities

    def open(self) -> None:
        self._driver.open()

    @property
    def missing_rails(self) -> tuple[str, ...]:
        return self._driver.missing_rails

    def fileno(self) -> int:
        return self._driver.fileno()

    def poll(self) -> list[Input]:
        return self._driver.poll()

    def connect(self, peer: PeerEndpoint) -> Link:
        return self._driver.connect(peer)

    def transmit(self, link: Link, stream: int, frame: bytes, *, rail: str | None = None) -> bool:
        self._drivers.look(frame)
        return self._driver.transmit(link, stream, frame, rail=rail)

    def set_primary(self, link: Link, rail: str) -> None:
        self._driver.set_primary(link, rail)

    def disconnect(self, link: Link, *, abort: bool) -> None:
        self._driver.disconnect(link, abort=abort)

    def paths(self, link: Link) -> list[PathInfo]:
        return self._driver.paths(link)

    def stats(self) -> dict[str, int]:
        return self._driver.stats()

    def close(self) -> None:
        self._driver.close()
