"""How numbered batches and ENDs get to the members: over associations, or as datagrams first.

What goes over an association arrives while that lives; on the next one the member's first
acknowledgement says where to go on (`synced`). What goes on the ordered and on the bulk lane is
cast as datagrams where these arrive, and sent again over the association when the member has not
said in time that it has them. Batches of a meeting may come to a member by way of others
(`meetings.py`): then the same holds, only later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Final

from ..config import Limits, Timing
from ..drivers.base import CAST_BYTES_MAX, DATAGRAM_BYTES_MAX, Stream
from ..events import Lane, ViewId
from ..wire import End
from ..wire_roll import encode_roll
from .casting import Casting
from .epochs import Ending, Epochs
from .framing import HEADER_BYTES, Framer
from .meetings import Bundle
from .outputs import Outputs, Transmit
from .peers import Peers
from .streams import CAST_LANES, EARLY_MAX, OutStream
from .timers import Timer, TimerTable

STREAM_OF: Final = {Lane.ORDERED: Stream.ORDERED, Lane.FIFO: Stream.FIFO, Lane.BULK: Stream.BULK}
_ORDERED_STREAM: Final = Stream.ORDERED
_FIFO: Final = Lane.FIFO
_BULK: Final = Lane.BULK
BUNDLE_BYTES_MAX: Final = DATAGRAM_BYTES_MAX - HEADER_BYTES
"""What the bodies of a bundle take, their lengths included."""


class Carrying:
    """The way of one view's frames from this node to the others."""

    def __init__(
        self,
        *,
        out: Mapping[tuple[int, Lane], OutStream],
        limits: Limits,
        timing: Timing,
        framer: Framer,
        peers: Peers,
        timers: TimerTable,
        outputs: Outputs,
        casting: Casting,
    ) -> None:
        self._out = out
        self._bulk_most = limits.bulk_in_flight_bytes // limits.bulk_batch_bytes
        self._relayed_ns = timing.lazy_end_ns
        self._framer = framer
        self._peers = peers
        self._timers = timers
        self._outputs = outputs
        self._casting = casting
        self._view_id = ViewId(0, 0)
        self._epochs: Epochs | None = None
        self.synced: set[int] = set()
        """Members that have said on their current association what they hold in this view."""
        self._ends_cast: dict[int, deque[tuple[int, int]]] = {}
        """By member the epochs whose ENDs were cast, and when they are to be sent again."""
        self.to_push = False
        """Some member may be sent something that it could not be sent before."""
        self.held_up = False
        """Some member is to be sent more when it says that it holds what it was sent."""
        self.pushed = False
        """Something was sent whose arrival is worth a look."""

    def start(self, view_id: ViewId, epochs: Epochs) -> None:
        """A view is installed."""
        self._view_id = view_id
        self._epochs = epochs
        self.synced.clear()
        self._ends_cast.clear()
        self._casting.fan_out.begin()

    # ------------------------------------------------------------------------------- batches

    def push_all(self, now_ns: int) -> None:
        """Hand over whatever members have not been sent yet."""
        if not self.to_push:
            return
        self.to_push = self.held_up = False
        for (addressee, lane), stream in self._out.items():
            last = stream.last
            behind = [
                node
                for node, progress in stream.progress.items()
                if progress.sent < last and node in self.synced
            ]
            if behind and lane is not _FIFO:
                if addressee:
                    behind = self._cast_alone(stream, lane, addressee, now_ns)
                else:
                    behind = self._cast_batches(stream, lane, behind, now_ns)
            for node in behind:
                self.push(stream, lane, node)

    def _cast_batches(
        self, stream: OutStream, lane: Lane, nodes: list[int], now_ns: int
    ) -> list[int]:
        """Cast what there is room for to whom datagrams arrive; returns who is left."""
        rails = self._casting.rails
        lasts: dict[int, int] = {}
        left: list[int] = []
        for node in nodes:
            last = self._castable(stream, lane, node) if node in rails else -1
            if last < 0:
                left.append(node)
            else:
                lasts[node] = last
        fan_out = self._casting.fan_out
        if fan_out.mends:
            fan_out.leave(left)
            if lasts:
                self._cast_together(stream, lasts, now_ns)
            return left
        # Members that have been sent the same are sent the rest as one.
        groups: dict[tuple[int, int], list[int]] = {}
        for node, last in lasts.items():
            groups.setdefault((stream.progress[node].sent, last), []).append(node)
        for (_, last), group in groups.items():
            self._cast_up_to(stream, group, last, now_ns)
        return left

    def _cast_alone(self, stream: OutStream, lane: Lane, node: int, now_ns: int) -> list[int]:
        """The same for what goes to one member alone, and to no group."""
        last = self._castable(stream, lane, node) if node in self._casting.rails else -1
        if last < 0:
            return [node]
        progress = stream.progress[node]
        for sequence in range(progress.sent + 1, last + 1):
            self._casting.cast((node,), stream.sent[sequence].frame)
        if last > progress.sent:
            self._note_cast(stream, node, last, now_ns + self._casting.wait_ns(node))
        return []

    def _cast_to(self, node: int) -> list[tuple[OutStream, Lane]]:
        """The streams by which a member is sent datagrams."""
        streams = [(self._out[0, lane], lane) for lane in CAST_LANES]
        directed = self._out.get((node, _BULK))
        if directed is not None:
            streams.append((directed, _BULK))
        return streams

    def _cast_together(self, stream: OutStream, lasts: dict[int, int], now_ns: int) -> None:
        """Members that are sent the same datagrams: all wait for the slowest.

        Whoever is behind the others is sent what it lacks by itself, as far as it has room; if then
        all have been sent the same, they go on.
        """
        nodes, progress = list(lasts), stream.progress
        top = max([progress[node].sent for node in nodes])
        most = min(lasts.values())
        for node, last in lasts.items():
            self._cast_up_to(stream, [node], min(last, top), now_ns)
            self.held_up |= last > most
        if most > top:
            self._cast_up_to(stream, nodes, most, now_ns)
        elif most < top:
            self.held_up = True

    def _cast_up_to(self, stream: OutStream, nodes: list[int], last: int, now_ns: int) -> None:
        """Cast to members that have been sent the same."""
        sent = stream.progress[nodes[0]].sent
        if last <= sent:
            return
        for sequence in range(sent + 1, last + 1):
            self._casting.cast_batch(nodes, stream.sent[sequence].frame)
        for node in nodes:
            self._note_cast(stream, node, last, now_ns + self._casting.wait_ns(node))

    def _castable(self, stream: OutStream, lane: Lane, node: int) -> int:
        """Up to which batch a member is cast now; -1 if it is its association that takes them."""
        progress, batches = stream.progress[node], stream.sent
        sent, last = progress.sent, stream.last
        if last == sent + 1 and batches[last].size <= DATAGRAM_BYTES_MAX:
            return last  # a small one alone: whatever is on its way, it does no harm
        if lane is _BULK:
            most = min(self._bulk_most + progress.beyond, EARLY_MAX)
            last = min(last, progress.held + most)
        flying = sum(it.in_flight_bytes(node) for it, _ in self._cast_to(node))
        window = self._casting.window_bytes(node)
        for sequence in range(sent + 1, last + 1):
            size = batches[sequence].size
            flying += size
            if size <= DATAGRAM_BYTES_MAX:
                continue
            if size > CAST_BYTES_MAX or not window:
                return -1
            if flying > window and flying > size:
                self._casting.filled(node)
                last = sequence - 1
                break
        self.held_up |= last < stream.last
        return last

    def _note_cast(self, stream: OutStream, node: int, last: int, again_ns: int) -> None:
        """Everything up to a batch is on its way to a member, without any promise."""
        progress = stream.progress[node]
        for sequence in range(progress.sent + 1, last + 1):
            progress.cast.append((sequence, again_ns))
        progress.sent = last
        self._timers.arm_earlier(Timer.RECAST, "", again_ns)

    def push(self, stream: OutStream, lane: Lane, node: int) -> None:
        """Hand over what a member has not been sent, as far as its association takes it."""
        peer = self._peers.peers[node]
        progress = stream.progress[node]
        last = stream.last
        if lane is _BULK:
            # Bulk inside the association would stand before a barrier entry of the same peer.
            last = min(last, progress.held + self._bulk_most)
        if not peer.link or not peer.writable:
            return
        number = Stream.REPAIR if progress.detour else STREAM_OF[lane]
        transmits, casting = self._outputs.transmits, self._casting
        doubles = casting.doubles(node)
        if doubles:
            doubles = stream.in_flight_bytes(node) <= casting.window_bytes(node)
        for sequence in range(progress.sent + 1, last + 1):
            frame = stream.sent[sequence].frame
            transmits.append(Transmit(peer.link, number, frame))
            if doubles:
                casting.beside(node, frame)
        progress.sent = max(progress.sent, last)
        self.pushed = True

    def relayed(self, stream: OutStream, bundles: Iterable[Bundle], now_ns: int) -> None:
        """The last batch goes to some, who pass it on to the others."""
        last, everybody = stream.last, stream.progress.values()
        before = last - 1
        if len(self.synced) == len(everybody):
            for progress in everybody:
                if progress.sent != before:
                    break
                progress.sent = last
            else:
                again_ns = now_ns + self._relayed_ns + self._casting.recast_ns
                stream.relayed.append((last, again_ns))
                self._timers.arm_earlier(Timer.RECAST, "", again_ns)
                self.bundle(bundles)
                return
        self._relayed_to_some(stream, now_ns)
        self.bundle(bundles)

    def _relayed_to_some(self, stream: OutStream, now_ns: int) -> None:
        """The same, where not all have been sent what comes before."""
        last, since_ns = stream.last, now_ns + self._relayed_ns
        for node, progress in stream.progress.items():
            if progress.sent < last - 1:
                self.to_push = True
            elif node in self.synced:
                again_ns = since_ns + self._casting.wait_ns(node)
                progress.cast.append((last, again_ns))
                progress.sent = last
                self._timers.arm_earlier(Timer.RECAST, "", again_ns)

    @property
    def reached(self) -> Set[int]:
        """At whom datagrams arrive."""
        return self._casting.rails.keys()

    def tell(self, nodes: Set[int], frame: bytes) -> None:
        """Say to members what may be lost, as a datagram where these arrive."""
        small, to = len(frame) <= DATAGRAM_BYTES_MAX, sorted(self.synced & nodes)
        cast = [node for node in to if small and node in self._casting.rails]
        if cast:
            self._casting.hint(cast, frame)
        for node in to:
            if node not in cast:
                link = self._peers.peers[node].link
                self._outputs.transmits.append(Transmit(link, Stream.CONTROL, frame))

    def acknowledge(self, common: bytes, own: Mapping[int, bytes]) -> None:
        """Over associations: the same frame to everybody, or one of its own."""
        for node in sorted(self.synced):
            frame, link = own.get(node, common), self._peers.peers[node].link
            if frame and link:
                self._outputs.transmits.append(Transmit(link, Stream.CONTROL, frame))
                if self._casting.doubles(node):
                    self._casting.beside(node, frame)

    def bundle(self, bundles: Iterable[Bundle]) -> None:
        """Send batches of several members in as few frames as they take."""
        for bundle in bundles:
            nodes = bundle.nodes
            for frame in (bundle.frame,) if bundle.frame else self._frames(bundle.bodies):
                cast = [node for node in nodes if node in self._casting.rails]
                if cast:
                    self._casting.cast(cast, frame)
                for node in nodes:
                    link = self._peers.peers[node].link
                    if link and node not in cast:
                        self._outputs.transmits.append(Transmit(link, _ORDERED_STREAM, frame))

    def _frames(self, bodies: Sequence[bytes]) -> list[bytes]:
        """A roll where they are alike, else bundles."""
        roll = encode_roll(bodies) if len(bodies) > 1 else None
        if roll is not None and len(roll) <= BUNDLE_BYTES_MAX:
            return [self._framer.roll(roll)]
        return [self._framer.bundle(part) for part in _parts(bodies)]

    # ---------------------------------------------------------------------------------- ENDs

    def say(self, endings: Sequence[Ending], now_ns: int) -> None:
        """Say to everybody which epochs are closed here."""
        rails = self._casting.rails
        cast = [node for node in sorted(self.synced) if node in rails]
        for ending in endings if cast else ():
            self._casting.cast(cast, self._end(ending))
        for node in cast:
            waiting = self._ends_cast.setdefault(node, deque())
            again_ns = now_ns + self._casting.wait_ns(node)
            waiting.extend((ending.epoch, again_ns) for ending in endings)
            self._timers.arm_earlier(Timer.RECAST, "", again_ns)
        for node in sorted(self.synced):
            if node not in rails:
                self.say_to(node, endings)

    def say_to(self, node: int, endings: Iterable[Ending], stream: Stream = Stream.ORDERED) -> None:
        """Say it to one member, over its association."""
        link = self._peers.peers[node].link
        self.pushed = True
        for ending in endings:
            self._outputs.transmits.append(Transmit(link, stream, self._end(ending)))

    def _end(self, ending: Ending) -> bytes:
        epoch, sequence, done = ending
        return self._framer.message(
            End(view_id=self._view_id, epoch=epoch, sequence=sequence, done=done)
        )

    # ------------------------------------------------------------------------------ once more

    def recast(self, now_ns: int) -> None:
        """Send over associations what was cast and is not acknowledged in time."""
        again = self._tell_relayed_apart(self._out[0, Lane.ORDERED], now_ns)
        for node in sorted(self.synced):
            for stream, lane in self._cast_to(node):
                at_ns = self._recast(stream, lane, node, now_ns)
                if at_ns:
                    again.append(at_ns)
            again += self._repeat_ends(node, now_ns)
        if again:
            self._timers.arm_earlier(Timer.RECAST, "", min(again))

    def _tell_relayed_apart(self, stream: OutStream, now_ns: int) -> list[int]:
        """Who lacks what went to all in time is sent it as if it alone had been; when to look."""
        relayed, lowest = stream.relayed, stream.held_by_all()
        if relayed and relayed[0][0] <= lowest:
            while relayed and relayed[0][0] <= lowest:
                relayed.popleft()
            for node in self.synced:
                self._casting.confirmed(node)
        if not relayed or relayed[0][1] > now_ns:
            return [relayed[0][1]] if relayed else []
        for node in self.synced:
            progress = stream.progress[node]
            more_ns = self._casting.wait_ns(node) - self._casting.recast_ns
            lacking = {
                sequence: at_ns + more_ns for sequence, at_ns in relayed if sequence > progress.held
            }
            progress.cast = deque(sorted({**lacking, **dict(progress.cast)}.items()))
        relayed.clear()
        return []

    def _recast(self, stream: OutStream, lane: Lane, node: int, now_ns: int) -> int:
        """The same for a stream and a member; returns when to look again, 0 for never."""
        progress = stream.progress[node]
        cast = progress.cast
        if cast and cast[0][0] <= progress.held:
            self._casting.confirmed(node)
            while cast and cast[0][0] <= progress.held:
                cast.popleft()
        if not cast:
            return 0
        if cast[0][1] > now_ns:
            return cast[0][1]
        numbered = not stream.key.addressee and progress.asked < progress.held
        if numbered and self._casting.fan_out.ask(node, now_ns):
            # It goes forward, so that only what it still lacks is to be sent again.
            progress.asked = progress.held
            again_ns = now_ns + self._casting.wait_ns(node)
            progress.cast = deque([(sequence, again_ns) for sequence, _ in cast])
            return again_ns
        self._casting.failed(node, now_ns)
        link = self._peers.peers[node].link
        number = Stream.REPAIR if progress.detour else STREAM_OF[lane]
        for sequence, _ in cast:
            frame = stream.sent[sequence].frame
            self._outputs.transmits.append(Transmit(link, number, frame))
            self._casting.again(node, frame)
        self.pushed = True
        self.to_push |= self.held_up
        cast.clear()
        return 0

    def _repeat_ends(self, node: int, now_ns: int) -> list[int]:
        """Whether a member has an END is only known when it has all of the epoch."""
        assert self._epochs is not None, "nothing is cast without a view"
        waiting = self._ends_cast.get(node)
        if not waiting:
            return []
        done = self._epochs.done_of(node)
        while waiting and waiting[0][0] <= done:
            waiting.popleft()
        if not waiting or waiting[0][1] > now_ns:
            return [waiting[0][1]] if waiting else []
        due = {epoch for epoch, _ in waiting}
        waiting.clear()
        endings = [ending for ending in self._epochs.own_ends if ending.epoch in due]
        self.say_to(node, endings)
        for ending in endings:
            self._casting.again(node, self._end(ending))
        return []

    # ---------------------------------------------------------------------------------- peers

    def sync(self, node: int, now_ns: int) -> None:
        """Go on where a member is: everything it does not hold goes to it again."""
        if node in self.synced and any(self._awaited(it, node) for it, _ in self._cast_to(node)):
            self._casting.failed(node, now_ns)  # It says so before its time is over.
        self.synced.add(node)
        self.to_push = True
        self._ends_cast.pop(node, None)
        for stream in self._out.values():
            progress = stream.progress.get(node)
            if progress is not None:
                progress.sent = progress.held
                progress.cast.clear()

    def _awaited(self, stream: OutStream, node: int) -> bool:
        """Whether a member was cast anything that it is not known to hold."""
        progress = stream.progress.get(node)
        if progress is None:
            return False
        relayed = stream.relayed
        return bool(progress.cast) or bool(relayed and relayed[-1][0] > progress.held)

    def unlink(self, node: int) -> None:
        """The association to a node is gone: nothing goes to it until it says where it is."""
        self.synced.discard(node)
        self._casting.forget(node)


def _parts(bodies: Sequence[bytes]) -> Iterable[list[bytes]]:
    """Bodies for one frame each."""
    part: list[bytes] = []
    size = 0
    for body in bodies:
        size += len(body) + 2
        if part and size > BUNDLE_BYTES_MAX:
            yield part
            part, size = [], len(body) + 2
        part.append(body)
    if part:
        yield part
