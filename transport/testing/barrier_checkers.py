"""Checkers of the guarantees of barriers, in the form of `checkers.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..events import Lane, Member
from .checkers import Checker, Complaints, shown
from .evidence import FOR_EVER_NS, NEVER, Evidence, History
from .history import Returned
from .lives import Arrival, Lives, Outcome, evidence_of

__all__ = [
    "BARRIERS",
    "Arrival",
    "Outcome",
    "barrier_cut",
    "barrier_safety",
    "barrier_uniformity",
    "no_hang",
]


class _Return(NamedTuple):
    place: int
    outcome: Returned
    binding: bool
    """Its party went on from there, so that it must agree with the others."""


def _returns(evidence: Evidence) -> dict[Member, dict[int, _Return]]:
    found: dict[Member, dict[int, _Return]] = {}
    for history in evidence.histories:
        last_view = history.stays[-1].place
        found[history.member] = {
            ticket: _Return(place, outcome, place < last_view or history.alive)
            for ticket, (place, outcome) in history.returns.items()
        }
    return found


def barrier_safety(lives: Lives) -> Complaints:
    """9: no wait is released before every party arrived at that generation."""
    evidence = evidence_of(lives)
    returns = _returns(evidence)
    one_clock = evidence.one_clock
    for member, theirs in returns.items():
        for mine in theirs.values():
            outcome = mine.outcome
            if outcome.verdict != "released":
                continue
            if member not in outcome.parties:
                yield f"{member} was released from {outcome.name} without being a party"
            for party in outcome.parties:
                history = evidence.by_member.get(party)
                if history is None:
                    continue  # Its history is not among these.
                if not any(
                    arrived.name == outcome.name
                    and (arrived.at_ns <= outcome.at_ns or not one_clock)
                    and _may_be(returns[party].get(ticket), mine)
                    for ticket, (_, arrived) in history.arrivals.items()
                ):
                    yield (
                        f"{member} was released from {outcome.name} {outcome.generation}, "
                        f"{party} had not arrived"
                    )


def _may_be(theirs: _Return | None, mine: _Return) -> bool:
    """Whether a party's wait may have been for the same generation."""
    if theirs is None or not (theirs.binding and mine.binding):
        return True
    return theirs.outcome.generation == mine.outcome.generation or (
        theirs.outcome.verdict == "unknown"
    )


def barrier_cut(lives: Lives) -> Complaints:
    """10: what a party sent before it arrived is delivered before anybody is released.

    Bulk multicasts are not in it, and what was sent to single members only if the arrival waited
    for that.
    """
    evidence = evidence_of(lives)
    returns = _returns(evidence)
    for history in evidence.histories:
        for mine in returns[history.member].values():
            if mine.outcome.verdict != "released":
                continue
            for party in mine.outcome.parties:
                ticket = _ticket_of(returns.get(party, {}), mine)
                if ticket is not None:
                    yield from _cut_of(history, evidence.by_member[party], ticket, mine)


def _cut_of(history: History, party: History, ticket: int, mine: _Return) -> Complaints:
    """What one member lacks of one party's messages."""
    arrival = party.arrivals.get(ticket)
    if arrival is None:
        return
    place, arrived = arrival
    if not arrived.cut:
        return
    for sending in party.sent:
        if sending.place > place:
            break
        if sending.accepted > place or sending.refused:
            continue
        if sending.to:
            if sending.to != history.member.node or not arrived.directed:
                continue
        elif sending.lane is Lane.BULK:
            continue
        if not sending.to:
            own = party.delivered.get(sending.message)
            if own is None or own[1] not in history.stay_in:
                continue  # This member was not there yet.
        elif sending.stay < 0 or party.stays[sending.stay].view not in history.stay_in:
            continue
        got = history.delivered.get(sending.message, (NEVER, None))[0]
        if got > mine.place:
            yield (
                f"{history.member} was released from {mine.outcome.name} "
                f"{mine.outcome.generation} without {shown(sending.message)} of {party.member}"
            )


def _ticket_of(returns: dict[int, _Return], mine: _Return) -> int | None:
    for ticket, theirs in returns.items():
        same = (theirs.outcome.generation, theirs.outcome.name) == (
            mine.outcome.generation,
            mine.outcome.name,
        )
        if same and theirs.binding and mine.binding:
            return ticket
    return None


def barrier_uniformity(lives: Lives) -> Complaints:
    """11: who goes on sees the same outcome; only `unknown` says nothing."""
    verdicts: dict[tuple[str, object], tuple[Member, str]] = {}
    for member, theirs in _returns(evidence_of(lives)).items():
        for mine in theirs.values():
            outcome = mine.outcome
            if outcome.generation is None or outcome.verdict == "unknown" or not mine.binding:
                continue
            key = (outcome.name, outcome.generation)
            other, verdict = verdicts.setdefault(key, (member, outcome.verdict))
            if verdict != outcome.verdict:
                yield f"{key}: {outcome.verdict} at {member}, {verdict} at {other}"


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


BARRIERS: tuple[Checker, ...] = (barrier_safety, barrier_cut, barrier_uniformity)
"""What holds at every moment of every run in which barriers are used."""
