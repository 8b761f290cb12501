"""The sans-I/O core of named barriers: a layer on the ordered channel "!barrier".

What is agreed lives in `table.py`: generations, decided at positions of the agreed order. The
local side is tickets, one for each thing that this node asks for (`tickets.py`). Three parts
connect them: `outbox.py` publishes entries, `following.py` has tickets follow what the order
decides, `crossing.py` takes what is open into the next view. Here are the commands of this node,
its deadlines, and the face of the layer.

A deadline is no local decision: the party publishes a withdrawal and returns what the order says;
if the order does not say it within one lease, the outcome is `Unknown`. Whoever was told
`Unknown` does not count on in silence: what it has published is taken back as soon as it acts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from phalanx.transport.config import NODE_ID_MAX, NODES_MAX, ClusterConfig
from phalanx.transport.errors import UsageError
from phalanx.transport.events import Lane, Position, ViewInstalled
from phalanx.transport.layers import Numbered, Ordered, Outgoing, Unison

from . import events, messages, names
from .crossing import Views
from .following import Following
from .generation import Generation
from .messages import Cause
from .outbox import CHANNEL, Outbox
from .settings import Count, Entered, Named, Registered, Settings, Strength, named
from .state import State
from .tickets import Kind, Ticket

WAITS_MAX: Final = 1024
"""Waits that one node may have open at once."""
_ARRIVED: Final = Strength.ARRIVED
_REGISTERED: Final = Registered


class BarrierCore:
    """The barriers of one node; implements `phalanx.transport.layers.Layer`."""

    def __init__(self, config: ClusterConfig, node: int) -> None:
        self._grace_ns = config.timing.lease_ns
        self._state = State(node)
        self._tickets = self._state.tickets
        self._outbox = Outbox(self._state)
        self._following = Following(self._state, self._outbox)
        self._views = Views(self._state, self._outbox, self._following)
        self._usable: Settings | None = None
        """The settings that were checked last."""

    # ------------------------------------------------------------------- commands of this node

    def arrive(
        self,
        name: str,
        settings: Settings,
        *,
        payload: bytes = b"",
        deadline_ns: int | None,
        now_ns: int,
        after: Mapping[Lane, int] | None = None,
        bulk: bool = False,
    ) -> int:
        """Arrive at the barrier `name`; the result is a ticket for exactly one outcome.

        `after` says up to which token, by lane, this node's multicasts have to be numbered first.
        With `bulk`, those on the bulk lane are in the cut as well.

        `deadline_ns` is on the clock of `now_ns`; without one the wait ends by release, by a
        view change or by `cancel` only.

        Raises:
            UsageError: a name that is empty or longer than 64 bytes of UTF-8, a count outside
                1 ... 64, a named set without this node, a second wait of one name, more than
                `WAITS_MAX` waits, a payload of more than 64 KiB, or a name at which this node
                is not registered, although its settings say so.
        """
        self._check(name, settings, payload)
        tickets = self._tickets
        if tickets.waiting_at(name) is not None:
            raise UsageError(
                f"this node waits at barrier {names.shown(name)!r} already; a node arrives once "
                "in each generation, use another name for another meeting"
            )
        if type(settings.parties) is _REGISTERED:
            self._check_registered(name)
        ticket = tickets.add(name, settings, deadline_ns, Kind.ARRIVE, payload)
        ticket.asked_ns = now_ns
        if settings.strength is not _ARRIVED:
            ticket.after, ticket.bulk = after, bulk
        if deadline_ns is not None and deadline_ns <= now_ns:
            self._take_back(ticket, Cause.TIMEOUT, now_ns)
        else:
            self._outbox.arrival(ticket)
        return ticket.serial

    def spoil(self, name: str, settings: Settings, reason: str) -> None:
        """Arrive, so that the others are told not to go on; nobody waits for the outcome here."""
        self._check(name, settings, b"")
        ticket = self._tickets.add(name, settings, None)
        ticket.spoiled = reason[: messages.SPOILED_CHARS_MAX] or "spoiled"
        ticket.abandoned = True
        self._outbox.arrival(ticket)

    def register(
        self, name: str, settings: Settings, *, deadline_ns: int | None, now_ns: int
    ) -> int:
        """Be a party of all generations of `name` that begin from here on.

        Raises:
            UsageError: as for `arrive`, or this node is registered there already.
        """
        assert isinstance(settings.parties, Registered), "the parties are who is registered"
        self._check(name, settings, b"")
        roster = self._state.roster(name)
        if self._tickets.registering_at(name) is not None:
            raise UsageError(f"this node is registering at barrier {name!r}, or leaving it")
        if roster is not None and roster.has(self._state.me):
            raise UsageError(f"this node is registered at barrier {name!r} already")
        ticket = self._tickets.add(name, settings, deadline_ns, Kind.REGISTER)
        if deadline_ns is not None and deadline_ns <= now_ns:
            self._take_back(ticket, Cause.TIMEOUT, now_ns)
        else:
            self._outbox.registration(ticket)
        return ticket.serial

    def unregister(self, name: str) -> None:
        """Take a registration back that nobody has been told of; nobody waits for the outcome."""
        settings = self.registered_with(name)
        if settings is not None:
            ticket = self._tickets.add(name, settings, None, Kind.REGISTER)
            ticket.abandoned, ticket.cause = True, Cause.CANCEL
            self._outbox.quitting(ticket)

    def deregister(
        self,
        name: str,
        *,
        arrive: bool,
        payload: bytes = b"",
        deadline_ns: int | None,
        after: Mapping[Lane, int] | None = None,
    ) -> int:
        """Be no party any more of generations that begin later.

        Where this node is waited for, this is its arrival; with `arrive` also where nobody has
        arrived yet.

        Raises:
            UsageError: this node is not registered there, or waits there and would arrive twice.
        """
        self._check_registered(name)
        settings = self.registered_with(name)
        assert settings is not None, "it has just been checked"
        self._check(name, settings, payload)
        if arrive and self._tickets.waiting_at(name) is not None:
            raise UsageError(f"this node waits at barrier {name!r} already")
        kind = Kind.ARRIVE_AND_QUIT if arrive else Kind.QUIT
        ticket = self._tickets.add(name, settings, deadline_ns, kind, payload)
        ticket.after = after
        self._outbox.quitting(ticket)
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

    # ---------------------------------------------------------------------------- questions

    def missing(self, name: str) -> dict[int, str]:
        """Who keeps this node's wait, or else the oldest open generation of that name, open."""
        return self._state.missing(name)

    def generations(self) -> list[events.GenerationStatus]:
        """The agreed state: all open generations known in this view, by name and age."""
        table = self._state.table
        return [
            events.GenerationStatus(
                name=names.shown(generation.name),
                generation=generation.opened,
                settings=generation.settings.words,
                arrived=tuple(generation.marks),
            )
            for generation in sorted(table or (), key=lambda g: (g.name, g.opened))
        ]

    def open_generations(self, name: str | None = None) -> list[Generation]:
        """Open in this view or pending from earlier ones; of one name or all, the oldest first."""
        return self._state.open_generations(name)

    def waiting_since(self, name: str) -> tuple[Settings, int] | None:
        """With which settings this node waits at a name, and since when, if it does."""
        ticket = self._tickets.waiting_at(name)
        return None if ticket is None else (ticket.settings, ticket.asked_ns)

    def waits(self) -> list[tuple[str, Position | None]]:
        """What callers of this node wait at, with the generation once that is ordered."""
        return [
            (it.name, it.opened)
            for it in self._tickets
            if not it.abandoned and it.kind is Kind.ARRIVE and it.completed is None
        ]

    def registered_with(self, name: str) -> Settings | None:
        """With which settings this start of this node is registered at a name, if it is."""
        roster = self._state.roster(name)
        return roster.settings if roster is not None and roster.has(self._state.me) else None

    def rosters(self, *, agreed: bool = False) -> dict[str, tuple[int, ...]]:
        """Who is registered, by name; of this view, and unless only what is `agreed` in it is
        asked for, pending from earlier ones.
        """
        table = self._state.table
        known = self._state.rosters() if not agreed or table is None else table.rosters.all()
        return {it.name: tuple(sorted(it.members)) for it in known}

    def skew(self) -> dict[int, events.Skew]:
        """By node, how much later than the first it has arrived, as this node learnt of it."""
        return self._following.skews.all()

    @property
    def has_outcomes(self) -> bool:
        """Whether `take_outcomes` gives any."""
        return self._tickets.has_outcomes

    def take_outcomes(self) -> list[events.Outcome]:
        """The outcomes since the last call, in the order in which they became known."""
        return self._tickets.take_outcomes()

    def stats(self) -> dict[str, int]:
        """Counters since the start, and how many waits are open."""
        counted = self._tickets.counted() | {"waits_open": len(self._tickets)}
        if self._state.table is not None:
            counted["generations_open"] = len(self._state.table)
            counted["payload_bytes"] = self._state.table.payload_bytes
        return counted

    # ------------------------------------------------------------------------------- the layer

    def owns(self, channel: str) -> bool:
        """The channel whose entries are barriers'."""
        return channel == CHANNEL

    def ordered(self, batches: Sequence[Ordered], *, now_ns: int) -> None:
        """Decide what the next entries decide; what cannot be understood is counted."""
        self._following.ordered(batches, now_ns)

    def unison(self, entries: Unison, *, now_ns: int) -> bool:
        """The same for what all members have said alike; False if it has to be taken one by one."""
        return self._following.unison(entries, now_ns)

    def held_back(self, position: Position, *, now_ns: int) -> None:
        """What was published before an arrival may not be delivered when that is ordered."""
        del now_ns
        self._state.unsafe.append(position)

    def stable(self, position: Position, *, now_ns: int) -> None:
        """Return the releases that waited for every member to hold them."""
        del now_ns
        if position > self._state.stable:
            self._state.stable = position
            unsafe = self._state.unsafe
            while unsafe and unsafe[0] <= position:
                unsafe.popleft()
            if self._state.late:
                self._following.look_again()

    def progressed(self, *, sender: int, lane: Lane, sequence: int, now_ns: int) -> None:
        """Return the releases that waited for these messages."""
        del now_ns
        progress = self._state.progress if lane is Lane.FIFO else self._state.bulk_progress
        if sequence <= progress.get(sender, 0):
            return
        progress[sender] = sequence
        if self._state.late:
            self._following.look_again()

    def installed(self, event: ViewInstalled, *, now_ns: int) -> None:
        """Break what lost a party, carry the rest into the new view."""
        del now_ns
        self._views.installed(event)

    def detached(self, reason: str, *, now_ns: int) -> None:
        """Answer every open wait: this node cannot know what the others decide.

        What may count somewhere is taken back when this node acts again, unless that is in
        another incarnation.
        """
        del now_ns
        # Returning from a barrier is an act, and a detached node may not act (PROTOCOL 3).
        self._tickets.forfeit(reason)
        for ticket in self._tickets:
            if not ticket.abandoned:
                self._detach(ticket, reason)

    def wake(self, now_ns: int) -> None:
        """Take back what is overdue; give up what the order does not answer."""
        due = self._tickets.due(now_ns)
        for ticket in due:
            if ticket.cause is None:
                self._take_back(ticket, Cause.TIMEOUT, now_ns)
            else:
                self._grace_over(ticket)
        next_ns = self._tickets.next_deadline()
        if next_ns is not None and next_ns <= now_ns:
            self._tickets.look_again()

    def next_deadline(self) -> int | None:
        """Not later than the earliest deadline or end of a grace period."""
        return self._tickets.next_deadline()

    def take_entries(self, numbered: Numbered) -> list[Outgoing]:
        """The entries to publish on `CHANNEL`, in order."""
        return self._outbox.take(numbered)

    # --------------------------------------------------------------------------- what is usable

    def _check(self, name: str, settings: Settings, payload: bytes) -> None:
        problem = names.problem(name)
        if problem is not None:
            raise UsageError(f"a barrier's name has {problem}, not {names.shown(name)!r}")
        if settings is not self._usable:
            self._check_settings(settings)
            self._usable = settings
        if len(payload) > messages.PAYLOAD_BYTES_MAX:
            raise UsageError(
                f"an arrival brings at most {messages.PAYLOAD_BYTES_MAX} bytes along, "
                f"not {len(payload)}: send more than that before it arrives"
            )
        if len(self._tickets) >= WAITS_MAX:
            raise UsageError(f"{WAITS_MAX} waits are open already")

    def _check_settings(self, settings: Settings) -> None:
        match settings.parties:
            case Count(n=n) if not 1 <= n <= NODES_MAX:
                raise UsageError(f"parties must be 1 to {NODES_MAX}, not {n}")
            case Named(nodes=nodes):
                self._check_named(nodes)
            case Entered(members=members) if self._state.me not in members:
                raise UsageError("this node has entered as another incarnation, which is over")
            case _:
                pass

    def _check_named(self, nodes: tuple[int, ...]) -> None:
        if not 1 <= len(nodes) <= NODES_MAX:
            raise UsageError(f"1 to {NODES_MAX} parties can be named, not {len(nodes)}")
        if nodes != named(set(nodes)).nodes:
            raise UsageError("named parties must be ascending and distinct: use named()")
        if not 1 <= nodes[0] <= nodes[-1] <= NODE_ID_MAX:
            raise UsageError(f"node ids are 1 to {NODE_ID_MAX}, not {nodes}")
        if self._state.node not in nodes:
            raise UsageError(
                f"node {self._state.node} waits for {nodes} without being one of them; name it too"
            )

    def _check_registered(self, name: str) -> None:
        if self.registered_with(name) is None:
            raise UsageError(
                f"this node is not registered at barrier {name!r}, or not any more in this "
                "incarnation: register first"
            )
        if self._tickets.registering_at(name) is not None:
            raise UsageError(f"this node is leaving barrier {name!r}")

    # ----------------------------------------------------------------------------- taking back

    def _take_back(self, ticket: Ticket, cause: Cause, now_ns: int) -> None:
        """Withdraw in the order; at once if the arrival has never left this node."""
        if ticket.kind in (Kind.QUIT, Kind.ARRIVE_AND_QUIT):
            # What is given up stays given up: only the answer is not waited for.
            ticket.cause = cause
            self._tickets.unknown(ticket, "it was not ordered in time", keep=True)
            return
        ticket.cause = cause
        ticket.grace_ns = now_ns + self._grace_ns
        self._tickets.watch(ticket.grace_ns)
        if ticket.completed is not None:
            return  # Released by the order; what is left is to have all here.
        if ticket.opened is None and not ticket.taken:
            self._outbox.drop(ticket)
            self._tickets.taken_back(ticket, self.missing(ticket.name))
        elif ticket.kind is Kind.REGISTER:
            self._outbox.quitting(ticket)
        else:
            self._outbox.withdrawal(ticket)

    def _grace_over(self, ticket: Ticket) -> None:
        if ticket.abandoned:
            ticket.grace_ns = None  # Nobody waits, but its withdrawal must not be forgotten.
            return
        if ticket.completed is not None:
            late = ", ".join(map(str, self._state.not_here(ticket.completed)))
            reason = (
                f"released, but messages of node {late} are not all here"
                if late
                else "released, but not every member says that it holds that"
            )
            self._tickets.unknown(ticket, reason)
            return
        lease_ms = self._grace_ns // 1_000_000
        reason = f"its withdrawal was not ordered within {lease_ms} ms"
        self._tickets.unknown(ticket, reason, keep=True)

    def _detach(self, ticket: Ticket, reason: str) -> None:
        if ticket.completed is not None:
            self._tickets.unknown(ticket, reason)  # It is decided: there is nothing to take back.
        elif not (ticket.taken or ticket.opened is not None):
            self._outbox.drop(ticket)
            self._tickets.unknown(ticket, reason)
        else:
            self._tickets.unknown(ticket, reason, keep=True)
            leaves = ticket.kind in (Kind.QUIT, Kind.ARRIVE_AND_QUIT)
            if ticket.cause is None and not leaves:
                ticket.cause = Cause.CANCEL
                if ticket.kind is Kind.REGISTER:
                    self._outbox.quitting(ticket)
                else:
                    self._outbox.withdrawal(ticket)
