"""A bad cluster file is found out before anything runs, by one error that says what to change."""

from __future__ import annotations

from pathlib import Path

import pytest

from phalanx.transport.config import PROFILES, Limits
from phalanx.transport.config_file import load
from phalanx.transport.errors import ConfigError

from .config_texts import ALPHA, BETA, CLUSTER, GOOD, ON_ONE_MACHINE, RAIL_A, RAIL_B, read

EXAMPLES = Path(__file__).parents[2] / "examples"


def one_node(rail: str, network: str, address: str, cluster: str = CLUSTER) -> str:
    return (
        f'{cluster}[[rail]]\nname = "{rail}"\nnetwork = "{network}"\n'
        f'[[node]]\nname = "alpha"\nid = 1\naddresses = {{ {rail} = "{address}" }}\n'
    )


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert caught.value.file == "cluster.toml"
    assert str(caught.value).startswith(f"cluster.toml: {caught.value.key}: ")
    assert caught.value.fix, "every error says what to change"
    return caught.value


# ------------------------------------------------------------------------------ good files


def test_defaults_are_filled_in() -> None:
    """A short file is a whole configuration."""
    config = read(GOOD)
    assert config.name == "c"
    assert [rail.name for rail in config.rails] == ["a", "b"]
    assert config.rails[0].lifeline
    assert config.node("beta").addresses == {"a": "10.71.0.2", "b": "10.72.0.2"}
    assert (config.node(1).port, config.node(1).udp_port, config.node(1).votes) == (5405, 9899, 1)
    assert config.node(1).datagram_port == 9900
    assert config.timing == PROFILES["lan"]
    assert config.limits == Limits()
    assert (config.driver, config.state_dir, config.allow_public) == ("auto", "", False)
    assert config.quorum.tie_breaker == 0
    assert not config.discovery.multicast
    assert config.traffic.rails == "passive"
    assert read(GOOD + '[traffic]\nrails = "active"\n').traffic.rails == "active"
    assert config.traffic.datagrams
    assert config.traffic.evict_slow_ns == 0
    assert config.file == "cluster.toml"


def test_every_setting_is_read() -> None:
    """What is written arrives in its field, in the unit of the field."""
    config = read(
        '[cluster]\nname = "c"\nallow_public = true\nstate_dir = "/var/lib/x"\n'
        'driver = "user_sctp"\n'
        '[[rail]]\nname = "a"\nnetwork = "fd00:71::/64"\nlifeline = false\n'
        '[[node]]\nname = "alpha"\nid = 7\nvotes = 3\naddresses = { a = "fd00:71::0001" }\n'
        'port = 1\nudp_port = 2\ndatagram_port = 9\nuuid = "12345678-1234-5678-1234-567812345678"\n'
        '[quorum]\ntie_breaker = "alpha"\n'
        '[timing]\nprofile = "wan"\nsuspect_ms = 3000.5\ndrift = 1.2\nswitch_back_probes = 9\n'
        "ack_delay_ms = 0\nspin_us = 50\n[timing.sctp]\nrto_max_ms = 6000\nsack_freq = 1\n"
        "[limits]\nqueue_bytes = 1234\n"
        '[discovery]\nmulticast = true\nport = 77\n[traffic]\nrails = "passive"\n'
        "datagrams = false\nevict_slow_ms = 6001.5\n"
    )
    node = config.node(7)
    assert (node.votes, node.port, node.udp_port, node.datagram_port) == (3, 1, 2, 9)
    assert not config.traffic.datagrams
    assert (config.discovery.multicast, config.discovery.port) == (True, 77)
    assert config.traffic.evict_slow_ns == 6_001_500_000
    assert node.addresses == {"a": "fd00:71::1"}, "addresses are in their canonical form"
    assert node.uuid == "12345678-1234-5678-1234-567812345678"
    assert config.allow_public
    assert not config.rails[0].lifeline
    assert (config.state_dir, config.driver) == ("/var/lib/x", "user_sctp")
    assert config.quorum.tie_breaker == 7
    assert config.timing.suspect_ns == 3_000_500_000
    assert config.timing.lease_ns == PROFILES["wan"].lease_ns
    assert (config.timing.drift, config.timing.switch_back_probes) == (1.2, 9)
    assert config.timing.spin_us == 50
    assert config.timing.ack_delay_ns == 0
    assert (config.timing.sctp.rto_max_ms, config.timing.sctp.sack_freq) == (6000, 1)
    assert config.limits.queue_bytes == 1234


def test_datagrams_have_the_port_after_that_of_sctp() -> None:
    """Nodes on one machine need two numbers each, so that two apart is enough."""
    config = read(ON_ONE_MACHINE)
    assert [node.datagram_port for node in config.nodes] == [9900, 9902]
    assert read(GOOD + "udp_port = 65535\n").node(2).datagram_port == 65_534
    # Where they do not share an address they share the numbers.
    assert {node.datagram_port for node in read(GOOD).nodes} == {9900}


@pytest.mark.parametrize("ports", ["9898", "9900", "9897\ndatagram_port = 9897"])
def test_without_datagrams_their_ports_do_not_matter(ports: str) -> None:
    """A file of a machine on which no numbers are free between those of SCTP."""
    text = ON_ONE_MACHINE.replace("9901", ports) + "[traffic]\ndatagrams = "
    assert refused(f"{text}true\n")
    assert not read(f"{text}false\n").traffic.datagrams


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_every_profile_keeps_the_relations_that_are_checked(profile: str) -> None:
    """A shipped profile must not be refused by our own rules."""
    config = read(f'{GOOD}[timing]\nprofile = "{profile}"\n')
    assert config.timing == PROFILES[profile]


@pytest.mark.parametrize("name", ["cluster.toml", "loopback.toml"])
def test_the_examples_are_good(name: str) -> None:
    """What the documentation tells people to start from has to work."""
    config = load(EXAMPLES / name)
    assert [node.id for node in config.nodes] == [1, 2, 3]
    assert config.file == str(EXAMPLES / name)


def test_the_example_for_one_machine_keeps_its_records_out_of_the_home_directory() -> None:
    """Whoever tries it out must not find traces of it in other places, nor records of years ago."""
    assert load(EXAMPLES / "loopback.toml").state_dir == str(EXAMPLES / "loopback.state")


def test_nodes_are_in_order_of_id() -> None:
    """The core takes the order of nodes as that of their ids."""
    config = read(CLUSTER + RAIL_A + RAIL_B + BETA + ALPHA)
    assert [node.id for node in config.nodes] == [1, 2]


def test_a_relative_state_dir_starts_at_the_file(tmp_path: Path) -> None:
    """Where a node keeps its record must not depend on where it was started."""
    file = tmp_path / "cluster.toml"
    file.write_text(GOOD.replace("[[rail]]", 'state_dir = "state"\n[[rail]]', 1))
    assert load(file).state_dir == str(tmp_path / "state")


def test_tie_breaker_is_a_name_or_an_id() -> None:
    """Both are unique, and people think of either."""
    assert read(f'{GOOD}[quorum]\ntie_breaker = "beta"\n').quorum.tie_breaker == 2
    assert read(f"{GOOD}[quorum]\ntie_breaker = 1\n").quorum.tie_breaker == 1


def test_nodes_that_find_each_other_need_no_addresses() -> None:
    """Those that the file has are taken from it."""
    found = "".join(f'[[node]]\nname = "{name}"\nid = {ord(name)}\n' for name in "xyz")
    config = read(GOOD + found + "[discovery]\nmulticast = true\n")
    assert [bool(node.addresses) for node in config.nodes] == [True, True, False, False, False]


def test_one_node_may_leave_its_addresses_out() -> None:
    """They are found on the rails' networks; of two such nodes, one could not be the local."""
    gamma = '[[node]]\nname = "gamma"\nid = 3\n'
    assert read(GOOD + gamma).node(3).addresses == {}
    error = refused(GOOD + gamma + gamma.replace("gamma", "delta").replace("3", "4"))
    assert error.key == "node[3].addresses"
    assert "node[2]" in error.problem


# ------------------------------------------------------------------------- unreadable files


def test_a_file_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    """A wrong path is the most frequent mistake of all."""
    for path in (tmp_path / "none.toml", tmp_path, "nul\0.toml"):
        with pytest.raises(ConfigError, match="cannot be read") as caught:
            load(path)
        assert caught.value.file == str(path)


def test_a_file_that_is_no_toml_names_the_line(tmp_path: Path) -> None:
    """Whoever has to correct it wants to know where."""
    assert refused("[cluster]\nname = \n").key == "line 2, column 8"
    assert refused("[cluster").problem.startswith("is not TOML")
    assert refused("a = " + "[" * 5000).problem.startswith("is not TOML")
    file = tmp_path / "cluster.toml"
    file.write_bytes(b'[cluster]\nname = "\xff"\n')
    with pytest.raises(ConfigError, match="is not UTF-8") as caught:
        load(file)
    assert caught.value.key == "byte 18"


def test_a_byte_order_mark_is_named(tmp_path: Path) -> None:
    """Some editors write one unasked; nobody sees it, and TOML does not allow it."""
    file = tmp_path / "cluster.toml"
    file.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    with pytest.raises(ConfigError, match="remove the byte order mark") as caught:
        load(file)
    assert caught.value.key == "byte 0"


# ------------------------------------------------------- each mistake: text, key, words of it

MISTAKES = {
    "unknown section": (GOOD + "[nodes]\nx = 1\n", "nodes", "did you mean 'node'"),
    "unknown section, nothing near": (GOOD + "[zzz]\n", "zzz", "known here: cluster, rail"),
    "unknown key": (GOOD.replace("network", "netwrok", 1), "rail[0].netwrok", "'network'"),
    "unknown node key": (GOOD + "vote = 2\n", "node[1].vote", "did you mean 'votes'"),
    "nanoseconds in a file": (GOOD + "[timing]\nlease_ns = 4\n", "timing.lease_ns", "'lease_ms'"),
    "missing cluster": (RAIL_A + ALPHA, "cluster.name", "is missing"),
    "missing network": ('[cluster]\nname="c"\n[[rail]]\nname="a"', "rail[0].network", "missing"),
    "missing id": (GOOD.replace("id = 2\n", ""), "node[1].id", "from 1 to 2147483647"),
    "text for a number": (GOOD.replace("id = 2", 'id = "2"'), "node[1].id", "is a string"),
    "true for a number": (GOOD + "votes = true\n", "node[1].votes", "is true or false"),
    "fraction for a count": (GOOD + "votes = 1.5\n", "node[1].votes", "a number with a fraction"),
    "number for a text": (GOOD.replace('"c"', "5"), "cluster.name", "is a whole number"),
    "date for a text": (GOOD.replace('"c"', "2020-01-01"), "cluster.name", "is a date"),
    "text for a flag": (
        GOOD.replace('name = "c"', 'name = "c"\nallow_public = "yes"'),
        "cluster.allow_public",
        "write true or false",
    ),
    "one bracket for two": (
        CLUSTER + RAIL_A.replace("[[rail]]", "[rail]") + ALPHA,
        "rail",
        "write [[rail]]",
    ),
    "two brackets for one": (GOOD.replace("[cluster]", "[[cluster]]"), "cluster", "[cluster]"),
    "list of no tables": ("rail = [1]\n" + CLUSTER, "rail", "[[rail]]"),
    "addresses as a list": (
        GOOD.replace('{ a = "10.71.0.2", b = "10.72.0.2" }', '["10.71.0.2"]'),
        "node[1].addresses",
        'is a list; write it like addresses = { a = "10.71.0.2" }',
    ),
    "timing inside as a number": (
        GOOD + "[timing]\nsctp = 1\n",
        "timing.sctp",
        "write it as a table, [timing.sctp]",
    ),
    "no rails": (CLUSTER + ALPHA, "rail", "at least one"),
    "no nodes": (CLUSTER + RAIL_A, "node", "at least one"),
    "empty name": (GOOD.replace('"alpha"', '""'), "node[0].name", "is empty"),
    "name with a slash": (GOOD.replace('"alpha"', '"../alpha"'), "node[0].name", "slash"),
    "name with a space": (GOOD.replace('"alpha"', '"al pha"'), "node[0].name", "space"),
    "name with a control character": (GOOD.replace('"c"', '"c\\u0007"'), "cluster.name", "control"),
    "hidden name": (GOOD.replace('"c"', '".c"'), "cluster.name", "starts with a dot"),
    "rail name twice": (
        GOOD.replace('name = "b"', 'name = "a"'),
        "rail[1].name",
        "'a' is used twice",
    ),
    "node name twice": (GOOD.replace('"beta"', '"alpha"'), "node[1].name", "node[0]"),
    "node id twice": (GOOD.replace("id = 2", "id = 1"), "node[1].id", "1 is that of node[0]"),
    "overlapping rails": (
        GOOD.replace("10.72.0.0/24", "10.71.0.0/16"),
        "rail[1].network",
        "overlaps 10.71.0.0/24 of rail 'a'",
    ),
    "two rails on loopback": (
        CLUSTER
        + RAIL_A.replace("10.71.0.0/24", "127.0.1.0/24")
        + RAIL_B.replace("10.72.0.0/24", "127.0.2.0/24")
        + ALPHA,
        "rail[1].network",
        "routing chooses the source address",
    ),
    "no network": (GOOD.replace("10.71.0.0/24", "lan"), "rail[0].network", "is no network"),
    "no prefix": (GOOD.replace("10.71.0.0/24", "10.71.0.0"), "rail[0].network", "no prefix"),
    "host bits": (
        GOOD.replace("10.71.0.0/24", "10.71.0.1/24"),
        "rail[0].network",
        '"10.71.0.0/24"',
    ),
    "multicast rail": (
        GOOD.replace("10.71.0.0/24", "224.1.0.0/24"),
        "rail[0].network",
        "multicast",
    ),
    "link-local rail": (GOOD.replace("10.71.0.0/24", "fe80::/64"), "rail[0].network", "link-local"),
    "address off its rail": (
        GOOD.replace("10.71.0.2", "10.73.0.2"),
        "node[1].addresses.a",
        "not on rail 'a', network 10.71.0.0/24",
    ),
    "address of an unknown rail": (
        GOOD.replace(', b = "10.72.0.2"', ', c = "10.72.0.2"'),
        "node[1].addresses.c",
        "known here: a, b",
    ),
    "no address": (GOOD.replace("10.71.0.2", "beta.lan"), "node[1].addresses.a", "is no address"),
    "mixed families": (GOOD.replace("10.71.0.2", "fd00::2"), "node[1].addresses.a", "IPv6"),
    "network's own address": (GOOD.replace("10.71.0.2", "10.71.0.0"), "node[1].addresses.a", "own"),
    "broadcast": (GOOD.replace("10.71.0.2", "10.71.0.255"), "node[1].addresses.a", "broadcast"),
    "mapped address": (
        one_node("a", "::/0", "::ffff:10.0.0.1"),
        "node[0].addresses.a",
        "mapped IPv4 address",
    ),
    "scoped address": (one_node("a", "fd00::/64", "fd00::1%e0"), "node[0].addresses.a", "plain"),
    "multicast address": (
        one_node("a", "192.0.0.0/2", "239.1.1.1"),
        "node[0].addresses.a",
        "no host's address",
    ),
    "same address and both ports": (
        GOOD.replace("10.71.0.2", "10.71.0.1"),
        "node[1].addresses.a",
        "share address 10.71.0.1, udp_port 9899 and port 5405; correct one address; "
        "only for nodes on one machine: give each a port and udp_port of its own, "
        "the latter two apart",
    ),
    "same address and udp_port": (
        GOOD.replace("10.71.0.2", "10.71.0.1") + "port = 5406\n",
        "node[1].udp_port",
        "9899",
    ),
    "same address and port": (
        GOOD.replace("10.71.0.2", "10.71.0.1") + "udp_port = 9900\n",
        "node[1].port",
        "5405",
    ),
    "same address and datagram_port": (
        ON_ONE_MACHINE + "datagram_port = 9900\n",
        "node[1].datagram_port",
        "datagram_port 9900 of node 'beta' is the datagram_port of node 'alpha', and both have "
        "address 10.71.0.1; each takes two UDP ports, udp_port and the one after it: write "
        "udp_port numbers that are two apart, or a datagram_port for each that is free",
    ),
    "datagram_port that is another node's udp_port": (
        ON_ONE_MACHINE + "datagram_port = 9899\n",
        "node[1].datagram_port",
        "datagram_port 9899 of node 'beta' is the udp_port of node 'alpha'",
    ),
    "udp_port that is another node's datagram_port": (
        ON_ONE_MACHINE.replace("9901", "9900"),
        "node[1].udp_port",
        "udp_port 9900 of node 'beta' is the datagram_port of node 'alpha'",
    ),
    "default of datagram_port that is another node's udp_port": (
        ON_ONE_MACHINE.replace("9901", "9898"),
        "node[1].udp_port",
        "datagram_port 9899 of node 'beta' is the udp_port of node 'alpha'",
    ),
    "datagram_port that is the own udp_port": (
        GOOD + "datagram_port = 9899\n",
        "node[1].datagram_port",
        "leave datagram_port out",
    ),
    "udp_port that is the own datagram_port": (
        GOOD + "udp_port = 7\ndatagram_port = 7\n",
        "node[1].datagram_port",
        "datagram_port 7 is the udp_port of the same node",
    ),
    "nobody votes": (
        (CLUSTER + RAIL_A + RAIL_B + ALPHA + "votes = 0\n" + BETA + "votes = 0\n"),
        "node[0].votes",
        "no node has a vote",
    ),
    "no UUID": (GOOD + 'uuid = "x"\n', "node[1].uuid", "is no UUID"),
    "unknown tie-breaker": (
        GOOD + '[quorum]\ntie_breaker = "delta"\n',
        "quorum.tie_breaker",
        '"alpha" (1), "beta" (2)',
    ),
    "tie-breaker of the wrong type": (
        GOOD + "[quorum]\ntie_breaker = true\n",
        "quorum.tie_breaker",
        "a node's name or id",
    ),
    "tie-breaker without votes": (
        GOOD + "votes = 0\n[quorum]\ntie_breaker = 2\n",
        "quorum.tie_breaker",
        "has no votes",
    ),
    "unknown profile": (
        GOOD + '[timing]\nprofile = "lna"\n',
        "timing.profile",
        "lan, lan-fast, wan",
    ),
    "unknown driver": (
        GOOD.replace('name = "c"', 'name = "c"\ndriver = "sctp"'),
        "cluster.driver",
        "auto, kernel_sctp, user_sctp, multicast",
    ),
    "unknown traffic": (GOOD + '[traffic]\nrails = "both"\n', "traffic.rails", "passive"),
    "slow before silent": (
        GOOD + "[traffic]\nevict_slow_ms = 499\n",
        "traffic.evict_slow_ms",
        "less than twice suspect_ms, 500",
    ),
    "one port for groups and beacons": (
        GOOD + "[discovery]\nport = 5407\n",
        "discovery.port",
        "traffic.multicast_port too",
    ),
    "NUL in state_dir": (
        GOOD.replace('name = "c"', 'name = "c"\nstate_dir = "\\u0000"'),
        "cluster.state_dir",
        "NUL",
    ),
    "not a number": (GOOD + "[timing]\nlease_ms = nan\n", "timing.lease_ms", "is nan"),
    "sack delay of the minimum timeout": (
        GOOD + "[timing.sctp]\nsack_delay_ms = 20\n",
        "timing.sctp.sack_delay_ms",
        "rto_min_ms 20",
    ),
    "minimum timeout of the sack delay": (
        GOOD + "[timing.sctp]\nrto_min_ms = 10\n",
        "timing.sctp.rto_min_ms",
        "sack_delay_ms 10",
    ),
    "rto_min above rto_initial": (
        GOOD + "[timing.sctp]\nrto_min_ms = 51\n",
        "timing.sctp.rto_min_ms",
        "rto_initial_ms 50",
    ),
    "rto_initial above rto_max": (
        GOOD + "[timing.sctp]\nrto_max_ms = 49\n",
        "timing.sctp.rto_max_ms",
        "rto_initial_ms 50",
    ),
    "pf_threshold": (
        GOOD + "[timing.sctp]\npf_threshold = 5\n",
        "timing.sctp.pf_threshold",
        "path_max_retrans 4",
    ),
    "reconnect": (
        GOOD + "[timing]\nreconnect_min_ms = 501\n",
        "timing.reconnect_min_ms",
        "reconnect_max_ms",
    ),
    "window below a batch": (
        GOOD + "[limits]\nwindow_bytes = 61439\n",
        "limits.window_bytes",
        "batch_bytes 61440",
    ),
    "bulk batch above a batch": (
        GOOD + "[limits]\nbulk_batch_bytes = 40000\nbatch_bytes = 30000\n",
        "limits.bulk_batch_bytes",
        "batch_bytes 30000",
    ),
    "bulk in flight below a batch": (
        GOOD + "[limits]\nbulk_in_flight_bytes = 16383\n",
        "limits.bulk_in_flight_bytes",
        "16384",
    ),
    "backlog below the window": (
        GOOD + "[limits]\nlink_backlog_bytes = 1048575\n",
        "limits.link_backlog_bytes",
        "1048576",
    ),
}


@pytest.mark.parametrize("mistake", sorted(MISTAKES))
def test_a_mistake_is_named_by_key_and_with_what_to_change(mistake: str) -> None:
    """An operator who reads the one line knows which line of which file to edit, and how."""
    text, key, words = MISTAKES[mistake]
    error = refused(text)
    assert error.key == key
    assert words in f"{error.problem}; {error.fix}"


# --------------------------------------------------------------- public addresses are refused


@pytest.mark.parametrize(
    ("network", "address"), [("8.8.8.0/24", "8.8.8.8"), ("2600::/64", "2600::8")]
)
def test_a_public_address_needs_allow_public(network: str, address: str) -> None:
    """Anyone who can reach the port could join: nothing is authenticated yet."""
    error = refused(one_node("a", network, address))
    assert error.key == "node[0].addresses.a"
    assert "NOTHING IS ENCRYPTED" in error.problem
    assert "allow_public = true" in error.fix
    allowed = one_node("a", network, address, CLUSTER + "allow_public = true\n")
    assert read(allowed).node(1).addresses == {"a": address}


@pytest.mark.parametrize(
    ("network", "address"),
    [
        ("10.71.0.0/24", "10.71.0.1"),
        ("172.16.0.0/12", "172.31.255.1"),
        ("192.168.1.0/31", "192.168.1.0"),
        ("192.168.1.0/31", "192.168.1.1"),
        ("192.168.1.7/32", "192.168.1.7"),
        ("127.0.0.0/8", "127.0.0.1"),
        ("100.64.0.0/10", "100.64.0.1"),
        ("fd00:71::/64", "fd00:71::1"),
        ("::1/128", "::1"),
    ],
)
def test_a_private_address_needs_no_leave(network: str, address: str) -> None:
    """The usual case must stay short; on /31 and /32 there is no network or broadcast address."""
    assert read(one_node("a", network, address)).node(1).addresses == {"a": address}
