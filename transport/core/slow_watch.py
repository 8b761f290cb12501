"""By policy, whoever holds the others up for too long is taken for one that cannot be reached."""

from __future__ import annotations

from ..events import Member, View
from .parts import Parts
from .timers import Timer


class SlowWatch:
    """Looks in every turn, if there is such a policy, who is waited for and since when."""

    def __init__(self, parts: Parts, *, evict_ns: int) -> None:
        self._evict_ns = evict_ns
        self._standing = parts.standing
        self._delivery = parts.delivery
        self._gather = parts.gather
        self._peers = parts.peers
        self._paths = parts.paths
        self._timers = parts.timers
        self._outputs = parts.outputs
        self._accused: set[Member] = set()
        """Who is too slow in the view, whatever comes of it."""

    def judge(self, now_ns: int) -> bool:
        """Tell `Gather` who is too slow; True if these are others than before."""
        view = self._standing.view
        if not self._evict_ns or view is None:
            return False
        if not self._delivery.closed:
            self._accused = self._too_slow(view, now_ns)
        slow = self._accused if self._others_decide(view, now_ns) else set[Member]()
        if slow == self._gather.slow:
            return False
        self._outputs.counters["slow_members"] += len(slow - self._gather.slow)
        self._gather.slow = slow
        return True

    def _too_slow(self, view: View, now_ns: int) -> set[Member]:
        due = {
            member: since_ns + self._evict_ns
            for node, since_ns in self._delivery.ordered.waited_for().items()
            # Another start of that node owes nothing: it waits to be let in. And a newcomer whose
            # application waits for its state cannot read.
            if (member := self._peers.peers[node].member) in view.incarnations
            and not self._gather.takes_state(node)
        }
        next_ns = min((at_ns for at_ns in due.values() if at_ns > now_ns), default=0)
        if next_ns:
            self._timers.arm(Timer.SLOW, "", next_ns)
        else:
            self._timers.stop(Timer.SLOW)
        return {member for member, at_ns in due.items() if at_ns <= now_ns}

    def _others_decide(self, view: View, now_ns: int) -> bool:
        """Who has no quorum without the slow accuses nobody: it would be left out itself.

        Also while a view change goes on, for those who were to decide may fall silent meanwhile.
        """
        if not self._accused:
            return False
        me, dead = self._standing.me, self._peers.dead
        rest = (
            member.node
            for member in view.incarnations
            if member not in self._accused
            and member not in dead
            and (member == me or self._paths.reachable(member.node, now_ns))
        )
        return self._gather.can_decide(frozenset(rest), now_ns)
