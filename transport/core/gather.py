"""What is known of the surroundings, and whether it calls for another view (PROTOCOL 2, step 1).

Each node tells its row: whom it reaches, who is proven dead, where it stands in the log. From
the rows every node finds the same L, the largest mutual clique, lets it hold for a while, and
stops granting to members outside of it. Only the lowest continuing member of L proposes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ..config import ClusterConfig, S, Timing
from ..drivers.base import Stream
from ..events import Member, View, ViewId
from ..wire import NO_BALLOT, NO_VIEW, Ballot, Prepare, Row, ViewValue
from .acceptor import Acceptor
from .damping import SLOW, UNREACHABLE, Damping
from .founding import of_one_kind
from .framing import Framer
from .leases import Leases, Quorum
from .outputs import Outputs, Transmit
from .paths import Paths
from .peers import Peers
from .reach import Cliques, Reach
from .timers import Timer, TimerTable


@dataclass(slots=True)
class Standing:
    """Where this incarnation stands: the one thing that its parts share, and change."""

    me: Member
    view: View | None = None
    """The view that this incarnation has installed."""
    closed_for: int = 0
    """The instance for which the view was closed; 0 while it is open."""
    evicted: bool = False
    leaving: bool = False
    left: bool = False
    highest: Ballot = NO_BALLOT
    """The highest ballot seen for the next instance."""
    synced: ViewId = NO_VIEW
    """The last view of which the application has the state, maybe from a former incarnation."""

    @property
    def is_synced(self) -> bool:
        """Whether the application has the state of the installed view."""
        return self.view is not None and self.synced == self.view.id


class Gather:
    """Rows, the set of nodes that should be in the next view, and who may propose it."""

    def __init__(
        self,
        *,
        config: ClusterConfig,
        standing: Standing,
        acceptor: Acceptor,
        framer: Framer,
        leases: Leases,
        quorum: Quorum,
        paths: Paths,
        peers: Peers,
        timers: TimerTable,
        outputs: Outputs,
    ) -> None:
        self.configured = frozenset(node.id for node in config.nodes)
        self._votes = {node.id: node.votes for node in config.nodes}
        self._names = {node.id: node.name for node in config.nodes}
        self._timing: Timing = config.timing
        self._standing = standing
        self._acceptor = acceptor
        self._framer = framer
        self._leases = leases
        self._quorum = quorum
        self._paths = paths
        self._peers = peers
        self._timers = timers
        self._outputs = outputs
        self._rows: dict[int, Row] = {}
        self._came_ns: dict[int, int] = {}
        self.told: Row | None = None  # what the peers were told last, or wait to be told
        self._stepped_down: set[Member] = set()
        self._since_ns = 0
        self._cliques = Cliques(self._votes)
        self._cliques_without = Cliques(self._votes)
        """The same without those that are held back."""
        self._held_back: dict[Member, int] = {}
        self.damping = Damping(config.timing)
        self.target: frozenset[Member] = frozenset()
        """L as of the last `update`."""
        self.not_before_ns = 0
        """A proposer that failed backs off until then."""
        self.stopped: frozenset[int] = frozenset()
        """Members that are granted no more because they are to be left out."""
        self.slow: set[Member] = set()
        """Members that hold the others up, and are taken for unreachable while others decide."""

    # ---------------------------------------------------------------------------------- rows

    @property
    def decided(self) -> ViewValue | None:
        """The highest decided view known here."""
        return self._acceptor.decided

    def current(self) -> frozenset[Member]:
        """Its members."""
        return frozenset(self.decided.members) if self.decided is not None else frozenset()

    def received(self, node: int, row: Row, now_ns: int) -> None:
        """A peer says what it knows of its surroundings."""
        if row.incarnation != self._peers.peers[node].incarnation:
            return
        self._rows[node] = row
        self._came_ns[node] = now_ns
        self._standing.highest = max(self._standing.highest, row.ballot)
        self._peers.dead.update(member for member in row.dead if member != self._standing.me)
        for member in row.left:
            self.stepped_down(member)

    def forget(self, node: int) -> None:
        """The peer is another incarnation now, or proven dead."""
        self._rows.pop(node, None)
        self._came_ns.pop(node, None)

    def stepped_down(self, member: Member) -> None:
        """A peer has left in good order: as good a proof as a death."""
        if member == self._standing.me:
            return
        # Who is out of the view already is not asked about again.
        self._stepped_down = {m for m in self._stepped_down if m in self.current()} | {member}
        self._peers.dead.add(member)
        # Old news of an earlier start says nothing of what its successor was granted.
        peer = self._peers.peers.get(member.node)
        if peer is not None and peer.incarnation <= member.incarnation:
            self._leases.forget_given(member.node)

    def reaches_us(self, node: int, now_ns: int) -> bool:
        """Whether a peer and we reach each other, by both rows."""
        row = self._rows.get(node)
        return row is not None and self._standing.me in row.reach and self._reaches(node, now_ns)

    def _reaches(self, node: int, now_ns: int) -> bool:
        slow = self._peers.peers[node].member in self.slow
        return not slow and self._paths.reachable(node, now_ns)

    def takes_state(self, node: int) -> bool:
        """Whether a member says that its application waits for the state of the view."""
        return node in self._rows and not self._rows[node].synced

    def _reached(self, now_ns: int) -> tuple[Member, ...]:
        """Whom this node reaches, itself included."""
        reach = [self._standing.me]
        for node, peer in self._peers.peers.items():
            if peer.incarnation and self._reaches(node, now_ns):
                member = peer.member
                if member not in self._peers.dead:
                    reach.append(member)
        return tuple(sorted(reach))

    def _make(self, reach: tuple[Member, ...], now_ns: int) -> Row:
        standing, decided = self._standing, self.decided
        return Row(
            incarnation=standing.me.incarnation,
            reach=reach,
            dead=tuple(sorted(self._peers.dead & self.current())),
            left=tuple(sorted(self._stepped_down & self.current())),
            decided=decided.id if decided is not None else NO_VIEW,
            installed=self._installed(),
            synced=standing.is_synced,
            leaving=standing.leaving,
            votes_in_ns=self._acceptor.votes_in_ns(now_ns),
            closed=standing.closed_for,
            ballot=standing.highest,
            grants={n: self._leases.given_left_ns(n, now_ns) for n in sorted(self.stopped)},
            founding=self._acceptor.founding,
            held_back={m.node: self.damping.lasts_ns(m) for m in sorted(self._held_back)},
        )

    def _installed(self) -> bool:
        view, decided = self._standing.view, self.decided
        return view is not None and decided is not None and view.id == decided.id

    def tell(self, now_ns: int) -> None:
        """Send the own row to every peer."""
        self._tell(self._reached(now_ns), now_ns, always=True)

    def _tell(self, reach: tuple[Member, ...], now_ns: int, *, always: bool) -> None:
        """Send the own row to every peer if it has changed, or `always`."""
        row = self._make(reach, now_ns)
        told = self.told
        self.told = row
        if told is not None and not always and _without_clocks(row) == _without_clocks(told):
            return
        frame = self._framer.message(row)
        for peer in self._peers.peers.values():
            if peer.link:
                self._outputs.transmits.append(Transmit(peer.link, Stream.CONTROL, frame))
        self._timers.arm(Timer.ROW, "", now_ns + self._timing.suspect_ns)

    def tell_to(self, node: int, now_ns: int) -> None:
        """Send the own row over a new association."""
        frame = self._framer.message(self._make(self._reached(now_ns), now_ns))
        link = self._peers.peers[node].link
        self._outputs.transmits.append(Transmit(link, Stream.CONTROL, frame))

    # -------------------------------------------------------------------------------- target

    def update(self, now_ns: int) -> None:
        """Find L anew, and stop granting to members that it leaves out."""
        me = self._standing.me
        # We are the proof that an older start of ours is over.
        former = (m for m in self.current() if m.node == me.node and m < me)
        self._peers.dead.update(former)
        reach = self._reached(now_ns)
        target = self._find_target(reach, now_ns)
        if target != self.target:
            self.target = target
            self._since_ns = now_ns
        self._stop_granting()
        self._tell(reach, now_ns, always=False)

    def _find_target(self, reach: tuple[Member, ...], now_ns: int) -> frozenset[Member]:
        mine = self._make(reach, now_ns)
        present = {self._standing.me: mine}
        for node, row in self._rows.items():
            member = Member(node, row.incarnation)
            if member not in self._peers.dead and member in mine.reach:
                present[member] = row
        alike = of_one_kind(present, self._standing.me, self.configured)
        rows = {member: row.reach for member, row in alike.items()}
        clique = self._cliques.find(rows, self.current())
        self._held_back = self._hold_back(rows, clique, now_ns)
        if not self._held_back:
            return clique
        return self._clique_without(self._held_back, rows)

    def _clique_without(self, held: Collection[Member], rows: Reach) -> frozenset[Member]:
        others = {member: row for member, row in rows.items() if member not in held}
        return self._cliques_without.find(others, self.current())

    def _hold_back(self, rows: Reach, clique: frozenset[Member], now_ns: int) -> dict[Member, int]:
        """Joiners whose links come and go, with the time; nobody without whom there is no view.

        They stay out of L here alone: who proposes decides who joins, and voters do not ask.
        """
        if self._standing.view is None:
            return {}
        current = self.current()
        self.damping.watch(clique - current, current | self._peers.dead, now_ns)
        held = self.damping.held_back(now_ns)
        if not held:
            return {}
        rest = self._clique_without(held, rows)
        if not (rest & current and self.can_decide(frozenset(m.node for m in rest), now_ns)):
            return {}
        self._timers.arm(Timer.HOLD_DOWN, "flapping", min(held.values()))
        return held

    def missing(self) -> frozenset[Member]:
        """Members of the decided view outside L that are not proven dead."""
        return self.current() - self.target - self._peers.dead

    def _stop_granting(self) -> None:
        """Nodes that are to be left out are granted no more; one that answers again is."""
        if self._standing.view is None or self._standing.me not in self.target:
            return
        for member in self._peers.dead:
            peer = self._peers.peers.get(member.node)
            if peer is not None and peer.incarnation == member.incarnation:
                self._leases.forget_given(member.node)
        primary = self._quorum.reached(member.node for member in self.target)
        gone = self.missing() if primary else frozenset[Member]()
        self.stopped = frozenset(member.node for member in gone)

    def reasons(self, members: frozenset[Member]) -> dict[int, str]:
        """Why each member of the decided view is not among `members`, in words."""
        staying = {member.node for member in members}
        reasons: dict[int, str] = {}
        for member in self.current() - members:
            if member in self._stepped_down:
                reasons[member.node] = "left in good order"
            elif member.node in staying:
                reasons[member.node] = "restarted"
            elif member in self._peers.dead:
                reasons[member.node] = "its process died"
            else:
                reasons[member.node] = SLOW if member in self.slow else UNREACHABLE
        return reasons

    def refusal(self, node: int, message: Prepare, now_ns: int) -> str:
        """Why the members that `node` proposes cannot be a view, in words; empty if they can."""
        me = self._standing.me
        if me not in message.members:
            return "this incarnation is not in the proposal"
        nodes = frozenset(member.node for member in message.members)
        if not self._quorum.reached(nodes):
            return "the proposal has no majority of votes"
        continuing = set(message.members) & self.current()
        if not continuing and nodes != self.configured and not message.founding:
            return "nobody in the proposal continues the view before"
        if node != me.node and not self.reaches_us(node, now_ns):
            return "the proposer is not reachable both ways"
        return ""

    # ------------------------------------------------------------------------------ proposing

    def wants_change(self) -> bool:
        """Whether L is not the decided view, or an instance was begun and not finished."""
        if self.target != self.current() or self._standing.closed_for:
            return True
        k = self.decided.k if self.decided is not None else 0
        rows = (self._rows.get(member.node) for member in self.target)
        return any(row is not None and row.closed > k for row in rows)

    def may_propose(self, now_ns: int) -> bool:
        """The lowest continuing member of L proposes; with none, the lowest of all configured."""
        standing, target = self._standing, self.target
        if standing.me not in target or standing.leaving:
            return False
        nodes = frozenset(member.node for member in target)
        rows = {node: self._rows[node] for node in nodes if node in self._rows}
        known = self.decided.id if self.decided is not None else NO_VIEW
        if any(row.decided > known for row in rows.values()) or not self._quorum.reached(nodes):
            return False
        continuing = self._continuing()
        if not continuing and nodes != self.configured and not self._acceptor.founding:
            return False
        lowest = min(continuing) if continuing else min(nodes)
        return lowest == standing.me.node and self._quorum_of_voters(nodes, rows, now_ns)

    def _continuing(self) -> list[int]:
        """Members of L that have the state of the decided view."""
        standing = self._standing
        known = self.decided.id if self.decided is not None else NO_VIEW
        return [
            member.node
            for member in self.target & self.current()
            if (member == standing.me and self._installed() and standing.is_synced)
            or (member.node in self._rows and _continues(self._rows[member.node], known))
        ]

    def can_decide(self, nodes: frozenset[int], now_ns: int) -> bool:
        """Whether those of `nodes` that may vote now are a quorum, as their rows say."""
        told = {node: row for node, row in self._rows.items() if node in nodes}
        return self._quorum_of_voters(nodes, told, now_ns)

    def _quorum_of_voters(self, nodes: frozenset[int], rows: dict[int, Row], now_ns: int) -> bool:
        """Whether those that may vote now are a quorum; at the very first start all may."""
        founders = self._acceptor.founding and all(row.founding for row in rows.values())
        if self.decided is None and nodes == self.configured and not founders:
            return True
        me = self._standing.me.node
        voters = [
            node
            for node, row in rows.items()
            if row.votes_in_ns >= 0 and self._came_ns[node] + row.votes_in_ns <= now_ns
        ]
        if self._acceptor.votes_in_ns(now_ns) == 0:
            voters.append(me)
        return self._quorum.reached(voters)

    def era_to_found(self) -> int:
        """The era that L founds by the operator's word; 0 if it goes on with one, or begins."""
        if self.decided is not None:
            return 0
        eras = (self._rows[m.node].founding for m in self.target if m.node in self._rows)
        return max(self._acceptor.founding, *eras, 0)

    def is_due(self, now_ns: int) -> bool:
        """Whether L has held long enough, and grants to the missing have run out."""
        due = self.not_before_ns
        current, missing = self.current(), self.missing()
        if missing:
            due = max(due, self._since_ns + self._timing.hold_down_ns)
            if not self._standing.closed_for:
                due = max(due, self._grants_out_ns(missing, now_ns))
        elif self._acceptor.founding or (current and current < self.target):
            # Nodes that join, or are started with force: others may be about to do the same.
            due = max(due, self._since_ns + self._timing.hold_down_ns // 2)
        if due <= now_ns:
            return True
        self._timers.arm(Timer.HOLD_DOWN, "", due)
        return False

    def _grants_out_ns(self, missing: frozenset[Member], now_ns: int) -> int:
        """When no member of L is bound by a grant to one of `missing` any more."""
        latest = now_ns
        for gone in missing:
            latest = max(latest, now_ns + self._leases.given_left_ns(gone.node, now_ns))
            for member in self.target & self.current():
                row = self._rows.get(member.node)
                if row is None:
                    continue
                left = row.grants.get(gone.node)
                if left is None:
                    # It has not stopped yet, or not said so; its next row will tell.
                    latest = max(latest, now_ns + self._timing.heartbeat_ns)
                else:
                    latest = max(latest, self._came_ns[member.node] + left)
        return latest

    def explain(self) -> str:
        """What a view waits for, in words."""
        rows = self._reached_rows()
        if self._acceptor.founding:
            return self._explain_founding(rows)
        me = self._standing.me.node
        waits_ns = max((row.held_back.get(me, 0) for row in rows.values()), default=0)
        if waits_ns:
            return (
                f"held back until it was reachable for {waits_ns / S:.1f} s without a break: "
                "it was left out as unreachable again and again"
            )
        present = {member.node for member in self.target}
        voteless = {node for node in present if node in rows and rows[node].votes_in_ns < 0}
        if self.told is not None and self.told.votes_in_ns < 0:
            voteless.add(me)
        absent = sorted(self.configured - present)
        voters_lack = self._quorum.reached(present) and not self._quorum.reached(present - voteless)
        if self.decided is not None and voters_lack:
            who = self._listed(voteless)
            return f"no majority may vote; their records are lost or not to be written: {who}"
        if not absent:
            first = self.decided is None
            return f"all reached; agreeing on the {'first' if first else 'next'} view"
        names = self._absent(absent, rows)
        if self.decided is None:
            return f"the first start waits for every configured node; {names}"
        if not self._quorum.reached(present):
            return f"no majority of the votes; {names}"
        if not self._continuing():
            known = self.decided.id
            return f"nobody reached goes on from view {known.era}.{known.k}; {names}"
        return f"a view change is under way; {names}"

    def _absent(self, absent: Iterable[int], rows: dict[int, Row]) -> str:
        """Who is not in L, and why."""
        held = {member.node: self.damping.lasts_ns(member) for member in self._held_back}
        founders = {node for node in absent if node in rows and rows[node].founding}
        lost = self._listed(set(absent) - founders - held.keys())
        words = [f"not reached: {lost}"] if lost else []
        if founders:
            apart = self._listed(founders)
            words.append(f"started with --force and so apart from the others: {apart}")
        for node, lasts_ns in held.items():
            words.append(
                f"held back until it was reachable for {lasts_ns / S:.1f} s without a break: "
                f"{self._listed([node])}"
            )
        return "; ".join(words)

    def _explain_founding(self, rows: dict[int, Row]) -> str:
        """What a node waits for that is started with force, and who goes on without it."""
        present = {member.node for member in self.target}
        if self._quorum.reached(present):
            return f"started with --force: agreeing on the first view of era {self.era_to_found()}"
        words = (
            "started with --force: waits for a majority of the votes to be started so; "
            f"not yet: {self._listed(self.configured - present)}"
        )
        living = {node: row.decided.era for node, row in rows.items() if row.installed}
        if living:
            words += (
                f", and of these {len(living)} live in a view of era {max(living.values())} "
                "without it (start with --readmit to join them)"
            )
        return words

    def _listed(self, nodes: Iterable[int]) -> str:
        return ", ".join(f"{self._names[node]} ({node})" for node in sorted(nodes))

    def _reached_rows(self) -> dict[int, Row]:
        """What those say that were reached when the own row was told last."""
        reached = self.told.reach if self.told is not None else ()
        return {m.node: self._rows[m.node] for m in reached if m.node in self._rows}


def _continues(row: Row, known: ViewId) -> bool:
    return row.installed and row.synced and not row.leaving and row.decided == known


def _without_clocks(row: Row) -> tuple[object, ...]:
    """A row without what changes by the mere passing of time."""
    return (
        row.reach,
        row.dead,
        row.left,
        row.decided,
        row.installed,
        row.synced,
        row.leaving,
        max(-1, min(row.votes_in_ns, 1)),  # the sign alone
        row.closed,
        tuple(row.grants),
        row.founding,
        row.held_back,
    )
