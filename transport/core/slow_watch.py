"""By policy, whoever holds the others up for too long is taken for one that cannot be reached."""

from __future__ import annotations

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
        self._timers = parts.timers
        self._outputs = parts.outputs

    def judge(self, now_ns: int) -> bool:
        """Tell `Gather` who is too slow; True if these are others than before."""
        view = self._standing.view
        if not self._evict_ns or view is None or self._delivery.closed:
            return False
        due = {
            member: since_ns + self._evict_ns
            for node, since_ns in self._delivery.ordered.waited_for().items()
            # Another start of that node owes nothing: it waits to be let in.
            if (member := self._peers.peers[node].member) in view.incarnations
        }
        slow = {member for member, at_ns in due.items() if at_ns <= now_ns}
        next_ns = min((at_ns for at_ns in due.values() if at_ns > now_ns), default=0)
        if next_ns:
            self._timers.arm(Timer.SLOW, "", next_ns)
        else:
            self._timers.stop(Timer.SLOW)
        if slow == self._gather.slow:
            return False
        self._outputs.counters["slow_members"] += len(slow - self._gather.slow)
        self._gather.slow = slow
        return True
