"""Founding the cluster anew by the operator's word, after the loss of a majority (PROTOCOL 2).

Pure functions over records and rows. A node that is started with force drops what it knows of
views and votes, durably, and keeps the *era* that it is to found: one above the highest it knew.
A majority of such nodes decides the first view of that era, by the same Paxos as any other. Since
none of them votes in an older era again, the older era decides nothing more.

To found a higher era is to give up the founding of every lower one, as a higher ballot takes the
place of a lower one: so nodes that knew different eras found the highest that one of them claims.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

import msgspec

from ..events import Member, ViewId
from ..wire import ERA_FIRST, NO_BALLOT, NO_VIEW, Record, Row, ViewValue


def forced(record: Record) -> Record:
    """The record of a node that the operator starts with force; an empty one if it was lost."""
    if record.founding:
        return record  # The votes that it has given since must not be taken back.
    known = record.decided.era if record.decided is not None else 0
    era = max(known, record.era, ERA_FIRST) + 1
    return founder(record, era)


def founder(record: Record, era: int) -> Record:
    """The same node as one that founds `era`, with what it has voted for in older ones dropped."""
    return msgspec.structs.replace(
        record,
        era=era,
        founding=True,
        decided=None,
        promised=NO_BALLOT,
        accepted_ballot=NO_BALLOT,
        accepted=None,
    )


def without_memory(record: Record) -> Record:
    """What is left of a record that the peers' memory has found out to be lost or an old copy.

    If it was to found an era it may have voted in that one already, so it founds the next.
    """
    empty = Record(
        cluster=record.cluster,
        node=record.node,
        incarnation=record.incarnation,
        seen=record.seen,
        era=record.era,
        voter=False,
    )
    return founder(empty, record.era + 1) if record.founding else empty


def taken_back(record: Record) -> Record:
    """The operator takes `force` back: a node without memory, which the others may admit.

    The era stays in mind, for it may have voted in it: forced again, it founds a higher one.
    """
    return without_memory(msgspec.structs.replace(record, founding=False))


def is_next(view_id: ViewId, decided: ViewValue | None, founding: int, *, everybody: bool) -> bool:
    """Whether a view is the one after the last that a node knows, in the same era.

    Where it knows none it is the first one of an era. Who is to found one has no part in an
    older one; who is not has a part in it only if all configured nodes have (`everybody`).
    """
    if decided is not None:
        return view_id == (decided.era, decided.k + 1)
    if view_id.k != 1 or view_id.era < founding:
        return False
    return bool(founding) or view_id.era == ERA_FIRST or everybody


def of_one_kind(
    rows: Mapping[Member, Row], me: Member, everybody: Set[int]
) -> Mapping[Member, Row]:
    """Rows of those that may be in one view with `me`.

    Who founds an era and who does not go separate ways: who knows the older era must have no part
    in the new one before it has learnt of it, and a majority that lives is not to be disturbed.
    Only if everybody is there and nobody knows a view is it a first start for all.
    """
    strange = {m for m, row in rows.items() if bool(row.founding) != bool(rows[me].founding)}
    if not strange:
        return rows
    first = all(row.decided == NO_VIEW and rows.keys() <= set(row.reach) for row in rows.values())
    if first and {member.node for member in rows} == everybody:
        return rows
    return {member: row for member, row in rows.items() if member not in strange}
