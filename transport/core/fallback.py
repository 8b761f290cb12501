"""Which peers are reached by datagrams alone, because SCTP does not reach them.

SCTP is the carrier of choice. Where it does not come up (no stack, a firewall that drops it), or
where it is found dead while datagrams are answered, a link over datagrams is opened
(`udp_links.py`), and takes the place of the association as a new one would: the same numbers go on
above it, so that nothing is lost or doubled, and no view changes. SCTP is dialled on, and takes
over as soon as both sides have said HELLO on it.
"""

from __future__ import annotations

from typing import Final

from ..config import Timing
from ..drivers.base import LinkLost, LossReason
from ..events import CarrierChanged
from .hearing import Hearing
from .outputs import Outputs
from .paths import Paths
from .peers import Peers
from .udp_links import UdpLinks

PATIENCE_INTERVALS: Final = 10
"""For so many heartbeat intervals SCTP is given the time to come up, or to come back."""


class Fallback:
    """Opens links over datagrams where they are needed."""

    def __init__(
        self,
        *,
        enabled: bool,
        alone: bool,
        timing: Timing,
        links: UdpLinks,
        peers: Peers,
        paths: Paths,
        hearing: Hearing,
        outputs: Outputs,
    ) -> None:
        """`alone`: there is no SCTP here at all."""
        self._enabled = enabled
        self._alone = alone
        self._timing = timing
        self._links = links
        self._peers = peers
        self._paths = paths
        self._hearing = hearing
        self._outputs = outputs
        self._without_ns: dict[int, int] = {}
        """Since when a peer has had no association."""
        self._by_datagrams: dict[int, bool] = {}
        """How each peer was reached last."""
        links.willing = self._willing

    def start(self, now_ns: int) -> None:
        """The incarnation begins: nobody has an association."""
        self._without_ns = dict.fromkeys(self._peers.peers, now_ns)
        if self._alone:
            self.check(now_ns)

    def check(self, now_ns: int) -> None:
        """Once in a heartbeat interval: who is not reached otherwise."""
        if not self._enabled or self._peers.stopped:
            return
        for node, peer in self._peers.peers.items():
            if self._links.has(node):
                continue
            if peer.link > 0:
                if self._is_dead(node, now_ns):
                    self._outputs.counters["associations_condemned"] += 1
                    self._links.open(node, now_ns, urgent=True)
            elif self._may_open(node, now_ns):
                self._links.open(node, now_ns, urgent=False)

    def _is_dead(self, node: int, now_ns: int) -> bool:
        """The association does not answer on any rail, and datagrams are answered."""
        silent_ns = self._paths.association_silent_ns(node, now_ns)
        silent = silent_ns >= self._timing.path_suspect_ns
        return silent and self._answers_datagrams(node, now_ns)

    def _answers_datagrams(self, node: int, now_ns: int) -> bool:
        return self._hearing.latest_ns(node) > now_ns - self._timing.path_suspect_ns

    def _may_open(self, node: int, now_ns: int) -> bool:
        since_ns = self._without_ns.get(node, now_ns)
        patience_ns = PATIENCE_INTERVALS * self._timing.heartbeat_ns
        return self._alone or now_ns >= since_ns + patience_ns

    def _willing(self, node: int, urgent: bool, now_ns: int) -> bool:
        """Whether a peer that opens one is answered."""
        peer = self._peers.peers.get(node)
        if not self._enabled or peer is None or self._peers.stopped:
            return False
        return urgent or (peer.link <= 0 and self._may_open(node, now_ns))

    def linked(self, node: int, link: int) -> None:
        """Both sides have said HELLO on a link."""
        by_datagrams = link < 0
        if not by_datagrams:
            self._without_ns.pop(node, None)
        before = self._by_datagrams.get(node, False)
        self._by_datagrams[node] = by_datagrams
        if by_datagrams != before and not self._alone:
            reason = "SCTP does not reach it" if by_datagrams else "SCTP reaches it again"
            self._outputs.stream.append(
                CarrierChanged(peer=node, multicast=by_datagrams, reason=reason)
            )

    def lost(self, node: int, notice: LinkLost, now_ns: int) -> None:
        """An association, or a link, to a peer is gone.

        SCTP may have counted its time-outs before the association is found dead here, even before
        it is asked again: while datagrams are answered there is nothing to be patient for.
        """
        self._without_ns.setdefault(node, now_ns)
        if not self._enabled or self._peers.stopped or self._links.has(node):
            return
        timed_out = notice.link > 0 and notice.reason is LossReason.TIMED_OUT
        if timed_out and self._answers_datagrams(node, now_ns):
            self._links.open(node, now_ns, urgent=True)

    def why(self, node: int) -> str:
        """Why a peer is reached by this carrier."""
        if self._alone:
            return "there is no SCTP here (driver = multicast)"
        return "SCTP does not reach it" if self.by_datagrams(node) else "SCTP reaches it"

    def by_datagrams(self, node: int) -> bool:
        """Whether a peer is, or was last, reached by datagrams alone."""
        return self._by_datagrams.get(node, False)
