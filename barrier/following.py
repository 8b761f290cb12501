"""What the agreed order means to the waits of this node: entries in, outcomes out.

The table decides; here tickets follow. A released party returns when all is here that belongs to
the release: with strength `agreed`, of each party all that it multicast before it arrived; with
`safe` also the word that every member holds the order up to the release.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from phalanx.transport.events import Member, Position
from phalanx.transport.layers import Ordered, Unison

from . import messages
from .decisions import (
    Adopted,
    Completed,
    Counted,
    Decision,
    Dissolved,
    Enrolled,
    Founding,
    Moved,
    OverLimit,
    Spoiled,
    TurnedAway,
    Withdrawn,
)
from .events import Enrolled as EnrolledOutcome
from .events import Registration, Retired
from .generation import Generation
from .messages import Again, Arrive, Carry, Cause, Message, Quit, Register, Vouch, Withdraw
from .outbox import Outbox
from .settings import Strength
from .skew import Skews
from .state import State
from .table import Arriving
from .tickets import Kind, Ticket

REMEMBERED_MAX: Final = 512
"""Entries whose bytes are remembered with what they mean."""
REMEMBERED_BYTES_MAX: Final = 256
"""Longer ones are not likely to come again."""
_ARRIVED: Final = Strength.ARRIVED
_SAFE: Final = Strength.SAFE


@dataclass(slots=True, init=False)
class _Known:
    """What an entry says."""

    message: Message
    arriving: Arriving | None
    """Where it is an arrival."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.arriving = None
        if isinstance(message, Arrive):
            self.arriving = Arriving(
                message.name, message.settings, message.payload, message.spoiled, message.bulk
            )


class Following:
    """Feeds the table, and has the tickets follow what it decides."""

    def __init__(self, state: State, outbox: Outbox) -> None:
        self._state = state
        self._outbox = outbox
        self._known: dict[bytes, _Known] = {}
        """Entries of this view by their bytes: the arrivals at one barrier are all the same."""
        self.skews = Skews()

    def begin(self) -> None:
        """A view is installed."""
        self._known.clear()

    # ------------------------------------------------------------------------------- entries

    def ordered(self, batches: Sequence[Ordered], now_ns: int) -> None:
        """Decide what the next entries decide; what cannot be understood is counted.

        Time is noted and never decides: only positions do.
        """
        state = self._state
        table, members, node = state.table, state.members, state.node
        payload, known = b"", None
        for batch in batches:
            member = members.get(batch.sender)
            if table is None or member is None or member.incarnation != batch.incarnation:
                state.stats["entries_stale"] += len(batch.payloads)
                continue
            own, mark, index = batch.sender == node, batch.mark_fifo, batch.first
            for each in batch.payloads:
                # Those who meet all say the same, and often it is one object.
                if each is not payload or known is None:
                    payload, known = each, self._known.get(each) or self._read(each)
                if known is not None:
                    ticket = self._outbox.came_back() if own else None
                    arriving = known.arriving
                    counted = None
                    if arriving is not None and arriving.plain:
                        counted = table.count(arriving, member, mark, now_ns)
                    if counted is None:
                        self._follow(known, member, batch, index, ticket, now_ns)
                    elif ticket is not None and ticket.kind is Kind.ARRIVE:
                        ticket.opened = counted.opened
                index += 1

    def unison(self, entries: Unison, now_ns: int) -> bool:
        """All members arrive at once where nobody was: the generation begins and is complete.

        False, and nothing is done, if anything else is to be decided, or if it is said for the
        first time: then `ordered` reads what it means, and remembers it.
        """
        state, payloads = self._state, entries.payloads
        table, view = state.table, state.view
        if table is None or view is None or view.id != entries.view_id or len(payloads) != 1:
            return False
        known = self._known.get(payloads[0])
        arriving = known.arriving if known is not None else None
        if arriving is None or not arriving.plain:
            return False
        members, rows, ranks = view.incarnations, entries.rows, entries.ranks
        marks: dict[Member, int] = {}
        for rank in ranks:
            marks[members[rank]] = rows[rank][2]
        generation = table.unison(arriving, marks, entries.first, now_ns)
        if generation is None:
            return False
        ticket = self._outbox.came_back()
        if ticket is not None and ticket.kind is Kind.ARRIVE:
            ticket.opened = generation.opened
        self.skews.note_together(view.members)
        self._released(generation, table.position(entries.first + len(ranks) - 1))
        return True

    def _follow(
        self,
        known: _Known,
        member: Member,
        batch: Ordered,
        index: int,
        ticket: Ticket | None,
        now_ns: int,
    ) -> None:
        """Let the tickets follow what one entry decides; `ticket` is what our own was for."""
        own, mark = batch.sender == self._state.node, batch.mark_fifo
        decisions = self._decide(known, member, mark, index, now_ns)
        if known.arriving is not None and known.arriving.bulk:
            _mark_bulk(decisions, member, batch.mark_bulk)
        for decision in decisions:
            if own or type(decision) is not Counted:
                self._apply(decision, ticket, index)
        if ticket is not None and not ticket.over:
            self._answered(known.message, ticket)

    def _read(self, payload: bytes) -> _Known | None:
        """What an entry says, if it was made in this view."""
        state = self._state
        message = messages.decode(payload)
        if message is None:
            state.stats["entries_garbage"] += 1
            return None
        assert state.view is not None, "the caller has a table"
        if message.view != state.view.id:
            # Made in an older view and numbered in this one: its sender publishes it again.
            state.stats["entries_stale"] += 1
            return None
        known = _Known(message)
        if len(payload) <= REMEMBERED_BYTES_MAX:
            if len(self._known) >= REMEMBERED_MAX:
                self._known.clear()
            self._known[payload] = known
        return known

    def _decide(
        self, known: _Known, member: Member, mark: int, index: int, now_ns: int
    ) -> list[Decision]:
        table = self._state.table
        assert table is not None, "the caller has it"
        message = known.message
        match message:
            case Arrive():
                assert known.arriving is not None, "it is read from one"
                return table.arrive(known.arriving, member, mark, index, now_ns)
            case Again():
                return table.again(message, member, index)
            case Withdraw():
                return table.withdraw(message, member)
            case Carry():
                decisions = table.carry(message, index)
                self._state.stats["copies_refused"] += table.take_refused()
                return decisions
            case Register():
                return table.register(message, member)
            case Vouch():
                return table.vouch(message, member, index)
            case Quit():
                return table.quit(message, member, mark, index, now_ns)

    def _answered(self, message: Message, ticket: Ticket) -> None:
        """This entry of our own is ordered: some tickets have waited for nothing else."""
        tickets = self._state.tickets
        match message:
            case Withdraw():
                if ticket.abandoned:
                    tickets.forget(ticket)
            case Quit() if ticket.kind is Kind.REGISTER:
                tickets.taken_back(ticket, {})
            case Quit():
                tickets.resolve(ticket, Retired(ticket=ticket.serial, name=ticket.name))
            case Arrive() if ticket.spoiled:
                tickets.forget(ticket)
            case _:
                pass

    # ----------------------------------------------------------------------------- decisions

    def _apply(self, decision: Decision, ticket: Ticket | None, index: int) -> None:
        """Let the local tickets follow one decision; `ticket` is what our own entry was for."""
        state = self._state
        tickets = state.tickets
        match decision:
            case Counted(generation=generation):
                # Who arrives and leaves waits for nobody, but for the answer.
                if ticket is not None and ticket.kind is Kind.ARRIVE:
                    ticket.opened = generation.opened
            case Completed(generation=generation, position=position):
                self._completed(generation, position)
            case Adopted(generation=generation):
                self._adopted(generation)
            case Moved(member=member, source=source, target=target):
                if member == state.me:
                    for moved in tickets.of(target.name):
                        if moved.opened == source:
                            moved.opened = target.opened
            case Withdrawn():
                self._withdrawn(decision)
            case Spoiled(generation=generation):
                for waiting in tickets.waiting_in(generation):
                    tickets.break_(waiting, generation.spoiled, {})
            case Dissolved(generation=generation, theirs=theirs):
                for waiting in tickets.waiting_in(generation):
                    tickets.mismatch(waiting, generation.settings.words, theirs)
            case TurnedAway():
                self._turned_away(decision, ticket)
            case OverLimit(reason=reason):
                # Who leaves is not registered any more, whether or not its arrival counts.
                leaves = ticket is None or ticket.kind in (Kind.QUIT, Kind.ARRIVE_AND_QUIT)
                if ticket is not None and not leaves and not ticket.over:
                    tickets.refuse(ticket, reason)
            case Founding(name=name):
                assert state.view is not None, "the entry was made in it"
                self._outbox.say(messages.Vouch(state.view.id, name))
            case Enrolled():
                self._enrolled(decision, index)

    def _adopted(self, generation: Generation) -> None:
        """What this node has noted of it in earlier views."""
        noted = self._state.pending.get((generation.name, generation.opened))
        if noted is not None:
            generation.note(noted.times)
            generation.payloads = noted.payloads | generation.payloads

    def _completed(self, generation: Generation, position: Position) -> None:
        self.skews.note(generation)
        self._released(generation, position)

    def _released(self, generation: Generation, position: Position) -> None:
        for ticket in self._state.tickets.waiting_in(generation):
            ticket.completed, ticket.position = generation, position
            self.return_if_all_here(ticket)

    def _withdrawn(self, withdrawn: Withdrawn) -> None:
        state = self._state
        node = withdrawn.by.node
        timed_out = withdrawn.cause is Cause.TIMEOUT
        reason = f"node {node} timed out" if timed_out else f"cancelled by node {node}"
        for ticket in state.tickets.waiting_in(withdrawn.generation):
            if withdrawn.by == state.me and ticket.cause is withdrawn.cause:
                state.tickets.taken_back(ticket, withdrawn.missing)
            else:
                state.tickets.break_(ticket, reason, withdrawn.missing)

    def _turned_away(self, decision: TurnedAway, ticket: Ticket | None) -> None:
        """Ours, or a registration of ours that somebody else's has called in question."""
        state = self._state
        if decision.member != state.me:
            return
        asked = [ticket] if ticket is not None else state.tickets.of(decision.name)
        for ours in asked:
            if not ours.over and (ticket is not None or ours.kind is Kind.REGISTER):
                state.tickets.mismatch(ours, decision.ours, decision.theirs)

    def _enrolled(self, enrolled: Enrolled, index: int) -> None:
        if enrolled.member != self._state.me:
            return
        for ticket in self._state.tickets.of(enrolled.name):
            # One that is being taken back waits for the answer to that.
            if ticket.kind is Kind.REGISTER and ticket.cause is None:
                registration = self._registration(enrolled.name, index)
                outcome = EnrolledOutcome(ticket=ticket.serial, registration=registration)
                self._state.tickets.resolve(ticket, outcome)

    def _registration(self, name: str, index: int) -> Registration:
        """What there is to know for one that is registered by the entry of that index."""
        roster, generations = self._state.roster(name), self._state.open_generations(name)
        parties = tuple(sorted(roster.members)) if roster is not None else ()
        view = self._state.view
        assert view is not None, "the entry was made in it"
        position = Position(view.id.era, view.id.k, index)
        if not generations:
            return Registration(name=name, position=position, parties=parties)
        generation = generations[0]
        arrived = tuple(sorted(member.node for member in generation.marks))
        return Registration(
            name=name,
            position=position,
            parties=parties,
            generation=generation.opened,
            arrived=arrived,
            waited_for=tuple(sorted((generation.wanted or frozenset()).difference(arrived))),
        )

    # ------------------------------------------------------------------------ giving releases

    def return_if_all_here(self, ticket: Ticket) -> None:
        """Return a release, unless something that belongs to it is missing."""
        state = self._state
        generation, position = ticket.completed, ticket.position
        assert generation is not None, "the order decides releases"
        assert position is not None, "each of them at a position"
        if ticket.over:
            return  # It got another outcome while it waited.
        strength = generation.settings.strength
        late = strength is _SAFE and state.stable < position
        if strength is not _ARRIVED:
            held_back = bool(state.unsafe) and state.unsafe[0] < position
            late = late or held_back or bool(state.not_here(generation))
        if late:
            state.late.append(ticket)
        else:
            state.tickets.release(ticket, self.parties(generation))

    def parties(self, generation: Generation) -> tuple[Member, ...]:
        """Who has arrived, in ascending order."""
        view = self._state.view
        marks = generation.marks
        everybody = view.incarnations if view is not None else ()
        # Nobody counts that is not in the view.
        return everybody if len(marks) == len(everybody) else tuple(sorted(marks))

    def look_again(self) -> None:
        """Something has become known for which releases may have waited."""
        late, self._state.late = self._state.late, []
        for ticket in late:
            self.return_if_all_here(ticket)


def _mark_bulk(decisions: list[Decision], member: Member, mark: int) -> None:
    """Bulk batches up to the mark belong to an arrival that has just been counted."""
    for decision in decisions:
        if isinstance(decision, Counted):
            marks = decision.generation.bulk_marks
            marks[member.node] = max(mark, marks.get(member.node, 0))
