"""Frames as datagrams: fast where they arrive, and never relied upon.

What goes on the ordered or the bulk lane is cast as a datagram beside the association: that
costs a third of the processor time and less, and no thread stands between two members. A datagram
may be lost, doubled or come late, or never come at all; whoever cast one sends it again over the
association when the peer has not said in time that it has it (`Carrying.recast`).

Only a peer at which datagrams are known to arrive is sent any (`hearing.py`). When one has to be
sent again, the next ones are given twice the time, for the peer may only be slow, and go over
another rail that is up, until a heartbeat is answered on the first one (whoever hears a group
asks for what it lacks); where there is none, it is sent none after a few in a row, until it has
answered anew. How many bytes may be on their way to a peer is a window in the manner of TCP
(RFC 5681): it doubles until something is lost, then it is halved and grows by a step; it grows
only while it is full (RFC 7661). Where it shrinks to nothing, what is larger than a packet goes
over the association for a while, which mends a loss without its like.

With active rails everything goes twice, so that a rail that is lost costs no time: what is cast,
over a second rail; and what goes over an association, as a datagram over another rail than that of
the association. Receivers know a batch by its number and drop what comes second. With passive
rails only what is small and not confirmed in time is cast once more, over another rail if one is
up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..config import Timing
from ..drivers.base import CAST_BYTES_MAX, DATAGRAM_BYTES_MAX
from .fan_out import FanOut
from .hearing import Hearing
from .outputs import Cast, Outputs
from .paths import Paths
from .repair import UNNUMBERED

FAILURES_MAX: Final = 3
"""So many times in a row nothing was heard in time of what was cast: no more is."""
PATIENCE_MAX: Final = 4
"""What was cast is given up to so many times the first time-out."""
WINDOW_FIRST_BYTES: Final = 128 << 10
WINDOW_LEAST_BYTES: Final = 16 << 10
WINDOW_MOST_BYTES: Final = 512 << 10
"""A socket's buffer takes that of several peers."""
WINDOW_STEP_BYTES: Final = 16 << 10
SHUT_INTERVALS: Final = 40
"""A window that has shrunk to nothing stays so for so many heartbeat intervals."""


class _Window:
    """What may be on its way to one peer."""

    __slots__ = ("bytes", "filled", "open_ns", "threshold")

    def __init__(self) -> None:
        self.bytes = WINDOW_FIRST_BYTES
        self.threshold = WINDOW_MOST_BYTES
        """From here on it grows by steps."""
        self.filled = False
        """Something had to wait for room since it last grew."""
        self.open_ns = 0
        """When it opens again, if it has shrunk to nothing."""


class Casting:
    """Who is sent datagrams, and over which rail."""

    def __init__(
        self,
        *,
        timing: Timing,
        hearing: Hearing,
        paths: Paths,
        outputs: Outputs,
        fan_out: FanOut,
        active: bool = False,
    ) -> None:
        """`active`: everything goes over two rails, where datagrams arrive on two."""
        self._active = active
        self._hearing = hearing
        self.fan_out = fan_out
        """What goes to several goes to a group, where that arrives."""
        fan_out.overrun = self._shrink
        self._paths = paths
        self._outputs = outputs
        self.recast_ns = timing.recast_ns
        self._shut_ns = SHUT_INTERVALS * timing.heartbeat_ns
        self._failures: dict[int, int] = {}
        self._patience: dict[int, int] = {}
        """By peer how many times the time-out it is given, if that is more than one."""
        self._windows: dict[int, _Window] = {}
        self.rails: dict[int, str] = {}
        """Over which rail datagrams go to a peer; not in here is who gets none."""
        self._others: dict[int, str] = {}
        """Another rail that is up and takes them, by peer, where there is one."""
        self._besides: dict[int, str] = {}
        """With active rails: one that takes them, if possible not that of the association."""

    def choose(self, now_ns: int) -> None:
        """Once in a heartbeat interval: the primary rail where that takes them, or another one."""
        self.rails = {}
        self._others = {}
        self._besides = {}
        for node in self._paths.nodes:
            self._choose(node, now_ns)
        for window in self._windows.values():
            if not window.bytes and now_ns >= window.open_ns:
                window.bytes = WINDOW_LEAST_BYTES
        self.fan_out.choose(self.rails, now_ns)

    def _choose(self, node: int, now_ns: int) -> None:
        heard, primary = self._hearing.rails(node, now_ns), self._paths.primary(node)
        if not heard:
            return
        rail = self.rails[node] = primary if primary in heard else heard[0]
        up = self._paths.rails_up(node)
        others = [other for other in heard if other != rail and other in up]
        if others:
            self._others[node] = others[0]
        if self._active:
            # If no other takes any, its own: what the association has sent before may stand still.
            self._besides[node] = others[0] if others and rail == primary else rail

    def why(self, node: int) -> str:
        """By what way multicasts go to a peer, and why."""
        if node not in self.rails:
            return "multicasts go the same way: no datagram is known to arrive"
        twice = ""
        if self._active:
            other = self._others.get(node)
            twice = f"; everything goes over {other} too" if other else "; on no other rail do any"
        return f"multicasts go {self.fan_out.why(node)}{twice}"

    def wait_ns(self, node: int) -> int:
        """How long a peer is given to say that it has what was cast."""
        return self.recast_ns * self._patience.get(node, 1) if self._patience else self.recast_ns

    def confirmed(self, node: int) -> None:
        """It has said so in time."""
        self._failures.pop(node, None)
        patience = self._patience.pop(node, 1)
        if patience > 2:
            self._patience[node] = patience - 1
        window = self._windows.get(node)
        if window is not None and window.filled and window.bytes:
            window.filled = False
            more = window.bytes if window.bytes < window.threshold else WINDOW_STEP_BYTES
            window.bytes = min(window.bytes + more, WINDOW_MOST_BYTES)

    def window_bytes(self, node: int) -> int:
        """How much may be on its way to a peer; 0 if only single packets may."""
        window = self._windows.get(node)
        return window.bytes if window is not None else WINDOW_FIRST_BYTES

    def filled(self, node: int) -> None:
        """Something waits for room in a peer's window."""
        self._windows.setdefault(node, _Window()).filled = True

    def failed(self, node: int, now_ns: int) -> None:
        """It has not: what was cast is sent again."""
        self._outputs.counters["recasts"] += 1
        self._shrink(node, now_ns)
        self._patience[node] = min(2 * self._patience.get(node, 1), PATIENCE_MAX)
        in_group = self.fan_out.listeners.hears_any(node)
        if node in self._others and not in_group:
            self._leave(node, now_ns)
            return
        self._failures[node] = failures = self._failures.get(node, 0) + 1
        if failures >= FAILURES_MAX:
            del self._failures[node]
            if in_group:
                self.fan_out.listeners.doubt(node, now_ns)
                return
            self._leave(node, now_ns)

    def _leave(self, node: int, now_ns: int) -> None:
        """The rail of a peer takes no datagrams, as far as is known, until a heartbeat says so."""
        rail = self.rails.pop(node, None)
        if rail is not None:
            self._hearing.doubt(node, rail, now_ns)
            self._others.pop(node, None)
            self._besides.pop(node, None)
            self._choose(node, now_ns)

    def _shrink(self, node: int, now_ns: int) -> None:
        """Something was lost, or there was no room for it."""
        window = self._windows.setdefault(node, _Window())
        window.bytes //= 2
        if window.bytes < WINDOW_LEAST_BYTES:
            window.bytes, window.open_ns = 0, now_ns + self._shut_ns
        window.threshold = max(window.bytes, WINDOW_LEAST_BYTES)
        window.filled = False

    def forget(self, node: int) -> None:
        """The association to a peer is gone."""
        self.fan_out.forget(node)
        self._failures.pop(node, None)
        self._windows.pop(node, None)
        self.rails.pop(node, None)
        self._others.pop(node, None)
        self._besides.pop(node, None)
        self._hearing.forget(node)

    # ----------------------------------------------------------------------------- what is cast

    def cast_batch(self, nodes: Sequence[int], frame: bytes) -> None:
        """Send a batch to peers that are in `rails`; what is lost of it is asked for."""
        self._cast(nodes, frame, self.fan_out.number_batch(nodes, frame))

    def cast(self, nodes: Sequence[int], frame: bytes) -> None:
        """Send anything else to peers that are in `rails`."""
        self._cast(nodes, frame, self.fan_out.number(nodes, frame))

    def hint(self, nodes: Sequence[int], frame: bytes) -> None:
        """The same for what is said again anyway: nobody asks for it."""
        self._cast(nodes, frame, UNNUMBERED)

    def again(self, node: int, frame: bytes) -> None:
        """What was cast to a peer and not confirmed in time is cast once more, if it is small.

        It goes over another rail that is up, or the one that was taken instead of its own, or, if
        there is only one, over that. What is large is not waited for so much, and the peer may only
        be slow.
        """
        rail = self._others.get(node, self.rails.get(node))
        if rail is not None and not self._active and len(frame) <= DATAGRAM_BYTES_MAX:
            self._outputs.casts.append(Cast((node,), rail, frame))

    def doubles(self, node: int) -> bool:
        """Whether what goes to a peer over its association goes as a datagram, too."""
        return node in self._besides

    def beside(self, node: int, frame: bytes) -> None:
        """The second copy of what goes over the association of a peer of which that is true."""
        if len(frame) <= CAST_BYTES_MAX:
            self._outputs.casts.append(Cast((node,), self._besides[node], frame))

    def _cast(self, nodes: Sequence[int], frame: bytes, number: int) -> None:
        self._cast_over(self.rails, nodes, frame, number)
        if self._active:
            others = self._others
            self._cast_over(others, [node for node in nodes if node in others], frame, number)

    def _cast_over(
        self, rails: dict[int, str], nodes: Sequence[int], frame: bytes, number: int
    ) -> None:
        by_rail: dict[str, list[int]] = {}
        for node in nodes:
            by_rail.setdefault(rails[node], []).append(node)
        for rail, group in by_rail.items():
            left = self.fan_out.cast(group, rail, frame, number) if len(group) > 1 else group
            if left:
                self._outputs.casts.append(self.fan_out.framed(left, rail, frame, number))
