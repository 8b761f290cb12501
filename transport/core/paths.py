"""Heartbeats on every rail: which path is up, which is primary, which peer answers.

A heartbeat is a probe of ours on one rail, answered by the peer's *process* on the same rail; a
peer is reachable while one was answered on any rail within the suspicion time. A silent path is
suspect, then down; while data stand still, one heartbeat interval is enough. The transport
protocol's own notices are evidence for the primary path only: SCTP moves data at its first
timeout (RFC 7829), we move the primary path when our probes agree, and back to the first rail
after several clean probes in a row.

Most heartbeats go as datagrams, where these arrive: that costs a third, and no data stand before
them. But what is asked is whether the association's path works. So one in a few goes over the
association, as does everything that is sent over a path in doubt: one that is not up, or on which
the last heartbeat has no answer, or all of a peer while data stand still.

Self-doubt (after Lifeguard, arXiv 1707.00788): time in which this process did not run is not
held against anybody.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

from ..config import Timing
from ..drivers.base import PathNotice, PathState, Stream
from ..events import PathChanged, RailState, ViewId
from ..wire_probe import Probe
from .framing import Framer
from .hearing import ASK_INTERVALS, Hearing
from .outputs import Outputs, SetPrimary, Transmit
from .peers import Peers
from .timers import Timer, TimerTable

CAST_IN_A_ROW: Final = 7
"""After so many heartbeats as datagrams one goes over the association."""


@dataclass(slots=True)
class Path:
    """One peer over one rail."""

    rail: str
    answered_ns: int
    proved_ns: int = -1
    """The latest sending time of a heartbeat over the association that was answered."""
    open_ns: int = 0
    """When the last heartbeat of an interval was sent, if it has no answer; else 0."""
    cast_in_a_row: int = 0
    """So many of these have gone as datagrams since one went over the association."""
    asked_ns: int = 0
    """When the first heartbeat over the association was sent of those without an answer; else 0."""
    deaf_ns: int = -1
    """When one that went as a datagram last had no answer: only what is heard since then counts."""
    state: RailState = RailState.UP
    srtt_ns: int = 0
    clean: int = 0
    """Answers in a row since the path was last suspect."""
    failovers: int = 0
    told_down: bool = False
    """The application was told last that the path is down, in an earlier life of the peer."""


@dataclass(slots=True)
class _PeerPaths:
    primary: str
    trial_ns: int = 0
    """Since then another path carries the data, until the primary one answers; 0: it is."""
    paths: dict[str, Path] = field(default_factory=dict[str, Path])


class Paths:
    """The paths to every peer that has, or lately had, an association."""

    def __init__(
        self,
        *,
        rails: tuple[str, ...],
        timing: Timing,
        framer: Framer,
        peers: Peers,
        timers: TimerTable,
        outputs: Outputs,
        hearing: Hearing,
        fallback: bool = False,
    ) -> None:
        """`fallback`: a peer that answers datagrams is reached without an association, too."""
        self._hearing = hearing
        self._fallback = fallback
        self._rails = rails
        self._numbers = {rail: number for number, rail in enumerate(sorted(rails))}
        self._names = sorted(rails)
        self._timing = timing
        self._framer = framer
        self._peers = peers
        self._timers = timers
        self._outputs = outputs
        self._of: dict[int, _PeerPaths] = {}
        self._gone: set[int] = set()
        """Peers whose paths were all told to be down when their process ended."""
        self._interval = 0
        """How many heartbeat intervals have begun."""

    def linked(self, node: int, rails: Iterable[str], now_ns: int) -> None:
        """A new association: every path it has gets the benefit of the doubt."""
        given = [rail for rail in self._rails if rail in set(rails)]
        old = self._of.get(node)
        fresh = _PeerPaths(primary=given[0] if given else self._rails[0])
        for rail in given:
            path = old.paths.get(rail) if old else None
            fresh.paths[rail] = path or Path(rail, now_ns, told_down=node in self._gone)
            fresh.paths[rail].answered_ns = now_ns
            fresh.paths[rail].asked_ns = 0
        self._of[node] = fresh
        self._gone.discard(node)
        self._timers.arm_earlier(Timer.LIVENESS, "", now_ns)

    @property
    def nodes(self) -> Collection[int]:
        """Peers that have, or lately had, an association."""
        return self._of.keys()

    def primary(self, node: int) -> str:
        """The rail that carries the data to a peer; empty if it has no path."""
        paths = self._of.get(node)
        return paths.primary if paths is not None else ""

    def forget(self, node: int) -> None:
        """The peer's process is gone: nothing answers any more."""
        paths = self._of.pop(node, None)
        if paths is None:
            return
        self._gone.add(node)
        for path in paths.paths.values():
            if path.state is not RailState.DOWN:
                path.state = RailState.DOWN
                self._tell(node, paths, path)

    # ------------------------------------------------------------------------------- probing

    def probe_all(self, view_id: ViewId, now_ns: int) -> dict[str, list[int]]:
        """One heartbeat interval is over: to whom one goes as a datagram, by rail."""
        tries = self._hearing.possible and self._interval % ASK_INTERVALS == 0
        self._interval += 1
        cast: dict[str, list[int]] = {}
        for node, paths in self._of.items():
            link = self._peers.peers[node].link
            if not link:
                continue
            for rail, path in paths.paths.items():
                if path.open_ns and path.cast_in_a_row:
                    path.deaf_ns = now_ns
                heard = self._hearing.arrives(node, rail, now_ns, after_ns=path.deaf_ns)
                if heard and self._as_datagram(paths, path):
                    path.cast_in_a_row += 1
                    cast.setdefault(rail, []).append(node)
                else:
                    path.cast_in_a_row = 0
                    self._ask(node, path, view_id, now_ns)
                    # In doubt both are asked: which of them is it that does not get through?
                    if (tries and not heard) or (self._fallback and path.asked_ns < now_ns):
                        cast.setdefault(rail, []).append(node)
                path.open_ns = now_ns
        self._timers.arm(Timer.PROBE, "", now_ns + self._timing.heartbeat_ns)
        return cast

    def _as_datagram(self, paths: _PeerPaths, path: Path) -> bool:
        doubtful = (
            path.state is not RailState.UP
            or path.clean < self._timing.switch_back_probes
            or path.open_ns
            or paths.trial_ns
        )
        return not doubtful and path.cast_in_a_row < CAST_IN_A_ROW

    def probe(self, node: int, view_id: ViewId, now_ns: int) -> None:
        """Send a heartbeat to one peer on each rail, over the association."""
        paths = self._of.get(node)
        link = self._peers.peers[node].link
        if paths is None or not link:
            return
        for path in paths.paths.values():
            self._ask(node, path, view_id, now_ns)

    def _ask(self, node: int, path: Path, view_id: ViewId, now_ns: int) -> None:
        path.asked_ns = path.asked_ns or now_ns
        self.transmit(node, self.heartbeat(path.rail, view_id, now_ns))

    def heartbeat(self, rail: str, view_id: ViewId, now_ns: int) -> Probe:
        """One of ours, sent now over a rail."""
        return Probe(rail=self._numbers[rail], sent_ns=now_ns, view_id=view_id)

    def transmit(self, node: int, probe: Probe) -> None:
        """Send a heartbeat or an answer over the association, on its own rail."""
        link, rail = self._peers.peers[node].link, self.rail_of(probe)
        if link and rail is not None:
            frame = self._framer.probes((probe,))
            self._outputs.transmits.append(Transmit(link, Stream.CONTROL, frame, rail))

    def rail_of(self, probe: Probe) -> str | None:
        """The rail that a heartbeat names; None if there is no such rail here."""
        return self.rail_at(probe.rail)

    def rail_at(self, number: int) -> str | None:
        """The rail of a number: its place in the order of names; None if there is none."""
        return self._names[number] if number < len(self._names) else None

    def number_of(self, rail: str) -> int:
        """The number of a rail."""
        return self._numbers[rail]

    def answered(self, node: int, probe: Probe, now_ns: int, *, datagram: bool) -> None:
        """A peer answered a heartbeat of ours, in the way it went."""
        paths, rail = self._of.get(node), self.rail_of(probe)
        if paths is None or rail is None:
            return
        path = paths.paths.get(rail)
        rtt = now_ns - probe.sent_ns
        if path is None or rtt < 0:
            return
        if rtt > self._timing.suspect_ns:
            # An answer that took so long says nothing about now.
            self._outputs.counters["late_echoes"] += 1
            return
        if datagram:
            self._hearing.heard(node, path.rail, probe.sent_ns)
            if not path.cast_in_a_row or path.state is not RailState.UP:
                return  # It is the association's path that is asked for.
        path.answered_ns = now_ns
        if probe.sent_ns == path.open_ns:
            path.open_ns = 0
        if not datagram:
            path.proved_ns = max(path.proved_ns, probe.sent_ns)
            path.asked_ns = 0
        path.srtt_ns = rtt if not path.srtt_ns else path.srtt_ns + (rtt - path.srtt_ns) // 8
        path.clean += 1
        if paths.trial_ns and path.rail == paths.primary and path.proved_ns >= paths.trial_ns:
            paths.trial_ns = 0
            self._carry(node, path)
        if path.state is not RailState.UP or path.told_down:
            path.state = RailState.UP
            path.told_down = False
            path.clean = 1
            self._tell(node, paths, path)
        self._choose_primary(node, paths)

    # -------------------------------------------------------------------------------- judging

    def excuse(self, lag_ns: int, now_ns: int) -> None:
        """This process did not run for `lag_ns`: nobody's silence in that time counts."""
        for paths in self._of.values():
            for path in paths.paths.values():
                path.answered_ns = min(now_ns, path.answered_ns + lag_ns)

    def judge(self, now_ns: int) -> None:
        """Find silent paths, and arm the timer for the next that may become so."""
        suspect_ns = self._timing.path_suspect_ns
        next_ns = now_ns + self._timing.suspect_ns
        for node, paths in self._of.items():
            changed: list[Path] = []
            for path in paths.paths.values():
                silent = now_ns - path.answered_ns
                if silent >= 2 * suspect_ns:
                    state = RailState.DOWN
                elif silent >= suspect_ns:
                    state = RailState.SUSPECT
                    next_ns = min(next_ns, path.answered_ns + 2 * suspect_ns)
                else:
                    state = path.state
                    next_ns = min(next_ns, path.answered_ns + suspect_ns)
                if state is not path.state:
                    path.state = state
                    path.clean = 0
                    changed.append(path)
            if changed:
                # Only when all its paths are judged: one that is as silent takes nothing over.
                self._choose_primary(node, paths)
                for path in changed:
                    self._tell(node, paths, path)
            last = max((path.answered_ns for path in paths.paths.values()), default=0)
            if last + self._timing.suspect_ns > now_ns:
                next_ns = min(next_ns, last + self._timing.suspect_ns)
        self._timers.arm(Timer.LIVENESS, "", max(next_ns, now_ns + 1))

    def try_another(self, node: int, now_ns: int) -> None:
        """Data stand still: another path carries them until the primary one answers.

        usrsctp sends nothing at all, not even a heartbeat on another path, while frames wait
        for the congestion window of a primary path that is dead, and its timer may take a whole
        `rto_max_ms` when the machine was busy before.
        """
        paths = self._of.get(node)
        if paths is None or paths.trial_ns:
            return
        for path in paths.paths.values():
            if path.rail != paths.primary and path.state is RailState.UP:
                paths.trial_ns = now_ns
                self._outputs.counters["path_trials"] += 1
                self._carry(node, path)
                return

    def doubt(self, node: int, now_ns: int) -> None:
        """Another path is tried and answers: those that do not, for a whole interval, are suspect.

        On a busy machine the answers of one round come one by one, and the data do not wait.
        """
        paths = self._of.get(node)
        if paths is None or not paths.trial_ns:
            return
        since_ns = paths.trial_ns
        early = now_ns - since_ns < self._timing.heartbeat_ns
        if early or not self.answered_since(node, since_ns):
            return
        silent = [
            path
            for path in paths.paths.values()
            if path.state is RailState.UP and path.proved_ns < since_ns
        ]
        for path in silent:
            path.state = RailState.SUSPECT
            path.clean = 0
        self._choose_primary(node, paths)
        for path in silent:
            self._tell(node, paths, path)

    def notice(self, node: int, notice: PathNotice) -> None:
        """What the transport protocol says of a path: only its choice of primary is news."""
        paths = self._of.get(node)
        if paths is not None and notice.state is PathState.PRIMARY:
            self._outputs.counters["primary_by_transport"] += 1

    def _choose_primary(self, node: int, paths: _PeerPaths) -> None:
        current = paths.paths.get(paths.primary)
        usable = [path for path in paths.paths.values() if path.state is RailState.UP]
        if not usable:
            return
        best = usable[0]
        if current is not None and current.state is RailState.UP:
            earlier = best is not current and best.clean >= self._timing.switch_back_probes
            if not earlier:
                return
        paths.primary = best.rail
        paths.trial_ns = 0
        best.failovers += 1
        self._carry(node, best)
        self._tell(node, paths, best)

    def _carry(self, node: int, path: Path) -> None:
        """From now on this path carries the data."""
        link = self._peers.peers[node].link
        if link:
            self._outputs.commands.append(SetPrimary(link=link, rail=path.rail))

    def _tell(self, node: int, paths: _PeerPaths, path: Path) -> None:
        self._outputs.stream.append(
            PathChanged(
                peer=node,
                rail=path.rail,
                state=path.state,
                primary=path.rail == paths.primary and path.state is not RailState.DOWN,
            )
        )

    # -------------------------------------------------------------------------------- queries

    def silent_ns(self, node: int, now_ns: int) -> int | None:
        """How long no heartbeat was answered on any rail; None if there is no path."""
        paths = self._of.get(node)
        if paths is None or not paths.paths:
            return None
        last_ns = max(path.answered_ns for path in paths.paths.values())
        if self._fallback:
            last_ns = max(last_ns, self._hearing.latest_ns(node))
        return now_ns - last_ns

    def association_silent_ns(self, node: int, now_ns: int) -> int:
        """For how long the association has been asked in vain, on all rails; 0 if it answers."""
        paths = self._of.get(node)
        if paths is None or not paths.paths:
            return 0
        asked = [path.asked_ns for path in paths.paths.values()]
        return now_ns - max(asked) if all(asked) else 0

    def reachable(self, node: int, now_ns: int) -> bool:
        """Whether a heartbeat was answered on any rail within the suspicion time."""
        silent = self.silent_ns(node, now_ns)
        return silent is not None and silent < self._timing.suspect_ns

    def answered_since(self, node: int, sent_ns: int) -> bool:
        """Whether one sent over the association then or later has been answered, on any rail."""
        paths = self._of.get(node)
        return paths is not None and any(path.proved_ns >= sent_ns for path in paths.paths.values())

    def srtt_ns(self, node: int) -> int:
        """The smoothed round trip time to a peer over its primary rail; 0 while it is unknown."""
        paths = self._of.get(node)
        path = paths.paths.get(paths.primary) if paths is not None else None
        return path.srtt_ns if path is not None else 0

    def rails_up(self, node: int) -> list[str]:
        """Rails on which the peer answers."""
        paths = self._of.get(node)
        if paths is None:
            return []
        return [path.rail for path in paths.paths.values() if path.state is RailState.UP]

    def table(self) -> dict[int, tuple[str, dict[str, Path]]]:
        """Per peer its primary rail and its paths."""
        return {node: (paths.primary, dict(paths.paths)) for node, paths in self._of.items()}
