"""Frames of one incarnation of one node: the header around every body the core sends."""

from __future__ import annotations

from collections.abc import Sequence

from ..._native import codec
from .. import wire

HEADER_BYTES = 64
"""Size of the frame header (docs/wire.md)."""


class Framer:
    """Puts the header with cluster, sender and incarnation before bodies."""

    def __init__(self, *, cluster: str, node: int, incarnation: int) -> None:
        self.cluster = codec.cluster_id(cluster)
        self._node = node
        self._incarnation = incarnation

    def message(self, message: wire.Control, *, addressee: int = 0) -> bytes:
        """A control message as a frame."""
        return self._frame(wire.Kind.CONTROL, addressee, wire.encode_message(message))

    def hello(self, message: wire.Hello) -> bytes:
        """A HELLO as a frame."""
        return self._frame(wire.Kind.HELLO, 0, wire.encode_message(message))

    def probe(self, probe: wire.Probe, *, addressee: int) -> bytes:
        """A heartbeat or its echo as a frame."""
        return self._frame(wire.Kind.PROBE, addressee, wire.encode_probe(probe))

    def data(self, parts: Sequence[bytes], *, addressee: int) -> bytes:
        """A DATA frame from its header and its batch, copied once."""
        return codec.encode_frame_parts(
            wire.Kind.DATA, 0, self.cluster, self._incarnation, self._node, addressee, parts
        )

    def _frame(self, kind: int, addressee: int, body: bytes) -> bytes:
        return codec.encode_frame(
            kind, 0, self.cluster, self._incarnation, self._node, addressee, body
        )
