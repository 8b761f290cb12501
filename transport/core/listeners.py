"""Whom the multicasts of a node reach, rail by rail, as answers to what it says there show."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ..config import Timing
from ..events import MulticastChanged
from .hearing import TRUST_INTERVALS, Hearing
from .outputs import Outputs


@dataclass(slots=True)
class _Listener:
    """A peer on one rail's group."""

    since_ns: int
    """Since when datagrams are known to arrive there by themselves."""
    told: bool | None = None
    """What the application was told last: it hears the group, or it does not."""


class Listeners:
    """Who hears which group; the application is told of changes."""

    def __init__(self, *, rails: tuple[str, ...], timing: Timing, outputs: Outputs) -> None:
        """`rails` are those with a group that this node has joined."""
        self._rails = rails
        self._patience_ns = TRUST_INTERVALS * timing.heartbeat_ns
        self._outputs = outputs
        self._heard = Hearing(timing=timing, datagrams=bool(rails))
        self._known: dict[tuple[int, str], _Listener] = {}
        self.by_rail: dict[str, frozenset[int]] = {}
        """By rail who is sent multicasts there."""

    def heard(self, node: int, rail: str, sent_ns: int) -> None:
        """A peer has answered what went to the group then."""
        self._heard.heard(node, rail, sent_ns)

    def choose(self, via: Mapping[int, str], now_ns: int) -> None:
        """Whom which group reaches, of those that datagrams go to over its rail."""
        reached: dict[str, set[int]] = {rail: set() for rail in self._rails}
        for node, rail in via.items():
            if rail in reached and self._heard.arrives(node, rail, now_ns):
                reached[rail].add(node)
        self.by_rail = {rail: frozenset(nodes) for rail, nodes in reached.items() if nodes}
        for node, rail in via.items():
            if rail in reached:
                self._tell(node, rail, node in reached[rail], now_ns)

    def _tell(self, node: int, rail: str, hears: bool, now_ns: int) -> None:
        """Say to the application that a group begins or ceases to reach somebody."""
        known = self._known.get((node, rail))
        if known is None:
            known = self._known[node, rail] = _Listener(now_ns)
        if hears is known.told or (not hears and now_ns < known.since_ns + self._patience_ns):
            return
        known.told = hears
        self._outputs.stream.append(MulticastChanged(peer=node, rail=rail, arrives=hears))

    def on(self, rail: str) -> Collection[int]:
        """Who hears the group of a rail."""
        return self.by_rail.get(rail, ())

    def hears_any(self, node: int) -> bool:
        """Whether a peer is sent multicasts."""
        return any(node in nodes for nodes in self.by_rail.values())

    def doubt(self, node: int, now_ns: int) -> None:
        """What went to the group has not come to a peer, again and again."""
        for rail, nodes in self.by_rail.items():
            if node in nodes:
                self._heard.doubt(node, rail, now_ns)
        self._drop(node)

    def forget(self, node: int) -> None:
        """The association to a peer is gone: what comes next may be another process."""
        self._heard.forget(node)
        self._drop(node)
        for key in [key for key in self._known if key[0] == node]:
            del self._known[key]

    def _drop(self, node: int) -> None:
        self.by_rail = {rail: nodes - {node} for rail, nodes in self.by_rail.items()}
