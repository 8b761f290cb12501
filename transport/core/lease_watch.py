"""When this node tells its application that it may not act, and that it may again."""

from __future__ import annotations

from ..config import Timing
from ..events import PrimaryLost, PrimaryRegained
from ..wire import NO_VIEW
from .gather import Standing
from .leases import Leases
from .outputs import Outputs
from .paths import Paths
from .peers import Peers
from .timers import Timer, TimerTable


class LeaseWatch:
    """Looks after each turn whether this node acts, and how long it has not."""

    def __init__(
        self,
        *,
        node: int,
        standing: Standing,
        leases: Leases,
        paths: Paths,
        peers: Peers,
        timing: Timing,
        timers: TimerTable,
        outputs: Outputs,
        now_ns: int,
    ) -> None:
        self._node = node
        self._standing = standing
        self._leases = leases
        self._paths = paths
        self._peers = peers
        self._timing = timing
        self._timers = timers
        self._outputs = outputs
        self.detached = False
        """No lease of the installed view for a whole lease."""
        self.excused_until_ns = 0
        """Time in which this process did not run is held against nobody."""
        self._regain_owed = False
        """`PrimaryLost` was told, and this node has not acted since."""
        self._acted_ns = now_ns
        self._acted_in_view = False
        self._lease_of = NO_VIEW

    def watch(self, *, acting: bool, now_ns: int) -> None:
        """A turn is over."""
        view = self._standing.view
        if view is None:
            return
        if view.id != self._lease_of:
            # Installed and not yet granted: there is one lease for the grants to come, and
            # sends queue for so long, also after `PrimaryLost` (a quorum has just spoken).
            self._lease_of = view.id
            self.detached = False
            self._acted_ns = now_ns
            self._acted_in_view = False
        if acting:
            self._acted_in_view = True
            self._acted_ns = now_ns
            runs_out = self._leases.runs_out_ns(now_ns)
            if runs_out is not None:
                self._timers.arm(Timer.LEASE, "", runs_out)
            self.detached = False
            if self._regain_owed:
                self._regain_owed = False
                self._outputs.stream.append(PrimaryRegained(view_id=view.id))
            return
        # Closed, or not yet granted in a new view, it waits for one lease. Otherwise the lease has
        # run out, and the only excuse is that this process itself did not run.
        waits = self._standing.closed_for or not self._acted_in_view
        lost_ns = self._acted_ns + self._timing.lease_ns if waits else self.excused_until_ns
        if now_ns < lost_ns:
            self._timers.arm(Timer.LEASE, "", lost_ns)
        elif not self.detached:
            self.detached = self._regain_owed = True
            reachable = [n for n in self._peers.peers if self._paths.reachable(n, now_ns)]
            self._outputs.stream.append(
                PrimaryLost(view_id=view.id, reachable=(self._node, *reachable))
            )
