"""Checkers of the guarantees of barriers, in the form of `checkers.py`.

A test notes `Arrival` and `Outcome` in the histories, so that nothing here knows the layer that
made them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..core.outputs import Left
from ..events import Evicted, Lane, Member, ViewInstalled
from .checkers import Checker, Complaints, stays
from .simulated_node import FOR_EVER_NS, Life


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A party has called `wait`; noted in its history."""

    ticket: int
    name: str
    deadline_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The call of that ticket has returned; noted in the history of its party."""

    ticket: int
    name: str
    generation: object
    """Names the generation, the same at every party; None if there was none."""
    verdict: str
    """`released`, or how it was broken, in words that every party uses; `unknown`."""
    parties: tuple[Member, ...] = ()
    """Of a release: who arrived."""


class _Visit(NamedTuple):
    at_ns: int
    place: int
    arrival: Arrival


class _Return(NamedTuple):
    at_ns: int
    place: int
    outcome: Outcome
    binding: bool
    """Its party went on from there, so that it must agree with the others."""


def _visits(life: Life) -> dict[int, _Visit]:
    return {
        item.ticket: _Visit(at, place, item)
        for place, (at, item) in enumerate(life.history)
        if isinstance(item, Arrival)
    }


def _returns(life: Life) -> dict[int, _Return]:
    over = life.ended_ns is not None or any(isinstance(i, Evicted | Left) for _, i in life.history)
    last_view = max(
        (place for place, (_, i) in enumerate(life.history) if isinstance(i, ViewInstalled)),
        default=0,
    )
    return {
        item.ticket: _Return(at, place, item, place < last_view or not over)
        for place, (at, item) in enumerate(life.history)
        if isinstance(item, Outcome)
    }


def barrier_safety(lives: Sequence[Life]) -> Complaints:
    """9: no wait is released before every party arrived at that generation."""
    visits = {life.member: _visits(life) for life in lives}
    returns = {life.member: _returns(life) for life in lives}
    for member, theirs in returns.items():
        for mine in theirs.values():
            outcome = mine.outcome
            if outcome.verdict != "released":
                continue
            if member not in outcome.parties:
                yield f"{member} was released from {outcome.name} without being a party"
            for party in outcome.parties:
                if not any(
                    visit.arrival.name == outcome.name
                    and visit.at_ns <= mine.at_ns
                    and _may_be(returns[party].get(ticket), mine)
                    for ticket, visit in visits.get(party, {}).items()
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


def barrier_cut(lives: Sequence[Life]) -> Complaints:
    """10: what a party multicast before it arrived is delivered before anybody is released."""
    lives_by = {life.member: life for life in lives}
    visits = {life.member: _visits(life) for life in lives}
    returns = {life.member: _returns(life) for life in lives}
    places = {
        life.member: {got.payload: got.place for stay in stays(life) for got in stay.received}
        for life in lives
    }
    views = {life.member: {stay.view.id for stay in stays(life)} for life in lives}
    view_of = {
        life.member: {got.payload: got.view_id for stay in stays(life) for got in stay.received}
        for life in lives
    }
    for life in lives:
        mine_all = [r for r in returns[life.member].values() if r.outcome.verdict == "released"]
        for mine in mine_all:
            for party in mine.outcome.parties:
                ticket = _ticket_of(returns.get(party, {}), mine)
                if ticket is None:
                    continue
                arrived = visits[party][ticket].place
                for message in lives_by[party].sent:
                    if message.place > arrived or message.addressee or message.lane is Lane.BULK:
                        continue
                    if view_of[party].get(message.payload) not in views[life.member]:
                        continue  # This member was not there yet.
                    if places[life.member].get(message.payload, FOR_EVER_NS) > mine.place:
                        yield (
                            f"{life.member} was released from {mine.outcome.name} "
                            f"{mine.outcome.generation} without {message.payload[:40]!r} of {party}"
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


def barrier_uniformity(lives: Sequence[Life]) -> Complaints:
    """11: who goes on sees the same outcome; only `unknown` says nothing."""
    verdicts: dict[tuple[str, object], tuple[Member, str]] = {}
    for life in lives:
        for mine in _returns(life).values():
            outcome = mine.outcome
            if outcome.generation is None or outcome.verdict == "unknown" or not mine.binding:
                continue
            key = (outcome.name, outcome.generation)
            other, theirs = verdicts.setdefault(key, (life.member, outcome.verdict))
            if theirs != outcome.verdict:
                yield f"{key}: {outcome.verdict} at {life.member}, {theirs} at {other}"


def no_hang(lives: Sequence[Life], *, slack_ns: int, end_ns: int) -> Complaints:
    """12: every waiting call with a deadline ends by then, give or take `slack_ns`."""
    for life in lives:
        ends = {ticket: mine.at_ns for ticket, mine in _returns(life).items()}
        until = life.ended_ns if life.ended_ns is not None else end_ns
        for ticket, visit in _visits(life).items():
            deadline = visit.arrival.deadline_ns
            if deadline is None:
                continue
            stopped = sum(
                min(end, until) - start for start, end in life.frozen if end > visit.at_ns
            )
            due = deadline + slack_ns + stopped
            if due < until and ends.get(ticket, FOR_EVER_NS) > due:
                yield f"{life.member} still waits at {visit.arrival.name} past its deadline"


BARRIERS: tuple[Checker, ...] = (barrier_safety, barrier_cut, barrier_uniformity)
"""What holds at every moment of every run in which barriers are used."""
