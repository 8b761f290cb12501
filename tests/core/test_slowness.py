"""Who holds the others up is seen, and left out where the policy says so."""

from __future__ import annotations

from dataclasses import replace

from phalanx.transport.config import MS, TrafficConfig
from phalanx.transport.core.damping import SLOW
from phalanx.transport.core.outputs import Ordered
from phalanx.transport.core.slowness import Slowness
from phalanx.transport.drivers.base import Stream
from phalanx.transport.drivers.simulator import SimulatedDriver
from phalanx.transport.events import Evicted, Lane, ViewInstalled
from phalanx.transport.testing.simulation import SimulatedNode, Simulation, simulated_config

from .scenes import Talk, converge, finish

EVICT_NS = 400 * MS


def started(evict_slow_ns: int) -> Simulation:
    """Three members, with that policy."""
    config = replace(simulated_config(3), traffic=TrafficConfig(evict_slow_ns=evict_slow_ns))
    simulation = Simulation(config)
    simulation.start_all()
    converge(simulation, 1, 2, 3)
    return simulation


class Mute:
    """Keeps to itself what it has to say in the agreed order; it answers all the same."""

    def __init__(self, simulation: Simulation, node: SimulatedNode) -> None:
        driver = node.driver
        assert isinstance(driver, SimulatedDriver)
        self.spoken = driver.transmit
        self.driver = driver
        driver.transmit = self.transmit
        for other in simulation.nodes:
            if other != node.id:
                simulation.network.block_datagrams(node.id, other)

    def transmit(self, link: int, stream: int, frame: bytes, *, rail: str | None = None) -> bool:
        """Swallow or pass on."""
        if rail is None and stream in (Stream.ORDERED, Stream.REPAIR):
            return True
        return self.spoken(link, stream, frame, rail=rail)


def reasons(node: SimulatedNode) -> dict[int, str]:
    """Why who is not in a node's last view is not."""
    return dict(node.told(ViewInstalled)[-1].left)


def test_who_does_not_close_its_epochs_is_left_out_and_the_order_goes_on() -> None:
    """It answers heartbeats, so that nothing else would ever leave it out."""
    simulation = started(EVICT_NS)
    one, two, three = simulation.nodes.values()
    talk = Talk(simulation)
    Mute(simulation, three)
    said_ns = simulation.network.now_ns
    payload = talk.say(one, Lane.ORDERED)
    converge(simulation, 1, 2)
    took_ns = simulation.network.now_ns - said_ns
    assert EVICT_NS <= took_ns <= EVICT_NS + simulation.config.timing.lease_ns + 300 * MS
    assert reasons(one) == reasons(two) == {3: SLOW}
    assert payload in [p for item in two.told(Ordered) for p in item.payloads]
    assert one.endpoint.outputs.counters["slow_members"] == 1
    simulation.run_until(lambda: bool(three.told(Evicted)), 2000 * MS)
    finish(simulation)


def test_without_the_policy_everybody_waits() -> None:
    """The default: nobody is left out who answers."""
    simulation = started(0)
    one, _, three = simulation.nodes.values()
    mute = Mute(simulation, three)
    Talk(simulation).say(one, Lane.ORDERED)
    simulation.run_for(2000 * MS)
    assert len(one.told(ViewInstalled)) == 1
    waited = one.endpoint.delivery.ordered.waited_for()
    assert set(waited) == {3}
    assert one.clock() - waited[3] >= 1900 * MS
    mute.driver.transmit = mute.spoken
    simulation.run_until(lambda: bool(one.told(Ordered)), 1000 * MS)
    count, mean, worst = one.endpoint.delivery.ordered.slowness.delays()[3]
    assert (count, mean) == (1, worst)
    assert worst >= 1900 * MS


def test_who_does_not_read_the_order_is_left_out() -> None:
    """Its window holds up every sender."""
    simulation = started(EVICT_NS)
    one, _, three = simulation.nodes.values()
    three.endpoint.freeze(Lane.ORDERED, frozen=True, now_ns=three.clock())
    talk = Talk(simulation)
    talk.say(one, Lane.ORDERED)
    simulation.run_for(EVICT_NS // 2)
    assert len(one.told(ViewInstalled)) == 1
    converge(simulation, 1, 2)
    assert reasons(one) == {3: SLOW}


def test_who_did_not_read_in_the_view_before_holds_up_the_next_one() -> None:
    """A view that somebody else leaves is no news of the application that does not read."""
    config = replace(simulated_config(5), traffic=TrafficConfig(evict_slow_ns=EVICT_NS))
    simulation = Simulation(config)
    simulation.start_all()
    converge(simulation, 1, 2, 3, 4, 5)
    three = simulation.nodes[3]
    three.endpoint.freeze(Lane.ORDERED, frozen=True, now_ns=three.clock())
    simulation.run_for(EVICT_NS // 2)
    simulation.nodes[5].kill()
    converge(simulation, 1, 2, 3, 4)
    converge(simulation, 1, 2, 4)
    assert reasons(simulation.nodes[1]) == {3: SLOW}


def test_who_is_slow_and_makes_it_in_time_stays() -> None:
    """A pause is no reason to leave anybody out."""
    simulation = started(EVICT_NS)
    one, _, three = simulation.nodes.values()
    talk = Talk(simulation)
    for _ in range(4):
        mute = Mute(simulation, three)
        talk.say(one, Lane.ORDERED)
        simulation.run_for(EVICT_NS // 2)
        mute.driver.transmit = mute.spoken
        simulation.run_for(EVICT_NS)
    assert len(one.told(ViewInstalled)) == 1
    assert len(three.told(Ordered)) == 4
    finish(simulation)


def test_a_member_that_a_majority_needs_stays() -> None:
    """A slow cluster is better than none."""
    config = replace(simulated_config(2), traffic=TrafficConfig(evict_slow_ns=EVICT_NS))
    simulation = Simulation(config)
    simulation.start_all()
    converge(simulation, 1, 2)
    one, two = simulation.nodes.values()
    mute = Mute(simulation, two)
    Talk(simulation).say(one, Lane.ORDERED)
    simulation.run_for(2000 * MS)
    assert len(one.told(ViewInstalled)) == 1
    mute.driver.transmit = mute.spoken
    simulation.run_until(lambda: bool(one.told(Ordered)), 2000 * MS)


def test_time_in_which_this_process_did_not_run_is_nobodys_delay() -> None:
    """What the others said meanwhile lies in its sockets."""
    slowness = Slowness()
    slowness.ended(1, 1, 100)
    slowness.unread(3, 100, unread=True)
    slowness.excuse(50, 1000)
    assert slowness.waited_for(1, [2]) == {2: 150, 3: 150}
    slowness.excuse(1000, 160)
    assert slowness.waited_for(1, [2]) == {2: 160, 3: 160}
    slowness.completed(1)
    slowness.unread(3, 200, unread=False)
    assert slowness.waited_for(1, [2]) == {}


def test_a_slow_member_that_is_needed_holds_up_no_other_change() -> None:
    """Who is no majority without the slow accuses nobody, and the dead are left out as ever."""
    config = replace(simulated_config(4), traffic=TrafficConfig(evict_slow_ns=EVICT_NS))
    simulation = Simulation(config)
    simulation.start_all()
    converge(simulation, 1, 2, 3, 4)
    for node in (3, 4):
        slow = simulation.nodes[node]
        slow.endpoint.freeze(Lane.ORDERED, frozen=True, now_ns=slow.clock())
    simulation.run_for(2 * EVICT_NS)
    assert len(simulation.nodes[1].told(ViewInstalled)) == 1
    simulation.nodes[4].kill()
    converge(simulation, 1, 2, 3)
    simulation.run_for(2 * EVICT_NS)
    assert len(simulation.nodes[1].told(ViewInstalled)) == 2
    assert 4 in reasons(simulation.nodes[1])


def test_whoever_is_to_decide_without_the_slow_may_fall_silent() -> None:
    """Then the slow one, if it answers, is needed again, though the view change has begun."""
    simulation = started(EVICT_NS)
    one, two, three = simulation.nodes.values()
    three.endpoint.freeze(Lane.ORDERED, frozen=True, now_ns=three.clock())
    simulation.run_until(lambda: bool(one.endpoint.standing.closed_for), 3000 * MS)
    two.kill()
    three.endpoint.freeze(Lane.ORDERED, frozen=False, now_ns=three.clock())
    simulation.run_for(3000 * MS)
    two.start()
    converge(simulation, 1, 2, 3, limit_ns=5000 * MS)


def test_a_joiner_and_a_slow_member_do_not_leave_out_the_accuser() -> None:
    """Two of three are a majority whoever they are."""
    simulation = started(EVICT_NS)
    one, two, three = simulation.nodes.values()
    three.kill()
    converge(simulation, 1, 2)
    one.endpoint.freeze(Lane.ORDERED, frozen=True, now_ns=one.clock())
    simulation.run_for(2 * EVICT_NS)
    three.start()
    simulation.run_for(3000 * MS)
    assert two.view is not None
    assert {2, 3} <= set(two.view.members)
    assert not two.told(Evicted)
