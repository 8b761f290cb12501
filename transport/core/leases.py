"""Who may act: leases by answered heartbeats (PROTOCOL 3; Gray and Cheriton 1989).

An echo to a member's heartbeat is a *grant*: it lets that member act for one lease from the
moment it *sent* the heartbeat. A grantor remembers its latest grant to each member and, before
it helps to decide a view without that member, waits until it has run out, by its own clock and
with a bound on drift. Quorum intersection does the rest: two members never act in different
views at the same time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

FOR_EVER_NS: Final = 1 << 62
LONG_AGO_NS: Final = -FOR_EVER_NS


class Quorum:
    """Majorities of the configured votes, with an optional tie-breaker for exactly half."""

    def __init__(self, votes: Mapping[int, int], tie_breaker: int) -> None:
        self._votes = dict(votes)
        self._total = sum(votes.values())
        self._tie_breaker = tie_breaker

    def reached(self, nodes: Iterable[int]) -> bool:
        """Whether the votes of `nodes` decide."""
        present = set(nodes)
        have = sum(self._votes.get(node, 0) for node in present)
        if have * 2 == self._total:
            return self._tie_breaker in present
        return have * 2 > self._total


class Leases:
    """Grants given and received in the installed view."""

    def __init__(self, *, node: int, quorum: Quorum, lease_ns: int, drift: float) -> None:
        self._node = node
        self._quorum = quorum
        self._lease_ns = lease_ns
        self._grant_ns = int(lease_ns * drift)
        self._given: dict[int, int] = {}
        self._received: dict[int, int] = {}
        self._ends_ns: int | None = None
        """When acting ends if no more grants come; None: to be reckoned anew."""

    def reset_received(self) -> None:
        """A new view: nobody has granted anything in it yet."""
        self._received.clear()
        self._ends_ns = None

    def give(self, node: int, now_ns: int) -> None:
        """A heartbeat of `node` was answered with a grant."""
        self._given[node] = now_ns

    def take(self, node: int, sent_ns: int) -> None:
        """`node` granted a lease for a heartbeat sent at `sent_ns`."""
        if sent_ns > self._received.get(node, -1):
            self._received[node] = sent_ns
            self._ends_ns = None

    def given_left_ns(self, node: int, now_ns: int) -> int:
        """How long the latest grant to `node` may still be relied on; 0 if it has run out."""
        given = self._given.get(node)
        return 0 if given is None else max(0, given + self._grant_ns - now_ns)

    def forget_given(self, node: int) -> None:
        """`node` is proven dead: nobody relies on that grant any more."""
        self._given.pop(node, None)

    def granted(self, node: int, now_ns: int) -> bool:
        """Whether `node` lets us act now."""
        sent = self._received.get(node)
        return sent is not None and now_ns - sent < self._lease_ns

    def acting(self, now_ns: int) -> bool:
        """Whether grants of a quorum, ourselves included, are younger than the lease."""
        if self._ends_ns is None:
            self._ends_ns = self._reckon_end()
        return now_ns < self._ends_ns

    def runs_out_ns(self, now_ns: int) -> int | None:
        """When `acting` ends if no more grants come; None if it is false already, or never ends."""
        if not self.acting(now_ns) or self._ends_ns == FOR_EVER_NS:
            return None
        return self._ends_ns

    def _reckon_end(self) -> int:
        """The end of the oldest grant that the youngest ones need to make a quorum with us."""
        granted = {self._node}
        if self._quorum.reached(granted):
            return FOR_EVER_NS
        for sent, node in sorted(((s, n) for n, s in self._received.items()), reverse=True):
            granted.add(node)
            if self._quorum.reached(granted):
                return sent + self._lease_ns
        return LONG_AGO_NS
