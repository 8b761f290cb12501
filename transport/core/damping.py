"""How long a node that joins is held back because its links come and go.

After the damping of route flaps (RFC 2439): each view that leaves a node out as unreachable adds
one to a figure for it, and so does each time that it is lost again before a view takes it in; the
figure is halved with time. The higher it is, the longer a node has to be reachable without a
break. The first time costs nothing, and neither does a death that is proven: only a link flaps.
Departures from the RFC: no threshold ends the holding back, for the figure is looked at once,
when the node becomes reachable; and nobody is held back who is needed, which the caller sees to.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Final

from ..config import Timing
from ..events import Member

UNREACHABLE: Final = "unreachable"
"""The reason for which a view leaves out a node that has gone silent."""
SLOW: Final = "it held the others up"
"""The same for one that answers, and that the others wait for (`traffic.evict_slow_ms`)."""
FREE: Final = 1.0
"""Up to this figure a node joins like any other."""
DOUBLINGS_MAX: Final = 30
"""More would be past any configured maximum."""


@dataclass(slots=True)
class _Figure:
    """Times that a node was left out or lost again, halved with time."""

    times: float
    at_ns: int
    counts: bool = True
    """It was left out so the last time; a process that has died since is not held back."""


@dataclass(frozen=True, slots=True)
class _Hold:
    since_ns: int
    lasts_ns: int


class Damping:
    """One member's memory of whom views have left out, and whom it holds back for that."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._figures: dict[int, _Figure] = {}
        self._holds: dict[Member, _Hold] = {}

    def left_out(self, reasons: Mapping[int, str], now_ns: int) -> None:
        """A view was installed; these are not in it any more, and why."""
        for node, reason in reasons.items():
            figure = self._figures.get(node)
            if reason in (UNREACHABLE, SLOW):
                self._lost(node, now_ns)
            elif figure is not None:
                figure.counts = False

    def _lost(self, node: int, now_ns: int) -> None:
        self._figures[node] = _Figure(self._times(node, now_ns) + 1.0, now_ns)

    def _times(self, node: int, now_ns: int) -> float:
        figure = self._figures.get(node)
        if figure is None:
            return 0.0
        halvings, rest_ns = divmod(now_ns - figure.at_ns, self._timing.flap_half_life_ns)
        # Straight lines between the halvings: a power is not the same on every machine.
        part = 1.0 - rest_ns / self._timing.flap_half_life_ns / 2
        return figure.times * part / (1 << min(halvings, DOUBLINGS_MAX))

    def _lasts_ns(self, node: int, now_ns: int) -> int:
        """How long the node has to be reachable without a break; 0 for no longer than others."""
        figure, times = self._figures.get(node), self._times(node, now_ns)
        if figure is None or not figure.counts or times <= FREE:
            return 0
        whole = int(min(times, DOUBLINGS_MAX))
        doubled = (1 << whole) * (1.0 + min(times, DOUBLINGS_MAX) - whole)
        return min(int(self._timing.hold_down_ns / 2 * doubled), self._timing.flap_hold_max_ns)

    def watch(self, joiners: Set[Member], over: Set[Member], now_ns: int) -> None:
        """Nodes outside the view that are in the largest clique now; all others begin anew.

        Who is not among them any more was lost again, unless that is `over`: joined, or dead.
        """
        for member in sorted(self._holds.keys() - joiners - over):
            self._lost(member.node, now_ns)
        self._holds = {
            member: self._holds.get(member) or _Hold(now_ns, self._lasts_ns(member.node, now_ns))
            for member in sorted(joiners)
        }

    def held_back(self, now_ns: int) -> dict[Member, int]:
        """Who of them is not to join yet, and when it may."""
        ends = {member: hold.since_ns + hold.lasts_ns for member, hold in self._holds.items()}
        return {member: end for member, end in ends.items() if end > now_ns}

    def lasts_ns(self, member: Member) -> int:
        """For how long one of them is held back in all."""
        return self._holds[member].lasts_ns
