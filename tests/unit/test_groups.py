"""Which multicast group a rail has, and what of it depends on this machine."""

from __future__ import annotations

import ipaddress
import socket

import pytest

from phalanx.transport import groups as group_module
from phalanx.transport import interfaces
from phalanx.transport.config import ClusterConfig
from phalanx.transport.driver_factory import local_endpoint
from phalanx.transport.drivers.base import Group
from phalanx.transport.errors import ConfigError
from phalanx.transport.groups import group_address, groups
from phalanx.transport.interfaces import LocalAddress

from .config_texts import ALPHA, CLUSTER, GOOD, RAIL_A, RAIL_B, read

WITH = GOOD + "[traffic]\nmulticast = true\n"
ALONE = GOOD.replace('name = "c"', 'name = "c"\ndriver = "multicast"')
RAIL_6 = '[[rail]]\nname = "six"\nnetwork = "fd00:71::/64"\n'
NODE_6 = '[[node]]\nname = "six"\nid = 7\naddresses = { six = "fd00:71::7" }\n'
ELSEWHERE = [LocalAddress("eth0", "10.71.0.1", socket.AF_INET)]


def found(config: ClusterConfig, *here: LocalAddress) -> dict[str, Group]:
    """Of node alpha, which has an address on both rails."""
    node = config.node("alpha")
    port = config.traffic.multicast_port
    return groups(config, node, dict(node.addresses), port, local=here)


def test_each_rail_of_each_cluster_has_a_group_of_its_own() -> None:
    """Clusters on one network do not wake each other, and the same file gives the same group."""
    one, other = read(WITH), read(WITH.replace('"c"', '"d"'))
    names = {group_address(config, rail) for config in (one, other) for rail in config.rails}
    assert len(names) == 4
    for name in names:
        assert ipaddress.ip_address(name) in ipaddress.ip_network("239.192.0.0/14")
    assert {group_address(one, rail) for rail in one.rails} <= names
    six = read(CLUSTER + RAIL_6 + NODE_6)
    assert group_address(six, six.rails[0]).startswith("ff15::")


def test_the_file_may_name_group_port_and_hops() -> None:
    """Whoever runs the network may have set some apart."""
    text = CLUSTER + RAIL_A + 'group = "239.1.2.3"\n' + RAIL_B + ALPHA
    config = read(text + "[traffic]\nmulticast = true\nmulticast_port = 77\nmulticast_hops = 4\n")
    assert found(config)["a"][:3] == ("239.1.2.3", 77, 4)
    assert found(config)["b"][1:3] == (77, 4)


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        (ALONE + "[traffic]\nfallback = false\n", "traffic.fallback", "nothing else"),
        (ALONE + "[traffic]\ndatagrams = false\n", "traffic.datagrams", "nothing else"),
        (
            GOOD + "[traffic]\nfallback = true\ndatagrams = false\n",
            "traffic.fallback",
            "without datagrams",
        ),
        (CLUSTER + RAIL_A + 'group = "10.0.0.1"\n' + ALPHA, "rail[0].group", "no multicast group"),
        (CLUSTER + RAIL_A + 'group = "ff15::1"\n' + ALPHA, "rail[0].group", "of IPv4"),
        (CLUSTER + RAIL_6 + 'group = "239.1.1.1"\n' + NODE_6, "rail[0].group", "of IPv6"),
        (CLUSTER + RAIL_A + 'group = "all"\n' + ALPHA, "rail[0].group", "no address"),
        (GOOD + "[traffic]\nmulticast_port = 0\n", "traffic.multicast_port", "1 to 65535"),
        (GOOD + "[traffic]\nmulticast_hops = 256\n", "traffic.multicast_hops", "1 to 255"),
        (
            GOOD + '[traffic]\nrails = "active"\ndatagrams = false\n',
            "traffic.rails",
            "without datagrams",
        ),
        (
            GOOD + "[traffic]\nmulticast = true\ndatagrams = false\n",
            "traffic.multicast",
            "without datagrams",
        ),
    ],
)
def test_mistakes_are_found(text: str, key: str, problem: str) -> None:
    """Each with the key and what is wrong there."""
    with pytest.raises(ConfigError, match=problem) as caught:
        read(text)
    assert caught.value.key == key


def test_without_sctp_datagrams_carry_everything() -> None:
    """And where there is some, what they do is asked for."""
    traffic = read(ALONE).traffic
    assert (traffic.datagrams, traffic.multicast, traffic.fallback) == (True, True, True)
    assert not read(ALONE + "[traffic]\nmulticast = false\n").traffic.multicast
    traffic = read(GOOD).traffic
    assert (traffic.datagrams, traffic.multicast, traffic.fallback) == (True, False, False)


def test_there_are_none_without_multicast_and_none_without_an_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A rail that is absent has no group either; beacons have the same ones, on their own port."""
    alpha = [LocalAddress("lo", "10.72.0.1", socket.AF_INET)]
    monkeypatch.setattr(interfaces, "local_addresses", lambda: alpha)
    monkeypatch.setattr(group_module, "local_addresses", lambda: alpha)
    without = local_endpoint(read(GOOD), read(GOOD).node("alpha"))
    assert (without.groups, without.beacons) == ({}, {})
    config = read(WITH + "[discovery]\nmulticast = true\nport = 77\n")
    both = local_endpoint(config, config.node("alpha"))
    assert {rail: it.port for rail, it in both.groups.items()} == {"a": 5407, "b": 5407}
    assert {rail: it.port for rail, it in both.beacons.items()} == {"a": 77, "b": 77}
    assert both.groups["a"].address == both.beacons["a"].address
    assert set(groups(config, config.node("alpha"), {"b": "10.72.0.1"}, 77, local=[])) == {"b"}


def test_what_is_sent_comes_back_where_other_nodes_are() -> None:
    """On this machine: by an address of it, or on loopback."""
    config = read(WITH)
    assert not found(config, *ELSEWHERE)["a"].looped
    beside = [*ELSEWHERE, LocalAddress("eth1", "10.72.0.2", socket.AF_INET)]
    here = found(config, *beside)
    assert (here["a"].looped, here["b"].looped) == (False, True)
    loop = CLUSTER + RAIL_A.replace("10.71.0.0/24", "127.0.0.0/8")
    for number, name in enumerate(("alpha", "beta"), 1):
        loop += f'[[node]]\nname = "{name}"\nid = {number}\nport = {5400 + number}\n'
        loop += f'udp_port = {9900 + 2 * number}\naddresses = {{ a = "127.0.0.1" }}\n'
    assert found(read(loop + "[traffic]\nmulticast = true\n"))["a"].looped


def test_the_interface_is_found_by_the_address() -> None:
    """IPv6 wants to be told; an address that went away is told as none."""
    config = read(WITH)
    lo = LocalAddress("lo", "10.71.0.1", socket.AF_INET)
    assert found(config, lo)["a"].interface == socket.if_nametoindex("lo")
    assert found(config, lo._replace(interface="no such one"))["a"].interface == 0
    assert found(config)["a"].interface == 0
