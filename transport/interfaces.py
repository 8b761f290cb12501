"""Which address of this machine is on which rail."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import NamedTuple

import netifaces

from .config import ClusterConfig, NodeConfig, RailConfig
from .config_file import PUBLIC_FIX, PUBLIC_PROBLEM
from .errors import AddressMissing, ConfigError, trouble


class LocalAddress(NamedTuple):
    """One address of this machine."""

    interface: str
    address: str
    """Without the scope (`%eth0`) that IPv6 link-local addresses are listed with."""
    family: int
    """socket.AF_INET or socket.AF_INET6."""


def local_addresses() -> list[LocalAddress]:
    """Every IPv4 and IPv6 address of this machine, of interfaces that are down as well.

    Netmasks are not looked at: netifaces gives IPv6 ones as `ffff:.../64`, and which network
    counts is what the rail says, not what the interface says.

    Raises:
        EnvironmentTrouble: the system does not say.
    """
    with trouble("the addresses of this machine cannot be listed"):
        return _listed()


def _listed() -> list[LocalAddress]:
    found: list[LocalAddress] = []
    for interface in netifaces.interfaces():
        try:
            families = netifaces.ifaddresses(interface)
        except ValueError:  # the interface went away after it was listed
            continue
        for family, key in (
            (socket.AF_INET, netifaces.AF_INET),
            (socket.AF_INET6, netifaces.AF_INET6),
        ):
            for entry in families.get(key, []):
                # A point-to-point interface may list a peer without an address of our own.
                address = entry.get("addr", "").partition("%")[0]
                if address:
                    found.append(LocalAddress(interface, address, family))
    return found


def find_rail_addresses(
    config: ClusterConfig, node: NodeConfig, *, local: Sequence[LocalAddress] | None = None
) -> dict[str, str]:
    """The local node's address on each rail, by rail name, in the order of the rails.

    That is the configured address if this machine has it, and where the file leaves it out,
    the one address that the machine has on the rail's network. A rail without an address is
    left out: `absent_rails` names those, and they must not stop the others.

    Args:
        local: the machine's addresses; read from the system when left out.

    Raises:
        AddressMissing: the machine has an address on none of the rails.
        EnvironmentTrouble: its addresses cannot be listed.
        ConfigError: several addresses are on one rail, so the file has to name one; the one
            found is public without `allow_public`; or another node has no address at all, and
            is not to be found by multicast.
    """
    here = local_addresses() if local is None else list(local)
    for other in config.nodes:
        if other.id != node.id and not (other.addresses or config.discovery.multicast):
            raise ConfigError(
                file=config.file,
                key=f'addresses of node "{other.name}"',
                problem=f'is missing, and from node "{node.name}" it cannot be found',
                fix="give every node but the local one its addresses, or write "
                "discovery.multicast = true",
            )
    found: dict[str, str] = {}
    for rail in config.rails:
        address = _configured(node, rail, here) if rail.name in node.addresses else None
        if rail.name not in node.addresses:
            address = _discovered(config, node, rail, here)
        if address is not None:
            found[rail.name] = address
    if not found:
        raise AddressMissing(
            f'node "{node.name}" has no address on any rail of this machine; wanted '
            + ", ".join(_wanted(node, rail) for rail in config.rails)
            + "; this machine has "
            + (", ".join(f"{entry.address} ({entry.interface})" for entry in here) or "none")
        )
    return found


def absent_rails(config: ClusterConfig, found: dict[str, str]) -> tuple[str, ...]:
    """The rails on which `find_rail_addresses` found no local address."""
    return tuple(rail.name for rail in config.rails if rail.name not in found)


def _wanted(node: NodeConfig, rail: RailConfig) -> str:
    address = node.addresses.get(rail.name)
    return f"{address or 'one'} on rail {rail.name} ({rail.network})"


def _configured(node: NodeConfig, rail: RailConfig, here: Sequence[LocalAddress]) -> str | None:
    wanted = ipaddress.ip_address(node.addresses[rail.name])
    if any(ipaddress.ip_address(entry.address) == wanted for entry in here):
        return str(wanted)
    # All of 127/8 is local although the interface lists one address of it.
    if wanted.version == 4 and wanted.is_loopback:
        return str(wanted)
    return None


def _discovered(
    config: ClusterConfig, node: NodeConfig, rail: RailConfig, here: Sequence[LocalAddress]
) -> str | None:
    network = ipaddress.ip_network(rail.network)
    candidates = [entry for entry in here if ipaddress.ip_address(entry.address) in network]
    key = f'addresses.{rail.name} of node "{node.name}"'
    if len({entry.address for entry in candidates}) > 1:
        raise ConfigError(
            file=config.file,
            key=key,
            problem=f"is left out, and several local addresses are on {network}: "
            + ", ".join(f"{entry.address} ({entry.interface})" for entry in candidates),
            fix="name one of them",
        )
    if not candidates:
        return None
    address = ipaddress.ip_address(candidates[0].address)
    if address.is_global and not config.allow_public:
        problem = f"is left out, and the local address {address} {PUBLIC_PROBLEM}"
        raise ConfigError(file=config.file, key=key, problem=problem, fix=PUBLIC_FIX)
    return str(address)
