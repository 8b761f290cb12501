"""The associations over datagrams: opening and ending them, and which frame belongs to which.

To the rest of the core they are links like those of a driver: `inputs` has what a driver's `poll`
would give. Their numbers are negative, so that nobody takes one for the other. Which peers get one,
and when, is decided in `fallback.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..config import Timing
from ..drivers.base import (
    Incomplete,
    Input,
    LinkLost,
    LinkUp,
    LossReason,
    Received,
    Writable,
)
from ..wire_link import (
    Ask,
    Close,
    LinkAck,
    LinkHead,
    Loose,
    Open,
    Part,
    decode_link,
    encode_ack,
    encode_ask,
    encode_close,
    encode_loose,
    encode_open,
)
from .framing import Framer
from .outputs import Cast, Outputs
from .repair import link_session
from .timers import Timer, TimerTable
from .udp_link import Send, UdpLink


class UdpLinks:
    """At most one to each peer."""

    def __init__(
        self,
        *,
        node: int,
        nonce: int,
        rails: Sequence[str],
        timing: Timing,
        framer: Framer,
        timers: TimerTable,
        outputs: Outputs,
    ) -> None:
        """`rails` are those on which datagrams can be cast."""
        self._node = node
        self._opened = nonce
        """Each opening has a session of its own, from somewhere on."""
        self.rails = tuple(rails)
        self._timing = timing
        self._framer = framer
        self._timers = timers
        self._outputs = outputs
        self._links: dict[int, UdpLink] = {}
        """By node."""
        self._by_number: dict[int, UdpLink] = {}
        self._last = 0
        self.now_ns = 0
        """The time of the turn in which something is asked of it as of a driver."""
        self.inputs: list[Input] = []
        """What has come of it, for whoever takes what a driver gives."""
        self.willing: Callable[[int, bool, int], bool] = _never
        """Whether a node that opens one is answered; it is told if that is urgent, and the time."""
        self.watch: Callable[[int, bytes, str | None], None] | None = None
        """Is shown each frame that is handed over, the node it is for, and the rail of a probe."""
        self.incomplete: Sequence[Incomplete] = ()
        """Frames of which some pieces have come, as of the last look."""

    # ------------------------------------------------------------------------ as a driver has it

    def open(self, node: int, now_ns: int, *, urgent: bool) -> None:
        """Begin one, unless there is one; ends in `LinkUp` or `LinkLost`."""
        if node in self._links or not self.rails:
            return
        self._last -= 1
        self._opened += 1
        link = UdpLink(
            node=node,
            link=self._last,
            session=link_session(self._opened),
            rails=self.rails,
            timing=self._timing,
            now_ns=now_ns,
            urgent=urgent,
        )
        self._links[node] = self._by_number[link.link] = link
        self._work(link, now_ns)

    def peer(self, link: int) -> int:
        """Whom a link leads to; 0 if it is gone."""
        found = self._by_number.get(link)
        return found.node if found is not None else 0

    def has(self, node: int) -> bool:
        """Whether there is one to a node, or is about to be."""
        return node in self._links

    def transmit(self, link: int, stream: int, frame: bytes, *, rail: str | None = None) -> bool:
        """See `drivers.base.Driver.transmit`."""
        found = self._by_number.get(link)
        if found is None or found.closing_ns:
            return True
        if self.watch is not None:
            self.watch(found.node, frame, rail)
        if rail is not None:
            if found.echo and rail in self.rails:
                self._cast(found.node, rail, encode_loose(found.head) + frame)
            return True
        if not found.take(stream, frame):
            return False
        self._work(found, self.now_ns)
        return True

    def set_primary(self, link: int, rail: str) -> None:
        """What is sent from now on goes over that rail."""
        found = self._by_number.get(link)
        if found is not None and rail in self.rails:
            found.rail = rail

    def disconnect(self, link: int, *, abort: bool) -> None:
        """End it at once, or when all that was taken is acknowledged."""
        found = self._by_number.get(link)
        if found is None:
            return
        if abort or found.drained or not found.up:
            self._end(found, LossReason.LOCAL, say=True, orderly=not abort)
        elif not found.closing_ns:
            found.closing_ns = self.now_ns
            self._arm(found)

    # --------------------------------------------------------------------------------- inputs

    def receive(self, node: int, frame: bytes, offset: int, number: int, now_ns: int) -> None:
        """A LINK frame from the address of a node."""
        message = decode_link(frame, offset)
        if message is None:
            self._outputs.counters["malformed_link"] += 1
            return
        link = self._links.get(node)
        if isinstance(message, Open):
            self._opens(node, link, message, now_ns)
            return
        session, echo = message.head
        if link is None or echo != link.session or (link.echo and session not in (0, link.echo)):
            if not isinstance(message, Close):
                self._close(node, LinkHead(0, session), orderly=False)
            return
        if isinstance(message, Close):
            reason = LossReason.SHUTDOWN if message.orderly else LossReason.ABORTED
            self._end(link, reason)
            return
        link.echo = session
        if not link.up:
            link.up = True  # it says so only when it knows this session
            self._tell_up(link)
        match message:
            case Part():
                for stream, whole in link.arrived(message, frame, number, now_ns):
                    self.inputs.append(Received(link.link, stream, whole))
            case LinkAck():
                self._send(link, link.acknowledged(message, now_ns))
            case Ask():
                link.asked(message, now_ns)
            case Loose():
                self.inputs.append(Received(link.link, 0, frame[message.offset :]))
        self._work(link, now_ns)

    def _opens(self, node: int, link: UdpLink | None, message: Open, now_ns: int) -> None:
        session, echo = message.head
        known = link is not None and echo == link.session
        if link is not None and link.up and link.echo != session:
            self._end(link, LossReason.RESTARTED)
            link = None
        if echo and (link is None or not known):
            # It speaks of one that is over, and has to learn that first: else both might begin
            # anew because of each other, for ever.
            self._close(node, LinkHead(0, session), orderly=False)
            return
        if link is None:
            if not self.willing(node, message.urgent, now_ns):
                return
            self.open(node, now_ns, urgent=False)
            link = self._links.get(node)
            if link is None:
                return
        opening = not link.up
        answer = link.heard(message)
        if opening and link.up:
            self._tell_up(link)
            answer = True
        if answer:
            self._say_open(link)
        self._work(link, now_ns)

    def _tell_up(self, link: UdpLink) -> None:
        self._outputs.counters["udp_links"] += 1
        self.inputs.append(
            LinkUp(link=link.link, accepted=link.node < self._node, rails=self.rails)
        )

    def acks(self, now_ns: int) -> bool:
        """Whether one of them is about to say what lacks."""
        return any(link.lacks(now_ns) for link in self._links.values())

    def due(self, node: int, now_ns: int) -> None:
        """A deadline of a link has come."""
        link = self._links.get(node)
        if link is None:
            return
        if link.given_up(now_ns):
            self._end(link, LossReason.TIMED_OUT if link.up else LossReason.UNREACHABLE, say=True)
            return
        again = link.retransmit(now_ns)
        self._send(link, again)
        if again:
            self._cast(node, again[0].rail, encode_ask(link.asking()))
        self._work(link, now_ns)

    # -------------------------------------------------------------------------------- outputs

    def _work(self, link: UdpLink, now_ns: int) -> None:
        """Send what may go, say what has come, and see when to look again."""
        if link.opens(now_ns):
            self._say_open(link)
        self._send(link, link.send(now_ns))
        ack = link.ack(self.incomplete, now_ns)
        if ack is not None:
            self._cast(link.node, link.rail, encode_ack(ack))
        if link.has_room:
            link.refused = False
            self.inputs.append(Writable(link=link.link))
        if link.closing_ns and link.drained:
            self._end(link, LossReason.LOCAL, say=True, orderly=True)
            return
        self._arm(link)

    def _arm(self, link: UdpLink) -> None:
        next_ns = link.next_ns
        if next_ns is not None:
            self._timers.arm(Timer.LINK, link.node, next_ns)
        else:
            self._timers.stop(Timer.LINK, link.node)

    def _send(self, link: UdpLink, sends: Sequence[Send]) -> None:
        for it in sends:
            frame = self._framer.link(it.body)
            cast = Cast((link.node,), it.rail, frame, link.session, it.number, it.pieces)
            self._outputs.casts.append(cast)

    def _say_open(self, link: UdpLink) -> None:
        """On every rail: it is not known which of them works."""
        for rail in self.rails:
            self._cast(link.node, rail, encode_open(link.opening()))

    def _cast(self, node: int, rail: str, body: bytes) -> None:
        self._outputs.casts.append(Cast((node,), rail, self._framer.link(body)))

    def _close(self, node: int, head: LinkHead, *, orderly: bool) -> None:
        for rail in self.rails:
            self._cast(node, rail, encode_close(Close(head, orderly)))

    def _end(
        self, link: UdpLink, reason: LossReason, *, say: bool = False, orderly: bool = False
    ) -> None:
        del self._links[link.node]
        del self._by_number[link.link]
        self._timers.stop(Timer.LINK, link.node)
        if say and link.echo:
            self._close(link.node, link.head, orderly=orderly)
        self.inputs.append(LinkLost(link=link.link, reason=reason))


def _never(node: int, urgent: bool, now_ns: int) -> bool:
    del node, urgent, now_ns
    return False
