"""Frames as UDP datagrams: a socket for each rail, bound to this node's address there.

A second one, where a rail has a multicast group, is bound to that; all are sent from the first, so
that whatever comes is known by its sender's address.

It runs several thousand times a second, so that everything that can be is made in `open`. The
system calls are in `datagram_rails.py`, and in `plain_rails.py` for where there is no C.

The sockets are not connected. So no port-unreachable of one peer stops them (the kernel gives it
to nobody), and who sent a datagram is known by its address.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from ..._native import udp
from ..errors import UsageError
from .base import (
    ALL_PIECES,
    CAST_BYTES_MAX,
    GROUP,
    NUMBERS,
    SESSION_MAX,
    Datagram,
    Group,
    Incomplete,
    LocalEndpoint,
    PeerEndpoint,
)
from .datagram_rails import OWN, SO_RXQ_OVFL, Address, Ends, NativeWay, Rail, Traffic, Way
from .descriptors import family_of, hold, release
from .group_sockets import listen_to_group, send_to_group
from .plain_rails import PlainWay
from .sctp_wire import SO_RCVBUFFORCE, SO_SNDBUFFORCE

SOCKET_BUFFER_BYTES: Final = 4 << 20
"""Of each direction; without CAP_NET_ADMIN at most what net.core allows."""
_sched_yield: Final = os.sched_yield


class UdpDatagrams:
    """Datagrams over UDP; see `base.Datagrams` for the contract.

    After `fork` the child's copy refuses to work and holds none of the parent's descriptors.
    """

    def __init__(self, local: LocalEndpoint, peers: Mapping[int, PeerEndpoint]) -> None:
        self._local = local
        self._peers = dict(peers)
        self._known = frozenset(local.networks)
        self._rails: dict[str, Rail] = {}
        self._way: Way
        self._ready: select.epoll
        self._open = False
        self._closed_because = "they were not opened"
        self._traffic = Traffic()

    # ------------------------------------------------------------------ opening and closing

    @property
    def frame_bytes_max(self) -> int:
        """The largest frame that `cast` takes."""
        return CAST_BYTES_MAX

    @property
    def missing_rails(self) -> tuple[str, ...]:
        """Rails that could not be opened: nothing is cast or received there."""
        return tuple(rail for rail in self._local.networks if rail not in self._rails)

    @property
    def group_rails(self) -> tuple[str, ...]:
        """Rails with a multicast group that this node has joined."""
        return tuple(name for name, rail in self._rails.items() if rail.ends.group_sock is not None)

    def open(self) -> None:
        """Take the address of each rail; one that cannot be had is left out.

        Raises:
            UsageError: they are open already.
        """
        if self._open:
            raise UsageError("these datagrams are open already")
        self._open = True
        self._traffic = Traffic()
        self._way = _way(self._traffic)
        self._ready = select.epoll()
        for name, address in self._local.addresses.items():
            try:
                rail = self._open_rail(name, address)
            except OSError as error:
                self._traffic.count("rail", error.errno or 0)
                continue
            self._rails[name] = rail
            self._ready.register(rail.ends.sock, select.EPOLLIN)
            if rail.ends.group_sock is not None:
                self._ready.register(rail.ends.group_sock, select.EPOLLIN)
        hold(self)

    def _open_rail(self, name: str, address: str) -> Rail:
        port = self._local.datagram_port
        if not port:
            raise OSError(errno.EADDRNOTAVAIL, "this node has no port for datagrams")
        family = family_of(address)
        sock = _socket(family)
        try:
            sock.bind((address, port))
        except OSError:
            sock.close()
            raise
        addresses = {
            node: there
            for node, peer in self._peers.items()
            if (there := _address_on(name, peer)) is not None
        }
        addresses[OWN] = _as_the_kernel_spells_it(address, port)
        group = self._local.groups.get(name)
        group_sock = None if group is None else self._join(sock, address, group)
        if group is not None and group_sock is not None:
            addresses[GROUP] = _as_the_kernel_spells_it(group.address, group.port)
        return self._way.rail(Ends(name, sock, group_sock, addresses))

    def _join(self, sock: socket.socket, address: str, group: Group) -> socket.socket | None:
        """A socket for what comes to the group; None where there is no multicast."""
        listening: socket.socket | None = None
        try:
            listening = _socket(sock.family)
            send_to_group(sock, address, group)
            listen_to_group(listening, address, group)
        except OSError as error:
            self._traffic.count("group", error.errno or 0)
            if listening is not None:
                listening.close()
            return None
        return listening

    def learn(self, peer: PeerEndpoint) -> None:
        """Where a peer is from now on; what comes from where it was is a stranger's."""
        self._peers[peer.node] = peer
        for name, rail in self._rails.items():
            rail.learn(peer.node, _address_on(name, peer))

    def close(self) -> None:
        """Free everything; idempotent."""
        self._shut("they are closed")

    def forked(self) -> None:
        """This is a child process: the datagrams are for its parent."""
        self._shut("this process is a fork of the one that opened them")

    def _shut(self, because: str) -> None:
        if not self._open:
            return
        self._open = False
        self._closed_because = because
        for rail in self._rails.values():
            rail.ends.sock.close()
            if rail.ends.group_sock is not None:
                rail.ends.group_sock.close()
        self._ready.close()  # nothing is unregistered: a fork shares it with its parent
        self._rails.clear()
        release(self)

    def _check_open(self) -> None:
        if not self._open:
            raise UsageError(f"these datagrams cannot be used: {self._closed_because}")

    # ------------------------------------------------------------------------------- inputs

    def fileno(self) -> int:
        """One for all rails, readable while something lies on any of them.

        Heartbeats come on all rails at once, and are to wake this process once.
        """
        self._check_open()
        return self._ready.fileno()

    def poll(self, *, patient: bool = False) -> list[Datagram]:
        """What has come since the last call; see `base.Datagrams`."""
        if not self._open:
            self._check_open()
        if patient:
            _sched_yield()
        return self._way.read()

    # ----------------------------------------------------------------------------- commands

    def cast(self, nodes: Sequence[int], rail: str, frame: bytes) -> None:
        """Send one frame to several nodes on one rail, or lose it; see `base.Datagrams`."""
        found = self._rails.get(rail)
        if found is None or not 0 < len(frame) <= CAST_BYTES_MAX:
            self._check_cast(rail, len(frame))
            self._traffic.drops["rail_missing"] += len(nodes)
        else:
            found.cast(nodes, frame)

    def cast_numbered(
        self,
        nodes: Sequence[int],
        rail: str,
        frame: bytes,
        session: int,
        number: int,
        pieces: int = ALL_PIECES,
    ) -> None:
        """The same for pieces of a frame that has a number; see `base.Datagrams`."""
        found = self._rails.get(rail)
        if not (0 < session <= SESSION_MAX and 0 <= number < NUMBERS):
            raise UsageError(f"no session or number of a frame: {session}, {number}")
        if found is None or not 0 < len(frame) <= CAST_BYTES_MAX:
            self._check_cast(rail, len(frame))
            self._traffic.drops["rail_missing"] += len(nodes)
        else:
            found.cast_numbered(nodes, frame, session, number, pieces)

    def incomplete(self) -> list[Incomplete]:
        """Numbered frames of which something is missing; see `base.Datagrams`."""
        self._check_open()
        return self._way.incomplete()

    @property
    def overruns(self) -> int:
        """How many datagrams the kernel has had no room for, as far as it has said so."""
        return sum(rail.overruns for rail in self._rails.values())

    def _check_cast(self, rail: str, length: int) -> None:
        self._check_open()
        if rail not in self._known:
            known = ", ".join(self._local.networks)
            raise UsageError(f"there is no rail {rail!r}; known are {known}")
        if not 0 < length <= CAST_BYTES_MAX:
            raise UsageError(f"a frame that is cast has 1 to {CAST_BYTES_MAX} bytes, not {length}")

    # ------------------------------------------------------------------------------ queries

    def stats(self) -> dict[str, int]:
        """Counters since `open`: datagrams and bytes each way, drops by reason."""
        self._check_open()
        traffic = self._traffic
        return {
            "frames_sent": traffic.frames_sent,
            "bytes_sent": traffic.bytes_sent,
            "frames_received": traffic.frames_received,
            "bytes_received": traffic.bytes_received,
            **traffic.drops,
        }


def _way(traffic: Traffic) -> Way:
    """The one that is possible here."""
    native = udp.extension()
    return PlainWay(traffic) if native is None else NativeWay(native, traffic)


def _socket(family: socket.AddressFamily) -> socket.socket:
    """A socket that is not bound yet."""
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _enlarge(sock)
        sock.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
    except OSError:
        sock.close()
        raise
    return sock


def _enlarge(sock: socket.socket) -> None:
    """Room for a burst of all peers while this process does something else."""
    for forced, allowed in (
        (SO_SNDBUFFORCE, socket.SO_SNDBUF),
        (SO_RCVBUFFORCE, socket.SO_RCVBUF),
    ):
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, SOCKET_BUFFER_BYTES)
        except OSError:
            with suppress(OSError):  # smaller buffers lose more, and nothing else
                sock.setsockopt(socket.SOL_SOCKET, allowed, SOCKET_BUFFER_BYTES)


def _address_on(rail: str, peer: PeerEndpoint) -> Address | None:
    """Where a peer's datagrams come from and go to on a rail; None if that is nowhere."""
    there = peer.addresses.get(rail)
    if there is None or not peer.datagram_port:
        return None
    return _as_the_kernel_spells_it(there, peer.datagram_port)


def _as_the_kernel_spells_it(address: str, port: int) -> Address:
    """What `recvfrom` gives for a packet from there."""
    family = family_of(address)
    text = socket.inet_ntop(family, socket.inet_pton(family, address))
    return (text, port) if family == socket.AF_INET else (text, port, 0, 0)
