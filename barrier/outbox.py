"""What this node publishes about barriers: in which order, and what comes back of it.

The order gives a sender's entries back in the order in which they were published, so that no
entry has to say which of its sender's arrivals it is. What is taken in one view and ordered in
the next is void there, and was made anew.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from phalanx._native import codec
from phalanx.transport.layers import MEETING_RANKS_MAX, Meeting, Numbered, Outgoing

from . import messages
from .messages import Arrive, Cause, Leaving, Message
from .settings import AllParties, Count, Entered, Named, Registered, Settings, Strength
from .state import State
from .tickets import Kind, Ticket

CHANNEL: Final = "!barrier"
PLAIN_MAX: Final = 256
"""Names of which it is remembered what was said last, and what their meetings are called."""
_CHANNEL: Final = CHANNEL.encode()
_LEAVING: Final = {
    Kind.REGISTER: Leaving.TAKE_BACK,
    Kind.QUIT: Leaving.DEREGISTER,
    Kind.ARRIVE_AND_QUIT: Leaving.ARRIVE,
}
_ALL_RANKS: Final = (1 << MEETING_RANKS_MAX) - 1
_SAFE: Final = Strength.SAFE


@dataclass(slots=True, init=False)
class _Item:
    """An entry that waits to be taken."""

    ticket: Ticket | None
    payload: bytes
    arrives: bool

    def __init__(self, ticket: Ticket | None, payload: bytes, arrives: bool = False) -> None:
        self.ticket = ticket
        self.payload = payload
        self.arrives = arrives


@dataclass(slots=True, init=False)
class _Plain:
    """An arrival that brings nothing along."""

    settings: Settings
    payload: bytes

    def __init__(self, settings: Settings, payload: bytes) -> None:
        self.settings = settings
        self.payload = payload


class Outbox:
    """Entries that wait to be taken, and those that were and have not come back."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._items: list[_Item] = []
        self._said: deque[Ticket | None] = deque()
        """What each entry was for that was taken in this view and has not been ordered."""
        self._plain: dict[str, _Plain] = {}
        """By name the arrival without anything that was said last."""
        self._keys: dict[str, int] = {}
        """By name, of what the keys of its meetings are made."""
        self._meets: dict[Settings, tuple[int, int]] = {}
        """By settings, how many meet and the ranks of those who may be among them."""
        self._carried: set[str] = set()
        """Names of which this node has carried into this view all that it knows."""

    def begin(self) -> None:
        """A view is installed: what was said in the one before is void."""
        self._items.clear()
        self._said.clear()
        self._plain.clear()
        self._meets.clear()
        self._carried.clear()

    # ----------------------------------------------------------------------------- publishing

    def arrival(self, ticket: Ticket) -> None:
        """The ticket's node arrives."""
        view = self._state.view
        if view is None:
            return  # The first view publishes it.
        self.carry(ticket.name)
        if ticket.payload or ticket.spoiled or ticket.bulk:
            arrive = Arrive(
                view.id,
                ticket.name,
                ticket.settings,
                ticket.payload,
                ticket.spoiled,
                ticket.bulk,
            )
            payload = messages.encode(arrive)
        else:
            found = self._plain.get(ticket.name)
            if found is None or (
                found.settings is not ticket.settings and found.settings != ticket.settings
            ):
                if len(self._plain) >= PLAIN_MAX:
                    self._plain.clear()
                arrive = Arrive(view.id, ticket.name, ticket.settings)
                found = _Plain(ticket.settings, messages.encode(arrive))
                self._plain[ticket.name] = found
            payload = found.payload
        self._items.append(_Item(ticket, payload, True))

    def withdrawal(self, ticket: Ticket) -> None:
        """The ticket's arrival is taken back."""
        assert ticket.cause is not None, "a withdrawal says why"
        self._withdraw(ticket, ticket.cause)

    def _withdraw(self, ticket: Ticket, cause: Cause) -> None:
        view = self._state.view
        assert view is not None, "only what was published in a view is withdrawn"
        self.say(messages.Withdraw(view.id, ticket.name, cause), ticket)

    def registration(self, ticket: Ticket) -> None:
        """The ticket's node registers."""
        if (view := self._state.view) is not None:
            self.say(messages.Register(view.id, ticket.name, ticket.settings), ticket)

    def quitting(self, ticket: Ticket) -> None:
        """The ticket's node is registered no more."""
        if (view := self._state.view) is not None:
            leaving = _LEAVING[ticket.kind]
            self.say(messages.Quit(view.id, ticket.name, leaving, ticket.payload), ticket)

    def say(self, message: Message, ticket: Ticket | None = None) -> None:
        """Publish an entry, behind what earlier views have left of its name."""
        self.carry(message.name)
        self._items.append(_Item(ticket, messages.encode(message)))

    def carry(self, name: str) -> None:
        """Once in a view and name, before anything else: what a newcomer may not know of."""
        state = self._state
        if not (state.pending or state.pending_rosters) or name in self._carried:
            return
        self._carried.add(name)
        view, table = state.view, state.table
        assert view is not None, "something is pending from another view"
        assert table is not None, "a view has one"
        generations = tuple(
            generation.carried()
            for generation in state.open_generations(name)
            if table.get(name, generation.opened) is None
        )[: messages.CARRIED_MAX]
        roster = state.pending_rosters.get(name)
        if roster is not None and table.rosters.knows(name, roster.founded):
            roster = None
        if generations or roster is not None:
            copy = roster.carried() if roster is not None else None
            self._items.append(
                _Item(None, messages.encode(messages.Carry(view.id, name, generations, copy)))
            )
        for (its_name, opened), generation in state.pending.items():
            payload = generation.payloads.get(state.node)
            if its_name == name and payload and state.me in generation.marks:
                again = messages.Again(view.id, name, opened, payload)
                self._items.append(_Item(None, messages.encode(again)))

    def drop(self, ticket: Ticket) -> None:
        """What was not taken of a ticket is not published."""
        self._items = [item for item in self._items if item.ticket is not ticket]

    # ------------------------------------------------------------------------------- the order

    def take(self, numbered: Numbered) -> list[Outgoing]:
        """The entries to publish, in order.

        An arrival waits until what this node multicast before has been numbered; it does not
        hold up what others wait for.
        """
        if not self._items:
            return []
        taken: list[Outgoing] = []
        kept: list[_Item] = []
        for item in self._items:
            ticket, payload = item.ticket, item.payload
            if ticket is None:
                # It may complete a safe generation that an earlier view has left open.
                taken.append(Outgoing(_CHANNEL, payload, safe=True))
            elif ticket.after and any(
                numbered.get(lane, 0) < token for lane, token in ticket.after.items()
            ):
                kept.append(item)
                continue
            else:
                ticket.taken = True
                safe = ticket.settings.strength is _SAFE
                meeting = self._meeting(ticket) if item.arrives else None
                taken.append(Outgoing(_CHANNEL, payload, safe, meeting))
            self._said.append(ticket)
        self._items = kept
        return taken

    def came_back(self) -> Ticket | None:
        """The oldest entry of this node that was taken in this view is ordered now."""
        assert self._said, "only what was taken can be ordered"
        return self._said.popleft()

    def _meeting(self, ticket: Ticket) -> Meeting:
        """Who else is about to arrive, as far as it can be known."""
        table = self._state.table
        assert table is not None, "nothing is published without a view"
        meets = self._meets.get(ticket.settings)
        if meets is None:
            meets = self._meets_of(ticket)
        name = ticket.name
        key = self._keys.get(name)
        if key is None:
            if len(self._keys) >= PLAIN_MAX:
                self._keys.clear()
            key = self._keys[name] = codec.crc32c(name.encode())
        # Spread over the 32 bits by a number without common factors with 2**32 (Knuth).
        return Meeting(key + table.uses(name) * 2654435761 & 0xFFFFFFFF, meets[0], meets[1])

    def _meets_of(self, ticket: Ticket) -> tuple[int, int]:
        view = self._state.view
        assert view is not None, "nothing is published without a view"
        match ticket.settings.parties:
            case AllParties():
                meets = len(view.members), _ALL_RANKS
            case Count(n=n):
                meets = n, _ALL_RANKS
            case Named(nodes=nodes):
                meets = len(nodes), _ranks(view.members, nodes)
            case Entered(members=members):
                meets = len(members), _ranks(view.members, [member.node for member in members])
            case Registered():
                roster = self._state.roster(ticket.name)
                nodes = () if roster is None else tuple(roster.members)
                # It changes with each registration: not to be remembered.
                return max(1, len(nodes)), _ranks(view.members, nodes)
        self._meets[ticket.settings] = meets
        return meets


def _ranks(members: tuple[int, ...], nodes: tuple[int, ...] | list[int]) -> int:
    return sum(1 << rank for rank, node in enumerate(members) if node in nodes)
