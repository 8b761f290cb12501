"""Small frames as datagrams: fast where they arrive, and never relied upon.

A frame of the ordered lane that fits is cast as a datagram beside the association: that costs a
third of the processor time, and no thread stands between two members. A datagram may be lost,
doubled or come late, or never come at all; whoever cast one sends it again over the association
when the peer has not said in time that it has it (`Carrying.recast`).

To whom datagrams arrive is asked on every rail now and then, and only a peer that has answered
lately is sent any. When one has to be sent again, the next ones are given twice the time, for the
peer may only be slow; after a few in a row it is sent none until it has answered anew.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from ..config import Timing
from .framing import Framer
from .outputs import Cast, Outputs
from .paths import Paths
from .peers import Peers
from .timers import Timer, TimerTable

ASK_INTERVALS = 5
"""Whether datagrams arrive is asked every so many heartbeat intervals."""
TRUST_INTERVALS = 4
"""An answer holds for so many times the time between two questions."""
FAILURES_MAX = 3
"""So many times in a row nothing was heard in time of what was cast: no more is."""
PATIENCE_MAX = 4
"""What was cast is given up to so many times the first time-out."""
_PING = struct.Struct("<BQ")


class Casting:
    """Which peer datagrams arrive at, on which rail."""

    def __init__(
        self,
        *,
        rails: tuple[str, ...],
        timing: Timing,
        framer: Framer,
        peers: Peers,
        paths: Paths,
        timers: TimerTable,
        outputs: Outputs,
    ) -> None:
        self._rails = rails
        self._framer = framer
        self._peers = peers
        self._paths = paths
        self._timers = timers
        self._outputs = outputs
        self._recast_ns = timing.recast_ns
        self._failures: dict[int, int] = {}
        self._patience: dict[int, int] = {}
        """By peer how many times the time-out it is given, if that is more than one."""
        self._every_ns = timing.heartbeat_ns * ASK_INTERVALS
        self._proved: dict[int, dict[str, int]] = {}
        """By peer and rail when the newest question that was answered had been asked."""
        paths.datagrams_proved = self._proved
        self._doubted: dict[int, int] = {}
        """Since when only answers to newer questions count."""
        self.rails: dict[int, str] = {}
        """Over which rail datagrams go to a peer; not in here is who gets none."""

    # ------------------------------------------------------------ who is asked, and answers

    def ask(self, now_ns: int) -> None:
        """Ask all peers on all rails whether datagrams arrive, and see who has answered lately."""
        self._timers.arm(Timer.CAST_ASK, "", now_ns + self._every_ns)
        linked = [node for node, peer in self._peers.peers.items() if peer.link]
        if linked:
            frame = self._framer.ping(_PING.pack(0, now_ns))
            for rail in self._rails:
                self._outputs.casts.append(Cast(linked, rail, frame))
        self._choose(now_ns)

    def pinged(self, node: int, rail: str, frame: bytes, offset: int) -> None:
        """A question, or an answer to ours."""
        if len(frame) != offset + _PING.size:
            self._outputs.counters["malformed_ping"] += 1
            return
        answer, sent_ns = _PING.unpack_from(frame, offset)
        if not answer:
            reply = self._framer.ping(_PING.pack(1, sent_ns))
            self._outputs.casts.append(Cast((node,), rail, reply))
        elif sent_ns > self._doubted.get(node, -1):
            proved = self._proved.setdefault(node, {})
            proved[rail] = max(sent_ns, proved.get(rail, 0))
            if node not in self.rails:
                self.rails[node] = rail

    def wait_ns(self, node: int) -> int:
        """How long a peer is given to say that it has what was cast."""
        return self._recast_ns * self._patience.get(node, 1)

    def confirmed(self, node: int) -> None:
        """It has said so in time."""
        self._failures.pop(node, None)
        patience = self._patience.pop(node, 1)
        if patience > 2:
            self._patience[node] = patience - 1

    def failed(self, node: int, now_ns: int) -> None:
        """It has not: what was cast is sent again."""
        self._outputs.counters["recasts"] += 1
        self._patience[node] = min(2 * self._patience.get(node, 1), PATIENCE_MAX)
        self._failures[node] = failures = self._failures.get(node, 0) + 1
        if failures >= FAILURES_MAX:
            self.forget(node)
            self._doubted[node] = now_ns

    def forget(self, node: int) -> None:
        """The peer's process, or the association to it, is gone, or nothing arrives there."""
        self._failures.pop(node, None)
        self._proved.pop(node, None)
        self.rails.pop(node, None)

    def _choose(self, now_ns: int) -> None:
        oldest = now_ns - self._every_ns * TRUST_INTERVALS
        self.rails = {}
        for node, proved in self._proved.items():
            fresh = [rail for rail, at_ns in proved.items() if at_ns >= oldest]
            primary = self._paths.primary(node)
            if fresh:
                self.rails[node] = primary if primary in fresh else fresh[0]

    # ----------------------------------------------------------------------------- what is cast

    def cast(self, nodes: Iterable[int], frame: bytes) -> None:
        """Send a frame to peers that are in `rails`."""
        rails = self.rails
        by_rail: dict[str, list[int]] = {}
        for node in nodes:
            by_rail.setdefault(rails[node], []).append(node)
        for rail, group in by_rail.items():
            self._outputs.casts.append(Cast(group, rail, frame))
