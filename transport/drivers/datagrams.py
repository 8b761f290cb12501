"""Small frames as UDP datagrams: one socket for each rail, bound to this node's address there.

It runs several thousand times a second, so that everything that can be is made in `open`: the
address of each node, and which node each address is. One system call carries one datagram: with
`sendmmsg` and `recvmmsg` in C a barrier among 4 or 8 nodes took as long as without (compiled, four
runs of each in turn), for what costs is the way through the kernel.

The sockets are not connected. So no port-unreachable of one peer stops them (the kernel gives it
to nobody), and the address of the sender is looked at here.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from ..errors import UsageError
from .base import (
    DATAGRAM_BYTES_MAX,
    DATAGRAMS_POLL_MAX,
    Datagram,
    LocalEndpoint,
    PeerEndpoint,
)
from .descriptors import family_of
from .sctp_wire import SO_RCVBUFFORCE, SO_SNDBUFFORCE

SOCKET_BUFFER_BYTES: Final = 1 << 20
"""Of each direction; without CAP_NET_ADMIN at most what net.core allows."""

_Address: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
"""As the kernel gives it: in its own spelling, and with flow and scope for IPv6."""


@dataclass(slots=True)
class _Rail:
    """One socket, and who is where on its rail."""

    name: str
    sock: socket.socket
    send: Callable[[bytes, Any], int] = field(init=False)
    receive: Callable[[int], tuple[bytes, Any]] = field(init=False)
    address_of: dict[int, _Address] = field(default_factory=dict[int, _Address])
    node_at: dict[_Address, int] = field(default_factory=dict[_Address, int])

    def __post_init__(self) -> None:
        self.send, self.receive = self.sock.sendto, self.sock.recvfrom


class UdpDatagrams:
    """Datagrams over UDP; see `base.Datagrams` for the contract.

    After `fork` the child's copy refuses to work and holds none of the parent's descriptors.
    """

    def __init__(self, local: LocalEndpoint, peers: Mapping[int, PeerEndpoint]) -> None:
        self._local = local
        self._peers = dict(peers)
        self._known = frozenset(local.networks)
        self._rails: dict[str, _Rail] = {}
        self._by_descriptor: dict[int, _Rail] = {}
        self._ready: select.epoll
        self._open = False
        self._closed_because = "they were not opened"
        self._frames_sent = self._bytes_sent = 0
        self._frames_received = self._bytes_received = 0
        self._drops: Counter[str] = Counter()

    # ------------------------------------------------------------------ opening and closing

    @property
    def frame_bytes_max(self) -> int:
        """The largest frame that `cast` takes."""
        return DATAGRAM_BYTES_MAX

    @property
    def missing_rails(self) -> tuple[str, ...]:
        """Rails that could not be opened: nothing is cast or received there."""
        return tuple(rail for rail in self._local.networks if rail not in self._rails)

    def open(self) -> None:
        """Take the address of each rail; one that cannot be had is left out.

        Raises:
            UsageError: they are open already.
        """
        if self._open:
            raise UsageError("these datagrams are open already")
        self._open = True
        self._frames_sent = self._bytes_sent = 0
        self._frames_received = self._bytes_received = 0
        self._drops.clear()
        self._ready = select.epoll()
        for name, address in self._local.addresses.items():
            try:
                rail = self._open_rail(name, address)
            except OSError as error:
                self._count("rail", error)
                continue
            self._rails[name] = self._by_descriptor[rail.sock.fileno()] = rail
            self._ready.register(rail.sock, select.EPOLLIN)
        _instances.add(self)

    def _open_rail(self, name: str, address: str) -> _Rail:
        port = self._local.datagram_port
        if not port:
            raise OSError(errno.EADDRNOTAVAIL, "this node has no port for datagrams")
        family = family_of(address)
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            _enlarge(sock)
            sock.bind((address, port))
        except OSError:
            sock.close()
            raise
        rail = _Rail(name, sock)
        for node, peer in self._peers.items():
            there = peer.addresses.get(name)
            if there is not None and peer.datagram_port:
                target = _as_the_kernel_spells_it(there, peer.datagram_port)
                rail.address_of[node] = target
                rail.node_at[target] = node
        return rail

    def close(self) -> None:
        """Free everything; idempotent."""
        self._shut("they are closed")

    def _forked(self) -> None:
        """This is a child process: the datagrams are for its parent."""
        self._shut("this process is a fork of the one that opened them")

    def _shut(self, because: str) -> None:
        if not self._open:
            return
        self._open = False
        self._closed_because = because
        for rail in self._rails.values():
            rail.sock.close()
        self._ready.close()  # nothing is unregistered: a fork shares it with its parent
        self._rails.clear()
        self._by_descriptor.clear()
        _instances.discard(self)

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
        taken: list[Datagram] = []
        # Most turns find nothing, and asking once is cheaper than a failed read on each rail.
        if not self._open:
            self._check_open()
        if patient:
            os.sched_yield()
        ready = self._ready.poll(0)
        # One of each at first: often that is all, and asking costs less than a read that fails.
        most = 1
        left = DATAGRAMS_POLL_MAX
        while ready:
            for place, (descriptor, _) in enumerate(ready):
                # A rail that is flooded leaves the others their share.
                share = min(most, left // (len(ready) - place))
                left -= self._read(self._by_descriptor[descriptor], share, taken)
            if most > 1 or not left:
                break
            most = left
            ready = self._ready.poll(0)
        self._frames_received += len(taken)
        return taken

    def _read(self, rail: _Rail, most: int, taken: list[Datagram]) -> int:
        """Read one socket until it is empty; how many times something was there."""
        receive, node_at, name = rail.receive, rail.node_at.get, rail.name
        append, size, count = taken.append, 0, 0
        while count < most:
            try:
                # One byte more, by which a frame that is too long is known.
                frame, source = receive(DATAGRAM_BYTES_MAX + 1)
            except BlockingIOError:
                break
            except OSError as error:
                count += 1
                self._count("receive", error)
                continue
            count += 1
            node = node_at(source)
            if node is None:
                self._drops["strangers"] += 1
            elif 0 < len(frame) <= DATAGRAM_BYTES_MAX:
                append(Datagram(node, name, frame))
                size += len(frame)
            else:
                self._drops["sizes_received"] += 1
        self._bytes_received += size
        return count

    # ----------------------------------------------------------------------------- commands

    def cast(self, nodes: Sequence[int], rail: str, frame: bytes) -> None:
        """Send one frame to several nodes on one rail, or lose it; see `base.Datagrams`."""
        found = self._rails.get(rail)
        length = len(frame)
        if found is None or not 0 < length <= DATAGRAM_BYTES_MAX:
            self._check_cast(rail, length)
            self._drops["rail_missing"] += len(nodes)
            return
        send, address_of, sent = found.send, found.address_of, 0
        for node in nodes:
            try:
                send(frame, address_of[node])
                sent += 1
            except KeyError:
                self._drops["without_address"] += 1
            except OSError as error:
                self._count("send", error)
        self._frames_sent += sent
        self._bytes_sent += sent * length

    def _check_cast(self, rail: str, length: int) -> None:
        self._check_open()
        if rail not in self._known:
            known = ", ".join(self._local.networks)
            raise UsageError(f"there is no rail {rail!r}; known are {known}")
        if not 0 < length <= DATAGRAM_BYTES_MAX:
            raise UsageError(f"a datagram has 1 to {DATAGRAM_BYTES_MAX} bytes, not {length}")

    # ------------------------------------------------------------------------------ queries

    def _count(self, what: str, error: OSError) -> None:
        number = error.errno or 0
        self._drops[f"{what}_{errno.errorcode.get(number, str(number)).lower()}"] += 1

    def stats(self) -> dict[str, int]:
        """Counters since `open`: datagrams and bytes each way, drops by reason."""
        self._check_open()
        return {
            "frames_sent": self._frames_sent,
            "bytes_sent": self._bytes_sent,
            "frames_received": self._frames_received,
            "bytes_received": self._bytes_received,
            **self._drops,
        }


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


def _as_the_kernel_spells_it(address: str, port: int) -> _Address:
    """What `recvfrom` gives for a packet from there."""
    family = family_of(address)
    text = socket.inet_ntop(family, socket.inet_pton(family, address))
    return (text, port) if family == socket.AF_INET else (text, port, 0, 0)


_instances: set[UdpDatagrams] = set()
"""All that are open in this process."""


def _after_fork_in_child() -> None:
    for datagrams in list(_instances):
        datagrams._forked()  # pyright: ignore[reportPrivateUsage] - `fork` calls functions only


os.register_at_fork(after_in_child=_after_fork_in_child)
