"""Checkers of what lost rails may do to views, in the form of `checkers.py`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from ..core.damping import UNREACHABLE
from ..events import ViewId
from .evidence import History
from .history import Expelled, Installed, LostPrimary
from .lives import Lives, evidence_of

LATELY_NS = 2_000_000_000
"""How long before a view the paths may have been lost for which somebody is left out."""
TOLD_NS = 100_000_000
"""How much later than the others in the view somebody who is not in it may hear of that."""


def path_transparency(lives: Lives, *, since_ns: int) -> Iterator[str]:
    """13: while one rail remains nothing happens to views (the other checkers see to messages).

    For runs of which it is known that since then no node lost its last rail.
    """
    for history in evidence_of(lives).histories:
        for record in history.records:
            if record.at_ns >= since_ns and isinstance(record, Installed | LostPrimary | Expelled):
                yield f"{history.member} at {record.at_ns / 1e6:.1f} ms: {record}"


def last_rail_lost(lives: Lives) -> Iterator[str]:
    """13: on suspicion nobody is left out while all in the view have a rail to him, and he to them.

    For histories that name the cluster's rails and share a clock, and views without newcomers:
    theirs do not say whom they reach, and a view is the largest set in which everybody does.
    """
    evidence = evidence_of(lives)
    judged: set[ViewId] = set()
    for history in evidence.histories if evidence.one_clock else ():
        for before, after in pairwise(history.stays):
            installed = after.installed
            out = {node for node, why in installed.left.items() if why == UNREACHABLE}
            newcomers = set(after.members) - set(before.members)
            if not out or newcomers or after.view in judged or not history.rails:
                continue
            judged.add(after.view)
            until_ns = min(
                other.stay_in[after.view].installed.at_ns
                for other in evidence.histories
                if after.view in other.stay_in
            )
            cut_off = set[int]()
            for member in before.members:
                other = evidence.by_member.get(member)
                if other is None:
                    cut_off |= out  # What it saw is not known.
                    continue
                stay = other.stay_in.get(after.view)  # There it sees the others' paths go.
                told_ns = stay.installed.at_ns if stay else until_ns + TOLD_NS
                lost = _cut_off_from(other, until_ns - LATELY_NS, told_ns)
                cut_off |= lost
                if lost or other.stood_or_ended(until_ns):
                    cut_off.add(member.node)
            for node in sorted(out - cut_off):
                yield f"view {after.view} leaves out {node}, to and from which all had a rail left"


def _cut_off_from(history: History, from_ns: int, told_ns: int) -> set[int]:
    """Peers to which a member had no rail left at some time in a span, as it was told by then."""
    down: dict[int, set[str]] = defaultdict(set)
    found: set[int] = set()
    for _, path in history.paths:
        if path.at_ns > told_ns:
            break
        if path.state == "up":
            down[path.peer].discard(path.rail)
        else:
            down[path.peer].add(path.rail)
        if path.at_ns >= from_ns and len(down[path.peer]) >= len(history.rails):
            found.add(path.peer)
    return found | {peer for peer, rails in down.items() if len(rails) >= len(history.rails)}
