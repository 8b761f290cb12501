"""Guaranteed delivery inside one view: numbers, order, acknowledgements, windows.

Per view, sender and lane there is one stream of batches (PROTOCOL 4). A batch goes to each
addressee over its association; frames are lost only with an association, so there is no
retransmission timer: when a new association to a member of the same view is there, its first
acknowledgement says where to go on. The same acknowledgement opens a new view: nothing is sent
to a member that has not said that it installed it.

What happens between two views (report, fetch, deliver up to the cut) is in `flush.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from ..config import Limits, Timing
from ..drivers.base import Stream
from ..events import MULTICAST, Lane, View
from ..wire import Ack, End
from ..wire_data import ORDERED_LANE, Data, Meeting, StreamKey, decode_data
from .acks import Acks
from .batches import Arrived, size_of
from .carrying import Carrying
from .casting import Casting
from .choir import release, speak
from .epochs import Ending, Epochs
from .framing import Framer
from .meetings import Bundle
from .numbering import number_all
from .ordered import OrderedLane
from .outputs import Delivered, Outputs, Settled, Transmit
from .overtaking import too_early
from .peers import Peers
from .streams import Holders, InStream, OutStream
from .timers import Timer, TimerTable

_LANES: Final = {int(lane): lane for lane in MULTICAST}
_ORDERED: Final = Lane.ORDERED


class Delivery:
    """All streams of the installed view, sending and receiving."""

    def __init__(
        self,
        *,
        node: int,
        limits: Limits,
        timing: Timing,
        framer: Framer,
        peers: Peers,
        timers: TimerTable,
        outputs: Outputs,
        casting: Casting,
    ) -> None:
        self.node = node
        self.limits = limits
        self.timing = timing
        self._lazy_end_ns = timing.lazy_end_ns
        self._done_delay_ns = timing.done_delay_ns
        self._recast_ns = timing.recast_ns
        self.framer = framer
        self.peers = peers
        self.timers = timers
        self.outputs = outputs
        self.fan_out = casting.fan_out
        self.view: View | None = None
        self.closed = True
        """No new batch, END or acknowledgement, and nothing is delivered."""
        self.ordered = OrderedLane(node=node, limits=limits, outputs=outputs)
        self.out: dict[tuple[int, Lane], OutStream] = {}
        self.directs = False
        """Some of these are to one member alone."""
        self.ins: dict[StreamKey, InStream] = {}
        self._of_order: dict[int, InStream] = {}
        """The ordered multicasts of each member, which are among `ins`."""
        self._early_acks: dict[int, Ack] = {}
        self._holders = Holders(self.ins, ())
        self.acks = Acks(limits=limits, timing=timing, framer=framer, timers=timers)
        self._frozen_at: dict[int, tuple[int, ...]] = {}
        """Lanes that the applications of other members do not read, as far as they have said."""
        self.carrying = Carrying(
            out=self.out,
            limits=limits,
            timing=timing,
            framer=framer,
            peers=peers,
            timers=timers,
            outputs=outputs,
            casting=casting,
        )
        self._stable_before = 0
        """The last stable epoch when `Timer.STABLE` was armed."""
        self.gaps: set[int] = set()
        """Members of whom something was dropped, because what comes before it is not here."""
        self.fifo = self.stream_to(0, Lane.FIFO)
        self.bulk = self.stream_to(0, Lane.BULK)
        self.entries = self.stream_to(0, Lane.ORDERED)
        """Our multicasts, which are among `out`."""

    # ------------------------------------------------------------------------------- sending

    def stream_to(self, addressee: int, lane: Lane) -> OutStream:
        """The sending half to one member, or to all (0)."""
        stream = self.out.get((addressee, lane))
        if stream is None:
            stream = OutStream(origin=self.node, addressee=addressee, lane=lane, limits=self.limits)
            if self.view is not None:
                stream.start(self._addressees(addressee))
            self.out[addressee, lane] = stream
            self.directs |= addressee != 0
            for node in stream.progress:
                self._freeze_out(node)
        return stream

    def _addressees(self, addressee: int) -> list[int]:
        assert self.view is not None, "streams have addressees only in a view"
        if addressee:
            return [addressee] if addressee in self.view.members else []
        return [member for member in self.view.members if member != self.node]

    def submit(
        self, addressee: int, lane: Lane, channel: bytes, payload: bytes, *, safe: bool = False
    ) -> int:
        """Queue a message; returns its token, or 0 if there is no room (then `Room` follows)."""
        stream = self.stream_to(addressee, lane)
        if not stream.room_for(len(payload)):
            stream.full = True
            return 0
        return stream.accept(payload, channel, safe=safe)

    def submit_entry(
        self, channel: bytes, payload: bytes, *, safe: bool, meeting: Meeting | None
    ) -> None:
        """Queue an entry of a layer on the ordered lane."""
        self.entries.accept_entry(payload, channel, safe=safe, meeting=meeting)

    def numbered(self, lane: Lane) -> int:
        """Up to which token the multicasts of a lane have been numbered."""
        return self.out[0, lane].token_numbered

    def unnumbered(self, lane: Lane) -> int:
        """The token of the last multicast on a lane; 0 if all of them have been numbered."""
        return self.out[0, lane].unnumbered

    def flush(self, now_ns: int, *, may_number: bool) -> None:
        """Number what the windows allow, close the epoch, and hand over what is new."""
        if self.view is None or self.closed:
            release(self, now_ns)
            return
        if may_number:
            number_all(self, self.view, now_ns)
        if self.ordered.choir.data is not None:
            speak(self, now_ns)
        self.settle_order()
        endings = self.ordered.turn(now_ns)
        self.carrying.push_all(now_ns)
        if endings:
            self.carrying.say(endings, now_ns)
            self.ordered.told(endings[-1].done)
        meetings = self.ordered.meetings
        if meetings.relaying:
            # An epoch that somebody waits for is held up by nothing that waits here.
            self._pass_on(meetings.asked(self.epochs.asked))
        if self.ordered.urgent:
            self.timers.arm_earlier(Timer.ACK, "", now_ns)

    # ----------------------------------------------------------------------------- receiving

    def receive(
        self, node: int, frame: bytes, offset: int, now_ns: int, *, beside: bool = False
    ) -> None:
        """A batch, from its sender or from another holder; `beside`: not over the association."""
        data = decode_data(frame, offset)
        counters = self.outputs.counters
        if data is None or data.lane not in _LANES:
            counters["malformed_data"] += 1
            return
        if self.view is None or not self.ordered.is_here(data):
            counters["data_of_other_view"] += 1
            return
        stream = self._stream_of(data)
        if stream is None:
            if data.origin == self.node:
                self.ordered.told(data.done)  # ours, passed on to everybody
            else:
                counters["data_of_no_member"] += 1
            return
        if data.lane == ORDERED_LANE:
            release(self, now_ns)
        arrived = Arrived(data, frame, offset)
        if data.sequence <= stream.held:
            counters["duplicates"] += 1
            self.acks.note(stream.key, 0, now_ns)
        elif data.sequence > stream.held + 1:
            if not (beside and stream.keep_copy(arrived, now_ns)):
                too_early(self, node, stream, arrived, now_ns)
        else:
            self._next(stream, arrived, now_ns)
            if stream.early:
                while later := stream.early.pop(stream.held + 1, None):
                    self._next(stream, later, now_ns)
                stream.early_since_ns = now_ns
                self.acks.hurry(now_ns)

    def _next(self, stream: InStream, arrived: Arrived, now_ns: int) -> None:
        """The next batch of a stream."""
        data = arrived.data
        stream.held = data.sequence
        if self._holders.others(stream.key):
            # Another member may lack it one day; in a view of two there is none.
            stream.kept[data.sequence] = arrived
        if self.closed:
            stream.waiting.append(arrived)
        elif data.lane == ORDERED_LANE:
            if data.channel[:1] != "!":
                self.acks.note(stream.key, len(arrived.frame), now_ns)
            bundles = self.ordered.arrived(stream, arrived, now_ns)
            if bundles:
                self._pass_on(bundles)
        else:
            self.acks.note(stream.key, len(arrived.frame), now_ns)
            self.hand_over(stream, arrived)

    def _stream_of(self, data: Data) -> InStream | None:
        if data.lane == ORDERED_LANE and not data.addressee:
            return self._of_order.get(data.origin) if data.origin != self.node else None
        stream = self.ins.get(key := data.key)
        if stream is not None:
            return stream if key.origin != self.node else None
        assert self.view is not None, "checked by the caller"
        ours = key.addressee == self.node and key.origin in self.view.members
        if not ours or key.lane == Lane.ORDERED or key.origin == self.node:
            return None
        stream = self.ins[key] = InStream(key)
        return stream

    def hand_over(self, stream: InStream, arrived: Arrived) -> None:
        """Deliver a batch of the FIFO or BULK lane, or a directed one."""
        stream.delivered = arrived.data.sequence
        payloads = stream.assemble(arrived.data, arrived.frame, self.limits.message_bytes_max)
        if payloads is None:
            self.outputs.counters["malformed_batch"] += 1
        elif payloads:
            self.deliver(arrived.data, payloads)

    def deliver(self, data: Data, payloads: list[bytes]) -> None:
        """The messages of a batch go into the stream."""
        self.outputs.stream.append(
            Delivered(
                data.origin,
                _LANES[data.lane],
                data.channel,
                bool(data.addressee),
                payloads,
                data.view_id,
                data.sequence,
                size_of(payloads),
            )
        )

    # ------------------------------------------------------------------------------- epochs

    @property
    def epochs(self) -> Epochs:
        """Of the installed view."""
        return self.ordered.epochs

    def lazy_over(self, now_ns: int) -> None:
        """Nothing of ours has come, so the epochs that others have closed are closed here."""
        since_ns, patience_ns = self.ordered.lazy_since_ns(now_ns), self.timing.lazy_end_ns
        if not self.closed and since_ns is not None and now_ns >= since_ns + patience_ns:
            release(self, now_ns)
            waiting = self.ordered.meetings.give_up()
            self.outputs.counters["meetings_given_up"] += len(waiting)
            self.outputs.counters["epochs_given_up"] += self.epochs.lazy > 0
            self._pass_on(waiting)
            self.epochs.give_up()

    def _pass_on(self, bundles: Sequence[Bundle]) -> None:
        self.carrying.bundle(bundles)
        self.passed_on(bundles)

    def passed_on(self, bundles: Sequence[Bundle]) -> None:
        """Who passes on to everybody tells everybody what its own batch says."""
        if any(len(bundle.nodes) > 1 for bundle in bundles):
            self.ordered.told(self.ordered.stamped)

    def due(self, now_ns: int) -> None:
        """At the end of a turn: what has to be said later, if nothing else says it before."""
        if self.closed:
            return
        timers, lazy_ns = self.timers, self.ordered.lazy_since_ns(now_ns)
        if lazy_ns is not None:
            timers.arm_earlier(Timer.LAZY, "", lazy_ns + self._lazy_end_ns)
        since_ns, epochs = self.ordered.untold_since_ns, self.epochs
        if since_ns is not None:
            timers.arm_earlier(Timer.ACK, "", since_ns + self._done_delay_ns)
        if epochs.complete > epochs.stable and not timers.armed(Timer.STABLE):
            self._stable_before = epochs.stable
            timers.arm(Timer.STABLE, "", now_ns + self._done_delay_ns + self._recast_ns)

    def ask_who_holds(self) -> None:
        """What is complete here seems not to be so everywhere, but that may only not have come.

        An END that its receiver has heard before asks for an answer (`end`).
        """
        self.settle_order(now=True)
        epochs = self.epochs
        waits = epochs.complete > epochs.stable == self._stable_before
        if self.closed or not waits:
            return
        for node in sorted(self.carrying.synced & epochs.lacking()):
            self.outputs.counters["holders_asked"] += 1
            self.carrying.say_to(node, (epochs.ending(epochs.stable + 1),))

    def end(self, node: int, end: End, now_ns: int) -> None:
        """A member has closed an epoch."""
        if self.view is None or end.view_id != self.view.id or self.closed:
            self.outputs.counters["end_of_other_view"] += 1
            return
        release(self, now_ns)
        if end.epoch <= self.epochs.complete:
            # Said again, so that what this node has said since then did not come to it.
            self.send_full_ack(node)
        self.ordered.ended(node, Ending(end.epoch, end.sequence, end.done), now_ns)

    # ----------------------------------------------------------------------- acknowledgements

    def send_acks(self, now_ns: int, *, at_once: bool = False) -> None:
        """Tell everybody what has arrived since the last time."""
        ordered, since_ns = self.ordered, self.ordered.untold_since_ns
        if self.view is None or self.closed:
            return
        if not at_once and self._told_otherwise(since_ns, now_ns):
            return
        overdue = since_ns is not None and now_ns >= since_ns + self.timing.done_delay_ns
        light = not (self.acks.due or at_once)
        if light and not (ordered.urgent or overdue):
            # What layers say next acknowledges what they said before; `due` looks again.
            return
        if since_ns is not None:
            self.acks.dirty.update(k for k in self.ins if k.lane == Lane.ORDERED)
        ordered.all_told()
        shared, directed = self.acks.take()
        for key in shared:
            self._holders.forget(key)
        common = self._ack_frame(shared) if shared or since_ns is not None else b""
        if light:
            # Nobody's window waits for it, so that it may be lost.
            self.carrying.tell(self.carrying.synced, common)
            return
        own = {node: self._ack_frame(shared + keys) for node, keys in directed.items()}
        self.carrying.acknowledge(common, own)

    def _told_otherwise(self, since_ns: int | None, now_ns: int) -> bool:
        """By the next END; or to the senders by datagrams, which costs less, and to all soon."""
        if since_ns is not None:
            return not self.ordered.urgent and self.acks.wait_for_ends(since_ns, now_ns)
        keys = self.acks.put_off(self.carrying.reached, now_ns)
        if keys:
            self.carrying.tell({key.origin for key in keys}, self._ack_frame(keys))
        return keys is not None

    def send_full_ack(self, node: int, *, resync: bool = False) -> None:
        """Tell one member everything: on a new association, in a new view, after a gap."""
        peer = self.peers.peers.get(node)
        if self.view is None or self.closed or peer is None or not peer.link:
            return
        keys = [key for key in self.ins if not key.addressee or key.origin == node]
        frame = self._ack_frame(sorted(keys), resync=resync)
        self.outputs.transmits.append(Transmit(peer.link, Stream.CONTROL, frame))

    def _ack_frame(self, keys: list[StreamKey], *, resync: bool = False) -> bytes:
        assert self.view is not None, "checked by the callers"
        streams = [self.ins[key] for key in keys]
        return self.acks.frame(self.view.id, streams, self.epochs.complete, resync=resync)

    def acknowledged(self, node: int, ack: Ack, now_ns: int, *, datagram: bool = False) -> None:
        """A member says what it holds, which only grows, and over its association what it reads."""
        if self.view is None or ack.view_id > self.view.id:
            self._early_acks[node] = ack
            return
        if ack.view_id != self.view.id or node not in self.view.members:
            self.outputs.counters["ack_of_other_view"] += 1
            return
        for origin, addressee, lane, held, taken, beyond in ack.entries:
            if origin != self.node:
                self._holders.hold(StreamKey(origin, addressee, lane), node, held)
                continue
            stream = self.out.get((addressee, _LANES.get(lane, Lane.CONTROL)))
            if stream is not None:
                stream.acknowledged(node, held, taken, beyond)
                if lane == Lane.BULK or self.carrying.held_up:
                    self.carrying.to_push = True  # There is room for more on its way to it.
                self.settle(stream, _LANES[lane])
        if not datagram and ack.frozen != self._frozen_at.get(node, ()):
            self._frozen_at[node] = ack.frozen
            self._note_frozen(node, now_ns)
        self.epochs.member_done(node, ack.done)
        if node not in self.carrying.synced or ack.resync:
            self._sync(node, now_ns)

    def _sync(self, node: int, now_ns: int) -> None:
        """Go on where the member is."""
        self.carrying.sync(node, now_ns)
        # What came from it before it was synced has been acknowledged to others only.
        self.acks.dirty.update(k for k in self.ins if k.origin == node or not k.addressee)
        if not self.closed:
            # Both ENDs and what is complete: what was said of either before never came to it.
            self.carrying.say_to(node, list(self.epochs.own_ends))
            self.timers.arm_earlier(Timer.ACK, "", now_ns + self.timing.ack_delay_ns)

    def _note_frozen(self, node: int, now_ns: int) -> None:
        """Who does not read the order holds the others up."""
        self._freeze_out(node)
        self.ordered.slowness.unread(node, now_ns, unread=int(_ORDERED) in self._frozen_at[node])

    def _freeze_out(self, node: int) -> None:
        """Number nothing more for lanes that a member's application does not read."""
        frozen = self._frozen_at.get(node, ())
        for (_, lane), stream in self.out.items():
            stream.freeze(node, frozen=int(lane) in frozen)

    def settle_order(self, *, now: bool = False) -> None:
        """Forget what every member holds of the ordered lane (`OrderedLane.settle`)."""
        if self.ordered.settle(self.entries, now=now):
            self.carrying.to_push |= self.carrying.held_up
            self.settle(self.entries, _ORDERED)

    def settle(self, stream: OutStream, lane: Lane) -> None:
        """Say what every addressee holds, if that is news."""
        token = stream.settle()
        if token is not None:
            self.outputs.stream.append(
                Settled(addressee=stream.key.addressee, lane=lane, token=token, missing={})
            )

    def freeze(self, lane: Lane, *, frozen: bool, now_ns: int) -> None:
        """The application's queue is full (or has room again): grant no more window, or do."""
        self.acks.freeze(lane, frozen=frozen, streams=self.ins, now_ns=now_ns)

    # --------------------------------------------------------------------- views and peers

    def start_view(self, view: View, now_ns: int) -> None:
        """Install: every stream begins anew, and members are told that we are here."""
        self.view = view
        self.closed = False
        self.acks.begin()
        self.gaps.clear()
        keys = [StreamKey(member, 0, lane) for member in view.members for lane in MULTICAST]
        self.ins = {key: InStream(key) for key in keys}
        self._of_order = {m: self.ins[StreamKey(m, 0, Lane.ORDERED)] for m in view.members}
        self.ordered.start(view, self._of_order)
        self.carrying.start(view.id, self.epochs)
        others = [member for member in view.members if member != self.node]
        self._holders = Holders(self.ins, others)
        for (addressee, _), stream in self.out.items():
            stream.start(self._addressees(addressee))
        # What a member does not read it has said before; of the others a newcomer waits to hear.
        unknown = () if self._frozen_at else tuple(map(int, MULTICAST))
        self._frozen_at = {node: self._frozen_at.get(node, unknown) for node in others}
        for node in others:
            self._note_frozen(node, now_ns)
            self.send_full_ack(node)
        early, self._early_acks = self._early_acks, {}
        for node, ack in early.items():
            if ack.view_id >= view.id and self.peers.peers[node].link:
                self.acknowledged(node, ack, now_ns)

    def unlink(self, node: int) -> None:
        """The association to a node is gone: nothing goes to it until it says where it is."""
        self.carrying.unlink(node)
        self._early_acks.pop(node, None)

    def linked(self, node: int) -> None:
        """A new association to a node."""
        self.unlink(node)
        if self.view is not None and node in self.view.members:
            self.send_full_ack(node)

    def all_held(self, gone: Collection[int]) -> bool:
        """Whether all members but those `gone` hold what was accepted, and delivered, here."""
        self.settle_order(now=True)
        ordered = self.epochs.done_without(gone) >= self.epochs.complete
        return ordered and all(stream.held_without(gone) for stream in self.out.values())
