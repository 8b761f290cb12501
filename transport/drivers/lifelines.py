"""Lifelines: TCP connections that carry nothing and whose orderly end proves a death.

PROTOCOL 3, "Proof of death": when a process dies, however it dies, its kernel sends a FIN on
each of its TCP connections. One connection per peer and rail, on the number of the UDP port,
carries one preamble each way and then nothing for ever. An end of file on it therefore says
"this incarnation acts no more", at once and without a time-out. All the rest, resets, time-outs,
unreachable hosts, is suspicion at most.

For that to hold, a FIN must never be sent by a process that goes on acting:

* Every close of ours but `farewell` is a reset (SO_LINGER with time 0, set just before).
* Descriptors are plain integers: no garbage collection and no end of an event loop closes them.
* They are closed on exec, and a forked child closes its duplicates at once. (A duplicate's close
  sends nothing while the parent lives, and one kept would hold the connection open after the
  parent's death.) A fork that bypasses `os.fork` is outside of what can be seen from here.

And an end of file must never be read where there was none. A connection's pending error is
reported once, by whichever call comes first; the next read then gives an end of file. So after
any failed call on a connection, it is never read again.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import ipaddress
import os
import select
import socket
from collections import Counter
from dataclasses import dataclass
from typing import TypeAlias

from ..config import NODES_MAX, PORT_MAX, RAILS_MAX
from ..errors import EnvironmentTrouble, UsageError, trouble
from . import preamble as preamble_wire
from .base import LocalEndpoint
from .descriptors import (
    borrow,
    close,
    family_of,
    finish,
    hold,
    keep_alive,
    own,
    release,
    reset,
    send,
    stream_socket,
)
from .listeners import Listeners
from .preamble import PREAMBLE_BYTES, Preamble

HALF_OPEN_MAX = 64
"""Accepted connections without a preamble; past it the oldest is reset."""
PREAMBLE_TIMEOUT_NS = 2_000_000_000
"""From the first `expire` that sees a connection until its preamble has to be there."""
_UP_MAX = NODES_MAX * RAILS_MAX
_EVENTS_MAX = 64

_IP_BIND_ADDRESS_NO_PORT = 24
"""From linux/in.h; CPython has no name for it before 3.12."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LifelineUp:
    """Both ends know each other: from now on this connection can prove a death."""

    peer: int
    rail: str
    incarnation: int
    nonce: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LifelineEnded:
    """A lifeline that was up is gone.

    With `fin`, the peer's kernel ended it in good order: that incarnation is dead, or has said
    farewell. Without, it proves nothing.
    """

    peer: int
    rail: str
    incarnation: int
    nonce: int
    fin: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LifelineFailed:
    """A `connect` did not lead to a lifeline; try again later."""

    peer: int
    rail: str


LifelineNotice: TypeAlias = LifelineUp | LifelineEnded | LifelineFailed


class _State(enum.Enum):
    CONNECTING = enum.auto()  # our SYN is under way
    AWAITING = enum.auto()  # connected; the peer's preamble is not here yet
    UP = enum.auto()


@dataclass(slots=True, kw_only=True)
class _Connection:
    descriptor: int
    rail: str
    state: _State
    peer: int = 0
    """0 while an accepted connection has not said who it is."""
    dialled: bool = False
    received: bytes = b""
    incarnation: int = 0
    nonce: int = 0
    deadline_ns: int | None = None


class Lifelines:
    """All lifelines of one node; the pump works it like a driver (`base.Driver`).

    Watch `fileno()`, call `poll()` when it is readable, and `expire(now_ns)` after that and when
    it asked for. Of two nodes the lower id connects. All calls return at once and come from one
    thread. Dropping the object without `close` leaves its connections open until the process
    ends, on purpose.
    """

    def __init__(self, local: LocalEndpoint, *, cluster: int, incarnation: int, nonce: int) -> None:
        self._local = local
        self._preamble = Preamble(
            cluster=cluster, node=local.node, incarnation=incarnation, nonce=nonce
        )
        self._packed = preamble_wire.pack(self._preamble)
        self._process = os.getpid()
        self._epoll: select.epoll | None = None
        self._listeners: Listeners
        self._wakeup = -1
        self._said_farewell = False
        self._missing: tuple[str, ...] = ()
        self._connections: dict[int, _Connection] = {}
        """By descriptor, oldest first."""
        self._up: dict[tuple[int, str], _Connection] = {}
        self._dials: dict[tuple[int, str], _Connection] = {}
        self._parted: list[int] = []
        self._notices: list[LifelineNotice] = []
        self._counters: Counter[str] = Counter()

    # --------------------------------------------------------------------- the driver's face

    def open(self) -> None:
        """Listen on every address of the local endpoint that exists now.

        Raises:
            PortTaken: another process listens there.
            AddressMissing: none of the addresses exists here.
            EnvironmentTrouble: the system refuses otherwise.
        """
        if self._epoll is not None:
            raise UsageError("lifelines are opened once")
        try:
            with trouble("lifelines cannot be opened"):
                self._epoll = select.epoll()
                self._listeners = Listeners(self._epoll, self._counters)
                self._wakeup = own(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
                hold(self)
                self._epoll.register(self._wakeup, select.EPOLLIN)
                self._missing = self._listeners.open(self._local.addresses, self._local.udp_port)
        except EnvironmentTrouble:
            self.close()
            raise

    @property
    def missing_rails(self) -> tuple[str, ...]:
        """Rails whose local address did not exist when the lifelines were opened."""
        return self._missing

    def fileno(self) -> int:
        """A descriptor that is readable while `poll` has something to do."""
        return self._watch().fileno()

    def poll(self) -> list[LifelineNotice]:
        """What has happened since the last call; bounded in number, never raises for a peer."""
        events = self._watch().poll(0, _EVENTS_MAX)
        readable: list[int] = []
        for descriptor, mask in events:
            if descriptor == self._wakeup:
                os.eventfd_read(self._wakeup)
            elif descriptor in self._listeners:
                readable.append(descriptor)
            elif descriptor in self._connections:
                self._ready(self._connections[descriptor], mask)
        # Last, so that a new connection cannot be taken for one of the same number whose event
        # is still in the list.
        for listener in readable:
            for descriptor in self._listeners.accept(listener):
                self._welcome(descriptor, self._listeners.rail(listener))
        notices, self._notices = self._notices, []
        return notices

    def connect(self, peer: int, rail: str, address: str, port: int) -> None:
        """Begin a lifeline to a peer of a higher id; ends in `LifelineUp` or `LifelineFailed`.

        An attempt or a lifeline on the same rail that is still there is reset first; a replaced
        attempt is not reported.
        """
        self._watch()
        if self._said_farewell:
            raise UsageError("nothing can be connected after the farewell")
        if peer <= self._local.node:
            raise UsageError(f"the lower id connects: {self._local.node} does not to {peer}")
        if not 0 < port <= PORT_MAX:
            raise UsageError(f"a port is a number from 1 to {PORT_MAX}, not {port}")
        try:
            ipaddress.ip_address(address)  # a name would block in a resolver
        except ValueError as error:
            raise UsageError(f"{address!r} is no address") from error
        self._replace(self._dials.get((peer, rail)))
        self._replace(self._up.get((peer, rail)))
        try:
            descriptor = self._dial(rail, address, port)
        except OSError:
            self._counters["connect_failed"] += 1
            self._notify(LifelineFailed(peer=peer, rail=rail))
            return
        connection = _Connection(
            descriptor=descriptor, rail=rail, state=_State.CONNECTING, peer=peer, dialled=True
        )
        self._dials[peer, rail] = connection
        self._adopt(connection, select.EPOLLOUT)

    def drop(self, peer: int, rail: str) -> None:
        """Reset what there is to a peer on a rail, without a notice: suspicion, never proof."""
        self._watch()
        for table in (self._dials, self._up):
            connection = table.get((peer, rail))
            if connection is not None:
                self._reset(connection)

    def expire(self, now_ns: int) -> int | None:
        """Reset the connections whose preamble is overdue.

        Returns:
            When this wants to be called again, in monotonic nanoseconds; None if no connection
            is waited for.
        """
        self._watch()
        waiting = [c for c in self._connections.values() if c.state is not _State.UP]
        for connection in waiting:
            if connection.deadline_ns is None:
                connection.deadline_ns = now_ns + PREAMBLE_TIMEOUT_NS
            elif connection.deadline_ns <= now_ns:
                self._fail(connection, "preamble_overdue")
        self._listeners.resume()
        left = [c for c in waiting if c.descriptor in self._connections]
        return min((c.deadline_ns for c in left if c.deadline_ns is not None), default=None)

    def farewell(self) -> None:
        """Tell every peer that this incarnation acts no more, by a FIN on each lifeline.

        Only to be called by a node that has stepped down. Nothing is accepted or reported after
        it; the connections stay until `close` or the end of the process.
        """
        self._watch()
        self._said_farewell = True
        self._listeners.close()
        for connection in list(self._connections.values()):
            if connection.state is not _State.UP:
                self._reset(connection)
                continue
            self._unwatch(connection.descriptor)
            finish(connection.descriptor)
            self._parted.append(connection.descriptor)
        self._connections.clear()
        self._up.clear()
        self._counters["farewells"] += len(self._parted)

    def stats(self) -> dict[str, int]:
        """Counters since `open`, by what happened."""
        return dict(self._counters)

    def close(self) -> None:
        """Reset every lifeline that has not had its farewell; free everything; idempotent."""
        if self._epoll is None:
            return
        self._listeners.close()
        for connection in list(self._connections.values()):
            self._reset(connection)
        for descriptor in self._parted:
            # A reset could overtake the FIN, so that this is a plain close.
            close(descriptor)
        self._parted.clear()
        self._notices.clear()
        self._epoll.close()
        self._epoll = None
        close(self._wakeup)
        release(self)

    def forked(self) -> None:
        """In a forked child, whose descriptors are closed already: be unusable."""
        if self._epoll is not None:
            # This process's duplicate; the instance that it stands for is the parent's.
            self._epoll.close()
        self._epoll = None

    # -------------------------------------------------------------------------- connections

    def _watch(self) -> select.epoll:
        if self._epoll is None:
            forked = self._process != os.getpid()
            raise UsageError(
                "lifelines belong to the process that opened them, not to a forked child"
                if forked
                else "lifelines are used between open() and close()"
            )
        return self._epoll

    def _unwatch(self, descriptor: int) -> None:
        with contextlib.suppress(OSError):
            self._watch().unregister(descriptor)

    def _welcome(self, descriptor: int, rail: str) -> None:
        """An accepted connection: it has until its deadline to say who it is."""
        self._counters["accepted"] += 1
        half_open = [c for c in self._connections.values() if not (c.dialled or c.peer)]
        if len(half_open) >= HALF_OPEN_MAX:
            self._fail(half_open[0], "half_open_dropped")
        connection = _Connection(descriptor=descriptor, rail=rail, state=_State.AWAITING)
        self._adopt(connection, select.EPOLLIN)

    def _dial(self, rail: str, address: str, port: int) -> int:
        if rail not in self._local.addresses:
            raise OSError(errno.EADDRNOTAVAIL, f"no local address on rail {rail}")
        local = self._local.addresses[rail]
        descriptor = stream_socket(family_of(local))
        try:
            keep_alive(descriptor)
            with borrow(descriptor) as sock:
                # From the rail's own address, else routing may take it over another rail.
                sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
                sock.bind((local, 0))
                failure = sock.connect_ex((address, port))
            if failure not in (0, errno.EINPROGRESS):
                raise OSError(failure, os.strerror(failure))
        except OSError:
            close(descriptor)
            raise
        return descriptor

    def _adopt(self, connection: _Connection, mask: int) -> None:
        self._connections[connection.descriptor] = connection
        self._watch().register(connection.descriptor, mask)

    def _ready(self, connection: _Connection, mask: int) -> None:
        if connection.state is _State.CONNECTING:
            self._connected(connection)
        elif mask & ~select.EPOLLOUT:
            self._readable(connection)

    def _connected(self, connection: _Connection) -> None:
        with borrow(connection.descriptor) as sock:
            failure = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failure or not self._introduce(connection):
            self._fail(connection, "connect_failed")
            return
        connection.state = _State.AWAITING
        self._watch().modify(connection.descriptor, select.EPOLLIN)

    def _introduce(self, connection: _Connection) -> bool:
        """Send our preamble; False if the connection is broken (and must not be read again)."""
        # A fresh connection takes these few bytes whole, or is broken.
        return send(connection.descriptor, self._packed)

    def _readable(self, connection: _Connection) -> None:
        try:
            wanted = PREAMBLE_BYTES - len(connection.received)
            data = os.read(connection.descriptor, max(wanted, 1))
        except BlockingIOError:
            return
        except OSError:
            if connection.state is _State.UP:
                self._end(connection, fin=False)
            else:
                self._fail(connection, "reset_without_preamble")
            return
        if connection.state is _State.UP:
            if data:
                self._counters["unexpected_bytes"] += 1
            self._end(connection, fin=not data)
        elif not data:
            self._fail(connection, "ended_without_preamble")
        else:
            connection.received += data
            if len(connection.received) == PREAMBLE_BYTES:
                self._introduced(connection, preamble_wire.unpack(connection.received))

    def _introduced(self, connection: _Connection, preamble: Preamble | None) -> None:
        """The peer has said who it is: refuse it, or have a lifeline."""
        if preamble is None:
            self._fail(connection, "bad_preamble")
            return
        if preamble.cluster != self._preamble.cluster:
            self._fail(connection, "other_cluster")
            return
        expected = (
            preamble.node == connection.peer
            if connection.dialled
            else 0 < preamble.node < self._local.node
        )
        if not expected:
            self._fail(connection, "wrong_peer")
            return
        older = self._up.get((preamble.node, connection.rail))
        if older is not None and older.incarnation > preamble.incarnation:
            self._fail(connection, "stale_incarnation")
            return
        if older is None and len(self._up) >= _UP_MAX:
            self._fail(connection, "too_many")
            return
        # The side that accepts answers only now: strangers learn nothing about this node.
        if not connection.dialled and not self._introduce(connection):
            self._fail(connection, "reset_without_preamble")
            return
        self._replace(older)
        self._dials.pop((preamble.node, connection.rail), None)
        connection.state = _State.UP
        connection.peer = preamble.node
        connection.incarnation = preamble.incarnation
        connection.nonce = preamble.nonce
        self._up[connection.peer, connection.rail] = connection
        self._counters["up"] += 1
        self._notify(
            LifelineUp(
                peer=connection.peer,
                rail=connection.rail,
                incarnation=connection.incarnation,
                nonce=connection.nonce,
            )
        )

    def _replace(self, older: _Connection | None) -> None:
        """Make room for a newer connection to the same peer on the same rail."""
        if older is None:
            return
        self._counters["replaced"] += 1
        if older.state is not _State.UP:
            self._reset(older)
            return
        # A process that died and restarted may be back before its end of file was read here.
        self._readable(older)
        if older.descriptor in self._connections:
            self._end(older, fin=False)

    def _end(self, connection: _Connection, *, fin: bool) -> None:
        self._reset(connection)
        self._counters["ended_fin" if fin else "ended_other"] += 1
        self._notify(
            LifelineEnded(
                peer=connection.peer,
                rail=connection.rail,
                incarnation=connection.incarnation,
                nonce=connection.nonce,
                fin=fin,
            )
        )

    def _fail(self, connection: _Connection, reason: str) -> None:
        self._reset(connection)
        self._counters[reason] += 1
        if connection.dialled:
            self._notify(LifelineFailed(peer=connection.peer, rail=connection.rail))

    def _reset(self, connection: _Connection) -> None:
        del self._connections[connection.descriptor]
        # By hand: a duplicate in a child just forked would keep the entry after the close.
        self._unwatch(connection.descriptor)
        key = (connection.peer, connection.rail)
        for table in (self._dials, self._up):
            if table.get(key) is connection:
                del table[key]
        reset(connection.descriptor)

    def _notify(self, notice: LifelineNotice) -> None:
        self._notices.append(notice)
        # Readable even if nothing happens on a socket: commands leave notices too.
        os.eventfd_write(self._wakeup, 1)
