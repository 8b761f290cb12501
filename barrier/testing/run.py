"""One run of a cluster under a plan: first with faults, when nothing may go wrong that a guarantee
forbids; then without, when every host must find back into one view, be heard and meet the others.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from phalanx._native import codec
from phalanx.transport.config import (
    ACTIVE,
    MS,
    MULTICAST,
    PASSIVE,
    PROFILES,
    Limits,
    TrafficConfig,
)
from phalanx.transport.core.outputs import Delivered, Ordered, RecordLost
from phalanx.transport.drivers.in_process_datagrams import DatagramTrouble
from phalanx.transport.drivers.simulator import NetworkOptions
from phalanx.transport.events import RailState, ViewInstalled
from phalanx.transport.testing import checkers
from phalanx.transport.testing.barrier_checkers import BARRIERS, Outcome, no_hang
from phalanx.transport.testing.channel_checkers import CHANNELS, CHANNELS_QUIET
from phalanx.transport.testing.lives import evidence_of
from phalanx.transport.testing.path_checkers import path_transparency
from phalanx.transport.testing.rules import Referee
from phalanx.transport.testing.simulated_node import Life
from phalanx.transport.testing.simulation import (
    SimulatedNode,
    Simulation,
    Stateful,
    simulated_config,
)
from phalanx.transport.testing.state_checkers import check_state, state_arrives

from .channels import Channels
from .faults import carry_out
from .forcing import force
from .meetings import arrive, use_barriers, waits_alone, waits_in_vain
from .parties import ghosts, registered_still, together
from .plan import Fault, Plan
from .traffic import Traffic

CONVERGE_NS = 3000 * MS
"""Once faults have stopped, this is how long a view of everybody may take."""
SYNC_NS = 2500 * MS
"""And so long until everybody has its state: the donor's reader has to come to it, then the
newcomer's, each after up to twice its mean time, and it may be handed over once more.
"""
GO_ON_NS = 1200 * MS
"""How long the others may take to go on without some that are suddenly gone: the suspicion, the
hold-down, a lease, and a few phases. With slow links and processes it took up to 0.7 s."""
MEET_NS = 1000 * MS
"""In that view, this is how long a message to everybody and a barrier may take, if no
message waits for an application to read."""
READS_AHEAD = 3
"""An arrival is behind what its own node has said: at most a full queue and a full window. The
slowest application reads once until its lane is thawed, and once more for each of the two."""
OUTLASTS_NS = 1000 * MS
"""Longer than the suspicion and all that is waited for until somebody is left out."""
QUIET_NS = 1500 * MS
"""A dial begun while a peer was cut off takes 400 ms to fail; then there is the back-off."""
GLANCE_NS = 100 * MS
SLACK_NS = 50 * MS
SMALL = Limits(
    message_bytes_max=64 << 10,
    batch_bytes=1 << 10,
    bulk_batch_bytes=1 << 10,
    window_bytes=8 << 10,
    queue_bytes=8 << 10,
    bulk_in_flight_bytes=4 << 10,
    receive_queue_bytes=8 << 10,
)
"""Limits that a few messages reach."""


class Run:
    """One run; everything in it comes from the plan.

    Unless it is `refereed`, a breach of the protocol shows only in what applications see of it.
    """

    def __init__(self, plan: Plan, *, refereed: bool = True) -> None:
        self.plan = plan
        self.log: list[str] = []
        self.tell: Callable[[str], None] = self.log.append
        """Takes the lines of the log."""
        config = simulated_config(
            plan.size,
            plan.rails,
            limits=_limits(plan),
            timing=PROFILES["lan"],
            tie_breaker=plan.tie_breaker,
        )
        traffic = TrafficConfig(
            rails=ACTIVE if plan.active else PASSIVE,
            evict_slow_ns=plan.evict_slow_ns,
            multicast=plan.multicast,
            fallback=plan.fallback,
        )
        driver = MULTICAST if plan.alone else config.driver
        config = replace(config, traffic=traffic, driver=driver)
        options = NetworkOptions(
            delay_ns=plan.delay_ns,
            jitter_ns=plan.jitter_ns,
            send_buffer_bytes=plan.send_buffer_bytes,
            datagrams=DatagramTrouble(
                lost=plan.datagrams_lost,
                doubled=plan.datagrams_doubled,
                late=plan.datagrams_late,
            ),
        )
        stateful = Stateful(plan.reads_after_ns, plan.state_bytes) if plan.reads_after_ns else None
        self.simulation = Simulation(config, seed=plan.seed, options=options, stateful=stateful)
        self.network = self.simulation.network
        self.nodes = self.simulation.nodes
        self.cluster = codec.cluster_id(config.name)
        """What frames name the cluster by."""
        use_barriers(self.simulation)
        if refereed:
            Referee(self.simulation)
        self.simulation.after_turn.append(self._begin_anew_if_over)
        for number, node in enumerate(self.nodes.values()):
            node.clock_offset_ns = plan.clock_offsets_ns[number]
            node.clock_rate = plan.clock_rates[number]
            node.latency_ns = plan.latencies_ns[number]
        self.channels = Channels(self.simulation, plan)
        self.traffic = Traffic(self.simulation, plan, self.channels)
        self._healing: list[Callable[[], None]] = []
        self._over: Life | None = None
        self.mended = False
        """No fault has any effect from now on, apart from those at the end."""
        self.quiet = False
        """Faults and traffic have stopped, and everybody has found together."""

    def say(self, text: str) -> None:
        """A line of the log."""
        self.tell(f"{self.network.now_ns / MS:10.3f}  {text}")

    # ---------------------------------------------------------------------------- the run

    def play(self) -> Simulation:
        """The whole run.

        Raises:
            AssertionError: a guarantee does not hold, or the nodes did not find together.
        """
        everybody = tuple(self.nodes)
        self.say(f"of datagrams: {self.network.options.datagrams}")
        self.simulation.start_all()
        self._converge(everybody)
        self.traffic.start()
        begun_ns = self.network.now_ns
        for fault in self.plan.faults:
            self.simulation.run_for(max(0, begun_ns + fault.at_ns - self.network.now_ns))
            self._suffer(fault)
        self.simulation.run_for(max(0, begun_ns + self.plan.ends_ns - self.network.now_ns))
        self.traffic.stop()
        self._mend()
        self._converge(everybody)
        if self.plan.lasting is not None:
            self._go_on_without(self.plan.lasting)
            self._converge(everybody)
        if self.plan.forced is not None:
            force(self, self.plan.forced, self._converge)
            self._converge(everybody)
        if self.plan.false_end and len(self.plan.rails) > 1:
            self._end_falsely(*self.plan.false_end)
            self._lose_a_rail(self.plan.false_end[0])
        self._meet()
        self._become_quiet()
        self.quiet = True
        checkers.check(self.simulation.lives, self.judges())
        check_state(self.simulation.lives)
        return self.simulation

    def _converge(self, everybody: tuple[int, ...], limit_ns: int = CONVERGE_NS) -> None:
        """All are in one view, and nobody in it is about to leave."""
        self.simulation.run_until(
            lambda: (
                self.simulation.agreed_on(*everybody)
                and not any(self.nodes[node].endpoint.standing.leaving for node in everybody)
            ),
            limit_ns,
        )
        # Without applications that have state everybody is synced with the view.
        self.simulation.run_until(lambda: self.simulation.synced_on(*everybody), SYNC_NS)

    def _go_on_without(self, fault: Fault) -> None:
        """Nodes are cut off, deaf, dumb or dead, and stay so: the others must not wait for them."""
        self.say(f"{fault}, and it stays")
        undo = carry_out(self, fault)
        assert undo is not None, "in a view of everybody there is somebody to suffer it"
        others = [node for node in self.nodes if node not in fault.nodes]
        self._converge(tuple(others), GO_ON_NS)
        self.say("mended")
        undo()

    def _end_falsely(self, one: int, other: int) -> None:
        """What is on the way of one rail proves nothing while the other rail knows better."""
        lifelines = self.nodes[one].lifelines
        if lifelines is None or not (self._is_whole(one, other) and self._is_whole(other, one)):
            return  # Somebody has not got over the faults yet.
        self.say(f"the lifeline from {one} to {other} ends on {self.plan.rails[0]}")
        since_ns = self.network.now_ns
        lifelines.end_one(other, self.plan.rails[0])
        self.simulation.run_for(GLANCE_NS)
        self._nothing_happened(since_ns)

    def _lose_a_rail(self, node: int) -> None:
        """For so long that whoever has no other rail would be left out; everybody has one."""
        rails = set(self.plan.rails)
        pairs = itertools.permutations(self.nodes, 2)
        if any(self._rails_that_answer(a, b) != rails for a, b in pairs):
            return  # Somebody has not got over the faults yet.
        rail = self.plan.rails[0]
        self.say(f"{node} loses {rail} for {OUTLASTS_NS / MS:.0f} ms")
        since_ns = self.network.now_ns
        self.simulation.cut_rail(node, rail)
        self.simulation.run_for(OUTLASTS_NS)
        self._nothing_happened(since_ns)
        self.simulation.heal_rail(node, rail)

    def _is_whole(self, here: int, there: int) -> bool:
        """Whether one node reaches another one on all rails, and has its lifelines to it."""
        lines = self.nodes[here].endpoint.peers.peers[there].lifelines
        sound = {rail for rail, end in lines.items() if not end.ended}
        return self._rails_that_answer(here, there) == set(self.plan.rails) == sound

    def _rails_that_answer(self, here: int, there: int) -> set[str]:
        """Those that are up, and have been heard of since the last heartbeat but one.

        One that was broken until a moment ago is up until its silence has lasted.
        """
        node = self.nodes[here]
        _, paths = node.endpoint.paths.table().get(there, ("", {}))
        since_ns = node.clock() - self.simulation.config.timing.path_suspect_ns // 2
        return {
            rail
            for rail, path in paths.items()
            if path.state is RailState.UP and path.answered_ns >= since_ns
        }

    def _nothing_happened(self, since_ns: int) -> None:
        found = list(path_transparency(self.simulation.lives, since_ns=since_ns))
        assert not found, "path_transparency: " + "\n".join(found)

    def _become_quiet(self) -> None:
        """Until every sender has heard what became of its messages, every application has come to
        its view, and every outcome of a barrier to all members, or for long enough.
        """
        until_ns = self.network.now_ns + QUIET_NS
        lives = self.simulation.lives
        while self.network.now_ns < until_ns:
            self.simulation.run_for(GLANCE_NS)
            evidence = evidence_of(lives)
            told = not any(next(checker(evidence), "") for checker in checkers.QUIET)
            in_vain = next(self._waits_in_vain(), "")
            unread = self.channels.unread()
            if told and not in_vain and not unread and not next(state_arrives(lives), ""):
                return

    def _waits_in_vain(self) -> Iterator[str]:
        """What would be wrong if everything that was put in order had been told everywhere."""
        running = list(self.simulation.running())
        for node in running:
            yield from waits_in_vain(node)
        yield from waits_alone(running)
        yield from ghosts(running)
        yield from registered_still(running)

    def _meet(self) -> None:
        """A view is worth nothing unless work is done in it.

        What was cut off just before the end may still be found out: then there is another view,
        and they meet again.
        """
        everybody = tuple(self.nodes)
        until_ns = self.network.now_ns + CONVERGE_NS
        for number in itertools.count(1):
            verdicts = self._meet_once(f"the end, {number}")
            if set(verdicts.values()) == {"released"}:
                return
            assert self.network.now_ns < until_ns, f"they do not meet: {verdicts}"
            self._converge(everybody)

    def _meet_once(self, name: str) -> dict[int, str]:
        """What became of a barrier of everybody, by node."""
        verdicts: dict[int, str] = {}
        look_on = partial(_note_outcome, name=name, verdicts=verdicts)
        self.simulation.after_turn.append(look_on)
        for node in self.nodes.values():
            self.traffic.say(node)
            arrive(node, name, None)
        # Who arrived after others were told that it is broken waits for them: they go on to the
        # next one.
        self.simulation.run_until(
            lambda: (
                len(verdicts) == len(self.nodes)
                or any(verdict != "released" for verdict in verdicts.values())
            ),
            self._meets_within_ns(),
        )
        self.simulation.after_turn.remove(look_on)
        return verdicts

    def _meets_within_ns(self) -> int:
        """Small windows wait for applications, which read after up to twice their mean times."""
        if not self.plan.small_limits:
            return MEET_NS
        slowest_ns = 2 * max(self.plan.reads_after_ns, default=0)
        return MEET_NS + READS_AHEAD * slowest_ns

    def judges(self) -> tuple[checkers.Checker, ...]:
        """The checkers of messages, views and barriers: all of them, or until the run is `quiet`
        those that can be asked at any moment.
        """
        lease_ns, now_ns = self.simulation.config.timing.lease_ns, self.network.now_ns

        def never_silent(lives: checkers.Lives) -> checkers.Complaints:
            return checkers.never_silent(lives, lease_ns=lease_ns, slack_ns=SLACK_NS, end_ns=now_ns)

        def ends_in_time(lives: checkers.Lives) -> checkers.Complaints:
            return no_hang(lives, slack_ns=2 * lease_ns, end_ns=now_ns)

        def no_wait_in_vain(_lives: checkers.Lives) -> checkers.Complaints:
            yield from self._waits_in_vain()

        def right_parties(_lives: checkers.Lives) -> checkers.Complaints:
            return together(self.simulation.lives)

        def all_channels_read(_lives: checkers.Lives) -> checkers.Complaints:
            yield from self.channels.unread()

        always = (*checkers.ALWAYS, *CHANNELS, *BARRIERS, right_parties, ends_in_time)
        quiet = (*checkers.QUIET, *CHANNELS_QUIET, never_silent, no_wait_in_vain, all_channels_read)
        return (*always, *quiet) if self.quiet else always

    def trace(self) -> str:
        """A hash over everything that every incarnation was told, and when."""
        text = "\n".join(
            f"{life.member} {at} {item!r}"
            for life in self.simulation.lives
            for at, item in life.history
        )
        return hashlib.sha256(text.encode()).hexdigest()

    def figures(self) -> Counter[str]:
        """How much has happened: views, messages, barriers, faults by kind."""
        faults = (*self.plan.faults, self.plan.forced)
        found: Counter[str] = Counter(f"fault: {fault.kind}" for fault in faults if fault)
        for life in self.simulation.lives:
            found["incarnations"] += 1
            for _, item in life.history:
                match item:
                    case ViewInstalled():
                        found["views installed"] += 1
                    case Delivered(payloads=payloads) | Ordered(payloads=payloads):
                        found["messages delivered"] += len(payloads)
                    case Outcome(verdict=verdict):
                        found[f"barriers {verdict.split()[0]}"] += 1
                    case _:
                        pass
        return found

    # ------------------------------------------------------------------------------- faults

    def _suffer(self, fault: Fault) -> None:
        self.say(str(fault))
        undo = carry_out(self, fault)
        if undo is not None:
            self.later(undo, fault.lasts_ns)

    def later(self, undo: Callable[[], None], lasts_ns: int) -> None:
        """Undo a fault after a while, or when everything is mended."""
        self._healing.append(undo)

        def now() -> None:
            if undo in self._healing:
                self._healing.remove(undo)
                undo()

        self.network.after(lasts_ns, now)

    def _mend(self) -> None:
        self.say("mend everything")
        self.mended = True
        self.network.tap = None
        while self._healing:
            self._healing.pop(0)()  # which may be the next part of a fault, to be undone as well
        self.simulation.heal_all()

    def _begin_anew_if_over(self, node: SimulatedNode) -> None:
        """What `Cluster` does with rejoin and readmit."""
        life = node.life
        item = life.over
        if item is not None and self._over is not life:
            self._over = life
            lost = item.seen if isinstance(item, RecordLost) else 0
            self.network.after(1, lambda: self._begin_anew(node, life, lost))

    def _begin_anew(self, node: SimulatedNode, life: Life, lost: int) -> None:
        self._over = None
        if node.frozen or not node.running or life is not node.life:
            return  # After a freeze it is found out again in the next turn.
        self.say(f"{node.id} begins anew")
        node.begin_anew(at_least=lost + 1, keep_record=not lost)


def _limits(plan: Plan) -> Limits:
    return SMALL if plan.small_limits else Limits()


def _note_outcome(node: SimulatedNode, *, name: str, verdicts: dict[int, str]) -> None:
    """What became of a barrier just now is among the last things that were noted."""
    now_ns = node.simulation.network.now_ns
    for at_ns, item in reversed(node.history):
        if at_ns < now_ns:
            break
        if isinstance(item, Outcome) and item.name == name:
            verdicts[node.id] = item.verdict
