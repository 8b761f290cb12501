"""Checkers of the guarantees: they read histories of incarnations and nothing else.

Each function is one guarantee of the design and returns a sentence for every breach. They work
on the `Life`s of a simulation; payloads must be unique over the whole run, or a message could
not be followed. Those of barriers are in `barrier_checkers.py`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import NamedTuple

from ..core.outputs import Delivered, Left, Ordered, Settled
from ..events import Evicted, Lane, Member, PrimaryLost, View, ViewId, ViewInstalled
from .simulated_node import FOR_EVER_NS, Life, Sent

Complaints = Iterator[str]
_Entry = tuple[int, bytes, int]
"""Sender, payload, and which of equal entries it is."""
Lives = Sequence[Life]
Checker = Callable[[Lives], Complaints]


class Received(NamedTuple):
    """One message as one incarnation got it."""

    place: int
    """In the history."""
    sender: int
    lane: Lane
    directed: bool
    payload: bytes
    view_id: ViewId


@dataclass(slots=True)
class Stay:
    """The time of one incarnation in one view: what it was told there."""

    view: View
    place: int
    received: list[Received] = field(default_factory=list[Received])
    settled: list[Settled] = field(default_factory=list[Settled])
    next: ViewId | None = None
    """The view that it went on to."""
    place_of_next: int = FOR_EVER_NS

    def incarnation_of(self, node: int) -> Member | None:
        """Which incarnation of a node is a member of the view."""
        return next((m for m in self.view.incarnations if m.node == node), None)


def messages(item: object, place: int) -> Iterator[Received]:
    """The messages in one item of a history; entries of layers are theirs to check."""
    if isinstance(item, Ordered) and item.channel.startswith("!"):
        return
    if isinstance(item, Delivered):
        for payload in item.payloads:
            yield Received(place, item.sender, item.lane, item.directed, payload, item.view_id)
    elif isinstance(item, Ordered):
        for payload in item.payloads:
            yield Received(place, item.sender, Lane.ORDERED, False, payload, item.view_id)


def stays(life: Life) -> list[Stay]:
    """The views of an incarnation, with what it was told in each."""
    found: list[Stay] = []
    for place, (_, item) in enumerate(life.history):
        if isinstance(item, ViewInstalled):
            if found:
                found[-1].next = item.view.id
                found[-1].place_of_next = place
            found.append(Stay(item.view, place))
        elif not found:
            continue
        elif isinstance(item, Settled):
            found[-1].settled.append(item)
        else:
            found[-1].received.extend(messages(item, place))
    return found


def members_of_views(lives: Sequence[Life]) -> list[Life]:
    """Those that ever took part; a node without record may start under a number used before."""
    return [
        life for life in lives if any(isinstance(item, ViewInstalled) for _, item in life.history)
    ]


# ------------------------------------------------------------------- messages (guarantees 1-6)


def integrity(lives: Sequence[Life]) -> Complaints:
    """1: at most once, unchanged, and only from a member of that view to an addressee of it."""
    sent = {m.payload: (life.member, m) for life in lives for m in life.sent}
    for life in lives:
        for stay in stays(life):
            if life.member not in stay.view.incarnations:
                yield f"{life.member} installed {stay.view.id} without being a member of it"
            for got in stay.received:
                sender, message = sent.get(got.payload, (None, None))
                where = f"{life.member} in {stay.view.id}: {got.payload[:40]!r}"
                if message is None or sender is None:
                    yield f"{where} was never sent"
                    continue
                if sender not in stay.view.incarnations or got.sender != sender.node:
                    yield f"{where} is of {sender}, which is not in the view or not its sender"
                if message.lane is not got.lane:
                    yield f"{where} came on lane {got.lane.name}, not {message.lane.name}"
                if message.addressee not in (0, life.member.node):
                    yield f"{where} was for node {message.addressee}"
        payloads = Counter(
            got.payload
            for place, (_, item) in enumerate(life.history)
            for got in messages(item, place)
        )
        for payload, times in payloads.items():
            if times > 1:
                yield f"{life.member} got {payload[:40]!r} {times} times"


def identity(lives: Sequence[Life]) -> Complaints:
    """1: an incarnation is one start of one node; of two with one number, one never takes part."""
    times = Counter(life.member for life in members_of_views(lives))
    for member, count in times.items():
        if count > 1:
            yield f"{count} processes were {member}"


def fifo(lives: Sequence[Life]) -> Complaints:
    """2: messages of one sender on one lane, to all or to one, arrive in the order sent."""
    number = {
        m.payload: (life.member, place) for life in lives for place, m in enumerate(life.sent)
    }
    for life in lives:
        last: dict[tuple[Member, Lane, bool], int] = {}
        for stay in stays(life):
            for got in stay.received:
                if got.payload not in number:
                    continue
                sender, place = number[got.payload]
                stream = (sender, got.lane, got.directed)
                if place < last.get(stream, -1):
                    yield f"{life.member}: {got.payload[:40]!r} of {sender} came after a later one"
                last[stream] = place


def one_stream(lives: Sequence[Life]) -> Complaints:
    """5: a message is delivered in the view in which it was numbered; nothing follows the end."""
    for life in lives:
        current: ViewId | None = None
        over = ""
        for place, (_, item) in enumerate(life.history):
            if over and isinstance(item, Delivered | Ordered | ViewInstalled | Settled):
                yield f"{life.member}: {type(item).__name__} after {over}"
            if isinstance(item, ViewInstalled):
                if current is not None and item.view.id <= current:
                    yield f"{life.member} went from view {current} back to {item.view.id}"
                current = item.view.id
            elif isinstance(item, Evicted | Left):
                over = type(item).__name__
            for got in messages(item, place):
                if got.view_id != current:
                    yield f"{life.member} in {current}: {got.payload[:40]!r} of {got.view_id}"


def _multicasts(stay: Stay) -> dict[tuple[int, Lane], list[bytes]]:
    streams: dict[tuple[int, Lane], list[bytes]] = defaultdict(list)
    for got in stay.received:
        if not got.directed:
            sender = 0 if got.lane is Lane.ORDERED else got.sender
            streams[sender, got.lane].append(got.payload)
    return dict(streams)


def view_synchrony(lives: Sequence[Life]) -> Complaints:
    """4: members that go together from V to V' have delivered the same messages in V.

    The ordered lane must be the same sequence; the others the same sequence per sender.
    """
    first: dict[tuple[ViewId, ViewId], tuple[Member, dict[tuple[int, Lane], list[bytes]]]] = {}
    for life in lives:
        for stay in stays(life):
            if stay.next is None:
                continue
            mine = _multicasts(stay)
            other, theirs = first.setdefault((stay.view.id, stay.next), (life.member, mine))
            for stream in sorted(mine.keys() | theirs.keys()):
                here, there = mine.get(stream, []), theirs.get(stream, [])
                if here != there:
                    lack = [p[:20] for p in there if p not in set(here)][:3]
                    more = [p[:20] for p in here if p not in set(there)][:3]
                    yield (
                        f"{life.member} and {other} went from {stay.view.id} to {stay.next} with "
                        f"{len(here)} and {len(there)} messages of {stream}: lacks {lack}, "
                        f"has {more} more"
                    )


def agreed_order(lives: Sequence[Life]) -> Complaints:
    """6: any two incarnations deliver the entries that they both deliver in the same order.

    Positions are the same only for those that go on: who is cut off may have delivered entries
    that nobody else will. View synchrony sees to those that go on.
    """
    orders: dict[ViewId, list[tuple[Member, dict[_Entry, int]]]] = defaultdict(list)
    for life in lives:
        order: dict[ViewId, dict[_Entry, int]] = defaultdict(dict)
        copies: Counter[tuple[ViewId, int, bytes]] = Counter()
        for _, item in life.history:
            if not isinstance(item, Ordered):
                continue
            here = order[item.view_id]
            if item.first != len(here) + 1:
                yield f"{life.member}: position {item.first} of {item.view_id} is out of turn"
            for payload in item.payloads:
                copies[item.view_id, item.sender, payload] += 1
                entry = (item.sender, payload, copies[item.view_id, item.sender, payload])
                here[entry] = len(here)
        for view_id, entries in order.items():
            for other, theirs in orders[view_id]:
                common = [entry for entry in entries if entry in theirs]
                places = [theirs[entry] for entry in common]
                for one, next_one, entry in zip(places, places[1:], common, strict=False):
                    if one > next_one:
                        yield f"{life.member} and {other} disagree after {entry[1][:40]!r}"
                        break
            orders[view_id].append((life.member, entries))


def guaranteed_delivery(lives: Sequence[Life]) -> Complaints:
    """3: what the sender was told of a message is true, and it was told once."""
    by_member = {life.member: {s.view.id: s for s in stays(life)} for life in lives}
    got = {
        life.member: {g.payload: s.view.id for s in stays(life) for g in s.received}
        for life in lives
    }
    for life in lives:
        streams: dict[tuple[int, Lane], list[Sent]] = defaultdict(list)
        for message in life.sent:
            streams[message.addressee, message.lane].append(message)
        told: Counter[tuple[int, Lane]] = Counter()
        for stay in stays(life):
            for item in stay.settled:
                stream = (item.addressee, item.lane)
                if item.token <= told[stream]:
                    yield f"{life.member}: token {item.token} of {stream} was settled twice"
                covered = [m for m in streams[stream] if told[stream] < m.token <= item.token]
                told[stream] = item.token
                for message in covered:
                    yield from _receipt(life, stay, item, message, by_member, got)


def _receipt(
    life: Life,
    stay: Stay,
    item: Settled,
    message: Sent,
    by_member: dict[Member, dict[ViewId, Stay]],
    got: dict[Member, dict[bytes, ViewId]],
) -> Complaints:
    """Whether one message's fate is as its sender was told."""
    for member in stay.view.incarnations:
        if message.addressee not in (0, member.node):
            continue
        theirs = by_member.get(member, {}).get(stay.view.id)
        went_on = theirs is not None and theirs.next is not None
        if went_on and message.payload not in got[member] and member.node not in item.missing:
            yield (
                f"{life.member} was told in {stay.view.id} that {message.payload[:40]!r} is held; "
                f"{member} went on to {theirs.next if theirs else None} without it"
            )
    for node, why in item.missing.items():
        gone = stay.incarnation_of(node)
        theirs = by_member.get(gone, {}).get(stay.view.id) if gone else None
        if gone is not None and theirs is not None and stay.next and theirs.next == stay.next:
            yield f"{life.member} was told that {gone} lacks a message ({why}); it went on"


def all_settled(lives: Sequence[Life]) -> Complaints:
    """3, at the end of a run that became quiet: nobody still running waits for a receipt."""
    for life in lives:
        view = [item for _, item in life.history if isinstance(item, ViewInstalled)]
        over = any(isinstance(item, Evicted | Left) for _, item in life.history)
        if life.ended_ns is not None or over or not view:
            continue
        settled: dict[tuple[int, Lane], int] = {}
        for _, item in life.history:
            if isinstance(item, Settled):
                settled[item.addressee, item.lane] = item.token
        for message in life.sent:
            if message.token > settled.get((message.addressee, message.lane), 0):
                yield f"{life.member} never heard what became of {message.payload[:40]!r}"


def all_delivered(lives: Sequence[Life]) -> Complaints:
    """3, at the end of a quiet run: who shares a view still has all that its sender delivered."""
    alive = [life for life in lives if life.ended_ns is None]
    last = {life.member: stays(life)[-1] for life in alive if stays(life)}
    for member, stay in last.items():
        for other, theirs in last.items():
            if stay.view == theirs.view:
                mine, others = _multicasts(stay), _multicasts(theirs)
                for stream, payloads in others.items():
                    if mine.get(stream, []) != payloads:
                        here, there = len(mine.get(stream, [])), len(payloads)
                        yield f"{stream} in {stay.view.id}: {here} at {member}, {there} at {other}"


# ------------------------------------------------------------------------- views (guarantee 8)


def one_primary(lives: Sequence[Life]) -> Complaints:
    """8: views form one sequence, and at most one of them is acted in at any time."""
    views: dict[ViewId, View] = {}
    for life in lives:
        for stay in stays(life):
            known = views.setdefault(stay.view.id, stay.view)
            if known != stay.view:
                yield f"view {stay.view.id} is {known.incarnations} and {stay.view.incarnations}"
    acts = sorted(
        (a.from_ns, a.until_ns, a.view_id, life.member) for life in lives for a in life.acts
    )
    latest: dict[ViewId, tuple[int, Member]] = {}
    for from_ns, until_ns, view_id, member in acts:
        for other_id, (other_until, other) in latest.items():
            if other_id != view_id and other_until > from_ns:
                yield (
                    f"{member} acted in {view_id} from {from_ns / 1e6:.3f} ms, "
                    f"{other} in {other_id} until {other_until / 1e6:.3f} ms"
                )
        if until_ns > latest.get(view_id, (0, member))[0]:
            latest[view_id] = (until_ns, member)


def continuity(lives: Lives) -> Complaints:
    """8: somebody in each view was in one before, unless all nodes began the cluster anew.

    An era above the first is founded only by nodes that the operator had do it, or by all nodes.
    """
    views: dict[ViewId, ViewInstalled] = {}
    earliest: dict[Member, ViewId] = {}
    for life in lives:
        for _, item in life.history:
            if isinstance(item, ViewInstalled):
                views[item.view.id] = item
                earliest.setdefault(life.member, item.view.id)
    first = min(views, default=None)
    for view_id, item in views.items():
        # Who continues may have died before it could install the view: others adopted it.
        remembers = any(earliest.get(m, view_id) < view_id for m in item.view.incarnations)
        if view_id != first and not remembers and not item.started_over:
            yield f"nobody in view {view_id} of {item.view.incarnations} was in one before"
    told = {life.member: life.founding for life in lives}
    nodes = {member.node for member in told}
    for view_id, item in views.items():
        if view_id == first or view_id.k != 1:
            continue
        known = [member for member in item.view.incarnations if member in told]
        strange = [member for member in known if not told[member]]
        if len(strange) == len(known) or (strange and nodes != set(item.view.members)):
            yield f"view {view_id} was founded by {strange}, which nobody told to"


def never_silent(lives: Sequence[Life], *, lease_ns: int, slack_ns: int, end_ns: int) -> Complaints:
    """8: a member that may not act any more says so, at the latest one lease later."""
    for life in lives:
        said = [
            at
            for at, item in life.history
            if isinstance(item, PrimaryLost | Evicted | ViewInstalled | Left)
        ]
        if not any(isinstance(item, ViewInstalled) for _, item in life.history):
            continue
        for act, following in zip_longest(life.acts, life.acts[1:]):
            again = following.from_ns if following else min(end_ns, life.ended_ns or end_ns)
            due = act.until_ns + lease_ns + slack_ns
            stopped = any(start < due and end > act.until_ns for start, end in life.frozen)
            if due < again and not stopped and not any(act.from_ns <= at <= due for at in said[1:]):
                yield f"{life.member} stopped to act at {act.until_ns / 1e6:.1f} ms without a word"


def path_transparency(lives: Sequence[Life], *, since_ns: int) -> Complaints:
    """13: while one rail remains nothing happens to views (the other checkers see to messages)."""
    for life in lives:
        for at, item in life.history:
            if at >= since_ns and isinstance(item, ViewInstalled | PrimaryLost | Evicted):
                yield f"{life.member} at {at / 1e6:.1f} ms: {item}"


ALWAYS: tuple[Checker, ...] = (
    identity,
    integrity,
    fifo,
    one_stream,
    view_synchrony,
    agreed_order,
    guaranteed_delivery,
    one_primary,
    continuity,
)
"""What holds at every moment of every run, of messages and views."""

QUIET: tuple[Checker, ...] = (all_settled, all_delivered)
"""What holds as well once faults and traffic have stopped for long enough."""


def check(lives: Sequence[Life], checkers: Iterable[Checker] = ALWAYS) -> None:
    """Run the checkers.

    Raises:
        AssertionError: with the first breaches of each.
    """
    found: list[str] = []
    for checker in checkers:
        complaints = list(checker(members_of_views(lives)))
        name = getattr(checker, "__name__", "checker")
        found += [f"{name}: {complaint}" for complaint in complaints[:5]]
    assert not found, "\n".join(found)
