"""Lifelines in virtual time, and what may happen to them on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..core.endpoint import Endpoint
from ..events import Member

if TYPE_CHECKING:
    from .simulated_node import SimulatedNode


class SimulatedLifelines:
    """Lifelines in virtual time: an end of file arrives one delay after a process died."""

    def __init__(self, node: SimulatedNode) -> None:
        self._node = node
        self.lines: set[tuple[int, str]] = set()
        self._news: list[Callable[[Endpoint, int], None]] = []

    def feed(self, endpoint: Endpoint, now_ns: int) -> None:
        """Give everything that has happened to the core."""
        news, self._news = self._news, []
        for item in news:
            item(endpoint, now_ns)

    def connect(self, peer: int, rail: str, address: str, port: int) -> None:
        """Open the lifeline to a peer on one rail."""
        del address, port
        simulation, here = self._node.simulation, self._node
        there = simulation.nodes[peer]
        if there.lifelines is None or not simulation.network.both_ways(here.id, peer, rail):
            return
        self.lines.add((peer, rail))
        there.lifelines.lines.add((here.id, rail))
        self._tell_up(there, rail)
        there.lifelines._tell_up(here, rail)

    def _tell_up(self, other: SimulatedNode, rail: str) -> None:
        (peer, incarnation), nonce = other.life.member, other.nonce
        self._news.append(lambda e, _now: e.lifeline_up(peer, rail, incarnation, nonce))
        self._node.wake_soon()

    def drop(self, peer: int) -> None:
        """Reset the lifelines to a peer."""
        self._end([line for line in sorted(self.lines) if line[0] == peer], fin=False)

    def end_one(self, peer: int, rail: str) -> None:
        """Something on the way ends one lifeline as if this process had died."""
        self._end([line for line in self.lines if line == (peer, rail)], fin=True)

    def farewell(self, after_ns: int = 0) -> None:
        """Close everything in good order."""
        self._end(sorted(self.lines), fin=True, after_ns=after_ns)

    def reset(self) -> None:
        """Close everything in a way that proves nothing."""
        self._end(sorted(self.lines), fin=False)

    def _end(self, lines: list[tuple[int, str]], *, fin: bool, after_ns: int = 0) -> None:
        self.lines.difference_update(lines)
        here, network = self._node, self._node.simulation.network
        member, nonce = here.life.member, here.nonce
        for peer, rail in lines:
            there = here.simulation.nodes[peer].lifelines
            if there is not None and network.works(here.id, peer, rail):
                late_ns = after_ns + network.delay() + network.lateness(here.id, peer, rail)
                network.after(late_ns, there._ending(member, nonce, rail, fin=fin))

    def _ending(self, member: Member, nonce: int, rail: str, *, fin: bool) -> Callable[[], None]:
        peer, incarnation = member

        def end(endpoint: Endpoint, now_ns: int) -> None:
            endpoint.lifeline_ended(peer, rail, incarnation, nonce, fin=fin, now_ns=now_ns)

        def arrive() -> None:
            self.lines.discard((peer, rail))
            self._news.append(end)
            self._node.wake_soon()

        return arrive
