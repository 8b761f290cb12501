"""Sockets that send to a multicast group on one rail, and that hear what is sent to it there."""

from __future__ import annotations

import socket
import struct
from typing import Final

from .base import Group

_IP_MULTICAST_ALL: Final = 49
_IPV6_MULTICAST_ALL: Final = 29
"""Python has no names for them."""


def send_to_group(sock: socket.socket, address: str, group: Group) -> None:
    """What is sent to the group leaves by this rail's interface, and no further than it may.

    Raises:
        OSError: the kernel refuses it.
    """
    if sock.family == socket.AF_INET6:
        level = socket.IPPROTO_IPV6
        sock.setsockopt(level, socket.IPV6_MULTICAST_IF, group.interface)
        sock.setsockopt(level, socket.IPV6_MULTICAST_HOPS, group.hops)
        sock.setsockopt(level, socket.IPV6_MULTICAST_LOOP, int(group.looped))
    else:
        level = socket.IPPROTO_IP
        sock.setsockopt(level, socket.IP_MULTICAST_IF, socket.inet_aton(address))
        sock.setsockopt(level, socket.IP_MULTICAST_TTL, group.hops)
        sock.setsockopt(level, socket.IP_MULTICAST_LOOP, int(group.looped))


def listen_to_group(sock: socket.socket, address: str, group: Group) -> None:
    """Bound to the group, it hears what comes to that on this rail, and not what comes on others.

    Raises:
        OSError: the address is taken, or the group cannot be joined.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # To the group's address: on another one of the same port nothing is heard here.
    sock.bind((group.address, group.port))
    if sock.family == socket.AF_INET6:
        joined = socket.inet_pton(socket.AF_INET6, group.address)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
        sock.setsockopt(
            socket.IPPROTO_IPV6,
            socket.IPV6_JOIN_GROUP,
            joined + struct.pack("=I", group.interface),
        )
    else:
        joined = socket.inet_aton(group.address)
        sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        sock.setsockopt(
            socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined + socket.inet_aton(address)
        )
