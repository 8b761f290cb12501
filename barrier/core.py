"""The sans-I/O core of named barriers: a layer on the ordered channel "!barrier".

What is agreed lives in `table.py`: generations, decided at positions of the agreed order. This
module is the local side of it: tickets of the waits of this node, their deadlines, and what has
to be delivered here before a release may be returned.

* A deadline is no local decision. The party publishes a withdrawal and returns what the order
  says; if the order does not say it within one lease, the outcome is `Unknown`.
* A released `AGREED` party returns when, for each party, all that it multicast before arriving
  has been delivered here. Members that go on to the next view have delivered the same, so if a
  sender died with some of it, the generation is broken for all of them.
* State does not outlive a view. At a new view each generation that is neither decided nor
  broken by a departure is *carried*: who waits in it publishes it again, with its key, its
  parties and everybody who had arrived.

A generation is broken when a party leaves the view (other policies come later).
"""

from __future__ import annotations

from collections.abc import Mapping

from phalanx._native import codec
from phalanx.transport.config import NAME_BYTES_MAX, NODE_ID_MAX, NODES_MAX, ClusterConfig
from phalanx.transport.errors import UsageError
from phalanx.transport.events import Lane, Member, Position, View, ViewInstalled
from phalanx.transport.layers import MEETING_RANKS_MAX, Meeting, Ordered, Outgoing

from . import events, messages
from .messages import AllParties, Arrive, Carried, Cause, Count, Named, Parties, Strength, Withdraw
from .table import (
    Completed,
    Counted,
    Decision,
    Dissolved,
    Generation,
    Moved,
    OverLimit,
    Table,
    TurnedAway,
    Withdrawn,
)
from .tickets import Ticket, Tickets

CHANNEL = "!barrier"
_CHANNEL = CHANNEL.encode()
_ALL_RANKS = (1 << MEETING_RANKS_MAX) - 1
WAITS_MAX = 1024
"""Waits that one node may have open at once."""

NOT_ORDERED = "its arrival is not ordered yet"
NOT_ALL_HERE = "arrived, its messages are not all here"
STARTED_OVER = "the cluster started over"


class BarrierCore:
    """The barriers of one node; implements `phalanx.transport.layers.Layer`."""

    def __init__(self, config: ClusterConfig, node: int) -> None:
        self._grace_ns = config.timing.lease_ns
        self._node = node
        self._me = Member(node, 0)
        """With its incarnation, as the view says it."""
        self._view: View | None = None
        self._table: Table | None = None
        self._pending: dict[tuple[str, Position], Generation] = {}
        """Open generations of earlier views; not yet adopted in this one unless the table knows."""
        self._progress: dict[int, int] = {}
        """By sender: its fifo batches of this view that are delivered here."""
        self._tickets = Tickets(node)
        self._late: list[Ticket] = []
        """Released tickets that wait for messages; `progressed` is called for every batch."""
        self._outbox: list[tuple[int, Arrive | Withdraw]] = []
        self._stats = self._tickets.stats

    # ------------------------------------------------------------------- commands of this node

    def arrive(
        self,
        name: str,
        *,
        parties: Parties,
        strength: Strength = Strength.AGREED,
        deadline_ns: int | None,
        now_ns: int,
        after: Mapping[Lane, int] | None = None,
    ) -> int:
        """Arrive at the barrier `name`; the result is a ticket for exactly one outcome.

        `after` says up to which token, by lane, this node's multicasts have to be numbered first.

        `deadline_ns` is on the clock of `now_ns`; without one the wait ends by release, by a
        view change or by `cancel` only.

        Raises:
            UsageError: a name that is empty or longer than 64 bytes of UTF-8, a count outside
                1 ... 64, a named set without this node, a second wait of one name, or more than
                `WAITS_MAX` waits.
        """
        self._check_usage(name, parties)
        ticket = self._tickets.add(name, parties, strength, deadline_ns)
        if strength is not Strength.ARRIVED:
            ticket.after = after or {}
        if deadline_ns is not None and deadline_ns <= now_ns:
            self._take_back(ticket, Cause.TIMEOUT, now_ns)
        else:
            self._publish_arrival(ticket)
        return ticket.serial

    def cancel(self, ticket: int, *, now_ns: int) -> None:
        """Take an arrival back; its outcome is what the order says. Harmless when it is over."""
        if (found := self._tickets.get(ticket)) is not None and found.cause is None:
            self._take_back(found, Cause.CANCEL, now_ns)

    def abandon(self, ticket: int, *, now_ns: int) -> None:
        """Like `cancel`, but nobody waits for the outcome and the name is free at once."""
        found = self._tickets.get(ticket)
        if found is None or found.abandoned:
            return
        found.abandoned = True
        if found.completed is not None:
            self._tickets.forget(found)
        elif found.cause is None:
            self._take_back(found, Cause.CANCEL, now_ns)

    def missing(self, name: str) -> dict[int, str]:
        """Who keeps this node's wait, or else the oldest open generation of that name, open."""
        ticket = self._tickets.waiting_at(name)
        if self._view is None or self._table is None:
            return {}
        if ticket is not None and ticket.completed is not None:
            return dict.fromkeys(self._not_here(ticket.completed.generation), NOT_ALL_HERE)
        generations = self.open_generations(name)
        if ticket is not None and ticket.opened is not None:
            generations = [g for g in generations if g.opened == ticket.opened]
        if generations:
            return generations[0].missing(self._view)
        if ticket is None:
            return {}
        # Nobody else has arrived, and our own arrival is on its way.
        unopened = Generation(
            name=name,
            opened=Position(0, 0, 0),
            parties=ticket.parties,
            strength=ticket.strength,
            members=self._view.incarnations,
        )
        return unopened.missing(self._view) | {self._node: NOT_ORDERED}

    def generations(self) -> list[events.GenerationStatus]:
        """The agreed state: all open generations known in this view, by name and age."""
        return [
            events.GenerationStatus(
                name=generation.name,
                generation=generation.opened,
                settings=generation.settings,
                arrived=tuple(generation.marks),
            )
            for generation in sorted(self._table or (), key=lambda g: (g.name, g.opened))
        ]

    def take_outcomes(self) -> list[events.Outcome]:
        """The outcomes since the last call, in the order in which they became known."""
        return self._tickets.take_outcomes()

    def stats(self) -> dict[str, int]:
        """Counters since the start, and how many waits are open."""
        counted = dict(self._stats) | {"waits_open": len(self._tickets)}
        if self._table is not None:
            counted["generations_open"] = len(self._table)
        return counted

    # ------------------------------------------------------------------------------- the layer

    def owns(self, channel: str) -> bool:
        """The channel whose entries are barriers'."""
        return channel == CHANNEL

    def ordered(self, batch: Ordered, *, now_ns: int) -> None:
        """Decide what the next entries decide; what cannot be understood is counted."""
        del now_ns  # Time never decides: only positions do.
        sender = Member(batch.sender, batch.incarnation)
        era, k = batch.view_id
        for index, payload in enumerate(batch.payloads, batch.first):
            self._entry(payload, sender, Position(era, k, index), batch.mark_fifo)

    def _entry(self, payload: bytes, sender: Member, position: Position, mark: int) -> None:
        message = messages.decode(payload, sender=sender.node)
        if message is None or self._view is None or self._table is None:
            self._stats["entries_garbage"] += 1
            return
        if message.view != self._view.id or sender not in self._view.incarnations:
            # Made in an older view and numbered in this one: its sender publishes it again.
            self._stats["entries_stale"] += 1
            return
        if isinstance(message, Arrive):
            decisions = self._table.arrive(message, member=sender, mark=mark, position=position)
        else:
            decisions = self._table.withdraw(message, member=sender, position=position)
        self._stats["copies_refused"] += self._table.take_refused()
        for decision in decisions:
            self._apply(decision)
        if isinstance(message, Withdraw) and sender == self._me:
            self._withdrawal_ordered(message.serial)

    def stable(self, position: Position, *, now_ns: int) -> None:
        """Nothing here waits for that yet."""

    def progressed(self, *, sender: int, lane: Lane, sequence: int, now_ns: int) -> None:
        """Return the releases that waited for these messages."""
        del now_ns
        if lane is not Lane.FIFO or sequence <= self._progress.get(sender, 0):
            return
        self._progress[sender] = sequence
        if self._late:
            late, self._late = self._late, []
            for ticket in late:
                self._return_if_all_here(ticket)

    def installed(self, event: ViewInstalled, *, now_ns: int) -> None:
        """Break what lost a party, carry the rest into the new view."""
        del now_ns
        before, self._view = self._view, event.view
        me = next((m for m in event.view.incarnations if m.node == self._node), None)
        assert me is not None, "a node installs only views of which it is a member"
        era = event.view.id.era
        if before is None or before.id.era != era or me not in before.incarnations:
            self._begin_without_past(event, me)
        else:
            self._carry_over(before, event)
        self._me = me
        self._table = Table(event.view)
        self._progress.clear()
        self._late.clear()
        self._outbox.clear()
        for ticket in self._tickets:
            self._publish_anew(ticket)

    def detached(self, reason: str, *, now_ns: int) -> None:
        """Answer every open wait: this node cannot know what the others decide."""
        del now_ns
        # Returning from a barrier is an act, and a detached node may not act (PROTOCOL 3).
        self._tickets.forfeit(reason)
        for ticket in self._tickets:
            self._tickets.unknown(ticket, reason)
        self._outbox.clear()

    def wake(self, now_ns: int) -> None:
        """Take back what is overdue; give up what the order does not answer."""
        for ticket in self._tickets:
            if ticket.wake_ns is None or ticket.wake_ns > now_ns:
                continue
            if ticket.cause is None:
                self._take_back(ticket, Cause.TIMEOUT, now_ns)
            else:
                self._grace_over(ticket)

    def next_deadline(self) -> int | None:
        """The earliest deadline or end of a grace period."""
        return self._tickets.next_deadline()

    def take_entries(self, numbered: Mapping[Lane, int]) -> list[Outgoing]:
        """The entries to publish on `CHANNEL`, in order.

        An arrival waits until what this node multicast before has been numbered; it does not
        hold up what others wait for.
        """
        if not self._outbox:
            return []
        taken: list[Outgoing] = []
        kept: list[tuple[int, Arrive | Withdraw]] = []
        for serial, message in self._outbox:
            ticket = self._tickets.get(serial)
            if ticket is not None and any(
                numbered.get(lane, 0) < token for lane, token in ticket.after.items()
            ):
                kept.append((serial, message))
                continue
            meeting = None
            if isinstance(message, Arrive) and ticket is not None:
                ticket.taken = True
                meeting = self._meeting(ticket)
            taken.append(Outgoing(_CHANNEL, messages.encode(message), meeting=meeting))
        self._outbox = kept
        return taken

    def _meeting(self, ticket: Ticket) -> Meeting | None:
        """Who else is about to arrive, as far as it can be known."""
        if self._view is None or self._table is None:
            return None
        match ticket.parties:
            case AllParties():
                wanted, ranks = len(self._view.members), _ALL_RANKS
            case Count(n=n):
                wanted, ranks = n, _ALL_RANKS
            case Named(nodes=nodes):
                wanted = len(nodes)
                ranks = sum(
                    1 << rank for rank, node in enumerate(self._view.members) if node in nodes
                )
        use = f"{ticket.name} {self._table.uses(ticket.name)}".encode()
        return Meeting(codec.crc32c(use), wanted, ranks)

    # ---------------------------------------------------------------------- local arrivals

    def _check_usage(self, name: str, parties: Parties) -> None:
        if not 1 <= len(name.encode(errors="replace")) <= NAME_BYTES_MAX or not name.isprintable():
            raise UsageError(
                f"a barrier's name has 1 to {NAME_BYTES_MAX} printable bytes, not {name!r}"
            )
        if isinstance(parties, Count) and not 1 <= parties.n <= NODES_MAX:
            raise UsageError(f"parties must be 1 to {NODES_MAX}, not {parties.n}")
        if isinstance(parties, Named):
            if not 1 <= len(parties.nodes) <= NODES_MAX:
                raise UsageError(f"1 to {NODES_MAX} parties can be named, not {len(parties.nodes)}")
            if parties != messages.named(set(parties.nodes)):
                raise UsageError("named parties must be ascending and distinct: use named()")
            if not 1 <= parties.nodes[0] <= parties.nodes[-1] <= NODE_ID_MAX:
                raise UsageError(f"node ids are 1 to {NODE_ID_MAX}, not {parties.nodes}")
            if self._node not in parties.nodes:
                raise UsageError(
                    f"node {self._node} waits for {parties.nodes} without being one of them; "
                    "name it too"
                )
        if self._tickets.waiting_at(name) is not None:
            raise UsageError(
                f"this node waits at barrier {name!r} already; a node arrives once in each "
                "generation, use another name for another meeting"
            )
        if len(self._tickets) >= WAITS_MAX:
            raise UsageError(f"{WAITS_MAX} waits are open already")

    def _publish_arrival(self, ticket: Ticket) -> None:
        if self._view is None:
            return  # The first view publishes it.
        arrive = Arrive(
            view=self._view.id,
            name=ticket.name,
            serial=ticket.serial,
            parties=ticket.parties,
            strength=ticket.strength,
            counted=ticket.opened is not None,
            carried=self._to_carry(ticket.name),
        )
        self._outbox.append((ticket.serial, arrive))

    def _publish_withdrawal(self, ticket: Ticket) -> None:
        assert self._view is not None, "only what was published in a view is withdrawn"
        assert ticket.cause is not None, "a withdrawal says why"
        withdraw = Withdraw(
            view=self._view.id,
            name=ticket.name,
            serial=ticket.serial,
            cause=ticket.cause,
            carried=self._to_carry(ticket.name),
        )
        self._outbox.append((ticket.serial, withdraw))

    def _to_carry(self, name: str) -> tuple[Carried, ...]:
        """Generations that newcomers may not know of, so that our entry finds them open."""
        return tuple(
            generation.carried()
            for generation in self.open_generations(name)
            if self._table is None or self._table.get(name, generation.opened) is None
        )

    def waits(self) -> list[tuple[str, Position | None]]:
        """What callers of this node wait at, with the generation once that is ordered."""
        return [(it.name, it.opened) for it in self._tickets if not it.abandoned]

    def open_generations(self, name: str | None = None) -> list[Generation]:
        """Open in this view or pending from earlier ones; of one name or all, the oldest first."""
        if self._table is None:
            return []
        table = self._table
        found = list(table) if name is None else table.of(name)
        found += [
            generation
            for (its_name, opened), generation in self._pending.items()
            if name in (None, its_name) and not table.knows(its_name, opened)
        ]
        return sorted(found, key=lambda generation: generation.opened)

    def _take_back(self, ticket: Ticket, cause: Cause, now_ns: int) -> None:
        """Withdraw in the order; at once if the arrival has never left this node."""
        ticket.cause = cause
        ticket.grace_ns = now_ns + self._grace_ns
        if ticket.completed is not None:
            return  # Released by the order; what is left is to have the messages here.
        if ticket.opened is None and not ticket.taken:
            self._outbox = [item for item in self._outbox if item[0] != ticket.serial]
            self._tickets.taken_back(ticket, self.missing(ticket.name))
            return
        self._publish_withdrawal(ticket)

    def _grace_over(self, ticket: Ticket) -> None:
        if ticket.abandoned:
            ticket.grace_ns = None  # Nobody waits, but its withdrawal must not be forgotten.
            return
        if ticket.completed is not None:
            late = ", ".join(map(str, self._not_here(ticket.completed.generation)))
            reason = f"released, but messages of node {late} are not all here"
            self._tickets.unknown(ticket, reason)
            return
        lease_ms = self._grace_ns // 1_000_000
        reason = f"its withdrawal was not ordered within {lease_ms} ms"
        self._tickets.unknown(ticket, reason, keep=True)

    # ------------------------------------------------------------------- decisions of the order

    def _apply(self, decision: Decision) -> None:
        """Let the local tickets follow one decision of the table."""
        match decision:
            case Counted():
                if (ticket := self._own(decision.member, decision.serial)) is not None:
                    ticket.opened = decision.opened
            case Moved():
                if decision.member == self._me:
                    for ticket in self._tickets.waiting_in(decision.name, decision.source):
                        ticket.opened = decision.target
            case Completed():
                for ticket in self._waiting_in(decision.generation):
                    ticket.completed = decision
                    self._return_if_all_here(ticket)
            case Withdrawn():
                for ticket in self._waiting_in(decision.generation):
                    self._break_withdrawn(ticket, decision)
            case Dissolved():
                for ticket in self._waiting_in(decision.generation):
                    self._tickets.mismatch(ticket, decision.theirs)
            case TurnedAway():
                if (ticket := self._own(decision.member, decision.serial)) is not None:
                    self._tickets.mismatch(ticket, decision.theirs)
            case OverLimit():
                if (ticket := self._own(decision.member, decision.serial)) is not None:
                    self._tickets.refuse(ticket, decision.reason)

    def _own(self, member: Member, serial: int) -> Ticket | None:
        return self._tickets.get(serial) if member == self._me else None

    def _waiting_in(self, generation: Generation) -> list[Ticket]:
        return self._tickets.waiting_in(generation.name, generation.opened)

    def _break_withdrawn(self, ticket: Ticket, withdrawn: Withdrawn) -> None:
        if withdrawn.by == self._me and ticket.cause is withdrawn.cause:
            self._tickets.taken_back(ticket, withdrawn.missing)
        else:
            self._tickets.break_(ticket, withdrawn.reason, withdrawn.missing)

    def _withdrawal_ordered(self, serial: int) -> None:
        """Nothing is left to do for an abandoned arrival once the order has its withdrawal."""
        ticket = self._tickets.get(serial)
        if ticket is not None and ticket.abandoned:
            self._tickets.forget(ticket)

    def _not_here(self, generation: Generation) -> list[int]:
        """The parties of whom something that they multicast before arriving is not here."""
        if generation.strength is Strength.ARRIVED:
            return []
        return sorted(
            member.node
            for member, mark in generation.marks.items()
            if self._progress.get(member.node, 0) < mark
        )

    def _return_if_all_here(self, ticket: Ticket) -> None:
        assert ticket.completed is not None, "only a released ticket waits for messages"
        if self._tickets.get(ticket.serial) is None:
            return  # It got another outcome while it waited.
        if self._not_here(ticket.completed.generation):
            self._late.append(ticket)
        else:
            self._tickets.release(ticket)

    # ---------------------------------------------------------------------------- view changes

    def _begin_without_past(self, event: ViewInstalled, me: Member) -> None:
        """A newcomer, or a cluster that began a new era: nothing of before counts.

        Who goes on into a view that starts over within an era has what the others have that do:
        such a view means that no application has its state, and barriers need none.
        """
        self._pending.clear()
        for ticket in self._tickets:
            if me == self._me and ticket.opened is not None:
                self._tickets.break_(ticket, STARTED_OVER, dict(event.left))
            elif me != self._me and (ticket.taken or ticket.opened is not None):
                self._tickets.unknown(ticket, "this node lost its place in the cluster")

    def _carry_over(self, before: View, event: ViewInstalled) -> None:
        """All that goes on from `before` has the same entries and messages, hence one result."""
        for ticket in self._tickets:
            if ticket.completed is not None:
                # Departures cannot undo a release, but it still waits here: messages are lost.
                generation = ticket.completed.generation
                self._break_if_lost(generation, [], self._not_here(generation), event)
        carried: dict[tuple[str, Position], Generation] = {}
        for generation in self.open_generations():
            gone = generation.gone(before, event.view)
            if not self._break_if_lost(generation, gone, self._not_here(generation), event):
                # All that belongs to these arrivals is here now; sequences begin anew.
                generation.marks = dict.fromkeys(generation.marks, 0)
                carried[generation.name, generation.opened] = generation
        self._pending = carried

    def _break_if_lost(
        self, generation: Generation, gone: list[Member], not_here: list[int], event: ViewInstalled
    ) -> bool:
        """Break a generation that lost a party, or messages of one; True if it did."""
        missing = {
            member.node: f"left the view: {event.left.get(member.node, 'no reason known')}"
            for member in gone
        }
        for node in not_here:
            missing.setdefault(node, "left the view before its messages were all here")
        if not missing:
            return False
        first, *others = sorted(missing)
        reason = f"node {first} {missing[first]}"
        if others:
            reason += f" (and {len(others)} more)"
        for ticket in self._waiting_in(generation):
            self._tickets.break_(ticket, reason, missing)
        return True

    def _publish_anew(self, ticket: Ticket) -> None:
        """What was made in the old view is void in the new one: say it again, or be done."""
        ticket.taken = False
        if ticket.cause is None:
            self._publish_arrival(ticket)
        elif ticket.opened is not None:
            if not ticket.abandoned:
                self._publish_arrival(ticket)
            self._publish_withdrawal(ticket)
        else:
            # Its arrival was never ordered and never will be: there is nothing to withdraw.
            self._tickets.taken_back(ticket, self.missing(ticket.name))
