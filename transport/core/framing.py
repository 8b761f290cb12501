"""Frames of one incarnation of one node: the header around every body the core sends."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final

from ..._native import codec
from .. import wire
from ..wire_group import Report, Stand, encode_report, encode_stand
from ..wire_probe import Probe, encode_probes

HEADER_BYTES: Final = 64
"""Size of the frame header (docs/wire.md)."""


_LENGTH: Final = struct.Struct("<H")
_DATA: Final = int(wire.Kind.DATA)
# A name that is `Final` is found faster than an attribute of a module.
_seal_frame: Final[Callable[[bytes, bytes, bytes], bytes]] = codec.seal_frame


def unbundle(frame: bytes, offset: int) -> list[bytes] | None:
    """The DATA bodies of a bundle; None if it is malformed."""
    bodies: list[bytes] = []
    end = len(frame)
    while offset < end:
        if offset + 2 > end:
            return None
        start = offset + 2
        offset = start + _LENGTH.unpack_from(frame, offset)[0]
        if offset > end:
            return None
        bodies.append(frame[start:offset])
    return bodies


class Framer:
    """Puts the header with cluster, sender and incarnation before bodies."""

    def __init__(self, *, cluster: str, node: int, incarnation: int) -> None:
        self.cluster = codec.cluster_id(cluster)
        self._node = node
        self._incarnation = incarnation
        self._data = self._start(wire.Kind.DATA)
        self._bundle = self._start(wire.Kind.BUNDLE)
        self._roll = self._start(wire.Kind.ROLL)
        self._probes = self._start(wire.Kind.PROBE)
        self._control = self._start(wire.Kind.CONTROL)
        self._stand = self._start(wire.Kind.STAND)
        self._report = self._start(wire.Kind.REPORT)
        self._link = self._start(wire.Kind.LINK)

    def message(self, message: wire.Control, *, addressee: int = 0) -> bytes:
        """A control message as a frame."""
        start = self._start(wire.Kind.CONTROL, addressee) if addressee else self._control
        return codec.seal_frame(start, wire.encode_message(message))

    def hello(self, message: wire.Hello) -> bytes:
        """A HELLO as a frame."""
        return codec.seal_frame(self._start(wire.Kind.HELLO), wire.encode_message(message))

    def probes(self, probes: Sequence[Probe]) -> bytes:
        """Heartbeats and answers as a frame."""
        return codec.seal_frame(self._probes, encode_probes(probes))

    def stand(self, stand: Stand) -> bytes:
        """Where this node stands in its session, as a frame."""
        return codec.seal_frame(self._stand, encode_stand(stand))

    def report(self, report: Report) -> bytes:
        """What this node lacks of a session, as a frame."""
        return codec.seal_frame(self._report, encode_report(report))

    def link(self, body: bytes) -> bytes:
        """A LINK frame of what `wire_link` has encoded."""
        return codec.seal_frame(self._link, body)

    def bundle(self, bodies: Sequence[bytes]) -> bytes:
        """Several DATA bodies, each after its length, as one frame."""
        parts: list[bytes] = []
        for body in bodies:
            parts.append(_LENGTH.pack(len(body)))
            parts.append(body)
        return codec.seal_frame(self._bundle, b"".join(parts))

    def roll(self, body: bytes) -> bytes:
        """A ROLL frame of what `encode_roll` has given."""
        return codec.seal_frame(self._roll, body)

    def data(self, head: bytes, batch: bytes, *, addressee: int) -> bytes:
        """A DATA frame from its header and its batch, copied once."""
        start = self._start(_DATA, addressee) if addressee else self._data
        return _seal_frame(start, head, batch)

    def _start(self, kind: int, addressee: int = 0) -> bytes:
        return codec.frame_start(kind, 0, self.cluster, self._incarnation, self._node, addressee)
