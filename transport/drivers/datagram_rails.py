"""One rail of `UdpDatagrams`: its sockets, who is where on it, and the system calls.

`ManyAtOnce` receives and sends any number of datagrams with one system call and one call into C,
and a large frame as one of them. `OneByOne` does the same with Python's sockets, where the
extension was not built.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from ..._native import udp
from .base import (
    CAST_BYTES_MAX,
    DATAGRAM_BYTES_MAX,
    DATAGRAMS_POLL_BYTES,
    GROUP,
    Datagram,
    Incomplete,
)
from .pieces import PUZZLES_MAX, Puzzles, cut, is_piece

SLOTS: Final = 32
"""Datagrams that are received with one system call."""
SLOT_BYTES: Final = DATAGRAM_BYTES_MAX + 1
"""One byte more, by which a packet that is too long is known."""
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
FIELDS: Final = 5
"""What C says of each thing that has arrived."""
INCOMPLETE_FIELDS: Final = 4
GROUPS_MAX: Final = 256
"""Sets of receivers that are remembered."""

UDP_GRO: Final = 104
"""The kernel may give several packets as one (Linux 5.0); Python has no name for it."""
SO_RXQ_OVFL: Final = 40
"""It says with a packet how many it has had no room for; Python has no name for it."""
_OVERRUNS: Final = struct.Struct("=I")

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

    def read(self, most: int, taken: list[Datagram]) -> int:
        """Read what is there; returns how many times something was, at most `most`."""
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

    def incomplete(self) -> list[Incomplete]:
        """Numbered frames of which something is missing."""
        ...


def way(traffic: Traffic) -> Way:
    """The one that is possible here."""
    native = udp.extension()
    return _Simple(traffic) if native is None else _Native(native, traffic)


class _Overruns:
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


class _Native:
    """With C."""

    def __init__(self, native: Any, traffic: Traffic) -> None:
        made = native.lib.phx_udp_new(SLOTS, DATAGRAM_BYTES_MAX, CAST_BYTES_MAX)
        if not made:
            raise MemoryError("no memory for the slots of the datagrams")
        native.lib.phx_udp_number_from(made, _first_number())
        self.native = native
        self.traffic = traffic
        self.udp = native.ffi.gc(made, native.lib.phx_udp_free)
        memory = native.lib.phx_udp_memory(made)
        self.memory = memoryview(native.ffi.buffer(memory, native.lib.phx_udp_memory_bytes(made)))
        self._rails = 0
        self._entries = native.ffi.new("int64_t[]", INCOMPLETE_FIELDS * PUZZLES_MAX)

    def rail(self, ends: Ends) -> Rail:
        """One rail; all rails share the frames that are not whole."""
        self._rails += 1
        return ManyAtOnce(self, self._rails, ends)

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

    def __init__(self, shared: _Native, place: int, ends: Ends) -> None:
        native = shared.native
        self.ends = ends
        self._place = place
        self._name = ends.name
        self._traffic = shared.traffic
        self._descriptor = ends.sock.fileno()
        self._sources = [sock.fileno() for sock in ends.sources]
        for sock in ends.sources:
            with suppress(OSError):  # before Linux 5.0 the packets of a frame come one by one
                sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        self._new = native.ffi.new
        self._udp = shared.udp
        self._memory = shared.memory
        self._datagrams = native.lib.phx_udp_datagrams
        self._arrived = native.lib.phx_udp_arrived(shared.udp)
        self._overruns = native.lib.phx_udp_overruns
        self._lost = _Overruns(shared.traffic)
        self._numbers: dict[int, int] = {}
        """Of the addresses in C, by node."""
        self._places = {GROUP: native.lib.PHX_UDP_GROUP, OWN: native.lib.PHX_UDP_OWN}
        self._learn = native.lib.phx_udp_learn
        self._groups: dict[tuple[int, ...], tuple[Any, int]] = {}
        """By nodes, the numbers of those that have an address here, and how many these are."""
        self._errors: Any
        for node, address in ends.addresses.items():
            self.learn(node, address)
        self._receive, self._send = native.lib.phx_udp_receive, native.lib.phx_udp_send
        self._send_numbered = native.lib.phx_udp_send_numbered
        self._unpack: Callable[[Any, int], list[int]] = native.ffi.unpack

    def learn(self, node: int, address: Address | None) -> None:
        """Where a node is from now on; None for nowhere."""
        known = b"" if address is None else as_bytes(address)
        who = self._places.get(node, node)
        number = self._learn(self._udp, self._place, who, known, len(known))
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
        return self._lost.total

    def read(self, most: int, taken: list[Datagram]) -> int:
        """Read what is there; returns how many times something was, at most `most`."""
        total, sources = 0, self._sources
        for place, descriptor in enumerate(sources):
            total += self._read(descriptor, (most - total) // (len(sources) - place), taken)
        return total

    def _read(self, descriptor: int, most: int, taken: list[Datagram]) -> int:
        total = size = 0
        while total < most and size < DATAGRAMS_POLL_BYTES:
            asked = min(SLOTS, most - total)
            count = self._receive(self._udp, self._place, descriptor, asked)
            if count < 0:
                total += 1
                self._traffic.count("receive", -count)
                continue
            if count:
                size += self._take(count, taken)
                lost = self._overruns(self._udp)
                if lost:
                    self._lost.say(descriptor, lost)
            read = self._datagrams(self._udp)
            total += read
            if read < asked:
                break
        return total

    def _take(self, count: int, taken: list[Datagram]) -> int:
        """Copy frames out of C's memory; returns their bytes."""
        arrived = self._unpack(self._arrived, FIELDS * count)
        traffic, memory, size = self._traffic, self._memory, 0
        name = self._name
        for place in range(0, FIELDS * count, FIELDS):
            node, start, length, session, number = arrived[place : place + FIELDS]
            if node < 0:
                traffic.drops[DROPS[-node]] += 1
                continue
            taken.append((node, name, memory[start : start + length].tobytes(), session, number))
            traffic.frames_received += 1
            size += length
        traffic.bytes_received += size
        return size

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


class _Simple:
    """With Python's sockets."""

    def __init__(self, traffic: Traffic) -> None:
        self.traffic = traffic
        self.puzzles = Puzzles(traffic.drops)

    def rail(self, ends: Ends) -> Rail:
        """One rail; all rails share the frames that are not whole."""
        return OneByOne(self.puzzles, ends, self.traffic)

    def incomplete(self) -> list[Incomplete]:
        """Numbered frames of which something is missing."""
        return self.puzzles.incomplete()


class OneByOne:
    """With Python's sockets."""

    def __init__(self, puzzles: Puzzles, ends: Ends, traffic: Traffic) -> None:
        self.ends = ends
        self._sock = ends.sock
        self._name = ends.name
        self._traffic = traffic
        self._addresses = dict[int, Address]()
        self._node_at = dict[Address, int]()
        for node, address in ends.addresses.items():
            self.learn(node, address)
        self._next_number = _first_number()
        self._puzzles = puzzles
        self._lost = _Overruns(traffic)
        self._sources: list[tuple[socket.socket, select.poll]] = []
        for sock in ends.sources:
            ready = select.poll()
            ready.register(sock, select.POLLIN)
            self._sources.append((sock, ready))

    def learn(self, node: int, address: Address | None) -> None:
        """Where a node is from now on; None for nowhere."""
        self._addresses.pop(node, None)
        if address is not None:
            self._addresses[node] = address
        # Nothing comes from a group.
        self._node_at = {at: who for who, at in self._addresses.items() if who != GROUP}

    @property
    def overruns(self) -> int:
        """How many datagrams the kernel has had no room for."""
        return self._lost.total

    def read(self, most: int, taken: list[Datagram]) -> int:
        """Read what is there; returns how many times something was, at most `most`."""
        total = 0
        for place, (sock, ready) in enumerate(self._sources):
            # Most turns find nothing, and asking is cheaper than a read that fails.
            if ready.poll(0):
                total += self._read(sock, (most - total) // (len(self._sources) - place), taken)
        return total

    def _read(self, sock: socket.socket, most: int, taken: list[Datagram]) -> int:
        traffic, count, size = self._traffic, 0, 0
        while count < most and size < DATAGRAMS_POLL_BYTES:
            try:
                packet, beside, _, source = sock.recvmsg(SLOT_BYTES, _CONTROL_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                count += 1
                traffic.count("receive", error.errno or 0)
                continue
            count += 1
            for level, kind, value in beside:
                if (level, kind) == (socket.SOL_SOCKET, SO_RXQ_OVFL):
                    self._lost.say(sock.fileno(), _OVERRUNS.unpack(value)[0])
            size += len(packet)
            frame = self._whole(self._node_at.get(source), packet)
            if frame is not None:
                taken.append(frame)
                traffic.frames_received += 1
                traffic.bytes_received += len(frame[2])
        return count

    def _whole(self, node: int | None, packet: bytes) -> Datagram | None:
        """The frame that a packet is or completes."""
        drops = self._traffic.drops
        if node is None:
            drops["strangers"] += 1
        elif node == OWN:
            drops["own_received"] += 1
        elif not 0 < len(packet) <= DATAGRAM_BYTES_MAX:
            drops["sizes_received"] += 1
        elif not is_piece(packet):
            return node, self._name, packet, 0, 0
        elif (whole := self._puzzles.take(node, packet)) is not None:
            return node, self._name, *whole
        return None

    def cast(self, nodes: Sequence[int], frame: bytes) -> None:
        """Send one frame to several nodes, all of them different."""
        packets: tuple[bytes, ...] = (frame,)
        if len(frame) > DATAGRAM_BYTES_MAX:
            packets = cut(frame, self._next_number)
            self._next_number += 1
        self._send(nodes, packets, len(frame))

    def cast_numbered(
        self, nodes: Sequence[int], frame: bytes, session: int, number: int, pieces: int
    ) -> None:
        """The same for pieces of a frame that has a number."""
        packets = cut(frame, number, session=session, pieces=pieces)
        self._send(nodes, packets, len(frame))

    def _send(self, nodes: Sequence[int], packets: tuple[bytes, ...], size: int) -> None:
        traffic = self._traffic
        for node in nodes:
            address = self._addresses.get(node)
            if address is None:
                traffic.drops["without_address"] += 1
                continue
            try:
                for packet in packets:
                    self._sock.sendto(packet, address)
            except OSError as error:
                traffic.count("send", error.errno or 0)
            else:
                traffic.frames_sent += 1
                traffic.bytes_sent += size


_CONTROL_BYTES: Final = socket.CMSG_SPACE(_OVERRUNS.size)


def _first_number() -> int:
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
