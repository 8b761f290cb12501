"""What the parts of a barrier core share: the agreed table, and what this node waits for."""

from __future__ import annotations

from collections import deque
from typing import Final

from phalanx.transport.events import Member, Position, View

from .generation import NOT_A_MEMBER, NOT_ALL_HERE, NOT_ARRIVED, Generation, Roster
from .settings import Entered, Named, Registered, Strength
from .table import Table
from .tickets import Ticket, Tickets

NO_POSITION: Final = Position(0, 0, 0)
NOT_ORDERED: Final = "its arrival is not ordered yet"
_ARRIVED: Final = Strength.ARRIVED
NOT_HELD: Final = "does not say that it holds the release"


class State:
    """The barriers of one node; its parts read and change it, one input after the other."""

    def __init__(self, node: int) -> None:
        self.node = node
        self.me = Member(node, 0)
        """With its incarnation, as the view says it."""
        self.view: View | None = None
        self.members: dict[int, Member] = {}
        """Of the view, by node."""
        self.table: Table | None = None
        self.pending: dict[tuple[str, Position], Generation] = {}
        """Open generations of earlier views; not yet adopted in this one unless the table knows."""
        self.pending_rosters: dict[str, Roster] = {}
        self.progress: dict[int, int] = {}
        """By sender: its fifo batches of this view that are delivered here."""
        self.bulk_progress: dict[int, int] = {}
        """The same for bulk batches."""
        self.stable = NO_POSITION
        """Every member holds the order up to here."""
        self.unsafe: deque[Position] = deque()
        """Where safe entries of ordered channels are that are not delivered yet."""
        self.tickets = Tickets(node)
        self.late: list[Ticket] = []
        """Released tickets that wait for messages, or for all to hold them."""
        self.stats = self.tickets.stats

    def begin(self, view: View, me: Member) -> None:
        """A view is installed, and nothing has been ordered in it."""
        self.view, self.me = view, me
        self.members = {member.node: member for member in view.incarnations}
        self.table = Table(view)
        self.progress.clear()
        self.bulk_progress.clear()
        self.late.clear()
        self.stable = NO_POSITION
        self.unsafe.clear()

    def open_generations(self, name: str | None = None) -> list[Generation]:
        """Open in this view or pending from earlier ones; of one name or all, the oldest first."""
        table = self.table
        if table is None:
            return []
        found = list(table) if name is None else table.of(name)
        if self.pending:
            found += [
                generation
                for (its_name, opened), generation in self.pending.items()
                if name in (None, its_name) and not table.knows(its_name, opened)
            ]
        return sorted(found, key=lambda generation: generation.opened)

    def rosters(self) -> list[Roster]:
        """All that are known in this view or pending from earlier ones."""
        table = self.table
        if table is None:
            return []
        return table.rosters.all() + [
            roster
            for roster in self.pending_rosters.values()
            if not table.rosters.knows(roster.name, roster.founded)
        ]

    def roster(self, name: str) -> Roster | None:
        """Who is registered at a name, as far as this node knows."""
        table = self.table
        if table is None:
            return None
        found, pending = table.rosters.get(name), self.pending_rosters.get(name)
        if found is None and pending is not None and not table.rosters.knows(name, pending.founded):
            return pending
        return found

    def missing(self, name: str) -> dict[int, str]:
        """Who keeps this node's wait, or else the oldest open generation of that name, open."""
        view = self.view
        if view is None:
            return {}
        ticket = self.tickets.waiting_at(name)
        if ticket is not None and ticket.completed is not None:
            late = dict.fromkeys(self.not_here(ticket.completed), NOT_ALL_HERE)
            return late or dict.fromkeys(sorted(self.members), NOT_HELD)
        generations = self.open_generations(name)
        if ticket is not None and ticket.opened is not None:
            generations = [g for g in generations if g.opened == ticket.opened]
        if generations:
            return generations[0].missing(view)
        if ticket is None:
            return {}
        # Nobody else has arrived, and our own arrival is on its way.
        present = set(view.members)
        match ticket.settings.parties:
            case Named(nodes=nodes):
                wanted = nodes
            case Entered(members=members):
                wanted = tuple(member.node for member in members)
            case Registered():
                roster = self.roster(name)
                wanted = tuple(sorted(roster.members)) if roster is not None else ()
            case _:
                wanted = view.members
        missing = {node: NOT_ARRIVED if node in present else NOT_A_MEMBER for node in wanted}
        return missing | {self.node: NOT_ORDERED}

    def not_here(self, generation: Generation) -> list[int]:
        """The parties of whom something that they multicast before arriving is not here."""
        if generation.settings.strength is _ARRIVED:
            return []
        return generation.not_here(self.progress, self.bulk_progress)
