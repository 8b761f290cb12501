"""The rails of `UdpDatagrams`: their sockets, who is where on them, and the system calls.

One call into C reads what has come on all rails, and one sends a frame to any number of peers; a
large frame is one datagram of the kernel. Where the extension was not built, `plain_rails.py` does
the same with Python's sockets.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from .base import (
    CAST_BYTES_MAX,
    DATAGRAM_BYTES_MAX,
    DATAGRAMS_POLL_BYTES,
    DATAGRAMS_POLL_MAX,
    GROUP,
    Datagram,
    Incomplete,
)
from .pieces import PUZZLES_MAX

SLOTS: Final = 32
"""Datagrams that are received with one call into C, on all rails together."""
DROPS: Final = (
    "",
    "strangers",
    "sizes_received",
    "pieces_malformed",
    "pieces_displaced",
    "own_received",
)
"""By the number that C gives them, counted from below zero."""
OWN: Final = -2
"""In place of a node: this one. What it has sent comes back from a group on the same machine."""
FIELDS: Final = 6
"""What C says of each thing that has arrived."""
TOLD: Final = 3
"""What C says of each socket that was read."""
MORE: Final = 0x10000
"""C has set this bit: there may be more on some socket, or something is to be told of it."""
INCOMPLETE_FIELDS: Final = 4
GROUPS_MAX: Final = 256
"""Sets of receivers that are remembered."""

UDP_GRO: Final = 104
"""The kernel may give several packets as one (Linux 5.0); Python has no name for it."""
SO_RXQ_OVFL: Final = 40
"""It says with a packet how many it has had no room for; Python has no name for it."""
OVERRUNS: Final = struct.Struct("=I")
"""As it comes beside a packet."""

Address: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
"""As the kernel gives it: in its own spelling, and with flow and scope for IPv6."""


class Traffic:
    """Counters of all rails."""

    def __init__(self) -> None:
        self.frames_sent = self.bytes_sent = 0
        self.frames_received = self.bytes_received = 0
        self.drops: Counter[str] = Counter()

    def count(self, what: str, number: int) -> None:
        """The kernel has refused something."""
        self.drops[f"{what}_{errno.errorcode.get(number, str(number)).lower()}"] += 1


class Ends(NamedTuple):
    """What a rail is made of."""

    name: str
    sock: socket.socket
    """Bound to this node's address there."""
    group_sock: socket.socket | None
    """Bound to the group, which this node has joined; None if there is none."""
    addresses: Mapping[int, Address]
    """Where the nodes were when it was opened, by number; also `GROUP` and `OWN`."""

    @property
    def sources(self) -> list[socket.socket]:
        """What is read, in this order: a flood of the group leaves the other one its share."""
        return [self.sock] if self.group_sock is None else [self.group_sock, self.sock]


class Rail(Protocol):
    """What `UdpDatagrams` needs of a rail."""

    @property
    def ends(self) -> Ends:
        """What it is made of."""
        ...

    def learn(self, node: int, address: Address | None) -> None:
        """Where a node is from now on; None for nowhere."""
        ...

    def cast(self, nodes: Sequence[int], frame: bytes) -> None:
        """Send one frame to several nodes, all of them different."""
        ...

    def cast_numbered(
        self, nodes: Sequence[int], frame: bytes, session: int, number: int, pieces: int
    ) -> None:
        """The same for pieces of a frame that has a number."""
        ...

    @property
    def overruns(self) -> int:
        """How many datagrams the kernel has had no room for."""
        ...


class Way(Protocol):
    """How datagrams are sent and received here, on all rails."""

    def rail(self, ends: Ends) -> Rail:
        """One rail."""
        ...

    def read(self) -> list[Datagram]:
        """What has come on all rails; one that is flooded leaves the others their share."""
        ...

    def incomplete(self) -> list[Incomplete]:
        """Numbered frames of which something is missing."""
        ...


class Overruns:
    """The counters of a rail's sockets, as the kernel gives them now and then."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._latest: dict[int, int] = {}
        self.total = 0

    def say(self, descriptor: int, latest: int) -> None:
        """So many since the socket was made; the number begins anew at 2^32."""
        more = (latest - self._latest.get(descriptor, 0)) & 0xFFFF_FFFF
        self._latest[descriptor] = latest
        self.total += more
        self._traffic.drops["overruns"] += more


class NativeWay:
    """With C."""

    def __init__(self, native: Any, traffic: Traffic) -> None:
        made = native.lib.phx_udp_new(SLOTS, DATAGRAM_BYTES_MAX, CAST_BYTES_MAX)
        if not made:
            raise MemoryError("no memory for the slots of the datagrams")
        native.lib.phx_udp_number_from(made, first_number())
        self.native = native
        self.traffic = traffic
        self.udp = native.ffi.gc(made, native.lib.phx_udp_free)
        memory = native.lib.phx_udp_memory(made)
        self.memory: Any = native.ffi.buffer(memory, native.lib.phx_udp_memory_bytes(made))
        self._rails: list[ManyAtOnce] = []
        self._sources: list[tuple[ManyAtOnce, int]] = []
        """Who is told of what was read, and from which descriptor, in the order of C."""
        self._numbers: Any = None
        self._receive = native.lib.phx_udp_receive
        self._arrived = native.lib.phx_udp_arrived(made)
        self._told = native.lib.phx_udp_told(made)
        self._unpack: Callable[[Any, int], list[int]] = native.ffi.unpack
        self._entries = native.ffi.new("int64_t[]", INCOMPLETE_FIELDS * PUZZLES_MAX)

    def rail(self, ends: Ends) -> Rail:
        """One rail; all rails share the frames that are not whole."""
        rail = ManyAtOnce(self, len(self._rails), ends)
        self._rails.append(rail)
        self._sources += [(rail, sock.fileno()) for sock in ends.sources]
        assert len(self._sources) <= SLOTS, "there are at most eight rails"
        numbers = [it for rail, descriptor in self._sources for it in (rail.place, descriptor)]
        self._numbers = self.native.ffi.new("int32_t[]", numbers)
        return rail

    def read(self) -> list[Datagram]:
        """What has come on all rails; one that is flooded leaves the others their share."""
        taken: list[Datagram] = []
        count = size = total = 0
        sources = len(self._sources)
        while sources:
            count = self._receive(self.udp, self._numbers, sources, SLOTS)
            things = count & ~MORE
            if things:
                size += self._take(things, taken)
            if count == things:
                break
            read, full = self._hear()
            total += read
            if not full or total >= DATAGRAMS_POLL_MAX or size >= DATAGRAMS_POLL_BYTES:
                break
        return taken

    def _take(self, count: int, taken: list[Datagram]) -> int:
        """Copy frames out of C's memory; returns their bytes."""
        arrived = self._unpack(self._arrived, FIELDS * count)
        traffic, memory, rails, size = self.traffic, self.memory, self._rails, 0
        for place in range(0, FIELDS * count, FIELDS):
            node, start, length = arrived[place], arrived[place + 1], arrived[place + 2]
            if node < 0:
                traffic.drops[DROPS[-node]] += 1
                continue
            frame = memory[start : start + length]
            name = rails[arrived[place + 5]].name
            taken.append((node, name, frame, arrived[place + 3], arrived[place + 4]))
            traffic.frames_received += 1
            size += length
        traffic.bytes_received += size
        return size

    def _hear(self) -> tuple[int, bool]:
        """How many datagrams were read, and whether there may be more of them."""
        told = self._unpack(self._told, TOLD * len(self._sources))
        total, full = 0, False
        share = SLOTS // len(self._sources)
        for place, (rail, descriptor) in enumerate(self._sources):
            read, overruns, failed = told[TOLD * place : TOLD * (place + 1)]
            total += read
            full |= read == share
            if overruns:
                rail.lost.say(descriptor, overruns)
            if failed:
                # What failed was an earlier send, as the kernel tells here; more may lie behind it.
                self.traffic.count("receive", failed)
                total, full = total + 1, True
        return total, full

    def incomplete(self) -> list[Incomplete]:
        """Numbered frames of which something is missing."""
        lib, entries = self.native.lib, self._entries
        count = lib.phx_udp_incomplete(self.udp, entries, PUZZLES_MAX)
        fields = self.native.ffi.unpack(entries, INCOMPLETE_FIELDS * count)
        return [
            Incomplete(*fields[at : at + INCOMPLETE_FIELDS])
            for at in range(0, len(fields), INCOMPLETE_FIELDS)
        ]


class ManyAtOnce:
    """With `recvmmsg` and `sendmmsg`."""

    def __init__(self, shared: NativeWay, place: int, ends: Ends) -> None:
        native = shared.native
        self.ends = ends
        self.place = place
        self.name = ends.name
        self._traffic = shared.traffic
        self._descriptor = ends.sock.fileno()
        for sock in ends.sources:
            with suppress(OSError):  # before Linux 5.0 the packets of a frame come one by one
                sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        self._new = native.ffi.new
        self._udp = shared.udp
        self.lost = Overruns(shared.traffic)
        self._numbers: dict[int, int] = {}
        """Of the addresses in C, by node."""
        self._places = {GROUP: native.lib.PHX_UDP_GROUP, OWN: native.lib.PHX_UDP_OWN}
        self._learn = native.lib.phx_udp_learn
        self._groups: dict[tuple[int, ...], tuple[Any, int]] = {}
        """By nodes, the numbers of those that have an address here, and how many these are."""
        self._errors: Any
        for node, address in ends.addresses.items():
            self.learn(node, address)
        self._send = native.lib.phx_udp_send
        self._send_numbered = native.lib.phx_udp_send_numbered
        self._unpack: Callable[[Any, int], list[int]] = native.ffi.unpack

    def learn(self, node: int, address: Address | None) -> None:
        """Where a node is from now on; None for nowhere."""
        known = b"" if address is None else as_bytes(address)
        who = self._places.get(node, node)
        number = self._learn(self._udp, self.place, who, known, len(known))
        if number < 0:
            raise MemoryError("no memory for the addresses of a rail's peers")
        self._groups.clear()
        self._numbers.pop(node, None)
        if address is not None:
            self._numbers[node] = number
        self._errors = self._new("int32_t[]", max(1, len(self._numbers)))

    @property
    def overruns(self) -> int:
        """How many datagrams the kernel has had no room for."""
        return self.lost.total

    def cast(self, nodes: Sequence[int], frame: bytes) -> None:
        """Send one frame to several nodes, all of them different."""
        peers, count = self._found(nodes)
        sent = self._send(
            self._udp, self._descriptor, peers, count, frame, len(frame), self._errors
        )
        self._sent(sent, count, len(frame))

    def cast_numbered(
        self, nodes: Sequence[int], frame: bytes, session: int, number: int, pieces: int
    ) -> None:
        """The same for pieces of a frame that has a number."""
        peers, count = self._found(nodes)
        sent = self._send_numbered(
            self._udp,
            self._descriptor,
            peers,
            count,
            session,
            number,
            pieces,
            frame,
            len(frame),
            self._errors,
        )
        self._sent(sent, count, len(frame))

    def _sent(self, sent: int, count: int, length: int) -> None:
        traffic = self._traffic
        traffic.frames_sent += sent
        traffic.bytes_sent += sent * length
        if sent < count:
            for number in self._unpack(self._errors, count):
                if number:
                    traffic.count("send", number)

    def _found(self, nodes: Sequence[int]) -> tuple[Any, int]:
        group = nodes if isinstance(nodes, tuple) else tuple(nodes)
        found = self._groups.get(group)
        if found is None:
            found = self._remember(group)
        if found[1] < len(group):
            self._traffic.drops["without_address"] += len(group) - found[1]
        return found

    def _remember(self, group: tuple[int, ...]) -> tuple[Any, int]:
        if len(self._groups) >= GROUPS_MAX:
            self._groups.clear()
        assert len(set(group)) == len(group), "C has room for one of each peer"
        numbers = [self._numbers[node] for node in group if node in self._numbers]
        found = self._new("int32_t[]", numbers), len(numbers)
        self._groups[group] = found
        return found


def first_number() -> int:
    """Frames that are cut are numbered from somewhere else than those of a process before."""
    return int.from_bytes(os.urandom(4), "little")


def as_bytes(address: Address) -> bytes:
    """A `sockaddr` as the kernel gives it for a packet from there."""
    host, port = address[0], address[1]
    if len(address) == 2:
        body = struct.pack("!H4s8x", port, socket.inet_pton(socket.AF_INET, host))
        return struct.pack("=H", socket.AF_INET) + body
    body = struct.pack("!HI16s", port, address[2], socket.inet_pton(socket.AF_INET6, host))
    return struct.pack("=H", socket.AF_INET6) + body + struct.pack("=I", address[3])
