"""Checkers of the guarantees of messages and views: they read histories and nothing else.

Each function belongs to one guarantee of the design, whose number its docstring begins with, and
returns a sentence for every breach. Messages must be unique over the whole run, or one could not
be followed. Checkers of barriers are in `barrier_checkers.py`, the list of all in `guarantees.py`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from ..events import Lane, Member, ViewId
from .evidence import Evidence, History, Sending, Stay
from .history import Got, Installed, Told
from .lives import Lives as _Lives
from .lives import evidence_of
from .path_checkers import last_rail_lost

Lives: TypeAlias = _Lives
Complaints: TypeAlias = Iterator[str]
Checker: TypeAlias = Callable[[Lives], Complaints]
_Entry: TypeAlias = tuple[int, bytes, int]
"""Sender, message, and which of equal entries it is."""
_Streams: TypeAlias = dict[tuple[int, Lane], list[bytes]]
"""Multicasts by sender and lane; those of the ordered lane are one sequence of all senders."""
_ORDERED_OF_ALL = (0, Lane.ORDERED)
SHOWN_BYTES = 40


def shown(message: bytes) -> str:
    """A message in a sentence: what it says, or its name."""
    part = message[:SHOWN_BYTES]
    return repr(part) if part.isascii() else part.hex()


# ------------------------------------------------------------------- messages (guarantees 1-6)


def integrity(lives: Lives) -> Complaints:
    """1: at most once, unchanged, and only from a member of that view to an addressee of it."""
    evidence = evidence_of(lives)
    for history in evidence.histories:
        seen: set[bytes] = set()
        for got in history.out_of_place:
            seen.update(got.messages)
        for stay in history.stays:
            if history.member not in stay.members:
                yield f"{history.member} installed {stay.view} without being a member of it"
            for _, got in stay.got:
                for message in got.messages:
                    if message in seen:
                        yield f"{history.member} got {shown(message)} more than once"
                    seen.add(message)
                    wrong = _wrong(evidence, history, stay, got, message)
                    if wrong:
                        yield f"{history.member} in {stay.view}: {shown(message)} {wrong}"


def _wrong(evidence: Evidence, history: History, stay: Stay, got: Got, message: bytes) -> str:
    """What is not as its sender sent it; empty if all is."""
    sending = evidence.sent.get(message)
    if sending is None:
        return "was never sent"
    if sending.refused:
        return "was refused when it was sent"
    if sending.sender not in stay.members or got.sender != sending.sender.node:
        return f"is of {sending.sender}, which is not in the view or not its sender"
    if sending.lane is not got.lane:
        return f"came on lane {got.lane.name}, not {sending.lane.name}"
    if sending.to not in (0, history.member.node):
        return f"was for node {sending.to}"
    return ""


def identity(lives: Lives) -> Complaints:
    """1: an incarnation is one start of one node; of two with one number, one never takes part."""
    times = Counter(history.member for history in evidence_of(lives).histories)
    for member, count in times.items():
        if count > 1:
            yield f"{count} processes were {member}"


def fifo(lives: Lives) -> Complaints:
    """2: messages of one sender on one lane, to all or to one, arrive in the order sent."""
    evidence = evidence_of(lives)
    for history in evidence.histories:
        last: dict[tuple[Member, Lane, bool], int] = {}
        for stay in history.stays:
            for _, got in stay.got:
                for message in got.messages:
                    sending = evidence.sent.get(message)
                    if sending is None:
                        continue
                    stream = (sending.sender, got.lane, got.directed)
                    if sending.order < last.get(stream, -1):
                        yield (
                            f"{history.member}: {shown(message)} of {sending.sender} "
                            "came after a later one"
                        )
                    last[stream] = sending.order


def one_stream(lives: Lives) -> Complaints:
    """5: a message is delivered in the view in which it was numbered; nothing follows the end."""
    for history in evidence_of(lives).histories:
        for record in history.after_over:
            yield f"{history.member}: {type(record).__name__} after its end"
        for got in history.out_of_place:
            yield f"{history.member} before its first view: a message of {got.view}"
        current: ViewId | None = None
        for stay in history.stays:
            if current is not None and stay.view <= current:
                yield f"{history.member} went from view {current} back to {stay.view}"
            current = stay.view
            for _, got in stay.got:
                if got.view != current:
                    first = shown(got.messages[0]) if got.messages else "nothing"
                    yield f"{history.member} in {current}: {first} of {got.view}"


def _multicasts(stay: Stay) -> _Streams:
    streams: _Streams = defaultdict(list)
    for _, got in stay.got:
        if not got.directed:
            key = _ORDERED_OF_ALL if got.lane is Lane.ORDERED else (got.sender, got.lane)
            streams[key].extend(got.messages)
    return streams


def view_synchrony(lives: Lives) -> Complaints:
    """4: members that go together from V to V' have delivered the same messages in V.

    The ordered lane must be the same sequence; the others the same sequence per sender.
    """
    first: dict[tuple[ViewId, ViewId], tuple[Member, _Streams]] = {}
    for history in evidence_of(lives).histories:
        for stay in history.stays:
            if stay.next is None:
                continue
            mine = _multicasts(stay)
            other, theirs = first.setdefault((stay.view, stay.next), (history.member, mine))
            if mine == theirs:
                continue
            for stream in sorted(mine.keys() | theirs.keys()):
                here, there = mine.get(stream, []), theirs.get(stream, [])
                if here != there:
                    lack = [shown(p) for p in there if p not in set(here)][:3]
                    more = [shown(p) for p in here if p not in set(there)][:3]
                    yield (
                        f"{history.member} and {other} went from {stay.view} to {stay.next} with "
                        f"{len(here)} and {len(there)} messages of {stream}: lacks {lack}, "
                        f"has {more} more"
                    )


def agreed_order(lives: Lives) -> Complaints:
    """6: any two incarnations deliver the entries that they both deliver in the same order.

    Positions are the same only for those that go on: who is cut off may have delivered entries
    that nobody else will. View synchrony sees to those that go on.
    """
    orders: dict[ViewId, list[tuple[Member, dict[_Entry, int]]]] = defaultdict(list)
    for history in evidence_of(lives).histories:
        order: dict[ViewId, dict[_Entry, int]] = defaultdict(dict)
        copies: Counter[tuple[ViewId, int, bytes]] = Counter()
        for got in history.ordered:
            here = order[got.view]
            if got.first != len(here) + 1:
                yield f"{history.member}: position {got.first} of {got.view} is out of turn"
            for message in got.messages:
                key = (got.view, got.sender, message)
                copies[key] += 1
                here[got.sender, message, copies[key]] = len(here)
        for view_id, entries in order.items():
            for other, theirs in orders[view_id]:
                common = [entry for entry in entries if entry in theirs]
                places = [theirs[entry] for entry in common]
                for one, next_one, entry in zip(places, places[1:], common, strict=False):
                    if one > next_one:
                        yield f"{history.member} and {other} disagree after {shown(entry[1])}"
                        break
            orders[view_id].append((history.member, entries))


def barrier_order(lives: Lives) -> Complaints:
    """6: a release of a barrier has one position in the agreed order, wherever it is returned.

    Whoever is cut off may have been released where the others, without it, were released later.
    """
    positions: dict[tuple[str, object], tuple[Member, object]] = {}
    for history in evidence_of(lives).histories:
        for place, returned in history.returns.values():
            binds = history.binds(place) or returned.token is not None
            if returned.position is None or not binds:
                continue
            key = (returned.name, returned.generation)
            other, theirs = positions.setdefault(key, (history.member, returned.position))
            if theirs != returned.position:
                here = f"{returned.position} for {history.member}"
                yield f"{key}: released at {here}, {theirs} for {other}"


def guaranteed_delivery(lives: Lives) -> Complaints:
    """3: what the sender was told of a message is true, and it was told once."""
    evidence = evidence_of(lives)
    for history in evidence.histories:
        streams: dict[tuple[int, Lane], list[Sending]] = defaultdict(list)
        for sending in history.sent:
            if not sending.refused:
                streams[sending.to, sending.lane].append(sending)
        told: Counter[tuple[int, Lane]] = Counter()
        begun: Counter[tuple[int, Lane]] = Counter()
        for place, stay in enumerate(history.stays):
            for item in stay.told:
                stream = (item.to, item.lane)
                if item.number <= told[stream]:
                    yield f"{history.member}: number {item.number} of {stream} was settled twice"
                told[stream] = item.number
                messages, index = streams[stream], begun[stream]
                while index < len(messages) and messages[index].number <= item.number:
                    yield from _receipt(evidence, history, place, item, messages[index])
                    index += 1
                begun[stream] = index


def _receipt(
    evidence: Evidence, history: History, place: int, item: Told, sending: Sending
) -> Complaints:
    """Whether one message's fate is as its sender was told."""
    first, last = _numbered_in(history, place, item, sending)
    if first is None or last is None:
        return
    for member in last.members:
        if sending.to not in (0, member.node) or member.node in item.missing:
            continue
        if member not in first.members:
            continue  # It may have come after the message was numbered.
        theirs = evidence.by_member.get(member)
        stay = theirs.stay_in.get(last.view) if theirs is not None else None
        if theirs is None or stay is None or sending.message in theirs.delivered:
            continue
        told = f"{history.member} was told in {last.view} that {shown(sending.message)} is held; "
        if stay.next is not None:
            yield told + f"{member} went on to {stay.next} without it"
        following = history.stay_in.get(last.next) if last.next else None
        if following is not None and member in following.members:
            continue  # It held what it would have delivered on its way there.
        if item.view is not None and theirs.over is not None and sending.lane is not Lane.ORDERED:
            # A simulation knows all that it was given, and lived to see its end.
            yield told + f"{member} never got it"
    for node, why in item.missing.items():
        gone = last.incarnation_of(node)
        theirs = evidence.by_member.get(gone) if gone else None
        stay = theirs.stay_in.get(last.view) if theirs is not None else None
        if stay is not None and first is last and last.next and stay.next == last.next:
            yield f"{history.member} was told that {gone} lacks a message ({why}); it went on"


def _numbered_in(
    history: History, place: int, item: Told, sending: Sending
) -> tuple[Stay | None, Stay | None]:
    """The first and the last view in which a message may have been numbered.

    A simulation knows the view of a receipt; elsewhere it is found out some time later.
    """
    told = history.stay_in.get(item.view) if item.view is not None else None
    told = told or history.stays[place]
    if sending.accepted == sending.place:
        return told, told
    own = history.delivered.get(sending.message)
    if own is not None:
        stay = history.stay_in.get(own[1])
        return stay, stay
    sent_in = history.stays[sending.stay] if sending.stay >= 0 else None
    return sent_in, told


def all_settled(lives: Lives) -> Complaints:
    """3, at the end of a run that became quiet: nobody still running waits for a receipt."""
    for history in evidence_of(lives).histories:
        if not history.alive or history.detached:
            continue
        settled: dict[tuple[int, Lane], int] = {}
        for stay in history.stays:
            for item in stay.told:
                settled[item.to, item.lane] = item.number
        for sending in history.sent:
            known = settled.get((sending.to, sending.lane), 0)
            if sending.number > known and sending.receipt and not sending.refused:
                yield f"{history.member} never heard what became of {shown(sending.message)}"


def all_delivered(lives: Lives) -> Complaints:
    """3, at the end of a quiet run: who shares a view still has all that its sender delivered."""
    alive = [history for history in evidence_of(lives).histories if history.ended_ns is None]
    last = {history.member: history.stays[-1] for history in alive}
    streams = {member: _multicasts(stay) for member, stay in last.items()}
    for member, stay in last.items():
        for other, theirs in last.items():
            if stay.view != theirs.view or stay.members != theirs.members:
                continue
            for stream, payloads in streams[other].items():
                if streams[member].get(stream, []) != payloads:
                    here, there = len(streams[member].get(stream, [])), len(payloads)
                    yield f"{stream} in {stay.view}: {here} at {member}, {there} at {other}"


# -------------------------------------------------------------------- views (guarantees 8, 13)


def one_primary(lives: Lives) -> Complaints:
    """8: views form one sequence, and at most one of them is acted in at any time."""
    evidence = evidence_of(lives)
    views: dict[ViewId, tuple[Member, ...]] = {}
    for history in evidence.histories:
        for stay in history.stays:
            known = views.setdefault(stay.view, stay.members)
            if known != stay.members:
                yield f"view {stay.view} is {known} and {stay.members}"
    if not evidence.one_clock:
        return
    acts = sorted(
        (act.since_ns, act.at_ns, act.view, history.member)
        for history in evidence.everybody
        for act in history.leased
        if act.view is not None
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
    evidence = evidence_of(lives)
    nodes = {member.node for member in evidence.by_member}
    views: dict[ViewId, Installed] = {}
    earliest: dict[Member, ViewId] = {}
    for history in evidence.histories:
        for stay in history.stays:
            views[stay.view] = stay.installed
        earliest.setdefault(history.member, history.stays[0].view)
    first = min(views, default=None)
    for view_id, item in views.items():
        if view_id == first:
            continue
        # Who continues may have died before it could install the view: others adopted it.
        remembers = any(earliest.get(m, view_id) < view_id for m in item.members)
        if not remembers and not item.started_over:
            yield f"nobody in view {view_id} of {item.members} was in one before"
        if item.started_over and view_id.k > 1 and nodes != {m.node for m in item.members}:
            yield f"view {view_id} starts over without all of {sorted(nodes)}"
        if view_id.k == 1:
            yield from _founded(evidence, item)


def _founded(evidence: Evidence, item: Installed) -> Complaints:
    """Whether those who founded an era were told to."""
    histories = [evidence.by_member[m] for m in item.members if m in evidence.by_member]
    known = [history for history in histories if history.founding is not None]
    strange = [history.member for history in known if not history.founding]
    nodes = {member.node for member in evidence.by_member}
    everybody = nodes == {member.node for member in item.members}
    if known and (len(strange) == len(known) or (strange and not everybody)):
        yield f"view {item.view} was founded by {strange}, which nobody told to"


LEAVING_NS = 500_000_000
"""Who leaves acts no more, but its farewell may take so long until the call returns."""


def never_silent(
    lives: Lives,
    *,
    lease_ns: int | None = None,
    slack_ns: int = 200_000_000,
    end_ns: int | None = None,
) -> Complaints:
    """8: a member that may not act any more says so, at the latest one lease later."""
    evidence = evidence_of(lives)
    end_ns = evidence.end_ns if end_ns is None else end_ns
    for history in evidence.histories:
        lease = history.lease_ns if lease_ns is None else lease_ns
        for from_ns, until_ns in history.silences:
            due = from_ns + lease + slack_ns
            if due >= min(until_ns, end_ns) or history.stood_still_ns(from_ns, due):
                continue
            if from_ns <= (history.left_ns or 0) <= due + LEAVING_NS:
                continue
            if not any(from_ns <= at <= due for at in history.statements[1:]):
                yield f"{history.member} stopped to act at {from_ns / 1e6:.1f} ms without a word"


ALWAYS: tuple[Checker, ...] = (
    identity,
    integrity,
    fifo,
    one_stream,
    view_synchrony,
    agreed_order,
    barrier_order,
    guaranteed_delivery,
    one_primary,
    continuity,
    last_rail_lost,
)
"""What holds at every moment of every run, of messages and views."""

QUIET: tuple[Checker, ...] = (all_settled, all_delivered)
"""What holds as well once faults and traffic have stopped for long enough."""


def check(lives: Lives, checkers: Iterable[Checker] = ALWAYS) -> None:
    """Run the checkers.

    Raises:
        AssertionError: with the first breaches of each.
    """
    evidence = evidence_of(lives)
    found: list[str] = []
    for checker in checkers:
        complaints: Sequence[str] = list(checker(evidence))
        name = getattr(checker, "__name__", "checker")
        found += [f"{name}: {complaint}" for complaint in complaints[:5]]
    assert not found, "\n".join(found)
