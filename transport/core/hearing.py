"""On which rails datagrams arrive at which peer, as answered heartbeats say.

A heartbeat that goes as a datagram is answered by one. Where none arrive as far as is known, one is
cast now and then beside the heartbeat over the association (`paths.py`); where they do, most go so.
"""

from __future__ import annotations

from typing import Final

from ..config import Timing

ASK_INTERVALS: Final = 5
"""Where no datagram is known to arrive, one is tried every so many heartbeat intervals."""
TRUST_INTERVALS: Final = 20
"""An answer holds for so many heartbeat intervals."""


class Hearing:
    """What is known of datagrams, by peer and rail."""

    def __init__(self, *, timing: Timing, datagrams: bool) -> None:
        self.possible = datagrams
        """This node has datagrams at all."""
        self._trust_ns = TRUST_INTERVALS * timing.heartbeat_ns
        self._heard: dict[int, dict[str, int]] = {}
        """When the newest one that was answered had been sent."""
        self._doubted: dict[int, dict[str, int]] = {}
        """Since when only answers to newer ones count."""

    def heard(self, node: int, rail: str, sent_ns: int) -> None:
        """One that was sent then has been answered."""
        heard = self._heard.setdefault(node, {})
        if sent_ns > max(heard.get(rail, -1), self._doubted.get(node, {}).get(rail, -1)):
            heard[rail] = sent_ns

    def doubt(self, node: int, rail: str, now_ns: int) -> None:
        """What was cast has not come, again and again: it has to be tried anew."""
        self._heard.get(node, {}).pop(rail, None)
        self._doubted.setdefault(node, {})[rail] = now_ns

    def forget(self, node: int) -> None:
        """The association to a peer is gone: what comes next may be another process."""
        self._heard.pop(node, None)

    def rails(self, node: int, now_ns: int) -> list[str]:
        """Where datagrams arrive at a peer."""
        return [rail for rail in self._heard.get(node, ()) if self.arrives(node, rail, now_ns)]

    def latest_ns(self, node: int) -> int:
        """When the newest one that was answered had been sent, on any rail; -1 if none was."""
        return max(self._heard.get(node, {}).values(), default=-1)

    def known(self, node: int) -> list[str]:
        """Where they have arrived, as far as is known."""
        return list(self._heard.get(node, ()))

    def arrives(self, node: int, rail: str, now_ns: int, *, after_ns: int = -1) -> bool:
        """Whether they do on a rail, and one that was sent later than `after_ns` did."""
        sent_ns = self._heard.get(node, {}).get(rail, -1)
        return sent_ns >= now_ns - self._trust_ns and sent_ns > after_ns
