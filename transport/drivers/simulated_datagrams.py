"""Datagrams over virtual time: one host's end of what a `simulated_network.Network` carries."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import UsageError
from .in_process_datagrams import InProcessDatagrams

if TYPE_CHECKING:
    from .simulated_network import Network


class SimulatedDatagrams(InProcessDatagrams):
    """One process's datagrams (see `base.Datagrams`)."""

    def __init__(
        self, network: Network, node: int, ready: Callable[[], None], *, grouped: bool = False
    ) -> None:
        super().__init__(node, network.rails, grouped=grouped)
        self._network = network
        self._ready = ready

    def _has_address(self, rail: str) -> bool:
        return self._network.has_address(self.node, rail)

    def _start(self) -> None:
        self._network.attach_datagrams(self)

    def _stop(self) -> None:
        self._network.detach_datagrams(self)

    def _wake(self) -> None:
        self._ready()

    def _send(self, node: int, rail: str, packet: bytes, frame: bytes | None) -> None:
        self._network.cast(self.node, node, rail, packet, frame)

    def _send_to_group(self, rail: str, packet: bytes, frame: bytes | None) -> None:
        self._network.cast_to_group(self.node, rail, packet, frame)

    def fileno(self) -> int:
        """Refused: nobody can wait for virtual time, so `ready` is called instead."""
        raise UsageError("simulated datagrams have no descriptor: they call `ready` instead")
