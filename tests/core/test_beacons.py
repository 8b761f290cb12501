"""Nodes that tell each other where they are: found at once, refused with a reason, not doubled."""

from __future__ import annotations

import random
from dataclasses import replace

import msgspec
import pytest

from phalanx._native import codec
from phalanx.transport import wire
from phalanx.transport.config import (
    ClusterConfig,
    DiscoveryConfig,
    NodeConfig,
    RailConfig,
    S,
)
from phalanx.transport.core.beacons import ANSWER_NS, SILENT_NS, STEADY_NS, TOLD_MAX, Beacons
from phalanx.transport.wire_beacon import Beacon, decode_beacon, encode_beacon

NAMES = {1: "alpha", 2: "bravo", 3: "charlie"}
CONFIG = ClusterConfig(
    name="c",
    rails=(RailConfig(name="a", network="10.71.0.0/24"), RailConfig(name="b", network="fd72::/64")),
    nodes=tuple(NodeConfig(name=name, id=node) for node, name in NAMES.items()),
    discovery=DiscoveryConfig(multicast=True),
)
START_NS = 77 * S


def at(number: int) -> dict[str, str]:
    """The addresses of a host."""
    return {"a": f"10.71.0.{number}", "b": f"fd72::{number}"}


def made(
    node: int,
    *,
    host: int = 0,
    config: ClusterConfig = CONFIG,
    nonce: int = 0,
) -> Beacons:
    """The beacons of a process; without `host` its node is on the host of the same number."""
    return Beacons(
        config=config,
        node=config.node(node),
        addresses=at(host or node),
        nonce=nonce or node,
        jitter=lambda: 0.5,
        now_ns=START_NS,
    )


def frame(node: int, beacon: Beacon, cluster: str = "c") -> bytes:
    """What somebody sends who may lie."""
    start = codec.frame_start(wire.Kind.BEACON, 0, codec.cluster_id(cluster), 0, node, 0)
    return codec.seal_frame(start, encode_beacon(beacon))


def told(node: int, *, host: int = 0, name: str = "", nonce: int = 99) -> Beacon:
    """What an honest process tells, and what others may change of it."""
    return Beacon(
        name=name or NAMES.get(node, "zulu"),
        nonce=nonce,
        addresses=at(host or node),
        port=5405,
        udp_port=9899,
        datagram_port=9900,
    )


def refusal(beacons: Beacons) -> str:
    """The one thing that was refused."""
    (event,) = beacons.refused
    beacons.refused.clear()
    assert not beacons.found
    return event.reason


def test_two_nodes_know_all_addresses_of_each_other_after_one_beacon_each() -> None:
    """Also those on the rail that it did not come by."""
    one, two = made(1), made(2)
    first = one.due(START_NS)
    assert first is not None
    two.hear("b", "fd72::1", first, START_NS)
    (found,) = two.found
    assert (found.node, found.addresses) == (1, at(1))
    assert (found.port, found.udp_port, found.datagram_port) == (5405, 9899, 9900)
    assert two.silent == (3,)
    answer = two.due(START_NS + ANSWER_NS)
    assert answer is not None
    one.hear("a", "10.71.0.2", answer, START_NS + ANSWER_NS)
    assert [peer.node for peer in one.found] == [2]
    assert not one.refused
    assert not two.refused


def test_beacons_become_rare_and_a_new_process_is_answered_soon() -> None:
    """An hour of silence costs next to nothing, and ends with the first word."""
    beacons, now_ns, sent = made(1), START_NS, 0
    while now_ns < START_NS + 60 * S:
        assert beacons.due(now_ns) is not None
        assert beacons.due(now_ns) is None, "one at a time"
        now_ns, sent = beacons.next_ns, sent + 1
    assert 60 <= sent <= 66
    beacons.hear("a", "10.71.0.2", frame(2, told(2)), now_ns - STEADY_NS // 2)
    assert beacons.next_ns <= now_ns - STEADY_NS // 2 + ANSWER_NS
    beacons.due(beacons.next_ns)
    again_ns = beacons.next_ns
    beacons.hear("a", "10.71.0.2", frame(2, told(2)), now_ns)
    assert beacons.next_ns == again_ns, "who is known is not answered"
    assert len(beacons.found) == 1


def test_a_process_that_is_started_again_is_found_again() -> None:
    """It does not know this node."""
    beacons = made(1)
    for nonce in (5, 6):
        beacons.hear("a", "10.71.0.2", frame(2, told(2, nonce=nonce)), START_NS)
    assert [peer.node for peer in beacons.found] == [2, 2]


def test_its_own_beacons_are_nothing() -> None:
    """They come back from the group where several nodes share a machine."""
    beacons = made(1)
    own = beacons.due(START_NS)
    assert own is not None
    beacons.hear("a", "10.71.0.1", own, START_NS)
    assert (beacons.found, beacons.refused, beacons.counters["own"]) == ([], [], 1)


def test_another_process_that_is_this_node_is_refused_on_both_sides() -> None:
    """Each of them tells its operator."""
    one, other = made(1), made(1, host=9, nonce=8)
    for beacons, by, host in ((one, other, 9), (other, one, 1)):
        sent = by.due(START_NS)
        assert sent is not None
        beacons.hear("a", f"10.71.0.{host}", sent, START_NS)
        reason = refusal(beacons)
        assert f"at 10.71.0.{host} on rail a, says that it is this node, alpha (1)" in reason


def test_a_node_that_is_not_configured_is_refused_once() -> None:
    """It is named, and where it is."""
    beacons = made(1)
    for _ in range(3):
        beacons.hear("b", "fd72::9", frame(9, told(9)), START_NS)
    reason = refusal(beacons)
    assert "node zulu (9) at fd72::9 on rail b is not in this node's cluster file" in reason
    assert beacons.counters["refused"] == 3


def test_a_name_that_does_not_go_with_its_id_is_refused() -> None:
    """Two files differ."""
    beacons = made(1)
    beacons.hear("a", "10.71.0.2", frame(2, told(2, name="charlie")), START_NS)
    assert "calls itself charlie, and the cluster file calls it bravo" in refusal(beacons)


def test_of_two_processes_that_are_one_node_the_first_one_is_where_it_is() -> None:
    """Until it has been silent for so long that it has moved, or died."""
    beacons = made(1)
    beacons.hear("a", "10.71.0.2", frame(2, told(2, nonce=5)), START_NS)
    beacons.found.clear()
    moved = frame(2, told(2, host=7, nonce=6))
    beacons.hear("a", "10.71.0.7", moved, START_NS + SILENT_NS - 1)
    reason = refusal(beacons)
    assert "node bravo (2) is at 10.71.0.2 (a), fd72::2 (b), ports 5405 and 9899, and " in reason
    assert "another process says that it is at 10.71.0.7 (a)" in reason
    beacons.hear("a", "10.71.0.7", moved, START_NS + SILENT_NS)
    assert [peer.addresses for peer in beacons.found] == [at(7)]


def test_addresses_of_the_file_are_not_overruled() -> None:
    """They are filled in where it has none."""
    nodes = (
        *CONFIG.nodes[:1],
        replace(CONFIG.node(2), addresses={"b": "fd72::2"}),
        *CONFIG.nodes[2:],
    )
    beacons = made(1, config=replace(CONFIG, nodes=nodes))
    assert beacons.silent == (3,)
    beacons.hear("a", "10.71.0.7", frame(2, told(2, host=7)), START_NS)
    assert "announces fd72::7 on rail b, and the cluster file says fd72::2" in refusal(beacons)
    beacons.hear("a", "10.71.0.2", frame(2, told(2)), START_NS)
    assert [peer.addresses for peer in beacons.found] == [at(2)]


@pytest.mark.parametrize(
    ("addresses", "said"),
    [
        ({"a": "10.71.0.3"}, "that came from 10.71.0.2"),
        ({"b": "fd72::2"}, "no address on rail a"),
        ({"a": "10.71.0.2", "b": "fd73::2"}, "not on the rail's network, fd72::/64"),
        ({"a": "10.71.0.2", "b": "10.71.0.2"}, "not on the rail's network, fd72::/64"),
        ({"a": "10.71.0.2", "b": "fd72:0::2"}, "not on the rail's network"),
        ({"a": "10.71.0.2", "b": "here"}, "no address"),
    ],
)
def test_addresses_that_cannot_be_are_refused(addresses: dict[str, str], said: str) -> None:
    """Whoever is behind a translation of addresses cannot be reached at what it tells."""
    beacons = made(1)
    beacon = Beacon(name="bravo", nonce=5, addresses=addresses, port=1, udp_port=2, datagram_port=0)
    beacons.hear("a", "10.71.0.2", frame(2, beacon), START_NS)
    assert said in refusal(beacons)


@pytest.mark.parametrize("allowed", [False, True])
def test_a_public_address_is_found_only_where_the_file_allows_it(allowed: bool) -> None:
    """As for addresses in the file: nothing is encrypted."""
    rails = (RailConfig(name="a", network="8.8.8.0/24"),)
    beacons = made(1, config=replace(CONFIG, rails=rails, allow_public=allowed))
    beacon = Beacon(
        name="bravo", nonce=5, addresses={"a": "8.8.8.2"}, port=1, udp_port=2, datagram_port=0
    )
    beacons.hear("a", "8.8.8.2", frame(2, beacon), START_NS)
    assert len(beacons.found) == allowed
    assert len(beacons.refused) == (not allowed)


def test_rails_that_this_node_does_not_know_are_left_out() -> None:
    """The files may differ until HELLO says so."""
    beacons = made(1)
    beacon = Beacon(
        name="bravo",
        nonce=5,
        addresses={**at(2), "z": "10.99.0.2"},
        port=1,
        udp_port=2,
        datagram_port=0,
    )
    beacons.hear("a", "10.71.0.2", frame(2, beacon), START_NS)
    assert [peer.addresses for peer in beacons.found] == [at(2)]


def test_another_cluster_is_not_heard() -> None:
    """Two may share a group if their files say so."""
    beacons = made(1)
    beacons.hear("a", "10.71.0.2", frame(2, told(2), cluster="d"), START_NS)
    assert (beacons.found, beacons.refused) == ([], [])
    assert beacons.counters["heard"] == 0


def test_a_flood_of_strangers_is_told_of_within_bounds() -> None:
    """And counted."""
    beacons = made(1)
    for stranger in range(TOLD_MAX + 50):
        beacons.hear("a", "10.71.0.9", frame(1000 + stranger, told(9)), START_NS)
    assert len(beacons.refused) == TOLD_MAX
    assert beacons.counters["refused"] == TOLD_MAX + 50


def test_garbage_is_counted_and_never_raises() -> None:
    """Cut short, changed, or sealed and wrong inside."""
    beacons, generator = made(1), random.Random(5)
    good = frame(2, told(2))
    kind = codec.frame_start(wire.Kind.PROBE, 0, codec.cluster_id("c"), 0, 2, 0)
    start = codec.frame_start(wire.Kind.BEACON, 0, codec.cluster_id("c"), 0, 2, 0)
    bodies = [b"", b"\xff", b"\x96", encode_beacon(told(2))[:-1], generator.randbytes(1400)]
    thrown = [
        *(good[:size] for size in range(len(good))),
        *(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in range(len(good))),
        *(generator.randbytes(generator.randrange(200)) for _ in range(200)),
        codec.seal_frame(kind, encode_beacon(told(2))),
        *(codec.seal_frame(start, body) for body in bodies),
    ]
    for packet in thrown:
        beacons.hear("a", "10.71.0.2", packet, START_NS)
    assert (beacons.found, beacons.refused) == ([], [])
    assert sum(beacons.counters.values()) == len(thrown)


@pytest.mark.parametrize(
    "changed",
    [
        {"name": ""},
        {"name": "n" * 65},
        {"name": "bravo\x1b[2J"},
        {"addresses": {"a\n": "10.71.0.2"}},
        {"addresses": {"a": "\u202e10.71.0.2"}},
        {"nonce": -1},
        {"addresses": {}},
        {"addresses": {str(rail): "10.0.0.1" for rail in range(9)}},
        {"addresses": {"a": "1" * 46}},
        {"port": 0},
        {"udp_port": 65_536},
        {"datagram_port": -1},
    ],
)
def test_a_beacon_out_of_its_bounds_is_malformed(changed: dict[str, object]) -> None:
    """Nothing in it is larger than what a cluster file may say."""
    assert decode_beacon(encode_beacon(told(2)), 0) == told(2)
    beyond = msgspec.structs.replace(told(2), **changed)
    assert decode_beacon(encode_beacon(beyond), 0) is None


def test_the_largest_beacon_fits_into_a_packet() -> None:
    """Of eight rails with IPv6 and the longest names."""
    longest = "1111:2222:3333:4444:5555:6666:7777:8888"
    addresses = {f"{rail}{'n' * 63}": longest for rail in range(8)}
    beacon = Beacon(
        name="n" * 64, nonce=2**62, addresses=addresses, port=1, udp_port=65_535, datagram_port=1
    )
    assert len(frame(2, beacon)) < 1280
    assert decode_beacon(encode_beacon(beacon), 0) == beacon
