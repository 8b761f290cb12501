"""The acceptor of the log of views, with its durable record (Lamport, The Part-Time Parliament).

A promise and an acceptance are durable before they are said. What waits for the disk, and for
grants to run out, waits here; the membership asks what has become ready.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import msgspec

from .. import wire
from ..wire import NO_BALLOT, Ballot, Record, ViewValue
from .founding import founder
from .outputs import Outputs, Persist


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Something to be said to `node` once the record up to `token` is durable."""

    node: int
    token: int
    k: int
    ballot: Ballot
    accepted: bool
    """False: a PROMISE; True: an ACCEPTED, which also waits until `not_before_ns`."""
    vote: bool
    not_before_ns: int = 0


class Acceptor:
    """What this node has promised and accepted for the instance after its decided view."""

    def __init__(self, *, record: Record, votes_from_ns: int, outputs: Outputs) -> None:
        self.record = record
        self._votes_from_ns = votes_from_ns
        self._outputs = outputs
        self._token = 0
        self._durable = 0
        self._writable = True
        self._replies: list[Reply] = []

    @property
    def decided(self) -> ViewValue | None:
        return self.record.decided

    @property
    def promised(self) -> Ballot:
        return self.record.promised

    @property
    def founding(self) -> int:
        """The era that this node is to found by the operator's word; 0 for none."""
        return self.record.era if self.record.founding else 0

    def votes_in_ns(self, now_ns: int) -> int:
        """0: may vote now; above: after so long; -1: not before a view has admitted this node."""
        if not (self.record.voter or self.record.founding) or not self._writable:
            return -1
        return max(0, self._votes_from_ns - now_ns)

    # -------------------------------------------------------------------------- state changes

    def promise(self, node: int, k: int, ballot: Ballot, *, vote: bool) -> None:
        """Promise a ballot; without a vote nothing is written, and the report goes at once."""
        if vote:
            self._change(promised=ballot, voter=self._has_voted())
        token = self._token if vote else 0
        self._replies.append(
            Reply(node=node, token=token, k=k, ballot=ballot, accepted=False, vote=vote)
        )

    def accept(self, node: int, ballot: Ballot, value: ViewValue, *, not_before_ns: int) -> None:
        """Accept a value of a ballot that is at least the one promised."""
        assert ballot >= self.promised, "the membership refuses lower ballots"
        voter = self._has_voted()
        self._change(promised=ballot, accepted_ballot=ballot, accepted=value, voter=voter)
        self._replies.append(
            Reply(
                node=node,
                token=self._token,
                k=value.k,
                ballot=ballot,
                accepted=True,
                vote=True,
                not_before_ns=not_before_ns,
            )
        )

    def _has_voted(self) -> bool:
        """A durable vote makes the record as good as any: it is remembered from now on.

        Not so a founder's. If its record was lost, the era that it meets may be an old one.
        """
        return self.record.voter or not self.record.founding

    def found(self, era: int) -> None:
        """Take part in founding `era`, and never again in an older one."""
        if self.founding < era:
            # What waits to be said belongs to the older founding, whose votes are dropped.
            self._replies.clear()
            self.record = founder(self.record, era)
            self._change()

    def is_news(self, value: ViewValue, configured: Collection[int]) -> bool:
        """Whether a decided view is newer than the one known, and one that there can be."""
        if self.decided is not None and value.id <= self.decided.id:
            return False
        if value.era < self.founding:
            return False
        if any(member.node not in configured for member in value.members):
            self._outputs.counters["malformed_view"] += 1
            return False
        return True

    def decide(self, value: ViewValue, *, admitted: bool) -> None:
        """A view is decided: the instance after it begins with nothing promised."""
        self._replies.clear()
        # A founder that helped to decide its view remembers the era, admitted or not.
        voter = self.record.voter or admitted or value == self.record.accepted
        self._change(
            decided=value,
            promised=NO_BALLOT,
            accepted_ballot=NO_BALLOT,
            accepted=None,
            voter=voter,
            founding=False,
        )

    def remember(self, seen: dict[int, tuple[int, int]]) -> None:
        """Keep the highest incarnations seen, durably; nothing that is said waits for it."""
        if seen != self.record.seen:
            self._change(seen=dict(seen))

    def _change(self, **changes: object) -> None:
        self.record = msgspec.structs.replace(self.record, **changes)
        self._token += 1
        data = wire.encode_record(self.record)
        self._outputs.commands.append(Persist(token=self._token, data=data))

    # ------------------------------------------------------------------------------ the disk

    def persisted(self, token: int) -> None:
        """The record as of `token` is durable."""
        self._durable = max(self._durable, token)
        self._writable = True

    def persist_failed(self) -> None:
        """The record cannot be written: from now on this node reports without vote."""
        self._writable = False
        self._replies = [
            Reply(
                node=reply.node,
                token=0,
                k=reply.k,
                ballot=reply.ballot,
                accepted=False,
                vote=False,
            )
            for reply in self._replies
            if not reply.accepted
        ]

    def try_again(self) -> None:
        """Write once more if the last write failed: the disk may work again."""
        if not self._writable:
            self._change()

    def take_ready(self, now_ns: int) -> list[Reply]:
        """Replies whose record is durable and whose time has come."""
        ready = [
            reply
            for reply in self._replies
            if reply.token <= self._durable and reply.not_before_ns <= now_ns
        ]
        self._replies = [reply for reply in self._replies if reply not in ready]
        return ready

    def next_ready_ns(self, now_ns: int) -> int | None:
        """When the time of the next reply comes; one that waits for the disk is told by it."""
        later = (r.not_before_ns for r in self._replies if r.not_before_ns > now_ns)
        return min(later, default=None)
