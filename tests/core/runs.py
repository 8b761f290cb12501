"""A random run of a cluster: one seed draws the cluster, its traffic and its faults.

Afterwards everything is mended, and every host must find back into one view.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from phalanx.barrier import events as outcomes
from phalanx.barrier.core import BarrierCore
from phalanx.barrier.messages import AllParties
from phalanx.transport.config import MS, PROFILES, Limits
from phalanx.transport.core.leases import Quorum
from phalanx.transport.core.outputs import RecordLost
from phalanx.transport.drivers.simulator import NetworkOptions
from phalanx.transport.errors import UsageError
from phalanx.transport.events import Evicted, Lane
from phalanx.transport.testing import checkers
from phalanx.transport.testing.barrier_checkers import BARRIERS, Arrival, Outcome, no_hang
from phalanx.transport.testing.simulated_node import FSYNC_NS, Life, ProcessEnded
from phalanx.transport.testing.simulation import SimulatedNode, Simulation, simulated_config

LANES = (Lane.ORDERED, Lane.FIFO, Lane.BULK)
CONVERGE_NS = 3000 * MS
QUIET_NS = 1500 * MS
"""A dial begun while a peer was cut off takes 400 ms to fail; then there is the back-off."""
"""Once faults have stopped, this is how long a view of everybody may take."""
SMALL = Limits(
    message_bytes_max=64 << 10,
    batch_bytes=1 << 10,
    bulk_batch_bytes=1 << 10,
    window_bytes=8 << 10,
    queue_bytes=8 << 10,
    bulk_in_flight_bytes=4 << 10,
)
"""Limits that a few messages reach."""


def barriers(simulation: Simulation) -> None:
    """Give each node named barriers, and note what becomes of waits in its history."""
    simulation.layers["barrier"] = BarrierCore
    simulation.after_turn.append(note_outcomes)


def core_of(node: SimulatedNode) -> BarrierCore:
    """The barriers of a node."""
    layer = node.layers["barrier"]
    assert isinstance(layer, BarrierCore)
    return layer


def arrive(node: SimulatedNode, name: str, timeout_ns: int | None) -> None:
    """All members meet at `name`; with a timeout, the arrival may be taken back."""
    now_ns = node.clock()
    deadline_ns = None if timeout_ns is None else now_ns + timeout_ns
    try:
        ticket = core_of(node).arrive(
            name, parties=AllParties(), deadline_ns=deadline_ns, now_ns=now_ns
        )
    except UsageError:
        return  # It waits there already.
    at = None if timeout_ns is None else node.simulation.network.now_ns + timeout_ns
    node.note(Arrival(ticket=ticket, name=name, deadline_ns=at))
    node.wake_soon()


def note_outcomes(node: SimulatedNode) -> None:
    """Take the outcomes of this turn."""
    for outcome in core_of(node).take_outcomes():
        node.note(_outcome(outcome))


def _outcome(outcome: outcomes.Outcome) -> Outcome:
    match outcome:
        case outcomes.Released(ticket=ticket, release=release):
            return Outcome(
                ticket=ticket,
                name=release.name,
                generation=release.generation,
                verdict="released",
                parties=release.parties,
            )
        case outcomes.Broken():
            return Outcome(
                ticket=outcome.ticket,
                name=outcome.name,
                generation=outcome.generation,
                verdict=f"broken {dict(sorted(outcome.missing.items()))}"
                if "left the view" in outcome.reason
                else "taken back",
            )
        case outcomes.TimedOut():
            return Outcome(
                ticket=outcome.ticket,
                name=outcome.name,
                generation=outcome.generation,
                verdict="taken back",
            )
        case _:
            return Outcome(
                ticket=outcome.ticket, name=outcome.name, generation=None, verdict="unknown"
            )


@dataclass
class RandomRun:
    """One run; everything in it comes from the seed."""

    seed: int
    faults: int = 6
    log: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        draw = self.random
        self.size = draw.choice((2, 3, 3, 3, 4, 5))
        rails = draw.choice((("a",), ("a", "b"), ("a", "b")))
        tie_breaker = draw.choice((0, 1)) if self.size % 2 == 0 else 0
        config = simulated_config(
            self.size,
            rails,
            limits=draw.choice((Limits(), SMALL)),
            timing=PROFILES["lan"],
            tie_breaker=tie_breaker,
        )
        options = NetworkOptions(
            delay_ns=draw.choice((50_000, 100_000, 2 * MS)),
            jitter_ns=draw.choice((0, 20_000, 1 * MS)),
            send_buffer_bytes=draw.choice((64 << 10, 4 << 20)),
        )
        self.simulation = Simulation(config, seed=self.seed, options=options)
        barriers(self.simulation)
        self.simulation.after_turn.append(self._restart_if_over)
        self.nodes = self.simulation.nodes
        for node in self.nodes.values():
            node.clock_offset_ns = draw.randrange(1 << 50)
            # The bound of the profile is 5 %; stay inside of it with the rounding.
            node.clock_rate = draw.choice((1.0, 1.0, 1.0 + draw.random() * 0.049))
        self._messages = 0
        self._traffic_until_ns = 0
        self._healing: list[Callable[[], None]] = []
        self._over: Life | None = None
        self._lost: set[int] = set()
        """Nodes whose record was lost once; they need not have been admitted again."""

    def _say(self, text: str) -> None:
        self.log.append(f"{self.simulation.network.now_ns / MS:9.3f} ms  {text}")

    # ---------------------------------------------------------------------------- the run

    def play(self) -> Simulation:
        """The whole run.

        Raises:
            AssertionError: a guarantee does not hold, or the nodes did not find together.
        """
        self.simulation.start_all()
        everybody = tuple(self.nodes)
        self.simulation.run_until(lambda: self.simulation.agreed_on(*everybody), CONVERGE_NS)
        self._start_traffic()
        for _ in range(self.faults):
            self.simulation.run_for(int(self.random.expovariate(1 / 150) * MS))
            self._fault()
        self._traffic_until_ns = self.simulation.network.now_ns
        self._mend()
        self.simulation.run_until(lambda: self.simulation.agreed_on(*everybody), CONVERGE_NS)
        self.simulation.run_for(QUIET_NS)
        self._check()
        return self.simulation

    def _check(self) -> None:
        now_ns = self.simulation.network.now_ns
        lives, lease_ns = self.simulation.lives, self.simulation.config.timing.lease_ns
        checkers.check(lives, checkers.ALWAYS + checkers.QUIET + BARRIERS)
        silent = checkers.never_silent(lives, lease_ns=lease_ns, slack_ns=50 * MS, end_ns=now_ns)
        hung = no_hang(lives, slack_ns=2 * lease_ns, end_ns=now_ns)
        checkers.check(lives, (lambda _: silent, lambda _: hung))

    def trace(self) -> str:
        """A hash over everything that every incarnation was told, and when."""
        text = "\n".join(
            f"{life.member} {at} {item!r}"
            for life in self.simulation.lives
            for at, item in life.history
        )
        return hashlib.sha256(text.encode()).hexdigest()

    # ------------------------------------------------------------------------------ traffic

    def _start_traffic(self) -> None:
        self._traffic_until_ns = 1 << 62
        for node in self.nodes.values():
            pause = self.random.choice((1, 3, 20)) * MS
            self._send_later(node, pause)

    def _send_later(self, node: SimulatedNode, pause_ns: int) -> None:
        def send() -> None:
            if self.simulation.network.now_ns < self._traffic_until_ns:
                if node.running and not node.frozen and node.view is not None:
                    self._send(node)
                self._send_later(node, pause_ns)

        self.simulation.network.after(self.random.randrange(1, 2 * pause_ns), send)

    def _send(self, node: SimulatedNode) -> None:
        draw = self.random
        if draw.random() < 0.1:
            timeout_ns = draw.choice((None, 100 * MS, 400 * MS))
            arrive(node, draw.choice(("x", "y")), timeout_ns)
            return
        standing = node.endpoint.standing
        if node.endpoint.detached or standing.evicted or standing.leaving:
            return  # A face would have raised an error.
        view = node.view
        assert view is not None, "checked by the caller"
        others = [member for member in view.members if member != node.id]
        lane = draw.choice(LANES)
        addressee = 0
        if others and lane is not Lane.ORDERED and draw.random() < 0.3:
            addressee = draw.choice(others)
        self._messages += 1
        head = b"%d of %d.%d to %d" % (self._messages, *node.life.member, addressee)
        size = draw.choice((0, 0, 0, 100, 900, 1100, 5000))
        node.send(head + b"." * size, lane, addressee)

    # ------------------------------------------------------------------------------- faults

    def _fault(self) -> None:
        faults = (
            self._kill,
            self._kill_two,
            self._stop_at_frame,
            self._stop_at_frame,
            self._freeze,
            self._cut_rail,
            self._isolate,
            self._cut_one_way,
            self._cut_pair,
            self._reset,
            self._reset,
            self._lose_packets,
            self._trouble_disk,
            self._lose_record,
            self._leave,
        )
        self.random.choice(faults)()

    def _pick(self) -> SimulatedNode | None:
        running = [n for n in self.nodes.values() if n.running and not n.frozen]
        return self.random.choice(running) if running else None

    def _later(self, undo: Callable[[], None], most_ms: int = 1500) -> None:
        """Undo a fault after a while, or when everything is mended."""
        self._healing.append(undo)

        def now() -> None:
            if undo in self._healing:
                self._healing.remove(undo)
                undo()

        self.simulation.network.after(int(self.random.random() ** 2 * most_ms * MS) + 1, now)

    def _restart(self, node: SimulatedNode) -> Callable[[], None]:
        def restart() -> None:
            if not node.running:
                self._say(f"start {node.id}")
                node.start()

        return restart

    def _kill_now(self, node: SimulatedNode) -> None:
        self._say(f"kill {node.id}")
        node.kill()
        self._later(self._restart(node))

    def _kill(self) -> None:
        node = self._pick()
        if node is not None:
            self._kill_now(node)

    def _leave(self) -> None:
        node = self._pick()
        if node is None or node.view is None:
            return
        self._say(f"{node.id} leaves")
        node.endpoint.leave(node.clock() + 200 * MS, node.clock())
        node.wake_soon()
        life = node.life

        def exit_process() -> None:
            if node.running and node.life is life:
                self._kill_now(node)

        self.simulation.network.after(self.random.choice((210, 400)) * MS, exit_process)

    def _kill_two(self) -> None:
        self._kill()
        self._kill()

    def _stop_at_frame(self) -> None:
        """A node dies, or is cut off, when it is about to send its n-th larger frame."""
        left = self.random.randrange(1, 40)
        victim = self._pick()
        if victim is None:
            return
        dies = self.random.random() < 0.5
        self._say(f"{'kill' if dies else 'isolate'} {victim.id} before {left} more frames")

        def tap(node: int, frame: bytes) -> None:
            nonlocal left
            # Heartbeats and their echoes are shorter than this.
            left -= node == victim.id and len(frame) > 100
            if left > 0:
                return
            self.simulation.network.tap = None
            self._say(f"now: {victim.id}")
            if dies:
                self._later(self._restart(victim))
                raise ProcessEnded
            self._isolate_nodes([victim.id])

        self.simulation.network.tap = tap

    def _freeze(self) -> None:
        node = self._pick()
        if node is None:
            return
        self._say(f"freeze {node.id}")
        node.freeze()
        life = node.life

        def thaw() -> None:
            if node.frozen and node.life is life:
                self._say(f"thaw {node.id}")
                node.thaw()

        self._later(thaw)

    def _cut_rail(self) -> None:
        node, rail = self._any(), self.random.choice(self.simulation.network.rails)
        self._say(f"cut rail {rail} of {node}")
        self.simulation.cut_rail(node, rail)
        self._later(lambda: self.simulation.heal_rail(node, rail))

    def _any(self) -> int:
        return self.random.choice(list(self.nodes))

    def _isolate(self) -> None:
        count = self.random.randrange(1, self.size)
        self._isolate_nodes(self.random.sample(list(self.nodes), count))

    def _isolate_nodes(self, nodes: list[int]) -> None:
        self._say(f"isolate {nodes}")
        self.simulation.isolate(*nodes)

        def heal() -> None:
            self._say(f"heal {nodes}")
            for node in nodes:
                for rail in self.simulation.network.rails:
                    self.simulation.heal_rail(node, rail)

        self._later(heal)

    def _two(self) -> tuple[int, int]:
        one, other = self.random.sample(list(self.nodes), 2)
        return one, other

    def _cut_one_way(self) -> None:
        one, other = self._two()
        network = self.simulation.network
        self._say(f"cut one way {one} to {other}")
        for rail in network.rails:
            network.cut(one, other, rail)

        def heal() -> None:
            for rail in network.rails:
                network.heal(one, other, rail)

        self._later(heal)

    def _cut_pair(self) -> None:
        one, other = self._two()
        self._say(f"cut {one} and {other}")
        self.simulation.cut_pair(one, other)
        self._later(lambda: self.simulation.heal_pair(one, other))

    def _reset(self) -> None:
        one, other = self._two()
        tell = self.random.random() < 0.7
        self._say(f"reset {one} with {other}, tell={tell}")
        self.simulation.network.reset(one, other, tell=tell)

    def _lose_packets(self) -> None:
        one, other = self._two()
        rail = self.random.choice(self.simulation.network.rails)
        self._say(f"lose packets {one} to {other} on {rail}")
        self.simulation.network.lose(one, other, rail, 0.3)
        self._later(lambda: self.simulation.network.lose(one, other, rail, 0.0))

    def _trouble_disk(self) -> None:
        disk = self.nodes[self._any()].disk
        slow = self.random.random() < 0.5
        self._say("slow disk" if slow else "full disk")
        if slow:
            disk.delay_ns = 300 * MS
        else:
            disk.failing = True

        def mend() -> None:
            disk.delay_ns, disk.failing = FSYNC_NS, False

        self._later(mend)

    def _lose_record(self) -> None:
        """One record may be lost for good as long as those of a quorum are left."""
        node = self._pick()
        quorum = Quorum(dict.fromkeys(self.nodes, 1), self.simulation.config.quorum.tie_breaker)
        if node is not None and quorum.reached(self.nodes.keys() - {node.id} - self._lost):
            self._lost.add(node.id)
            self._say(f"kill {node.id} and delete its record")
            node.kill()
            node.disk.lose()
            self._later(self._restart(node))

    # ------------------------------------------------------------------------------ endings

    def _restart_if_over(self, node: SimulatedNode) -> None:
        """What `Cluster` does with rejoin and readmit."""
        life = node.life
        seen = [i for _, i in life.history[-20:] if isinstance(i, Evicted | RecordLost)]
        if seen and self._over is not life:
            self._over = life
            lost = seen[0].seen if isinstance(seen[0], RecordLost) else 0
            self.simulation.network.after(1, lambda: self._rejoin(node, life, lost))

    def _rejoin(self, node: SimulatedNode, life: Life, lost: int) -> None:
        self._over = None
        if node.frozen or not node.running or life is not node.life:
            return  # After a freeze it is found out again in the next turn.
        self._say(f"{node.id} begins anew")
        node.begin_anew(at_least=lost + 1, keep_record=not lost)

    def _mend(self) -> None:
        self._say("mend everything")
        self.simulation.network.tap = None
        self.simulation.heal_all()
        for undo in list(self._healing):
            self._healing.remove(undo)
            undo()


def replay(seed: int) -> str:
    """Run a seed again with its log; returns the log.

    From the repository's root: python -c "from tests.core.runs import replay; replay(SEED)".
    """
    run = RandomRun(seed)
    try:
        run.play()
    finally:
        print("\n".join(run.log))
    return "\n".join(run.log)


__all__ = ["RandomRun", "arrive", "barriers", "core_of", "replay"]
