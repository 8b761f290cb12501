"""Between two views: report what is held, fetch what is lacking, deliver up to the cut.

PROTOCOL 2, steps 2 to 4 and 6. The functions work on a `Delivery` whose view is closed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ..drivers.base import Stream
from ..events import Lane
from ..wire import CutEntry, Fetch, Held, Source
from ..wire_data import StreamKey
from .attempt import FAILURES_UNTIL_RESET
from .delivery import Delivery
from .numbering import abandon
from .outputs import Settled, Transmit

FETCH_MAX: Final = 1 << 16
"""Batches that one FETCH may ask for."""


class Flush:
    """The flush of one view, from the promise to the installation of the next."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._lacking: dict[StreamKey, Source] = {}
        self._asked: dict[tuple[StreamKey, int], tuple[int, int]] = {}
        """By stream and holder: from where on it was asked for, and in how many attempts."""

    def reset(self) -> None:
        """An attempt was given up: what it asked to hold is no longer asked."""
        self._lacking = {}

    # ------------------------------------------------------------------------------ reporting

    def held(self) -> tuple[Held, ...]:
        """How far each stream is held here, directed ones to this node included."""
        ins = self._delivery.ins
        return tuple(Held(*key, ins[key].held) for key in sorted(ins))

    def sent(self) -> tuple[Held, ...]:
        """How many batches were numbered for each single addressee."""
        streams = self._delivery.out.values()
        return tuple(
            Held(*stream.key, stream.last)
            for stream in streams
            if stream.key.addressee and stream.last
        )

    # ------------------------------------------------------------------------------- holding

    def hold(self, sources: Sequence[Source]) -> bool:
        """Fetch what is lacking of `sources`; True if nothing is."""
        delivery = self._delivery
        self._lacking = {}
        for source in sources:
            key = StreamKey(source.origin, source.addressee, source.lane)
            have = self._held_of(key)
            if have is None or have >= source.sequence or source.holder == delivery.node:
                continue
            self._lacking[key] = source
            self._fetch(key, have, source)
        return not self._lacking

    def _held_of(self, key: StreamKey) -> int | None:
        delivery = self._delivery
        if delivery.view is None or key.origin not in delivery.view.members:
            return None
        if key.addressee not in (0, delivery.node):
            return None
        stream = delivery.ins.get(key)
        return stream.held if stream is not None else 0

    def _fetch(self, key: StreamKey, have: int, source: Source) -> None:
        delivery = self._delivery
        assert delivery.view is not None, "checked by _held_of"
        peer = delivery.peers.peers.get(source.holder)
        if peer is None or not peer.link:
            delivery.outputs.counters["holder_unreachable"] += 1
            return
        before, times = self._asked.get((key, source.holder), (have, 0))
        times = times + 1 if before == have else 1
        self._asked[key, source.holder] = have, times
        if times > FAILURES_UNTIL_RESET:
            # Its answers do not come, although attempts do: SCTP may keep its repair stream back.
            self._asked = {it: asked for it, asked in self._asked.items() if it[1] != source.holder}
            delivery.outputs.counters["fetch_resets"] += 1
            delivery.peers.drop(source.holder)
            return
        delivery.outputs.counters["fetches"] += 1
        message = Fetch(
            view_id=delivery.view.id,
            origin=key.origin,
            addressee=key.addressee,
            lane=key.lane,
            first=have + 1,
            last=min(source.sequence, have + FETCH_MAX),
        )
        frame = delivery.framer.message(message, addressee=source.holder)
        delivery.outputs.transmits.append(Transmit(peer.link, Stream.CONTROL, frame))

    def holds_all(self) -> bool:
        """Whether everything asked for by the last `hold` has arrived."""
        self._lacking = {
            key: source
            for key, source in self._lacking.items()
            if (self._held_of(key) or 0) < source.sequence
        }
        return not self._lacking

    def serve(self, node: int, fetch: Fetch) -> None:
        """Give a member of our view what it lacks, from what is kept here."""
        delivery = self._delivery
        link = delivery.peers.peers[node].link
        if delivery.view is None or fetch.view_id != delivery.view.id or not link:
            delivery.outputs.counters["fetch_of_other_view"] += 1
            return
        key = StreamKey(fetch.origin, fetch.addressee, fetch.lane)
        for sequence in range(fetch.first, min(fetch.last, fetch.first + FETCH_MAX) + 1):
            frame = self._kept(key, node, sequence)
            if frame is None:
                break
            delivery.outputs.counters["repaired"] += 1
            delivery.outputs.transmits.append(Transmit(link, Stream.REPAIR, frame))

    def _kept(self, key: StreamKey, node: int, sequence: int) -> bytes | None:
        delivery = self._delivery
        if key.origin == delivery.node:
            lane = Lane(key.lane) if key.lane in set(Lane) else Lane.CONTROL
            stream = delivery.out.get((key.addressee, lane))
            if stream is None or key.addressee not in (0, node):
                return None
            sent = stream.sent.get(sequence)
            return sent.frame if sent else None
        body = self._body(key, sequence)
        # The header names who sends a frame, so another holder puts its own before the body.
        return delivery.framer.data(body, b"", addressee=node) if body is not None else None

    def _body(self, key: StreamKey, sequence: int) -> bytes | None:
        """The DATA body of another member's batch, if it is kept here."""
        delivery = self._delivery
        incoming = delivery.ins.get(key)
        kept = incoming.kept.get(sequence) if incoming else None
        if kept is not None:
            return kept.body
        if key.lane == Lane.ORDERED and not key.addressee:
            return delivery.ordered.rolled(key.origin, sequence)
        return None

    # ------------------------------------------------------------------------------- finishing

    def finish(self, cut: Sequence[CutEntry], gone: Mapping[int, str]) -> None:
        """Deliver the rest of the view up to the cut, and settle what was sent in it."""
        delivery = self._delivery
        self._lacking = {}
        self._asked.clear()
        if delivery.view is None:
            return
        limits = {(entry.origin, entry.lane): entry.sequence for entry in cut}
        delivery.ordered.finish(lambda member: limits.get((member, int(Lane.ORDERED)), 0))
        for key in sorted(delivery.ins):
            stream = delivery.ins[key]
            if key.lane == Lane.ORDERED:
                continue
            most = stream.held if key.addressee else limits.get((key.origin, key.lane), 0)
            while stream.waiting and stream.waiting[0].data.sequence <= most:
                delivery.hand_over(stream, stream.waiting.popleft())
            dropped = len(stream.waiting)
            delivery.outputs.counters["above_cut"] += dropped
        for (addressee, lane), sending in list(delivery.out.items()):
            for token, missing in self._losses(delivery, addressee, lane, gone):
                delivery.outputs.stream.append(
                    Settled(addressee=addressee, lane=lane, token=token, missing=missing)
                )
                sending.token_settled = token
            if addressee in gone:
                abandon(delivery, sending, lane)

    @staticmethod
    def _losses(
        delivery: Delivery, addressee: int, lane: Lane, gone: Mapping[int, str]
    ) -> list[tuple[int, dict[int, str]]]:
        """The fate of each batch not yet settled, in order: (last token, missing)."""
        stream = delivery.out[addressee, lane]
        fates: list[tuple[int, dict[int, str]]] = []
        for sequence, token in stream.unsettled():
            missing = {
                node: gone[node]
                for node, progress in stream.progress.items()
                if node in gone and progress.held < sequence
            }
            fates.append((token, missing))
        if addressee in gone and stream.queue:
            fates.append((stream.token_accepted, {addressee: gone[addressee]}))
        merged: list[tuple[int, dict[int, str]]] = []
        for token, missing in fates:
            if token <= stream.token_settled or (merged and merged[-1][0] == token):
                continue  # a piece in the middle of a message: its end tells its fate
            if merged and merged[-1][1] == missing:
                merged.pop()
            merged.append((token, missing))
        return merged
