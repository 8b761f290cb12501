"""From one view into the next: what becomes of all that is open.

State does not outlive a view. What was open in the old one crosses by its policy: all that goes
on has taken the same entries and messages, hence all find the same. What goes on is *carried*:
whoever has a part in it publishes it again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from phalanx.transport.events import Member, Position, View, ViewInstalled

from .following import Following
from .generation import Crossing, Generation
from .outbox import Outbox
from .settings import Policy, Registered
from .state import State
from .tickets import Kind, Ticket

STARTED_OVER: Final = "the cluster started over"
LOST_ITS_PLACE: Final = "this node lost its place in the cluster"
LOST: Final = "left the view before its messages were all here"
NO_REASON: Final = "no reason known"


class Views:
    """What the core does when a view is installed."""

    def __init__(self, state: State, outbox: Outbox, following: Following) -> None:
        self._state = state
        self._outbox = outbox
        self._following = following

    def installed(self, event: ViewInstalled) -> None:
        """Break what lost a party, carry the rest into the new view."""
        state = self._state
        before, after = state.view, event.view
        me = next((m for m in after.incarnations if m.node == state.node), None)
        assert me is not None, "a node installs only views of which it is a member"
        if before is None or before.id.era != after.id.era or me not in before.incarnations:
            self._begin_without_past(event, me)
        else:
            self._cross(before, event)
        state.begin(after, me)
        self._outbox.begin()
        self._following.begin()
        for ticket in state.tickets:
            self._publish_anew(ticket)
        for name in sorted({name for name, _ in state.pending} | set(state.pending_rosters)):
            self._carry_on(name)

    def _begin_without_past(self, event: ViewInstalled, me: Member) -> None:
        """A newcomer, or a cluster that began a new era: nothing of before counts.

        Who goes on into a view that starts over within an era has what the others have that do:
        such a view means that no application has its state, and barriers need none.
        """
        state = self._state
        state.pending.clear()
        state.pending_rosters.clear()
        for ticket in state.tickets:
            begun = ticket.taken or ticket.opened is not None or ticket.kind is not Kind.ARRIVE
            if ticket.abandoned:
                state.tickets.forget(ticket)
            elif me == state.me and ticket.opened is not None:
                state.tickets.break_(ticket, STARTED_OVER, dict(event.left))
            elif me != state.me and begun:
                state.tickets.unknown(ticket, LOST_ITS_PLACE)

    def _cross(self, before: View, event: ViewInstalled) -> None:
        state = self._state
        left = set(before.incarnations) - set(event.view.incarnations)
        carried: dict[tuple[str, Position], Generation] = {}
        for generation in self._released():
            lost = state.not_here(generation)
            if not lost:
                self._return(generation)
            elif self._crosses(generation, left, lost, event, decided=True):
                # Its release has been returned nowhere, and waits for somebody again.
                carried[generation.name, generation.opened] = generation
        table = state.table
        assert table is not None, "there was a view"
        for generation in state.open_generations():
            known = table.get(generation.name, generation.opened) is generation
            lost = state.not_here(generation)
            if self._crosses(generation, left, lost, event, known=known):
                carried[generation.name, generation.opened] = generation
        rosters = state.rosters()
        state.pending = carried
        state.pending_rosters = {roster.name: roster for roster in rosters if roster.cross(left)}

    def _released(self) -> list[Generation]:
        """Generations whose release waits here; each once."""
        found: list[Generation] = []
        for ticket in self._state.tickets:
            if ticket.completed is not None and ticket.completed not in found:
                found.append(ticket.completed)
        return found

    def _return(self, generation: Generation) -> None:
        """Whoever goes on holds all of the view that is over: what was decided is safe now."""
        for ticket in self._state.tickets.waiting_in(generation):
            self._state.tickets.release(ticket, self._following.parties(generation))

    def _crosses(
        self,
        generation: Generation,
        left: Collection[Member],
        lost: list[int],
        event: ViewInstalled,
        *,
        known: bool = True,
        decided: bool = False,
    ) -> bool:
        """Let a generation go into the next view by its policy; False if it ends here.

        Departures cannot undo a release that is `decided`, only lost messages can.
        """
        excused = self._excused(generation, left)
        gone = [m.node for m in generation.gone(left) if m.node not in excused]
        verdict = generation.cross(
            left=() if decided and generation.settings.policy is Policy.BREAK else left,
            after=event.view,
            lost=lost,
            known=known,
            excused=excused,
        )
        match verdict:
            case Crossing.CARRIED:
                for ticket in self._state.tickets.waiting_in(generation):
                    ticket.completed = ticket.position = None
                generation.settle()
                return True
            case Crossing.RELEASED:
                era, k = event.view.id
                for ticket in self._state.tickets.waiting_in(generation):
                    ticket.completed, ticket.position = generation, Position(era, k, 0)
                self._return(generation)
            case Crossing.BROKEN | Crossing.OVER:
                self._break(generation, [] if decided else gone, lost, event)
        return False

    def _excused(self, generation: Generation, left: Collection[Member]) -> set[int]:
        """Of the registered, those who were not any more when they left the view."""
        if not isinstance(generation.settings.parties, Registered):
            return set()
        roster = self._state.roster(generation.name)
        registered = roster.members if roster is not None else {}
        return {member.node for member in left if member.node not in registered}

    def _break(
        self, generation: Generation, gone: list[int], lost: list[int], event: ViewInstalled
    ) -> None:
        missing = {node: f"left the view: {event.left.get(node, NO_REASON)}" for node in gone}
        for node in lost:
            if node not in missing:
                missing[node] = LOST
        reason = _reason(missing)
        for ticket in self._state.tickets.waiting_in(generation):
            self._state.tickets.break_(ticket, reason, missing)

    # ---------------------------------------------------------------------- in the new view

    def _publish_anew(self, ticket: Ticket) -> None:
        """What was made in the old view is void in the new one: say it again, or be done."""
        ticket.taken = False
        match ticket.kind:
            case Kind.ARRIVE:
                self._arrive_anew(ticket)
            case Kind.REGISTER:
                self._register_anew(ticket)
            case Kind.QUIT | Kind.ARRIVE_AND_QUIT:
                self._outbox.quitting(ticket)

    def _arrive_anew(self, ticket: Ticket) -> None:
        state = self._state
        if ticket.cause is None:
            if ticket.opened is None:
                self._outbox.arrival(ticket)
            else:
                self._outbox.carry(ticket.name)
        elif ticket.opened is not None:
            self._outbox.withdrawal(ticket)
        elif ticket.abandoned:
            state.tickets.forget(ticket)
        else:
            # Its arrival was never ordered and never will be: there is nothing to withdraw.
            state.tickets.taken_back(ticket, state.missing(ticket.name))

    def _register_anew(self, ticket: Ticket) -> None:
        state = self._state
        roster = state.pending_rosters.get(ticket.name)
        if ticket.cause is None:
            self._outbox.registration(ticket)
        elif roster is not None and roster.has(state.me):
            self._outbox.quitting(ticket)
        else:
            state.tickets.taken_back(ticket, {})

    def _carry_on(self, name: str) -> None:
        """Whoever is registered carries, waiting or not; and who owes a payload gives it.

        Of those whose rejoin is waited for, perhaps nobody is here: everybody carries them.
        """
        state = self._state
        roster = state.pending_rosters.get(name)
        owes = any(
            its_name == name and state.me in generation.marks and state.node in generation.payloads
            for (its_name, _), generation in state.pending.items()
        )
        keeps = roster is not None and (
            roster.has(state.me) or roster.settings.policy is Policy.WAIT_FOR_REJOIN
        )
        if owes or keeps:
            self._outbox.carry(name)


def _reason(missing: Mapping[int, str]) -> str:
    if not missing:
        return "all who had arrived left the view"
    first, *others = sorted(missing)
    reason = f"node {first} {missing[first]}"
    if others:
        reason += f" (and {len(others)} more)"
    return reason
