"""Checkers of the state of applications: who goes on from a view has the same state of it.

They read what simulated applications have noted in the histories of their nodes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from ..events import ViewId, ViewInstalled
from .simulated_application import ApplicationId, ReadWithoutState, StateNoted
from .simulated_node import Life

Complaints = Iterator[str]
Lives = Sequence[Life]


def state_transfer(lives: Lives) -> Complaints:
    """All applications that come to a view with its state have the same; none reads without."""
    first: dict[ViewId, StateNoted] = {}
    for life in lives:
        for _, item in life.history:
            if isinstance(item, StateNoted):
                known = first.setdefault(item.view_id, item)
                if known.digest != item.digest:
                    yield (
                        f"{known.application} and {item.application} come to view "
                        f"{item.view_id} with different states"
                    )
            elif isinstance(item, ReadWithoutState):
                yield (
                    f"{item.application} was given {item.payload[:40]!r} of {item.view_id}, of "
                    "which it has no state"
                )


def newest_state(lives: Lives) -> Complaints:
    """Who starts over does so with the newest state that an application has kept."""
    noted: dict[ApplicationId | None, set[ViewId]] = defaultdict(set)
    for life in lives:
        for note in _notes(life):
            noted[note.application].add(note.view_id)
    starts: dict[ViewId, list[tuple[Life, ViewInstalled]]] = defaultdict(list)
    for life in lives:
        for _, item in life.history:
            if isinstance(item, ViewInstalled) and item.started_over:
                starts[item.view.id].append((life, item))
    for view_id, members in starts.items():
        donor = next((life for life, item in members if item.donor == life.member.node), None)
        if donor is None or donor.application not in noted:
            continue
        if view_id not in noted[donor.application]:
            continue  # Its process ended before its application came there: who knows.
        given = max((v for v in noted[donor.application] if v < view_id), default=None)
        if given is None:
            yield f"{donor.member} gives its state in {view_id}, and never had any"
            continue
        for life, _ in members:
            # What it had in the incarnation before; in this one it may have got it too late.
            own = {i.view.id for _, i in life.history if isinstance(i, ViewInstalled)}
            kept = max((v for v in noted[life.application] - own if v < view_id), default=given)
            if kept > given:
                yield (
                    f"{view_id} starts over with what {donor.member} has of {given}; "
                    f"{life.member} has the state of {kept}"
                )


def state_arrives(lives: Lives) -> Complaints:
    """At the end of a quiet run everybody in a view has its state."""
    for life in lives:
        views = [item.view.id for _, item in life.history if isinstance(item, ViewInstalled)]
        if life.application is None or life.ended_ns is not None or life.over or not views:
            continue
        if views[-1] not in {note.view_id for note in _notes(life)}:
            yield f"the application of {life.member} never got the state of {views[-1]}"


def _notes(life: Life) -> Iterator[StateNoted]:
    return (item for _, item in life.history if isinstance(item, StateNoted))


STATE: tuple[Callable[[Lives], Complaints], ...] = (state_transfer, newest_state, state_arrives)
"""What holds of applications with state once a run has become quiet."""


def check_state(lives: Lives) -> None:
    """Run the checkers.

    Raises:
        AssertionError: with the first breaches of each.
    """
    found = [
        f"{getattr(check, '__name__', 'state')}: {said}"
        for check in STATE
        for said in [*check(lives)][:5]
    ]
    assert not found, "\n".join(found)
