"""The largest cluster there may be, in virtual time: it starts, ten of it die, ten come back."""

from __future__ import annotations

import time
from collections.abc import Iterable

from phalanx.barrier.testing.meetings import arrive, use_barriers
from phalanx.transport.config import MS, NODES_MAX
from phalanx.transport.drivers.simulator import NetworkOptions
from phalanx.transport.events import Lane, View
from phalanx.transport.testing import checkers
from phalanx.transport.testing.barrier_checkers import BARRIERS, Outcome, no_hang
from phalanx.transport.testing.simulation import Simulation, simulated_config

from ..core.scenes import Talk

VICTIMS = (64, 1, 2, 33, 17, 63, 3, 50, 40, 34)
"""The last, proposers one after the other, and some in the middle."""
CRASH_NS_MAX = 6 * MS
JOIN_NS_MAX = 3000 * MS
LOOK_NS = MS // 10
"""Between two looks whether they agree: the look takes longer than the step of a node."""
MEET_NS = 50 * MS
SETTLE_NS = 1500 * MS


class Crowd:
    """The cluster, with all that happens to it timed."""

    def __init__(self) -> None:
        config = simulated_config(NODES_MAX)
        self.simulation = Simulation(config, options=NetworkOptions(jitter_ns=0))
        use_barriers(self.simulation)
        for node in self.simulation.nodes.values():
            node.clock_offset_ns = node.id * 10**12
        self.talk = Talk(self.simulation)
        self.alive = set(self.simulation.nodes)

    def agree(self, what: str, limit_ns: int) -> int:
        """Until all that live are in one view and act in it; returns how long it took."""
        simulation = self.simulation
        begun_ns, begun_s = simulation.network.now_ns, time.process_time()
        while not simulation.agreed_on(*self.alive):
            simulation.run_for(LOOK_NS)
            took_ns = simulation.network.now_ns - begun_ns
            assert took_ns <= limit_ns, f"{what}: not within {limit_ns / MS:.0f} ms"
        took_ns = simulation.network.now_ns - begun_ns
        spent_s = time.process_time() - begun_s
        print(f"{what}: {took_ns / MS:.1f} ms of the cluster, {spent_s:.1f} s of the processor")
        return took_ns

    def speak(self, nodes: Iterable[int]) -> None:
        """Some multicast on two lanes."""
        for node in nodes:
            for lane in (Lane.FIFO, Lane.ORDERED):
                self.talk.say(self.simulation.nodes[node], lane)

    def meet(self, name: str) -> None:
        """All that live meet at a barrier."""
        nodes = [self.simulation.nodes[node] for node in sorted(self.alive)]
        for node in nodes:
            arrive(node, name, None)
        self.simulation.run_for(MEET_NS)
        for node in nodes:
            last = node.told(Outcome)[-1]
            assert (last.name, last.verdict) == (name, "released"), f"{node.id}: {last}"
            assert len(last.parties) == len(nodes)

    def check(self) -> None:
        """Every guarantee, over everything that every incarnation was told."""
        simulation = self.simulation
        simulation.run_for(SETTLE_NS)
        lease_ns, end_ns = simulation.config.timing.lease_ns, simulation.network.now_ns

        def never_silent(lives: checkers.Lives) -> checkers.Complaints:
            return checkers.never_silent(lives, lease_ns=lease_ns, slack_ns=50 * MS, end_ns=end_ns)

        def ends_in_time(lives: checkers.Lives) -> checkers.Complaints:
            return no_hang(lives, slack_ns=2 * lease_ns, end_ns=end_ns)

        every = (*checkers.ALWAYS, *checkers.QUIET, *BARRIERS, never_silent, ends_in_time)
        checkers.check(simulation.lives, every)

    def views(self, node: int) -> list[View]:
        """Of the running incarnation of a node."""
        return self.simulation.nodes[node].views()


def test_sixty_four_nodes_start_lose_ten_and_take_them_back() -> None:
    """Whatever grows with a power of the number of nodes shows here, and no guarantee may give."""
    crowd = Crowd()
    nodes = crowd.simulation.nodes
    crowd.simulation.start_all()
    crowd.agree("start", 100 * MS)
    crowd.speak((1, 32, 64))
    crowd.meet("all are there")
    for victim in VICTIMS:
        crowd.speak((victim, 4))
        crowd.simulation.run_for(MS // 20)
        nodes[victim].kill()
        crowd.alive.discard(victim)
        crowd.agree(f"{victim} dies", CRASH_NS_MAX)
        crowd.simulation.run_for(5 * MS)
    crowd.meet("ten are gone")
    for pair in zip(VICTIMS[::2], VICTIMS[1::2], strict=True):
        for node in pair:
            nodes[node].start()
        crowd.alive.update(pair)
        crowd.agree(f"{pair[0]} and {pair[1]} come back", JOIN_NS_MAX)
    crowd.speak(VICTIMS)
    crowd.meet("all are there again")
    crowd.check()
    sizes = [len(view.members) for view in crowd.views(5)]
    least = NODES_MAX - len(VICTIMS)
    assert sizes[: len(VICTIMS) + 1] == [*range(NODES_MAX, least - 1, -1)], "one view a death"
    back = sizes[len(VICTIMS) :]
    assert back == sorted(set(back)), "nobody goes again"
    assert back[-1] == NODES_MAX
    assert all(crowd.views(node)[-1] == crowd.views(5)[-1] for node in nodes)
