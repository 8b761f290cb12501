"""What is asked with heartbeats, and what is answered (PROTOCOL 3).

In one turn a node may have to answer several, and it may be time for its own. All that goes to
others as a datagram over one rail is then one frame. And it is time for its own, at the latest, at
the end of an interval, or when another node's arrive and most of the interval is over: so nodes
that would wake each other all the time do it in one moment of each interval.
"""

from __future__ import annotations

from typing import Final

from ..config import Timing
from ..events import ViewId
from ..wire import NO_VIEW
from ..wire_probe import PROBES_MAX, Probe, decode_probes
from .framing import Framer
from .leases import Leases
from .membership import Membership
from .outputs import Cast, Outputs
from .paths import Paths
from .timers import Timer, TimerTable

TOGETHER_AFTER: Final = 40
"""Per cent of an interval, after which our heartbeats join those of another node.

Below 50: of two groups of nodes that keep apart one always comes that late after the other.
"""


class Heartbeats:
    """Between the paths, which say who is reachable, and the leases, which say who may act."""

    def __init__(
        self,
        *,
        node: int,
        timing: Timing,
        membership: Membership,
        paths: Paths,
        leases: Leases,
        framer: Framer,
        timers: TimerTable,
        outputs: Outputs,
    ) -> None:
        self._node = node
        self._together_ns = timing.heartbeat_ns * TOGETHER_AFTER // 100
        self._membership = membership
        self._paths = paths
        self._leases = leases
        self._framer = framer
        self._timers = timers
        self._outputs = outputs
        self._asked_ns = 0
        """When ours went last."""
        self._asking: dict[str, list[int]] = {}
        """Who gets one as a datagram in this turn, by rail."""
        self._answers: dict[str, list[Probe]] = {}
        """What this turn has to answer with datagrams, by rail."""

    @property
    def pending(self) -> bool:
        """Somebody waits for what is sent at the end of this turn."""
        return bool(self._answers)

    def ask(self, now_ns: int) -> None:
        """An interval is over."""
        self._asked_ns = now_ns
        self._asking = self._paths.probe_all(self._view_id(), now_ns)

    def receive(self, node: int, cast_on: str, frame: bytes, offset: int, now_ns: int) -> bool:
        """A frame of a peer: a datagram on a rail, or over the association (`cast_on` is empty).

        True if that peer was out of reach and may be no more.
        """
        probes = decode_probes(frame, offset, self._node)
        if probes is None:
            self._outputs.counters["malformed_probe"] += 1
            return False
        returned = False
        for probe in probes:
            if cast_on and self._paths.rail_of(probe) != cast_on:
                self._outputs.counters["malformed_probe"] += 1
            elif probe.echo:
                returned |= self._answered(node, probe, now_ns, datagram=bool(cast_on))
            else:
                self._answer(node, probe, now_ns, cast_on)
        return returned

    def _answer(self, node: int, probe: Probe, now_ns: int, cast_on: str) -> None:
        """On the rail on which it was sent, in the way it came."""
        granted = self._membership.may_grant(node, probe.view_id)
        if granted:
            self._leases.give(node, now_ns)
        answer = Probe(
            granted=granted,
            rail=probe.rail,
            addressee=node,
            sent_ns=probe.sent_ns,
            view_id=probe.view_id,
        )
        if cast_on:
            self._answers.setdefault(cast_on, []).append(answer)
        else:
            self._paths.transmit(node, answer)
        if now_ns - self._asked_ns >= self._together_ns:
            self._timers.arm_earlier(Timer.PROBE, "", now_ns)

    def _answered(self, node: int, probe: Probe, now_ns: int, *, datagram: bool) -> bool:
        was_reachable = self._paths.reachable(node, now_ns)
        self._paths.answered(node, probe, now_ns, datagram=datagram)
        if probe.granted and probe.view_id == self._view_id():
            self._leases.take(node, probe.sent_ns)
        return not was_reachable

    def send(self) -> None:
        """The end of a turn: what it has brought goes out."""
        if not self._answers and not self._asking:
            return
        asking, self._asking = self._asking, {}
        answers, self._answers = self._answers, {}
        for rail, nodes in asking.items():
            probe = self._paths.heartbeat(rail, self._view_id(), self._asked_ns)
            among = set(nodes)
            fitting: list[Probe] = []
            others: list[Probe] = []
            for answer in answers.pop(rail, ()):
                goes = answer.addressee in among and len(fitting) < PROBES_MAX - 1
                (fitting if goes else others).append(answer)
            self._cast(nodes, rail, [probe, *fitting])
            if others:
                answers[rail] = others
        for rail, owed in answers.items():
            for first in range(0, len(owed), PROBES_MAX):
                some = owed[first : first + PROBES_MAX]
                self._cast(tuple({answer.addressee: 0 for answer in some}), rail, some)

    def _cast(self, nodes: list[int] | tuple[int, ...], rail: str, probes: list[Probe]) -> None:
        for probe in probes:
            if probe.granted and not self._membership.may_grant(probe.addressee, probe.view_id):
                probe.granted = False  # the view was closed after it had come
        self._outputs.casts.append(Cast(nodes, rail, self._framer.probes(probes)))

    def _view_id(self) -> ViewId:
        view = self._membership.standing.view
        return view.id if view is not None else NO_VIEW
