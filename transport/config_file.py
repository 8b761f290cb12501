"""Reads a cluster file (TOML) into a `ClusterConfig` and finds every mistake before anything runs.

A bad file gives exactly one `ConfigError`, which names the file, the key and what to change.
Entries of `[[rail]]` and `[[node]]` are counted from 0 in keys, as in `node[2].addresses.a`.
`docs/configuration.md` describes each setting.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import re
import tomllib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

from . import config as limits
from .config import (
    MS,
    PROFILES,
    ClusterConfig,
    DiscoveryConfig,
    Limits,
    NodeConfig,
    QuorumConfig,
    RailConfig,
    SctpTuning,
    Timing,
)
from .config_nodes import check_own_ports, check_pair
from .config_traffic import read_group, read_traffic
from .errors import ConfigError
from .toml_table import Table

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

PUBLIC_PROBLEM = "is a public address, and NOTHING IS ENCRYPTED OR AUTHENTICATED YET"
PUBLIC_FIX = "use a private network, or write allow_public = true in [cluster] if you accept that"

DRIVERS = ("auto", "kernel_sctp", "user_sctp", limits.MULTICAST)
_SECTIONS = ("cluster", "rail", "node", "quorum", "timing", "limits", "discovery", "traffic")
_ADDRESSES = 'addresses = { a = "10.71.0.2" }'
"""How the table of a node is written, for a message."""
_MAY_BE_ZERO = frozenset({"ack_delay_ns", "bulk_ack_delay_ns", "hold_down_ns", "flap_hold_max_ns"})


def load(path: str | os.PathLike[str]) -> ClusterConfig:
    """The configuration in a cluster file; a relative `state_dir` starts at the file's folder.

    Raises:
        ConfigError: the file cannot be read or used; the message says what to change.
    """
    file = os.fspath(path)
    try:
        content = Path(file).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        raise ConfigError(
            file=file,
            key="(file)",
            problem=f"cannot be read: {getattr(error, 'strerror', None) or error}",
            fix="give the path of a readable cluster file",
        ) from error
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            file=file,
            key=f"byte {error.start}",
            problem="is not UTF-8, as TOML has to be",
            fix="save the file as UTF-8 text",
        ) from error
    if text.startswith("\ufeff"):
        raise ConfigError(
            file=file,
            key="byte 0",
            problem="is a byte order mark, which TOML does not allow",
            fix="remove the byte order mark (save as UTF-8 without it)",
        )
    return parse(text, file=file)


def parse(text: str, *, file: str) -> ClusterConfig:
    """The same for the text of a cluster file; `file` is its name in messages.

    Raises:
        ConfigError: the text cannot be used.
    """
    try:
        values: dict[str, object] = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        place = re.search(r"\(at (.*)\)", str(error))
        raise ConfigError(
            file=file,
            key=place.group(1) if place else "(file)",
            problem=f"is not TOML: {re.sub(r' *[(]at .*[)]', '', str(error))}",
            fix="correct the syntax there (https://toml.io)",
        ) from error
    top = Table(file, "", values)
    top.only(_SECTIONS)
    return _cluster(top)


def config_key_hashes(config: ClusterConfig) -> dict[str, str]:
    """A hash of each entry on which all nodes must agree, by the name of the entry.

    PROTOCOL 3, "Identity": majorities of two different files need not intersect, so that a
    mismatch is refused, and these hashes name the entry. Addresses, ports and limits are left
    out, for they may differ from file to file; so may the order of rails and nodes.
    """
    return {key: _digest([key, value]) for key, value in sorted(_agreed(config).items())}


def config_hash(config: ClusterConfig) -> str:
    """One hash over all entries of `config_key_hashes`, 32 hexadecimal digits."""
    return _digest(sorted(_agreed(config).items()))


def _agreed(config: ClusterConfig) -> dict[str, str | int | float]:
    agreed: dict[str, str | int | float] = {
        "cluster.name": config.name,
        "quorum.tie_breaker": config.quorum.tie_breaker,
        "timing.lease_ms": config.timing.lease_ns,
        "timing.drift": float(config.timing.drift),
    }
    for rail in config.rails:
        agreed[f"rail.{rail.name}.network"] = str(ipaddress.ip_network(rail.network))
    for node in config.nodes:
        agreed[f"node.{node.id}.name"] = node.name
        agreed[f"node.{node.id}.votes"] = node.votes
    return agreed


def _digest(value: object) -> str:
    # ASCII only and without spaces, so that the bytes do not depend on the version of Python.
    canonical = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()[:32]


_BUFFER = (1, limits.BUFFER_BYTES_MAX)
_BATCH = (limits.BATCH_BYTES_MIN, limits.BATCH_BYTES_MAX)
_LIMIT_RANGES: Mapping[str, tuple[int, int]] = {
    **{item.name: _BUFFER for item in fields(Limits)},
    "batch_bytes": _BATCH,
    "bulk_batch_bytes": _BATCH,
    "batch_messages_max": (1, limits.BATCH_MESSAGES_CEILING),
}
_SOCKET_BUFFER = (limits.SOCKET_BUFFER_BYTES_MIN, limits.BUFFER_BYTES_MAX)
_COUNT = (1, limits.SCTP_COUNT_MAX)
_SCTP_RANGES: Mapping[str, tuple[int, int]] = {
    **{item.name: _COUNT for item in fields(SctpTuning)},
    **{
        item.name: (1, limits.DURATION_NS_MAX // MS)
        for item in fields(SctpTuning)
        if item.name.endswith("_ms")
    },
    "sack_delay_ms": (1, limits.SACK_DELAY_MS_MAX),
    "init_timeout_ms": (1, limits.INIT_TIMEOUT_MS_MAX),
    "pf_threshold": (0, limits.SCTP_COUNT_MAX),
    "send_buffer_bytes": _SOCKET_BUFFER,
    "receive_buffer_bytes": _SOCKET_BUFFER,
}


# --------------------------------------------------------------------------- the sections


def _cluster(top: Table) -> ClusterConfig:
    cluster = top.table("cluster")
    cluster.only(("name", "allow_public", "state_dir", "driver", "encapsulation"))
    name = cluster.name_of("cluster")
    allow_public = cluster.flag("allow_public", default=False)
    state_dir = cluster.text("state_dir", "")
    if "\0" in state_dir:
        raise cluster.error("state_dir", "holds a NUL character", "remove it")
    if state_dir:
        folder = os.path.dirname(os.path.abspath(top.file))
        state_dir = os.path.normpath(os.path.join(folder, os.path.expanduser(state_dir)))
    driver = cluster.choice("driver", DRIVERS, "auto")
    rails = _rails(top.tables("rail", limits.RAILS_MAX))
    timing = _timing(top.table("timing"))
    traffic = read_traffic(top.table("traffic"), timing, driver)
    discovery = _discovery(top.table("discovery"), traffic.multicast_port)
    nodes = _nodes(
        top.tables("node", limits.NODES_MAX),
        rails,
        allow_public=allow_public,
        datagrams=traffic.datagrams,
        discovered=discovery.multicast,
    )
    return ClusterConfig(
        name=name,
        rails=tuple(rails),
        nodes=tuple(sorted(nodes, key=lambda node: node.id)),
        timing=timing,
        limits=_limits(top.table("limits")),
        quorum=_quorum(top.table("quorum"), nodes),
        discovery=discovery,
        traffic=traffic,
        state_dir=state_dir,
        allow_public=allow_public,
        driver=driver,
        encapsulation=cluster.flag("encapsulation", default=False),
        file=top.file,
    )


def _quorum(table: Table, nodes: Sequence[NodeConfig]) -> QuorumConfig:
    table.only(("tie_breaker",))
    if not table.has("tie_breaker"):
        return QuorumConfig()
    wanted = table.text_or_integer("tie_breaker", "a node's name or id")
    known = ", ".join(f'"{node.name}" ({node.id})' for node in nodes)
    for node in nodes:
        if wanted in (node.name, node.id):
            if node.votes == 0:
                raise table.error("tie_breaker", f"node {node.name!r} has no votes", "give it one")
            return QuorumConfig(tie_breaker=node.id)
    raise table.error("tie_breaker", f"{wanted!r} is no node", f"name one of: {known}")


def _discovery(table: Table, multicast_port: int) -> DiscoveryConfig:
    table.only(("multicast", "port"))
    port = table.integer("port", 1, limits.PORT_MAX, DiscoveryConfig().port)
    if port == multicast_port:
        raise table.error(
            "port", f"{port} is traffic.multicast_port too", "write another number for one of them"
        )
    return DiscoveryConfig(multicast=table.flag("multicast", default=False), port=port)


# ------------------------------------------------------------------------- rails and nodes


def _rails(tables: Sequence[Table]) -> list[RailConfig]:
    rails: list[RailConfig] = []
    networks: list[_Network] = []
    for table in tables:
        table.only(("name", "network", "lifeline", "group"))
        name = table.name_of("rail")
        if any(name == rail.name for rail in rails):
            raise table.error("name", f"{name!r} is used twice", "give each rail its own name")
        network = _network(table)
        for rail, other in zip(rails, networks, strict=True):
            if network.version == other.version and network.overlaps(other):
                raise table.error(
                    "network",
                    f"{network} overlaps {other} of rail {rail.name!r}",
                    "give each rail a subnet of its own",
                )
            if _is_loopback(network) and _is_loopback(other):
                raise table.error(
                    "network",
                    f"is on 127.0.0.0/8 like rail {rail.name!r}, where routing chooses the source "
                    "address, so that two rails cannot be told apart",
                    "use one rail on loopback, or real subnets",
                )
        networks.append(network)
        rails.append(
            RailConfig(
                name=name,
                network=str(network),
                group=read_group(table, network.version),
                lifeline=table.flag("lifeline", default=True),
            )
        )
    return rails


def _is_loopback(network: _Network) -> bool:
    return network.version == 4 and network.overlaps(ipaddress.ip_network("127.0.0.0/8"))


def _network(table: Table) -> _Network:
    text = table.text("network")
    example = 'write it like "10.71.0.0/24" or "fd00:71::/64"'
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise table.error("network", f"{text!r} is no network", example) from error
    if "/" not in text:
        raise table.error("network", f"{text!r} has no prefix length", example)
    if str(network.network_address) != str(ipaddress.ip_address(text.partition("/")[0])):
        raise table.error("network", f"{text!r} is an address in a network", f'write "{network}"')
    if network.is_multicast or (network.version == 6 and network.is_link_local):
        raise table.error(
            "network", f"{network} is multicast or link-local", "use a network of unicast addresses"
        )
    return network


def _nodes(
    tables: Sequence[Table],
    rails: Sequence[RailConfig],
    *,
    allow_public: bool,
    datagrams: bool,
    discovered: bool,
) -> list[NodeConfig]:
    nodes: list[NodeConfig] = []
    for table in tables:
        node = _node(table, rails, allow_public=allow_public)
        if datagrams:
            check_own_ports(table, node)
        for index, other in enumerate(nodes):
            check_pair(table, node, index, other, datagrams=datagrams, discovered=discovered)
        nodes.append(node)
    if not any(node.votes for node in nodes):
        raise tables[0].error("votes", "no node has a vote", "give at least one node a vote")
    return nodes


def _node(table: Table, rails: Sequence[RailConfig], *, allow_public: bool) -> NodeConfig:
    table.only(("name", "id", "votes", "addresses", "port", "udp_port", "datagram_port", "uuid"))
    name = table.name_of("node")
    identity = table.integer("id", 1, limits.NODE_ID_MAX)
    defaults = NodeConfig(name=name, id=identity)
    udp_port = table.integer("udp_port", 1, limits.PORT_MAX, defaults.udp_port)
    beside = udp_port + 1 if udp_port < limits.PORT_MAX else udp_port - 1
    return NodeConfig(
        name=name,
        id=identity,
        votes=table.integer("votes", 0, limits.VOTES_MAX, defaults.votes),
        addresses=_addresses(
            table.table("addresses", _ADDRESSES), rails, allow_public=allow_public
        ),
        port=table.integer("port", 1, limits.PORT_MAX, defaults.port),
        udp_port=udp_port,
        datagram_port=table.integer("datagram_port", 1, limits.PORT_MAX, beside),
        uuid=_uuid(table),
    )


def _uuid(table: Table) -> str:
    text = table.text("uuid", "")
    if not text:
        return ""
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise table.error("uuid", f"{text!r} is no UUID", "write it or leave it out") from error


def _addresses(table: Table, rails: Sequence[RailConfig], *, allow_public: bool) -> dict[str, str]:
    table.only([rail.name for rail in rails])
    networks = {rail.name: ipaddress.ip_network(rail.network) for rail in rails}
    return {
        rail: str(_address(table, rail, networks[rail], allow_public=allow_public))
        for rail in table.names()
    }


def _address(table: Table, rail: str, network: _Network, *, allow_public: bool) -> _Address:
    text = table.text(rail)
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise table.error(
            rail, f"{text!r} is no address", f"write an address of {network}"
        ) from error
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address.scope_id):
        problem = f"{address} is a mapped IPv4 address or names an interface"
        raise table.error(rail, problem, "write the plain address")
    if address.version != network.version:
        problem = f"{address} is IPv{address.version}, rail {rail!r} is IPv{network.version}"
        raise table.error(rail, problem, f"write an address of {network}")
    if address not in network:
        problem = f"{address} is not on rail {rail!r}, network {network}"
        raise table.error(rail, problem, "correct the address or the rail's network")
    # The all-zeros and all-ones hosts belong to the network (RFC 1122), save on /31 (RFC 3021).
    if network.num_addresses > 2:
        if address == network.network_address:
            raise table.error(rail, f"{address} is the network's own address", "name a host's")
        if address.version == 4 and address == network.broadcast_address:
            raise table.error(rail, f"{address} is the broadcast address", "name a host's")
    if address.is_unspecified or address.is_multicast:
        raise table.error(rail, f"{address} is no host's address", "name a host's")
    if address.is_global and not allow_public:
        raise table.error(rail, f"{address} {PUBLIC_PROBLEM}", PUBLIC_FIX)
    return address


# ------------------------------------------------------------------------ timing and limits


def _overrides(table: Table, ranges: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    return {name: table.integer(name, *ranges[name]) for name in table.names()}


def _timing(table: Table) -> Timing:
    durations = {
        item.name.removesuffix("_ns") + "_ms": item.name
        for item in fields(Timing)
        if item.name.endswith("_ns")
    }
    table.only(("profile", *durations, "drift", "switch_back_probes", "spin_us", "sctp"))
    base = PROFILES[table.choice("profile", tuple(PROFILES), "lan")]
    changed: dict[str, Any] = {"sctp": _sctp(table.table("sctp"), base.sctp)}
    most_ms = limits.DURATION_NS_MAX // MS
    for key, name in durations.items():
        if table.has(key):
            least = 0.0 if name in _MAY_BE_ZERO else 1 / MS
            wanted = f"milliseconds, {'from 0' if least == 0 else 'above 0'} to {most_ms}"
            changed[name] = round(table.number(key, least, most_ms, wanted) * MS)
    if table.has("drift"):
        wanted = f"a number from 1.0 to {limits.DRIFT_MAX}"
        changed["drift"] = float(table.number("drift", 1.0, limits.DRIFT_MAX, wanted))
    if table.has("switch_back_probes"):
        changed["switch_back_probes"] = table.integer("switch_back_probes", 1, 1000)
    if table.has("spin_us"):
        changed["spin_us"] = table.integer("spin_us", 0, limits.SPIN_US_MAX)
    timing = replace(base, **changed)
    for long, why in (
        ("path_suspect_ns", "one lost probe would make a path suspect"),
        ("suspect_ns", "one lost heartbeat would make a node suspect"),
        ("lease_ns", "one lost heartbeat would stop a node from acting"),
    ):
        if 2 * timing.heartbeat_ns > getattr(timing, long):
            key = long.removesuffix("_ns") + "_ms"
            raise table.error(
                key if table.has(key) else "heartbeat_ms",
                f"{key} {getattr(timing, long) / MS:g} is less than twice "
                f"heartbeat_ms {timing.heartbeat_ns / MS:g}: {why}",
                f"raise {key} or lower heartbeat_ms",
            )
    if timing.bulk_ack_delay_ns >= timing.recast_ns:
        raise table.error(
            "bulk_ack_delay_ms" if table.has("bulk_ack_delay_ms") else "recast_ms",
            f"bulk_ack_delay_ms {timing.bulk_ack_delay_ns / MS:.12g} is not below recast_ms "
            f"{timing.recast_ns / MS:.12g}: everything on the bulk lane would be sent twice",
            "lower bulk_ack_delay_ms or raise recast_ms",
        )
    if timing.reconnect_min_ns > timing.reconnect_max_ns:
        key = "reconnect_min_ms" if table.has("reconnect_min_ms") else "reconnect_max_ms"
        raise table.error(
            key,
            "reconnect_min_ms is above reconnect_max_ms",
            "lower reconnect_min_ms or raise reconnect_max_ms",
        )
    return timing


def _sctp(table: Table, base: SctpTuning) -> SctpTuning:
    table.only(tuple(_SCTP_RANGES))
    tuning = replace(base, **_overrides(table, _SCTP_RANGES))
    _in_order(table, tuning, "rto_min_ms", "rto_initial_ms", "rto_max_ms")
    _in_order(table, tuning, "pf_threshold", "path_max_retrans")
    if tuning.sack_delay_ms >= tuning.rto_min_ms:
        raise table.error(
            "sack_delay_ms" if table.has("sack_delay_ms") else "rto_min_ms",
            f"sack_delay_ms {tuning.sack_delay_ms} is not below rto_min_ms {tuning.rto_min_ms}: "
            "every tail packet would be sent twice",
            "lower sack_delay_ms or raise rto_min_ms",
        )
    return tuning


def _limits(table: Table) -> Limits:
    table.only(tuple(_LIMIT_RANGES))
    bounds = replace(Limits(), **_overrides(table, _LIMIT_RANGES))
    _in_order(table, bounds, "bulk_batch_bytes", "batch_bytes", "window_bytes")
    _in_order(table, bounds, "bulk_batch_bytes", "bulk_in_flight_bytes")
    # A full window must fit into what waits for an association, or it resets it for ever.
    _in_order(table, bounds, "window_bytes", "link_backlog_bytes")
    return bounds


def _in_order(table: Table, values: SctpTuning | Limits, *names: str) -> None:
    """Refuse a smaller value behind a larger one, blaming the one that the file sets."""
    for low, high in pairwise(names):
        if getattr(values, low) > getattr(values, high):
            raise table.error(
                low if table.has(low) else high,
                f"{low} {getattr(values, low)} is above {high} {getattr(values, high)}",
                f"lower {low} or raise {high}",
            )
