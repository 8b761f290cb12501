"""Beacons on the wire: for each rail a socket that sends them, and one that hears the others'.

A beacon is sent from this node's address on the rail, so that whoever hears it knows that. It
happens about once in a second, so that Python's sockets are good enough.
"""

from __future__ import annotations

import errno
import select
import socket
from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

from ..errors import DriverUnavailable, UsageError
from .base import Group
from .descriptors import family_of, hold, release
from .group_sockets import listen_to_group, send_to_group

POLL_MAX: Final = 64
"""Most of one `poll`: a flood keeps nothing else waiting."""
_FRAME_BYTES_MAX: Final = 1500


class _Rail(NamedTuple):
    sending: socket.socket
    hearing: socket.socket
    group: Group


class Heard(NamedTuple):
    """A frame that came to a rail's group."""

    rail: str
    source: str
    """The address of its sender, as the kernel spells it."""
    frame: bytes


class BeaconSockets:
    """Opened once, for all incarnations of a node."""

    def __init__(self, addresses: Mapping[str, str], groups: Mapping[str, Group]) -> None:
        """Both by rail: this node's addresses, and the groups that beacons go to."""
        self._addresses = addresses
        self._groups = groups
        self._rails: dict[str, _Rail] = {}
        self._ready: select.epoll | None = None
        self._counters: Counter[str] = Counter()

    def open(self) -> None:
        """Join the group of each rail; one where that cannot be done is left out.

        Raises:
            DriverUnavailable: it can be done on none of them.
            UsageError: they are open already.
        """
        if self._ready is not None:
            raise UsageError("these sockets are open already")
        self._ready = select.epoll()
        hold(self)
        problems: list[str] = []
        for name, group in self._groups.items():
            try:
                rail = _open(self._addresses[name], group)
            except OSError as error:
                self._count("rail", error)
                problems.append(f"{error.strerror} (rail {name})")
                continue
            self._rails[name] = rail
            self._ready.register(rail.hearing, select.EPOLLIN)
        if not self._rails:
            self.close()
            raise DriverUnavailable(
                "discovery.multicast is true, and no rail has multicast here: "
                f"{', '.join(problems) or 'there is none'}; let multicast through, or give every "
                "node its addresses and write discovery.multicast = false"
            )

    def fileno(self) -> int:
        """Readable while `poll` has something to give."""
        if self._ready is None:
            raise UsageError("these sockets are not open")
        return self._ready.fileno()

    def poll(self) -> list[Heard]:
        """What has come since the last call, but not too much."""
        heard: list[Heard] = []
        most = POLL_MAX // max(1, len(self._rails))
        for name, rail in self._rails.items():
            for _ in range(most):
                try:
                    frame, source = rail.hearing.recvfrom(_FRAME_BYTES_MAX + 1)
                except BlockingIOError:
                    break
                except OSError as error:
                    self._count("receive", error)
                    break
                heard.append(Heard(name, source[0], frame))
        return heard

    def send(self, frame: bytes) -> None:
        """To all groups; where that fails it is counted, and done again with the next one."""
        for rail in self._rails.values():
            try:
                rail.sending.sendto(frame, (rail.group.address, rail.group.port))
            except OSError as error:
                self._count("send", error)

    def _count(self, what: str, error: OSError) -> None:
        number = error.errno or 0
        self._counters[f"{what}_{errno.errorcode.get(number, str(number)).lower()}"] += 1

    def stats(self) -> dict[str, int]:
        """What the kernel has refused, since `open`."""
        return dict(self._counters)

    def forked(self) -> None:
        """This is a child process: nothing is heard or said there."""
        self.close()

    def close(self) -> None:
        """Free everything; idempotent."""
        release(self)
        for rail in self._rails.values():
            rail.sending.close()
            rail.hearing.close()
        self._rails.clear()
        if self._ready is not None:
            self._ready.close()
            self._ready = None


def _open(address: str, group: Group) -> _Rail:
    family = family_of(address)
    sending = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    hearing: socket.socket | None = None
    try:
        sending.bind((address, 0))
        send_to_group(sending, address, group)
        hearing = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        listen_to_group(hearing, address, group)
    except OSError:
        sending.close()
        if hearing is not None:
            hearing.close()
        raise
    return _Rail(sending, hearing, group)
