"""Checkers of the guarantees of barriers, in the form of `checkers.py`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple, TypeAlias

from ..events import Lane, Member, Position
from .checkers import Checker, Complaints, shown
from .evidence import FOR_EVER_NS, NEVER, Evidence, History, Sending
from .history import Arrived, Returned
from .lives import Arrival, Lives, Outcome, evidence_of

__all__ = [
    "BARRIERS",
    "Arrival",
    "Outcome",
    "barrier_cut",
    "barrier_payloads",
    "barrier_safety",
    "barrier_tokens",
    "barrier_uniformity",
    "no_hang",
]

_Generation: TypeAlias = tuple[str, Position | None]


class _Return(NamedTuple):
    place: int
    outcome: Returned
    binding: bool
    """Its party went on from there, or the release was safe: it must agree with the others."""

    @property
    def generation(self) -> _Generation:
        """Which use of which name."""
        return self.outcome.name, self.outcome.generation


class _Outcomes:
    """The outcomes that one history tells of, in its order."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.by_ticket = {
            ticket: _Return(place, outcome, history.binds(place) or outcome.token is not None)
            for ticket, (place, outcome) in history.returns.items()
        }
        self.released = [r for r in self.by_ticket.values() if r.outcome.verdict == "released"]
        self._tickets: dict[_Generation, list[int]] = defaultdict(list)
        for ticket, returned in self.by_ticket.items():
            if returned.binding:
                self._tickets[returned.generation].append(ticket)

    def arrivals_at(self, theirs: _Return) -> list[tuple[int, Arrived]]:
        """This party's arrivals at a generation that another one was released from."""
        tickets = self._tickets.get(theirs.generation, []) if theirs.binding else []
        arrivals = self.history.arrivals
        return [arrivals[ticket] for ticket in tickets if ticket in arrivals]

    def may_have_arrived(self, theirs: _Return, *, one_clock: bool) -> bool:
        """Whether this party had arrived, as far as can be known, when another was released."""
        return any(
            arrived.at_ns <= theirs.outcome.at_ns or not one_clock
            for _, arrived in chain(self.arrivals_at(theirs), self.undecided(theirs))
        )

    def undecided(self, theirs: _Return) -> Iterator[tuple[int, Arrived]]:
        """Arrivals of which it is not known at which generation they were."""
        for ticket, (place, arrived) in self.history.arrivals.items():
            mine = self.by_ticket.get(ticket)
            unknown = mine is None or not (mine.binding and theirs.binding)
            unknown = unknown or (mine is not None and mine.outcome.verdict == "unknown")
            if unknown and arrived.name == theirs.outcome.name:
                yield place, arrived


def _outcomes(evidence: Evidence) -> dict[Member, _Outcomes]:
    return {history.member: _Outcomes(history) for history in evidence.histories}


def barrier_safety(lives: Lives) -> Complaints:
    """9: no wait is released before every party arrived at that generation."""
    evidence = evidence_of(lives)
    outcomes = _outcomes(evidence)
    for member, here in outcomes.items():
        for mine in here.released:
            outcome = mine.outcome
            if member not in outcome.parties:
                yield f"{member} was released from {outcome.name} without being a party"
            for party in outcome.parties:
                there = outcomes.get(party)
                if there is None:
                    continue  # Its history is not among these.
                if not there.may_have_arrived(mine, one_clock=evidence.one_clock):
                    yield (
                        f"{member} was released from {outcome.name} {outcome.generation}, "
                        f"{party} had not arrived"
                    )


def barrier_cut(lives: Lives) -> Complaints:
    """10: what a party sent before it arrived is delivered before anybody is released.

    Bulk multicasts are not in it, and what was sent to single members only if the arrival waited
    for that.
    """
    outcomes = _outcomes(evidence_of(lives))
    for here in outcomes.values():
        releases: dict[Member, list[tuple[_Return, int, Arrived]]] = defaultdict(list)
        for mine in here.released:
            for party in mine.outcome.parties:
                there = outcomes.get(party)
                if there is not None:
                    arrivals = there.arrivals_at(mine)
                    releases[party] += [(mine, place, arrived) for place, arrived in arrivals[:1]]
        for party, meetings in releases.items():
            yield from _lacking(here.history, outcomes[party].history, meetings)


def _lacking(
    history: History, party: History, meetings: list[tuple[_Return, int, Arrived]]
) -> Complaints:
    """What one member lacked of one party's messages when it was released.

    What was there at one release is there at all later ones, so that each message is looked at
    once, unless its call had not returned yet when the party arrived.
    """
    waiting: list[Sending] = []
    sent, begun = party.sent, 0
    for mine, arrived_at, arrived in sorted(meetings, key=lambda meeting: meeting[1]):
        if not arrived.cut:
            continue
        while begun < len(sent) and sent[begun].place <= arrived_at:
            waiting.append(sent[begun])
            begun += 1
        later: list[Sending] = []
        for sending in waiting:
            if sending.accepted > arrived_at or (sending.to and not arrived.directed):
                if sending.accepted != NEVER:
                    later.append(sending)
            elif _concerns(history, party, sending) and (
                history.delivered.get(sending.message, (NEVER, None))[0] > mine.place
            ):
                yield (
                    f"{history.member} was released from {mine.outcome.name} "
                    f"{mine.outcome.generation} without {shown(sending.message)} of {party.member}"
                )
        waiting = later


def _concerns(history: History, party: History, sending: Sending) -> bool:
    """Whether a message must be delivered to this member before it is released."""
    if sending.refused or sending.to not in (0, history.member.node):
        return False
    if sending.to:
        return sending.stay >= 0 and party.stays[sending.stay].view in history.stay_in
    own = party.delivered.get(sending.message)
    # Without it, it is not known when it was numbered; in another view this member was not there.
    return sending.lane is not Lane.BULK and own is not None and own[1] in history.stay_in


def barrier_uniformity(lives: Lives) -> Complaints:
    """11: who goes on sees the same outcome; only `unknown` says nothing.

    A safe release binds members that are cut off afterwards as well.
    """
    verdicts: dict[_Generation, tuple[Member, str]] = {}
    for member, theirs in _outcomes(evidence_of(lives)).items():
        for mine in theirs.by_ticket.values():
            outcome = mine.outcome
            if outcome.generation is None or outcome.verdict == "unknown" or not mine.binding:
                continue
            verdict = outcome.verdict
            if outcome.parties:
                verdict += f" with {shown_members(outcome.parties)}"
            other, theirs_was = verdicts.setdefault(mine.generation, (member, verdict))
            if theirs_was != verdict:
                yield f"{mine.generation}: {verdict} at {member}, {theirs_was} at {other}"


def shown_members(members: tuple[Member, ...]) -> str:
    """Several starts of nodes in short."""
    return ", ".join(f"{node}.{incarnation}" for node, incarnation in members)


def barrier_payloads(lives: Lives) -> Complaints:
    """11: whoever is released is given what each party has brought along."""
    outcomes = _outcomes(evidence_of(lives))
    for member, here in outcomes.items():
        for mine in here.released:
            for party in mine.outcome.parties:
                there = outcomes.get(party)
                if there is None:
                    continue
                given = mine.outcome.payloads.get(party.node, b"")
                arrivals = there.arrivals_at(mine) or list(there.undecided(mine))
                if arrivals and all(arrived.payload != given for _, arrived in arrivals):
                    yield (
                        f"{member} was given {shown(given)} of {party} at {mine.outcome.name} "
                        f"{mine.outcome.generation}, which had brought something else"
                    )


def barrier_tokens(lives: Lives) -> Complaints:
    """11: the tokens of one name are different, and larger than those that were known before."""
    evidence = evidence_of(lives)
    meetings: dict[str, list[tuple[int, int, Position, Position]]] = defaultdict(list)
    for history in evidence.histories:
        for ticket, (_, returned) in history.returns.items():
            token, generation = returned.token, returned.generation
            if token is None or generation is None:
                continue
            if token != returned.position:
                yield f"the token of {returned.name} {generation} is {token}, not where it was"
            arrived = history.arrivals.get(ticket)
            since = arrived[1].at_ns if arrived is not None else 0
            meetings[returned.name].append((since, returned.at_ns, token, generation))
    for name, found in meetings.items():
        of_token: dict[Position, Position] = {}
        for _, _, token, generation in found:
            if of_token.setdefault(token, generation) != generation:
                yield f"{name}: {generation} and {of_token[token]} have the same token {token}"
        if evidence.one_clock:
            yield from _not_growing(name, found)


def _not_growing(name: str, found: list[tuple[int, int, Position, Position]]) -> Complaints:
    """Releases that were waited for when a larger token was known already."""
    known = iter(sorted((returned_ns, token) for _, returned_ns, token, _ in found))
    largest: Position | None = None
    earlier = next(known, None)
    for since_ns, _, token, _ in sorted(found):
        while earlier is not None and earlier[0] < since_ns:
            largest = earlier[1] if largest is None else max(largest, earlier[1])
            earlier = next(known, None)
        if largest is not None and token <= largest:
            yield f"{name}: token {token} is not larger than {largest}, which was known before"


def no_hang(lives: Lives, *, slack_ns: int | None = None, end_ns: int | None = None) -> Complaints:
    """12: every waiting call with a deadline ends by then, give or take `slack_ns`.

    The default is two leases: a withdrawal from a barrier may take one until it is ordered.
    """
    evidence = evidence_of(lives)
    end_ns = evidence.end_ns if end_ns is None else end_ns
    for history in evidence.histories:
        slack = 2 * history.lease_ns if slack_ns is None else slack_ns
        until = history.ended_ns if history.ended_ns is not None else end_ns
        for what, at_ns, deadline_ns, ended_ns in _waits(history):
            if deadline_ns is None or (ended_ns or FOR_EVER_NS) <= deadline_ns + slack:
                continue
            stopped = history.stood_still_ns(at_ns, until)
            due = deadline_ns + slack + stopped
            if due < until and (ended_ns or FOR_EVER_NS) > due:
                yield f"{history.member} still waits at {what} past its deadline"


def _waits(history: History) -> Iterator[tuple[str, int, int | None, int | None]]:
    """What is waited for, since when, to which deadline, and when it ended."""
    for ticket, (_, arrived) in history.arrivals.items():
        returned = history.returns.get(ticket)
        ended_ns = returned[1].at_ns if returned is not None else None
        yield arrived.name, arrived.at_ns, arrived.deadline_ns, ended_ns
    for call in history.calls.values():
        yield call.what, call.at_ns, call.deadline_ns, call.ended_ns


BARRIERS: tuple[Checker, ...] = (
    barrier_safety,
    barrier_cut,
    barrier_uniformity,
    barrier_payloads,
    barrier_tokens,
)
"""What holds at every moment of every run in which barriers are used."""
