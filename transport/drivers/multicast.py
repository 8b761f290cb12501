"""No SCTP: everything goes as datagrams, to one node or to a rail's multicast group.

What a driver has to offer, associations, the core then makes of datagrams itself
(`core/udp_links.py`), so that nothing is left to do here. It is a driver all the same, for whoever
asks for one by its name: it opens nothing, and whoever dials is told that nobody is there.
"""

from __future__ import annotations

import itertools
import os
from collections import deque

from ..config import MULTICAST
from .base import (
    CAST_BYTES_MAX,
    Capabilities,
    Input,
    Link,
    LinkLost,
    LossReason,
    PathInfo,
    PeerEndpoint,
)


class Multicast:
    """A driver without associations (see `base.Driver`)."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._inputs: deque[Input] = deque()
        self._event = -1

    @property
    def capabilities(self) -> Capabilities:
        """It carries nothing by itself."""
        return Capabilities(
            name=MULTICAST,
            frame_bytes_max=max(CAST_BYTES_MAX, 65_536),
            reliable=False,
            rail_choice=True,
            multicast=True,
        )

    @property
    def missing_rails(self) -> tuple[str, ...]:
        """None: it needs no address."""
        return ()

    def open(self) -> None:
        """Begin."""
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Readable while `poll` has something to give."""
        return self._event

    def poll(self) -> list[Input]:
        """That those who were dialled are not there."""
        taken = list(self._inputs)
        self._inputs.clear()
        if taken:
            os.eventfd_read(self._event)
        return taken

    def connect(self, peer: PeerEndpoint) -> Link:
        """Nobody is reached so."""
        del peer
        link = next(self._numbers)
        self._inputs.append(
            LinkLost(link=link, reason=LossReason.UNREACHABLE, detail="there is no SCTP here")
        )
        os.eventfd_write(self._event, 1)
        return link

    def transmit(self, link: Link, stream: int, frame: bytes, *, rail: str | None = None) -> bool:
        """No link takes a frame, for there is none."""
        del link, stream, frame, rail
        return True

    def set_primary(self, link: Link, rail: str) -> None:
        """There is no link."""

    def disconnect(self, link: Link, *, abort: bool) -> None:
        """There is no link."""

    def paths(self, link: Link) -> list[PathInfo]:
        """There is no link."""
        del link
        return []

    def stats(self) -> dict[str, int]:
        """Nothing is carried here."""
        return {}

    def close(self) -> None:
        """Free the descriptor; idempotent."""
        if self._event >= 0:
            os.close(self._event)
            self._event = -1
