"""Multicast as fan-out: what goes to several members is sent once, and mended where it was lost.

On each rail that has a multicast group a node says now and then where it stands (STAND); who hears
it answers (REPORT). So a sender knows at whom its multicasts arrive. Where a switch does not
pass them on, or a host has not joined, the frames go to that node alone, and the application is
told. The rail is the one that carries all else to a peer: whoever is reached over another one is
sent its own copy. All copies of a frame have the same number, so that whoever lacks it asks for it,
by whatever way it should have come.

Whether the group is worth it is computed from what is measured: the copies that are saved, against
those that are sent again because they were lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Final

from ..config import MS, Timing
from ..drivers.base import GROUP, NUMBERS, Incomplete, Stream
from ..wire_group import NO_RAIL, Lack, Report, Stand, decode_report, decode_stand
from .framing import Framer
from .hearing import ASK_INTERVALS, Hearing
from .listeners import Listeners
from .outputs import Cast, Outputs, Transmit
from .parity import Parity
from .paths import Paths
from .peers import Peers
from .repair import (
    LOSS_WEIGHT,
    REPAIR_COST,
    UNNUMBERED,
    ReceiveWindow,
    Repair,
    SendWindow,
    group_session,
)
from .timers import Timer, TimerTable

GRTT_MIN_NS: Final = 200_000
GRTT_MAX_NS: Final = 500 * MS
"""Bounds of the group's round trip time: the longest of those to its members."""
RETRY_RTTS: Final = 2
"""What was asked for has not come after so many round trips: it, or the question, was lost. Twice
as many where questions of others are waited for."""
BACKOFF_GRTTS: Final = 6
"""K of RFC 5401 where only the sender repairs: so many round trips those that share losses wait."""
_TO_GROUP: Final = (GROUP,)
OVERRUN_HOLD: Final = 10
"""For so many round trips one overrun is not taken for two."""


class FanOut:
    """Who is reached by which group; sends what says so, and what mends."""

    def __init__(
        self,
        *,
        node: int,
        nonce: int,
        rails: tuple[str, ...],
        timing: Timing,
        hearing: Hearing,
        paths: Paths,
        framer: Framer,
        peers: Peers,
        timers: TimerTable,
        outputs: Outputs,
        jitter: Callable[[], float],
    ) -> None:
        """`rails` are those with a group that this node has joined."""
        self._node = node
        self._rails = rails
        self._timing = timing
        self._hearing = hearing
        self._paths = paths
        self._framer = framer
        self._peers = peers
        self._timers = timers
        self._outputs = outputs
        self._jitter = jitter
        self.listeners = Listeners(rails=rails, timing=timing, outputs=outputs)
        self._sent = SendWindow(session=group_session(nonce), first=(nonce >> 16) % NUMBERS)
        self._received: dict[int, ReceiveWindow] = {}
        self._loss: dict[int, float] = {}
        """By peer the share of frames that it has asked for again."""
        self._parity = Parity()
        self._spared: dict[int, int] = {}
        """By peer how often it has said that it was spared to ask."""
        self._overruns: dict[int, tuple[int, int]] = {}
        """By peer how many it has said that it had no room for, and when that last grew."""
        self._sharing: set[int] = set()
        """Peers of whose frames mostly many lack the same."""
        self._own_overruns = 0
        self._incomplete: list[Incomplete] = []
        """Frames of which some pieces have come, when something was last to be asked for."""
        self._via: dict[int, str] = {}
        """The rail that carries datagrams to each peer, also those by themselves."""
        self._interval = 0
        self._cast_ns = 0
        """When something last went to the group."""
        self._stood_ns = 0
        """When this node last said where it stands."""
        self._fresh = False
        """Something went there in this turn."""
        self._tail_ns = 0
        """How long after the last frame it says so again."""
        self._tail_rail = ""
        self.overrun: Callable[[int, int], None] = _nobody
        """Is told of a peer whose kernel had no room, and the time."""

    # --------------------------------------------------------------------------- who is reached

    def choose(self, via: dict[int, str], now_ns: int) -> None:
        """Once in a heartbeat interval: whom which group reaches, by the rails chosen for all."""
        if not self._rails:
            return
        self._via = via
        self.listeners.choose(via, now_ns)
        self._sent.decide()
        if self._interval % ASK_INTERVALS == 0 or self._cast_ns > self._stood_ns:
            for rail in self._rails:
                self._stand(rail, now_ns, ask=True)
            self._stood_ns = now_ns
        self._interval += 1

    def forget(self, node: int) -> None:
        """The association to a peer is gone: what comes next may be another process."""
        self.listeners.forget(node)
        self._received.pop(node, None)
        self._sent.taking.pop(node, None)
        self._sharing.discard(node)
        self._spared.pop(node, None)
        self._overruns.pop(node, None)
        self._loss.pop(node, None)

    def _cost(self, nodes: Collection[int]) -> float:
        """Of one multicast to them, in copies."""
        loss = self._loss
        return 1.0 + REPAIR_COST * sum([loss.get(node, 0.0) for node in nodes]) if loss else 1.0

    def why(self, node: int) -> str:
        """How datagrams for all get to a peer, and why so."""
        rail = self._via.get(node, "")
        if rail not in self._rails:
            return "in copies of its own, for there is no group to send them to"
        hear = self.listeners.on(rail)
        if node not in hear:
            return f"in copies of its own, for the group of rail {rail} does not reach it"
        if len(hear) < 2:
            return f"in copies of its own, for the group of rail {rail} reaches nobody else"
        cost = self._cost(hear)
        if cost >= len(hear):
            return f"in copies of its own, for so much is lost that one to all costs {cost:.1f}"
        more = ", and parities for what is lost" if self._parity.pays else ""
        words = f"to the group of rail {rail}, once for {len(hear)}"
        return f"{words}, which costs {cost:.1f} copies{more}"

    # --------------------------------------------------------------------------- what goes there

    @property
    def mends(self) -> bool:
        """What is sent has numbers, so that all are to be sent the same."""
        return bool(self._rails)

    def number_batch(self, nodes: Sequence[int], frame: bytes) -> int:
        """A batch has a number if it goes to all that take part; others begin with it.

        What goes once more has another one, or none: whoever gets it may have the first, and have
        had no use for it then.
        """
        taking = self._sent.taking
        if not self._rails or not taking.keys() <= set(nodes):
            return UNNUMBERED
        for node in nodes:
            if node not in taking:
                taking[node] = self._sent.following
                self._stand_to(node)
        return self._keep(frame)

    def number(self, nodes: Sequence[int], frame: bytes) -> int:
        """Any other frame has a number if it goes to those that take part, and to nobody else."""
        everybody = self._rails and self._sent.taking.keys() == set(nodes)
        return self._keep(frame) if everybody else UNNUMBERED

    def begin(self) -> None:
        """A view is installed: whoever is sent the first batch in it takes part."""
        self._sent.taking.clear()

    def leave(self, nodes: Collection[int]) -> None:
        """These are sent what has numbers by other ways."""
        for node in nodes:
            self._sent.taking.pop(node, None)

    def _keep(self, frame: bytes) -> int:
        for node, loss in self._loss.items():
            self._loss[node] = loss * (1.0 - LOSS_WEIGHT)
        self._parity.sent(len(frame))
        self._fresh = True
        return self._sent.keep(frame)

    def framed(self, nodes: Sequence[int], rail: str, frame: bytes, number: int) -> Cast:
        """A frame on its way to some, by its number if it has one."""
        if number == UNNUMBERED:
            return Cast(nodes, rail, frame)
        pieces = self._parity.pieces(len(frame))
        return Cast(nodes, rail, frame, self._sent.session, number % NUMBERS, pieces)

    def cast(self, nodes: Sequence[int], rail: str, frame: bytes, number: int) -> Sequence[int]:
        """Send a frame to the group, if that is worth it; returns whom that does not reach."""
        listeners = self.listeners.on(rail)
        reached = [node for node in nodes if node in listeners]
        if len(reached) < 2 or self._cost(reached) >= len(reached):
            return nodes
        self._outputs.casts.append(self.framed(_TO_GROUP, rail, frame, number))
        self._tail_rail = rail
        return [] if len(reached) == len(nodes) else [it for it in nodes if it not in listeners]

    def settle(self, now_ns: int) -> None:
        """The end of a turn: if nothing follows what went to the group, say where it ended."""
        if self._fresh:
            self._fresh = False
            self._cast_ns, self._tail_ns = now_ns, 2 * self.grtt_ns
            self._timers.arm_earlier(Timer.REPAIR, "", now_ns + self._tail_ns)

    def _stand(self, rail: str, now_ns: int, *, ask: bool) -> None:
        number, sent_ns = self._paths.number_of(rail), now_ns if ask else 0
        stand = self._sent.stand(number, sent_ns)
        self._outputs.casts.append(Cast(_TO_GROUP, rail, self._framer.stand(stand)))

    def ask(self, node: int, now_ns: int) -> bool:
        """Have a peer that does not say that it has everything ask for what it lacks."""
        taking = node in self._sent.taking
        if taking:
            self._stand_to(node, now_ns)
        return taking

    def _stand_to(self, node: int, asked_ns: int = 0) -> None:
        """To one that may not hear the group; that it comes shows nothing of that."""
        rail = self._rail_to(node, again=asked_ns > 0)
        if rail:
            stand = self._sent.stand(NO_RAIL, asked_ns, to=node)
            self._outputs.casts.append(Cast((node,), rail, self._framer.stand(stand)))

    # ---------------------------------------------------------------------------- what has come

    def arrived(self, node: int, session: int, number: int, now_ns: int) -> bool:
        """A numbered frame of a peer has come; False if it had come before."""
        window = self._received.get(node)
        if window is None or window.session != session:
            window = self._received[node] = ReceiveWindow(session=session, first=number)
        if window.follows(number):
            return True
        fresh = window.arrived(number, now_ns, guard_ns=self._guard_ns(node))
        if window.lacking:
            self._watch(window)
        return fresh

    def receive_stand(self, node: int, rail: str, frame: bytes, offset: int, now_ns: int) -> None:
        """A peer says where it stands; what came by a group shows that this node is reached so."""
        stand = decode_stand(frame, offset)
        if stand is None or (stand.rail != NO_RAIL and self._paths.rail_at(stand.rail) != rail):
            self._outputs.counters["malformed_stand"] += 1
            return
        window = self._received.get(node)
        if window is None or window.session != stand.session:
            window = ReceiveWindow(session=stand.session, first=stand.following)
            self._received[node] = window
        (self._sharing.add if stand.shared else self._sharing.discard)(node)
        guard_ns = self._guard_ns(node)
        window.told(stand.following, stand.oldest, now_ns, guard_ns=guard_ns)
        if stand.sent_ns and stand.rail == NO_RAIL:
            window.hurry(now_ns)  # its sender waits for this node alone
        elif stand.sent_ns:
            self._report(node, window, [], answered=stand)
        if window.lacking:
            self._watch(window)

    def receive_report(self, node: int, frame: bytes, offset: int, now_ns: int) -> None:
        """A receiver answers, and says what it lacks of a session of this node or another one."""
        report = decode_report(frame, offset)
        if report is None:
            self._outputs.counters["malformed_report"] += 1
            return
        grtt_ns = self.grtt_ns
        if report.origin != self._node:
            window = self._received.get(report.origin)
            if window is not None and window.session == report.session:
                # If it does not come, not all are to ask at once.
                wait_ns = 2 * grtt_ns + self._backoff_ns()
                window.seen_asked(report.lacks, now_ns, wait_ns=wait_ns)
            return
        sent = self._sent
        if report.session != sent.session:
            return
        if report.sent_ns and (rail := self._paths.rail_at(report.rail)) is not None:
            self.listeners.heard(node, rail, min(report.sent_ns, now_ns))
        self._note_overruns(node, report.overruns, now_ns)
        before, self._spared[node] = self._spared.get(node, report.spared), report.spared
        sent.spare(max(0, report.spared - before))
        if not report.lacks:
            return
        if node not in sent.taking:
            self._stand_to(node)
            return
        gather_ns = grtt_ns // 2 if len(self._via) > 2 else 0
        lost = sent.ask(node, report.lacks, now_ns, hold_ns=grtt_ns, gather_ns=gather_ns)
        if lost.gone:
            self._stand_to(node)
        counters = self._outputs.counters
        counters["nacks_received"] += 1
        counters["repairs_gone"] += lost.gone
        loss = self._loss.get(node, 0.0)
        self._loss[node] = min(1.0, loss + lost.frames * LOSS_WEIGHT)
        self._parity.asked(lost.torn)
        if sent.next_ns is not None:
            self._timers.arm_earlier(Timer.REPAIR, "", sent.next_ns)

    def _note_overruns(self, node: int, overruns: int, now_ns: int) -> None:
        before, at_ns = self._overruns.get(node, (overruns, 0))
        grown = overruns != before
        if grown and now_ns - at_ns > OVERRUN_HOLD * self.grtt_ns:
            self._outputs.counters["overruns_reported"] += 1
            self.overrun(node, now_ns)
            at_ns = now_ns
        self._overruns[node] = overruns, at_ns

    # ----------------------------------------------------------------------------------- timers

    def mends_for(self, node: int) -> bool:
        """Whether a peer numbers what it sends, so that what is missing of it is asked for."""
        return node in self._received

    def asks(self, now_ns: int) -> bool:
        """Whether something is to be asked for now: then it is of interest what is partly here."""
        for window in self._received.values():
            due_ns = window.next_ns
            if due_ns is not None and due_ns <= now_ns:
                return True
        return False

    def look(self, incomplete: list[Incomplete], overruns: int) -> None:
        """What has come partly, and how many datagrams there was no room for."""
        self._incomplete = incomplete
        self._own_overruns = overruns & 0xFFFF_FFFF

    def due(self, now_ns: int) -> None:
        """Ask for what is missing, send again what others ask for, say where this node stands."""
        for node, window in sorted(self._received.items()):
            due_ns = window.next_ns
            if due_ns is not None and due_ns <= now_ns:
                self._ask(node, window, now_ns)
            if window.lacking:
                self._watch(window)
        for repair in self._sent.due(now_ns):
            self._repair(repair)
        if self._sent.next_ns is not None:
            self._timers.arm_earlier(Timer.REPAIR, "", self._sent.next_ns)
        self._say_tail(now_ns)

    def _say_tail(self, now_ns: int) -> None:
        """Nothing has followed the last frame: nobody would miss that by a later number."""
        if not self._tail_ns:
            return
        at_ns = self._cast_ns + self._tail_ns
        if now_ns >= at_ns:
            if self._tail_rail in self._rails:
                self._stand(self._tail_rail, now_ns, ask=False)
            hear = self.listeners.on(self._tail_rail)
            for node in self._sent.taking:
                if node not in hear:
                    self._stand_to(node)
            self._tail_ns *= 2
            at_ns = self._cast_ns + self._tail_ns
            if self._tail_ns > self._timing.heartbeat_ns:
                self._tail_ns = 0
                return
        self._timers.arm_earlier(Timer.REPAIR, "", at_ns)

    def _ask(self, node: int, window: ReceiveWindow, now_ns: int) -> None:
        partly = {
            it.number: it.missing
            for it in self._incomplete
            if it.node == node and it.session == window.session
        }
        before = window.given_up
        lacks, tries = window.ask(now_ns, partly, retry_ns=self._retry_ns(node))
        counters = self._outputs.counters
        counters["repairs_given_up"] += window.given_up - before
        if lacks:
            counters["nacks_sent"] += 1
            counters["frames_asked_for"] += sum(lack.frames for lack in lacks)
            self._report(node, window, lacks, again=tries > 1)

    def _report(
        self,
        node: int,
        window: ReceiveWindow,
        lacks: Sequence[Lack],
        *,
        answered: Stand | None = None,
        again: bool = False,
    ) -> None:
        report = Report(
            origin=node,
            session=window.session,
            rail=NO_RAIL if answered is None else answered.rail,
            overruns=self._own_overruns,
            spared=window.spared,
            sent_ns=0 if answered is None else answered.sent_ns,
            lacks=lacks,
        )
        frame, rail = self._framer.report(report), self._rail_to(node, again=again)
        if rail:
            # Others that lack the same, as most do then, hear that it is asked for.
            shown = lacks and node in self._sharing and rail in self._rails
            self._outputs.casts.append(Cast(_TO_GROUP if shown else (node,), rail, frame))
            return
        link = self._peers.peers[node].link
        if link:
            self._outputs.transmits.append(Transmit(link, Stream.CONTROL, frame))

    def _rail_to(self, node: int, *, again: bool) -> str:
        """Where a datagram goes to a peer; with `again` another one, for the first one may lose."""
        rail = self._via.get(node, "")
        if again and rail:
            others = [it for it in self._hearing.known(node) if it != rail]
            return others[0] if others else rail
        return rail

    def _repair(self, repair: Repair) -> None:
        counters = self._outputs.counters
        session, number = self._sent.session, repair.number % NUMBERS
        nodes, rail = repair.nodes, self._tail_rail
        if nodes:
            counters["repairs_unicast"] += 1
            rail = self._rail_to(nodes[0], again=repair.again)
        else:
            counters["repairs_multicast"] += 1
            nodes = _TO_GROUP
        if rail:
            self._outputs.casts.append(
                Cast(nodes, rail, repair.frame, session, number, repair.pieces)
            )

    def _watch(self, window: ReceiveWindow) -> None:
        due_ns = window.next_ns
        if due_ns is not None:
            self._timers.arm_earlier(Timer.REPAIR, "", due_ns)

    # ------------------------------------------------------------------------------------ times

    @property
    def grtt_ns(self) -> int:
        """The longest round trip to a member of the group."""
        longest = max((self._paths.srtt_ns(node) for node in self._via), default=0)
        return min(max(longest, GRTT_MIN_NS), GRTT_MAX_NS)

    def _rtt_ns(self, node: int) -> int:
        return min(max(self._paths.srtt_ns(node), GRTT_MIN_NS), GRTT_MAX_NS)

    def _retry_ns(self, node: int) -> int:
        rtts = 2 * RETRY_RTTS if node in self._sharing else RETRY_RTTS
        return rtts * self._rtt_ns(node)

    def _guard_ns(self, node: int) -> int:
        """So long a frame may be overtaken, or others are given to ask for the same."""
        overtaken_ns = self._rtt_ns(node) // 4
        if node not in self._sharing:
            return overtaken_ns
        return overtaken_ns + self._backoff_ns()

    def _backoff_ns(self) -> int:
        return backoff_ns(self.grtt_ns, len(self._via), self._jitter())


def backoff_ns(grtt_ns: int, listeners: int, uniform: float) -> int:
    """How long a receiver waits before it asks, so that of many that lack the same few ask.

    RFC 5401, 5.2.1: truncated exponential over K round trips, for a group of so many.

    Args:
        uniform: a number in [0, 1), drawn.
    """
    most = BACKOFF_GRTTS * grtt_ns
    steep = math.log(max(listeners, 1)) + 1
    scale = most / steep
    x = uniform * steep / most + steep / (most * math.expm1(steep))
    return round(min(max(scale * math.log(x * math.expm1(steep) * scale), 0), most))


def _nobody(node: int, now_ns: int) -> None:
    del node, now_ns
