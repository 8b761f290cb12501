"""The sans-I/O core of ordered channels: completed epochs become what each channel delivers.

The transport gives every member the same batches in the same order. Here they are sorted by
channel, what asked for safe delivery is held back until every member has it (and whatever is
behind it on its channel with it), and a channel that is opened late gets its place: it begins at
the position of its `Open` entry, with the state that another member's application had there.

How a channel is opened by a member that wants state:

1. It publishes `Open`, ordered at p. What is ordered before p is in the state, what comes after p
   is delivered to it.
2. Every other member answers with `Have`: whether it can give its state. Who can marks p in its own
   channel: its application's state is wanted when it has read so far, which may be after it has
   taken in another's state itself.
3. The opener names the first that can by `Take`. The one that is named gives the state, in parts
   sent to the opener alone; for the others the mark is void.

If the donor leaves the view before all parts are there, or has to ask again itself, the opener asks
again, at a new p. Nobody waits in a circle: a member that waits for state itself can only give it
to one that first asked later than it did.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from phalanx.transport.config import ClusterConfig
from phalanx.transport.errors import UsageError
from phalanx.transport.events import Lane, Member, Position, View, ViewInstalled
from phalanx.transport.layers import Numbered, Ordered, Outgoing

from .channel_items import ChannelItem, Entries, Opening, Published, StateMade, StateMark, follows
from .channel_messages import CONTROL, PART_BYTES, Can, Have, Open, Part, Take, decode, encode

_Test: TypeAlias = Callable[[Ordered], bool]
CHANNELS_MAX: Final = 256
"""Channels that one node may have open."""


@dataclass(slots=True)
class _Donation:
    """A member has opened a channel that is open here, too."""

    opener: Member
    donor: int | None = None
    """Whom it has named; None while it has not."""


@dataclass(slots=True)
class _Channel:
    """A channel that is open, or being opened, on this node."""

    name: str
    takes: bool
    gives: bool
    asked: int = 0
    """Names its newest `Open`."""
    asking: bool = True
    """That is not ordered yet."""
    opened: Position | None = None
    """Where that was ordered, or the one before it, if this one asks again."""
    since: Position | None = None
    """Where the first was ordered of those that asked for the same beginning."""
    whole: bool = False
    """The state is here, or none is wanted."""
    again: bool = False
    """It was open in an earlier life of this node."""
    anew: bool = True
    awaited: set[int] = field(default_factory=set[int])
    """Members that have not answered."""
    donor: int = 0
    parts: list[bytes] = field(default_factory=list[bytes])
    got: int = 0
    ask_until_ns: int | None = None
    """When it goes on without those that have not answered."""
    held_back: deque[Ordered | ChannelItem] = field(default_factory=deque[Ordered | ChannelItem])
    """Something safe that is not yet, and what is behind it."""
    donations: dict[Position, _Donation] = field(default_factory=dict[Position, _Donation])

    def may_give(self, since: Position) -> bool:
        """Whether it gives its state, now or later, to one that first asked at `since`."""
        return self.gives and self.since is not None and (self.whole or self.since < since)


class ChannelsCore:
    """The ordered channels of one node; implements `phalanx.transport.layers.Layer`."""

    def __init__(self, config: ClusterConfig, node: int) -> None:
        self._node = node
        self._wait_ns = config.timing.call_timeout_ns
        self._state_bytes_max = config.limits.state_bytes_max
        self._view: View | None = None
        self._me = Member(node, 0)
        self._channels: dict[str, _Channel] = {}
        self._asked = 0
        self._outbox: list[bytes] = []
        self._directed: deque[tuple[int, bytes]] = deque()
        self._items: list[tuple[str, ChannelItem]] = []
        self._published: list[Published] = []
        self._unsafe: deque[Ordered] = deque()
        """Own batches that are to be reported when they are safe."""
        self._detached = ""
        self._turned = False  # something that a reader may wait for has changed
        self._stats: Counter[str] = Counter()

    # ------------------------------------------------------------------- commands of this node

    def open(self, name: str, *, takes: bool, gives: bool) -> None:
        """Open a channel: it begins where the order says.

        `takes` says that the application wants another's state first, `gives` that it has state
        to give.

        Raises:
            UsageError: it is open, or too many are.
        """
        if name in self._channels:
            raise UsageError(f"channel {name!r} is open on this node already; use that one")
        if len(self._channels) >= CHANNELS_MAX:
            raise UsageError(f"{CHANNELS_MAX} channels are open on this node already")
        channel = self._channels[name] = _Channel(name, takes, gives)
        if self._view is not None:
            self._ask(channel)

    def close(self, name: str) -> None:
        """Forget a channel; entries of it are delivered here no more."""
        channel = self._channels.pop(name, None)
        if channel is None:
            return
        self._refuse_all(channel)
        if channel.awaited:
            assert channel.opened is not None, "answers come after the opening"
            self._take_from(channel.name, channel.opened, 0)

    def give(self, name: str, position: Position, state: bytes) -> None:
        """The application's state at a mark, if it is this node that was named."""
        channel = self._channels.get(name)
        donation = channel.donations.pop(position, None) if channel is not None else None
        if channel is not None and donation is not None:
            self._send_state(name, position, donation.opener, state)

    def wanted(self, name: str, position: Position) -> bool | None:
        """Whether the state at a mark is wanted of this node; None while it is not known."""
        channel = self._channels.get(name)
        donation = channel.donations.get(position) if channel is not None else None
        if channel is None or donation is None:
            return False
        if donation.donor is None:
            return None
        if donation.donor != self._node:
            del channel.donations[position]
            return False
        return True

    @property
    def has_news(self) -> bool:
        """Whether anything has changed for readers or publishers since things were taken."""
        return self._turned or bool(self._items or self._published or self._detached)

    def take_items(self) -> list[tuple[str, ChannelItem]]:
        """What channels deliver since the last call, in order, each with its channel's name."""
        self._turned = False
        items, self._items = self._items, []
        return items

    def take_published(self) -> list[Published]:
        """Which messages of this node have got their places since the last call."""
        published, self._published = self._published, []
        return published

    def stats(self) -> dict[str, int]:
        """Counters since the start, and what is open and held back."""
        held_back = sum(len(channel.held_back) for channel in self._channels.values())
        return {**self._stats, "channels_open": len(self._channels), "held_back": held_back}

    # ------------------------------------------------------------------------------- the layer

    def owns(self, channel: str) -> bool:
        """Everything on the ordered lane that is no other layer's."""
        return channel == CONTROL or channel[:1] != "!"

    def ordered(self, batches: Sequence[Ordered], *, now_ns: int) -> None:
        """The next entries of the agreed order."""
        for batch in batches:
            self._ordered(batch, now_ns)

    def _ordered(self, batch: Ordered, now_ns: int) -> None:
        if batch.channel == CONTROL:
            for index, payload in enumerate(batch.payloads, batch.first):
                self._control(batch, Position(*batch.view_id, index), payload, now_ns)
            return
        if batch.sender == self._node:
            if batch.safe:
                self._unsafe.append(batch)
            else:
                self._publish(batch)
        channel = self._channels.get(batch.channel)
        if channel is None or channel.opened is None:
            return
        if batch.safe or channel.held_back:
            channel.held_back.append(batch)
        else:
            self._items.append((channel.name, _entries(batch)))

    def _put(self, channel: _Channel, item: ChannelItem) -> None:
        """What is not an entry keeps its place between them."""
        if channel.held_back:
            channel.held_back.append(item)
        else:
            self._items.append((channel.name, item))

    def _publish(self, batch: Ordered) -> None:
        first = Position(batch.view_id.era, batch.view_id.k, batch.first)
        self._published.append(Published(batch.token, len(batch.payloads), first, batch.safe))

    def held_back(self, position: Position, *, now_ns: int) -> None:
        """Each channel knows that of its own entries."""

    def stable(self, position: Position, *, now_ns: int) -> None:
        """Deliver what is safe now, and report our own."""
        del now_ns
        self._release(lambda batch: _last(batch) <= position)

    def _release(self, is_safe: _Test) -> None:
        while self._unsafe and is_safe(self._unsafe[0]):
            self._publish(self._unsafe.popleft())
        for channel in self._channels.values():
            self._release_of(channel, is_safe)

    def _release_of(self, channel: _Channel, is_safe: _Test) -> None:
        held_back = channel.held_back
        while held_back:
            item = held_back[0]
            if isinstance(item, Ordered):
                if item.safe and not is_safe(item):
                    return
                item = _entries(item)
            held_back.popleft()
            self._items.append((channel.name, item))

    def progressed(self, *, sender: int, lane: Lane, sequence: int, now_ns: int) -> None:
        """Other lanes are nothing to channels."""

    def directed(self, sender: int, payloads: Iterable[bytes], *, now_ns: int) -> None:
        """Parts of a state from its donor."""
        del now_ns
        for payload in payloads:
            message = decode(payload)
            if not isinstance(message, Part):
                self._stats["entries_garbage"] += 1
                continue
            channel = self._channels.get(message.name)
            asked = channel is not None and channel.opened == message.at
            if channel is None or not asked or sender != channel.donor or channel.whole:
                self._stats["parts_unasked"] += 1
                continue
            self._part(channel, message)

    def _part(self, channel: _Channel, part: Part) -> None:
        if part.size < 0:
            self._ask(channel, anew=False)  # The donor cannot give it any more.
            return
        if part.size > self._state_bytes_max:
            self._arrived(channel, None, too_large=part.size)
            return
        channel.parts.append(part.part)
        channel.got += len(part.part)
        if channel.got >= part.size:
            state = b"".join(channel.parts)
            channel.parts = []
            self._arrived(channel, state)

    def _arrived(self, channel: _Channel, state: bytes | None, *, too_large: int = 0) -> None:
        assert channel.opened is not None, "parts are asked for after the opening"
        channel.whole = True
        made = StateMade(
            position=channel.opened, state=state, donor=channel.donor, too_large=too_large
        )
        self._put(channel, made)

    def installed(self, event: ViewInstalled, *, now_ns: int) -> None:
        """All that was held back is held by all that go on; then the view, on every channel."""
        before, self._view = self._view, event.view
        self._me = next(m for m in event.view.incarnations if m.node == self._node)
        went_on = before is not None and self._me in before.incarnations
        if before is None or not (went_on and follows(event, before)):
            self._begin_anew(event)
            return
        self._release(lambda _: True)
        gone = set(before.incarnations) - set(event.view.incarnations)
        for channel in self._channels.values():
            self._items.append((channel.name, event))
            self._view_changed(channel, gone, now_ns)

    def _begin_anew(self, event: ViewInstalled) -> None:
        """What was not delivered of an earlier life is nothing here; another order begins."""
        if self._unsafe:
            self._detached = self._detached or "another order has begun"
        self._outbox.clear()
        self._directed.clear()
        self._unsafe.clear()
        for channel in self._channels.values():
            channel.donations.clear()  # Who had asked begins again as well.
            if channel.whole and event.donor == self._node:
                # The others begin with what is here, so that here nothing is interrupted.
                self._release_of(channel, lambda _: True)
                self._items.append((channel.name, event))
            else:
                self._items.append((channel.name, event))
                channel.again = channel.again or channel.opened is not None
                self._ask(channel)

    def _view_changed(self, channel: _Channel, gone: set[Member], now_ns: int) -> None:
        nodes = {member.node for member in gone}
        for position, donation in list(channel.donations.items()):
            if donation.opener in gone:
                del channel.donations[position]
        channel.awaited -= nodes
        if channel.donor in nodes and not channel.whole:
            self._ask(channel, anew=False)
        else:
            self._decide(channel, now_ns)

    def detached(self, reason: str, *, now_ns: int) -> None:
        """Whoever waits for a place is told by the face that it is not known."""
        del now_ns
        self._detached = reason

    def take_detached(self) -> str:
        """Why this node may not act, if that has begun since the last call; else empty."""
        reason, self._detached = self._detached, ""
        return reason

    def wake(self, now_ns: int) -> None:
        """Go on without members that do not answer: they may carry no channels."""
        for channel in self._channels.values():
            if channel.ask_until_ns is not None:
                self._decide(channel, now_ns)

    def next_deadline(self) -> int | None:
        """When somebody who has not answered is waited for no longer."""
        earliest: int | None = None
        for channel in self._channels.values():
            at = channel.ask_until_ns
            if at is not None and (earliest is None or at < earliest):
                earliest = at
        return earliest

    def take_entries(self, numbered: Numbered) -> list[Outgoing]:
        """Openings and answers."""
        del numbered
        if not self._outbox:
            return []
        outbox, self._outbox = self._outbox, []
        return [Outgoing(_CONTROL, payload) for payload in outbox]

    @property
    def directed_channel(self) -> bytes:
        """Of the parts of states."""
        return _CONTROL

    def take_directed(self) -> deque[tuple[int, bytes]]:
        """Parts of states for single members; what there is no room for stays."""
        return self._directed

    # ------------------------------------------------------------------------------- openings

    def _ask(self, channel: _Channel, *, anew: bool = True) -> None:
        """Begin, or begin again: the next entry of ours says from where on."""
        self._refuse_all(channel)
        if anew:
            channel.opened = channel.since = None
            channel.held_back.clear()
        channel.anew = anew
        channel.whole = False
        channel.donor = 0
        channel.awaited.clear()
        channel.parts = []
        channel.got = 0
        channel.ask_until_ns = None
        self._asked = channel.asked = self._asked + 1
        channel.asking = True
        self._outbox.append(encode(Open(channel.name, channel.takes, channel.asked, channel.since)))

    def _refuse_all(self, channel: _Channel) -> None:
        """Who waits for the state of this node has to ask somebody else."""
        self._turned = True
        for position, donation in channel.donations.items():
            if donation.donor == self._node:
                self._send_state(channel.name, position, donation.opener, None)
        channel.donations.clear()

    def _control(self, batch: Ordered, at: Position, payload: bytes, now_ns: int) -> None:
        self._turned = True
        message = decode(payload)
        sender = Member(batch.sender, batch.incarnation)
        match message:
            case Open():
                if sender == self._me:
                    self._opened_here(message, at, now_ns)
                elif message.takes:
                    self._opened(message, sender, at)
            case Have():
                self._has(message, sender, now_ns)
            case Take():
                self._taken(message, sender)
            case _:
                self._stats["entries_garbage"] += 1

    def _opened(self, message: Open, opener: Member, at: Position) -> None:
        channel = self._channels.get(message.name)
        can = Can.NOTHING
        if channel is not None and channel.may_give(message.since or at):
            can = Can.GIVE
            channel.donations[at] = _Donation(opener)
            self._put(channel, StateMark(position=at))
        self._outbox.append(encode(Have(message.name, at, opener.node, can)))

    def _opened_here(self, message: Open, at: Position, now_ns: int) -> None:
        assert self._view is not None, "entries are ordered in a view"
        channel = self._channels.get(message.name)
        if channel is None or channel.asked != message.asked:
            # It was closed in the meantime, and perhaps opened again.
            if message.takes:
                self._take_from(message.name, at, 0)
            return
        channel.asking = False
        # Marks between two openings that ask for the same are void, if a state comes for this one.
        self._refuse_all(channel)
        channel.opened = at
        channel.since = channel.since or at
        opening = Opening(position=at, anew=channel.anew, again=channel.again)
        self._put(channel, opening)
        if channel.takes:
            channel.awaited = set(self._view.members) - {self._node}
            channel.ask_until_ns = now_ns + self._wait_ns
        self._decide(channel, now_ns)

    def _has(self, message: Have, sender: Member, now_ns: int) -> None:
        channel = self._channels.get(message.name)
        if message.opener != self._node or channel is None or channel.opened != message.at:
            return
        if sender.node not in channel.awaited:
            return  # It was waited for long enough, or another one was faster.
        channel.awaited.discard(sender.node)
        if message.can is Can.GIVE:
            channel.awaited.clear()
            channel.ask_until_ns = None
            channel.donor = sender.node
            self._take_from(channel.name, message.at, sender.node)
        else:
            self._decide(channel, now_ns)

    def _decide(self, channel: _Channel, now_ns: int) -> None:
        """Begin without state, once nobody who could give any is waited for."""
        if channel.asking or channel.whole or channel.donor:
            return
        if channel.awaited:
            if channel.ask_until_ns is None or now_ns < channel.ask_until_ns:
                return
            assert channel.opened is not None, "answers come after the opening"
            self._take_from(channel.name, channel.opened, 0)
            channel.awaited.clear()
        channel.ask_until_ns = None
        self._arrived(channel, None)

    def _take_from(self, name: str, at: Position, donor: int) -> None:
        self._outbox.append(encode(Take(name, at, donor)))

    def _taken(self, message: Take, sender: Member) -> None:
        channel = self._channels.get(message.name)
        donation = channel.donations.get(message.at) if channel is not None else None
        if donation is not None and donation.opener == sender:
            donation.donor = message.donor
            self._stats["states_given"] += message.donor == self._node
        elif message.donor == self._node:
            # It is closed here by now, or has begun again.
            self._send_state(message.name, message.at, sender, None)

    def _send_state(self, name: str, at: Position, opener: Member, state: bytes | None) -> None:
        size = -1 if state is None else len(state)
        whole = state or b""
        for start in range(0, max(1, len(whole)), PART_BYTES):
            part = Part(name, at, size, whole[start : start + PART_BYTES])
            self._directed.append((opener.node, encode(part)))


def _entries(batch: Ordered) -> Entries:
    first = Position(batch.view_id.era, batch.view_id.k, batch.first)
    return Entries(batch.sender, batch.payloads, first, batch.size)


def _last(batch: Ordered) -> Position:
    return Position(*batch.view_id, batch.first + len(batch.payloads) - 1)


_CONTROL: Final = CONTROL.encode()
