"""Multicast on whole nodes: sent once, mended where it was lost, left where it does not arrive."""

from __future__ import annotations

import random

import pytest

from phalanx.barrier.testing.meetings import arrive
from phalanx.transport.config import MS
from phalanx.transport.drivers.base import GROUP
from phalanx.transport.drivers.in_process_datagrams import DatagramTrouble
from phalanx.transport.drivers.pieces import is_piece
from phalanx.transport.events import Lane, MulticastChanged
from phalanx.transport.testing.barrier_checkers import BARRIERS, Outcome
from phalanx.transport.testing.simulation import SimulatedNode, Simulation

from .scenes import Talk, casting, finish


def counter(simulation: Simulation, name: str) -> int:
    """The sum over all nodes."""
    return sum(node.endpoint.outputs.counters[name] for node in simulation.nodes.values())


def listeners(node: SimulatedNode) -> dict[str, set[int]]:
    """Who is sent multicasts by a node, by rail."""
    found = node.endpoint.casting.fan_out.listeners.by_rail
    return {rail: set(nodes) for rail, nodes in found.items() if nodes}


def speak(talk: Talk, rounds: int, *, size: int = 100, lane: Lane = Lane.BULK) -> None:
    """Everybody multicasts, again and again, while there is room."""
    simulation = talk.simulation
    for _ in range(rounds):
        for node in simulation.running():
            if not node.frozen and not node.endpoint.delivery.stream_to(0, lane).full:
                talk.say(node, lane, size=size)
        simulation.run_for(2 * MS)


def test_what_goes_to_all_is_sent_once() -> None:
    """To the group, on the rail that carries all else."""
    simulation = casting(4, multicast=True)
    for node in simulation.nodes.values():
        others = set(simulation.nodes) - {node.id}
        assert listeners(node) == {"a": others}
        told = sorted(node.told(MulticastChanged), key=lambda it: it.peer)
        assert told == [
            MulticastChanged(peer=peer, rail="a", arrives=True) for peer in sorted(others)
        ]
    one = simulation.nodes[1]
    why = one.endpoint.casting.why(2)
    assert why == "multicasts go to the group of rail a, once for 3, which costs 1.0 copies"
    assert one.datagrams is not None
    before = one.datagrams.stats()["bytes_sent"]
    Talk(simulation).say(one, Lane.BULK, size=10_000)
    simulation.run_for(20 * MS)
    assert 10_000 < one.datagrams.stats()["bytes_sent"] - before < 15_000
    assert counter(simulation, "nacks_sent") == counter(simulation, "recasts") == 0
    finish(simulation)


@pytest.mark.parametrize("lane", [Lane.BULK, Lane.ORDERED])
@pytest.mark.parametrize("size", [60, 20_000])
def test_losses_are_mended_by_what_is_asked_for(lane: Lane, size: int) -> None:
    """Long before an association would send it again; of a large one the missing pieces."""
    simulation = casting(4, DatagramTrouble(lost=0.05), multicast=True)
    speak(Talk(simulation), 200, size=size, lane=lane)
    simulation.run_for(100 * MS)
    asked = counter(simulation, "frames_asked_for")
    assert asked > 50
    mended = counter(simulation, "repairs_unicast") + counter(simulation, "repairs_multicast")
    assert mended > 50
    assert counter(simulation, "repairs_given_up") < asked / 20
    assert counter(simulation, "recasts") < asked / 10
    finish(simulation)


def test_where_frames_lack_single_packets_parities_stand_in_for_most() -> None:
    """Of eleven packets one is lost in a seventh of the frames, of twelve two in an eightieth."""
    simulation = casting(4, DatagramTrouble(lost=0.015), multicast=True)
    talk = Talk(simulation)
    speak(talk, 100, size=15_000)
    assert "parities" in simulation.nodes[1].endpoint.casting.why(2)
    before = counter(simulation, "frames_asked_for")
    speak(talk, 200, size=15_000)
    simulation.run_for(100 * MS)
    asked = counter(simulation, "frames_asked_for") - before
    assert 5 < asked < 80, "of 2,400 frames, each at each receiver"
    finish(simulation)


def test_a_lost_last_frame_is_missed_soon() -> None:
    """Nothing follows it but what its sender says of itself."""
    simulation = casting(3, multicast=True)
    one = simulation.nodes[1]
    network = simulation.network
    network.lose(1, 2, "a", 1.0)
    Talk(simulation).say(one, Lane.BULK, size=5000)
    simulation.run_for(MS // 5)
    network.lose(1, 2, "a", 0.0)
    simulation.run_for(5 * MS)
    assert simulation.nodes[2].endpoint.outputs.counters["nacks_sent"] == 1
    assert one.endpoint.outputs.counters["repairs_unicast"] == 1
    assert counter(simulation, "recasts") == 0
    finish(simulation)


def test_a_host_that_hears_no_multicast_is_sent_its_own_copies_and_that_is_told() -> None:
    """IGMP is off there, or a switch does not know that it has joined."""
    simulation = casting(4, multicast=True)
    deaf, talk = simulation.nodes[3], Talk(simulation)
    simulation.network.deafen(3, "a")
    speak(talk, 100)
    simulation.run_for(2000 * MS)
    for node in simulation.nodes.values():
        if node is deaf:
            assert listeners(node) == {"a": {1, 2, 4}}, "it is heard by the others"
            continue
        assert 3 not in listeners(node)["a"]
        assert "the group of rail a does not reach it" in node.endpoint.casting.why(3)
        assert node.told(MulticastChanged)[-1] == MulticastChanged(peer=3, rail="a", arrives=False)
    speak(talk, 100)
    before = counter(simulation, "recasts")
    speak(talk, 100)
    assert counter(simulation, "recasts") == before, "what goes to it goes where it hears"
    finish(simulation)


def test_who_hears_no_multicast_asks_for_what_is_lost_of_its_own_copies() -> None:
    """They have the same numbers: what is lost of them waits for no association."""
    simulation = casting(4, DatagramTrouble(lost=0.05), multicast=True)
    simulation.network.deafen(3, "a")
    talk = Talk(simulation)
    speak(talk, 100)
    simulation.run_for(2000 * MS)
    assert 3 not in listeners(simulation.nodes[1])["a"]
    deaf = simulation.nodes[3].endpoint.outputs.counters
    before, recasts = deaf["frames_asked_for"], counter(simulation, "recasts")
    speak(talk, 200, size=4000)
    simulation.run_for(100 * MS)
    asked = deaf["frames_asked_for"] - before
    assert 50 < asked < 200, "of 600 frames one in seven lacks a packet, and there are no parities"
    assert counter(simulation, "recasts") - recasts < asked / 20
    finish(simulation)


def test_who_had_all_over_its_association_does_not_ask_for_it_again() -> None:
    """No datagram came to it for a while; then what has numbers begins anew for it."""
    simulation = casting(4, multicast=True)
    talk, network = Talk(simulation), simulation.network
    for other in (1, 2, 4):
        network.block_datagrams(other, 3)
    speak(talk, 1000)
    assert "no datagram is known to arrive" in simulation.nodes[1].endpoint.casting.why(3)
    for other in (1, 2, 4):
        network.pass_datagrams(other, 3)
    mended = counter(simulation, "repairs_unicast") + counter(simulation, "repairs_multicast")
    speak(talk, 400)
    assert listeners(simulation.nodes[1])["a"] == {2, 3, 4}
    assert mended == counter(simulation, "repairs_unicast") + counter(
        simulation, "repairs_multicast"
    )
    finish(simulation)


def test_a_member_that_is_left_out_keeps_nobody_from_asking() -> None:
    """It takes part no more, though its association is there."""
    simulation = casting(4, DatagramTrouble(lost=0.05), multicast=True)
    talk, frozen = Talk(simulation), simulation.nodes[4]
    speak(talk, 50)
    frozen.freeze()
    simulation.run_until(lambda: simulation.agreed_on(1, 2, 3), 2000 * MS)
    before = counter(simulation, "frames_asked_for")
    speak(talk, 100)
    assert counter(simulation, "frames_asked_for") - before > 10
    frozen.thaw()
    finish(simulation)


def test_who_hears_a_batch_before_it_has_its_view_is_sent_it_again() -> None:
    """It had no use for it, and what comes once more is no repetition; long before a time-out."""
    simulation = casting(5, multicast=True)
    talk = Talk(simulation)
    speak(talk, 20)
    simulation.nodes[5].kill()
    for other in (1, 2):
        simulation.network.slow(other, 3, "a", 5 * MS)
    speak(talk, 150)
    counts = [node.endpoint.outputs.counters for node in simulation.running()]
    assert sum(count["data_of_other_view"] for count in counts) > 0, "nobody was early"
    assert sum(count["recasts"] for count in counts) == 0
    finish(simulation)


def test_who_does_not_say_in_time_that_it_has_it_is_asked_what_it_lacks() -> None:
    """Its questions were lost; nothing goes over the association while it goes forward."""
    simulation = casting(3, multicast=True)
    one, network = simulation.nodes[1], simulation.network
    talk = Talk(simulation)
    network.lose(1, 2, "a", 1.0)
    talk.say(one, Lane.BULK, size=5000)
    simulation.run_for(MS // 5)
    network.lose(1, 2, "a", 0.0)
    network.lose(2, 1, "a", 1.0)
    network.lose(2, 1, "b", 1.0)
    simulation.run_for(25 * MS)
    assert one.endpoint.outputs.counters["repairs_unicast"] == 0
    network.lose(2, 1, "a", 0.0)
    network.lose(2, 1, "b", 0.0)
    simulation.run_for(10 * MS)
    assert one.endpoint.outputs.counters["repairs_unicast"] == 1
    assert counter(simulation, "recasts") == 0
    finish(simulation)


def test_who_never_heard_any_is_told_of_once() -> None:
    """It was so from the start."""
    simulation = casting(3, multicast=True)
    simulation.nodes[3].kill()
    simulation.network.deafen(3, "a")
    simulation.network.deafen(3, "b")
    simulation.run_for(1000 * MS)
    simulation.nodes[3].start()
    simulation.run_for(4000 * MS)
    told = [it for it in simulation.nodes[1].told(MulticastChanged) if it.peer == 3]
    assert told[-1] == MulticastChanged(peer=3, rail="a", arrives=False)
    assert sum(not it.arrives for it in told) == 1
    finish(simulation)


def test_a_peer_that_is_reached_over_another_rail_is_sent_its_own_copy() -> None:
    """The group of the first rail still serves the others."""
    simulation = casting(4, multicast=True)
    for other in (1, 3, 4):
        simulation.network.cut(other, 2, "a")
        simulation.network.cut(2, other, "a")
    speak(Talk(simulation), 400)
    assert listeners(simulation.nodes[1])["a"] == {3, 4}
    assert "the group of rail b reaches nobody else" in simulation.nodes[1].endpoint.casting.why(2)
    finish(simulation)


def test_barriers_meet_by_multicast_too() -> None:
    """The release goes once; with losses it comes all the same."""
    simulation = casting(5, DatagramTrouble(lost=0.1), multicast=True)
    for _ in range(50):
        before = {node.id: len(node.told(Outcome)) for node in simulation.nodes.values()}
        for node in simulation.nodes.values():
            arrive(node, "x", None)
        simulation.run_until(
            lambda before=before: all(
                len(n.told(Outcome)) > before[n.id] for n in simulation.nodes.values()
            ),
            1000 * MS,
        )
    assert all(o.verdict == "released" for n in simulation.nodes.values() for o in n.told(Outcome))
    assert GROUP not in simulation.nodes
    finish(simulation, BARRIERS)


def test_a_stopped_receiver_slows_the_others_and_is_given_what_it_missed() -> None:
    """Shorter than it takes to be suspected."""
    simulation = casting(3, multicast=True)
    simulation.nodes[3].freeze()
    speak(Talk(simulation), 60, size=20_000)
    simulation.nodes[3].thaw()
    simulation.run_for(1000 * MS)
    finish(simulation)


@pytest.mark.parametrize("shared", [True, False], ids=["by all", "by each"])
def test_of_eight_that_lose_few_ask_more_than_once(
    monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    """5 % are lost on the sender's own cable, or before each receiver: questions per loss.

    Receivers that lose the same wait for each other, and the group is answered. Questions and
    answers are lost as well. How long they wait is drawn, so that one run says little.
    """
    asked = lost = 0
    for seed in (1, 2) if shared else (1,):
        with monkeypatch.context() as patch:
            counts = _ask_of_eight(patch, seed, shared=shared)
        asked, lost = asked + counts[0], lost + counts[1]
    assert asked <= 1.5 * lost


def _ask_of_eight(patch: pytest.MonkeyPatch, seed: int, *, shared: bool) -> tuple[int, int]:
    """How often something was asked for, and how many packets were lost."""
    simulation = casting(9, multicast=True)
    network, draw, lost = simulation.network, random.Random(seed), 0
    group, single = network.cast_to_group, network.cast

    def loses(source: int, packet: bytes) -> bool:
        nonlocal lost
        loses = source == 1 and is_piece(packet) and draw.random() < 0.05
        lost += loses
        return loses

    def to_group(source: int, rail: str, packet: bytes, frame: bytes | None) -> None:
        if not shared or not loses(source, packet):
            group(source, rail, packet, frame)

    def to_one(source: int, target: int, rail: str, packet: bytes, frame: bytes | None) -> None:
        if shared or not loses(source, packet):
            single(source, target, rail, packet, frame)

    patch.setattr(network, "cast_to_group", to_group)
    patch.setattr(network, "cast", to_one)
    talk, before = Talk(simulation), 0
    for turn in range(2200 if shared else 1000):
        talk.say(simulation.nodes[1], Lane.BULK, size=300)
        simulation.run_for(MS)
        if turn == 200:
            lost, before = 0, counter(simulation, "nacks_sent")
    assert lost > 80
    counters = simulation.nodes[1].endpoint.outputs.counters
    if shared:
        assert counters["repairs_unicast"] < 5
        assert counters["repairs_multicast"] > lost * 0.9
    else:
        assert counters["repairs_unicast"] > lost * 0.9
    asked = counter(simulation, "nacks_sent") - before
    finish(simulation)
    return asked, lost


def test_where_much_is_lost_each_is_sent_its_own_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """One multicast, and all that is sent again of it, would cost more; it says so."""
    simulation = casting(3, multicast=True)
    talk, one, draw = Talk(simulation), simulation.nodes[1], random.Random(1)
    single = simulation.network.cast

    def lossy(source: int, target: int, rail: str, packet: bytes, frame: bytes | None) -> None:
        if not is_piece(packet) or draw.random() >= 0.35:
            single(source, target, rail, packet, frame)

    monkeypatch.setattr(simulation.network, "cast", lossy)
    speak(talk, 400, size=300)
    assert listeners(one)["a"] == {2, 3}
    assert "so much is lost that one to all costs" in one.endpoint.casting.why(2)
    finish(simulation)
