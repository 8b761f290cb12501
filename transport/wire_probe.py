"""The body of a PROBE frame: heartbeats of a process, and its answers to those of others.

What goes to several nodes in one moment is one frame for all of them. Layouts are in docs/wire.md.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .events import ViewId

_PROBE: Final = struct.Struct("<BxHIQII")
PROBE_BYTES: Final = _PROBE.size
PROBES_MAX: Final = 32
"""Of one frame, which then still is a single packet."""


@dataclass(slots=True, init=False)
class Probe:
    """A heartbeat of the process on one rail, or the answer to one.

    `granted` in an answer grants the prober a lease that runs from `sent_ns` (PROTOCOL 3).
    """

    granted: bool
    rail: int
    """Place of the rail among the configured rails in order of name."""
    addressee: int
    """Whose heartbeat is answered; 0: a heartbeat, for everybody who gets it."""
    sent_ns: int
    """The prober's own clock; only the prober reads it."""
    view_id: ViewId
    """What the prober has installed."""

    def __init__(
        self,
        *,
        rail: int,
        sent_ns: int,
        view_id: ViewId,
        granted: bool = False,
        addressee: int = 0,
    ) -> None:
        self.granted = granted
        self.rail = rail
        self.addressee = addressee
        self.sent_ns = sent_ns
        self.view_id = view_id

    @property
    def echo(self) -> bool:
        """It is an answer."""
        return self.addressee != 0


def encode_probes(probes: Sequence[Probe]) -> bytes:
    """The body of a PROBE frame with up to `PROBES_MAX` of them."""
    return b"".join(
        [_PROBE.pack(it.granted, it.rail, it.addressee, it.sent_ns, *it.view_id) for it in probes]
    )


def decode_probes(frame: bytes, offset: int, node: int) -> list[Probe] | None:
    """What concerns a node of the body at `offset` of a frame; None if it is malformed."""
    count, rest = divmod(len(frame) - offset, PROBE_BYTES)
    if rest or not 0 < count <= PROBES_MAX:
        return None
    probes: list[Probe] = []
    for place in range(offset, len(frame), PROBE_BYTES):
        granted, rail, addressee, sent_ns, era, k = _PROBE.unpack_from(frame, place)
        if addressee in (0, node):
            probes.append(
                Probe(
                    granted=granted != 0,
                    rail=rail,
                    addressee=addressee,
                    sent_ns=sent_ns,
                    view_id=ViewId(era, k),
                )
            )
    return probes
