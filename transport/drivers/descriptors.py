"""Plain descriptors of TCP sockets that must not be closed by accident.

A `socket.socket` closes its descriptor when it is collected, and an event loop closes what it
holds when it shuts down: each would send a FIN. So the owner keeps integers, borrows a socket
object for single calls, and says itself how a connection ends. All descriptors are closed on
exec, and a child made by `os.fork` closes its duplicates before it runs anything else, so that
it can neither hold a connection open beyond this process's death nor disturb it. Who holds others
is told there that it is in a child (`hold`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Generator
from typing import Protocol

# A host that vanished without a word is noticed long before this by heartbeats; these only see
# to it that its connections do not stay for ever.
_KEEPALIVE_IDLE_S = 5
_KEEPALIVE_INTERVAL_S = 2
_KEEPALIVE_PROBES = 4
_USER_TIMEOUT_MS = 12_000

# Calls on a connection that is up go to the C library: a borrowed socket object would close the
# descriptor if an exception (Ctrl-C) struck before it is detached.
_libc = ctypes.CDLL(None)
_libc.send.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
_libc.send.restype = ctypes.c_ssize_t
_libc.shutdown.argtypes = (ctypes.c_int, ctypes.c_int)
_libc.setsockopt.argtypes = (
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint,
)

_owned: set[int] = set()
"""All that are open in this process."""


class Holder(Protocol):
    """What holds sockets, or shares something with the kernel, that is its process's alone."""

    def forked(self) -> None:
        """This is a child process: let go of everything, and be unusable."""
        ...


_holders: set[Holder] = set()
"""All that hold something in this process: what its user forgot to close is not collected."""


def _after_fork() -> None:
    for descriptor in _owned:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _owned.clear()
    with contextlib.ExitStack() as told:  # all are told, whatever happens in one of them
        for holder in _holders:
            told.callback(holder.forked)
    _holders.clear()


os.register_at_fork(after_in_child=_after_fork)


def hold(holder: Holder) -> None:
    """Have it told, in a forked child, that it is in one; until `release`."""
    _holders.add(holder)


def release(holder: Holder) -> None:
    """It holds nothing any more."""
    _holders.discard(holder)


def own(descriptor: int) -> int:
    """Have forked children close their duplicate of this descriptor; returns it."""
    _owned.add(descriptor)
    return descriptor


def stream_socket(family: socket.AddressFamily) -> int:
    """A new TCP socket, non-blocking and closed on exec."""
    kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    return own(socket.socket(family, kind).detach())


@contextlib.contextmanager
def borrow(descriptor: int) -> Generator[socket.socket, None, None]:
    """A socket object for a moment, for a descriptor whose peer does not count on it yet."""
    sock = socket.socket(fileno=descriptor)
    try:
        yield sock
    finally:
        sock.detach()


def keep_alive(descriptor: int) -> None:
    """Have the kernel give up a connection whose peer's host is gone, after some seconds."""
    with borrow(descriptor) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)


def family_of(address: str) -> socket.AddressFamily:
    """The family of an address in text form."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def send(descriptor: int, data: bytes) -> bool:
    """Send a few bytes at once; False if the connection did not take all of them."""
    sent: int = _libc.send(descriptor, data, len(data), socket.MSG_NOSIGNAL)
    return sent == len(data)


def finish(descriptor: int) -> None:
    """Send a FIN, in good order; a connection that is gone already stays as it is."""
    _libc.shutdown(descriptor, socket.SHUT_WR)


def reset(descriptor: int) -> None:
    """Close a connection by a reset, which says nothing about this process to the other side."""
    # Set here and not at the start: else the kernel would reset, too, when the process dies.
    linger = struct.pack("ii", 1, 0)
    _libc.setsockopt(descriptor, socket.SOL_SOCKET, socket.SO_LINGER, linger, len(linger))
    close(descriptor)


def close(descriptor: int) -> None:
    """Close a descriptor; a connection that was not shut down before gets a FIN."""
    _owned.discard(descriptor)
    with contextlib.suppress(OSError):
        os.close(descriptor)
