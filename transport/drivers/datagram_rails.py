"""One rail of `UdpDatagrams`: a socket, who is where on it, and the system calls.

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
from typing import Any, Final, Protocol, TypeAlias

from ..._native import udp
from .base import CAST_BYTES_MAX, DATAGRAM_BYTES_MAX, DATAGRAMS_POLL_BYTES, Datagram
from .pieces import Puzzles, cut, is_piece

SLOTS: Final = 32
"""Datagrams that are received with one system call."""
SLOT_BYTES: Final = DATAGRAM_BYTES_MAX + 1
"""One byte more, by which a packet that is too long is known."""
DROPS: Final = ("", "strangers", "sizes_received", "pieces_malformed", "pieces_displaced")
"""By the number that C gives them, counted from below zero."""
GROUPS_MAX: Final = 256
"""Sets of receivers that are remembered."""

UDP_GRO: Final = 104
"""The kernel may give several packets as one (Linux 5.0); Python has no name for it."""

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


class Rail(Protocol):
    """What `UdpDatagrams` needs of a rail."""

    @property
    def sock(self) -> socket.socket:
        """Bound to this node's address there."""
        ...

    def read(self, most: int, taken: list[Datagram]) -> int:
        """Read what is there; returns how many times something was, at most `most`."""
        ...

    def cast(self, nodes: Sequence[int], frame: bytes) -> None:
        """Send one frame to several nodes, all of them different."""
        ...


def make(
    name: str, sock: socket.socket, addresses: Mapping[int, Address], traffic: Traffic
) -> Rail:
    """A rail, in the way that is possible here."""
    native = udp.extension()
    if native is None:
        return OneByOne(name, sock, addresses, traffic)
    return ManyAtOnce(native, name, sock, addresses, traffic)


class ManyAtOnce:
    """With `recvmmsg` and `sendmmsg`."""

    def __init__(
        self,
        native: Any,
        name: str,
        sock: socket.socket,
        addresses: Mapping[int, Address],
        traffic: Traffic,
    ) -> None:
        self._sock = sock
        self._name = name
        self._traffic = traffic
        self._descriptor = sock.fileno()
        made = native.lib.phx_udp_new(SLOTS, DATAGRAM_BYTES_MAX, CAST_BYTES_MAX)
        if not made:
            raise MemoryError("no memory for the slots of a rail's datagrams")
        native.lib.phx_udp_number_from(made, _first_number())
        with suppress(OSError):  # before Linux 5.0 the packets of a large frame come one by one
            sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        self._new = native.ffi.new
        self._udp = native.ffi.gc(made, native.lib.phx_udp_free)
        memory = native.lib.phx_udp_memory(made)
        self._memory = memoryview(native.ffi.buffer(memory, native.lib.phx_udp_memory_bytes(made)))
        self._datagrams = native.lib.phx_udp_datagrams
        self._arrived = native.lib.phx_udp_arrived(made)
        self._nodes: list[int] = []
        """By the number of the peer."""
        self._numbers: dict[int, int] = {}
        for node, address in addresses.items():
            known = as_bytes(address)
            number = native.lib.phx_udp_learn(made, known, len(known))
            if number < 0:
                raise MemoryError("no memory for the addresses of a rail's peers")
            self._numbers[node] = number
            self._nodes.append(node)
        self._groups: dict[tuple[int, ...], tuple[Any, int]] = {}
        """By nodes, the numbers of those that have an address here, and how many these are."""
        self._errors = native.ffi.new("int32_t[]", max(1, len(addresses)))
        self._receive, self._send = native.lib.phx_udp_receive, native.lib.phx_udp_send
        self._unpack: Callable[[Any, int], list[int]] = native.ffi.unpack

    @property
    def sock(self) -> socket.socket:
        """Bound to this node's address there."""
        return self._sock

    def read(self, most: int, taken: list[Datagram]) -> int:
        """Read what is there; returns how many times something was, at most `most`."""
        total = size = 0
        while total < most and size < DATAGRAMS_POLL_BYTES:
            asked = min(SLOTS, most - total)
            count = self._receive(self._udp, self._descriptor, asked)
            if count < 0:
                total += 1
                self._traffic.count("receive", -count)
                continue
            if count:
                size += self._take(count, taken)
            read = self._datagrams(self._udp)
            total += read
            if read < asked:
                break
        return total

    def _take(self, count: int, taken: list[Datagram]) -> int:
        """Copy frames out of C's memory; returns their bytes."""
        arrived = self._unpack(self._arrived, 3 * count)
        traffic, memory, size = self._traffic, self._memory, 0
        for place in range(0, 3 * count, 3):
            number, start, length = arrived[place : place + 3]
            if number < 0:
                traffic.drops[DROPS[-number]] += 1
                continue
            taken.append(
                (self._nodes[number], self._name, memory[start : start + length].tobytes())
            )
            traffic.frames_received += 1
            size += length
        traffic.bytes_received += size
        return size

    def cast(self, nodes: Sequence[int], frame: bytes) -> None:
        """Send one frame to several nodes, all of them different."""
        group = nodes if isinstance(nodes, tuple) else tuple(nodes)
        found = self._groups.get(group)
        if found is None:
            found = self._remember(group)
        peers, count = found
        traffic, length = self._traffic, len(frame)
        if count < len(group):
            traffic.drops["without_address"] += len(group) - count
        errors = self._errors
        sent = self._send(self._udp, self._descriptor, peers, count, frame, length, errors)
        traffic.frames_sent += sent
        traffic.bytes_sent += sent * length
        if sent < count:
            for number in self._unpack(errors, count):
                if number:
                    traffic.count("send", number)

    def _remember(self, group: tuple[int, ...]) -> tuple[Any, int]:
        if len(self._groups) >= GROUPS_MAX:
            self._groups.clear()
        assert len(set(group)) == len(group), "C has room for one of each peer"
        numbers = [self._numbers[node] for node in group if node in self._numbers]
        found = self._new("int32_t[]", numbers), len(numbers)
        self._groups[group] = found
        return found


class OneByOne:
    """With Python's sockets."""

    def __init__(
        self, name: str, sock: socket.socket, addresses: Mapping[int, Address], traffic: Traffic
    ) -> None:
        self._sock = sock
        self._name = name
        self._traffic = traffic
        self._address_of = dict(addresses)
        self._node_at = {address: node for node, address in addresses.items()}
        self._ready = select.poll()
        self._ready.register(sock, select.POLLIN)
        self._next_number = _first_number()
        self._puzzles = Puzzles(traffic.drops)

    @property
    def sock(self) -> socket.socket:
        """Bound to this node's address there."""
        return self._sock

    def read(self, most: int, taken: list[Datagram]) -> int:
        """Read what is there; returns how many times something was, at most `most`."""
        # Most turns find nothing, and asking is cheaper than a read that fails.
        if not self._ready.poll(0):
            return 0
        traffic, count, size = self._traffic, 0, 0
        while count < most and size < DATAGRAMS_POLL_BYTES:
            try:
                frame, source = self._sock.recvfrom(SLOT_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                count += 1
                traffic.count("receive", error.errno or 0)
                continue
            count += 1
            node = self._node_at.get(source)
            size += len(frame)
            whole = self._whole(node, frame)
            if whole is not None and node is not None:
                taken.append((node, self._name, whole))
                traffic.frames_received += 1
                traffic.bytes_received += len(whole)
        return count

    def _whole(self, node: int | None, packet: bytes) -> bytes | None:
        """The frame that a packet is or completes."""
        drops = self._traffic.drops
        if node is None:
            drops["strangers"] += 1
        elif not 0 < len(packet) <= DATAGRAM_BYTES_MAX:
            drops["sizes_received"] += 1
        else:
            return self._puzzles.take(node, packet) if is_piece(packet) else packet
        return None

    def cast(self, nodes: Sequence[int], frame: bytes) -> None:
        """Send one frame to several nodes, all of them different."""
        traffic = self._traffic
        packets: tuple[bytes, ...] = (frame,)
        if len(frame) > DATAGRAM_BYTES_MAX:
            packets = cut(frame, self._next_number)
            self._next_number += 1
        for node in nodes:
            address = self._address_of.get(node)
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
                traffic.bytes_sent += len(frame)


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
