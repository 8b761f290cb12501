"""How a newcomer's application gets the state of the others (PROTOCOL 2, state transfer).

The decided value says who needs state and who gives it. The donor's application is asked for a
snapshot at the place of the view in its stream; here it is kept and given in parts for which the
newcomers ask, as many at a time as bulk may be in flight. A newcomer that hears nothing asks
again. The parts are control messages and not messages of a stream: the lanes of a newcomer that
cannot read yet may stand still, and the state is what it needs to read on.

A transfer belongs to one view. With the next view the donor's snapshot is dropped, and whoever
lacks something of it begins with the donor of that view.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from ..config import BATCH_BYTES_MAX, Limits, Timing
from ..drivers.base import Stream
from ..events import StateOverdue, ViewId
from ..wire import NO_VIEW, Row, StateAsk, StatePart, ViewValue
from .framing import Framer
from .gather import Standing
from .outputs import (
    Outputs,
    StateArrived,
    StateAwaited,
    StateTooLarge,
    StateVoid,
    StateWanted,
    Transmit,
)
from .peers import Peers
from .timers import Timer, TimerTable


@dataclass(slots=True)
class _Giving:
    """A snapshot of this node's application, and who has not made use of it yet."""

    view_id: ViewId
    to: set[int]
    state: bytes | None
    """None: the application has no hook, so that there is nothing to give."""
    made: bool
    """False until the application has come to this view."""


@dataclass(slots=True)
class _Taking:
    """What this node has of the donor's snapshot."""

    view_id: ViewId
    donor: int
    progress_ns: int
    told_ns: int
    parts: bytearray = field(default_factory=bytearray)
    size: int | None = None
    asked: int = 0
    """Up to where parts have been asked for."""
    detour: bool = False
    """The donor's bulk stream seems to stand still."""
    complete: bool = False
    """All of it has been handed to the application's queue."""


class StateTransfer:
    """One incarnation's part in giving and taking the state of applications."""

    def __init__(
        self,
        *,
        standing: Standing,
        stateful: bool,
        limits: Limits,
        timing: Timing,
        framer: Framer,
        peers: Peers,
        timers: TimerTable,
        outputs: Outputs,
    ) -> None:
        self._standing = standing
        self._stateful = stateful
        self._limits = limits
        self._timing = timing
        self._framer = framer
        self._peers = peers
        self._timers = timers
        self._outputs = outputs
        self._giving: _Giving | None = None
        self._taking: _Taking | None = None

    # ---------------------------------------------------------------------------------- views

    def installed(self, value: ViewValue, now_ns: int) -> None:
        """Before `ViewInstalled` is put out: say who gives state, and who waits for it."""
        standing, me = self._standing, self._standing.me.node
        unbroken = bool(value.continuing) and standing.is_synced
        self._giving = None
        if me in value.continuing or value.donor in (0, me) or not self._stateful or unbroken:
            # Unbroken: it took its state in after it had reported, in the view before.
            self.over()
            standing.synced = value.id
        elif not (value.continuing and self._taking is not None and self._taking.complete):
            self.over()
            self._take_from(value.donor, value.id, now_ns)
        if value.donor == me:
            self._give_to({m.node for m in value.members} - {me, *value.continuing}, value.id)

    def over(self) -> None:
        """The state that is awaited, or not taken in yet, is that of a view which is over."""
        if self._taking is not None:
            self._outputs.counters["state_transfers_abandoned"] += 1
            self._outputs.stream.append(StateVoid(view_id=self._taking.view_id))
            self._taking = None
            self._timers.stop(Timer.STATE)

    def _take_from(self, donor: int, view_id: ViewId, now_ns: int) -> None:
        if self._standing.synced >= view_id:
            # It is of a cluster of the same name that was founded anew since.
            self._standing.synced = NO_VIEW
        self._taking = _Taking(view_id, donor, now_ns, now_ns)
        self._outputs.stream.append(StateAwaited(view_id=view_id, donor=donor))
        self._ask_from_here(self._taking, now_ns)

    def _give_to(self, needing: set[int], view_id: ViewId) -> None:
        if needing:
            self._giving = _Giving(view_id, needing, None, made=not self._stateful)
            if self._stateful:
                self._outputs.stream.append(StateWanted(view_id=view_id))

    # ------------------------------------------------------------------------------ the donor

    def wanted(self, view_id: ViewId) -> bool:
        """Whether anybody still needs the application's state as of this view."""
        giving = self._giving
        return (
            giving is not None
            and giving.view_id == view_id
            and not giving.made
            and bool(giving.to)
            and not self._standing.evicted
        )

    def give(self, view_id: ViewId, state: bytes) -> None:
        """The application's state as of this view; ignored if nobody needs it any more."""
        if not self.wanted(view_id):
            return
        assert self._giving is not None, "it is wanted"
        self._giving.state = state
        self._giving.made = True
        for node in sorted(self._giving.to):
            self._send_part(node, 0, self._limits.bulk_batch_bytes, again=False)

    def asked(self, node: int, ask: StateAsk) -> None:
        """A newcomer asks for a part; if there is nothing yet, it will get the first one."""
        giving = self._giving
        if giving is None or giving.view_id != ask.view_id or node not in giving.to:
            self._outputs.counters["state_asked_in_vain"] += 1
        elif giving.made:
            self._send_part(node, ask.offset, ask.size, again=ask.again)

    def _send_part(self, node: int, offset: int, size: int, *, again: bool) -> None:
        giving = self._giving
        assert giving is not None, "checked by the callers"
        state = giving.state if giving.state is not None else b""
        message = StatePart(
            view_id=giving.view_id,
            offset=offset,
            size=len(state),
            given=giving.state is not None,
            part=state[offset : offset + min(size, BATCH_BYTES_MAX)],
        )
        self._outputs.counters["state_parts_sent"] += 1
        peer = self._peers.peers[node]
        if peer.link:
            frame = self._framer.message(message, addressee=node)
            stream = Stream.REPAIR if again else Stream.BULK
            self._outputs.transmits.append(Transmit(peer.link, stream, frame))

    def row_received(self, node: int, row: Row) -> None:
        """Who has the state of this view needs it no more."""
        giving = self._giving
        if giving is not None and row.synced and row.decided >= giving.view_id:
            giving.to.discard(node)
            if not giving.to:
                self._giving = None

    def owed(self, gone: Collection[int]) -> bool:
        """Whether a member that is not gone depends on a snapshot that was made here."""
        giving = self._giving
        return giving is not None and giving.made and bool(giving.to - set(gone))

    # --------------------------------------------------------------------------- the newcomer

    def _ask_from_here(self, taking: _Taking, now_ns: int) -> None:
        """What was asked for may be lost: ask for what follows that which is here."""
        taking.asked = len(taking.parts)
        self._ask_more(taking)
        self._timers.arm(Timer.STATE, "", now_ns + self._timing.suspect_ns)

    def _ask_more(self, taking: _Taking) -> None:
        # As long as the size is not known, only for the first part.
        end = len(taking.parts) + self._limits.bulk_in_flight_bytes
        end = min(end, taking.size) if taking.size is not None else 1
        peer = self._peers.peers[taking.donor]
        while taking.asked < end:
            ask = StateAsk(
                view_id=taking.view_id,
                offset=taking.asked,
                size=self._limits.bulk_batch_bytes,
                again=taking.detour,
            )
            taking.asked += ask.size
            if peer.link:
                frame = self._framer.message(ask, addressee=taking.donor)
                self._outputs.transmits.append(Transmit(peer.link, Stream.CONTROL, frame))

    def linked(self, node: int, now_ns: int) -> None:
        """A new association to a peer: what went over the old one may be lost."""
        taking = self._taking
        if taking is not None and taking.donor == node and not taking.complete:
            taking.detour = False
            self._ask_from_here(taking, now_ns)

    def received(self, node: int, part: StatePart, now_ns: int) -> None:
        """The next part of the state, or one that is here already."""
        taking = self._taking
        if taking is None or (taking.donor, taking.view_id) != (node, part.view_id):
            self._outputs.counters["state_of_other_view"] += 1
            return
        if taking.complete or part.offset != len(taking.parts):
            self._outputs.counters["state_parts_twice"] += 1
            return
        ends = part.offset + len(part.part)
        known = taking.size if taking.size is not None else part.size
        if part.size != known or ends > part.size or (ends < part.size and not part.part):
            self._outputs.counters["malformed_state"] += 1
            return
        if part.size > self._limits.state_bytes_max:
            self._outputs.stream.append(StateTooLarge(donor=node, size=part.size))
            return
        if taking.size is None:
            # It may come unasked, and be smaller than what was asked for.
            taking.asked = ends
        taking.size = part.size
        taking.parts += part.part
        taking.asked = max(taking.asked, ends)
        taking.progress_ns = now_ns
        if ends < part.size:
            self._ask_more(taking)
            return
        taking.complete = True
        self._timers.stop(Timer.STATE)
        state = bytes(taking.parts) if part.given else None
        taking.parts = bytearray()
        self._outputs.stream.append(StateArrived(view_id=taking.view_id, state=state))

    def due(self, now_ns: int) -> None:
        """Look whether anything has come, ask again if not, and say so after a while."""
        taking = self._taking
        if taking is None or taking.complete or self._standing.evicted or self._standing.left:
            return
        if now_ns - taking.progress_ns < self._timing.suspect_ns:
            self._timers.arm(Timer.STATE, "", taking.progress_ns + self._timing.suspect_ns)
            return
        taking.detour = True
        self._ask_from_here(taking, now_ns)
        if now_ns - max(taking.progress_ns, taking.told_ns) >= self._timing.state_timeout_ns:
            taking.told_ns = now_ns
            self._outputs.stream.append(
                StateOverdue(
                    view_id=taking.view_id,
                    donor=taking.donor,
                    received_bytes=len(taking.parts),
                    size_bytes=taking.size,
                )
            )

    def synced(self, view_id: ViewId) -> bool:
        """The application has taken in the state of this view; False if that is of no use now."""
        taking, view = self._taking, self._standing.view
        if taking is None or view is None or taking.view_id != view_id or not taking.complete:
            return False
        # The view may have changed since: what came after the snapshot is in the queue, as it is
        # at the members that continued.
        self._taking = None
        self._standing.synced = view.id
        return True
