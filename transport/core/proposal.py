"""The choices of a proposer, as pure functions: the value of a view, and who has what.

PROTOCOL 2, steps 3 and 4. The value is fixed by what a quorum of acceptors has accepted before,
else by the reports: the cut of each stream is the most that any continuing member holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..events import Member, View, ViewId, ViewInstalled
from ..wire import ERA_FIRST, FIRST_VIEW, NO_VIEW, CutEntry, Promise, Source, ViewValue
from ..wire_data import StreamKey


def adopted(promises: Iterable[Promise]) -> ViewValue | None:
    """The value accepted under the highest ballot, if any was."""
    best: Promise | None = None
    for promise in promises:
        if promise.accepted is None:
            continue
        if best is None or promise.accepted_ballot > best.accepted_ballot:
            best = promise
    return best.accepted if best is not None else None


def choose(
    *,
    previous: ViewValue | None,
    members: Iterable[Member],
    reports: Mapping[int, Promise],
    reasons: Mapping[int, str],
    era: int = ERA_FIRST,
) -> ViewValue:
    """A new value from the reports of all of `members`; without `previous`, the first of `era`."""
    chosen = tuple(sorted(members))
    if previous is None:
        return ViewValue(era=era, k=1, members=chosen, continuing=(), donor=0, cut=(), reasons={})
    installed = _installed(previous.id, previous.members, chosen, reports)
    continuing = tuple(node for node in installed if reports[node].synced == previous.id)
    senders = {member.node for member in previous.members}
    cut: dict[tuple[int, int], int] = {}
    for node in installed:
        for held in reports[node].held:
            if not held.addressee and held.origin in senders:
                key = (held.origin, held.lane)
                cut[key] = max(cut.get(key, 0), held.sequence)
    return ViewValue(
        era=previous.era,
        k=previous.k + 1,
        members=chosen,
        continuing=continuing,
        donor=continuing[0] if continuing else _donor(previous.id, chosen, reports),
        cut=tuple(CutEntry(*key, sequence) for key, sequence in sorted(cut.items())),
        reasons=dict(reasons),
    )


def _installed(
    view_id: ViewId,
    old: Iterable[Member],
    chosen: Iterable[Member],
    reports: Mapping[int, Promise],
) -> list[int]:
    """Members of the view before that have installed it, in this very incarnation."""
    before = set(old)
    return [
        member.node
        for member in sorted(chosen)
        if member in before and reports[member.node].installed == view_id
    ]


def _donor(view_id: ViewId, chosen: Iterable[Member], reports: Mapping[int, Promise]) -> int:
    """Who has the newest state up to `view_id` where nobody continues; ties go to the lowest id.

    0 if nobody has any: all begin without.
    """
    synced = {member.node: reports[member.node].synced for member in chosen}
    newest = max((view for view in synced.values() if view <= view_id), default=NO_VIEW)
    if newest == NO_VIEW:
        return 0
    return min(node for node, view in synced.items() if view == newest)


def sources(
    value: ViewValue, previous: ViewValue | None, reports: Mapping[int, Promise]
) -> dict[int, tuple[Source, ...]]:
    """For each member that lacks something of the cut, what it lacks and who holds it."""
    if previous is None:
        return {}
    holding = _installed(previous.id, previous.members, value.members, reports)
    have = {
        node: {StreamKey(h.origin, h.addressee, h.lane): h.sequence for h in reports[node].held}
        for node in holding
    }
    lacking: dict[int, list[Source]] = {node: [] for node in holding}
    for entry in value.cut:
        key = StreamKey(entry.origin, 0, entry.lane)
        holder = next((n for n in holding if have[n].get(key, 0) >= entry.sequence), 0)
        for node in holding:
            if have[node].get(key, 0) < entry.sequence:
                lacking[node].append(Source(*key, entry.sequence, holder))
    for sender in holding:
        for sent in reports[sender].sent:
            key = StreamKey(sent.origin, sent.addressee, sent.lane)
            addressee = sent.addressee
            if addressee in have and have[addressee].get(key, 0) < sent.sequence:
                lacking[addressee].append(Source(*key, sent.sequence, sender))
    return {node: tuple(missing) for node, missing in lacking.items() if missing}


def announcement(value: ViewValue, view: View, before: View | None) -> ViewInstalled:
    """What an application is told of a view that was decided, in the place of the one before."""
    old = set(before.incarnations) if before is not None else set[Member]()
    joined = sorted(member.node for member in set(value.members) - old)
    return ViewInstalled(
        view=view,
        joined=tuple(joined),
        left=dict(value.reasons),
        started_over=value.id != FIRST_VIEW and not value.continuing,
        donor=value.donor if len(value.continuing) < len(value.members) else 0,
    )
