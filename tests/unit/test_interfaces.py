"""The local node's address on each rail is the configured one, or is found on the rail."""

from __future__ import annotations

import errno
import os
import socket

import netifaces
import pytest

from phalanx.transport import interfaces
from phalanx.transport.config import ClusterConfig, NodeConfig, RailConfig
from phalanx.transport.errors import AddressMissing, ConfigError, EnvironmentTrouble
from phalanx.transport.interfaces import LocalAddress, absent_rails, find_rail_addresses

LO = LocalAddress("lo", "127.0.0.1", socket.AF_INET)
ON_A = LocalAddress("eth0", "10.71.0.1", socket.AF_INET)
ON_A_TOO = LocalAddress("eth1", "10.71.0.9", socket.AF_INET)
ON_B = LocalAddress("eth2", "fd00:72::1", socket.AF_INET6)


def config(**addresses: str) -> ClusterConfig:
    return ClusterConfig(
        name="c",
        file="cluster.toml",
        rails=(
            RailConfig(name="a", network="10.71.0.0/24"),
            RailConfig(name="b", network="fd00:72::/64"),
        ),
        nodes=(
            NodeConfig(name="alpha", id=1, addresses=addresses),
            NodeConfig(name="beta", id=2, addresses={"a": "10.71.0.2"}),
        ),
    )


def find(settings: ClusterConfig, *local: LocalAddress) -> dict[str, str]:
    return find_rail_addresses(settings, settings.nodes[0], local=local)


def test_configured_addresses_are_taken_as_they_are() -> None:
    """Whoever names an address wants this one, however many the machine has."""
    settings = config(a="10.71.0.9", b="fd00:72::1")
    found = find(settings, LO, ON_A, ON_A_TOO, ON_B)
    assert found == {"a": "10.71.0.9", "b": "fd00:72::1"}
    assert absent_rails(settings, found) == ()


def test_an_address_left_out_is_found_on_the_rail() -> None:
    """One file can serve all hosts."""
    assert find(config(), LO, ON_A, ON_B) == {"a": "10.71.0.1", "b": "fd00:72::1"}
    assert find(config(a="10.71.0.1"), ON_A, ON_A_TOO, ON_B)["b"] == "fd00:72::1"


@pytest.mark.parametrize("addresses", [{}, {"a": "10.71.0.1", "b": "fd00:72::1"}])
def test_a_rail_without_a_local_address_is_left_out_and_named(addresses: dict[str, str]) -> None:
    """A rail that is absent at start must not keep the node from the others."""
    settings = config(**addresses)
    found = find(settings, LO, ON_A)
    assert found == {"a": "10.71.0.1"}
    assert absent_rails(settings, found) == ("b",)


def test_no_address_on_any_rail_names_networks_and_what_there_is() -> None:
    """The operator sees at once whether the host or the file is the wrong one."""
    with pytest.raises(AddressMissing) as caught:
        find(config(a="10.71.0.7"), LO, LocalAddress("eth0", "192.0.2.2", socket.AF_INET))
    text = str(caught.value)
    for part in ("alpha", "10.71.0.7 on rail a", "fd00:72::/64", "192.0.2.2 (eth0)"):
        assert part in text
    with pytest.raises(AddressMissing, match="this machine has none"):
        find(config())


def test_two_candidates_on_a_rail_have_to_be_told_apart() -> None:
    """A guess would differ from start to start."""
    with pytest.raises(ConfigError, match="name one of them") as caught:
        find(config(), ON_A, ON_A_TOO, ON_B)
    assert caught.value.file == "cluster.toml"
    assert caught.value.key == 'addresses.a of node "alpha"'
    assert "10.71.0.9 (eth1)" in caught.value.problem


def test_the_same_address_on_two_interfaces_is_one_candidate() -> None:
    """A bridge and its port may both list it."""
    assert find(config(), ON_A, ON_A._replace(interface="br0"))["a"] == "10.71.0.1"


def test_a_public_address_that_is_found_needs_allow_public() -> None:
    """The file names no address, so that reading it cannot find this out."""
    public = LocalAddress("eth0", "8.8.8.8", socket.AF_INET)
    settings = ClusterConfig(
        name="c",
        rails=(RailConfig(name="a", network="8.8.8.0/24"),),
        nodes=(NodeConfig(name="alpha", id=1),),
    )
    with pytest.raises(ConfigError, match="NOTHING IS ENCRYPTED"):
        find(settings, public)
    allowed = ClusterConfig(name="c", rails=settings.rails, nodes=settings.nodes, allow_public=True)
    assert find(allowed, public) == {"a": "8.8.8.8"}


def test_another_node_without_any_address_is_refused() -> None:
    """Only local addresses can be found; waiting for such a node would end in a time-out."""
    settings = config(a="10.71.0.1")
    with pytest.raises(ConfigError, match="every node but the local one") as caught:
        find_rail_addresses(config(), settings.nodes[1], local=[ON_A])
    assert caught.value.key == 'addresses of node "alpha"'


def test_any_loopback_address_is_local() -> None:
    """The kernel answers on all of 127/8, although the interface lists one address."""
    settings = ClusterConfig(
        name="c",
        rails=(RailConfig(name="a", network="127.0.0.0/8"),),
        nodes=(NodeConfig(name="alpha", id=1, addresses={"a": "127.0.0.5"}),),
    )
    assert find(settings, LO) == {"a": "127.0.0.5"}


def test_local_addresses_of_this_machine_hold_loopback() -> None:
    """The real system, not a table of ours."""
    assert LO in interfaces.local_addresses()


def test_the_oddities_of_netifaces_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scopes, netmasks with a prefix, peers without address, and interfaces that vanish."""
    table = {
        "eth0": {
            netifaces.AF_INET6: [
                {"addr": "fe80::1%eth0", "netmask": "ffff:ffff:ffff:ffff::/64"},
                {"addr": "fd00::2", "netmask": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"},
            ]
        },
        "tun0": {netifaces.AF_INET: [{"peer": "10.0.0.2"}, {"addr": "10.0.0.1"}]},
    }

    def ifaddresses(name: str) -> dict[int, list[dict[str, str]]]:
        if name == "gone":
            raise ValueError("You must specify a valid interface name.")
        return table[name]

    monkeypatch.setattr(netifaces, "interfaces", lambda: ["eth0", "gone", "tun0"])
    monkeypatch.setattr(netifaces, "ifaddresses", ifaddresses)
    assert interfaces.local_addresses() == [
        ("eth0", "fe80::1", socket.AF_INET6),
        ("eth0", "fd00::2", socket.AF_INET6),
        ("tun0", "10.0.0.1", socket.AF_INET),
    ]


def test_addresses_that_cannot_be_listed_are_trouble_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without descriptors the list of the system's interfaces cannot be had."""

    def refuse() -> list[str]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(netifaces, "interfaces", refuse)
    with pytest.raises(EnvironmentTrouble, match="cannot be listed: Too many open files"):
        find_rail_addresses(config(), config().nodes[0])
