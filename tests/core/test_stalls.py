"""SCTP is trusted and watched: a stream that stands still holds nobody up for long."""

from __future__ import annotations

import pytest

from phalanx.transport.config import MS
from phalanx.transport.core.outputs import Delivered, Ordered
from phalanx.transport.core.timers import Timer
from phalanx.transport.drivers.base import Stream
from phalanx.transport.drivers.simulator import SimulatedDriver
from phalanx.transport.events import Lane, PathChanged, RailState
from phalanx.transport.testing.simulation import Simulation, simulated_config

from .scenes import Talk, casting, finish, started

COUNT = 300


class StuckStream:
    """Swallows what one driver gives to some streams of one link, as a stalled SCTP stream does."""

    def __init__(self, driver: SimulatedDriver, link: int, streams: set[int]) -> None:
        self.swallowed = 0
        self._transmit = driver.transmit
        self._link = link
        self._streams = streams
        driver.transmit = self.transmit

    def transmit(self, link: int, stream: int, frame: bytes, *, rail: str | None = None) -> bool:
        """Swallow or pass on."""
        if link == self._link and stream in self._streams and rail is None:
            self.swallowed += 1
            return True
        return self._transmit(link, stream, frame, rail=rail)


class StuckPath:
    """Does as usrsctp does while the congestion window of a dead primary path is full.

    Nothing at all leaves, not even a heartbeat on another rail, until that is the primary one.
    """

    def __init__(self, driver: SimulatedDriver, link: int, *, dead: str) -> None:
        self.primaries = ["a"]
        """What became the primary rail, in turn."""
        self._driver, self._link, self._dead = driver, link, dead
        self._transmit, self._set_primary = driver.transmit, driver.set_primary
        driver.transmit, driver.set_primary = self.transmit, self.set_primary

    def transmit(self, link: int, stream: int, frame: bytes, *, rail: str | None = None) -> bool:
        """Swallow or pass on."""
        stuck = self.primaries[-1] == self._dead
        if link == self._link and (stuck or rail == self._dead):
            return True
        return self._transmit(link, stream, frame, rail=rail)

    def set_primary(self, link: int, rail: str) -> None:
        """Note it."""
        if link == self._link:
            self.primaries.append(rail)
        self._set_primary(link, rail)


class SlowRail:
    """The heartbeats of one link on one rail take a while longer, as on a busy machine."""

    def __init__(self, simulation: Simulation, link: int, rail: str, late_ns: int) -> None:
        driver = simulation.nodes[1].driver
        assert driver is not None
        self._transmit = driver.transmit
        self._network = simulation.network
        self._link, self._rail, self._late_ns = link, rail, late_ns
        driver.transmit = self.transmit

    def transmit(self, link: int, stream: int, frame: bytes, *, rail: str | None = None) -> bool:
        """Pass on, later."""
        if link == self._link and rail == self._rail:

            def pass_on() -> None:
                self._transmit(link, stream, frame, rail=rail)

            self._network.after(self._late_ns, pass_on)
            return True
        return self._transmit(link, stream, frame, rail=rail)


def run(streams: set[int]) -> tuple[Simulation, list[bytes], int]:
    """Node 1 multicasts while streams from it to node 2 stand still.

    Returns the simulation, what node 2 got of it, and the longest gap in nanoseconds.
    """
    simulation = Simulation(simulated_config(3))
    simulation.start_all()
    simulation.run_until(lambda: simulation.agreed_on(1, 2, 3), 3000 * MS)
    sender = simulation.nodes[1]
    assert sender.driver is not None
    link = sender.endpoint.peers.peers[2].link
    stuck = StuckStream(sender.driver, link, streams)
    last = simulation.network.now_ns
    for number in range(COUNT):
        sender.send(b"%d" % number)
        simulation.run_for(1 * MS)
    simulation.run_for(3000 * MS)
    assert stuck.swallowed, "the fault was there"
    got: list[bytes] = []
    gap = 0
    for at, item in simulation.nodes[2].history:
        if isinstance(item, Delivered) and item.sender == 1:
            got += item.payloads
            gap, last = max(gap, at - last), at
    return simulation, got, gap


def send_over(simulation: Simulation, *, dead: str) -> StuckPath:
    """Node 1 multicasts 60 messages; its primary path to node 2 is dead, or else one stream is."""
    sender = simulation.nodes[1]
    assert sender.driver is not None
    link = sender.endpoint.peers.peers[2].link
    path = StuckPath(sender.driver, link, dead=dead)
    if not dead:
        StuckStream(sender.driver, link, {Stream.FIFO})
    for number in range(60):
        sender.send(b"%d" % number)
        simulation.run_for(1 * MS)
    return path


def test_what_a_stalled_stream_keeps_goes_round_it() -> None:
    """One lost frame on one SCTP stream kept a lane waiting for seconds, with every path up."""
    simulation, got, gap = run({Stream.FIFO})
    assert got == [b"%d" % number for number in range(COUNT)]
    assert gap < 60 * MS
    counters = simulation.nodes[1].endpoint.outputs.counters
    assert counters["stalled_detours"] == 1
    assert not counters["stalled_resets"]
    assert simulation.agreed_on(1, 2, 3)


def test_a_primary_path_that_keeps_everything_back_is_left() -> None:
    """Long before its own timer: another path carries the data, silence decides for good."""
    simulation = started()
    last, gap = simulation.network.now_ns, 0
    stuck = send_over(simulation, dead="a")
    assert stuck.primaries == ["a", "b"]
    simulation.run_for(200 * MS)
    got: list[bytes] = []
    for at, item in simulation.nodes[2].history:
        if isinstance(item, Delivered) and item.sender == 1:
            got += item.payloads
            gap, last = max(gap, at - last), at
    assert got == [b"%d" % number for number in range(60)]
    assert gap < 45 * MS
    assert stuck.primaries == ["a", "b", "b"], "tried, and chosen"
    sender = simulation.nodes[1]
    told = [(it.rail, it.state, it.primary) for it in sender.told(PathChanged) if it.peer == 2]
    assert told[-3:-1] == [("b", RailState.UP, True), ("a", RailState.SUSPECT, False)]


def test_a_primary_path_that_answers_carries_on() -> None:
    """What stands still for another reason is no reason to move, nor to tell anybody."""
    simulation = started()
    told = len(simulation.nodes[1].told(PathChanged))
    path = send_over(simulation, dead="")
    assert path.primaries == ["a", "b", "a"]
    sender = simulation.nodes[1]
    assert len(sender.told(PathChanged)) == told
    assert sender.endpoint.outputs.counters["path_trials"] == 1


def test_a_primary_path_that_answers_a_little_later_than_another_carries_on() -> None:
    """Answers of one round do not come at one time: the slower path is no silent one."""
    simulation = started()
    sender = simulation.nodes[1]
    told = len(sender.told(PathChanged))
    SlowRail(simulation, sender.endpoint.peers.peers[2].link, "a", late_ns=12 * MS)
    path = send_over(simulation, dead="")
    assert path.primaries == ["a", "b", "a"]
    assert sender.told(PathChanged)[told:] == []


def test_an_association_whose_detour_stalls_too_is_set_up_anew() -> None:
    """The next association goes on where the peer is; no view changes for it."""
    simulation, got, gap = run({Stream.FIFO, Stream.REPAIR})
    assert got == [b"%d" % number for number in range(COUNT)]
    assert gap < 400 * MS
    counters = simulation.nodes[1].endpoint.outputs.counters
    assert counters["stalled_resets"] == 1
    assert len(simulation.nodes[2].views()) == 1
    assert simulation.agreed_on(1, 2, 3)


def test_an_idle_member_whose_ends_stand_still_holds_up_no_order() -> None:
    """An epoch is complete when all its ENDs are there, those of members with nothing to say."""
    simulation = Simulation(simulated_config(3))
    simulation.start_all()
    simulation.run_until(lambda: simulation.agreed_on(1, 2, 3), 3000 * MS)
    one, idle = simulation.nodes[1], simulation.nodes[2]
    assert idle.driver is not None
    stuck = StuckStream(idle.driver, idle.endpoint.peers.peers[1].link, {Stream.ORDERED})
    one.send(b"entry", Lane.ORDERED)
    simulation.run_until(lambda: bool(one.told(Ordered)), 100 * MS)
    assert stuck.swallowed, "the fault was there"
    assert not idle.endpoint.outputs.counters["stalled_resets"]


def test_a_control_stream_that_stands_still_holds_up_no_view() -> None:
    """Attempts are repeated, but no repetition helps where nothing gets through."""
    simulation = Simulation(simulated_config(3))
    simulation.start_all()
    simulation.run_until(lambda: simulation.agreed_on(1, 2, 3), 3000 * MS)
    other = simulation.nodes[2]
    assert other.driver is not None
    stuck = StuckStream(other.driver, other.endpoint.peers.peers[1].link, {Stream.CONTROL})
    simulation.nodes[3].kill()
    simulation.run_until(lambda: simulation.agreed_on(1, 2), 3000 * MS)
    assert stuck.swallowed, "the fault was there"
    assert simulation.nodes[1].endpoint.outputs.counters["attempt_resets"] == 1


@pytest.mark.parametrize(("lacks", "holds"), [(2, 3), (3, 2)])
def test_a_repair_stream_that_stands_still_holds_up_no_view(lacks: int, holds: int) -> None:
    """Whether the proposer or another lacks what is asked for again and again."""
    simulation = started()
    holder = simulation.nodes[holds]
    assert holder.driver is not None
    link = holder.endpoint.peers.peers[lacks].link
    stuck = StuckStream(holder.driver, link, {Stream.FIFO, Stream.BULK, Stream.REPAIR})
    for lane in (Lane.FIFO, Lane.BULK):
        holder.send(b"only in part", lane)
    simulation.run_for(1 * MS)
    simulation.nodes[1].kill()
    simulation.run_until(lambda: simulation.agreed_on(2, 3), 3000 * MS)
    assert stuck.swallowed > 1, "the fault was there"
    assert simulation.nodes[lacks].endpoint.outputs.counters["fetch_resets"] == 1
    got = [item for item in simulation.nodes[lacks].told(Delivered) if item.sender == holds]
    assert [(item.lane, item.payloads) for item in got] == [
        (Lane.FIFO, [b"only in part"]),
        (Lane.BULK, [b"only in part"]),
    ]


@pytest.mark.parametrize("nodes", [1, 2, 3])
def test_an_idle_cluster_looks_at_nothing(nodes: int) -> None:
    """What is done, and whoever is gone, needs no timer: idleness costs nothing."""
    simulation = started(nodes)
    talk = Talk(simulation)
    talk.everybody(50 * MS)
    if nodes == 3:
        simulation.nodes[3].kill()
        talk.everybody(50 * MS)
    simulation.run_for(1500 * MS)
    for node in simulation.running():
        assert not node.endpoint.delivery.epochs.own_ends
        assert not node.endpoint.stalls.outstanding()
        assert not node.endpoint.timers.armed(Timer.STALL)


def test_who_is_cut_off_looks_at_nothing() -> None:
    """It may stay so for days, with messages that nobody acknowledges."""
    simulation = started()
    talk = Talk(simulation)
    talk.everybody(20 * MS)
    simulation.isolate(1)
    simulation.isolate(2)
    for node in simulation.nodes.values():
        talk.say(node)
        talk.say(node, Lane.ORDERED)
    simulation.run_for(5000 * MS)
    for node in simulation.nodes.values():
        assert node.endpoint.detached
        assert not node.endpoint.timers.armed(Timer.STALL)


def test_a_peer_that_does_not_answer_is_no_stall() -> None:
    """A stopped process is the failure detector's affair: nothing is sent to it twice."""
    simulation = Simulation(simulated_config(3))
    simulation.start_all()
    simulation.run_until(lambda: simulation.agreed_on(1, 2, 3), 3000 * MS)
    simulation.nodes[2].freeze()
    for number in range(100):
        simulation.nodes[1].send(b"%d" % number)
        simulation.run_for(1 * MS)
    counters = simulation.nodes[1].endpoint.outputs.counters
    assert not counters["stalled_detours"]


def test_what_was_cast_goes_again_with_what_stands_still() -> None:
    """What is sent anew on the repair stream is not waited for as a datagram any more."""
    simulation = casting(3)
    node = simulation.nodes[1]
    assert node.driver is not None
    StuckStream(node.driver, node.endpoint.peers.peers[2].link, {Stream.FIFO})
    talk, detours = Talk(simulation), node.endpoint.outputs.counters
    simulation.network.block_datagrams(1, 2)
    stream = node.endpoint.delivery.out[0, Lane.BULK]
    while not detours["stalled_detours"]:
        talk.say(node)
        talk.say(node, Lane.BULK, size=900)
        simulation.run_for(2 * MS)
    for _ in range(40):
        talk.say(node, Lane.BULK, size=900)
        simulation.run_for(2 * MS)
        cast = [sequence for sequence, _ in stream.progress[2].cast]
        assert cast == sorted(set(cast)), "each is waited for once"
    finish(simulation)
