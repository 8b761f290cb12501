"""The rails of `UdpDatagrams` with Python's sockets, where the extension was not built."""

from __future__ import annotations

import select
import socket
from collections.abc import Sequence
from typing import Final

from .base import (
    DATAGRAM_BYTES_MAX,
    DATAGRAMS_POLL_BYTES,
    DATAGRAMS_POLL_MAX,
    GROUP,
    Datagram,
    Incomplete,
)
from .datagram_rails import (
    OVERRUNS,
    OWN,
    SO_RXQ_OVFL,
    Address,
    Ends,
    Overruns,
    Rail,
    Traffic,
    first_number,
)
from .pieces import Puzzles, cut, is_piece

SLOT_BYTES: Final = DATAGRAM_BYTES_MAX + 1
"""One byte more, by which a packet that is too long is known."""
_CONTROL_BYTES: Final = socket.CMSG_SPACE(OVERRUNS.size)


class PlainWay:
    """With Python's sockets."""

    def __init__(self, traffic: Traffic) -> None:
        self.traffic = traffic
        self.puzzles = Puzzles(traffic.drops)
        self._rails: list[OneByOne] = []

    def rail(self, ends: Ends) -> Rail:
        """One rail; all rails share the frames that are not whole."""
        rail = OneByOne(self.puzzles, ends, self.traffic)
        self._rails.append(rail)
        return rail

    def read(self) -> list[Datagram]:
        """What has come on all rails; one that is flooded leaves the others their share."""
        taken: list[Datagram] = []
        left = DATAGRAMS_POLL_MAX
        for place, rail in enumerate(self._rails):
            left -= rail.read(left // (len(self._rails) - place), taken)
        return taken

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
        self._next_number = first_number()
        self._puzzles = puzzles
        self._lost = Overruns(traffic)
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
                    self._lost.say(sock.fileno(), OVERRUNS.unpack(value)[0])
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
