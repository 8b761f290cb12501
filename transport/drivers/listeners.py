"""Listening TCP sockets, one per rail, in the epoll set of whoever accepts on them."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
from collections import Counter
from collections.abc import Mapping

from ..errors import AddressMissing, EnvironmentTrouble, PortTaken
from .descriptors import borrow, close, family_of, keep_alive, own, reset, stream_socket

_ACCEPTS_MAX = 16
_BACKLOG = 64
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listeners:
    """Accepts connections on the local addresses that exist."""

    def __init__(self, epoll: select.epoll, counters: Counter[str]) -> None:
        self._epoll = epoll
        self._counters = counters
        self._rails: dict[int, str] = {}
        self._paused = False

    def open(self, addresses: Mapping[str, str], port: int) -> tuple[str, ...]:
        """Listen on each address that this machine has; returns the rails of the others.

        Raises:
            PortTaken: another process listens there.
            AddressMissing: none of the addresses exists here.
            EnvironmentTrouble: the system refuses otherwise.
        """
        missing = tuple(r for r, address in addresses.items() if not self._add(r, address, port))
        if not self._rails:
            raise AddressMissing(
                "none of the local addresses exists on this machine: "
                + (", ".join(f"{address} ({rail})" for rail, address in addresses.items()) or "-")
            )
        return missing

    def __contains__(self, descriptor: int) -> bool:
        return descriptor in self._rails

    def rail(self, descriptor: int) -> str:
        """The rail that a listening descriptor is on."""
        return self._rails[descriptor]

    def accept(self, listener: int) -> list[int]:
        """The descriptors of new connections, non-blocking; bounded in number."""
        accepted: list[int] = []
        while len(accepted) < _ACCEPTS_MAX:
            try:
                with borrow(listener) as sock:
                    connection, _address = sock.accept()
                    descriptor = own(connection.detach())
            except BlockingIOError:
                break
            except OSError as error:
                # Linux reports errors of the new connection here, and the next one may be good.
                self._counters["accept_failed"] += 1
                if error.errno in _EXHAUSTED:
                    # The connection stays in the queue: the listener would be readable for ever.
                    self._watch(paused=True)
                    break
                continue
            try:
                os.set_blocking(descriptor, False)
                keep_alive(descriptor)
            except OSError:
                self._counters["accept_failed"] += 1
                reset(descriptor)
                continue
            accepted.append(descriptor)
        return accepted

    def resume(self) -> None:
        """Accept again after a lack of descriptors or memory."""
        if self._paused:
            self._watch(paused=False)

    def close(self) -> None:
        """Stop listening."""
        for descriptor in self._rails:
            with contextlib.suppress(OSError):
                self._epoll.unregister(descriptor)
            close(descriptor)
        self._rails.clear()

    def _watch(self, *, paused: bool) -> None:
        self._paused = paused
        for descriptor in self._rails:
            self._epoll.modify(descriptor, 0 if paused else select.EPOLLIN)

    def _add(self, rail: str, address: str, port: int) -> bool:
        """Listen on one address; False if this machine does not have it."""
        descriptor = stream_socket(family_of(address))
        try:
            with borrow(descriptor) as sock:
                # Connections of a former start in TIME_WAIT must not keep the port.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((address, port))
                sock.listen(_BACKLOG)
        except OSError as error:
            close(descriptor)
            if error.errno == errno.EADDRNOTAVAIL:
                return False
            where = f"TCP port {port} (lifelines, the number of udp_port) on {address}"
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(
                    f"{where} is taken by another process; stop it, or set another udp_port"
                ) from error
            raise EnvironmentTrouble(f"{where} cannot be used: {error.strerror}") from error
        self._rails[descriptor] = rail
        self._epoll.register(descriptor, select.EPOLLIN)
        return True
